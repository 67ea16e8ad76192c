"""Ansible action: take the lock of a platform, or make and remove the table that it is kept in."""

from __future__ import annotations

import getpass
import os
import socket
import sys
from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_lock import Holder, Lock, NoTable, ensure_table, remove_table, take  # noqa: E402
from ansible.module_utils.aws_plan import Plan  # noqa: E402
from ansible.module_utils.lock_keeper import identity, start  # noqa: E402
from ansible.module_utils.platform_action import Call, ResourceAction  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {
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
}


class ActionModule(ResourceAction):  # type: ignore[misc]
    """The action ``platform_lock``."""

    arguments = ARGUMENTS
    services = ("dynamodb",)

    def given(self) -> dict[str, Any]:
        """Name the run of ansible-playbook, the process whose worker this is."""
        pid, host = os.getppid(), socket.gethostname()
        return {
            "owner": self._task.args.get("owner") or _user(),
            "run": identity(pid, host),
            "pid": pid,
            "host": host,
            "playbook": _playbook(),
        }

    def work(self, call: Call, plan: Plan) -> dict[str, Any]:
        """Make or remove the table, and take the lock."""
        arguments = call.params
        platform, table, lease = arguments["platform"], arguments["table"], arguments["lease_seconds"]
        dynamodb = call.client("dynamodb")
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
                call.warn(
                    f"There is no DynamoDB table {table!r}: nothing keeps others from changing the platform "
                    f"{platform!r} at the same time. site.yml makes it."
                )
            return told
        if had is not None:
            told["taken_over"] = had.told(lock.now(), lease)
        if before is None or before.run != arguments["run"]:
            told["keeper"] = start(
                lambda: Lock(call.client("dynamodb"), table, lease), arguments["run"], arguments["pid"]
            )
        return told


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number that has no name
        return f"uid {os.getuid()}"


def _playbook() -> str:
    """Return the playbooks of the command line: a worker has the arguments of the process it comes from."""
    found = [
        word for word in sys.argv[1:] if word.endswith((".yml", ".yaml")) and "/hosts." not in word and word[0] != "@"
    ]
    return " ".join(found) or "a playbook"
