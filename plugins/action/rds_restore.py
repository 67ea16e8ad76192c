"""Ansible action: restores the platform's database into a new instance, and puts that in the place of the old one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_plan import Plan  # noqa: E402
from ansible.module_utils.aws_restore import RestoreSpec, restore_database  # noqa: E402
from ansible.module_utils.aws_service_pause import Services  # noqa: E402
from ansible.module_utils.platform_action import Call, ResourceAction  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {
    "backup": {"type": "str", "default": ""},
    "time": {"type": "str", "default": ""},
    "database_secret": {"type": "str", "required": True, "no_log": False},  # its name, not its value
    "engine_version": {"type": "str", "required": True},
    "cluster": {"type": "str", "required": True},
    "services": {"type": "list", "elements": "str", "required": True},
    "wait_seconds": {"type": "int", "default": 900},
}


class ActionModule(ResourceAction):  # type: ignore[misc]
    """The action ``rds_restore``."""

    arguments = ARGUMENTS
    services = ("application-autoscaling", "ecs", "rds", "secretsmanager")

    def work(self, call: Call, plan: Plan) -> dict[str, Any]:
        """Restore, or go on with it."""
        arguments = call.params
        spec = RestoreSpec(
            arguments["platform"],
            arguments["database_secret"],
            arguments["backup"],
            arguments["time"],
            arguments["engine_version"],
            datetime.now(UTC),
        )
        services = Services(
            call.client("ecs"),
            call.client("application-autoscaling"),
            arguments["platform"],
            arguments["cluster"],
            tuple(arguments["services"]),
        )
        restored: dict[str, Any] = restore_database(
            call.client("rds"),
            call.client("secretsmanager"),
            services,
            spec,
            plan,
            seconds=arguments["wait_seconds"],
        )
        return restored
