"""The container program for real: releases come, break, go; processes die; S3 goes away."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.dagster_client import wait_for
from tests.e2e.platform_under_test import Probe
from tests.integration.release.support import CONTAINER_PYTHON, ROOT
from tests.integration.runtime.conftest import Bucket, Task
from tests.integration.runtime.outage import Line

Start = Callable[..., Task]


def location(tree: Path, name: str, asset: str, extra: str = "") -> None:
    """Write a code location with one asset."""
    package = tree / name
    package.mkdir(exist_ok=True)
    body = f"import dagster as dg\n\n{textwrap.dedent(extra)}\n\n@dg.asset\ndef {asset}() -> None: ...\n\n\n"
    body += f"defs = dg.Definitions(assets=[{asset}], executor=dg.in_process_executor)\n"
    (package / "__init__.py").write_text(body, encoding="utf-8")


def test_missing_bucket_ends_at_once_with_a_clear_message() -> None:
    done = subprocess.run(
        [CONTAINER_PYTHON, "-m", "dagster_ecs_runtime", "webserver"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "docker/runtime/src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "DAGSTER_S3_BUCKET is not set" in done.stderr
    assert "task definition" in done.stderr
    assert "Traceback" not in done.stderr


def test_releases_come_break_and_go(bucket: Bucket, start: Start) -> None:
    """Nothing published, a first release, a second, a broken one, a new location, a rollback."""
    task = start("webserver")
    wait_for("an empty UI", lambda: task.health()[1].get("status"), until=lambda status: status == "waiting")
    wait_for("healthy while waiting", lambda: task.health()[0], until=lambda code: code == 200)
    wait_for("the UI", lambda: _locations(task), until=lambda found: found == set())

    location(bucket.tree, "main", "one")
    first = bucket.publish()
    task.wait_release(first)
    wait_for("the first release in the UI", lambda: _assets(task, "main") == {"one"})
    webserver = task.health()[1]["children"]["webserver"]

    location(bucket.tree, "main", "two")
    second = bucket.publish()
    task.wait_release(second)
    wait_for("the second release in the UI", lambda: _assets(task, "main") == {"two"})
    assert task.health()[1]["children"]["webserver"] == webserver, "the webserver was not restarted"
    assert task.health()[1]["previous"] == first

    location(bucket.tree, "main", "three", extra="raise RuntimeError('broken on purpose')")
    broken = bucket.publish()
    body = wait_for("the rejection", lambda: task.health()[1], until=lambda body: body["rejected"] == broken)
    assert body["status"] == "rejected"
    assert body["release"] == second
    assert "broken on purpose" in body["error"]
    assert "main/__init__.py" in body["error"]
    assert task.health()[0] == 200, "a broken DAG does not make the task unhealthy"
    assert _assets(task, "main") == {"two"}

    location(bucket.tree, "main", "two")
    location(bucket.tree, "extra", "four")
    third = bucket.publish()
    task.wait_release(third)
    wait_for("the new location", lambda: _locations(task), until=lambda found: found == {"main", "extra"})
    assert _assets(task, "extra") == {"four"}

    shutil.rmtree(bucket.tree / "extra")
    assert bucket.publish() == second, "the same tree is the same release"
    task.wait_release(second)
    wait_for("the location to go", lambda: _locations(task), until=lambda found: found == {"main"})
    assert [s["status"] for s in task.states()].count("rejected") >= 1
    assert [s["status"] for s in task.states()].count("swapping") >= 4
    for line in list(task.lines):
        assert "event" in json.loads(line), "every line is one JSON object, those of Dagster too"
    kept = {path.name for path in (task.base / "releases").iterdir()}
    wait_for("old releases to be removed", lambda: _directories(task), until=lambda found: found <= {second, third})
    assert second in kept


def test_release_on_disk_is_whole_shared_and_read_only(bucket: Bucket, start: Start) -> None:
    location(bucket.tree, "main", "one")
    (bucket.tree / "main/data.txt").write_text("the same in both releases", encoding="utf-8")
    task = start("daemon")
    first = bucket.publish()
    task.wait_release(first)
    location(bucket.tree, "main", "two")
    second = bucket.publish()
    task.wait_release(second)
    releases = task.base / "releases"
    data = [releases / release / "dags/main/data.txt" for release in (first, second)]
    assert data[0].stat().st_ino == data[1].stat().st_ino, "an unchanged file is hard-linked, not fetched"
    assert not stat.S_IMODE(data[1].stat().st_mode) & 0o222
    assert not list(releases.glob("*.tmp"))


def test_task_that_is_replaced_falls_back_to_the_last_good_release(bucket: Bucket, start: Start) -> None:
    location(bucket.tree, "main", "good")
    good = bucket.publish()
    task = start("webserver")
    task.wait_release(good)
    assert task.stop() == 0
    for number in range(2):  # the release before the pointer's is broken too
        location(bucket.tree, "main", "bad", extra=f"raise RuntimeError('bad {number}')")
        broken = bucket.publish()
    replaced = start("webserver")
    body = wait_for("the fall-back", lambda: replaced.health()[1], until=lambda body: body.get("release") == good)
    assert body["rejected"] == broken
    wait_for("the UI", lambda: _assets(replaced, "main") == {"good"})
    assert "bad 1" in replaced.health()[1]["error"]


def test_new_task_serves_the_release_before_one_that_cannot_be_fetched(bucket: Bucket, start: Start) -> None:
    location(bucket.tree, "main", "one")
    first = bucket.publish()
    location(bucket.tree, "main", "two")
    bucket.publish()
    pinned = [v["VersionId"] for v in _versions(bucket, "dags/main/__init__.py") if v["IsLatest"]]
    bucket.s3.delete_object(Bucket=bucket.name, Key="dags/main/__init__.py", VersionId=pinned[0])
    task = start("webserver")
    wait_for("the UI", lambda: _assets(task, "main") == {"one"})
    _, body = task.health()
    assert body["release"] == first
    assert f"dags/main/__init__.py (version {pinned[0]}) cannot be read" in body["error"]
    location(bucket.tree, "main", "three")
    task.wait_release(bucket.publish())


def test_s3_outage_makes_a_task_stale_not_dead(bucket: Bucket, start: Start) -> None:
    location(bucket.tree, "main", "one")
    release = bucket.publish()
    line = Line(bucket.endpoint)
    task = start("webserver", DAGSTER_STALE_SECONDS="5", AWS_ENDPOINT_URL=line.url)
    task.wait_release(release)
    wait_for("the UI", lambda: _assets(task, "main") == {"one"})
    with Probe(task.ui, "main") as probe:
        line.cut()
        body = wait_for("stale", lambda: task.health()[1], until=lambda body: body["status"] == "stale")
        assert "s3://" in wait_for("the reason", lambda: task.health()[1]["error"])
        assert body["release"] == release
        assert [task.health(f"/health{path}")[0] for path in ("", "/fresh", "/ready", "/live")] == [503, 503, 200, 200]
        assert _assets(task, "main") == {"one"}, "it goes on serving"
        location(bucket.tree, "main", "two")
        second = bucket.publish()
        line.mend()
        task.wait_release(second)
        wait_for("the release of the meantime in the UI", lambda: _assets(task, "main") == {"two"})
    assert probe.asked > 0
    assert probe.failures == []
    assert task.health()[0] == 200
    assert task.health()[1]["error"] is None
    line.cut()


def test_task_that_never_reached_s3_is_not_ready(bucket: Bucket, start: Start) -> None:
    line = Line(bucket.endpoint)
    line.cut()
    task = start("webserver", AWS_ENDPOINT_URL=line.url)
    wait_for("the reason", lambda: task.health()[1].get("error"))
    assert [task.health(f"/health{path}")[0] for path in ("", "/fresh", "/ready", "/live")] == [503, 503, 503, 200]
    line.mend()
    wait_for("readiness", lambda: task.health()[0], until=lambda code: code == 200)
    line.cut()


def test_damaged_pointer_changes_nothing(bucket: Bucket, start: Start) -> None:
    location(bucket.tree, "main", "one")
    release = bucket.publish()
    task = start("daemon")
    task.wait_release(release)
    bucket.s3.put_object(Bucket=bucket.name, Key="releases/current", Body=b"{ cut")
    body = wait_for("the reason", lambda: task.health()[1], until=lambda body: body["error"])
    assert "releases/current" in body["error"]
    assert body["release"] == release


def test_health_port_in_use_is_named(bucket: Bucket, start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        task = start("daemon", DAGSTER_HEALTH_PORT=str(port))
        assert task.process.wait(30) == 2
    task.clean_up()
    assert any(f"cannot listen on 127.0.0.1:{port}" in line and "DAGSTER_HEALTH_PORT" in line for line in task.lines)
    assert not any("Traceback" in line for line in task.lines)


def test_children_that_die_are_restarted(bucket: Bucket, start: Start) -> None:
    location(bucket.tree, "main", "one")
    release = bucket.publish()
    task = start("webserver")
    task.wait_release(release)
    wait_for("the UI", lambda: _assets(task, "main") == {"one"})
    children = task.health()[1]["children"]
    os.kill(children["webserver"], signal.SIGKILL)
    os.kill(children["code server main"], signal.SIGKILL)
    wait_for(
        "new children",
        lambda: task.health()[1]["children"],
        until=lambda now: all(now[name] != pid for name, pid in children.items()),
    )
    wait_for("the UI again", lambda: _assets(task, "main") == {"one"})


@pytest.mark.parametrize("service", ["webserver", "daemon"])
def test_sigterm_leaves_no_process_behind(bucket: Bucket, start: Start, service: str) -> None:
    location(bucket.tree, "main", "one")
    release = bucket.publish()
    task = start(service)
    task.wait_release(release)
    assert len(task.session()) >= 3
    assert task.stop() == 0
    assert task.session() == []


def test_sigterm_in_the_middle_of_a_canary(bucket: Bucket, start: Start, tmp_path: Path) -> None:
    mark = tmp_path / "importing"
    hang = f"import time, pathlib\npathlib.Path({str(mark)!r}).touch()\ntime.sleep(3600)"
    location(bucket.tree, "main", "one", extra=hang)
    task = start("webserver")
    bucket.publish()
    wait_for("the import to hang", mark.exists)
    assert task.stop() == 0
    assert task.session() == []


def test_import_that_hangs_is_rejected(bucket: Bucket, start: Start) -> None:
    location(bucket.tree, "main", "one", extra="import time\ntime.sleep(3600)")
    broken = bucket.publish()
    task = start("daemon", DAGSTER_CANARY_SECONDS="3")
    body = wait_for("the rejection", lambda: task.health()[1], until=lambda body: body.get("rejected") == broken)
    assert "not ready within 3 s" in body["error"]


def test_injected_keys_reach_no_child(bucket: Bucket, start: Start) -> None:
    """Static keys would outrank the task role inside DAG code."""
    location(bucket.tree, "main", "one")
    release = bucket.publish()
    task = start("webserver")
    task.wait_release(release)
    wait_for("webserver", lambda: task.health()[1]["children"].get("webserver"))
    processes = task.session()
    own = [process for process in processes if process.pid == task.process.pid]
    assert "AWS_SECRET_ACCESS_KEY" in own[0].environ()
    others = [process for process in processes if process.pid != task.process.pid]
    assert len(others) >= 2
    for process in others:
        assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} & set(process.environ()), process.cmdline()


def _locations(task: Task) -> set[str] | None:
    try:
        return set(task.ui.locations())
    except OSError:
        return None


def _assets(task: Task, name: str) -> frozenset[str]:
    try:
        return task.ui.assets(name)
    except OSError:
        return frozenset()


def _versions(bucket: Bucket, key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = bucket.s3.list_object_versions(Bucket=bucket.name, Prefix=key)["Versions"]
    return found


def _directories(task: Task) -> set[str]:
    return {path.name for path in (task.base / "releases").iterdir()}
