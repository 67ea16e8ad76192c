"""Ansible action: the EFS file system with mount targets and access point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_file_system import FileSystemSpec, ensure_file_system, remove_file_system  # noqa: E402
from ansible.module_utils.aws_plan import Plan  # noqa: E402
from ansible.module_utils.platform_action import Call, ResourceAction  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {
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
}


class ActionModule(ResourceAction):  # type: ignore[misc]
    """The action ``efs_storage``."""

    arguments = ARGUMENTS
    rules = {"required_if": [("state", "present", ["subnet_ids", "security_group_id"])]}
    services = ("efs",)

    def work(self, call: Call, plan: Plan) -> dict[str, Any]:
        """Bring the file system to the wanted state."""
        arguments = call.params
        efs = call.client("efs")
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
