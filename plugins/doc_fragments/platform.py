"""Documentation that the AWS modules of this project share."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of `ResourceAction` in `module_utils/platform_action.py`, which every action that makes resources has."""

    DOCUMENTATION = r"""
options:
  platform:
    description:
      - Name of the platform, and value of the tag C(dagster-platform) that marks what belongs to it.
      - A resource that exists without this mark is never changed or removed; the module fails and says so.
    type: str
    required: true
  resource_tags:
    description: Further tags for every resource. Tags set by others are left alone.
    type: dict
    default: {}
  state:
    description: Whether the resources should exist.
    type: str
    choices: [present, absent]
    default: present
  wait:
    description:
      - Whether to wait for what takes minutes to come up (NAT gateway, database, mount targets, load balancer).
      - Without, everything is started that can be, and C(ready) says whether the module has to be called again. So slow
        things come up side by side.
    type: bool
    default: true
  only_obstacles:
    description:
      - Change nothing, report no change, and fail with everything that stands in the way, in C(obstacles), if anything
        does. So playbooks/destroy.yml knows before it removes the first thing.
    type: bool
    default: false
  only_facts:
    description:
      - Change nothing and report no change, but return what later tasks need to know. Fails if something does not exist
        yet that the wanted state has; drift in what exists is no matter.
    type: bool
    default: false
"""
