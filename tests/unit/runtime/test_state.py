"""What a task says of itself: counts for CloudWatch, ages, and why it is stale."""

from __future__ import annotations

import json
import time

import pytest

from dagster_ecs_runtime import events, settings
from dagster_ecs_runtime.state import State


@pytest.fixture
def state() -> State:
    return State(settings.read("daemon", {"DAGSTER_S3_BUCKET": "dags", "DAGSTER_STALE_SECONDS": "60"}))


def line(state: State, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    state.emit()
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_counts_in_log_lines_are_those_since_the_last_line(state: State, capsys: pytest.CaptureFixture[str]) -> None:
    state.sync_failures, state.server_restarts = 3, 1
    first, second = line(state, capsys), line(state, capsys)
    state.sync_failures += 2
    third = line(state, capsys)
    assert [each["sync_failures"] for each in (first, second, third)] == [3, 0, 2]
    assert [each["server_restarts"] for each in (first, second, third)] == [1, 0, 0]
    assert state.report()["sync_failures"] == 5, "health shows all since the start"


def test_metrics_of_a_line_are_in_the_line(state: State, capsys: pytest.CaptureFixture[str]) -> None:
    """CloudWatch drops a record that names a metric or a dimension without a value."""
    state.last_sync = time.monotonic()
    state.serving_since, state.swap_seconds = events.now(), 1.5
    found = line(state, capsys)
    (directive,) = found["_aws"]["CloudWatchMetrics"]  # type: ignore[index]
    assert {metric["Name"] for metric in directive["Metrics"]} == {name for name, _ in events.METRICS}
    assert {*(metric["Name"] for metric in directive["Metrics"]), *directive["Dimensions"][0]} <= set(found)


def test_stale_says_why(state: State) -> None:
    state.last_sync = time.monotonic() - 61
    report = state.report()
    assert report["status"] == "stale"
    assert "S3 was last read 61 s ago" in str(report["error"])
    state.error = "s3://dags/releases/current cannot be read: the connection is refused"
    assert state.report()["error"] == state.error
    state.last_sync, state.error = time.monotonic(), None
    assert state.report()["error"] is None
