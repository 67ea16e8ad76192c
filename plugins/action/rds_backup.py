"""Ansible action: takes a snapshot of the platform's database, and removes the oldest ones it has taken."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_backup import backup_name, create_backup, remove_all_backups, remove_old_backups  # noqa: E402
from ansible.module_utils.aws_plan import Plan, Refusal  # noqa: E402
from ansible.module_utils.platform_action import Call, ResourceAction  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "default": ""},
    "keep": {"type": "int", "default": 0},
    "wait_seconds": {"type": "int", "default": 3600},
}


class ActionModule(ResourceAction):  # type: ignore[misc]
    """The action ``rds_backup``."""

    arguments = ARGUMENTS
    services = ("rds",)

    def work(self, call: Call, plan: Plan) -> dict[str, Any]:
        """Take the snapshot, or remove all that were taken."""
        arguments = call.params
        rds, platform = call.client("rds"), arguments["platform"]
        if arguments["state"] == "absent":
            remove_all_backups(rds, platform, plan)
            return {}
        if arguments["keep"] < 0:
            raise Refusal(f"backup_keep is {arguments['keep']}. Choices: 0 to keep all backups, or how many to keep.")
        name = backup_name(platform, arguments["name"], datetime.now(UTC))
        create_backup(rds, platform, name, arguments["resource_tags"], plan, seconds=arguments["wait_seconds"])
        remove_old_backups(rds, platform, arguments["keep"], plan)
        return {"backup": name}
