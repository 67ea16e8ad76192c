"""Services of ECS: creating, correcting drift, waiting for a rollout and saying why it failed, removing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .aws_ecs_cluster import find_cluster, with_service_role
from .aws_plan import (
    PLATFORM_TAG,
    PROGRESS_SECONDS,
    Plan,
    Refusal,
    error_code,
    platform_tags,
    refuse_foreign,
    report_progress,
    tag_dict,
    tag_list,
    wait_until,
)

KIND = "ecs-service"
POLL_SECONDS = 5.0

# DescribeServices and DescribeTasks take so many at a time.
_SERVICES_PER_CALL = 10
_STOPPED_TASKS_SHOWN = 3
_EVENTS_SHOWN = 5

Printed = Callable[[str, str], Sequence[str]]
"""Returns the last lines of the log of a task: names the service and the task's id."""

_STARTS_NEW_TASKS = frozenset({"capacityProviderStrategy", "enableExecuteCommand"})
"""Settings that UpdateService accepts, or that mean anything, only together with forceNewDeployment."""


@dataclass(frozen=True)
class LoadBalancerTarget:
    """The target group that a service registers its tasks with."""

    target_group_arn: str
    container_name: str
    container_port: int


@dataclass(frozen=True)
class ServiceSpec:
    """What one service should look like. Percentages are of the desired count; periods are in seconds."""

    name: str
    task_definition: str
    desired_count: int
    subnet_ids: tuple[str, ...]
    security_group_ids: tuple[str, ...]
    autoscaled: bool = False
    """True if something else moves the desired count once the service exists."""
    assign_public_ip: bool = False
    capacity_provider: str = "FARGATE"
    platform_version: str = "1.4.0"
    execute_command: bool = False
    minimum_healthy_percent: int = 100
    maximum_percent: int = 200
    health_check_grace_seconds: int = 0
    load_balancer: LoadBalancerTarget | None = None
    size: Mapping[str, Any] | None = None
    """What `task_size` returns of `task_definition`, which may not be registered yet; for the plan's prices only."""
    tags: Mapping[str, str] = field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        """Return everything that CreateService and UpdateService share and that drift is looked for in."""
        settings: dict[str, Any] = {
            "taskDefinition": self.task_definition,
            "capacityProviderStrategy": [{"capacityProvider": self.capacity_provider, "weight": 1, "base": 0}],
            "platformVersion": self.platform_version,
            "deploymentConfiguration": {
                "deploymentCircuitBreaker": {"enable": True, "rollback": True},
                "maximumPercent": self.maximum_percent,
                "minimumHealthyPercent": self.minimum_healthy_percent,
            },
            # Rebalancing would start a task beside the running one whenever it sees fit, also a second daemon.
            "availabilityZoneRebalancing": "DISABLED",
            "networkConfiguration": {
                "awsvpcConfiguration": {
                    "subnets": sorted(self.subnet_ids),
                    "securityGroups": sorted(self.security_group_ids),
                    "assignPublicIp": "ENABLED" if self.assign_public_ip else "DISABLED",
                }
            },
            "enableExecuteCommand": self.execute_command,
            "enableECSManagedTags": True,
            "propagateTags": "SERVICE",
            "loadBalancers": [],
        }
        if self.load_balancer:
            settings["loadBalancers"] = [
                {
                    "targetGroupArn": self.load_balancer.target_group_arn,
                    "containerName": self.load_balancer.container_name,
                    "containerPort": self.load_balancer.container_port,
                }
            ]
            settings["healthCheckGracePeriodSeconds"] = self.health_check_grace_seconds
        return settings


def service_spec(options: Mapping[str, Any], tags: Mapping[str, str]) -> ServiceSpec:
    """Return one element of the option `services` of the module ecs_services as a `ServiceSpec`."""
    target = options["load_balancer"]
    converted = {
        "subnet_ids": tuple(options["subnet_ids"]),
        "security_group_ids": tuple(options["security_group_ids"]),
        "load_balancer": LoadBalancerTarget(**target) if target else None,
        "tags": tags,
    }
    return ServiceSpec(**{**options, **converted})


