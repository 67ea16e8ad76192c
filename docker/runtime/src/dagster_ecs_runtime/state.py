"""What a task knows of itself, shared between the supervisor's threads; health and log lines are views of it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from . import events
from .settings import Settings


@dataclass
class State:
    """Release, target and errors of this task. Change it inside ``with state.change():`` only."""

    settings: Settings
    release: str | None = None
    target: str | None = None
    previous: str | None = None
    rejected: str | None = None
    error: str | None = None
    swapping: bool = False
    serving_since: datetime | None = None
    swap_seconds: float | None = None
    first_sync_done: bool = False
    last_sync: float | None = None
    started: float = field(default_factory=time.monotonic)
    sync_failures: int = 0
    canary_rejections: int = 0
    server_restarts: int = 0
    main_restarts: int = 0
    """Times that webserver or daemon was started again because it had ended or hung."""
    server_pids: dict[str, int] = field(default_factory=dict)
    main_pid: int | None = None
    main_answers: bool = False
    s3_key_ending: str | None = None
    """Last characters of the id of the S3 keys in use; None for the task role."""

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._emitted: dict[str, int] = {}
        """Counts as they were in the last log line."""

    def change(self) -> threading.RLock:
        """Return the lock to hold while changing several fields together."""
        return self._lock

    def sync_age(self) -> float:
        """Return the seconds since S3 was last read with success, or since the start if it never was."""
        return time.monotonic() - (self.last_sync if self.last_sync is not None else self.started)

    def status(self) -> str:
        """Return waiting, serving, swapping, rejected or stale."""
        if self.sync_age() > self.settings.stale_seconds:
            return "stale"
        if self.swapping:
            return "swapping"
        if self.rejected is not None:
            return "rejected"
        return "serving" if self.release is not None else "waiting"

    def live(self) -> bool:
        """Return whether the supervisor does its work; answering is the proof."""
        return True

    def ready(self) -> bool:
        """Return whether S3 has been read at least once and Dagster's process runs; the webserver: answers."""
        return self.first_sync_done and self.main_answers

    def fresh(self) -> bool:
        """Return whether S3 was read within ``stale_seconds``."""
        return self.last_sync is not None and self.sync_age() <= self.settings.stale_seconds

    def healthy(self) -> bool:
        """Return what the ECS health check asks: ready, and not stale past the setting."""
        return self.ready() and self.fresh()

    def pids(self) -> dict[str, int]:
        """Return the pids of the processes that serve, by name."""
        with self._lock:
            main = {} if self.main_pid is None else {self.settings.service: self.main_pid}
            return main | self.server_pids

    def report(self) -> dict[str, Any]:
        """Return the state as the fields of a release_state line and of /health."""
        with self._lock:
            age = (events.now() - self.serving_since).total_seconds() if self.serving_since else None
            return {
                "service": self.settings.service,
                "environment": self.settings.environment,
                "platform": self.settings.platform,
                "task_id": self.settings.task_id,
                "status": self.status(),
                "release": self.release,
                "target": self.target,
                "previous": self.previous,
                "rejected": self.rejected,
                "error": self._problem(),
                "serving_since": events.timestamp(self.serving_since) if self.serving_since else None,
                "release_age_seconds": None if age is None else round(age, 3),
                "sync_age_seconds": round(self.sync_age(), 3),
                "swap_seconds": self.swap_seconds,
                "sync_failures": self.sync_failures,
                "canary_rejections": self.canary_rejections,
                "server_restarts": self.server_restarts,
                "main_restarts": self.main_restarts,
                "s3_key_ending": self.s3_key_ending,
            }

    def emit(self) -> None:
        """Write the state as a log line. Its counts are those since the last line: CloudWatch adds them up."""
        with self._lock:
            fields = self.report()
            for name, unit in events.METRICS:
                if unit == "Count":
                    total = fields[name]
                    fields[name] -= self._emitted.get(name, 0)
                    self._emitted[name] = total
            events.emit_state(fields)

    def _problem(self) -> str | None:
        """Return the last error, or why S3 has not been read although no request has failed."""
        if self.error is None and not self.fresh() and self.status() == "stale":
            return f"S3 was last read {self.sync_age():.0f} s ago, and the next request is still under way"
        return self.error
