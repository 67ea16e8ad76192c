"""What is wrong with a platform, and one screen that shows how it is; from what platform_status.py has read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GIB = 1024**3
_ERROR_LINES = 5
"""Lines of a traceback that are shown: its end says what went wrong."""
_ERROR_LENGTH = 200
"""Characters of such a line."""
_SETTLING_SECONDS = 180.0
"""Time in which a task that has just started, or a release that was just published, need not be right yet."""


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be, in one line, and what to do about it."""

    what: str
    next: str
    details: tuple[str, ...] = ()
    """Further lines: the end of a traceback, what AWS says."""

    def as_json(self) -> dict[str, Any]:
        """Return it for scripts."""
        return {"what": self.what, "next": self.next, "details": list(self.details)}


@dataclass(frozen=True)
class Limits:
    """From when on something is a problem."""

    heartbeat_seconds: float = 300.0
    """Daemons report every 30 s."""
    queued_seconds: float = 3600.0
    free_storage: float = 0.1
    """Part of the database's storage."""


Commands = Mapping[str, str]
"""What to type: apply, wake, logs, deploy, history, doctor, policy."""


def find_problems(status: Mapping[str, Any], commands: Commands, limits: Limits) -> list[Problem]:
    """Return everything that is wrong, what explains the most first."""
    if status["asleep"]:
        # Everything else follows from it.
        asleep = Problem(f"the platform {status['asleep']}: no task runs, all data is kept.", commands["wake"])
        return [*_unread(status, commands, limits), asleep]
    checks = (_unread, _services, _targets, _errors, _tasks, _rollouts_of_releases, _daemons_and_runs, _data)
    return [problem for check in checks for problem in check(status, commands, limits)]


def _unread(status: Mapping[str, Any], commands: Commands, _limits: Limits) -> Iterator[Problem]:
    for name, why in status["unread"].items():
        yield Problem(f"{name}: cannot be read. {why}", commands["doctor"])


def _services(status: Mapping[str, Any], commands: Commands, _limits: Limits) -> Iterator[Problem]:
    services = status["services"] or []
    if services and all(service["status"] == "MISSING" for service in services):
        yield Problem("there are no services: the platform was not made yet, or was destroyed.", commands["apply"])
        return
    for service in services:
        name, reasons = service["name"], tuple(service["reasons"])
        if service["status"] == "MISSING":
            yield Problem(f"service {name}: it does not exist.", commands["apply"])
        elif service["rollout"] == "FAILED":
            yield Problem(f"service {name}: the rollout has failed.", commands["logs"], reasons)
        elif service["desired"] == 0:
            yield Problem(f"service {name}: it is told to run no task.", commands["wake"])
        elif service["running"] < service["desired"]:
            yield Problem(
                f"service {name}: {service['running']} of {service['desired']} tasks run.", commands["logs"], reasons
            )


def _targets(status: Mapping[str, Any], commands: Commands, _limits: Limits) -> Iterator[Problem]:
    for service in status["services"] or []:
        targets = service.get("targets") or {}
        if count := targets.get("unhealthy", 0):
            yield Problem(
                f"service {service['name']}: {count} of {sum(targets.values())} targets are unhealthy for the load "
                "balancer.",
                commands["logs"],
                tuple(service["target_reasons"]),
            )


def _errors(status: Mapping[str, Any], commands: Commands, _limits: Limits) -> Iterator[Problem]:
    """Tasks that refuse the same release, or have the same trouble, are one problem."""
    alike: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for task in status["tasks"] or []:
        if task["error"]:
            alike.setdefault((str(task["state"]), str(task["rejected"] or "")), []).append(task)
    for (state, rejected), tasks in alike.items():
        lines = [_cut(line) for line in str(tasks[0]["error"]).strip().splitlines() if line.strip()]
        names = ", ".join(f"{task['service']} {task['task'][:8]}" for task in tasks)
        served = ", ".join(sorted({str(task["release"]) for task in tasks if task["release"]})) or "nothing yet"
        what = (
            f"release {rejected} is refused by {names}" if state == "rejected" else f"tasks that are {state}: {names}"
        )
        yield Problem(
            f"{what} (serving {served}): {lines[-1] if lines else 'no reason given'}",
            commands["deploy"] if state == "rejected" else commands["logs"],
            tuple(lines[-_ERROR_LINES:-1]),
        )


