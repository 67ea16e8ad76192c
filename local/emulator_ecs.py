"""ECS of the emulator with tasks whose state is reported by an agent, our local task runner, as in AWS.

moto registers services and tasks, but runs nothing: a task is RUNNING at once and drifts to STOPPED each time it is
described; counts and deployments of services are made up; the settings of services that it does not know are dropped.
Here the state of a task is what SubmitTaskStateChange has last said, and everything about services follows from tasks.

ECS agents report health through a channel of their own (the telemetry endpoint). Here the `reason` of a running
container in SubmitTaskStateChange or SubmitContainerStateChange carries it: healthStatus=HEALTHY|UNHEALTHY|UNKNOWN.
"""

from __future__ import annotations

import functools
import uuid
from datetime import UTC, datetime
from typing import Any

from botocore import xform_name
from moto.core.responses import ActionResult
from moto.ec2 import ec2_backends
from moto.ec2.models.elastic_network_interfaces import NetworkInterface
from moto.ecs.exceptions import InvalidParameterException
from moto.ecs.models import EC2ContainerServiceBackend, Service, Task
from moto.ecs.responses import EC2ContainerServiceResponse
from moto.moto_api import state_manager

STATES = (
    "PROVISIONING",
    "PENDING",
    "ACTIVATING",
    "RUNNING",
    "DEACTIVATING",
    "STOPPING",
    "DEPROVISIONING",
    "STOPPED",
)
HEALTH = "healthStatus="
HEALTH_STATES = ("HEALTHY", "UNHEALTHY", "UNKNOWN")
KEPT_STOPPED_TASKS = 100
"""Stopped tasks that are remembered for each cluster; AWS keeps them for an hour."""
KEPT_EVENTS = 100
SCHEDULER_REASON = "Scaling activity initiated by"
"""How ECS begins the reason of a task that it stops for another count or revision: no failure."""

_SERVICE_SETTINGS = (
    "availabilityZoneRebalancing",
    "capacityProviderStrategy",
    "deploymentConfiguration",
    "enableECSManagedTags",
    "enableExecuteCommand",
    "healthCheckGracePeriodSeconds",
    "loadBalancers",
    "networkConfiguration",
    "placementConstraints",
    "placementStrategy",
    "platformVersion",
    "propagateTags",
)


def apply() -> None:
    """Patch moto's ECS. Call once, before the server starts."""
    # Described as often as anybody likes, a task keeps the state that was reported.
    state_manager.set_transition("ecs::task", {"progression": "manual", "times": 2**62})
    # moto gives the attribute to interfaces in a VPC with DNS host names only, and then asks every one for it.
    NetworkInterface.private_dns_name = None
    _patch_services()
    _patch_tasks()


def _now() -> datetime:
    return datetime.now(UTC)


# Services


def _patch_services() -> None:
    backend, response = EC2ContainerServiceBackend, EC2ContainerServiceResponse
    create, describe, delete, listed, clusters = (
        response.create_service,
        backend.describe_services,
        backend.delete_service,
        backend.list_services,
        backend.describe_clusters,
    )

    @functools.wraps(create)
    def create_service(self: Any) -> ActionResult:
        cluster, name = self._get_param("cluster", "default"), self._get_param("serviceName")
        found, _ = describe(self.ecs_backend, cluster, [name])
        if found and found[0].status != "INACTIVE":
            raise InvalidParameterException("Creation of service was not idempotent.")
        result = create(self)
        service = describe(self.ecs_backend, cluster, [name])[0][0]
        _keep_settings(service, self._get_params())
        service.deployments = []
        _new_deployment(service)
        refresh(self.ecs_backend, service)
        return result

    def update_service(self: Any) -> ActionResult:
        params = self._get_params()
        ecs = self.ecs_backend
        service = ecs._get_service(params.get("cluster") or "default", params["service"].split("/")[-1])
        if service.status != "ACTIVE":
            # As AWS says it.
            raise InvalidParameterException("Service was not ACTIVE.")
        before = service.task_definition
        if params.get("taskDefinition"):
            service.task_definition = ecs.describe_task_definition(params["taskDefinition"]).arn
        if params.get("desiredCount") is not None:
            service.desired_count = int(params["desiredCount"])
        _keep_settings(service, params)
        if service.task_definition != before or params.get("forceNewDeployment"):
            _new_deployment(service)
        refresh(ecs, service)
        return ActionResult({"service": service})

    @functools.wraps(delete)
    def delete_service(self: Any, cluster_name: str, service_name: str, force: bool) -> Any:
        service = delete(self, cluster_name, service_name, force)
        service.desired_count = 0
        # Until its tasks have stopped a service drains.
        service.status = "DRAINING"
        refresh(self, service)
        return service

    @functools.wraps(describe)
    def describe_services(self: Any, cluster_str: str, service_names_or_arns: list[str]) -> Any:
        found, failures = describe(self, cluster_str, service_names_or_arns)
        for service in found:
            refresh(self, service)
        return found, failures

    @functools.wraps(listed)
    def list_services(self: Any, *args: Any, **kwargs: Any) -> list[str]:
        gone = {service.arn for service in self.services.values() if service.status == "INACTIVE"}
        return [arn for arn in listed(self, *args, **kwargs) if arn not in gone]

    @functools.wraps(clusters)
    def describe_clusters(self: Any, *args: Any, **kwargs: Any) -> Any:
        for cluster in self.clusters.values():
            alive = [task for task in self.tasks.get(cluster.name, {}).values() if task.last_status != "STOPPED"]
            cluster.running_tasks_count = sum(task.last_status == "RUNNING" for task in alive)
            cluster.pending_tasks_count = len(alive) - cluster.running_tasks_count
            cluster.active_services_count = sum(
                service.cluster_name == cluster.name and service.status != "INACTIVE"
                for service in self.services.values()
            )
        return clusters(self, *args, **kwargs)

    response.create_service = create_service
    response.update_service = update_service
    backend.delete_service = delete_service
    backend.describe_services = describe_services
    backend.list_services = list_services
    backend.describe_clusters = describe_clusters