def ensure_services(
    ecs: Any,
    platform: str,
    cluster: str,
    specs: Sequence[ServiceSpec],
    plan: Plan,
    *,
    steady_seconds: float,
    poll_seconds: float = POLL_SECONDS,
    limits: Callable[[str], Mapping[str, Any]] = lambda _: {},
    printed: Printed = lambda *_: [],
    force: bool = False,
) -> None:
    """Bring the services to the state of `specs`, all at once, then wait until all are steady.

    `steady_seconds` is the deadline for all of them together; 0 does not wait. A service that is not steady although
    nothing was changed is waited for as well: its rollout may be one that an interrupted run has started. `limits`
    returns the limits of the autoscaling of a service; it is called for one that changes. `printed` is asked for the
    log of a task that has stopped. With `force` all tasks are replaced, also where nothing differs; services that do
    not exist are refused then.
    """
    existing = _describe(ecs, cluster, [spec.name for spec in specs]) if find_cluster(ecs, cluster) else {}
    missing = [spec.name for spec in specs if existing.get(spec.name, {}).get("status") != "ACTIVE"]
    if force and missing:
        raise Refusal(
            f"The ECS services {', '.join(missing)} are not in the cluster {cluster!r}, so that there is nothing to "
            "roll. Run site.yml first, which makes them; then run this playbook again."
        )
    for spec in specs:
        found = existing.get(spec.name)
        if found is None or found["status"] == "INACTIVE":
            _create(ecs, platform, cluster, spec, plan)
        elif found["status"] == "DRAINING":
            _wait_for_removal(ecs, cluster, [spec.name], seconds=steady_seconds or 300, poll_seconds=poll_seconds)
            _create(ecs, platform, cluster, spec, plan)
        else:
            _keep(ecs, platform, cluster, spec=spec, found=found, plan=plan, limits=limits, force=force)
    if steady_seconds > 0 and not plan.check_mode:
        wait_for_steady_state(ecs, cluster, specs, seconds=steady_seconds, poll_seconds=poll_seconds, printed=printed)


def remove_services(
    ecs: Any, platform: str, cluster: str, plan: Plan, *, seconds: float = 300, poll_seconds: float = POLL_SECONDS
) -> None:
    """Remove every service of the platform in the cluster: no tasks first, then the service itself."""
    if find_cluster(ecs, cluster) is None:
        return
    ours = own_services(ecs, platform, cluster)
    for name, service in sorted(ours.items()):

        def delete(name: str = name, draining: bool = service["status"] == "DRAINING") -> None:
            if not draining:
                ecs.update_service(cluster=cluster, service=name, desiredCount=0)
                # force: the deployment may not have noticed yet that its service is scaled to zero.
                ecs.delete_service(cluster=cluster, service=name, force=True)

        plan.remove(
            KIND, name, {"desiredCount": service["desiredCount"]}, delete, unchanged=_settings_with_price(ecs, service)
        )
    if ours and not plan.check_mode:
        _wait_for_removal(ecs, cluster, sorted(ours), seconds=seconds, poll_seconds=poll_seconds)


def own_services(ecs: Any, platform: str, cluster: str) -> dict[str, dict[str, Any]]:
    """Return the platform's services in a cluster by name, as ECS describes them."""
    arns = [arn for page in ecs.get_paginator("list_services").paginate(cluster=cluster) for arn in page["serviceArns"]]
    return {
        name: service
        for name, service in _describe(ecs, cluster, arns).items()
        if service["status"] != "INACTIVE" and tag_dict(service.get("tags")).get(PLATFORM_TAG) == platform
    }


def wait_for_steady_state(
    ecs: Any,
    cluster: str,
    specs: Sequence[ServiceSpec],
    *,
    seconds: float,
    poll_seconds: float = POLL_SECONDS,
    printed: Printed = lambda *_: [],
) -> None:
    """Wait until every service runs what it should, and say every half minute how far they are.

    Raise `Refusal` with the reason when one fails or is too slow.
    """
    begin = reported = time.monotonic()
    deadline = begin + seconds
    suspected: dict[str, str] = {}
    while True:
        services = _describe(ecs, cluster, [spec.name for spec in specs])
        waiting, suspects = [], {}
        for spec in specs:
            service = services.get(spec.name)
            failure = rollout_failure(service, spec.task_definition) if service else "it disappeared"
            if failure:
                # ECS is eventually consistent: right after a change it may still describe what was before. What it
                # says twice in a row is true.
                suspects[spec.name] = failure
                if suspected.get(spec.name) == failure:
                    raise Refusal(_verdict(ecs, cluster, spec.name, service, failure, printed=printed))
            if service is None or failure or not is_steady(service, spec.task_definition):
                waiting.append((spec.name, service))
        suspected = suspects
        if not waiting:
            return
        now = time.monotonic()
        if reported == begin or now - reported >= PROGRESS_SECONDS:
            states = "; ".join(progress_of(name, service) for name, service in waiting)
            report_progress(f"waiting for the ECS services ({now - begin:.0f} s of at most {seconds:.0f} s): {states}")
            reported = now
        if now >= deadline:
            late = f"it is not steady after {seconds:.0f} s"
            raise Refusal(
                "\n".join(
                    _verdict(ecs, cluster, name, service, suspected.get(name, late), printed=printed)
                    for name, service in waiting
                )
                + "\nIf it only needs more time, raise ecs_steady_seconds and run this playbook again."
            )
        time.sleep(poll_seconds)


