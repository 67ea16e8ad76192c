"""Down and up again, and an emulator that has forgotten everything."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

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
