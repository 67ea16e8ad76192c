"""Ansible action: the CloudWatch alarms of a platform."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_alarms import COMPARISONS, ensure_alarms, remove_alarms  # noqa: E402
from ansible.module_utils.aws_plan import Plan  # noqa: E402
from ansible.module_utils.platform_action import Call, ResourceAction  # noqa: E402

METRIC = {
    "id": {"type": "str", "default": "metric"},
    "namespace": {"type": "str", "required": True},
    "metric": {"type": "str", "required": True},
    "dimensions": {"type": "dict", "required": True},
    "statistic": {
        "type": "str",
        "choices": ["Average", "Maximum", "Minimum", "SampleCount", "Sum"],
        "required": True,
    },
}

ALARM = {
    "name": {"type": "str", "required": True},
    "description": {"type": "str", "required": True},
    "metrics": {"type": "list", "elements": "dict", "required": True, "options": METRIC},
    "expression": {"type": "str", "default": ""},
    "period": {"type": "int", "default": 60},
    "periods": {"type": "int", "default": 1},
    "comparison": {"type": "str", "choices": list(COMPARISONS), "default": ">="},
    "threshold": {"type": "float", "required": True},
    "missing": {
        "type": "str",
        "choices": ["breaching", "notBreaching", "ignore", "missing"],
        "default": "notBreaching",
    },
}


ARGUMENTS: dict[str, dict[str, Any]] = {
    "alarms": {"type": "list", "elements": "dict", "default": [], "options": ALARM},
    "actions": {"type": "list", "elements": "str", "default": []},
}


class ActionModule(ResourceAction):  # type: ignore[misc]
    """The action ``metric_alarms``."""

    arguments = ARGUMENTS
    services = ("cloudwatch",)

    def work(self, call: Call, plan: Plan) -> dict[str, Any]:
        """Bring the alarms to the wanted state."""
        arguments = call.params
        cloudwatch = call.client("cloudwatch")
        if arguments["state"] == "absent":
            remove_alarms(cloudwatch, arguments["platform"], plan)
            return {}
        ensure_alarms(
            cloudwatch,
            arguments["platform"],
            arguments["alarms"],
            plan,
            actions=arguments["actions"],
            tags=arguments["resource_tags"],
        )
        return {}
