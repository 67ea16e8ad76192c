"""Ansible action: wait until every running task serves a release, and show how each of them gets there.

It runs in the controller's own process, so that what the tasks report is shown while it is waited for.
All it knows is what the running tasks say of themselves (plugins/module_utils/task_states.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import ansible.module_utils
from ansible.utils.display import Display
from botocore.exceptions import BotoCoreError, ClientError

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_session import new_client, new_session  # noqa: E402
from ansible.module_utils.platform_action import Call, PlatformAction  # noqa: E402
from ansible.module_utils.task_states import (  # noqa: E402
    LOOK_BACK_SECONDS,
    State,
    TaskStates,
    parse_time,
)

PROGRESS_SECONDS = 10
"""How often it is said that nothing new happens."""

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
        return str(self.state.status)

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
    """Looks at the tasks, and remembers when each first served the release; ``serving_at`` is by task id."""

    ecs: Any
    logs: Any
    wanted: Wanted
    start: float
    serving_at: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wanted = self.wanted
        self._states = TaskStates(self.ecs, self.logs, wanted.cluster, wanted.services, self.start, self._note)

    def look(self) -> list[Task]:
        """Return every running task with what it reported last, sorted by service and id."""
        return [Task(service, task, state, self.serving_at.get(task)) for service, task, state in self._states.look()]

    def _note(self, task: str, state: State) -> None:
        if state.release == self.wanted.release:
            self.serving_at[task] = min(state.serving_since, self.serving_at.get(task, state.serving_since))


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

    ``show`` gets a line whenever a task reports something new, and one with the time when nothing does for long. Raises
    ConvergenceError as soon as one task has refused the release, or after ``timeout`` seconds.
    """
    wanted, began = watch.wanted, clock.now()
    deadline, told = began + timeout, began
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
        now = clock.now()
        if now >= deadline:
            raise ConvergenceError(_late(tasks, wanted, timeout))
        if now - told >= PROGRESS_SECONDS:
            told = now
            late = sum(not task.serves(wanted) for task in tasks)
            show(f"  waiting for {late} of {len(tasks)} tasks ({now - began:.0f} s of at most {timeout:g} s)")
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


def _rows(tasks: Sequence[Task], wanted: Wanted) -> list[dict[str, str]]:
    return [dict(zip(COLUMNS, task.summary(wanted), strict=True)) for task in tasks]


class ActionModule(PlatformAction):  # type: ignore[misc]
    """The action ``dag_convergence``."""

    arguments = ARGUMENTS
    rules = {"required_if": [("wait", True, ("release", "published_at"))]}
    services = ("ecs", "logs")

    def perform(self, call: Call) -> dict[str, Any]:
        """Wait, show progress and the table, and return the tasks; fails as ConvergenceError says."""
        arguments = call.params
        if call.check_mode and arguments["wait"]:
            return {"skipped": True, "msg": "Nothing is published in check mode."}
        wanted = Wanted(
            release=arguments["release"] or "",
            published_at=parse_time(arguments["published_at"]) if arguments["wait"] else 0.0,
            cluster=arguments["cluster"],
            services={str(name): str(group) for name, group in arguments["services"].items()},
        )
        display, clock = Display(), SystemClock()
        try:
            session = new_session()
            ecs, logs = new_client(session, "ecs"), new_client(session, "logs")
            watch = Watch(ecs, logs, wanted, clock.now() - LOOK_BACK_SECONDS)
            if not arguments["wait"]:
                return {"tasks": _rows(watch.look(), wanted)}
            tasks = wait(watch, arguments["timeout"], arguments["poll_seconds"], clock, display.display)
        except ConvergenceError as error:
            call.fail_json(str(error))
        except (BotoCoreError, ClientError) as error:
            if not arguments["wait"]:
                call.warn(f"The running tasks cannot be read: {error}")
                return {"tasks": []}
            call.fail_json(
                f"Release {wanted.release} is published, but its tasks cannot be watched: {error}. Needed are "
                "ecs:ListTasks, ecs:DescribeTasks and logs:FilterLogEvents; or set dag_release_wait: false."
            )
        rows = _rows(tasks, wanted)
        if tasks:
            text = table(tasks, wanted)
        else:
            text = (
                f"No task of {', '.join(wanted.services)} is running in the cluster {wanted.cluster}. They serve "
                f"release {wanted.release} as soon as they start: playbooks/wake.yml if the platform hibernates, "
                "otherwise site.yml (locally `make up`)."
            )
        display.display(text)
        return {"tasks": rows, "msg": text.splitlines()}
