"""Waiting for tasks: what the log lines of each of them lead to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from action.dag_convergence import (
    ConvergenceError,
    Task,
    Wanted,
    Watch,
    table,
    wait,
)
from module_utils.aws_session import environment_of
from module_utils.task_states import parse_state, parse_time

NEW, OLD = "0123456789abcdef", "fedcba9876543210"
PUBLISHED = parse_time("2026-01-31T12:00:00Z")
WANTED = Wanted(NEW, PUBLISHED, "platform", {"webserver": "/ecs/platform/webserver", "daemon": "/ecs/platform/daemon"})


def line(task: str, after: float, **fields: Any) -> dict[str, Any]:
    """Return a log event: what ``task`` reported ``after`` seconds from the pointer's write."""
    state = {"event": "release_state", "ts": PUBLISHED + after, "status": "serving", "release": OLD} | fields
    service = task.split("-", maxsplit=1)[0]
    return {
        "logStreamName": f"ecs/{service}/{task}",
        "timestamp": int((PUBLISHED + after) * 1000),
        "message": json.dumps(state),
    }


class NotFoundError(Exception):
    """What the API answers for what is not there."""


class Pages:
    def __init__(self, answer: Callable[..., dict[str, Any]]) -> None:
        self._answer = answer

    def paginate(self, **arguments: Any) -> Iterator[dict[str, Any]]:
        yield self._answer(**arguments)


class FakeCloud:
    """ECS and CloudWatch Logs with a script of log lines, a clock that only ``sleep`` moves."""

    class exceptions:
        ClusterNotFoundException = NotFoundError
        ServiceNotFoundException = NotFoundError
        ResourceNotFoundException = NotFoundError

    def __init__(self, tasks: Iterable[str], lines: Iterable[dict[str, Any]], pending: Iterable[str] = ()) -> None:
        self.tasks, self.lines, self.pending = list(tasks), list(lines), set(pending)
        self.time = PUBLISHED + 0.5

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def get_paginator(self, operation: str) -> Pages:
        return Pages(getattr(self, operation))

    def list_tasks(self, cluster: str, serviceName: str, desiredStatus: str) -> dict[str, Any]:
        assert (cluster, desiredStatus) == ("platform", "RUNNING")
        assert serviceName in WANTED.services
        # All of them, as the emulator answers: which service they are of is in their group.
        return {"taskArns": [f"arn:x:task/platform/{task}" for task in self.tasks]}

    def describe_tasks(self, tasks: list[str], **_: Any) -> dict[str, Any]:
        return {
            "tasks": [
                {
                    "taskArn": arn,
                    "lastStatus": "PENDING" if arn.rsplit("/", 1)[1] in self.pending else "RUNNING",
                    "group": f"service:{arn.rsplit('/', 1)[1].split('-')[0]}",
                }
                for arn in tasks
            ]
        }

    def filter_log_events(self, logGroupName: str, startTime: int, **_: Any) -> dict[str, Any]:
        service = logGroupName.rsplit("/", 1)[1]
        return {
            "events": [
                event
                for event in self.lines
                if event["logStreamName"].startswith(f"ecs/{service}/")
                and startTime <= event["timestamp"] <= self.time * 1000
            ]
        }


def follow(cloud: FakeCloud, timeout: float = 60) -> tuple[list[Task], list[str]]:
    shown: list[str] = []
    watch = Watch(cloud, cloud, WANTED, PUBLISHED - 150)
    return wait(watch, timeout, 1, cloud, shown.append), shown


def test_waits_until_every_task_serves_and_measures_each() -> None:
    cloud = FakeCloud(
        ["webserver-1", "daemon-1"],
        [
            line("webserver-1", -30),
            line("daemon-1", -10),
            line("webserver-1", 3, status="swapping", target=NEW),
            line("webserver-1", 8.7, release=NEW),
            line("daemon-1", 12, release=NEW, serving_since="2026-01-31T12:00:11.2Z"),
            line("webserver-1", 60, release=NEW),
        ],
    )
    tasks, shown = follow(cloud)
    assert table(tasks, WANTED).splitlines() == [
        "service    task         release           status   seconds",
        "---------  -----------  ----------------  -------  -------",
        f"daemon     daemon-1     {NEW}  serving  11.2",
        f"webserver  webserver-1  {NEW}  serving  8.7",
    ]
    assert shown == [
        f"  daemon daemon-1: serving another ({OLD})",
        f"  webserver webserve: serving another ({OLD})",
        f"  webserver webserve: swapping ({OLD})",
        f"  webserver webserve: serving ({NEW})",
        "  waiting for 1 of 2 tasks (10 s of at most 60 s)",
        f"  daemon daemon-1: serving ({NEW})",
    ]


