"""Ansible action: puts a platform to sleep, and wakes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_hibernation import (  # noqa: E402
    Clients,
    Platform,
    hibernate,
    start_resources,
    start_services,
)
from ansible.module_utils.aws_plan import Plan  # noqa: E402
from ansible.module_utils.aws_resting import resting_resources  # noqa: E402
from ansible.module_utils.log_lines import last_lines  # noqa: E402
from ansible.module_utils.platform_action import Call, ResourceAction  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {
    "cluster": {"type": "str", "required": True},
    "own_database": {"type": "bool", "default": True},
    "load_balancer": {"type": "str", "default": ""},
    "secrets": {"type": "list", "elements": "str", "default": [], "no_log": False},  # their names
    "dashboard": {"type": "str", "default": ""},
    "counts": {"type": "dict", "default": {}},
    "steady_seconds": {"type": "int", "default": 900},
}


class ActionModule(ResourceAction):  # type: ignore[misc]
    """The action ``platform_hibernation``."""

    arguments = ARGUMENTS
    services = ("application-autoscaling", "cloudwatch", "ec2", "ecs", "elbv2", "logs", "rds", "secretsmanager")

    def work(self, call: Call, plan: Plan) -> dict[str, Any]:
        """Stop or start the platform."""
        arguments = call.params
        clients = Clients(
            ecs=call.client("ecs"),
            scaling=call.client("application-autoscaling"),
            ec2=call.client("ec2"),
            rds=call.client("rds"),
        )
        platform = Platform(arguments["platform"], arguments["cluster"], arguments["own_database"])
        if arguments["state"] == "present":
            since = hibernate(clients, platform, plan)
            resting = resting_resources(
                clients,
                platform,
                elbv2=call.client("elbv2"),
                secretsmanager=call.client("secretsmanager"),
                cloudwatch=call.client("cloudwatch"),
                load_balancer=arguments["load_balancer"],
                secrets=arguments["secrets"],
                dashboard=arguments["dashboard"],
            )
            return {"since": since, "resting": resting}
        start_resources(clients, platform, plan)
        if arguments["counts"]:
            counts = {name: int(count) for name, count in arguments["counts"].items()}
            start_services(
                clients,
                platform,
                counts,
                plan,
                seconds=arguments["steady_seconds"],
                printed=lambda service, task: last_lines(call.client("logs"), platform.name, service, task),
            )
        return {}