def _cut(line: str) -> str:
    return line if len(line) <= _ERROR_LENGTH else f"{line[: _ERROR_LENGTH - 1]}…"


def _tasks(status: Mapping[str, Any], commands: Commands, _limits: Limits) -> Iterator[Problem]:
    for task in status["tasks"] or []:
        name = f"task {task['service']} {task['task'][:8]}"
        young = task["age_seconds"] is None or task["age_seconds"] < _SETTLING_SECONDS
        if task["error"]:
            continue
        if task["state"] is None and status["unread"].get("logs") is None and not young:
            yield Problem(f"{name}: it has said nothing of its release for minutes.", commands["logs"])
        elif task["state"] in ("stale", "waiting") and not young:
            yield Problem(f"{name} is {task['state']}.", commands["logs"])
        if task["health"] == "UNHEALTHY":
            yield Problem(f"{name} is unhealthy; ECS will replace it.", commands["logs"])


def _rollouts_of_releases(status: Mapping[str, Any], commands: Commands, _limits: Limits) -> Iterator[Problem]:
    current = next((entry for entry in status["deploys"] or [] if entry["current"]), None)
    if current is None or current.get("age_seconds", _SETTLING_SECONDS) < _SETTLING_SECONDS:
        return
    behind = [
        task
        for task in status["tasks"] or []
        if task["release"] not in (None, current["release"]) and not task["error"]
    ]
    for task in behind:
        yield Problem(
            f"task {task['service']} {task['task'][:8]} serves {task['release']}, but {current['release']} is current.",
            commands["logs"],
        )


def _daemons_and_runs(status: Mapping[str, Any], commands: Commands, limits: Limits) -> Iterator[Problem]:
    state = status["daemons_and_runs"]
    if state is None:
        return
    # The largest of those that this instance needs; others may have stopped long ago, and rightly.
    age = state["daemon_heartbeat_age_seconds"]
    if age is not None and age > limits.heartbeat_seconds:
        late = [
            name for name, each in sorted(state["daemon_heartbeats"].items()) if (each or 0) > limits.heartbeat_seconds
        ]
        names = f" ({', '.join(late)})" if late else ""
        yield Problem(
            f"daemons: the last heartbeat of one that is needed is {duration(age)} old{names}.", commands["logs"]
        )
    oldest = state["oldest_queued_seconds"]
    if oldest is not None and oldest > limits.queued_seconds:
        yield Problem(f"runs: the oldest waits in the queue for {duration(oldest)}.", commands["logs"])
    said = any(task["error"] for task in status["tasks"] or [])
    if state["code_location_errors"] and not said:
        yield Problem(f"code locations: {state['code_location_errors']} cannot be loaded.", commands["logs"])


def _data(status: Mapping[str, Any], commands: Commands, limits: Limits) -> Iterator[Problem]:
    database = status["database"]
    if database is not None:
        stopped = database["status"] in ("stopped", "stopping")
        if database["status"] not in (
            "available",
            "backing-up",
            "configuring-enhanced-monitoring",
            "storage-optimization",
        ):
            yield Problem(
                f"database {database['identifier']}: it is {database['status']}.",
                commands["wake"] if stopped else commands["doctor"],
            )
        free = database["free_bytes"]
        if free is not None and free < limits.free_storage * database["allocated_gib"] * GIB:
            # RDS grows by itself up to the limit.
            grows = database["max_gib"] and database["max_gib"] > database["allocated_gib"]
            if not grows:
                yield Problem(
                    f"database {database['identifier']}: {size(free)} of {database['allocated_gib']} GiB are free.",
                    f"raise rds_storage or rds_max_storage, then {commands['apply']}",
                )
    elif "database" not in status["unread"] and any(each["status"] != "MISSING" for each in status["services"] or []):
        yield Problem("database: it does not exist.", commands["apply"])


def duration(seconds: float | None) -> str:
    """Return a time span for people: the largest unit that gives at least two of it."""
    if seconds is None:
        return "-"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(count: float | None) -> str:
    """Return a number of bytes for people."""
    if count is None:
        return "-"
    for unit, factor in (("GiB", GIB), ("MiB", 1024**2), ("KiB", 1024)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"


Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]
"""Title, heading and rows."""


