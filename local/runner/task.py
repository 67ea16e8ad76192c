"""One task: the ECS agent's part, from pulling secrets to the last line of output. Runs in a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError

from local.runner import logs, secret_values
from local.runner.cloud import REGION
from local.runner.definition import Definition, UnsupportedDefinitionError, parse_definition
from local.runner.health import Health, HealthMonitor
from local.runner.metadata import MetadataServer, Registration
from local.runner.runtime import Container, Launch, Runtime, StartError
from local.runner.scheduler import TaskView

_LOG = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
DRAIN_SECONDS = 5.0
"""How long connections through the load balancer may last before their task is stopped (deregistration delay)."""

UNHEALTHY = "Task failed container health checks"
EXITED = "Essential container in task exited"


@dataclass(frozen=True)
class Agent:
    """What all tasks share."""

    runtime: Runtime
    metadata: MetadataServer
    shipper: logs.LogShipper
    secrets_manager: Any
    ssm: Any
    log_directory: Path
    endpoint_url: str


@dataclass(frozen=True)
class Report:
    """What is reported to ECS: submitted again whenever it differs from the last one that was accepted."""

    status: str
    health: Health
    reason: str
    exit_code: int | None


class RunningTask:
    """A task of a service. Its attributes may be read from any thread."""

    def __init__(self, agent: Agent, service: Mapping[str, Any], record: Mapping[str, Any], document: Any) -> None:
        """Take the service, the task's record and its task definition, as ECS describes them."""
        self.arn: str = record["taskArn"]
        self.id = self.arn.rsplit("/", 1)[-1]
        self.cluster: str = service["clusterArn"]
        self.service_arn: str = service["serviceArn"]
        self.service: str = service["serviceName"]
        self.deployment: str = record["startedBy"]
        self.task_definition: str = record["taskDefinitionArn"]
        self.started = time.monotonic()
        self.status = "PENDING"
        self.health = Health.UNKNOWN
        self.healthy_since: float | None = None
        self.reason = ""
        """Why the task ends; not empty as soon as it is going to."""
        self.exit_code: int | None = None
        self.reported: Report | None = None
        """The last report that ECS has accepted."""
        self.known = True
        """Whether ECS has a record of the task: not after it has forgotten everything."""
        self.stop_requested = False
        self._agent = agent
        self._document = document
        self._definition: Definition | None = None
        self._container: Container | None = None
        self._stop = threading.Event()
        self._drained: Callable[[], bool] | None = None
        self._thread = threading.Thread(target=self._run, name=f"task {self.id[:8]}", daemon=True)

    def start(self) -> None:
        """Begin; everything that goes wrong ends in the state STOPPED with a reason."""
        _LOG.info("%s: task %s of %s starts", self.service, self.id, self.task_definition.rsplit("/", 1)[-1])
        self._thread.start()

    def stop(self, reason: str, drained: Callable[[], bool] | None = None) -> None:
        """Ask the task to end. If ``drained`` is given it is first waited for, but not longer than DRAIN_SECONDS."""
        if not self.reason:  # otherwise it is ending already
            self.stop_requested = True
            self.reason = reason
            self._drained = drained
            self._stop.set()

    def join(self) -> None:
        """Wait until the task has stopped."""
        self._thread.join()

    @property
    def stopped(self) -> bool:
        return self.status == "STOPPED"

    @property
    def healthy(self) -> bool:
        """Whether the task counts as up: running, its health check succeeds if it has one, and it is not ending."""
        if self.status != "RUNNING" or self.reason or self._definition is None:
            return False
        return self._definition.health_check is None or self.health == Health.HEALTHY

    def view(self) -> TaskView:
        """Return what the scheduler wants to know."""
        # A task that ECS does not know any more belongs to no deployment, and is replaced.
        return TaskView(
            self.id,
            self.deployment if self.known else "",
            self.task_definition,
            self.started,
            healthy=self.healthy,
            stopping=bool(self.reason) or self.stopped,
        )

    def report(self) -> Report:
        """Return what ECS should know now."""
        return Report(self.status, self.health, self.reason if self.stopped else "", self.exit_code)

    def container_report(self) -> dict[str, Any] | None:
        """Return the container's part of the report (ContainerStateChange)."""
        if self._definition is None:
            return None
        report: dict[str, Any] = {
            "containerName": self._definition.container,
            "status": self.status if self.status != "STOPPING" else "RUNNING",
            # ECS agents report health through a channel that is no public API; see local/emulator_ecs.py.
            "reason": f"healthStatus={self.health}",
            "networkBindings": [
                {"bindIP": "127.0.0.1", "containerPort": inside, "hostPort": here, "protocol": "tcp"}
                for inside, here in self._ports().items()
            ],
        }
        if self.exit_code is not None:
            report["exitCode"] = self.exit_code
        return report

    def port(self, container_port: int) -> int | None:
        """Return the port on 127.0.0.1 of a container port, or None if there is none (yet)."""
        return self._ports().get(container_port)

    def _ports(self) -> Mapping[int, int]:
        return self._container.ports if self._container else {}

    def _run(self) -> None:
        try:
            self._definition = parse_definition(self._document)
            self._run_container(self._definition)
        except (StartError, UnsupportedDefinitionError, OSError, BotoCoreError) as error:
            # OSError: no space left, too many processes …
            self.reason = self.reason or f"TaskFailedToStart: {error}"
        except Exception as error:  # a task that ends without a word would never be replaced
            _LOG.exception("%s: task %s", self.service, self.id)
            self.reason = self.reason or f"TaskFailedToStart: {error!r}"
        finally:
            self._agent.metadata.unregister(self.id)
            self.status = "STOPPED"
            _LOG.info("%s: task %s stopped: %s", self.service, self.id, self.reason)

    def _run_container(self, definition: Definition) -> None:
        agent = self._agent
        token_file = self._register(definition)
        values = secret_values.resolve(definition.secrets, agent.secrets_manager, agent.ssm)
        container = agent.runtime.start(
            Launch(
                self.id,
                definition,
                secrets=values,
                environment={
                    **agent.metadata.environment(self.id, token_file),
                    "AWS_ENDPOINT_URL": agent.endpoint_url,
                    "AWS_ALLOW_HTTP": "true",  # object_store refuses plain HTTP otherwise
                    "AWS_REGION": REGION,
                    "AWS_DEFAULT_REGION": REGION,
                    "AWS_EC2_METADATA_DISABLED": "true",  # there is none; asking for it takes seconds
                },
            )
        )
        self._container = container
        stream = None
        if definition.logs:
            name = f"{definition.logs.prefix}/{definition.container}/{self.id}"
            stream = agent.shipper.open(definition.logs.group, name)
        file = logs.log_file(agent.log_directory, self.service, self.id)
        output = logs.forward(container.output, file, agent.shipper, stream)
        self.status = "RUNNING"
        try:
            self._watch(container, definition)
        finally:
            container.kill()
            self.exit_code = container.exit_code()
            output.join()
            container.remove()

    def _register(self, definition: Definition) -> Path:
        """Make the task known to the metadata server; return the file with its token."""
        token = secrets.token_urlsafe(32)
        file = self._agent.runtime.directory(self.id) / "authorization-token"
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(token)
        self._agent.metadata.register(self.id, Registration(token, definition.task_role, self._metadata))
        return file

    def _watch(self, container: Container, definition: Definition) -> None:
        """Return when the container has ended, or has been asked to and was given its time."""
        check = definition.health_check
        monitor = HealthMonitor(check, time.monotonic()) if check else None
        if monitor is None:
            self.healthy_since = time.monotonic()
        while not self._stop.wait(_POLL_SECONDS):
            if container.exit_code() is not None:
                self.reason = EXITED
                return
            if check and monitor and time.monotonic() >= monitor.due():
                success = container.check(check.argv, check.timeout)
                self.health = monitor.record(time.monotonic(), success=success)
                if self.health == Health.HEALTHY:
                    self.healthy_since = self.healthy_since or time.monotonic()
                elif self.health == Health.UNHEALTHY:
                    self.reason = UNHEALTHY
                    break
        self.status = "STOPPING"
        if self._drained:
            _wait(self._drained, DRAIN_SECONDS)
        container.terminate()
        _wait(lambda: container.exit_code() is not None, definition.stop_timeout)

    def _metadata(self) -> dict[str, Any]:
        """Return the answer of the task metadata endpoint's /task."""
        definition = self._definition
        assert definition is not None  # noqa: S101, registered after parsing
        return {
            "Cluster": self.cluster,
            "TaskARN": self.arn,
            "Family": definition.family,
            "Revision": str(definition.revision),
            "ServiceName": self.service,
            "DesiredStatus": "STOPPED" if self._stop.is_set() else "RUNNING",
            "KnownStatus": self.status,
            "LaunchType": "FARGATE",
            "AvailabilityZone": f"{REGION}a",
            "Containers": [
                {
                    "DockerId": self.id,
                    "Name": definition.container,
                    "Image": definition.image,
                    "Labels": {
                        "com.amazonaws.ecs.cluster": self.cluster,
                        "com.amazonaws.ecs.container-name": definition.container,
                        "com.amazonaws.ecs.task-arn": self.arn,
                        "com.amazonaws.ecs.task-definition-family": definition.family,
                        "com.amazonaws.ecs.task-definition-version": str(definition.revision),
                    },
                    "DesiredStatus": "RUNNING",
                    "KnownStatus": self.status,
                    "Type": "NORMAL",
                }
            ],
        }


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
