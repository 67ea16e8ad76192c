"""What runs of a platform, read from AWS: services, tasks, what they say of themselves, data, the last deploys.

Each part is read for itself, so that one that cannot be read does not hide the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from .aws_ecs_service import primary_state, stopped_task_reasons
from .aws_hibernation import why_asleep
from .aws_plan import PLATFORM_TAG, tag_dict
from .aws_reading import Reader, ReadingError
from .dag_history import describe, read_history
from .dag_publish import PublishError, create_store, explained
from .log_lines import harmless, newest

LOOK_BACK_SECONDS = 180.0
"""How far back log lines are read: tasks repeat what they say every 60 s."""
_EVENTS_SHOWN = 3
_STARTED_EVENT_SECONDS = 3600
"""Older events of a service are history."""


@dataclass(frozen=True)
class StatusSpec:
    """What belongs to the platform. ``services`` names the log group of each ECS service."""

    platform: str
    cluster: str
    services: Mapping[str, str]
    database: str
    bucket: str
    prefix: str
    follows_releases: bool
    """Whether containers follow releases, which have a history, and not a tree."""
    deploys: int
    """Entries of the history to show."""


def read_status(reader: Reader, spec: StatusSpec, now: float) -> dict[str, Any]:
    """Return everything that is known, as JSON values; what could not be read is None, with why in ``unread``.

    ``now`` is in seconds since 1970, and all ages are as of then.
    """
    unread: dict[str, str] = {}

    def part(name: str, read: Callable[[], Any]) -> Any:
        try:
            with reader.explained():
                return read()
        except (ReadingError, PublishError) as error:
            unread[name] = str(error)
            return None

    asleep = part(
        "sleep",
        lambda: why_asleep(reader.client("ecs"), reader.client("application-autoscaling"), spec.cluster),
    )
    services = part("services", lambda: read_services(reader.client("ecs"), spec, now))
    part("targets", lambda: add_targets(services or [], reader.client("elbv2")))
    tasks = part("tasks", lambda: read_tasks(reader.client("ecs"), spec, now))
    said = part("logs", lambda: _read_said(reader.client("logs"), spec, now))
    add_states(tasks or [], said[0] if said else {}, now)
    return {
        "asleep": asleep,
        "services": services,
        "tasks": tasks,
        "daemons_and_runs": platform_state(said[1], now) if said else None,
        "database": part("database", lambda: read_database(reader, spec.database, now)),
        "file_system": part("file_system", lambda: read_file_system(reader.client("efs"), spec.platform)),
        "deploys": part("deploys", lambda: _read_deploys(spec)) if spec.follows_releases else None,
        "unread": unread,
    }


def read_services(ecs: Any, spec: StatusSpec, now: float) -> list[dict[str, Any]]:
    """Return each service of the platform; one that does not exist has the status MISSING."""
    try:
        answer = ecs.describe_services(cluster=spec.cluster, services=list(spec.services))
    except ecs.exceptions.ClusterNotFoundException:
        answer = {"services": []}
    found = {service["serviceName"]: service for service in answer["services"] if service["status"] != "INACTIVE"}
    return [_service(ecs, spec.cluster, name, found.get(name), now) for name in sorted(spec.services)]


def _service(ecs: Any, cluster: str, name: str, service: Mapping[str, Any] | None, now: float) -> dict[str, Any]:
    if service is None:
        return {
            "name": name,
            "status": "MISSING",
            "desired": 0,
            "running": 0,
            "pending": 0,
            "rollout": "",
            "reasons": [],
            "target_group": "",
        }
    failed = [item for item in service.get("deployments", []) if item.get("rolloutState") == "FAILED"]
    primary: Mapping[str, Any] = next(
        (item for item in service.get("deployments", []) if item["status"] == "PRIMARY"), {}
    )
    reasons = [str(item.get("rolloutStateReason", "a deployment failed")) for item in failed]
    if failed or service["runningCount"] < service["desiredCount"]:
        recent = [
            event["message"]
            for event in service.get("events", [])
            if now - event["createdAt"].timestamp() < _STARTED_EVENT_SECONDS
        ]
        reasons += [*recent[:_EVENTS_SHOWN], *(f"stopped: {why}" for why in stopped_task_reasons(ecs, cluster, name))]
    return {
        "name": name,
        "status": str(service["status"]),
        "desired": int(service["desiredCount"]),
        "running": int(service["runningCount"]),
        "pending": int(service["pendingCount"]),
        # The emulator knows no state of a rollout.
        "rollout": "FAILED" if failed else primary_state(service) or "COMPLETED",
        "rollout_age_seconds": _age(primary.get("updatedAt") or primary.get("createdAt"), now),
        "revision": service["taskDefinition"].rpartition("/")[2],
        "reasons": reasons,
        "target_group": next((each["targetGroupArn"] for each in service.get("loadBalancers", [])), ""),
    }


def add_targets(services: Sequence[dict[str, Any]], elbv2: Any) -> None:
    """Add to each service its targets at the load balancer, by state: `healthy`, `initial`, `unhealthy`, ...

    Empty without a load balancer, and where ECS has registered nothing yet. States: Elastic Load Balancing API
    Reference, TargetHealth. What is unhealthy comes with why, in ``target_reasons``.
    """
    for service in services:
        answer: Mapping[str, Any] = {"TargetHealthDescriptions": []}
        if service["target_group"]:
            answer = elbv2.describe_target_health(TargetGroupArn=service["target_group"])
        found = [each["TargetHealth"] for each in answer["TargetHealthDescriptions"]]
        service["targets"] = dict(sorted(Counter(each["State"] for each in found).items()))
        service["target_reasons"] = sorted(
            {str(each.get("Description") or each.get("Reason")) for each in found if each["State"] == "unhealthy"}
        )


def read_tasks(ecs: Any, spec: StatusSpec, now: float) -> list[dict[str, Any]]:
    """Return the tasks that should run, by service and id."""
    try:
        pages = ecs.get_paginator("list_tasks").paginate(cluster=spec.cluster, desiredStatus="RUNNING")
        arns = [arn for page in pages for arn in page["taskArns"]]
    except ecs.exceptions.ClusterNotFoundException:
        return []
    found = []
    for start in range(0, len(arns), 100):
        for task in ecs.describe_tasks(cluster=spec.cluster, tasks=arns[start : start + 100])["tasks"]:
            service = task.get("group", "").removeprefix("service:")
            if service in spec.services:
                found.append(
                    {
                        "service": service,
                        "task": task["taskArn"].rpartition("/")[2],
                        "status": task["lastStatus"],
                        "health": task.get("healthStatus", "UNKNOWN"),
                        "revision": task["taskDefinitionArn"].rpartition("/")[2],
                        "age_seconds": _age(task.get("startedAt") or task.get("createdAt"), now),
                    }
                )
    return sorted(found, key=lambda task: (task["service"], task["task"]))


def _read_said(logs: Any, spec: StatusSpec, now: float) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Return the last release_state and platform_state lines, by task."""
    states: dict[str, dict[str, Any]] = {}
    platform: dict[str, dict[str, Any]] = {}
    for group in sorted(set(spec.services.values())):
        states |= newest(logs, group, "release_state", start=now - LOOK_BACK_SECONDS)
        platform |= newest(logs, group, "platform_state", start=now - LOOK_BACK_SECONDS)
    return states, platform


