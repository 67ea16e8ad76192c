"""Ansible action: the PostgreSQL instance on RDS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_database import (  # noqa: E402
    AdoptedDatabase,
    DatabaseSpec,
    check_adopted_database,
    ensure_database,
    remove_database,
)
from ansible.module_utils.aws_plan import Plan  # noqa: E402
from ansible.module_utils.platform_action import Call, ResourceAction  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {
    "existing_instance": {"type": "str", "default": ""},
    "client_group_ids": {"type": "list", "elements": "str", "default": []},
    "database": {"type": "str", "default": "dagster"},
    "engine_version": {"type": "str", "default": "17"},
    "instance_class": {"type": "str", "default": "db.t4g.micro"},
    "storage": {"type": "int", "default": 20},
    "max_storage": {"type": "int", "default": 100},
    "multi_az": {"type": "bool", "default": False},
    "backup_days": {"type": "int", "default": 7},
    "deletion_protection": {"type": "bool", "default": True},
    "subnet_ids": {"type": "list", "elements": "str"},
    "security_group_id": {"type": "str"},
    "credentials": {"type": "str", "no_log": False},  # the secret's name, not its value
    "apply_immediately": {"type": "bool", "default": True},
    "final_snapshot": {"type": "str", "default": ""},
    "remove_replaced": {"type": "bool", "default": False},
}


class ActionModule(ResourceAction):  # type: ignore[misc]
    """The action ``rds_postgres``."""

    arguments = ARGUMENTS
    rules = {"required_if": [("state", "present", ["subnet_ids", "security_group_id", "credentials"])]}
    services = ("ec2", "rds", "secretsmanager")

    def work(self, call: Call, plan: Plan) -> dict[str, Any]:
        """Bring the instance to the wanted state."""
        arguments = call.params
        rds = call.client("rds")
        if arguments["state"] == "absent":
            remove_database(
                rds,
                arguments["platform"],
                plan,
                final_snapshot=arguments["final_snapshot"],
                remove_replaced=arguments["remove_replaced"],
            )
            return {}
        if arguments["existing_instance"]:
            address, port = check_adopted_database(
                rds,
                call.client("ec2"),
                call.client("secretsmanager"),
                AdoptedDatabase(
                    arguments["platform"],
                    arguments["existing_instance"],
                    arguments["credentials"],
                    tuple(arguments["client_group_ids"]),
                ),
                plan,
            )
            return {"address": address, "port": port}
        settings = (
            *("platform", "database", "engine_version", "instance_class", "storage", "max_storage", "multi_az"),
            *("backup_days", "deletion_protection", "security_group_id", "apply_immediately"),
        )
        address, port = ensure_database(
            rds,
            call.client("secretsmanager"),
            DatabaseSpec(
                subnet_ids=tuple(arguments["subnet_ids"]),
                secret_id=arguments["credentials"],
                tags=arguments["resource_tags"],
                **{name: arguments[name] for name in settings},
            ),
            plan,
        )
        return {"address": address, "port": port}