def progress_of(name: str, service: Mapping[str, Any] | None) -> str:
    """Return, as a phrase, how far a service is that is waited for."""
    if service is None:
        return f"{name} is not there"
    text = f"{name} has {service['runningCount']} of {service['desiredCount']} tasks running"
    if service["pendingCount"]:
        text += f", {service['pendingCount']} starting"
    deployments = service.get("deployments", [])
    failed = sum(int(item.get("failedTasks", 0)) for item in deployments if item["status"] == "PRIMARY")
    return text + (", replaces old ones" if len(deployments) > 1 else "") + (f", {failed} failed" if failed else "")


def is_steady(service: Mapping[str, Any], task_definition: str) -> bool:
    """Tell whether the one deployment that is left has completed with all its tasks running."""
    deployments = service.get("deployments", [])
    return (
        len(deployments) == 1
        and service["taskDefinition"] == task_definition
        and deployments[0].get("rolloutState", "COMPLETED") == "COMPLETED"
        and service["runningCount"] == service["desiredCount"]
        and service["pendingCount"] == 0
    )


def primary_state(service: Mapping[str, Any]) -> str:
    """Return the rollout state of the deployment that is being rolled out, or was last."""
    states = [item.get("rolloutState", "") for item in service.get("deployments", []) if item["status"] == "PRIMARY"]
    return str(states[0]) if states else ""


def rollout_failure(service: Mapping[str, Any], task_definition: str) -> str:
    """Return why the rollout of `task_definition` has failed for good; an empty string if it has not."""
    for deployment in service.get("deployments", []):
        # An older deployment of the same revision may be there still, after a new one was forced.
        ours = deployment["taskDefinition"] == task_definition
        if ours and deployment["status"] == "PRIMARY" and deployment.get("rolloutState") == "FAILED":
            return str(deployment.get("rolloutStateReason", "its deployment failed"))
    if service["taskDefinition"] != task_definition:
        return (
            f"it was rolled back to {_short(service['taskDefinition'])}, because {_short(task_definition)} did not "
            "come up"
        )
    return ""