def add_states(tasks: Sequence[dict[str, Any]], states: Mapping[str, Mapping[str, Any]], now: float) -> None:
    """Add to each task what it said last: release, state, error, how long it serves; None where it said nothing yet."""
    for task in tasks:
        said = states.get(task["task"], {})
        since = now - float(said.get("at", now))
        task |= {
            "release": said.get("release"),
            "state": said.get("status"),
            "rejected": said.get("rejected"),
            "error": harmless(str(said["error"])) if said.get("error") else None,
            "release_age_seconds": _plus(said.get("release_age_seconds"), since),
            "sync_age_seconds": _plus(said.get("sync_age_seconds"), since),
        }


def platform_state(said: Mapping[str, Mapping[str, Any]], now: float) -> dict[str, Any] | None:
    """Return what a task said last of daemons and runs; None if none has in the last minutes."""
    line = max(said.values(), key=lambda each: float(each["at"]), default=None)
    if line is None:
        return None
    since = now - float(line["at"])
    daemons = line.get("daemon_heartbeats")
    return {
        "age_seconds": round(since, 1),
        "daemon_heartbeat_age_seconds": _plus(line.get("daemon_heartbeat_age_seconds"), since),
        "daemon_heartbeats": {
            str(name): _plus(age, since) for name, age in (daemons if isinstance(daemons, Mapping) else {}).items()
        },
        "runs_queued": line.get("runs_queued"),
        "runs_in_progress": line.get("runs_in_progress"),
        "run_failures": line.get("run_failures"),
        "oldest_queued_seconds": _plus(line.get("oldest_queued_seconds"), since),
        "code_location_errors": line.get("code_location_errors"),
    }


def read_database(reader: Reader, identifier: str, now: float) -> dict[str, Any] | None:
    """Return size and state of the database; None if there is none. ``free_bytes`` is None if nobody measured it."""
    rds = reader.client("rds")
    try:
        (instance,) = rds.describe_db_instances(DBInstanceIdentifier=identifier)["DBInstances"]
    except rds.exceptions.DBInstanceNotFoundFault:
        return None
    end = datetime.fromtimestamp(now, UTC)
    points = reader.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/RDS",
        MetricName="FreeStorageSpace",
        Dimensions=[{"Name": "DBInstanceIdentifier", "Value": identifier}],
        StartTime=end - timedelta(minutes=30),
        EndTime=end,
        Period=300,
        Statistics=["Minimum"],
    )["Datapoints"]
    latest = max(points, key=lambda point: point["Timestamp"], default=None)
    return {
        "identifier": identifier,
        "status": instance["DBInstanceStatus"],
        "class": instance["DBInstanceClass"],
        "allocated_gib": int(instance["AllocatedStorage"]),
        "max_gib": instance.get("MaxAllocatedStorage"),
        "free_bytes": None if latest is None else int(latest["Minimum"]),
    }


def read_file_system(efs: Any, platform: str) -> dict[str, Any] | None:
    """Return size and state of the file system; None if there is none."""
    systems = [
        system
        for page in efs.get_paginator("describe_file_systems").paginate()
        for system in page["FileSystems"]
        if tag_dict(system.get("Tags")).get(PLATFORM_TAG) == platform and system["LifeCycleState"] != "deleted"
    ]
    if not systems:
        return None
    system = systems[0]
    return {
        "id": system["FileSystemId"],
        "status": system["LifeCycleState"],
        "size_bytes": int(system.get("SizeInBytes", {}).get("Value", 0)),
    }


def _read_deploys(spec: StatusSpec) -> list[dict[str, Any]]:
    with explained(spec.bucket):
        store = create_store(spec.bucket, spec.prefix)
        return describe(read_history(store, spec.deploys), spec.deploys)


def _age(moment: Any, now: float) -> float | None:
    return None if moment is None else round(max(0.0, now - moment.timestamp()), 1)


def _plus(value: Any, seconds: float) -> float | None:
    """Return an age that was right so many seconds ago; None if it is no number."""
    return round(float(value) + seconds, 1) if isinstance(value, int | float) and not isinstance(value, bool) else None