def tables(status: Mapping[str, Any]) -> list[Table]:
    """Return the tables of the screen; one without rows is left out."""
    found: list[Table] = [
        (
            "Processes of the embedded default",
            ("process", "pid", "port", "health"),
            [(each["name"], _or_dash(each["pid"]), str(each["port"]), each["health"]) for each in status["processes"]],
        ),
        (
            "Services",
            ("service", "status", "desired", "running", "pending", "rollout", "since", "revision", "load balancer"),
            [_service_row(service) for service in status["services"] or []],
        ),
        (
            "Tasks",
            ("service", "task", "status", "health", "up", "revision", "release", "state", "served for", "S3 read ago"),
            [_task_row(task) for task in status["tasks"] or []],
        ),
    ]
    if status["deploys"]:
        several = any(entry["repository"] for entry in status["deploys"])
        rows: list[tuple[str, ...]] = [
            (
                entry["published_at"][:19].replace("T", " "),
                _or_dash(entry["release"]),
                *([_or_dash(entry["repository"])] if several else []),
                _or_dash(entry["author"]),
                _or_dash((entry["git_revision"] or "")[:8]),
                "current" if entry["current"] else "",
                "" if entry["what"] == "release" else entry["what"],
            )
            for entry in status["deploys"]
        ]
        repository = ["repository"] if several else []
        found.append(("Last deploys", ("when (UTC)", "release", *repository, "who", "git", "", ""), rows))
    return [table for table in found if table[2]]


def _service_row(service: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        service["name"],
        service["status"],
        *(str(service[name]) for name in ("desired", "running", "pending")),
        service["rollout"] or "-",
        duration(service.get("rollout_age_seconds")),
        service.get("revision", "-"),
        ", ".join(f"{count} {state}" for state, count in (service.get("targets") or {}).items()) or "-",
    )


def _task_row(task: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        task["service"],
        task["task"][:8],
        task["status"],
        task["health"],
        duration(task["age_seconds"]),
        task["revision"],
        _or_dash(task["release"]),
        task["state"] or "not reported yet",
        duration(task["release_age_seconds"]),
        duration(task["sync_age_seconds"]),
    )


def facts(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is said in a line each: name and value."""
    state, database, system = (status[name] for name in ("daemons_and_runs", "database", "file_system"))
    if state is None:
        lines = [("Daemons", "not reported yet"), ("Runs", "not reported yet")]
    else:
        beats = state["daemon_heartbeats"]
        said = ", ".join(
            f"{name} {duration(age)}" if age is not None else f"{name} never" for name, age in sorted(beats.items())
        )
        oldest = state["oldest_queued_seconds"]
        lines = [
            (
                "Daemons",
                f"last heartbeats {said} ago" if said else f"{duration(state['daemon_heartbeat_age_seconds'])} ago",
            ),
            (
                "Runs",
                f"{_or_dash(state['runs_queued'])} queued{f' (the oldest for {duration(oldest)})' if oldest else ''}, "
                f"{_or_dash(state['runs_in_progress'])} in progress, {_or_dash(state['run_failures'])} failed in the "
                "last minute",
            ),
        ]
    if database:
        limit = f", grows up to {database['max_gib']} GiB" if database["max_gib"] else ""
        free = f", {size(database['free_bytes'])} free" if database["free_bytes"] is not None else ""
        lines.append(
            (
                "Database",
                f"{database['identifier']} ({database['class']}) {database['status']}, {database['allocated_gib']} GiB"
                f"{free}{limit}",
            )
        )
    if system:
        lines.append(("Files (EFS)", f"{system['id']} {system['status']}, {size(system['size_bytes'])}"))
    return lines


def with_ages(deploys: Sequence[Mapping[str, Any]], moment: float, parse: Any) -> list[dict[str, Any]]:
    """Return the entries of the history with `age_seconds`."""
    return [{**entry, "age_seconds": round(moment - parse(entry["published_at"]), 1)} for entry in deploys]


def _or_dash(value: Any) -> str:
    return "-" if value in (None, "") else str(value)