def _keep_settings(service: Service, params: dict[str, Any]) -> None:
    """Remember the settings of a request, under the API's names and moto's: its serializer takes one or the other."""
    for name in _SERVICE_SETTINGS:
        if params.get(name) is not None:
            setattr(service, name, params[name])
            setattr(service, xform_name(name), params[name])


def _new_deployment(service: Service) -> None:
    for deployment in service.deployments:
        deployment["status"] = "ACTIVE"
    service.deployments.insert(
        0,
        {
            "id": f"ecs-svc/{uuid.uuid4().int % 10**19:019d}",
            "status": "PRIMARY",
            "taskDefinition": service.task_definition,
            "desiredCount": service.desired_count,
            "failedTasks": 0,
            "createdAt": _now(),
            "updatedAt": _now(),
            "launchType": service.launch_type,
            "networkConfiguration": getattr(service, "networkConfiguration", service.network_configuration),
            "rolloutState": "IN_PROGRESS",
            "rolloutStateReason": "ECS deployment in progress.",
        },
    )


def refresh(backend: Any, service: Service) -> None:
    """Derive counts, rollout states and events of a service from its tasks."""
    tasks = [
        task
        for task in backend.tasks.get(service.cluster_name, {}).values()
        if task.group == f"service:{service.name}" and task.last_status != "STOPPED"
    ]
    for deployment in service.deployments:
        own = [task for task in tasks if task.started_by == deployment["id"]]
        if deployment["status"] == "PRIMARY":
            deployment["desiredCount"] = service.desired_count
        deployment["runningCount"] = sum(task.last_status == "RUNNING" for task in own)
        deployment["pendingCount"] = len(own) - deployment["runningCount"]
    service.deployments = [
        deployment
        for deployment in service.deployments
        if deployment["status"] == "PRIMARY" or deployment["runningCount"] + deployment["pendingCount"]
    ]
    service.running_count = sum(task.last_status == "RUNNING" for task in tasks)
    service.pending_count = len(tasks) - service.running_count
    if service.status == "DRAINING" and not tasks:
        service.status = "INACTIVE"
    if service.deployments and service.status == "ACTIVE":
        _advance_rollout(backend, service, tasks)


