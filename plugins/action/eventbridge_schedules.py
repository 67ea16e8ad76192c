"""Ansible action: a group of schedules that call AWS, and the role in whose name they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_plan import Plan, partition  # noqa: E402
from ansible.module_utils.aws_schedules import GroupSpec, ScheduleSpec, ensure_schedules, remove_schedules  # noqa: E402
from ansible.module_utils.platform_action import Call, ResourceAction  # noqa: E402

SCHEDULE_OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "description": {"type": "str", "default": ""},
    "expression": {"type": "str", "required": True},
    "timezone": {"type": "str", "default": "UTC"},
    "call": {"type": "str", "required": True},
    "input": {"type": "dict", "required": True},
    "retry_seconds": {"type": "int", "default": 0},
}


ARGUMENTS: dict[str, dict[str, Any]] = {
    "group": {"type": "str", "required": True},
    "role": {"type": "str", "required": True},
    "role_description": {"type": "str", "default": ""},
    "trust": {"type": "dict"},
    "policy": {"type": "dict"},
    "schedules": {"type": "list", "elements": "dict", "default": [], "options": SCHEDULE_OPTIONS},
}


class ActionModule(ResourceAction):  # type: ignore[misc]
    """The action ``eventbridge_schedules``."""

    arguments = ARGUMENTS
    rules = {"required_if": [("state", "present", ["trust", "policy"])]}
    services = ("iam", "scheduler")

    def work(self, call: Call, plan: Plan) -> dict[str, Any]:
        """Bring group, role and schedules to the wanted state."""
        arguments = call.params
        platform, group, role = arguments["platform"], arguments["group"], arguments["role"]
        scheduler, iam = call.client("scheduler"), call.client("iam")
        if arguments["state"] == "absent":
            remove_schedules(scheduler, iam, platform, plan, group=group, role=role)
            return {}
        spec = GroupSpec(
            platform=platform,
            name=group,
            partition=partition(call.region),
            role=role,
            role_description=arguments["role_description"],
            trust=arguments["trust"],
            policy=arguments["policy"],
            tags=arguments["resource_tags"],
        )
        ensure_schedules(scheduler, iam, spec, [ScheduleSpec(**options) for options in arguments["schedules"]], plan)
        return {}