def test_release_that_is_served_already_takes_one_look() -> None:
    cloud = FakeCloud(["webserver-1"], [line("webserver-1", -40, release=NEW)])
    tasks, _ = follow(cloud)
    assert cloud.now() == PUBLISHED + 0.5
    assert tasks[0].summary(WANTED) == ("webserver", "webserver-1", NEW, "serving", "-")


def test_refused_release_fails_at_once_with_the_traceback() -> None:
    error = 'Traceback…\n  File "dags/main/assets.py", line 7\nRuntimeError: refused by the canary'
    cloud = FakeCloud(
        ["webserver-1", "daemon-1"],
        [
            line("webserver-1", -1),
            line("daemon-1", -1),
            line("daemon-1", 4, status="rejected", rejected=NEW, error=error),
        ],
    )
    with pytest.raises(ConvergenceError) as caught:
        follow(cloud)
    message = str(caught.value)
    assert f"Release {NEW} was refused by daemon task daemon-1; the tasks go on serving {OLD}." in message
    assert error in message
    assert "rejected" in message
    assert "deploy_dags.yml again" in message
    assert cloud.now() < PUBLISHED + 6


def test_refusal_from_before_this_publish_does_not_count() -> None:
    """The same content, published again after another release: the task tries it once more."""
    cloud = FakeCloud(
        ["webserver-1"],
        [line("webserver-1", -5, status="rejected", rejected=NEW), line("webserver-1", 9, release=NEW)],
    )
    assert follow(cloud)[0][0].serves(WANTED)


def test_task_that_does_not_follow_in_time() -> None:
    cloud = FakeCloud(
        ["webserver-1", "daemon-1"],
        [line("webserver-1", 5, release=NEW), line("daemon-1", 6, status="stale", error="S3: connection refused")],
    )
    with pytest.raises(ConvergenceError) as caught:
        follow(cloud, timeout=30)
    message = str(caught.value)
    assert "after 30 seconds not every running task serves it" in message
    assert f"daemon     daemon-1     {OLD}  stale" in message
    assert "daemon daemon-1: S3: connection refused" in message
    for way_out in ("make logs", "dag_release_wait_timeout", "dag_release_wait: false"):
        assert way_out in message


def test_task_that_says_nothing() -> None:
    with pytest.raises(ConvergenceError, match="no report yet"):
        follow(FakeCloud(["webserver-1"], []), timeout=5)


def test_nothing_is_running() -> None:
    assert follow(FakeCloud([], [])) == ([], [])


def test_tasks_that_are_still_starting_are_not_waited_for() -> None:
    cloud = FakeCloud(["webserver-1", "daemon-1"], [line("webserver-1", 2, release=NEW)], pending=["daemon-1"])
    tasks, _ = follow(cloud)
    assert [task.id for task in tasks] == ["webserver-1"]
    assert "daemon     -            -                 no running task" in table(tasks, WANTED)


def test_replaced_task_is_followed_by_its_successor() -> None:
    cloud = FakeCloud(["webserver-1"], [line("webserver-1", 1), line("webserver-2", 4, release=NEW)])
    sleep = cloud.sleep

    def replace(seconds: float) -> None:
        sleep(seconds)
        cloud.tasks = [] if cloud.time < PUBLISHED + 3 else ["webserver-2"]

    cloud.sleep = replace  # type: ignore[method-assign]
    tasks, _ = follow(cloud)
    assert [task.id for task in tasks] == ["webserver-2"]


def test_missing_cluster_and_log_group_mean_nothing_runs_and_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cloud = FakeCloud(["webserver-1"], [])

    def missing(**_: Any) -> dict[str, Any]:
        raise NotFoundError

    monkeypatch.setattr(cloud, "filter_log_events", missing)
    with pytest.raises(ConvergenceError, match="no report yet"):
        follow(cloud, timeout=2)
    monkeypatch.setattr(cloud, "list_tasks", missing)
    assert follow(cloud) == ([], [])


@pytest.mark.parametrize(
    ("ts", "at"),
    [
        (1.5, 1.5),
        ("1970-01-01T00:00:02Z", 2.0),
        ("1970-01-01T01:00:02+01:00", 2.0),
        ("1970-01-01T00:00:02.25", 2.25),
        ("nonsense", 3.0),
        (None, 3.0),
    ],
)
def test_times_of_reports(ts: object, at: float) -> None:
    state = parse_state({"timestamp": 3000, "message": json.dumps({"event": "release_state", "ts": ts, "status": "x"})})
    assert state is not None
    assert state.at == at


@pytest.mark.parametrize(
    "message", ["no json: release_state", '"release_state"', '{"event": "other", "x": "release_state"}']
)
def test_other_lines_are_passed_over(message: str) -> None:
    assert parse_state({"timestamp": 0, "message": message}) is None


def test_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("AWS_REGION", "before")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with environment_of({"AWS_REGION": "during", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}):
        assert os.environ["AWS_REGION"] == "during"
    assert os.environ["AWS_REGION"] == "before"
    assert "AWS_ENDPOINT_URL" not in os.environ
