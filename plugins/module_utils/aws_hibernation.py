"""Putting a platform to sleep and waking it: services, NAT instance and database, in the order in which they need it.

A platform that hibernates has a tag on its cluster: the first that is set, and the last that is taken away, so that a
run that was interrupted is known for what it is and can be repeated. Nothing that holds data is removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from .aws_autoscaling import capacity_limits, hold_scaling
from .aws_database import CREATE_SECONDS, database_settings, find_instance
from .aws_ecs_cluster import HIBERNATION_TAG, find_cluster
from .aws_ecs_service import Printed, ServiceSpec, own_services, running_settings, wait_for_steady_state
from .aws_network_egress import NAT_VOLUME
from .aws_plan import PLATFORM_TAG, Plan, Refusal, refuse_foreign, tag_dict, tag_list, wait_until

DATABASE, NAT = "rds-instance", "nat-instance"
CLUSTER, SERVICE = "ecs-cluster", "ecs-service"
SCALED_SERVICE = "webserver"

_ASLEEP = ("stopping", "stopped")
_BROKEN = ("failed", "incompatible-network", "incompatible-parameters", "incompatible-restore", "storage-full")
_TASK_SECONDS = 300
_NAT_SECONDS = 600
_AGAIN = "Run this playbook again: it goes on where it was."


@dataclass(frozen=True)
class Clients:
    """The clients of AWS that are needed."""

    ecs: Any
    scaling: Any
    ec2: Any
    rds: Any


@dataclass(frozen=True)
class Platform:
    """What is put to sleep."""

    name: str
    cluster: str
    own_database: bool
    """False for an adopted one, which others use too: it is left alone."""


def why_asleep(ecs: Any, scaling: Any, cluster: str) -> str:
    """Return, as a clause, why the platform sleeps; empty if it is awake, or not there."""
    found = find_cluster(ecs, cluster)
    if found is None:
        return ""
    if since := tag_dict(found.get("tags")).get(HIBERNATION_TAG):
        return f"hibernates since {since}"
    if capacity_limits(scaling, cluster, SCALED_SERVICE).get("MaxCapacity") == 0:
        return "sleeps outside of its office hours"
    return ""


def hibernate(clients: Clients, platform: Platform, plan: Plan) -> str:
    """Stop tasks, NAT instance and database, and wait until they have stopped. Return since when it hibernates."""
    cluster = _own_cluster(clients.ecs, platform)
    database = _own_database(clients.rds, platform)
    _refuse_replicas(database)
    since = tag_dict(cluster.get("tags")).get(HIBERNATION_TAG, "")
    if not since:
        since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        mark = {HIBERNATION_TAG: since}
        plan.update(
            CLUSTER,
            platform.cluster,
            {"tags": {}},
            {"tags": mark},
            lambda: clients.ecs.tag_resource(resourceArn=cluster["clusterArn"], tags=tag_list(mark, "key", "value")),
        )
    _stop_services(clients, platform, plan)
    instances = nat_instances(clients.ec2, platform.name)
    for instance in instances:
        _stop_nat(clients.ec2, instance, plan)
    if database is not None:
        _stop_database(clients.rds, database, plan)
    if plan.check_mode:
        return since
    for instance in instances:
        wait_until(
            f"the NAT instance {instance['InstanceId']} to stop",
            lambda identifier=instance["InstanceId"]: _nat_state(clients.ec2, identifier) == "stopped",  # type: ignore[misc]
            seconds=_NAT_SECONDS,
            advice=_AGAIN,
        )
    if database is not None:
        name = database["DBInstanceIdentifier"]
        wait_until(
            f"the RDS instance {name!r} to stop",
            lambda: _database_state(clients.rds, name) == "stopped",
            seconds=CREATE_SECONDS,
            advice=_AGAIN,
        )
    return since


def start_resources(clients: Clients, platform: Platform, plan: Plan) -> None:
    """Start NAT instance and database, in this order, and wait until they can be used."""
    _own_cluster(clients.ecs, platform)
    for instance in nat_instances(clients.ec2, platform.name):
        _start_nat(clients.ec2, instance, plan)
    database = _own_database(clients.rds, platform)
    if database is not None:
        _start_database(clients.rds, database, plan)


def start_services(
    clients: Clients,
    platform: Platform,
    counts: Mapping[str, int],
    plan: Plan,
    *,
    seconds: float,
    printed: Printed = lambda *_: [],
) -> None:
    """Run at least `counts` tasks of each service again, take the mark away and wait until they are steady.

    The mark goes before the wait: what keeps a service from coming up may be something that site.yml has to correct.
    """
    cluster = _own_cluster(clients.ecs, platform)
    services = own_services(clients.ecs, platform.name, platform.cluster)
    specs = []
    for name, count in counts.items():
        if (service := services.get(name)) is None:
            continue  # site.yml makes it
        specs.append(ServiceSpec(name, service["taskDefinition"], count, (), ()))
        if service["desiredCount"] < count:
            _set_count(clients.ecs, platform.cluster, service, count, plan)
    tags = tag_dict(cluster.get("tags"))
    if HIBERNATION_TAG in tags:
        plan.update(
            CLUSTER,
            platform.cluster,
            {"tags": {HIBERNATION_TAG: tags[HIBERNATION_TAG]}},
            {"tags": {}},
            lambda: clients.ecs.untag_resource(resourceArn=cluster["clusterArn"], tagKeys=[HIBERNATION_TAG]),
        )
    if seconds > 0 and not plan.check_mode:
        wait_for_steady_state(clients.ecs, platform.cluster, specs, seconds=seconds, printed=printed)


def nat_instances(ec2: Any, platform: str) -> list[dict[str, Any]]:
    """Return the NAT instance of the platform, if it has one."""
    pages = ec2.get_paginator("describe_instances").paginate(
        Filters=[
            {"Name": f"tag:{PLATFORM_TAG}", "Values": [platform]},
            {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
        ]
    )
    return [instance for page in pages for reservation in page["Reservations"] for instance in reservation["Instances"]]


def _own_cluster(ecs: Any, platform: Platform) -> dict[str, Any]:
    found = find_cluster(ecs, platform.cluster)
    if found is None:
        raise Refusal(
            f"There is no platform {platform.name!r} in this account and region: no ECS cluster "
            f"{platform.cluster!r}. Nothing was changed. Does -i name the right inventory? site.yml makes a platform."
        )
    refuse_foreign("ECS cluster", platform.cluster, platform.name, tag_dict(found.get("tags")), "name_prefix")
    return found


def _own_database(rds: Any, platform: Platform) -> dict[str, Any] | None:
    found = find_instance(rds, platform.name) if platform.own_database else None
    if found is not None:
        refuse_foreign("RDS instance", platform.name, platform.name, tag_dict(found.get("TagList")), "name_prefix")
    return found


def _refuse_replicas(database: Mapping[str, Any] | None) -> None:
    """Refuse what RDS cannot stop; "Stopping an Amazon RDS DB instance temporarily", limitations."""
    if database is not None and (replicas := database.get("ReadReplicaDBInstanceIdentifiers")):
        raise Refusal(
            f"The RDS instance {database['DBInstanceIdentifier']!r} has read replicas ({', '.join(replicas)}), and RDS "
            "does not stop an instance that has some. Nothing was changed. Remove or promote them (aws rds "
            "promote-read-replica), then run this playbook again."
        )


def _stop_services(clients: Clients, platform: Platform, plan: Plan) -> None:
    services = own_services(clients.ecs, platform.name, platform.cluster)
    for name, service in sorted(services.items()):
        # First, or it would start them again.
        hold_scaling(clients.scaling, platform.cluster, name, plan)
        if service["desiredCount"]:
            _set_count(clients.ecs, platform.cluster, service, 0, plan)
    if services and not plan.check_mode:

        def stopped() -> bool:
            found = own_services(clients.ecs, platform.name, platform.cluster).values()
            return all(service["runningCount"] + service["pendingCount"] == 0 for service in found)

        wait_until(
            f"the tasks of {', '.join(sorted(services))} to stop",
            stopped,
            seconds=_TASK_SECONDS,
            interval=5,
            advice=_AGAIN,
        )


def _set_count(ecs: Any, cluster: str, service: Mapping[str, Any], count: int, plan: Plan) -> None:
    name = service["serviceName"]
    settings = running_settings(ecs, cluster, name)
    plan.update(
        SERVICE,
        name,
        {"desiredCount": service["desiredCount"]},
        {"desiredCount": count},
        lambda: ecs.update_service(cluster=cluster, service=name, desiredCount=count),
        unchanged={key: value for key, value in settings.items() if key != "desiredCount"},
    )


def _nat_state(ec2: Any, identifier: str) -> str:
    (reservation,) = ec2.describe_instances(InstanceIds=[identifier])["Reservations"]
    return str(reservation["Instances"][0]["State"]["Name"])


def _nat_name(instance: Mapping[str, Any]) -> str:
    return tag_dict(instance.get("Tags")).get("Name", str(instance["InstanceId"]))


def _stop_nat(ec2: Any, instance: Mapping[str, Any], plan: Plan) -> None:
    state, identifier = instance["State"]["Name"], instance["InstanceId"]
    if state in _ASLEEP:
        return

    def stop() -> None:
        wait_until(
            f"the NAT instance {identifier} to have started, so that it can be stopped",
            lambda: _nat_state(ec2, identifier) != "pending",
            seconds=_NAT_SECONDS,
            advice=_AGAIN,
        )
        ec2.stop_instances(InstanceIds=[identifier])

    plan.update(
        NAT, _nat_name(instance), {"state": state}, {"state": "stopped"}, stop, unchanged=nat_settings(instance)
    )


def _start_nat(ec2: Any, instance: Mapping[str, Any], plan: Plan) -> None:
    state, identifier = instance["State"]["Name"], instance["InstanceId"]

    def start() -> None:
        wait_until(
            f"the NAT instance {identifier} to have stopped, so that it can be started",
            lambda: _nat_state(ec2, identifier) != "stopping",
            seconds=_NAT_SECONDS,
            advice=_AGAIN,
        )
        ec2.start_instances(InstanceIds=[identifier])

    if state in _ASLEEP:
        unchanged = nat_settings(instance)
        plan.update(NAT, _nat_name(instance), {"state": state}, {"state": "running"}, start, unchanged=unchanged)
    if plan.check_mode:
        return

    def healthy() -> bool:
        answer = ec2.describe_instance_status(InstanceIds=[identifier])["InstanceStatuses"]
        return bool(answer) and all(
            answer[0][key]["Status"] in ("ok", "not-applicable") for key in ("InstanceStatus", "SystemStatus")
        )

    wait_until(
        f"the NAT instance {identifier} to pass its status checks",
        healthy,
        seconds=_NAT_SECONDS,
        advice=f"Look at its console: aws ec2 get-console-output --instance-id {identifier}",
    )


def nat_settings(instance: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the price of a NAT instance depends on, besides its state."""
    return {"instance_type": instance["InstanceType"], "volume_gib": NAT_VOLUME["VolumeSize"]}


