"""Decisions of the service scheduler, step by step and by simulation."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from local.runner.scheduler import (
    Decision,
    FailureMemory,
    ServiceWish,
    TaskView,
    decide,
    delay,
    is_complete,
    parse_service,
)

ROLL = ServiceWish("c", "arn:s", "web", "td:2", "ecs-svc/2", desired=1)
STOP_FIRST = dataclasses.replace(ROLL, minimum_percent=0, maximum_percent=100)


def task(name: str, *, old: bool = False, healthy: bool = True, stopping: bool = False, started: float = 0) -> TaskView:
    revision = 1 if old else 2
    return TaskView(name, f"ecs-svc/{revision}", f"td:{revision}", started, healthy, stopping)


def stopped(decision: Decision) -> list[str]:
    return [name for name, _ in decision.stop]


def test_starts_what_is_missing() -> None:
    assert decide(dataclasses.replace(ROLL, desired=2), []) == Decision(start=2)


def test_backing_off_starts_nothing() -> None:
    assert decide(ROLL, [], may_start=False) == Decision()


def test_steady() -> None:
    assert decide(ROLL, [task("a")]) == Decision()


def test_a_starting_task_is_not_missing() -> None:
    assert decide(ROLL, [task("a", healthy=False)]) == Decision()


def test_scales_down_the_unhealthy_and_the_newest_first() -> None:
    tasks = [task("old", started=1), task("new", started=2), task("sick", healthy=False, started=0)]
    assert stopped(decide(ROLL, tasks)) == ["sick", "new"]


def test_desired_zero_stops_everything() -> None:
    wish = dataclasses.replace(ROLL, desired=0)
    assert stopped(decide(wish, [task("a"), task("b", old=True)])) == ["b", "a"]


def test_rolls_healthy_first() -> None:
    old = task("old", old=True)
    assert decide(ROLL, [old]) == Decision(start=1)
    assert decide(ROLL, [old, task("new", healthy=False)]) == Decision()
    decision = decide(ROLL, [old, task("new")])
    assert stopped(decision) == ["old"]
    assert decision.stop[0][1] == "Scaling activity initiated by (deployment ecs-svc/2)"


def test_an_old_task_that_is_not_healthy_is_of_no_use() -> None:
    assert decide(ROLL, [task("old", old=True, healthy=False)]) == Decision(
        1, (("old", "Scaling activity initiated by (deployment ecs-svc/2)"),)
    )


def test_stop_first_waits_for_the_end_of_the_old_task() -> None:
    assert stopped(decide(STOP_FIRST, [task("old", old=True)])) == ["old"]
    assert decide(STOP_FIRST, [task("old", old=True)]).start == 0
    assert decide(STOP_FIRST, [task("old", old=True, stopping=True)]) == Decision()
    assert decide(STOP_FIRST, []) == Decision(start=1)


def test_a_forced_deployment_replaces_tasks_of_the_same_revision() -> None:
    same_revision = dataclasses.replace(task("old"), deployment="ecs-svc/1")
    assert decide(ROLL, [same_revision]) == Decision(start=1)


@given(
    desired=st.integers(0, 6),
    limits=st.sampled_from([(100, 200), (0, 100), (50, 150), (100, 150), (50, 100)]),
    old=st.integers(0, 8),
    order=st.randoms(use_true_random=False),
)
def test_every_roll_keeps_its_limits_and_ends(desired: int, limits: tuple[int, int], old: int, order: Any) -> None:
    """Whatever becomes healthy or ends first: never too few healthy, never too many, and in the end the wish."""
    wish = dataclasses.replace(ROLL, desired=desired, minimum_percent=limits[0], maximum_percent=limits[1])
    tasks = {f"old{number}": task(f"old{number}", old=True) for number in range(old)}
    # With no room either way (1 task, 50/150 percent) a roll cannot begin, on ECS neither.
    assume(wish.least_healthy < wish.most or not desired)
    enough = old >= wish.least_healthy
    most = max(old, wish.most)
    for step in range(200):
        decision = decide(wish, list(tasks.values()))
        for name, _ in decision.stop:
            tasks[name] = dataclasses.replace(tasks[name], stopping=True)
        for number in range(decision.start):
            tasks[f"new{step}-{number}"] = task(f"new{step}-{number}", healthy=False, started=step)
        healthy = sum(each.healthy and not each.stopping for each in tasks.values())
        assert len(tasks) <= most
        assert not enough or healthy >= wish.least_healthy
        enough = enough or healthy >= wish.least_healthy
        changing = [each for each in tasks.values() if each.stopping or not each.healthy]
        if not changing:
            break
        chosen = order.choice(changing)
        if chosen.stopping:
            del tasks[chosen.id]
        else:
            tasks[chosen.id] = dataclasses.replace(chosen, healthy=True)
    assert is_complete(wish, list(tasks.values()))


def test_complete_only_when_all_are_new_and_healthy() -> None:
    assert is_complete(ROLL, [task("a")])
    assert not is_complete(ROLL, [task("a", healthy=False)])
    assert not is_complete(ROLL, [task("a", stopping=True)])
    assert not is_complete(ROLL, [task("a"), task("b", old=True)])
    assert not is_complete(ROLL, [])


def test_delays_double_up_to_a_minute() -> None:
    assert [delay(failures) for failures in range(10)] == [0, 0, 1, 2, 4, 8, 16, 32, 60, 60]


def test_a_task_that_was_stable_does_not_count_as_failing_to_start() -> None:
    memory = FailureMemory("d")
    for _ in range(5):
        memory.record(10, was_healthy=False)
    assert memory.not_before == 18
    memory.record(100, was_healthy=True, healthy_seconds=60)
    assert memory.not_before == 100
    memory.record(101, was_healthy=True, healthy_seconds=1)
    assert memory.not_before == 102


def test_breaker() -> None:
    wish = dataclasses.replace(ROLL, breaker=True)
    memory = FailureMemory("d")
    for expected in (False, False, True):
        memory.record(0, was_healthy=False)
        assert memory.tripped(wish) is expected
    assert not memory.tripped(ROLL)
    memory.completed = True
    assert not memory.tripped(wish)


def test_breaker_ignores_tasks_that_were_healthy_or_came_after_completion() -> None:
    wish = dataclasses.replace(ROLL, breaker=True)
    memory = FailureMemory("d")
    for _ in range(5):
        memory.record(0, was_healthy=True)
    assert not memory.tripped(wish)


@pytest.mark.parametrize(("desired", "threshold"), [(0, 3), (1, 3), (6, 3), (7, 4), (1000, 200)])
def test_threshold(desired: int, threshold: int) -> None:
    assert dataclasses.replace(ROLL, desired=desired).failure_threshold == threshold


SERVICE: dict[str, Any] = {
    "clusterArn": "c",
    "serviceArn": "arn:s",
    "serviceName": "web",
    "status": "ACTIVE",
    "taskDefinition": "td:2",
    "desiredCount": 1,
    "deployments": [{"id": "ecs-svc/1", "status": "ACTIVE"}, {"id": "ecs-svc/2", "status": "PRIMARY"}],
}


def test_parse_service_takes_the_defaults_of_ecs() -> None:
    assert parse_service(SERVICE) == ROLL


def test_parse_service() -> None:
    configuration = {
        "minimumHealthyPercent": 0,
        "maximumPercent": 100,
        "deploymentCircuitBreaker": {"enable": True, "rollback": True},
    }
    assert parse_service({**SERVICE, "deploymentConfiguration": configuration}) == dataclasses.replace(
        STOP_FIRST, breaker=True, rollback=True
    )


def test_a_draining_service_wants_no_task() -> None:
    assert parse_service({**SERVICE, "status": "DRAINING"}).desired == 0
