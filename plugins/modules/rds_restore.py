#!/usr/bin/python
"""Ansible module: restores the platform's database into a new instance, and puts that in the place of the old one."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rds_restore
short_description: Restore the database of a Dagster platform, and switch over to it
description:
  - Restores a snapshot, or a point in time, into a new RDS instance with the settings of the present one, takes the
    tasks away, gives the new one the password that is in the secret, renames the old one, gives its name to the new
    one, and brings the tasks back. The address stays, and with it the task definitions.
  - The old instance is stopped and kept under the name C(PLATFORM-before-TIME), until somebody removes it.
  - A run that was interrupted at any point is finished by the next one, from any machine.
options:
  backup:
    description: Identifier of the snapshot; the platform's name before it may be left out.
    type: str
    default: ""
  time:
    description: The point in time, in ISO 8601; UTC without a zone. Instead of I(backup).
    type: str
    default: ""
  database_secret:
    description: Name of the secret with C(username) and C(password) of the database.
    type: str
    required: true
  engine_version:
    description: Major version of PostgreSQL that the inventory wants; a backup of another one is refused.
    type: str
    required: true
  cluster:
    description: Name of the ECS cluster.
    type: str
    required: true
  services:
    description: Names of the ECS services that use the database.
    type: list
    elements: str
    required: true
  wait_seconds:
    description: How long to wait for the tasks to stop, and to come up again.
    type: int
    default: 900
extends_documentation_fragment:
  - platform
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Go back to the backup before the upgrade
  rds_restore:
    platform: dagster-production
    backup: before-upgrade
    database_secret: dagster-production/database
    engine_version: "17"
    cluster: dagster-production
    services: [webserver, daemon]
"""

RETURN = r"""
restored:
  description: What was restored, as C(snapshot:NAME) or C(time:TIME).
  returned: success
  type: str
kept:
  description: Identifier of the instance that was replaced.
  returned: success
  type: str
resumed:
  description: Whether a run that was interrupted had begun this.
  returned: success
  type: bool
changes:
  description: One entry per changed resource, with action, kind, name, before and after.
  returned: always
  type: list
"""

from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.aws_plan import Plan
from ansible.module_utils.aws_restore import RestoreSpec, restore_database
from ansible.module_utils.aws_run import run
from ansible.module_utils.aws_service_pause import Services


def work(module: Any, plan: Plan) -> dict[str, Any]:
    """Restore, or go on with it."""
    arguments = module.params
    spec = RestoreSpec(
        arguments["platform"],
        arguments["database_secret"],
        arguments["backup"],
        arguments["time"],
        arguments["engine_version"],
        datetime.now(UTC),
    )
    services = Services(
        module.client("ecs"),
        module.client("application-autoscaling"),
        arguments["platform"],
        arguments["cluster"],
        tuple(arguments["services"]),
    )
    restored: dict[str, Any] = restore_database(
        module.client("rds"),
        module.client("secretsmanager"),
        services,
        spec,
        plan,
        seconds=arguments["wait_seconds"],
    )
    return restored


def main() -> None:
    """Entry point of Ansible."""
    run(
        {
            "backup": {"type": "str", "default": ""},
            "time": {"type": "str", "default": ""},
            "database_secret": {"type": "str", "required": True, "no_log": False},  # its name, not its value
            "engine_version": {"type": "str", "required": True},
            "cluster": {"type": "str", "required": True},
            "services": {"type": "list", "elements": "str", "required": True},
            "wait_seconds": {"type": "int", "default": 900},
        },
        work,
    )


if __name__ == "__main__":
    main()
