"""Which log lines are wanted, and reading them as they come."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .aws_reading import ReadingError
from .log_lines import fields, read, readable, task_of

ALIASES = {"web": "webserver"}
_LATE_SECONDS = 20.0
"""How long after its time a line may still become visible; CloudWatch takes some seconds."""
_RUN_ID = 36
"""Characters of the id of a run."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Line:
    """A log line with the time it was written, in milliseconds since 1970."""

    at: int
    service: str
    task: str
    text: str

    def for_people(self) -> str:
        """Return the line with where it comes from and when."""
        shown = readable(self.text)
        if "event" not in fields(self.text):
            moment = datetime.fromtimestamp(self.at / 1000, UTC)
            shown = f"{moment.isoformat(timespec='milliseconds').replace('+00:00', 'Z')} {shown}"
        return f"{self.service} {self.task[:8]}  {shown}"

    def as_json(self) -> dict[str, Any]:
        """Return the line for scripts; an event is an object, anything else a text."""
        return {
            "at": self.at / 1000,
            "service": self.service,
            "task": self.task,
            "line": fields(self.text) or self.text,
        }


@dataclass(frozen=True)
class Wanted:
    """What to read: `groups` names the log group of each service, `start` is in seconds since 1970."""

    groups: Mapping[str, str]
    start: float
    task: str = ""
    """What the task's id begins with."""
    run: str = ""
    """Id of a run, or what it begins with."""
    pattern: re.Pattern[str] | None = None

    def takes(self, line: Line) -> bool:
        """Tell whether a line is wanted."""
        if not line.task.startswith(self.task) or self.run not in line.text:
            return False
        return self.pattern is None or self.pattern.search(line.for_people()) is not None


def wanted(
    services: Mapping[str, str], *, service: str, task: str, since: str, run: str, pattern: str, now: float
) -> Wanted:
    """Return what was asked for in words; raise `ReadingError` for what nobody understands."""
    name = ALIASES.get(service, service)
    if name not in ("", "all", *services):
        raise ReadingError(
            f"SERVICE={service} (logs_service) is no service of this platform. Choices: "
            f"{', '.join(['all', *ALIASES, *services])}."
        )
    if run and not re.fullmatch("[0-9a-f-]{8,36}", run):
        raise ReadingError(
            f"RUN={run} (logs_run) is no id of a run. Give it as the web UI shows it, or its first 8 characters."
        )
    if task and not re.fullmatch("[0-9a-f-]{1,36}", task):
        raise ReadingError(
            f"TASK={task} (logs_task) is no id of a task. Give it as `make status` shows it, or what it begins with."
        )
    try:
        compiled = re.compile(pattern) if pattern else None
    except re.error as error:
        raise ReadingError(
            f"GREP={pattern} (logs_grep) is no regular expression: {error}. A backslash before a character takes it as "
            "it is, e.g. GREP='\\(main\\)'."
        ) from None
    groups = dict(services) if name in ("", "all") else {name: services[name]}
    return Wanted(groups, beginning(since, now), task, run, compiled)


def beginning(since: str, now: float) -> float:
    """Return the moment that a text names, in seconds since 1970: 90s, 10m, 2h, 3d ago, or an ISO 8601 time in UTC."""
    if found := re.fullmatch(r"(\d{1,6})([smhd])", since):
        return now - int(found[1]) * _UNITS[found[2]]
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        raise ReadingError(
            f"SINCE={since} (logs_since) is no time. Choices: 90s, 10m, 2h, 3d, or a moment in UTC such as "
            "2026-01-31T12:00."
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


class Tail:
    """Reads the wanted lines, each once, however late CloudWatch shows it."""

    def __init__(self, logs: Any, what: Wanted, advice: str) -> None:
        self._logs, self._wanted, self._advice = logs, what, advice
        self._seen: dict[str, int] = {}
        self._start = what.start

    def look(self) -> list[Line]:
        """Return the lines that are new since the last look, oldest first."""
        found = [pair for service in sorted(self._wanted.groups) for pair in self._read(service)]
        newest = max((line.at for _, line in found), default=0)
        self._start = max(self._start, newest / 1000 - _LATE_SECONDS)
        self._seen = {event: at for event, at in self._seen.items() if at >= self._start * 1000}
        self._seen |= {event: line.at for event, line in found if line.at >= self._start * 1000}
        return sorted((line for _, line in found if self._wanted.takes(line)), key=lambda line: line.at)

    def _read(self, service: str) -> Iterator[tuple[str, Line]]:
        group = self._wanted.groups[service]
        try:
            events: Sequence[Mapping[str, Any]] = list(
                read(
                    self._logs,
                    group,
                    start=self._start,
                    stream=f"ecs/{service}/{self._wanted.task}",
                    # CloudWatch looks for whole words.
                    pattern=f'"{self._wanted.run}"' if len(self._wanted.run) == _RUN_ID else "",
                )
            )
        except self._logs.exceptions.ResourceNotFoundException:
            raise ReadingError(
                f"There is no log group {group}: the platform was not made yet. {self._advice}"
            ) from None
        for event in events:
            if event["eventId"] not in self._seen:
                yield event["eventId"], Line(event["timestamp"], service, task_of(event), event["message"].rstrip("\n"))
