"""What a deploy means for Dagster: said before and after, and a warning of what would vanish although it is in use."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from module_utils.dag_check import CheckSettings, check_tree
from module_utils.dag_definitions import UiError, compare, describe, find_vanishing
from module_utils.dag_tree import read_tree
from tests.e2e.dagster_client import wait_for
from tests.integration.release.support import BUCKET, CONTAINER_PYTHON, ROOT, create_bucket, write_tree
from tests.integration.release.test_deploy_dags import deploy, endpoint, succeed
from tests.integration.runtime.conftest import Bucket, Task, blank_storage, bucket, start

__all__ = ["blank_storage", "bucket", "endpoint", "start"]

CHECK = CheckSettings(str(CONTAINER_PYTHON), str(ROOT / "docker/runtime/src/dagster_ecs_runtime/validate.py"))

EVERYTHING = """
    import dagster as dg


    @dg.asset
    def raw() -> None: ...


    @dg.asset(deps=[raw], description={description!r}, partitions_def=dg.DailyPartitionsDefinition("2026-01-01"))
    def clean() -> None:
        print({body!r})


    @dg.asset_check(asset=raw)
    def not_empty() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)


    job = dg.define_asset_job("nightly", selection=[raw], tags={{"team": {team!r}}})
    schedule = dg.ScheduleDefinition(name="at_night", job=job, cron_schedule={cron!r}, default_status={status})


    @dg.sensor(job=job, minimum_interval_seconds=30)
    def arrivals() -> dg.SkipReason:
        return dg.SkipReason("nothing")


    defs = dg.Definitions(
        assets=[raw, clean], asset_checks=[not_empty], jobs=[job], schedules=[schedule], sensors=[arrivals]
    )
"""
SETTINGS = {
    "description": "cleaned",
    "body": "hello",
    "team": "sales",
    "cron": "0 3 * * *",
    "status": "dg.DefaultScheduleStatus.STOPPED",
}
EMPTY = "import dagster as dg\n\ndefs = dg.Definitions()\n"


def definitions(root: Path, **changes: str) -> dict[str, Any]:
    write_tree(root, {"__init__.py": "", "main/__init__.py": EVERYTHING.format(**SETTINGS | changes)})
    return check_tree(read_tree(str(root)), CHECK)


def test_check_reports_everything_and_the_same_everywhere(tmp_path: Path) -> None:
    found = definitions(tmp_path / "a")
    assert {kind: sorted(names) for kind, names in found["main"].items()} == {
        "assets": ["clean", "raw"],
        "asset_checks": ["raw:not_empty"],
        "jobs": ["nightly"],
        "schedules": ["at_night"],
        "sensors": ["arrivals"],
    }
    assert definitions(tmp_path / "somewhere else") == found, "the directory does not matter"
    assert definitions(tmp_path / "a", body="good bye") == found, "nor does the body of a function"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"description": "scrubbed"}, {"assets": ["clean"]}),
        ({"team": "marketing"}, {"jobs": ["nightly"]}),
        ({"cron": "0 4 * * *"}, {"schedules": ["at_night"]}),
    ],
)
def test_change_is_that_of_one_definition(
    tmp_path: Path, changes: dict[str, str], expected: dict[str, list[str]]
) -> None:
    found = compare(definitions(tmp_path / "a"), definitions(tmp_path / "b", **changes))
    assert {kind: names["changed"] for kind, names in found["main"].items()} == expected
    assert not any(names["added"] or names["removed"] for names in found["main"].values())


def test_large_location(tmp_path: Path) -> None:
    """Its report is many times what a pipe holds."""
    body = """
        import dagster as dg

        assets = [dg.asset(name=f"asset_{number}")(lambda: None) for number in range(2000)]
        defs = dg.Definitions(assets=assets)
        """
    root = write_tree(tmp_path / "tree", {"__init__.py": "", "main/__init__.py": body})
    assert len(check_tree(read_tree(str(root)), CHECK)["main"]["assets"]) == 2000


def test_lines_and_their_limit() -> None:
    before = {"main": {"assets": {"a": "1", "b": "1"}, "jobs": {"j": "1"}}, "gone": {"sensors": {"s": "1"}}}
    after = {"main": {"assets": {"b": "2"} | {f"n{number:02}": "1" for number in range(52)}, "jobs": {"j": "1"}}}
    lines = describe(compare(before, after))
    assert lines[0] == "- sensor gone: s"
    assert lines[1] == "+ asset main: n00"
    assert lines[51] == "+ asset main: and 2 more"
    assert lines[52:] == ["~ asset main: b", "- asset main: a"]


def test_preview_and_deploy_say_what_changes(endpoint: str, tmp_path: Path) -> None:
    s3 = create_bucket(endpoint)
    root = tmp_path / "tree"

    def write(**changes: str) -> None:
        write_tree(root, {"__init__.py": "", "main/__init__.py": EVERYTHING.format(**SETTINGS | changes)})

    write()
    path = json.dumps({"dags_path": str(root)})
    assert "+ schedule main: at_night" in succeed(endpoint, "-e", path)
    write(description="scrubbed")
    preview = succeed(endpoint, "-e", path, "--check", "--diff")
    assert "~ asset main: clean" in preview
    assert "~ main/__init__.py" in preview
    assert "~ asset main: clean" in succeed(endpoint, "-e", path)
    assert "asset main" not in succeed(endpoint, "-e", path), "the same tree again"
    assert "~ asset main: clean" in succeed(endpoint, playbook="rollback_dags.yml")

    # A release that nobody checked, a document that is damaged: not known, and no error.
    write(description="polished")
    unchecked = succeed(endpoint, "-e", path, "-e", "dag_release_validate=false")
    assert "not known, release" in unchecked
    write(description="shining")
    assert "not known, release" in succeed(endpoint, "-e", path)
    release = json.loads(s3.get_object(Bucket=BUCKET, Key="releases/current")["Body"].read())["release"]
    s3.put_object(Bucket=BUCKET, Key=f"releases/{release}.definitions.json", Body=b"[ cut")
    write(description="gleaming")
    assert "not known, release" in succeed(endpoint, "-e", path)


QUEUED = """
mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""


