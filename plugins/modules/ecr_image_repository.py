#!/usr/bin/python
"""Ansible module: the ECR repository of the container image."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ecr_image_repository
short_description: Keep the ECR repository of a Dagster platform as described
description:
  - Makes the repository and keeps scanning on push, tag mutability, the lifecycle and the tags as they should be.
  - M(community.aws.ecs_ecr) fails in check mode when the repository does not exist, and has no tags.
options:
  name:
    description: Name of the repository.
    type: str
    required: true
  immutable_tags:
    description: Whether a pushed tag can never be moved to another image.
    type: bool
    default: true
  untagged_days:
    description: Days after which images without a tag are removed.
    type: int
    default: 7
  kept_images:
    description: Number of images to keep.
    type: int
    default: 20
  with_images:
    description: Whether I(state=absent) may delete a repository that holds images.
    type: bool
    default: false
extends_documentation_fragment:
  - platform
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the repository
  ecr_image_repository:
    platform: dagster-production
    name: dagster-production
"""

RETURN = r"""
uri:
  description: Address of the repository for C(docker push).
  returned: when state is present
  type: str
arn:
  description: ARN of the repository.
  returned: when state is present
  type: str
changes:
  description: One entry per changed resource, with action, kind, name, before and after.
  returned: always
  type: list
"""

from typing import Any

from ansible.module_utils.aws_plan import Plan
from ansible.module_utils.aws_repository import ensure_repository, remove_repository
from ansible.module_utils.aws_run import run


def work(module: Any, plan: Plan) -> dict[str, Any]:
    """Bring the repository to the wanted state."""
    arguments = module.params
    ecr = module.client("ecr")
    if arguments["state"] == "absent":
        remove_repository(ecr, arguments["platform"], arguments["name"], plan, with_images=arguments["with_images"])
        return {}
    repository: dict[str, Any] = ensure_repository(
        ecr,
        arguments["platform"],
        arguments["name"],
        arguments["resource_tags"],
        plan,
        immutable_tags=arguments["immutable_tags"],
        untagged_days=arguments["untagged_days"],
        kept_images=arguments["kept_images"],
    )
    return repository


def main() -> None:
    """Entry point of Ansible."""
    run(
        {
            "name": {"type": "str", "required": True},
            "immutable_tags": {"type": "bool", "default": True},
            "untagged_days": {"type": "int", "default": 7},
            "kept_images": {"type": "int", "default": 20},
            "with_images": {"type": "bool", "default": False},
        },
        work,
    )


if __name__ == "__main__":
    main()
