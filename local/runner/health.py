"""Container health as ECS and Docker define it. Pure: the caller brings the clock and runs the command.

Sources: "HealthCheck" in the ECS API reference; "HEALTHCHECK" in the Dockerfile reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

START_INTERVAL = 1.0
"""Seconds between checks in the start period, before the first success (Docker's --start-interval, 5 s there)."""


class Health(StrEnum):
    """`healthStatus` of containers and tasks."""

    UNKNOWN = "UNKNOWN"
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"


@dataclass(frozen=True)
class HealthCheck:
    """The `healthCheck` of a container definition. Times are in seconds."""

    command: tuple[str, ...]
    """As registered: begins with CMD or CMD-SHELL."""
    interval: float = 30
    timeout: float = 5
    retries: int = 3
    start_period: float = 0

    @classmethod
    def parse(cls, definition: Mapping[str, Any] | None) -> HealthCheck | None:
        """Return the check, or None if there is none (missing, or ["NONE"]).

        Raises:
            ValueError: the command is of no kind that ECS knows.
        """
        if not definition or not definition.get("command") or definition["command"][0] == "NONE":
            return None
        command = tuple(definition["command"])
        if command[0] not in {"CMD", "CMD-SHELL"} or len(command) < 2:
            raise ValueError(f"healthCheck command {list(command)} must begin with CMD or CMD-SHELL and name a command")
        return cls(
            command=command,
            interval=definition.get("interval", cls.interval),
            timeout=definition.get("timeout", cls.timeout),
            retries=definition.get("retries", cls.retries),
            start_period=definition.get("startPeriod") or 0,
        )

    @property
    def argv(self) -> list[str]:
        """The command to execute."""
        return ["/bin/sh", "-c", self.command[1]] if self.command[0] == "CMD-SHELL" else list(self.command[1:])


class HealthMonitor:
    """The health of one container: `due` says when to check, `record` takes the result."""

    def __init__(self, check: HealthCheck, started: float) -> None:
        self._check = check
        self._started = started
        self._last = started
        self._failures = 0
        self._succeeded = False
        self.status = Health.UNKNOWN

    def due(self) -> float:
        """Return the time of the next check: an interval after the container's start or after the last check's end."""
        starting = not self._succeeded and self._last < self._started + self._check.start_period
        return self._last + (min(START_INTERVAL, self._check.interval) if starting else self._check.interval)

    def record(self, now: float, *, success: bool) -> Health:
        """Take the result of a check that ended ``now`` and return the status.

        Failures in the start period do not count, unless a check has succeeded: then the container has started.
        """
        in_start_period = not self._succeeded and now < self._started + self._check.start_period
        self._last = now
        if success:
            self._succeeded, self._failures, self.status = True, 0, Health.HEALTHY
        elif not in_start_period:
            self._failures += 1
            if self._failures >= self._check.retries:
                self.status = Health.UNHEALTHY
        return self.status
