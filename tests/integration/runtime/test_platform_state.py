"""What the webserver's task says of the platform, asked of a real webserver beside a real daemon."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from dagster_ecs_runtime import events
from tests.e2e.dagster_client import wait_for
from tests.integration.runtime.conftest import Bucket, Task

FAILING = """
import dagster as dg

@dg.asset
def broken() -> None:
    raise RuntimeError("broken on purpose")

defs = dg.Definitions(assets=[broken], executor=dg.in_process_executor)
"""


def states(task: Task) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in list(task.lines) if '"event":"platform_state"' in line]
    assert all(line["error"] is None for line in found), found
    return found


def test_queue_failures_and_daemons(bucket: Bucket, start: Callable[..., Task]) -> None:
    package = bucket.tree / "main"
    package.mkdir()
    (package / "__init__.py").write_text(FAILING, encoding="utf-8")
    release = bucket.publish()
    webserver = start("webserver", DAGSTER_OBSERVE_SECONDS="0.5", DAGSTER_PLATFORM="dagster-test")
    webserver.wait_release(release)
    wait_for("the asset in the UI", lambda: "broken" in webserver.ui.assets("main"))

    # Without a daemon a run stays in the queue, and no heartbeat is known.
    run = webserver.ui.launch("main", assets=["broken"])
    queued = wait_for("the queued run", lambda: next((line for line in states(webserver) if line["runs_queued"]), None))
    assert queued["runs_queued"] == 1
    assert queued["oldest_queued_seconds"] >= 0
    assert queued["daemon_heartbeat_age_seconds"] >= 0
    assert {"SCHEDULER", "SENSOR", "QUEUED_RUN_COORDINATOR", "MONITORING"} <= set(queued["daemon_heartbeats"])
    assert set(queued["daemon_heartbeats"].values()) == {None}
    assert queued["code_location_errors"] == 0
    assert (queued["platform"], queued["service"]) == ("dagster-test", "webserver")

    daemon = start("daemon")
    daemon.wait_release(release)
    assert webserver.ui.wait_run(run) == "FAILURE"
    wait_for("the failure in a line", lambda: sum(line["run_failures"] for line in states(webserver)))
    last = wait_for(
        "heartbeats of all daemons",
        lambda: states(webserver)[-1],
        until=lambda line: None not in line["daemon_heartbeats"].values() and not line["runs_queued"],
    )
    assert last["daemon_heartbeat_age_seconds"] == max(last["daemon_heartbeats"].values()) < 60
    assert last["oldest_queued_seconds"] is None
    assert last["runs_in_progress"] == 0

    # A change of the run afterwards is no second failure.
    seen = len(states(webserver))
    wait_for("three more lines", lambda: len(states(webserver)) > seen + 3)
    assert sum(line["run_failures"] for line in states(webserver)) == 1
    assert not [line for line in list(daemon.lines) if "platform_state" in line], "one service asks, not both"
    (directive,) = last["_aws"]["CloudWatchMetrics"]
    assert [name for name, _ in events.PLATFORM_METRICS if last[name] is not None] == [
        metric["Name"] for metric in directive["Metrics"]
    ]
