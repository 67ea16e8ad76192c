"""What the running tasks of a platform have last said of themselves.

Which tasks run is read from ECS; what they said from CloudWatch Logs: the ``release_state`` lines that the container
program writes on every change and every minute.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

LOOK_BACK_SECONDS = 150.0
"""How far back log lines are read at first: tasks repeat their state every 60 s."""


@dataclass(frozen=True)
class State:
    """One ``release_state`` line; ``at`` and ``serving_since`` are in seconds since 1970."""

    at: float
    status: str
    release: str | None
    target: str | None
    rejected: str | None
    error: str | None
    serving_since: float
    s3_key_ending: str | None = None
    """The last characters of the id of the S3 keys in use; None for the task role."""


@dataclass
class TaskStates:
    """Reads tasks and their states. ``services`` names the log group of each ECS service; ``states`` is by task id."""

    ecs: Any
    logs: Any
    cluster: str
    services: Mapping[str, str]
    start: float
    """From when on log lines are read, in seconds since 1970."""
    heard: Callable[[str, State], None] = lambda _task, _state: None
    """Is told every state of every task, again at each look."""
    states: dict[str, State] = field(default_factory=dict)

    def look(self) -> list[tuple[str, str, State | None]]:
        """Return service, id and newest state of every running task, sorted by service and id."""
        tasks = [(service, task) for service in self.services for task in self._running(service)]
        for service in sorted({service for service, _ in tasks}):
            self._read(self.services[service])
        return [(service, task, self.states.get(task)) for service, task in sorted(tasks)]

    def _running(self, service: str) -> list[str]:
        """Return the ids of the service's RUNNING tasks; none if there is no such cluster or service."""
        try:
            pages = self.ecs.get_paginator("list_tasks").paginate(
                cluster=self.cluster, serviceName=service, desiredStatus="RUNNING"
            )
            arns = [arn for page in pages for arn in page["taskArns"]]
        except (self.ecs.exceptions.ClusterNotFoundException, self.ecs.exceptions.ServiceNotFoundException):
            return []
        running = []
        for start in range(0, len(arns), 100):
            described = self.ecs.describe_tasks(cluster=self.cluster, tasks=arns[start : start + 100])
            # The group is asked once more, because the emulator's ListTasks ignores the service's name.
            running += [
                task["taskArn"]
                for task in described["tasks"]
                if task["lastStatus"] == "RUNNING" and task.get("group") == f"service:{service}"
            ]
        return [arn.rsplit("/", 1)[1] for arn in running]

    def _read(self, log_group: str) -> None:
        """Read the group's state lines since ``start``; re-reading is cheap and misses no late line."""
        try:
            pages = self.logs.get_paginator("filter_log_events").paginate(
                logGroupName=log_group,
                logStreamNamePrefix="ecs/",
                filterPattern='"release_state"',
                startTime=int(self.start * 1000),
            )
            for page in pages:
                for event in page["events"]:
                    self._note(event["logStreamName"].rsplit("/", 1)[1], parse_state(event))
        except self.logs.exceptions.ResourceNotFoundException:
            return

    def _note(self, task: str, state: State | None) -> None:
        if state is None:
            return
        if task not in self.states or state.at >= self.states[task].at:
            self.states[task] = state
        self.heard(task, state)


def parse_state(event: Mapping[str, Any]) -> State | None:
    """Return the state in a log event, None if the line is something else that mentions it."""
    try:
        fields = json.loads(event["message"])
    except ValueError:
        return None
    if not isinstance(fields, dict) or fields.get("event") != "release_state":
        return None
    at = _moment(fields.get("ts"), float(event["timestamp"]) / 1000)
    return State(
        at=at,
        status=str(fields.get("status")),
        release=fields.get("release"),
        target=fields.get("target"),
        rejected=fields.get("rejected"),
        error=fields.get("error"),
        serving_since=_moment(fields.get("serving_since"), at),
        s3_key_ending=fields.get("s3_key_ending"),
    )


def _moment(value: object, otherwise: float) -> float:
    """Return a time given as seconds or as ISO 8601 text, in seconds since 1970."""
    try:
        return float(value) if isinstance(value, int | float) else parse_time(str(value))
    except ValueError:
        return otherwise


def parse_time(text: str) -> float:
    """Return seconds since 1970 of an ISO 8601 time; without a zone it is UTC."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
