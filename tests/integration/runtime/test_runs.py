"""Runs and releases: a run executes the release it was created from, and no end of a task leaves one open."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.e2e.dagster_client import wait_for
from tests.integration.runtime.conftest import Bucket, Task

Start = Callable[..., Task]

PINNED = """
import os
import time
from pathlib import Path

import dagster as dg

VERSION = {version!r}


@dg.asset
def first() -> dg.MaterializeResult:
    gate = Path({gate!r})
    gate.with_suffix(".pid").write_text(str(os.getpid()))
    while not gate.exists():
        time.sleep(0.1)
    return dg.MaterializeResult(metadata={{"version": VERSION}})


@dg.asset(deps=[first])
def second() -> dg.MaterializeResult:
    from .late import LATE

    return dg.MaterializeResult(metadata={{"version": VERSION, "late": LATE}})


defs = dg.Definitions(assets=[first, second], executor=dg.{executor})
"""


class Gate:
    """The first step waits here; its pid tells that it has come."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pid = path.with_suffix(".pid")

    def pid(self) -> int:
        return int(wait_for("the first step", lambda: self._pid.exists() and self._pid.read_text()))

    def open(self) -> None:
        self.path.touch()

    def forget(self) -> None:
        """Make ready for another run."""
        self._pid.unlink()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


def publish(bucket: Bucket, gate: Gate, version: str, executor: str = "multiprocess_executor") -> str:
    package = bucket.tree / "main"
    package.mkdir(exist_ok=True)
    text = PINNED.format(version=version, gate=str(gate.path), executor=executor)
    (package / "__init__.py").write_text(text, encoding="utf-8")
    (package / "late.py").write_text(f"LATE = {version!r}\n", encoding="utf-8")
    return bucket.publish()


def launch(webserver: Task, gate: Gate) -> str:
    """Launch a run of both assets and wait until its first step is in the middle of things."""
    wait_for("the assets in the UI", lambda: _assets(webserver) == {"first", "second"})
    run = webserver.ui.launch("main", assets=["first", "second"])
    gate.pid()
    return run


def test_run_in_flight_finishes_on_its_own_release(bucket: Bucket, start: Start, gate: Gate) -> None:
    """Three swaps in the middle of a run, one without its location: all its steps stay on its release."""
    one = publish(bucket, gate, "one")
    webserver, daemon = start("webserver"), start("daemon")
    for task in (webserver, daemon):
        task.wait_release(one)
    run = launch(webserver, gate)
    for version in ("two", "without the location", "three"):
        if version == "without the location":
            shutil.rmtree(bucket.tree / "main")
            (bucket.tree / "other").mkdir()
            (bucket.tree / "other/__init__.py").write_text(MOVED, encoding="utf-8")
            release = bucket.publish()
        else:
            shutil.rmtree(bucket.tree / "other", ignore_errors=True)
            release = publish(bucket, gate, version)
        for task in (webserver, daemon):
            task.wait_release(release)
    assert (daemon.base / "releases" / one).is_dir(), "neither current nor previous, but in use"
    gate.open()
    assert webserver.ui.wait_run(run) == "SUCCESS"
    expected = {"first.version": "one", "second.version": "one", "second.late": "one"}
    assert webserver.ui.materialization_texts(run) == expected
    wait_for("the release to be removed", lambda: not (daemon.base / "releases" / one).exists())
    server = daemon.health()[1]["children"]["code server main"]
    wait_for(
        "the servers that were replaced to end",
        lambda: [p.pid for p in daemon.session() if "grpc" in p.cmdline()],
        until=lambda pids: pids == [server],
    )
    run = webserver.ui.launch("main", assets=["first", "second"])
    assert webserver.ui.wait_run(run) == "SUCCESS"
    assert set(webserver.ui.materialization_texts(run).values()) == {"three"}


@pytest.mark.parametrize("executor", ["multiprocess_executor", "in_process_executor"])
def test_run_that_a_stop_cuts_short_is_recorded_as_failed(
    bucket: Bucket, start: Start, gate: Gate, executor: str
) -> None:
    """Nobody else would record it: the run would look started for ever, and hold a place in the queue."""
    release = publish(bucket, gate, "one", executor)
    webserver, daemon = start("webserver"), start("daemon", DAGSTER_STOP_SECONDS="12")
    for task in (webserver, daemon):
        task.wait_release(release)
    run = launch(webserver, gate)
    assert daemon.stop() == 0
    assert daemon.session() == []
    assert webserver.ui.run_status(run) == "FAILURE"


