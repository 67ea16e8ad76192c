"""Ansible action: CloudWatch log groups with a retention period."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_logs import RETENTION_DAYS, ensure_log_group, remove_log_groups  # noqa: E402
from ansible.module_utils.aws_plan import Plan  # noqa: E402
from ansible.module_utils.platform_action import Call, ResourceAction  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {
    "names": {"type": "list", "elements": "str", "required": True},
    "retention_days": {"type": "int", "default": 30, "choices": list(RETENTION_DAYS)},
}


class ActionModule(ResourceAction):  # type: ignore[misc]
    """The action ``log_groups``."""

    arguments = ARGUMENTS
    services = ("logs",)

    def work(self, call: Call, plan: Plan) -> dict[str, Any]:
        """Bring the log groups to the wanted state."""
        arguments = call.params
        logs = call.client("logs")
        if arguments["state"] == "absent":
            remove_log_groups(logs, arguments["platform"], arguments["names"], plan)
            return {}
        for name in arguments["names"]:
            ensure_log_group(
                logs,
                arguments["platform"],
                name,
                plan,
                retention_days=arguments["retention_days"],
                tags=arguments["resource_tags"],
            )
        return {}
