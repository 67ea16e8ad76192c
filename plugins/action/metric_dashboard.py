"""Ansible action: a CloudWatch dashboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_alarms import ensure_dashboard, remove_dashboard  # noqa: E402
from ansible.module_utils.aws_plan import Plan  # noqa: E402
from ansible.module_utils.platform_action import Call, ResourceAction  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "body": {"type": "dict", "default": {}},
}


class ActionModule(ResourceAction):  # type: ignore[misc]
    """The action ``metric_dashboard``."""

    arguments = ARGUMENTS
    services = ("cloudwatch",)

    def work(self, call: Call, plan: Plan) -> dict[str, Any]:
        """Bring the dashboard to the wanted state."""
        arguments = call.params
        cloudwatch = call.client("cloudwatch")
        if arguments["state"] == "absent":
            remove_dashboard(cloudwatch, arguments["platform"], arguments["name"], plan)
            return {}
        ensure_dashboard(
            cloudwatch,
            arguments["platform"],
            arguments["name"],
            arguments["body"],
            plan,
            tags=arguments["resource_tags"],
        )
        return {}