def test_what_is_in_use_and_would_vanish_is_warned_of(
    bucket: Bucket, start: Callable[..., Task], tmp_path: Path
) -> None:
    """A real web UI: a run in the queue, which nobody launches, and a schedule that is on."""
    on = EVERYTHING.format(**SETTINGS | {"status": "dg.DefaultScheduleStatus.RUNNING"})
    write_tree(bucket.tree, {"main/__init__.py": on, "second/__init__.py": EMPTY})
    task = start("webserver")
    task.wait_release(bucket.publish())
    wait_for("the UI", lambda: _assets(task))
    task.ui.launch("main", job="nightly")
    before = check_tree(read_tree(str(bucket.tree)), CHECK)
    (bucket.tree / "main/__init__.py").write_text(EMPTY, encoding="utf-8")
    after = check_tree(read_tree(str(bucket.tree)), CHECK)
    assert find_vanishing(compare(before, after), task.ui.base_url) == [
        "the job 'nightly' of 'main' has 1 queued or running run",
        "the schedule 'at_night' of 'main' is switched on",
    ]
    without = {location: kinds for location, kinds in after.items() if location != "main"}
    assert len(find_vanishing(compare(before, without), task.ui.base_url)) == 2, "the location vanishes"
    assert find_vanishing(compare(after, before), "http://127.0.0.1:1") == [], "nothing vanishes: nobody is asked"


ANSWER = {
    "data": {
        "workspaceOrError": {
            "locationEntries": [
                {
                    "name": "main",
                    "locationOrLoadError": {
                        "repositories": [
                            {
                                "schedules": [{"name": "at_night", "scheduleState": {"status": "RUNNING"}}],
                                "sensors": [{"name": "arrivals", "sensorState": {"status": "STOPPED"}}],
                            }
                        ]
                    },
                }
            ]
        },
        "runsOrError": {"results": []},
    }
}


@contextmanager
def ui(body: bytes) -> Iterator[str]:
    """A web UI that gives the same answer to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_deploy_warns_or_refuses(endpoint: str, tmp_path: Path) -> None:
    s3 = create_bucket(endpoint)
    root = write_tree(tmp_path / "tree", {"__init__.py": "", "main/__init__.py": EVERYTHING.format(**SETTINGS)})
    path = json.dumps({"dags_path": str(root)})
    succeed(endpoint, "-e", path)
    write_tree(root, {"main/__init__.py": EMPTY})
    pointer = s3.head_object(Bucket=BUCKET, Key="releases/current")["VersionId"]
    with ui(json.dumps(ANSWER).encode()) as url:
        arguments = ("-e", path, "-e", f"dag_release_ui_url={url}")
        done = deploy(endpoint, *arguments, "-e", '{"dag_release_refuse_vanishing": true}')
        assert done.returncode != 0
        assert "the schedule 'at_night' of 'main' is switched on" in done.stdout.replace("''", "'")
        assert "Nothing was uploaded" in done.stdout
        assert s3.head_object(Bucket=BUCKET, Key="releases/current")["VersionId"] == pointer
        assert "is switched on" in succeed(endpoint, *arguments, "--check")
        shown = succeed(endpoint, *arguments)
    assert "WARNING" in shown
    assert "is switched on" in shown
    assert "- schedule main: at_night" in shown


@pytest.mark.parametrize(
    "body",
    [
        b"<html>a proxy</html>",
        b"{}",
        b'{"data": null, "errors": [{"message": "no"}]}',
        b'{"data": {"runsOrError": {}, "workspaceOrError": {}}}',
        b'{"data": {"runsOrError": null, "workspaceOrError": null}}',
    ],
)
def test_ui_that_cannot_be_asked(body: bytes) -> None:
    changes = compare({"main": {"jobs": {"nightly": "1"}}}, {"main": {}})
    with ui(body) as url, pytest.raises(UiError, match="does not answer"):
        find_vanishing(changes, url)
    for wrong in ("http://[", "http://127.0.0.1:x"):
        with pytest.raises(UiError, match="does not answer"):
            find_vanishing(changes, wrong)
    with pytest.raises(UiError, match="dag_release_ui_url is not set"):
        find_vanishing(changes, "")
    with pytest.raises(UiError, match="refused"):
        find_vanishing(changes, url)


def test_location_that_the_ui_cannot_load() -> None:
    answer = json.loads(json.dumps(ANSWER))
    answer["data"]["workspaceOrError"]["locationEntries"][0]["locationOrLoadError"] = {"message": "broken"}
    changes = compare({"main": {"schedules": {"at_night": "1"}}}, {"main": {}})
    with ui(json.dumps(answer).encode()) as url:
        assert find_vanishing(changes, url) == ["schedules or sensors of 'main' may be on: the web UI cannot load it"]


def _assets(task: Task) -> frozenset[str]:
    try:
        return task.ui.assets("main")
    except OSError:
        return frozenset()
