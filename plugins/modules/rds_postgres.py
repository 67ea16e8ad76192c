#!/usr/bin/python
"""Ansible module: the PostgreSQL instance on RDS."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rds_postgres
short_description: Keep the PostgreSQL instance of a Dagster platform as described
description:
  - Makes the subnet group and a private, encrypted instance, waits until it answers, and brings its settings back
    when they have drifted. What RDS cannot change in place is refused with the way out.
  - User name and password go from the secret to RDS inside this module; Ansible never sees them, whereas
    M(amazon.aws.rds_instance) takes the password as an argument.
options:
  existing_instance:
    description:
      - Identifier of an instance that is somebody else's. It is checked and never changed, and no other is made.
        I(state=absent) removes the platform's own instance in any case, never this one.
    type: str
    default: ""
  client_group_ids:
    description: With I(existing_instance), the security groups of the tasks, which it must let in.
    type: list
    elements: str
    default: []
  database:
    description: Name of the database to make in a new instance.
    type: str
    default: dagster
  engine_version:
    description: Major version of PostgreSQL for a new instance; minor versions are applied by RDS.
    type: str
    default: "17"
  instance_class:
    description: Instance class, e.g. db.t4g.micro.
    type: str
    default: db.t4g.micro
  storage:
    description: Storage in GiB.
    type: int
    default: 20
  max_storage:
    description: Limit in GiB up to which RDS may grow the storage by itself.
    type: int
    default: 100
  multi_az:
    description: Whether a standby runs in a second availability zone. Doubles the price.
    type: bool
    default: false
  backup_days:
    description: Days for which automatic backups are kept.
    type: int
    default: 7
  deletion_protection:
    description: Whether RDS refuses to delete the instance.
    type: bool
    default: true
  subnet_ids:
    description: The private subnets, in at least two availability zones.
    type: list
    elements: str
  security_group_id:
    description: The only security group of the instance.
    type: str
  credentials:
    description: Name or ARN of the secret with C(username) and C(password).
    type: str
  apply_immediately:
    description: Whether changes are made at once or in the next maintenance window.
    type: bool
    default: true
  final_snapshot:
    description: With I(state=absent), name of a snapshot to take first; empty for none.
    type: str
    default: ""
  remove_replaced:
    description:
      - With I(state=absent), whether instances that playbooks/restore.yml has replaced are removed too, without a
        snapshot. Otherwise they are in the way.
    type: bool
    default: false
extends_documentation_fragment:
  - platform
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the database
  rds_postgres:
    platform: dagster-production
    subnet_ids: "{{ vpc_private_subnet_ids }}"
    security_group_id: "{{ vpc_security_group_ids.database }}"
    credentials: dagster-production/database
"""

RETURN = r"""
address:
  description: Host name of the instance; C(pending.invalid) in check mode when it does not exist yet.
  returned: when state is present
  type: str
port:
  description: Port of the instance.
  returned: when state is present
  type: int
changes:
  description: One entry per changed resource, with action, kind, name, before and after.
  returned: always
  type: list
"""

from typing import Any

from ansible.module_utils.aws_database import (
    AdoptedDatabase,
    DatabaseSpec,
    check_adopted_database,
    ensure_database,
    remove_database,
)
from ansible.module_utils.aws_plan import Plan
from ansible.module_utils.aws_run import run


def work(module: Any, plan: Plan) -> dict[str, Any]:
    """Bring the instance to the wanted state."""
    arguments = module.params
    rds = module.client("rds")
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
            module.client("ec2"),
            module.client("secretsmanager"),
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
        module.client("secretsmanager"),
        DatabaseSpec(
            subnet_ids=tuple(arguments["subnet_ids"]),
            secret_id=arguments["credentials"],
            tags=arguments["resource_tags"],
            **{name: arguments[name] for name in settings},
        ),
        plan,
    )
    return {"address": address, "port": port}


def main() -> None:
    """Entry point of Ansible."""
    run(
        {
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
        },
        work,
        required_if=[("state", "present", ["subnet_ids", "security_group_id", "credentials"])],
    )


if __name__ == "__main__":
    main()
