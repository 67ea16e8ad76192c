"""Down and up again, and an emulator that has forgotten everything."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import requests

from tests.e2e.dagster_client import wait_for
from tests.e2e.platform_under_test import Platform, free_ports, port_answers

pytestmark = pytest.mark.e2e


def recaps(output: str) -> list[str]:
    """Return the numbers of changed tasks in the play recaps of an output."""
    return re.findall(r"changed=(\d+)", output)


def test_down_stops_all_and_up_again_changes_nothing(platform: Platform) -> None:
    run = platform.ui.launch("main", assets=[sorted(platform.ui.assets("main"))[0]])
    platform.ui.wait_run(run)
    platform.make("down")
    for port in (platform.aws_port, platform.ui_port, platform.postgres_port):
        assert not port_answers(port)
    output = platform.make("up")
    assert recaps(output) and set(recaps(output)) == {"0"}, output[-4000:]
    assert platform.ui.run_status(run) in {"SUCCESS", "FAILURE"}, "the history of runs outlives `make down`"


def test_up_on_a_running_platform_changes_nothing(platform: Platform) -> None:
    tasks = platform.running_tasks()
    output = platform.make("up")
    assert recaps(output) and set(recaps(output)) == {"0"}, output[-4000:]
    assert platform.running_tasks() == tasks


def test_platform_recovers_from_an_emulator_that_forgot_everything(platform: Platform) -> None:
    """The account is empty again, the database is not: `make up` converges and the history is still there."""
    run = platform.ui.launch("main", assets=[sorted(platform.ui.assets("main"))[0]])
    platform.ui.wait_run(run)
    platform.forget_the_account()
    platform.make("up")
    location = wait_for("the location", lambda: platform.ui.locations().get("main"))
    assert location.error is None
    assert platform.ui.run_status(run) in {"SUCCESS", "FAILURE"}
    after = platform.ui.launch("main", assets=[sorted(platform.ui.assets("main"))[0]])
    assert platform.ui.wait_run(after) == platform.ui.run_status(run)


def test_all_is_deployed_put_to_sleep_and_woken(platform: Platform) -> None:
    """New tasks serve the release; asleep nothing runs and status says why; awake the history is there again."""
    run = platform.ui.launch("main", assets=[sorted(platform.ui.assets("main"))[0]])
    platform.ui.wait_run(run)
    before = platform.running_tasks()
    platform.make("deploy-all")
    tasks = platform.running_tasks()
    assert len(tasks) == 2
    assert not tasks & before

    platform.make("hibernate")
    assert not platform.running_tasks()
    assert "hibernates since 20" in platform.make("status", expect=2)
    assert "hibernates since 20" in platform.make("deploy", expect=2)
    assert platform.running_tasks() == set()

    platform.make("wake")
    assert len(platform.running_tasks()) == 2
    # In place of a load balancer, which sends nothing to a task that does not answer yet, the runner says 503.
    wait_for("the UI", lambda: requests.get(f"{platform.ui.base_url}/server_info", timeout=30).ok)
    location = wait_for("the location", lambda: platform.ui.locations().get("main"))
    assert location.error is None
    assert platform.ui.run_status(run) in {"SUCCESS", "FAILURE"}


def test_busy_port_is_named(platform: Platform) -> None:
    """A second platform on the first one's UI port is refused before it starts anything."""
    aws_port, postgres_port = free_ports(2)
    second = replace(platform, state=platform.state.with_name("second"), aws_port=aws_port, postgres_port=postgres_port)
    try:
        output = second.make("up", expect=None)
    finally:
        second.make("clean")
    assert str(platform.ui_port) in output
    assert "DAGSTER_LOCAL_UI_PORT" in output
    assert platform.ui.locations()["main"].error is None
