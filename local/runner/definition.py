"""What one task needs to know of its registered task definition. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local.runner.health import HealthCheck

_DEFAULT_STOP_TIMEOUT = 30.0
"""Seconds; "stopTimeout" in the ECS API reference."""
_CPU_UNITS = 1024
"""Of one vCPU."""


class UnsupportedDefinitionError(ValueError):
    """The local task runner cannot run this task definition; the message says why."""


@dataclass(frozen=True)
class Volume:
    """A volume and where the container mounts it. An EFS volume keeps its files when tasks come and go."""

    name: str
    container_path: str
    file_system: str | None = None
    access_point: str | None = None
    read_only: bool = False


@dataclass(frozen=True)
class LogTarget:
    """Options of the awslogs driver."""

    group: str
    prefix: str


@dataclass(frozen=True)
class Limits:
    """What a container may use and do. Only a container engine keeps it; a plain process has none of it."""

    cpu: float | None = None
    """vCPUs."""
    memory: int | None = None
    """MiB; there is no swap on Fargate."""
    user: str = ""
    read_only: bool = False
    init: bool = False
    drop: tuple[str, ...] = ()
    add: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ()
    """PATH:OPTIONS each, as Docker takes them."""
    ulimits: tuple[str, ...] = ()
    """NAME=SOFT:HARD each, as Docker takes them."""


@dataclass(frozen=True)
class Definition:
    """One container, and what of its task matters to it."""

    arn: str
    family: str
    revision: int
    container: str
    image: str
    command: tuple[str, ...]
    """Entry point and command."""
    entry_point: str
    """First word of the entry point; "" for the image's."""
    environment: Mapping[str, str]
    secrets: Mapping[str, str]
    """Variable -> `valueFrom`."""
    ports: tuple[int, ...]
    volumes: tuple[Volume, ...]
    working_directory: str | None
    health_check: HealthCheck | None
    stop_timeout: float
    logs: LogTarget | None
    task_role: str | None
    limits: Limits = Limits()


def parse_definition(document: Mapping[str, Any]) -> Definition:
    """Return the definition in a task definition as DescribeTaskDefinition returns it.

    Raises:
        UnsupportedDefinitionError: it has several containers, no command, or a health check of an unknown kind.
    """
    arn = document["taskDefinitionArn"]
    containers = document["containerDefinitions"]
    if len(containers) != 1:
        names = ", ".join(each["name"] for each in containers)
        raise UnsupportedDefinitionError(
            f"{arn} has {len(containers)} containers ({names}); the local task runner runs tasks with one"
        )
    (container,) = containers
    command = (*container.get("entryPoint", ()), *container.get("command", ()))
    if not command:
        raise UnsupportedDefinitionError(
            f"{arn}: container {container['name']} has neither entryPoint nor command; as a process there is no image "
            "whose default could be used"
        )
    try:
        check = HealthCheck.parse(container.get("healthCheck"))
    except ValueError as error:
        raise UnsupportedDefinitionError(f"{arn}: {error}") from error
    return Definition(
        arn=arn,
        family=document["family"],
        revision=int(document["revision"]),
        container=container["name"],
        image=container.get("image", ""),
        command=command,
        entry_point=next(iter(container.get("entryPoint", ())), ""),
        environment={each["name"]: each["value"] for each in container.get("environment", ())},
        secrets={each["name"]: each["valueFrom"] for each in container.get("secrets", ())},
        ports=tuple(each["containerPort"] for each in container.get("portMappings", ())),
        volumes=_volumes(document, container),
        working_directory=container.get("workingDirectory"),
        health_check=check,
        stop_timeout=float(container.get("stopTimeout") or _DEFAULT_STOP_TIMEOUT),
        logs=_log_target(container),
        task_role=document.get("taskRoleArn"),
        limits=_limits(document, container),
    )


def _volumes(document: Mapping[str, Any], container: Mapping[str, Any]) -> tuple[Volume, ...]:
    efs = {each["name"]: each.get("efsVolumeConfiguration") for each in document.get("volumes", ())}
    volumes = []
    for mount in container.get("mountPoints", ()):
        configuration = efs.get(mount["sourceVolume"]) or {}
        volumes.append(
            Volume(
                mount["sourceVolume"],
                mount["containerPath"].rstrip("/"),
                configuration.get("fileSystemId"),
                (configuration.get("authorizationConfig") or {}).get("accessPointId"),
                read_only=bool(mount.get("readOnly")),
            )
        )
    return tuple(volumes)


def _limits(document: Mapping[str, Any], container: Mapping[str, Any]) -> Limits:
    """Return the limits: the container's own where it has some, otherwise those of the task.

    Sources: "Task size" and "ContainerDefinition" in the ECS API reference. On Fargate the task has both.
    """
    cpu = container.get("cpu") or document.get("cpu")
    memory = container.get("memory") or document.get("memory")
    linux = container.get("linuxParameters") or {}
    capabilities = linux.get("capabilities") or {}
    return Limits(
        cpu=int(cpu) / _CPU_UNITS if cpu else None,
        memory=int(memory) if memory else None,
        user=container.get("user") or "",
        read_only=bool(container.get("readonlyRootFilesystem")),
        init=bool(linux.get("initProcessEnabled")),
        drop=tuple(capabilities.get("drop") or ()),
        add=tuple(capabilities.get("add") or ()),
        tmpfs=tuple(
            ":".join([each["containerPath"], ",".join([f"size={each['size']}m", *each.get("mountOptions", ())])])
            for each in linux.get("tmpfs") or ()
        ),
        ulimits=tuple(
            f"{each['name']}={each['softLimit']}:{each['hardLimit']}" for each in container.get("ulimits") or ()
        ),
    )


def _log_target(container: Mapping[str, Any]) -> LogTarget | None:
    configuration = container.get("logConfiguration") or {}
    if configuration.get("logDriver") != "awslogs":
        return None
    options = configuration.get("options", {})
    return LogTarget(options["awslogs-group"], options.get("awslogs-stream-prefix", "ecs"))
