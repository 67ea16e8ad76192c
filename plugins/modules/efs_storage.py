#!/usr/bin/python
"""Ansible module: the EFS file system with mount targets and access point."""

from __future__ import annotations

DOCUMENTATION = r"""
module: efs_storage
short_description: Keep the EFS file system of a Dagster platform as described
description:
  - Makes an encrypted file system in bursting mode, a policy that refuses clients without TLS, one mount target per
    private subnet and one access point.
  - M(community.aws.efs) uses a retired version of the API, and there is no module for access points.
options:
  subnet_ids:
    description: The private subnets, one per availability zone.
    type: list
    elements: str
  security_group_id:
    description: The only security group of the mount targets.
    type: str
  root_directory:
    description: Directory that the access point shows as its root.
    type: str
    default: /dagster
  uid:
    description: User id that owns everything behind the access point.
    type: int
    default: 10001
  gid:
    description: Group id that owns everything behind the access point.
    type: int
    default: 10001
  permissions:
    description: Octal permissions of the root directory when AWS makes it.
    type: str
    default: "0750"
  infrequent_access_days:
    description: Days without access after which files move to the cheaper storage class; 0 for never.
    type: int
    default: 30
    choices: [0, 1, 7, 14, 30, 60, 90, 180, 270, 365]
extends_documentation_fragment:
  - platform
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the file system
  efs_storage:
    platform: dagster-production
    subnet_ids: "{{ vpc_private_subnet_ids }}"
    security_group_id: "{{ vpc_security_group_ids.file_system }}"
"""

RETURN = r"""
file_system_id:
  description: Id of the file system.
  returned: when state is present
  type: str
access_point_id:
  description: Id of the access point.
  returned: when state is present
  type: str
changes:
  description: One entry per changed resource, with action, kind, name, before and after.
  returned: always
  type: list
"""

from typing import Any

from ansible.module_utils.aws_file_system import FileSystemSpec, ensure_file_system, remove_file_system
from ansible.module_utils.aws_plan import Plan
from ansible.module_utils.aws_run import run


def work(module: Any, plan: Plan) -> dict[str, Any]:
    """Bring the file system to the wanted state."""
    arguments = module.params
    efs = module.client("efs")
    if arguments["state"] == "absent":
        remove_file_system(efs, arguments["platform"], plan)
        return {}
    settings = (
        *("platform", "security_group_id", "root_directory", "uid", "gid", "permissions"),
        "infrequent_access_days",
    )
    file_system_id, access_point_id = ensure_file_system(
        efs,
        FileSystemSpec(
            subnet_ids=tuple(arguments["subnet_ids"]),
            tags=arguments["resource_tags"],
            **{name: arguments[name] for name in settings},
        ),
        plan,
    )
    return {"file_system_id": file_system_id, "access_point_id": access_point_id}


def main() -> None:
    """Entry point of Ansible."""
    run(
        {
            "subnet_ids": {"type": "list", "elements": "str"},
            "security_group_id": {"type": "str"},
            "root_directory": {"type": "str", "default": "/dagster"},
            "uid": {"type": "int", "default": 10001},
            "gid": {"type": "int", "default": 10001},
            "permissions": {"type": "str", "default": "0750"},
            "infrequent_access_days": {
                "type": "int",
                "default": 30,
                "choices": [0, 1, 7, 14, 30, 60, 90, 180, 270, 365],
            },
        },
        work,
        required_if=[("state", "present", ["subnet_ids", "security_group_id"])],
    )


if __name__ == "__main__":
    main()
