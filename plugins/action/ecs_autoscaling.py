"""Ansible action: target tracking for an ECS service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_autoscaling import ScalingSpec, ensure_scaling, remove_scaling  # noqa: E402
from ansible.module_utils.aws_ecs_service import running_settings  # noqa: E402
from ansible.module_utils.aws_plan import Plan, Refusal  # noqa: E402
from ansible.module_utils.platform_action import Call, ResourceAction  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {
    "cluster": {"type": "str", "required": True},
    "service": {"type": "str", "required": True},
    "minimum": {"type": "int", "default": 1},
    "maximum": {"type": "int", "default": 2},
    "cpu_percent": {"type": "int", "default": 70},
    "memory_percent": {"type": "int", "default": 80},
    "scale_out_cooldown": {"type": "int", "default": 60},
    "scale_in_cooldown": {"type": "int", "default": 300},
}


class ActionModule(ResourceAction):  # type: ignore[misc]
    """The action ``ecs_autoscaling``."""

    arguments = ARGUMENTS
    services = ("application-autoscaling", "ecs")

    def work(self, call: Call, plan: Plan) -> dict[str, Any]:
        """Bring target and policies to the wanted state."""
        arguments = call.params
        client = call.client("application-autoscaling")
        if arguments["state"] == "absent":
            remove_scaling(client, arguments["cluster"], arguments["service"], plan)
            return {}
        minimum, maximum = arguments["minimum"], arguments["maximum"]
        if not 0 <= minimum <= maximum:
            raise Refusal(
                f"autoscaling_minimum {minimum} and autoscaling_maximum {maximum} do not fit: 0 <= minimum <= maximum."
            )
        ensure_scaling(
            client,
            ScalingSpec(
                platform=arguments["platform"],
                cluster=arguments["cluster"],
                service=arguments["service"],
                minimum=minimum,
                maximum=maximum,
                targets={"cpu": arguments["cpu_percent"], "memory": arguments["memory_percent"]},
                scale_out_cooldown=arguments["scale_out_cooldown"],
                scale_in_cooldown=arguments["scale_in_cooldown"],
                tags=arguments["resource_tags"],
            ),
            plan,
            service=lambda: running_settings(call.client("ecs"), arguments["cluster"], arguments["service"]),
        )
        return {}
