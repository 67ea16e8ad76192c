"""Ansible action: wait until every running task serves a release, and show how each of them gets there.

It runs in the controller's own process, so that what the tasks report is shown while it is waited for.
All it knows it reads from ECS (which tasks are running) and from CloudWatch Logs (the ``release_state``
lines that the container program writes on every change and every minute). Documentation of the options is
in plugins/modules/dag_convergence.py.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

LOOK_BACK_SECONDS = 150.0
"""How far back log lines are read at first: tasks repeat their state every 60 s."""

COLUMNS = ("service", "task", "release", "status", "seconds")

ARGUMENTS: dict[str, dict[str, Any]] = {
    "cluster": {"type": "str", "required": True},
    "services": {"type": "dict", "required": True},
    "wait": {"type": "bool", "default": True},
    "release": {"type": "str"},
    "published_at": {"type": "str"},
    "timeout": {"type": "float", "default": 120},
    "poll_seconds": {"type": "float", "default": 1},
}


class ConvergenceError(Exception):
    """A task refused the release, or not all tasks serve it in time."""


class Clock(Protocol):
    """The time and a way to let it pass; tests bring their own."""

    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clock, in seconds since 1970."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


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


@dataclass(frozen=True)
class Wanted:
    """What is waited for: the release, when its pointer was written (seconds since 1970), and where it runs.

    ``services`` names the log group of each ECS service.
    """

    release: str
    published_at: float
    cluster: str
    services: Mapping[str, str]


@dataclass
class Task:
    """A running task: the newest state it reported, and when it first reported that it serves the release."""

    service: str
    id: str
    state: State | None = None
    serving_at: float | None = None

    def summary(self, wanted: Wanted) -> tuple[str, str, str, str, str]:
        """Return the task's row of the table."""
        if self.state is None:
            return (self.service, self.id, "-", "no report yet", "-")
        seconds = "-"
        if self.serving_at is not None and self.serving_at >= wanted.published_at:
            seconds = f"{self.serving_at - wanted.published_at:.1f}"
        return (self.service, self.id, self.state.release or "-", self.status(wanted), seconds)

    def status(self, wanted: Wanted) -> str:
        """Return what the task is doing about the release, in a word or two."""
        if self.state is None:
            return "no report yet"
        if self.refuses(wanted):
            return "rejected"
        if self.state.status == "serving" and self.state.release != wanted.release:
            return "serving another"
        return self.state.status

    def serves(self, wanted: Wanted) -> bool:
        """Return whether the task serves the release; stale tasks do, they only cannot reach S3."""
        return (
            self.state is not None
            and self.state.release == wanted.release
            and self.state.status in ("serving", "stale")
        )

    def refuses(self, wanted: Wanted) -> bool:
        """Return whether the task refused the release, since it was published and not some time before."""
        return (
            self.state is not None
            and self.state.rejected == wanted.release
            and self.state.release != wanted.release
            and self.state.at >= wanted.published_at
        )


@dataclass
class Watch:
    """Reads tasks and their reports; ``states`` and ``serving_at`` are by task id."""

    ecs: Any
    logs: Any
    wanted: Wanted
    start: float
    states: dict[str, State] = field(default_factory=dict)
    serving_at: dict[str, float] = field(default_factory=dict)

    def look(self) -> list[Task]:
        """Return every running task with what it reported last, sorted by service and id."""
        tasks = [(service, task) for service in self.wanted.services for task in self._running(service)]
        for service in sorted({service for service, _ in tasks}):
            self._read(self.wanted.services[service])
        return [
            Task(service, task, self.states.get(task), self.serving_at.get(task)) for service, task in sorted(tasks)
        ]

    def _running(self, service: str) -> list[str]:
        """Return the ids of the service's RUNNING tasks; none if there is no such cluster or service."""
        try:
            pages = self.ecs.get_paginator("list_tasks").paginate(
                cluster=self.wanted.cluster, serviceName=service, desiredStatus="RUNNING"
            )
            arns = [arn for page in pages for arn in page["taskArns"]]
        except (self.ecs.exceptions.ClusterNotFoundException, self.ecs.exceptions.ServiceNotFoundException):
            return []
        running = []
        for start in range(0, len(arns), 100):
            described = self.ecs.describe_tasks(cluster=self.wanted.cluster, tasks=arns[start : start + 100])
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
        if state.release == self.wanted.release:
            self.serving_at[task] = min(state.serving_since, self.serving_at.get(task, state.serving_since))


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


