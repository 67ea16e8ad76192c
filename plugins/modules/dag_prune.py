#!/usr/bin/python
"""Ansible module: forget releases that are beyond the retention."""

DOCUMENTATION = r"""
module: dag_prune
short_description: Forget releases of DAG code that are beyond the retention
description:
  - Deletes the manifests of releases that are neither among the newest O(keep_releases) nor younger than
    O(keep_days), and the history's entries of them.
  - Never touches the release that is served, the one before it, and those in O(in_use).
  - The versions of their files expire by the bucket's lifecycle rule, which keeps what the kept releases need.
  - Region, endpoint and credentials come from the environment, as with the AWS CLI.
options:
  bucket:
    description: The bucket of the releases.
    type: str
    required: true
  prefix:
    description: What all keys begin with, empty or ending in C(/).
    type: str
    default: ""
  keep_releases:
    description: Releases to keep, however old they are.
    type: int
    required: true
  keep_days:
    description: Days for which every release is kept.
    type: int
    required: true
  in_use:
    description: Ids of releases that tasks serve.
    type: list
    elements: str
    default: []
requirements:
  - botocore
attributes:
  check_mode:
    support: full
author:
  - The Dagster on ECS project
"""

EXAMPLES = r"""
- name: Forget old releases
  dag_prune:
    bucket: dagster-production-dags-123456789012
    keep_releases: 20
    keep_days: 30
"""

RETURN = r"""
releases:
  description: Ids of the releases that were forgotten, or would be.
  type: list
  elements: str
  returned: success
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dag_manifest import ManifestError
from ansible.module_utils.dag_publish import PublishError, Retention, create_store, explained, find_leftovers


def run(module: AnsibleModule) -> dict[str, Any]:
    """Prune, or say what would be pruned; return the module's result."""
    options = module.params
    with explained(options["bucket"]):
        store = create_store(options["bucket"], options["prefix"])
        retention = Retention(options["keep_releases"], options["keep_days"])
        leftovers = find_leftovers(store, retention, options["in_use"])
        if not module.check_mode:
            store.delete(leftovers.objects)
    return {"changed": bool(leftovers.objects), "releases": list(leftovers.releases)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "bucket": {"type": "str", "required": True},
            "prefix": {"type": "str", "default": ""},
            "keep_releases": {"type": "int", "required": True},
            "keep_days": {"type": "int", "required": True},
            "in_use": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except (PublishError, ManifestError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
