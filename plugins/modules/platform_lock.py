#!/usr/bin/python
"""Ansible module: take the lock of a platform, or make and remove the table that it is kept in."""

from __future__ import annotations

DOCUMENTATION = r"""
module: platform_lock
short_description: Let one playbook at a time change a Dagster platform
description:
  - Takes the lock of the platform for the run of the playbook, and waits for it. The lock is given back when
    C(ansible-playbook) ends, however it does - a process beside it sees to that.
  - Taking and giving back is no change; the platform is the same afterwards. Making and removing the table is one.
  - In check mode the lock is not taken; who has it is told in C(holder).
  - The action plugin of the same name fills in I(run), I(pid), I(host) and I(playbook).
options:
  table:
    description: Name of the DynamoDB table.
    type: str
    required: true
  make_table:
    description: Whether to make the table if there is none. Otherwise the playbook goes on without a lock, and says so.
    type: bool
    default: false
  take:
    description: Whether to take the lock.
    type: bool
    default: true
  wait_seconds:
    description: How long to wait while somebody else has the lock; 0 does not wait.
    type: int
    default: 900
  lease_seconds:
    description: Seconds after which a lock may be taken whose holder is not heard of any more.
    type: int
    default: 120
  take_over:
    description: The run whose lock is taken at once. It is interrupted where it still goes on.
    type: str
    default: ""
  owner:
    description: Who runs the playbook, for messages.
    type: str
    default: ""
  run:
    description: Name of this run of C(ansible-playbook).
    type: str
    default: ""
  pid:
    description: Its process, with whose end the lock is given back.
    type: int
    default: 0
  host:
    description: Where it runs, for messages.
    type: str
    default: ""
  playbook:
    description: What it runs, for messages.
    type: str
    default: ""
extends_documentation_fragment:
  - platform
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Take the lock
  platform_lock:
    platform: dagster-production
    table: dagster-production-lock
"""

RETURN = r"""
holder:
  description: Who else has the lock, as a sentence; empty if nobody has. In check mode only.
  returned: success
  type: str
taken_over:
  description: Who had the lock and did not give it back, as a sentence; empty if nobody.
  returned: success
  type: str
waited:
  description: Whether somebody else had the lock, so that what was seen of the platform before may be otherwise now.
  returned: success
  type: bool
keeper:
  description: The process that keeps the lock; 0 if none was started.
  returned: success
  type: int
changes:
  description: One entry per changed resource, with action, kind, name, before and after.
  returned: always
  type: list
"""

from typing import Any

from ansible.module_utils.aws_lock import Holder, Lock, NoTable, ensure_table, remove_table, take
from ansible.module_utils.aws_plan import Plan
from ansible.module_utils.aws_run import run
from ansible.module_utils.lock_keeper import start


def work(module: Any, plan: Plan) -> dict[str, Any]:
    """Make or remove the table, and take the lock."""
    arguments = module.params
    platform, table, lease = arguments["platform"], arguments["table"], arguments["lease_seconds"]
    dynamodb = module.client("dynamodb")
    if arguments["state"] == "absent":
        remove_table(dynamodb, platform, table, plan)
        return {}

    def make_table() -> None:
        ensure_table(dynamodb, platform, table, arguments["resource_tags"], plan)

    if arguments["make_table"]:
        make_table()
    lock = Lock(dynamodb, table, lease)
    told: dict[str, Any] = {"holder": "", "taken_over": "", "waited": False, "keeper": 0}
    if not arguments["take"]:
        return told
    try:
        if plan.check_mode:
            holder = lock.read()
            if holder is not None and holder.run != arguments["run"]:
                told["holder"] = holder.told(lock.now(), lease)
            return told

        def mine(now: int) -> Holder:
            return Holder(
                run=arguments["run"],
                owner=arguments["owner"],
                host=arguments["host"],
                playbook=arguments["playbook"],
                since=now,
                expires=now + lease,
            )

        before = lock.read()
        told["waited"] = before is not None and before.run != arguments["run"]
        had = take(
            lock,
            platform,
            mine,
            wait=arguments["wait_seconds"],
            take_over=arguments["take_over"],
            make_table=make_table if arguments["make_table"] else None,
        )
    except NoTable:
        if not arguments["make_table"]:
            module.warn(
                f"There is no DynamoDB table {table!r}: nothing keeps others from changing the platform {platform!r} "
                "at the same time. site.yml makes it."
            )
        return told
    if had is not None:
        told["taken_over"] = had.told(lock.now(), lease)
    if before is None or before.run != arguments["run"]:
        told["keeper"] = start(
            lambda: Lock(module.client("dynamodb"), table, lease), arguments["run"], arguments["pid"]
        )
    return told


def main() -> None:
    """Entry point of Ansible."""
    run(
        {
            "table": {"type": "str", "required": True},
            "make_table": {"type": "bool", "default": False},
            "take": {"type": "bool", "default": True},
            "wait_seconds": {"type": "int", "default": 900},
            "lease_seconds": {"type": "int", "default": 120},
            "take_over": {"type": "str", "default": ""},
            "owner": {"type": "str", "default": ""},
            "run": {"type": "str", "default": ""},
            "pid": {"type": "int", "default": 0},
            "host": {"type": "str", "default": ""},
            "playbook": {"type": "str", "default": ""},
        },
        work,
    )


if __name__ == "__main__":
    main()
