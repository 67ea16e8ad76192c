"""The main loop, as a user goes through it: up, look, materialize, edit, deploy, look again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.e2e.dagster_client import wait_for
from tests.e2e.platform_under_test import REPOSITORY, Platform, Probe

pytestmark = pytest.mark.e2e


@pytest.fixture
def tree(platform: Platform) -> Iterator[Path]:
    """The platform's DAG tree; put back, and deployed again, when a test has changed it."""
    before = platform.tree.with_name("before")
    shutil.copytree(platform.tree, before)
    try:
        yield platform.tree
    finally:
        shutil.rmtree(platform.tree)
        before.rename(platform.tree)
        platform.deploy()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")


def test_ui_shows_the_example_location(platform: Platform) -> None:
    location = platform.ui.locations()["main"]
    assert location.error is None
    assert location.assets
    assert location.jobs - {"__ASSET_JOB"}


def test_daemons_are_healthy(platform: Platform) -> None:
    unhealthy = wait_for("healthy daemons", platform.ui.unhealthy_daemons, until=lambda names: not names, seconds=120)
    assert unhealthy == []


def test_iam_is_enforced_all_the_while(platform: Platform) -> None:
    """In all these tests tasks have their role only, and who deploys may deploy DAGs only."""
    platform.deploy()
    bucket, role = "dagster-local-dags-123456789012", "arn:aws:iam::123456789012:role/dagster-local-task"
    made = platform.aws("sts").assume_role(RoleArn=role, RoleSessionName="a-task")["Credentials"]
    task = platform.aws("s3", made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])
    publisher = platform.aws("s3", *platform.publisher_keys())
    assert task.get_object(Bucket=bucket, Key="releases/current")
    for s3, key in ((task, "releases/current"), (task, "dags/main/assets.py"), (publisher, "data/table.csv")):
        with pytest.raises(ClientError, match="Access Denied"):
            s3.put_object(Bucket=bucket, Key=key, Body=b"")
    with pytest.raises(ClientError, match="Access Denied"):
        publisher.delete_bucket(Bucket=bucket)


def test_second_deploy_changes_nothing(platform: Platform) -> None:
    platform.deploy()
    assert "changed=0" in platform.deploy()


def test_edited_dag_appears_without_restart(platform: Platform, tree: Path) -> None:
    """A new asset and a new sensor: the asset in the UI, the sensor ticked by the daemon, a run of it succeeds."""
    tasks_before = platform.running_tasks()
    assets = tree / "main" / "assets.py"
    assets.write_text(
        assets.read_text(encoding="utf-8")
        + textwrap.dedent(
            """

            @dg.asset
            def freshly_added() -> dg.MaterializeResult:
                return dg.MaterializeResult(metadata={"hello": "new release"})
            """
        ),
        encoding="utf-8",
    )
    with Probe(platform.ui, "main") as probe:
        output = platform.deploy()
        wait_for("the new asset in the UI", lambda: "freshly_added" in platform.ui.assets("main"))
        run = platform.ui.launch("main", assets=["freshly_added"])
        assert platform.ui.wait_run(run) == "SUCCESS"
    assert probe.asked > 5
    assert probe.failures == []
    assert platform.running_tasks() == tasks_before
    assert platform.ui.materialization_texts(run) == {"freshly_added.hello": "new release"}
    for task in tasks_before:
        assert task.rsplit("/", 1)[1][:8] in output, "the convergence table names every running task"


