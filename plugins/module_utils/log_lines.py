"""Log lines of tasks, read from CloudWatch Logs: as events, and as text for people."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

_LEFT_OUT = frozenset({"_aws", "service", "environment", "task_id"})
"""What says where a line comes from, which stands before it, and CloudWatch's metrics."""

_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Escape sequences and control characters, all but tabs and ends of lines."""


def harmless(text: str) -> str:
    """Return a text without what would make a terminal do something: code of DAGs prints what it likes."""
    return _CONTROL.sub("", text)


def readable(line: str) -> str:
    """Return a line of a task's log for people: what programs print without colours, events without metrics."""
    event = fields(line)
    if "event" not in event:
        return harmless(line)
    moment, name = event.pop("ts", ""), event.pop("event")
    if name == "output":
        return harmless(f"{moment} {event.get('process')} | {event.get('line')}")
    # What is not set says nothing.
    rest = " ".join(f"{key}={value}" for key, value in event.items() if key not in _LEFT_OUT and value is not None)
    return harmless(f"{moment} {name} {rest}".rstrip())


def fields(line: str) -> dict[str, Any]:
    """Return the members of a line that is a JSON object, none of any other line."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def read(
    logs: Any, group: str, *, start: float, stream: str = "ecs/", pattern: str = ""
) -> Iterator[Mapping[str, Any]]:
    """Yield the events of a log group since `start` (seconds since 1970).

    `stream` is what the names of log streams begin with; `pattern` one of CloudWatch's.
    """
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=group,
        startTime=max(0, int(start * 1000)),
        logStreamNamePrefix=stream,
        **({"filterPattern": pattern} if pattern else {}),
    )
    for page in pages:
        # The emulator answers with those of all streams.
        yield from (event for event in page["events"] if event["logStreamName"].startswith(stream))


def task_of(event: Mapping[str, Any]) -> str:
    """Return the id of the task that wrote a line: streams are called ecs/CONTAINER/TASK."""
    return str(event["logStreamName"]).rsplit("/", 1)[-1]


def newest(logs: Any, group: str, name: str, *, start: float) -> dict[str, dict[str, Any]]:
    """Return the last event of that name of each task, with `at`: when it was written, in seconds since 1970.

    None if there is no such log group.
    """
    found: dict[str, dict[str, Any]] = {}
    try:
        events = list(read(logs, group, start=start, pattern=f'"{name}"'))
    except logs.exceptions.ResourceNotFoundException:
        return {}
    for event in events:
        said = fields(event["message"])
        at = float(event["timestamp"]) / 1000
        task = task_of(event)
        if said.get("event") == name and at >= found.get(task, {"at": 0.0})["at"]:
            found[task] = {**said, "at": at}
    return found


def last_lines(logs: Any, platform: str, service: str, task: str, *, count: int = 8) -> list[str]:
    """Return the last lines of a task's log for people; none if it wrote nothing, or the caller may not read it."""
    try:
        lines = deque(read(logs, f"/ecs/{platform}/{service}", start=0, stream=f"ecs/{service}/{task}"), count)
    except logs.exceptions.ClientError:
        return []
    return [readable(event["message"].rstrip("\n")) for event in lines]
