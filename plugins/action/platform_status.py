"""Ansible action: show on one screen how a platform is, and fail if it is not healthy."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible.errors import AnsibleActionFail
from rich.console import RenderableType
from rich.text import Text

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_reading import Reader, ReadingError  # noqa: E402
from ansible.module_utils.platform_action import Call, PlatformAction  # noqa: E402
from ansible.module_utils.platform_status import StatusSpec, read_status  # noqa: E402
from ansible.module_utils.report import FORMATS, show, table  # noqa: E402
from ansible.module_utils.status_report import (  # noqa: E402
    Limits,
    Problem,
    facts,
    find_problems,
    tables,
    with_ages,
)
from ansible.module_utils.task_states import parse_time  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {
    "platform": {"type": "str", "required": True},
    "account": {"type": "str", "required": True},
    "cluster": {"type": "str", "required": True},
    "services": {"type": "dict", "required": True},
    "database": {"type": "str", "required": True},
    "bucket": {"type": "str", "required": True},
    "prefix": {"type": "str", "default": ""},
    "follows_releases": {"type": "bool", "default": True},
    "deploys": {"type": "int", "default": 5},
    "heartbeat_seconds": {"type": "float", "default": 300},
    "queued_seconds": {"type": "float", "default": 3600},
    "processes": {"type": "list", "elements": "dict", "default": []},
    "commands": {"type": "dict", "required": True},
    "format": {"type": "str", "choices": list(FORMATS), "default": "text"},
}
_NOTHING: dict[str, Any] = {
    **dict.fromkeys(("asleep", "services", "tasks", "daemons_and_runs", "database", "file_system", "deploys")),
    "unread": {},
}
_RIGHT = ("pid", "port", "desired", "running", "pending")


class ActionModule(PlatformAction):  # type: ignore[misc]
    """The action ``platform_status``."""

    arguments = ARGUMENTS
    services = ("ecs", "efs", "logs", "rds", "s3", "sts", "cloudwatch")

    def perform(self, call: Call) -> dict[str, Any]:
        """Read, show, and fail with the number of problems if there are any."""
        arguments = call.params
        report = look(arguments, time.time())
        show(report, lambda: screen(report), arguments["format"])
        problems = len(report["problems"])
        result = {"changed": False, "status": report}
        if problems:
            result |= {"failed": True, "msg": unhealthy(report)}
        return result


def look(arguments: Mapping[str, Any], now: float) -> dict[str, Any]:
    """Return the report; raise AnsibleActionFail if nothing can be said at all."""
    commands, processes = arguments["commands"], arguments["processes"]
    reader = Reader(arguments["account"], f"Try again; {commands['doctor']} looks at what is needed.")
    status = _NOTHING
    try:
        # Where the emulator is down, there is nobody to ask.
        if not any(each["name"] == "emulator" and each["health"] != "answers" for each in processes):
            with reader.explained():
                reader.check_account()
            spec = StatusSpec(
                platform=arguments["platform"],
                cluster=arguments["cluster"],
                services={str(name): str(group) for name, group in arguments["services"].items()},
                database=arguments["database"],
                bucket=arguments["bucket"],
                prefix=arguments["prefix"],
                follows_releases=arguments["follows_releases"],
                deploys=arguments["deploys"],
            )
            status = read_status(reader, spec, now)
    except ReadingError as error:
        raise AnsibleActionFail(str(error)) from None
    if status["deploys"]:
        status["deploys"] = with_ages(status["deploys"], now, parse_time)
    limits = Limits(heartbeat_seconds=arguments["heartbeat_seconds"], queued_seconds=arguments["queued_seconds"])
    # No task answers while the platform sleeps.
    wanted = [each for each in processes if each["name"] != "runner" or not status["asleep"]]
    problems = find_stopped(wanted, commands) + find_problems(status, commands, limits)
    return {
        "platform": arguments["platform"],
        "account": arguments["account"],
        "at": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "healthy": not problems,
        "problems": [problem.as_json() for problem in problems],
        "processes": list(processes),
        **status,
    }


def find_stopped(processes: Sequence[Mapping[str, Any]], commands: Mapping[str, str]) -> list[Problem]:
    """Return a problem for each process of the embedded default that does not answer."""
    return [
        Problem(f"process {each['name']} (port {each['port']}): {each['health']}.", commands["apply"])
        for each in processes
        if each["health"] != "answers"
    ]


def unhealthy(report: Mapping[str, Any]) -> str:
    """Return the message of the failure; the report has the problems themselves."""
    count = len(report["problems"])
    problems = "1 problem is" if count == 1 else f"{count} problems are"
    return f"The platform {report['platform']} is not healthy: {problems} in the report, with what to do."


def screen(report: Mapping[str, Any]) -> list[RenderableType]:
    """Return what a person sees."""
    healthy = Text("healthy", "bold green") if report["healthy"] else Text("not healthy", "bold red")
    if report["asleep"] and len(report["problems"]) == 1:
        healthy = Text(report["asleep"], "bold yellow")
    parts: list[RenderableType] = [
        Text.assemble((report["platform"], "bold"), f"  account {report['account']}  {report['at']}  ", healthy)
    ]
    for title, heading, rows in tables(report):
        parts += [Text(f"\n{title}", "bold"), table(heading, [_coloured(row) for row in rows], right=_RIGHT)]
    if report["services"] is not None:
        parts.append(Text(""))
        parts += [Text.assemble((f"{name}: ", "bold"), value) for name, value in facts(report)]
    if report["problems"]:
        parts.append(Text("\nProblems", "bold red"))
    for number, problem in enumerate(report["problems"], 1):
        parts.append(Text(f" {number}. {problem['what']}"))
        parts += [Text(f"      {line}", "dim") for line in problem["details"]]
        parts.append(Text(f"    -> {problem['next']}", "cyan"))
    return parts


_COLOURS = {
    **dict.fromkeys(("HEALTHY", "serving", "answers", "COMPLETED", "ACTIVE", "RUNNING", "current"), "green"),
    **dict.fromkeys(("UNHEALTHY", "rejected", "FAILED", "MISSING", "stopped", "does not answer"), "red"),
    **dict.fromkeys(
        ("stale", "swapping", "waiting", "IN_PROGRESS", "PENDING", "not reported yet", "UNKNOWN"), "yellow"
    ),
}


def _coloured(row: Sequence[str]) -> list[str | Text]:
    return [Text(cell, _COLOURS[cell]) if cell in _COLOURS else cell for cell in row]