def table(tasks: Sequence[Task], wanted: Wanted) -> str:
    """Return the convergence table; a service without a running task has a row that says so."""
    rows = [task.summary(wanted) for task in tasks]
    idle = set(wanted.services) - {task.service for task in tasks}
    rows += [(service, "-", "-", "no running task", "-") for service in sorted(idle)]
    rows.sort()
    widths = [max(len(row[column]) for row in [COLUMNS, *rows]) for column in range(len(COLUMNS))]
    lines = [COLUMNS, tuple("-" * width for width in widths), *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def wait(watch: Watch, timeout: float, poll_seconds: float, clock: Clock, show: Callable[[str], None]) -> list[Task]:
    """Wait until every running task serves the release; return them, none if nothing is running.

    ``show`` gets a line whenever a task reports something new. Raises ConvergenceError as soon as one task
    has refused the release, or after ``timeout`` seconds.
    """
    wanted, deadline = watch.wanted, clock.now() + timeout
    shown: dict[str, str] = {}
    anything_ran = False
    while True:
        tasks = watch.look()
        anything_ran = anything_ran or bool(tasks)
        for task in tasks:
            if shown.get(task.id) != task.status(wanted):
                shown[task.id] = task.status(wanted)
                service, identifier, release, status, _ = task.summary(wanted)
                show(f"  {service} {identifier[:8]}: {status}" + (f" ({release})" if release != "-" else ""))
        refusing = [task for task in tasks if task.refuses(wanted)]
        if refusing:
            raise ConvergenceError(_refused(refusing, tasks, wanted))
        if not anything_ran or (tasks and all(task.serves(wanted) for task in tasks)):
            return tasks
        if clock.now() >= deadline:
            raise ConvergenceError(_late(tasks, wanted, timeout))
        clock.sleep(poll_seconds)


def _refused(refusing: Sequence[Task], tasks: Sequence[Task], wanted: Wanted) -> str:
    """Return the message for a release that a task does not load."""
    state = refusing[0].state
    still = state.release if state else None
    serving = f"the tasks go on serving {still}" if still else "the tasks serve nothing yet"
    error = (state.error if state else None) or "it gave no reason; see its log"
    return (
        f"Release {wanted.release} was refused by {refusing[0].service} task {refusing[0].id}; {serving}.\n\n"
        f"{error.strip()}\n\n{table(tasks, wanted)}\n\n"
        "Correct the code and run ansible-playbook deploy_dags.yml again."
    )


def _late(tasks: Sequence[Task], wanted: Wanted, timeout: float) -> str:
    """Return the message for tasks that do not serve the release in time."""
    errors = [
        f"{task.service} {task.id}: {task.state.error.strip()}" for task in tasks if task.state and task.state.error
    ]
    groups = ", ".join(sorted({wanted.services[task.service] for task in tasks} or set(wanted.services.values())))
    return (
        f"Release {wanted.release} is published, but after {timeout:g} seconds not every running task serves it.\n\n"
        f"{table(tasks, wanted)}\n\n"
        + "".join(f"{error}\n\n" for error in errors)
        + f"Read why in the logs ({groups}), with `make logs`. Tasks go on trying; run the same command again to "
        "wait longer, set dag_release_wait_timeout for more time, or dag_release_wait: false not to wait."
    )


@contextmanager
def environment_of(task_environment: Mapping[str, Any]) -> Iterator[None]:
    """Set the task's environment in this process, which reads region, endpoint and credentials from it."""
    before = dict(os.environ)
    os.environ.update({name: str(value) for name, value in task_environment.items()})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _rows(tasks: Sequence[Task], wanted: Wanted) -> list[dict[str, str]]:
    return [dict(zip(COLUMNS, task.summary(wanted), strict=True)) for task in tasks]


class ActionModule(ActionBase):  # type: ignore[misc]
    """The action ``dag_convergence``."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Wait, show progress and the table, and return the tasks; fails as ConvergenceError says."""
        super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            argument_spec=ARGUMENTS, required_if=[("wait", True, ("release", "published_at"))]
        )
        if self._task.check_mode and arguments["wait"]:
            return {"changed": False, "skipped": True, "msg": "Nothing is published in check mode."}
        environment: dict[str, Any] = {}
        self._compute_environment_string(environment)
        wanted = Wanted(
            release=arguments["release"] or "",
            published_at=parse_time(arguments["published_at"]) if arguments["wait"] else 0.0,
            cluster=arguments["cluster"],
            services={str(name): str(group) for name, group in arguments["services"].items()},
        )
        display, clock = Display(), SystemClock()
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.session import get_session

        with environment_of(environment):
            try:
                session = get_session()
                watch = Watch(
                    session.create_client("ecs"),
                    session.create_client("logs"),
                    wanted,
                    clock.now() - LOOK_BACK_SECONDS,
                )
                if not arguments["wait"]:
                    return {"changed": False, "tasks": _rows(watch.look(), wanted)}
                tasks = wait(watch, arguments["timeout"], arguments["poll_seconds"], clock, display.display)
            except ConvergenceError as error:
                raise AnsibleActionFail(str(error)) from None
            except (BotoCoreError, ClientError) as error:
                if not arguments["wait"]:
                    display.warning(f"The running tasks cannot be read: {error}")
                    return {"changed": False, "tasks": []}
                raise AnsibleActionFail(
                    f"Release {wanted.release} is published, but its tasks cannot be watched: {error}. Needed are "
                    "ecs:ListTasks, ecs:DescribeTasks and logs:FilterLogEvents; or set dag_release_wait: false."
                ) from None
        rows = _rows(tasks, wanted)
        if tasks:
            text = table(tasks, wanted)
        else:
            text = (
                f"No task of {', '.join(wanted.services)} is running in the cluster {wanted.cluster}. They serve "
                f"release {wanted.release} as soon as they start: `make up` locally, ansible-playbook site.yml on AWS."
            )
        display.display(text)
        return {"changed": False, "tasks": rows, "msg": text.splitlines()}
