"""Log lines: one JSON object a line on standard output, where the awslogs driver picks them up."""

from __future__ import annotations

import json
import sys
import threading
from datetime import UTC, datetime
from typing import Any

METRIC_NAMESPACE = "DagsterECS"
METRICS = (
    ("release_age_seconds", "Seconds"),
    ("sync_age_seconds", "Seconds"),
    ("sync_failures", "Count"),
    ("swap_seconds", "Seconds"),
    ("canary_rejections", "Count"),
    ("server_restarts", "Count"),
)
"""Names and units of the metrics in every release_state line."""

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
    """Write a release_state line that is also a CloudWatch embedded-metric-format record.

    The format is that of "Embedded metric format specification" in the CloudWatch User Guide: it turns log
    lines into metrics without any permission of the task.
    """
    metrics = [{"Name": name, "Unit": unit} for name, unit in METRICS if fields.get(name) is not None]
    emit(
        "release_state",
        **fields,
        _aws={
            "Timestamp": int(now().timestamp() * 1000),
            "CloudWatchMetrics": [
                {
                    "Namespace": METRIC_NAMESPACE,
                    "Dimensions": [["environment", "service"]],
                    "Metrics": metrics,
                }
            ],
        },
    )