def test_run_outlives_the_crash_of_its_code_server(bucket: Bucket, start: Start, gate: Gate) -> None:
    release = publish(bucket, gate, "one", "in_process_executor")
    webserver, daemon = start("webserver"), start("daemon")
    for task in (webserver, daemon):
        task.wait_release(release)
    run = launch(webserver, gate)
    server = daemon.health()[1]["children"]["code server main"]
    os.kill(server, signal.SIGKILL)
    wait_for(
        "another server",
        lambda: daemon.health()[1]["children"]["code server main"],
        until=lambda pid: pid != server and psutil.pid_exists(pid),
    )
    gate.open()
    assert webserver.ui.wait_run(run) == "SUCCESS"
    assert daemon.stop() == 0
    assert daemon.session() == []


WAITING = """
import time
from pathlib import Path

import dagster as dg

VERSION = {version!r}


@dg.asset
def blocker() -> None:
    while not Path({gate!r}).exists():
        time.sleep(0.1)


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
def part() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={{"version": VERSION}})


@dg.asset
def made_by_sensor() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={{"version": VERSION}})


job = dg.define_asset_job("made", selection=[made_by_sensor])


@dg.sensor(job=job, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def sensor():
    yield dg.RunRequest(run_key="once for " + VERSION)


@dg.schedule(job=job, cron_schedule="* * * * *", default_status=dg.DefaultScheduleStatus.{schedule})
def each_minute():
    return dg.RunRequest(run_key=None, tags={{"by": "schedule of " + VERSION}})


defs = dg.Definitions(
    assets=[blocker, part, made_by_sensor],
    jobs=[job],
    sensors=[sensor],
    schedules=[each_minute],
    executor=dg.in_process_executor,
)
"""

MOVED = """
import dagster as dg


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
def part() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"version": "three"})


defs = dg.Definitions(assets=[part])
"""

_RUNS = """
{ runsOrError(limit: 100) { ... on Runs { results { runId status jobName tags { key value } } } } }
"""

_BACKFILL = """
mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }
"""


def test_queued_runs_execute_the_release_they_were_created_from(bucket: Bucket, start: Start, gate: Gate) -> None:
    """Runs of a sensor, a schedule, a backfill and the UI wait through two deployments and a new daemon's task.

    The last deployment even removes their code location. It keeps the asset of the backfill, in another one: Dagster
    ends a backfill whose asset is gone, and cancels its runs.
    """

    def release(version: str, schedule: str = "STOPPED") -> str:
        package = bucket.tree / "main"
        package.mkdir(exist_ok=True)
        text = WAITING.format(version=version, gate=str(gate.path), schedule=schedule)
        (package / "__init__.py").write_text(text, encoding="utf-8")
        return bucket.publish()

    bucket.repository = "team"
    one = release("one", "RUNNING")
    webserver = start("webserver", max_concurrent_runs=1)
    webserver.wait_release(one)
    wait_for("the assets in the UI", lambda: "blocker" in _assets(webserver))
    blocker = webserver.ui.launch("main", assets=["blocker"])
    daemon = start("daemon", max_concurrent_runs=1)
    daemon.wait_release(one)
    wait_for("the queue to be full", lambda: webserver.ui.run_status(blocker) == "STARTED")
    clicked = webserver.ui.launch("main", assets=["made_by_sensor"])
    backfill = {"assetSelection": [{"path": ["part"]}], "partitionNames": ["a", "b"]}
    launched = webserver.ui.query(_BACKFILL, params=backfill)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched

    def by_origin() -> dict[str, list[str]]:
        """Return the ids of the queued runs by what has created them."""
        found: dict[str, list[str]] = {}
        for run in webserver.ui.query(_RUNS)["runsOrError"]["results"]:
            tags = {tag["key"]: tag["value"] for tag in run["tags"]}
            for key in ("dagster/sensor_name", "dagster/schedule_name", "dagster/backfill"):
                if key in tags and run["status"] == "QUEUED":
                    found.setdefault(key, []).append(run["runId"])
        return found

    queued = wait_for(
        "runs of sensor, schedule and backfill in the queue",
        by_origin,
        until=lambda found: len(found) == 3 and len(found["dagster/backfill"]) == 2,
    )
    runs = [clicked, *(run for found in queued.values() for run in found)]
    two = release("two")
    for task in (webserver, daemon):
        task.wait_release(two)
    shutil.rmtree(bucket.tree / "main")
    (bucket.tree / "other").mkdir()
    (bucket.tree / "other/__init__.py").write_text(MOVED, encoding="utf-8")
    three = bucket.publish()
    for task in (webserver, daemon):
        task.wait_release(three)
    # The blocker's task goes, and with it release one from the disk; its successor has to fetch it again.
    daemon.stop()
    successor = start("daemon", max_concurrent_runs=1)
    successor.wait_release(three)
    assert webserver.ui.wait_run(blocker) == "FAILURE"
    for run in runs:
        assert webserver.ui.wait_run(run) == "SUCCESS", webserver.ui.run_events(run)
        assert set(webserver.ui.materialization_texts(run).values()) == {"one"}
    tags = {run["runId"]: run["tags"] for run in webserver.ui.query(_RUNS)["runsOrError"]["results"]}
    for run in runs:
        assert {"key": "dagster_ecs/release", "value": one} in tags[run]
        assert {"key": "dagster_ecs/repository", "value": "team"} in tags[run]