def service_drift(service: Mapping[str, Any], spec: ServiceSpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings that differ, as they are and as they should be."""
    wanted = spec.settings()
    current = _current_settings(service)
    if not spec.autoscaled:
        wanted["desiredCount"] = spec.desired_count
    changed = {key: value for key, value in wanted.items() if current.get(key) != value}
    return {key: current.get(key) for key in changed}, changed


def _current_settings(service: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a described service in the form of `ServiceSpec.settings`.

    AWS adds members to nested structures over time (deployment strategy, alarms, lifecycle hooks, ...); only those that
    are ours are compared.
    """
    network = service.get("networkConfiguration", {}).get("awsvpcConfiguration", {})
    deployment = service.get("deploymentConfiguration", {})
    breaker = deployment.get("deploymentCircuitBreaker", {})
    return {
        "taskDefinition": service.get("taskDefinition"),
        "desiredCount": service.get("desiredCount"),
        "capacityProviderStrategy": [
            {
                "capacityProvider": item["capacityProvider"],
                "weight": item.get("weight", 0),
                "base": item.get("base", 0),
            }
            for item in service.get("capacityProviderStrategy", [])
        ],
        "platformVersion": service.get("platformVersion"),
        "deploymentConfiguration": {
            "deploymentCircuitBreaker": {key: breaker.get(key, False) for key in ("enable", "rollback")},
            "maximumPercent": deployment.get("maximumPercent"),
            "minimumHealthyPercent": deployment.get("minimumHealthyPercent"),
        },
        # Services that are older than this setting do not have it.
        "availabilityZoneRebalancing": service.get("availabilityZoneRebalancing", "DISABLED"),
        "networkConfiguration": {
            "awsvpcConfiguration": {
                "subnets": sorted(network.get("subnets", [])),
                "securityGroups": sorted(network.get("securityGroups", [])),
                "assignPublicIp": network.get("assignPublicIp", "DISABLED"),
            }
        },
        "enableExecuteCommand": service.get("enableExecuteCommand", False),
        "enableECSManagedTags": service.get("enableECSManagedTags", False),
        "propagateTags": service.get("propagateTags", "NONE"),
        "loadBalancers": [
            {key: item.get(key) for key in ("targetGroupArn", "containerName", "containerPort")}
            for item in service.get("loadBalancers", [])
        ],
        "healthCheckGracePeriodSeconds": service.get("healthCheckGracePeriodSeconds"),
    }


def task_size(ecs: Any, task_definition: str) -> dict[str, Any] | None:
    """Return what one task of a revision asks for (CPU units, MiB, GiB), or None if the revision was deleted."""
    try:
        found = ecs.describe_task_definition(taskDefinition=task_definition)["taskDefinition"]
    except Exception as error:
        if error_code(error) == "ClientException":
            return None
        raise
    return {
        "cpu": int(found["cpu"]),
        "memory": int(found["memory"]),
        "architecture": found.get("runtimePlatform", {}).get("cpuArchitecture", "X86_64"),
        "ephemeral_storage": int(found.get("ephemeralStorage", {}).get("sizeInGiB", 20)),
    }


def running_settings(ecs: Any, cluster: str, name: str) -> dict[str, Any]:
    """Return the settings of a service that the price of a further task of it depends on; empty if it is not there."""
    found = _describe(ecs, cluster, [name]).get(name) if find_cluster(ecs, cluster) else None
    if found is None or found["status"] == "INACTIVE":
        return {}
    return _settings_with_price(ecs, found)


def _settings_with_price(ecs: Any, service: Mapping[str, Any]) -> dict[str, Any]:
    current = _current_settings(service)
    return {
        "size": task_size(ecs, service["taskDefinition"]),
        **{key: current[key] for key in ("capacityProviderStrategy", "networkConfiguration", "desiredCount")},
    }


def _create(ecs: Any, platform: str, cluster: str, spec: ServiceSpec, plan: Plan) -> None:
    settings = {**spec.settings(), "desiredCount": spec.desired_count}

    def create() -> str:
        answer = with_service_role(
            lambda: ecs.create_service(
                cluster=cluster,
                serviceName=spec.name,
                schedulingStrategy="REPLICA",
                tags=tag_list(platform_tags(platform, f"{platform}-{spec.name}", spec.tags), "key", "value"),
                **settings,
            )
        )
        return str(answer["service"]["serviceArn"])

    plan.create(KIND, spec.name, settings, create, unchanged={"size": spec.size})


def _keep(
    ecs: Any,
    platform: str,
    cluster: str,
    *,
    spec: ServiceSpec,
    found: Mapping[str, Any],
    plan: Plan,
    limits: Callable[[str], Mapping[str, Any]],
    force: bool,
) -> None:
    current_tags = tag_dict(found.get("tags"))
    refuse_foreign("ECS service", spec.name, platform, current_tags, "name_prefix")
    plan.ensure_tags(
        KIND,
        spec.name,
        current_tags,
        platform_tags(platform, f"{platform}-{spec.name}", spec.tags),
        lambda new: ecs.tag_resource(resourceArn=found["serviceArn"], tags=tag_list(new, "key", "value")),
    )
    before, after = service_drift(found, spec)
    if not after:
        # The first rollout of a service has nothing to be rolled back to. Whatever was wrong, try once more.
        if force or primary_state(found) == "FAILED":
            plan.update(
                KIND,
                spec.name,
                {"rolloutState": primary_state(found)},
                {"forceNewDeployment": True},
                lambda: ecs.update_service(cluster=cluster, service=spec.name, forceNewDeployment=True),
            )
        return
    forced = {"forceNewDeployment": True} if force or _STARTS_NEW_TASKS & after.keys() else {}
    unchanged = {**_settings_with_price(ecs, found), **(limits(spec.name) if spec.autoscaled else {})}
    resized = "taskDefinition" in after and spec.size not in (None, unchanged["size"])
    plan.update(
        KIND,
        spec.name,
        {**before, "size": unchanged["size"]} if resized else before,
        {**after, "size": spec.size} if resized else after,
        lambda: ecs.update_service(cluster=cluster, service=spec.name, **after, **forced),
        unchanged=unchanged,
    )


def _wait_for_removal(ecs: Any, cluster: str, names: Sequence[str], *, seconds: float, poll_seconds: float) -> None:
    def gone() -> bool:
        return all(service["status"] == "INACTIVE" for service in _describe(ecs, cluster, names).values())

    wait_until(
        f"the tasks of the ECS services {', '.join(names)} to stop",
        gone,
        seconds=seconds,
        interval=poll_seconds,
        advice="Run this playbook again: it goes on where it was.",
    )


def _describe(ecs: Any, cluster: str, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the services by name; those that do not exist are missing."""
    found: dict[str, dict[str, Any]] = {}
    for start in range(0, len(names), _SERVICES_PER_CALL):
        answer = ecs.describe_services(
            cluster=cluster, services=list(names[start : start + _SERVICES_PER_CALL]), include=["TAGS"]
        )
        found |= {service["serviceName"]: service for service in answer["services"]}
    return found


def _verdict(
    ecs: Any, cluster: str, name: str, service: Mapping[str, Any] | None, failure: str, *, printed: Printed
) -> str:
    """Return the message for a service that failed or, if `service` is None, is not there."""
    if service is None:
        return (
            f"The ECS service {name!r} disappeared from the cluster {cluster!r} while it was waited for. "
            "Run this playbook again."
        )
    return _explain(ecs, cluster, service, failure, printed)


def _explain(ecs: Any, cluster: str, service: Mapping[str, Any], failure: str, printed: Printed) -> str:
    """Return a message with what AWS knows of a failed rollout: counts, events, why tasks stopped, what one printed."""
    name = service["serviceName"]
    lines = [
        f"The ECS service {name!r} failed: {failure} (running {service['runningCount']}, pending "
        f"{service['pendingCount']}, desired {service['desiredCount']})."
    ]
    events = [event["message"] for event in service.get("events", [])[:_EVENTS_SHOWN]]
    if events:
        lines += ["Latest events:", *(f"  - {message}" for message in events)]
    stopped = _stopped_tasks(ecs, cluster, name)
    if stopped:
        lines += ["Stopped tasks:", *(f"  - {_stop_reason(task)}" for task in stopped)]
        said = printed(name, _task_id(stopped[0]))
        lines += [f"The last lines of {_task_id(stopped[0])}:", *(f"  | {line}" for line in said)] if said else []
    lines.append(f"All that its containers printed: make logs SERVICE={name} SINCE=15m (playbooks/logs.yml)")
    return "\n".join(lines)


def stopped_task_reasons(ecs: Any, cluster: str, service: str) -> list[str]:
    """Return, for the tasks of a service that stopped last, one line that says why."""
    return [_stop_reason(task) for task in _stopped_tasks(ecs, cluster, service)]


def _stopped_tasks(ecs: Any, cluster: str, service: str) -> list[Mapping[str, Any]]:
    """Return the tasks of a service that stopped last, the newest first."""
    arns = ecs.list_tasks(cluster=cluster, serviceName=service, desiredStatus="STOPPED")["taskArns"]
    if not arns:
        return []
    tasks = ecs.describe_tasks(cluster=cluster, tasks=arns[:100])["tasks"]
    newest = sorted(tasks, key=lambda task: str(task.get("stoppedAt", "")), reverse=True)
    return newest[:_STOPPED_TASKS_SHOWN]


def _task_id(task: Mapping[str, Any]) -> str:
    return str(task["taskArn"].rpartition("/")[2])


def _stop_reason(task: Mapping[str, Any]) -> str:
    containers = []
    for container in task.get("containers", []):
        code = container.get("exitCode")
        facts = [container.get("reason", ""), "" if code is None else f"exit code {code}"]
        text = ", ".join(fact for fact in facts if fact)
        if text:
            containers.append(f"{container.get('name', 'container')}: {text}")
    parts = [task.get("stopCode", ""), task.get("stoppedReason", ""), *containers]
    return f"{_task_id(task)}: " + "; ".join(part for part in parts if part)


def _short(task_definition: str) -> str:
    return task_definition.rpartition("/")[2]
