"""Log lines: one JSON object a line on standard output, where the awslogs driver picks them up."""

from __future__ import annotations

import json
import sys
import threading
from datetime import UTC, datetime
from typing import Any

METRIC_NAMESPACE = "DagsterECS"
Metrics = tuple[tuple[str, str], ...]
"""Names and units, as in MetricDatum of the CloudWatch API."""

METRICS: Metrics = (
    ("release_age_seconds", "Seconds"),
    ("sync_age_seconds", "Seconds"),
    ("sync_failures", "Count"),
    ("swap_seconds", "Seconds"),
    ("canary_rejections", "Count"),
    ("server_restarts", "Count"),
    ("main_restarts", "Count"),
)
"""The metrics in every release_state line."""
DIMENSIONS = ("platform", "service")
"""Their dimensions: each task writes its own lines."""

PLATFORM_METRICS: Metrics = (
    ("daemon_heartbeat_age_seconds", "Seconds"),
    ("runs_queued", "Count"),
    ("runs_in_progress", "Count"),
    ("run_failures", "Count"),
    ("oldest_queued_seconds", "Seconds"),
    ("code_location_errors", "Count"),
)
"""The metrics in every platform_state line; what is null in a line is no metric of it.

Every webserver writes such lines, and all of them see the same platform: ask for Maximum, not for Sum.
"""
PLATFORM_DIMENSIONS = ("platform",)
"""Their dimensions."""

_lock = threading.Lock()
"""Lines come from several threads; each is written whole."""


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def timestamp(moment: datetime) -> str:
    """Return ISO 8601 with milliseconds and Z."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def emit(event: str, **fields: Any) -> None:
    """Write one event; ``fields`` must be JSON values."""
    line = json.dumps({"ts": timestamp(now()), "event": event, **fields}, separators=(",", ":"))
    with _lock:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def emit_output(process: str, line: str) -> None:
    """Pass on a line that a child printed, as an event: whatever DAG code prints, it cannot look like ours."""
    emit("output", process=process, line=line)


def emit_state(fields: dict[str, Any]) -> None:
    """Write a release_state line: what a task serves."""
    _emit_metrics("release_state", fields, METRICS, DIMENSIONS)


def emit_platform(fields: dict[str, Any]) -> None:
    """Write a platform_state line: what Dagster says of itself."""
    _emit_metrics("platform_state", fields, PLATFORM_METRICS, PLATFORM_DIMENSIONS)


def _emit_metrics(event: str, fields: dict[str, Any], metrics: Metrics, dimensions: tuple[str, ...]) -> None:
    """Write a line that is also a CloudWatch embedded-metric-format record.

    The format is that of "Embedded metric format specification" in the CloudWatch User Guide: it turns log
    lines into metrics without any permission of the task.
    """
    emit(
        event,
        **fields,
        _aws={
            "Timestamp": int(now().timestamp() * 1000),
            "CloudWatchMetrics": [
                {
                    "Namespace": METRIC_NAMESPACE,
                    "Dimensions": [list(dimensions)],
                    "Metrics": [{"Name": name, "Unit": unit} for name, unit in metrics if fields.get(name) is not None],
                }
            ],
        },
    )
