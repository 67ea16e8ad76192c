#!/usr/bin/python
"""Ansible module: takes a snapshot of the platform's database, and removes the oldest ones it has taken."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rds_backup
short_description: Back up the database of a Dagster platform
description:
  - Takes a manual snapshot of the platform's RDS instance and waits until it can be restored. Everything goes on
    meanwhile.
  - With I(keep), removes the oldest of the snapshots that this module has taken. Others (automatic ones, the final one
    of playbooks/destroy.yml, those that somebody made by hand) are never removed.
options:
  name:
    description:
      - Name of the snapshot; the platform's name is put before it. Empty for the time, in UTC.
    type: str
    default: ""
  keep:
    description: How many of the snapshots that this module has taken are kept; 0 for all.
    type: int
    default: 0
  wait_seconds:
    description: How long to wait until the snapshot can be restored.
    type: int
    default: 3600
extends_documentation_fragment:
  - platform
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Back the database up before an upgrade
  rds_backup:
    platform: dagster-production
    name: before-upgrade
"""

RETURN = r"""
backup:
  description: Identifier of the snapshot.
  returned: when state is present
  type: str
changes:
  description: One entry per changed resource, with action, kind, name, before and after.
  returned: always
  type: list
"""

from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.aws_backup import backup_name, create_backup, remove_all_backups, remove_old_backups
from ansible.module_utils.aws_plan import Plan, Refusal
from ansible.module_utils.aws_run import run


def work(module: Any, plan: Plan) -> dict[str, Any]:
    """Take the snapshot, or remove all that were taken."""
    arguments = module.params
    rds, platform = module.client("rds"), arguments["platform"]
    if arguments["state"] == "absent":
        remove_all_backups(rds, platform, plan)
        return {}
    if arguments["keep"] < 0:
        raise Refusal(f"backup_keep is {arguments['keep']}. Choices: 0 to keep all backups, or how many to keep.")
    name = backup_name(platform, arguments["name"], datetime.now(UTC))
    create_backup(rds, platform, name, arguments["resource_tags"], plan, seconds=arguments["wait_seconds"])
    remove_old_backups(rds, platform, arguments["keep"], plan)
    return {"backup": name}


def main() -> None:
    """Entry point of Ansible."""
    run(
        {
            "name": {"type": "str", "default": ""},
            "keep": {"type": "int", "default": 0},
            "wait_seconds": {"type": "int", "default": 3600},
        },
        work,
    )


if __name__ == "__main__":
    main()