def test_live_reload(platform: Platform, tree: Path) -> None:
    """`make dev` beside a running platform: a broken save is explained, the next is in the UI, Ctrl-C leaves all up."""
    arguments = f"ARGS=-e dags_path={tree}"
    with subprocess.Popen(
        # As from a shell, whatever the tests were started from.
        ["env", "--default-signal=INT", "make", "--no-print-directory", "dev", arguments],
        cwd=REPOSITORY,
        env=platform.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        said: list[str] = []

        def until(*words: str) -> None:
            for line in process.stdout or ():
                said.append(line)
                if all(word in line for word in words):
                    return
            raise AssertionError(f"{words} were not said:\n{''.join(said)}")

        try:
            until("Watching", str(tree))
            until("  dags: ", "released")
            file = tree / "main" / "assets.py"
            good = file.read_text(encoding="utf-8")
            file.write_text(f"{good}\nraise RuntimeError('unfinished')\n", encoding="utf-8")
            until("main/assets.py: not released")
            until("RuntimeError: unfinished")
            write(file, good + "\n\n@dg.asset\ndef reloaded() -> None: ...\n")
            until("main/assets.py: released", "+ asset main: reloaded")
            wait_for("the new asset in the UI", lambda: "reloaded" in platform.ui.assets("main"))
            # As the terminal does: to make and all that it has started.
            os.killpg(process.pid, signal.SIGINT)
            until("No longer watching", platform.ui.base_url)
        finally:
            process.kill()
    assert platform.running_tasks()


def test_rollback_takes_as_long_as_a_deploy_and_nobody_notices(platform: Platform, tree: Path) -> None:
    assets = platform.ui.assets("main")
    with Probe(platform.ui, "main") as probe:
        file = tree / "main" / "assets.py"
        file.write_text(file.read_text(encoding="utf-8") + "\n\n@dg.asset\ndef regretted() -> None: ...\n")
        platform.deploy()
        wait_for("the new asset in the UI", lambda: platform.ui.assets("main") == {*assets, "regretted"})
        output = platform.make("rollback-dags")
        wait_for("the new asset to be gone", lambda: platform.ui.assets("main") == assets)
    assert "serving" in output
    assert probe.failures == []


def test_check_mode_lists_changes_and_makes_none(platform: Platform, tree: Path) -> None:
    write(tree / "main" / "added_file.py", "X = 1\n")
    (tree / "main" / "jobs.py").write_text(
        (tree / "main" / "jobs.py").read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8"
    )
    s3 = platform.aws("s3")
    (bucket,) = [b["Name"] for b in s3.list_buckets()["Buckets"]]
    pointer = s3.head_object(Bucket=bucket, Key="releases/current")["VersionId"]
    output = platform.deploy("--check", "--diff")
    assert "main/added_file.py" in output
    assert "main/jobs.py" in output
    assert s3.head_object(Bucket=bucket, Key="releases/current")["VersionId"] == pointer


def test_broken_dag_is_refused_by_the_validation(platform: Platform, tree: Path) -> None:
    assets = tree / "main" / "assets.py"
    line = len(assets.read_text(encoding="utf-8").splitlines()) + 1
    assets.write_text(
        assets.read_text(encoding="utf-8") + "raise RuntimeError('broken on purpose')\n", encoding="utf-8"
    )
    with Probe(platform.ui, "main") as probe:
        output = platform.deploy(expect=None)
    assert "broken on purpose" in output
    assert f"main/assets.py:{line}" in output or f'main/assets.py", line {line}' in output
    assert probe.failures == []


def test_broken_dag_is_refused_by_the_canary(platform: Platform, tree: Path) -> None:
    """The validation is switched off; the tasks themselves refuse the release and go on serving the last one."""
    assets_before = platform.ui.assets("main")
    tasks_before = platform.running_tasks()
    assets = tree / "main" / "assets.py"
    assets.write_text(
        assets.read_text(encoding="utf-8") + "raise RuntimeError('refused by the canary')\n", encoding="utf-8"
    )
    with Probe(platform.ui, "main") as probe:
        output = platform.deploy("-e", "dag_release_validate=false", expect=None)
        assert "refused by the canary" in output
        assert platform.ui.assets("main") == assets_before
    assert probe.asked > 5
    assert probe.failures == []
    assert platform.running_tasks() == tasks_before


def test_new_location_appears_and_disappears(platform: Platform, tree: Path) -> None:
    write(tree / "second" / "__init__.py", "from .definitions import defs as defs\n")
    write(
        tree / "second" / "definitions.py",
        """
        import dagster as dg


        @dg.asset
        def second_asset() -> None: ...


        @dg.sensor(
            job=dg.define_asset_job("second_job", selection=[second_asset]),
            minimum_interval_seconds=1,
            default_status=dg.DefaultSensorStatus.RUNNING,
        )
        def second_sensor() -> dg.SkipReason:
            return dg.SkipReason("looked at by the daemon")


        defs = dg.Definitions(assets=[second_asset], sensors=[second_sensor])
        """,
    )
    with Probe(platform.ui, "main") as probe:
        platform.deploy()
        wait_for("the new location in the UI", lambda: platform.ui.assets("second") == {"second_asset"})
        wait_for("a tick by the daemon", lambda: platform.ui.sensor_ticks("second", "second_sensor"))
        run = platform.ui.launch("second", assets=["second_asset"])
        assert platform.ui.wait_run(run) == "SUCCESS"
        shutil.rmtree(tree / "second")
        platform.deploy()
        wait_for("the location gone from the UI", lambda: "second" not in platform.ui.locations())
    assert probe.failures == []


PINNED = """
import time
from pathlib import Path

import dagster as dg

VERSION = "{version}"


@dg.asset
def first() -> dg.MaterializeResult:
    gate = Path("{gate}")
    gate.with_suffix(".waiting").touch()
    while not gate.exists():
        time.sleep(0.1)
    return dg.MaterializeResult(metadata={{"version": VERSION}})


@dg.asset(deps=[first])
def second() -> dg.MaterializeResult:
    from .late import LATE

    return dg.MaterializeResult(metadata={{"version": VERSION, "late": LATE}})


defs = dg.Definitions(assets=[first, second], executor=dg.{executor})
"""


@pytest.mark.parametrize("executor", ["multiprocess_executor", "in_process_executor"])
def test_run_in_flight_finishes_on_its_own_release(
    platform: Platform, tree: Path, tmp_path: Path, executor: str
) -> None:
    """A swap in the middle of a run: later steps, their subprocesses and late imports stay on the old release."""
    gate = tmp_path / "gate"

    def release(version: str) -> None:
        write(tree / "pinned" / "__init__.py", "from .definitions import defs as defs\n")
        write(tree / "pinned" / "definitions.py", PINNED.format(version=version, gate=gate, executor=executor))
        write(tree / "pinned" / "late.py", f"LATE = {version!r}\n")
        platform.deploy()

    release("one")
    wait_for("the location", lambda: platform.ui.assets("pinned") == {"first", "second"})
    run = platform.ui.launch("pinned", assets=["first", "second"])
    wait_for("the first step", gate.with_suffix(".waiting").exists)
    release("two")
    gate.touch()
    assert platform.ui.wait_run(run) == "SUCCESS"
    assert platform.ui.materialization_texts(run) == {
        "first.version": "one",
        "second.version": "one",
        "second.late": "one",
    }
    run = platform.ui.launch("pinned", assets=["first", "second"])
    assert platform.ui.wait_run(run) == "SUCCESS"
    assert set(platform.ui.materialization_texts(run).values()) == {"two"}
