#!/usr/bin/python
"""Ansible module: which backups of the platform's database there are."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rds_backup_list
short_description: Tell which backups of a Dagster platform's database there are, and what they cost
description:
  - Reads the snapshots of the platform's databases, automatic ones and the others, and which databases restores have
    replaced. Shows both as a table, or as JSON. Changes nothing.
options:
  format:
    description: How to show them.
    type: str
    choices: [text, json]
    default: text
extends_documentation_fragment:
  - platform
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    support: full
  action:
    support: full
"""

EXAMPLES = r"""
- name: Show the backups
  rds_backup_list:
    platform: dagster-production
"""

RETURN = r"""
backups:
  description: The snapshots, newest first. C(monthly) is what one costs at most, in the price list's currency.
  returned: success
  type: list
  elements: dict
replaced:
  description: Databases that restores have replaced, with the command that removes each.
  returned: success
  type: list
  elements: dict
"""

from dataclasses import asdict
from typing import Any

from ansible.module_utils.aws_backup import find_backups
from ansible.module_utils.aws_database import database_settings, find_replaced, removal_commands
from ansible.module_utils.aws_plan import Plan
from ansible.module_utils.aws_run import run


def work(module: Any, _plan: Plan) -> dict[str, Any]:
    """Read what there is."""
    rds, platform = module.client("rds"), module.params["platform"]
    return {
        "backups": [
            {**asdict(backup), "created": backup.created.isoformat() if backup.created else None}
            for backup in find_backups(rds, platform)
        ],
        "replaced": [
            {
                "name": instance["DBInstanceIdentifier"],
                "status": instance["DBInstanceStatus"],
                "settings": database_settings(instance),
                "remove": removal_commands(instance),
            }
            for instance in find_replaced(rds, platform)
        ],
    }


def main() -> None:
    """Entry point of Ansible."""
    run({"format": {"type": "str", "choices": ["text", "json"], "default": "text"}}, work)


if __name__ == "__main__":
    main()
