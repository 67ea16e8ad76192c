"""Runs and releases: a run keeps the release it was started from, and a stop never leaves one open."""

from __future__ import annotations

import os
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
    """Two swaps in the middle of a run: later steps, their subprocesses and late imports stay on its release."""
    one = publish(bucket, gate, "one")
    webserver, daemon = start("webserver"), start("daemon")
    for task in (webserver, daemon):
        task.wait_release(one)
    run = launch(webserver, gate)
    for version in ("two", "three"):
        release = publish(bucket, gate, version)
        for task in (webserver, daemon):
            task.wait_release(release)
    assert (daemon.base / "releases" / one).is_dir(), "neither current nor previous, but in use"
    gate.open()
    assert webserver.ui.wait_run(run) == "SUCCESS"
    expected = {"first.version": "one", "second.version": "one", "second.late": "one"}
    assert webserver.ui.materialization_texts(run) == expected
    wait_for("the release to be removed", lambda: not (daemon.base / "releases" / one).exists())
    servers = [p for p in daemon.session() if "grpc" in p.cmdline()]
    assert [p.pid for p in servers] == [daemon.health()[1]["children"]["code server main"]]
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


def _assets(task: Task) -> frozenset[str]:
    try:
        return task.ui.assets("main")
    except (OSError, KeyError):
        return frozenset()