def _database_state(rds: Any, name: str) -> str:
    found = find_instance(rds, name)
    if found is None:
        raise Refusal(f"The RDS instance {name!r} disappeared while it was waited for. {_AGAIN}")
    state = str(found["DBInstanceStatus"])
    if state in _BROKEN:
        raise Refusal(
            f"The RDS instance {name!r} is in state {state!r}, which does not pass by waiting. See `aws rds "
            f"describe-events --source-type db-instance --source-identifier {name}` for the reason."
        )
    return state


def _stop_database(rds: Any, found: Mapping[str, Any], plan: Plan) -> None:
    state, name = found["DBInstanceStatus"], found["DBInstanceIdentifier"]
    if state in _ASLEEP:
        return

    def stop() -> None:
        # RDS stops one that is available, and no other: not while it takes a backup or is being changed.
        wait_until(
            f"the RDS instance {name!r}, which is {state}, to become available, so that it can be stopped",
            lambda: _database_state(rds, name) in ("available", *_ASLEEP),
            seconds=CREATE_SECONDS,
            advice=_AGAIN,
        )
        if _database_state(rds, name) == "available":
            rds.stop_db_instance(DBInstanceIdentifier=name)

    plan.update(
        DATABASE,
        name,
        {"DBInstanceStatus": state},
        {"DBInstanceStatus": "stopped"},
        stop,
        unchanged=database_settings(found),
    )


def _start_database(rds: Any, found: Mapping[str, Any], plan: Plan) -> None:
    state, name = found["DBInstanceStatus"], found["DBInstanceIdentifier"]
    wait = partial(wait_until, seconds=CREATE_SECONDS, advice=_AGAIN)

    def start() -> None:
        wait(
            f"the RDS instance {name!r} to have stopped, so that it can be started",
            lambda: _database_state(rds, name) != "stopping",
        )
        rds.start_db_instance(DBInstanceIdentifier=name)

    if state in _ASLEEP:
        plan.update(
            DATABASE,
            name,
            {"DBInstanceStatus": state},
            {"DBInstanceStatus": "available"},
            start,
            unchanged=database_settings(found),
        )
    if not plan.check_mode:
        wait(
            f"the RDS instance {name!r} to become available",
            lambda: _database_state(rds, name) not in ("creating", "starting", *_ASLEEP),
        )
