"""The database's password is changed while the web UI is asked and a run executes: nobody notices."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.dagster_client import DagsterClient, Location, wait_for
from tests.e2e.database import accepts, sql
from tests.e2e.platform_under_test import Platform, Probe
from tests.e2e.test_live_dags import tree

__all__ = ["tree"]

pytestmark = pytest.mark.e2e

SECRET = "dagster-local/database"


class StorageClient(DagsterClient):
    """Asks the database with every question, not the code servers alone."""

    def __init__(self, base_url: str, run: str) -> None:
        super().__init__(base_url)
        self._run = run

    def locations(self) -> dict[str, Location]:
        self.run_status(self._run)
        self.unhealthy_daemons()
        return super().locations()


def password(platform: Platform) -> str:
    value = platform.aws("secretsmanager").get_secret_value(SecretId=SECRET)["SecretString"]
    return str(json.loads(value)["password"])


def answered(client: DagsterClient, run: str) -> bool:
    try:
        return bool(client.run_status(run)) and not client.unhealthy_daemons()
    except (requests.RequestException, AssertionError, KeyError, TypeError):
        return False


def test_password_is_changed_while_everything_runs(platform: Platform, tree: Path, tmp_path: Path) -> None:
    """Twice, so that what tasks were given when they started is neither the present nor the previous one."""
    gate, waiting = tmp_path / "gate", tmp_path / "waiting"
    assets = tree / "main" / "assets.py"
    assets.write_text(
        assets.read_text(encoding="utf-8")
        + textwrap.dedent(
            f"""

            @dg.asset
            def before_the_change() -> None:
                import pathlib, time
                pathlib.Path({str(waiting)!r}).touch()
                while not pathlib.Path({str(gate)!r}).exists():
                    time.sleep(0.1)


            @dg.asset(deps=[before_the_change])
            def after_the_change() -> None: ...
            """
        ),
        encoding="utf-8",
    )
    platform.deploy()
    tasks, first = platform.running_tasks(), password(platform)
    run = wait_for("a launch", lambda: launch(platform, ["before_the_change", "after_the_change"]))
    wait_for("the step", waiting.exists)
    with Probe(StorageClient(platform.ui.base_url, run), "main") as probe:
        platform.make("rotate-credentials")
        second = password(platform)
        output = platform.make("rotate-credentials")
        gate.touch()
        assert platform.ui.wait_run(run) == "SUCCESS"
        later = platform.ui.launch("main", assets=["after_the_change"])
        assert platform.ui.wait_run(later) == "SUCCESS"
    assert probe.failures == []
    assert probe.asked > 20
    assert platform.running_tasks() == tasks
    assert "changed=1 " in output
    third = password(platform)
    assert len({first, second, third}) == 3
    assert [accepts(platform.postgres_port, each) for each in (first, second, third)] == [False, False, True]
    # Connections outlive a password. Without those there were, everybody has to find the present one.
    end_others = """
        SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE usename = 'dagster' AND pid <> pg_backend_pid()
        """
    done = sql(platform.postgres_port, third, end_others)
    assert int(done.stdout) > 0
    wait_for("an answer from the database", lambda: answered(platform.ui, run))
    assert platform.running_tasks() == tasks


def launch(platform: Platform, assets: list[str]) -> Any:
    """Launch a run as soon as the web UI knows its assets."""
    return set(assets) <= platform.ui.assets("main") and platform.ui.launch("main", assets=assets)