def _advance_rollout(backend: Any, service: Service, tasks: list[Task]) -> None:
    primary = service.deployments[0]
    if primary["rolloutState"] != "IN_PROGRESS":
        return
    good = sum(task.started_by == primary["id"] and _is_good(backend, task) for task in tasks)
    breaker = getattr(service, "deploymentConfiguration", {}).get("deploymentCircuitBreaker", {})
    # The threshold of the deployment circuit breaker: half of the desired count, at least 3, at most 200.
    threshold = min(200, max(3, -(-service.desired_count // 2)))
    if good >= service.desired_count and len(service.deployments) == 1 and len(tasks) == good:
        _conclude(service, "COMPLETED", "completed.")
        add_event(service, "has reached a steady state.")
    elif breaker.get("enable") and primary["failedTasks"] >= threshold:
        _conclude(service, "FAILED", "failed: tasks failed to start.")
        add_event(service, f"deployment {primary['id']} failed: tasks failed to start.")


def _conclude(service: Service, state: str, text: str) -> None:
    primary = service.deployments[0]
    primary.update(rolloutState=state, rolloutStateReason=f"ECS deployment {primary['id']} {text}", updatedAt=_now())


def _is_good(backend: Any, task: Task) -> bool:
    """Return whether a task counts as up: running, and healthy if its containers have health checks."""
    if task.last_status != "RUNNING" or task.desired_status != "RUNNING":
        return False
    definition = backend.describe_task_definition(task.task_definition_arn)
    checked = any(container.get("healthCheck") for container in definition.container_definitions)
    return bool(task.health_status in ({"HEALTHY"} if checked else {"HEALTHY", "UNKNOWN"}))


def add_event(service: Service, text: str) -> None:
    """Add an event to a service, newest first."""
    message = f"(service {service.name}) {text}"
    service.events.insert(0, {"id": str(uuid.uuid4()), "createdAt": _now(), "message": message})
    del service.events[KEPT_EVENTS:]


# Tasks


def _patch_tasks() -> None:
    backend, response = EC2ContainerServiceBackend, EC2ContainerServiceResponse
    run = backend.run_task

    @functools.wraps(run)
    def run_task(self: Any, *args: Any, **kwargs: Any) -> list[Task]:
        tasks: list[Task] = run(self, *args, **kwargs)
        for task in tasks:
            _begin(self, task)
        return tasks

    def stop_task(self: Any, cluster_str: str, task_str: str, reason: str | None) -> Task:
        task = find_task(self, cluster_str, task_str)
        if task.desired_status != "STOPPED":
            task.desired_status = "STOPPED"
            task.stopped_reason = reason or "Task stopped by user"
            task.stopCode = "ServiceSchedulerInitiated" if _by_scheduler(task.stopped_reason) else "UserInitiated"
            task.stoppingAt = _now()
        return task

    def list_tasks(  # noqa: PLR0917 - moto's signature
        self: Any,
        cluster_str: str | None = None,
        container_instance: str | None = None,
        family: str | None = None,
        started_by: str | None = None,
        service_name: str | None = None,
        desiredStatus: str | None = None,
    ) -> list[Task]:
        cluster = self._get_cluster(cluster_str or "default")
        service = None if service_name is None else f"service:{service_name.split('/')[-1]}"
        return [
            task
            for task in self.tasks.get(cluster.name, {}).values()
            # AWS: "The default status filter is RUNNING".
            if task.desired_status == (desiredStatus or "RUNNING")
            and container_instance in (None, task.container_instance_arn)
            and family in (None, task.task_definition_arn.rpartition("/")[2].partition(":")[0])
            and started_by in (None, task.started_by)
            and service in (None, task.group)
        ]

    def submit_task_state_change(self: Any) -> ActionResult:
        change = self._get_params()
        task = find_task(self.ecs_backend, change.get("cluster") or "default", change.get("task") or "")
        _change_state(self.ecs_backend, task, change)
        return ActionResult({"acknowledgment": "ACK"})

    def submit_container_state_change(self: Any) -> ActionResult:
        change = self._get_params()
        task = find_task(self.ecs_backend, change.get("cluster") or "default", change.get("task") or "")
        _change_state(self.ecs_backend, task, {"containers": [change]})
        return ActionResult({"acknowledgment": "ACK"})

    def calculate_task_resource_requirements(_definition: Any) -> dict[str, Any]:
        """Return nothing: moto adds up container memories, which Fargate does not require; no instance is filled."""
        return {"CPU": 0, "MEMORY": 0, "PORTS": [], "PORTS_UDP": []}

    backend._calculate_task_resource_requirements = staticmethod(calculate_task_resource_requirements)
    backend.run_task = run_task
    backend.stop_task = stop_task
    backend.list_tasks = list_tasks
    response.submit_task_state_change = submit_task_state_change
    response.submit_container_state_change = submit_container_state_change


def find_task(backend: Any, cluster: str, task: str) -> Task:
    """Return a task by ARN or id.

    Raises:
        InvalidParameterException: there is none, as AWS says it.
    """
    wanted = task.rsplit("/", maxsplit=1)[-1]
    for arn, found in backend.tasks.get(backend._get_cluster(cluster).name, {}).items():
        if arn.split("/")[-1] == wanted:
            return found
    raise InvalidParameterException("The referenced task was not found.")


def _by_scheduler(reason: str) -> bool:
    return reason.startswith(SCHEDULER_REASON)


def _begin(backend: Any, task: Task) -> None:
    """Bring a new task into the state in which AWS returns it."""
    task.last_status = "PROVISIONING"
    task.health_status = "UNKNOWN"
    task.createdAt = _now()
    definition = backend.describe_task_definition(task.task_definition_arn)
    task.cpu, task.memory = definition.cpu, definition.memory
    prefix = task.task_arn.replace(":task/", ":container/")
    task.containers = [
        {
            "containerArn": f"{prefix}/{uuid.uuid4()}",
            "taskArn": task.task_arn,
            "name": container["name"],
            "image": container.get("image"),
            "lastStatus": "PENDING",
            "healthStatus": "UNKNOWN",
        }
        for container in definition.container_definitions
    ]
    service = _service_of(backend, task)
    if service:
        add_event(service, f"has started 1 tasks: (task {task.id}).")


def _service_of(backend: Any, task: Task) -> Service | None:
    kind, _, name = (task.group or "").partition(":")
    return backend.services.get(f"{task.cluster_name}:{name}") if kind == "service" else None


def _change_state(backend: Any, task: Task, change: dict[str, Any]) -> None:
    status = change.get("status") or task.last_status
    if status not in STATES:
        raise InvalidParameterException(f"status {status!r} is none of {', '.join(STATES)}.")
    if task.last_status == "STOPPED":
        return  # a late report of an earlier state
    for container in change.get("containers") or []:
        _change_container(task, container)
    if status == "RUNNING" and task.last_status != "RUNNING":
        task.startedAt = _now()
    task.last_status = status
    if status == "STOPPED":
        _stopped(backend, task, change.get("reason") or "")
    service = _service_of(backend, task)
    if service:
        refresh(backend, service)


def _change_container(task: Task, change: dict[str, Any]) -> None:
    container = next((each for each in task.containers if each["name"] == change.get("containerName")), None)
    if container is None:
        names = ", ".join(each["name"] for each in task.containers)
        raise InvalidParameterException(f"The task has no container {change.get('containerName')!r}, only {names}.")
    reason = change.get("reason") or ""
    if reason.startswith(HEALTH):
        health = reason.removeprefix(HEALTH)
        if health not in HEALTH_STATES:
            raise InvalidParameterException(f"{HEALTH}{health} is none of {', '.join(HEALTH_STATES)}.")
        if change.get("status") == "RUNNING":
            container["healthStatus"] = health
        states = {each["healthStatus"] for each in task.containers}
        # As in AWS: one unhealthy container makes the task unhealthy; containers without a health check do not count.
        task.health_status = next(state for state in ("UNHEALTHY", "HEALTHY", "UNKNOWN") if state in states)
        task.was_healthy = getattr(task, "was_healthy", False) or task.health_status == "HEALTHY"
    elif reason:
        container["reason"] = reason
    for source, target in (
        ("status", "lastStatus"),
        ("exitCode", "exitCode"),
        ("runtimeId", "runtimeId"),
        ("networkBindings", "networkBindings"),
    ):
        if change.get(source) is not None:
            container[target] = change[source]


def _stopped(backend: Any, task: Task, reason: str) -> None:
    intended = task.desired_status == "STOPPED" or _by_scheduler(reason)
    task.desired_status = "STOPPED"
    task.stopped_reason = task.stopped_reason or reason
    started = hasattr(task, "startedAt")
    if not hasattr(task, "stopCode"):
        if _by_scheduler(reason) or "health check" in reason:
            task.stopCode = "ServiceSchedulerInitiated"
        else:
            task.stopCode = "EssentialContainerExited" if started else "TaskFailedToStart"
    task.stoppedAt = _now()
    task.executionStoppedAt = task.stoppedAt
    for container in task.containers:
        container["lastStatus"] = "STOPPED"
    _release_network(task)
    service = _service_of(backend, task)
    if service:
        add_event(service, f"has stopped 1 running tasks: (task {task.id}): {task.stopped_reason}")
        if not intended and not getattr(task, "was_healthy", False):
            for deployment in service.deployments:
                deployment["failedTasks"] += deployment["id"] == task.started_by
    # The table is in the order in which tasks were started.
    stopped = [arn for arn, each in backend.tasks[task.cluster_name].items() if each.last_status == "STOPPED"]
    for arn in stopped[:-KEPT_STOPPED_TASKS]:
        del backend.tasks[task.cluster_name][arn]


def _release_network(task: Task) -> None:
    """Delete the network interface of a stopped task; its subnet could not be deleted otherwise."""
    interfaces = ec2_backends[task._account_id][task.region_name]
    for attachment in task.attachments:
        attachment["status"] = "DELETED"
        for detail in attachment["details"]:
            if detail["name"] == "networkInterfaceId" and detail["value"] in interfaces.enis:
                interfaces.delete_network_interface(detail["value"])
