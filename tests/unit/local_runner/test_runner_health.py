"""Health checks, with a clock that stands still."""

from __future__ import annotations

import pytest

from local.runner.health import Health, HealthCheck, HealthMonitor


def monitor(**settings: float) -> HealthMonitor:
    return HealthMonitor(HealthCheck(("CMD", "true"), **settings), started=100.0)  # type: ignore[arg-type]


def test_first_check_is_an_interval_after_the_start_and_after_each_end() -> None:
    health = monitor(interval=30)
    assert health.due() == 130
    health.record(133, success=True)
    assert health.due() == 163


def test_checks_are_frequent_in_the_start_period_until_the_first_success() -> None:
    health = monitor(interval=30, start_period=60)
    assert health.due() == 101
    health.record(101, success=False)
    assert health.due() == 102
    health.record(102, success=True)
    assert health.due() == 132


def test_checks_are_as_usual_after_a_start_period_without_success() -> None:
    health = monitor(interval=30, start_period=60)
    health.record(160, success=False)
    assert health.due() == 190


def test_unknown_until_the_first_result_that_counts() -> None:
    health = monitor(start_period=60)
    assert health.status == Health.UNKNOWN
    assert health.record(101, success=False) == Health.UNKNOWN


def test_failures_in_the_start_period_do_not_count() -> None:
    health = monitor(retries=2, start_period=60)
    for moment in range(101, 160):
        assert health.record(moment, success=False) == Health.UNKNOWN
    assert health.record(160, success=False) == Health.UNKNOWN
    assert health.record(190, success=False) == Health.UNHEALTHY


def test_after_a_success_failures_count_in_the_start_period_too() -> None:
    health = monitor(retries=2, start_period=60)
    assert health.record(101, success=True) == Health.HEALTHY
    assert health.record(131, success=False) == Health.HEALTHY
    assert health.record(141, success=False) == Health.UNHEALTHY


def test_only_failures_in_a_row_count() -> None:
    health = monitor(retries=2)
    for moment in (130, 190, 250):
        health.record(moment, success=False)
        assert health.record(moment + 30, success=True) == Health.HEALTHY


def test_parse_takes_the_defaults_of_ecs() -> None:
    check = HealthCheck.parse({"command": ["CMD", "/opt/x", "healthcheck"]})
    assert check is not None
    assert (check.interval, check.timeout, check.retries, check.start_period) == (30, 5, 3, 0)
    assert check.argv == ["/opt/x", "healthcheck"]


def test_shell_commands() -> None:
    check = HealthCheck.parse({"command": ["CMD-SHELL", "exit 0 || exit 1"], "startPeriod": 7})
    assert check is not None
    assert check.argv == ["/bin/sh", "-c", "exit 0 || exit 1"]
    assert check.start_period == 7


@pytest.mark.parametrize("definition", [None, {}, {"command": ["NONE"]}])
def test_no_check(definition: dict[str, list[str]] | None) -> None:
    assert HealthCheck.parse(definition) is None


@pytest.mark.parametrize("command", [["true"], ["CMD"]])
def test_wrong_commands_are_named(command: list[str]) -> None:
    with pytest.raises(ValueError, match=r"must begin with CMD or CMD-SHELL"):
        HealthCheck.parse({"command": command})