def test_run_whose_release_is_gone_says_so(bucket: Bucket, start: Start, gate: Gate) -> None:
    one = publish(bucket, gate, "one", "in_process_executor")
    webserver = start("webserver")
    webserver.wait_release(one)
    wait_for("the assets in the UI", lambda: _assets(webserver) == {"first", "second"})
    run = webserver.ui.launch("main", assets=["first", "second"])
    two = publish(bucket, gate, "two", "in_process_executor")
    for version in bucket.s3.list_object_versions(Bucket=bucket.name, Prefix=f"releases/{one}.json")["Versions"]:
        bucket.s3.delete_object(Bucket=bucket.name, Key=version["Key"], VersionId=version["VersionId"])
    daemon = start("daemon")
    daemon.wait_release(two)
    assert webserver.ui.wait_run(run) == "FAILURE"
    messages = "\n".join(event.get("message") or "" for event in webserver.ui.run_events(run))
    assert "after 3 attempts" in messages, "Dagster tries again before it gives up"


def test_terminate_reaches_a_run_in_another_task(bucket: Bucket, start: Start, gate: Gate) -> None:
    release = publish(bucket, gate, "one", "in_process_executor")
    webserver, daemon = start("webserver"), start("daemon")
    for task in (webserver, daemon):
        task.wait_release(release)
    run = launch(webserver, gate)
    answer = webserver.ui.query("mutation($id: String!) { terminateRun(runId: $id) { __typename } }", id=run)
    assert answer["terminateRun"]["__typename"] == "TerminateRunSuccess"
    assert webserver.ui.wait_run(run) == "CANCELED"
    wait_for("the process to end", lambda: not psutil.pid_exists(gate.pid()))


def test_run_whose_process_or_task_is_killed_is_recorded_as_failed(bucket: Bucket, start: Start, gate: Gate) -> None:
    """As by the kernel when memory runs out, and as by ECS when a task is lost."""
    release = publish(bucket, gate, "one", "in_process_executor")
    webserver, daemon = start("webserver"), start("daemon")
    for task in (webserver, daemon):
        task.wait_release(release)
    run = launch(webserver, gate)
    os.kill(gate.pid(), signal.SIGKILL)
    assert webserver.ui.wait_run(run) == "FAILURE"
    assert any("ran out of memory" in (event.get("message") or "") for event in webserver.ui.run_events(run))
    gate.forget()
    run = launch(webserver, gate)
    daemon.clean_up()
    start("daemon").wait_release(release)
    assert webserver.ui.wait_run(run) == "FAILURE"
    assert any("is gone" in (event.get("message") or "") for event in webserver.ui.run_events(run))


def _assets(task: Task) -> frozenset[str]:
    try:
        return task.ui.assets("main")
    except (OSError, KeyError):
        return frozenset()
