"""What the ECS service scheduler decides, for one service at one moment. Pure: the engine carries it out.

Sources: "Deploy Amazon ECS services by replacing tasks", "How the Amazon ECS deployment circuit breaker detects
failures" and "Amazon ECS service throttle logic" in the ECS Developer Guide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

STABLE_SECONDS = 60.0
"""A task that was healthy for so long did not fail to start: the next one starts without delay."""
LONGEST_DELAY = 60.0
"""Seconds. ECS goes up to 15 minutes; here somebody is waiting for the repair to show."""


@dataclass(frozen=True)
class ServiceWish:
    """One service as registered. Counts are of tasks, percentages of the desired count."""

    cluster: str
    arn: str
    name: str
    task_definition: str
    deployment: str
    """Id of the PRIMARY deployment: it changes with the revision and with forceNewDeployment."""
    desired: int
    minimum_percent: int = 100
    maximum_percent: int = 200
    breaker: bool = False
    rollback: bool = False

    @property
    def least_healthy(self) -> int:
        return math.ceil(self.desired * self.minimum_percent / 100)

    @property
    def most(self) -> int:
        return math.floor(self.desired * self.maximum_percent / 100)

    @property
    def failure_threshold(self) -> int:
        """Failed tasks that trip the circuit breaker: half the desired count, at least 3, at most 200."""
        return min(200, max(3, math.ceil(self.desired * 0.5)))


@dataclass(frozen=True)
class TaskView:
    """One live task, as far as the scheduler cares."""

    id: str
    deployment: str
    task_definition: str
    started: float
    healthy: bool
    stopping: bool


@dataclass(frozen=True)
class Decision:
    """How many tasks to start, and which to stop, with the reason."""

    start: int = 0
    stop: tuple[tuple[str, str], ...] = ()


def decide(wish: ServiceWish, tasks: Sequence[TaskView], *, may_start: bool = True) -> Decision:
    """Return the next step from ``tasks`` (all live ones of the service) towards ``wish``.

    Stopping tasks count against the maximum: a service with 0/100 percent must never have two processes at work.
    ``may_start`` is False while failed tasks are being backed off from.
    """
    staying = [task for task in tasks if not task.stopping]
    current = [task for task in staying if _is_current(wish, task)]
    old = [task for task in staying if not _is_current(wish, task)]

    # Desired 0 allows none at all, whatever the percentages.
    room = wish.most - len(tasks)
    missing = wish.desired - len(current)
    start = max(0, min(missing, room)) if may_start else 0

    stop: list[tuple[str, str]] = []
    # ECS's own words: the emulator and `ecs:DescribeTasks` tell such stops from failures by them.
    reason = f"Scaling activity initiated by (deployment {wish.deployment})"
    stop += [(task.id, reason) for task in old if not task.healthy]
    healthy = sum(task.healthy for task in staying)
    for task in sorted((task for task in old if task.healthy), key=lambda task: task.started):
        if healthy - 1 < wish.least_healthy:
            break
        healthy -= 1
        stop.append((task.id, reason))

    excess = sorted(current, key=lambda task: (task.healthy, -task.started))[: max(0, -missing)]
    stop += [(task.id, reason) for task in excess]
    return Decision(start, tuple(stop))


def _is_current(wish: ServiceWish, task: TaskView) -> bool:
    return task.deployment == wish.deployment and task.task_definition == wish.task_definition


def is_complete(wish: ServiceWish, tasks: Sequence[TaskView]) -> bool:
    """Return whether the deployment is COMPLETED: all desired tasks healthy, no other left."""
    return len(tasks) == wish.desired and all(
        _is_current(wish, task) and task.healthy and not task.stopping for task in tasks
    )


@dataclass
class FailureMemory:
    """What is remembered about the failed tasks of one deployment."""

    deployment: str
    in_a_row: int = 0
    """Failures since a task last stayed healthy: decides the delay."""
    never_healthy: int = 0
    """Tasks that ended before they were healthy, while the deployment had not completed: trips the breaker."""
    completed: bool = False
    not_before: float = 0.0

    def record(self, now: float, *, was_healthy: bool, healthy_seconds: float = 0.0) -> None:
        """Remember a task that ended without having been asked to."""
        self.in_a_row = 1 if healthy_seconds >= STABLE_SECONDS else self.in_a_row + 1
        if not was_healthy and not self.completed:
            self.never_healthy += 1
        self.not_before = now + delay(self.in_a_row)

    def tripped(self, wish: ServiceWish) -> bool:
        """Return whether the circuit breaker ends this deployment."""
        return wish.breaker and not self.completed and self.never_healthy >= wish.failure_threshold


def delay(failures_in_a_row: int) -> float:
    """Return the seconds to wait before the next start: 0, 1, 2, 4 … up to a minute."""
    return 0.0 if failures_in_a_row <= 1 else min(LONGEST_DELAY, 2.0 ** (failures_in_a_row - 2))


def parse_service(service: dict[str, Any]) -> ServiceWish:
    """Return the wish in a service as DescribeServices returns it; defaults are those of ECS for replica services."""
    deployments = service.get("deployments") or []
    primary: dict[str, Any] = next((each for each in deployments if each.get("status") == "PRIMARY"), {})
    configuration = service.get("deploymentConfiguration") or {}
    active = service.get("status", "ACTIVE") == "ACTIVE"  # a deleted one drains
    breaker = configuration.get("deploymentCircuitBreaker") or {}
    return ServiceWish(
        cluster=service["clusterArn"],
        arn=service["serviceArn"],
        name=service["serviceName"],
        task_definition=service["taskDefinition"],
        deployment=primary.get("id", "ecs-svc/none"),
        desired=service["desiredCount"] if active else 0,
        minimum_percent=configuration.get("minimumHealthyPercent", ServiceWish.minimum_percent),
        maximum_percent=configuration.get("maximumPercent", ServiceWish.maximum_percent),
        breaker=bool(breaker.get("enable")),
        rollback=bool(breaker.get("rollback")),
    )
