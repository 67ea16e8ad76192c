"""What `make status` finds wrong, and what it shows."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from module_utils.platform_status import StatusSpec, add_states, add_targets, platform_state, read_services
from module_utils.status_report import Limits, duration, facts, find_problems, size, tables
from tests.unit.docs.test_modules import ROOT, load

NOW = 1_800_000_000.0
COMMANDS = {name: f"make {name}" for name in ("apply", "wake", "logs", "deploy", "doctor")}
SPEC = StatusSpec("lab", "lab", {"webserver": "/w", "daemon": "/d"}, "lab", "bucket", "", True, 5)
ACTION = load(ROOT / "plugins" / "action" / "platform_status.py")


def service(**changes: Any) -> dict[str, Any]:
    return {
        "name": "webserver",
        "status": "ACTIVE",
        "desired": 1,
        "running": 1,
        "pending": 0,
        "rollout": "COMPLETED",
        "rollout_age_seconds": 7200.0,
        "revision": "lab-webserver:3",
        "reasons": [],
        "targets": {"healthy": 1},
        "target_reasons": [],
        **changes,
    }


def task(**changes: Any) -> dict[str, Any]:
    return {
        "service": "webserver",
        "task": "0f9de17a6465404e",
        "status": "RUNNING",
        "health": "HEALTHY",
        "revision": "lab-webserver:3",
        "age_seconds": 7200.0,
        "release": "6f1d2a9c0b3e4f58",
        "state": "serving",
        "rejected": None,
        "error": None,
        "release_age_seconds": 600.0,
        "sync_age_seconds": 4.0,
        **changes,
    }


STATE = {
    "daemon_heartbeat_age_seconds": 12.0,
    "daemon_heartbeats": {"SCHEDULER": 12.0, "ASSET": None},
    "runs_queued": 2,
    "runs_in_progress": 1,
    "run_failures": 0,
    "oldest_queued_seconds": 30.0,
    "code_location_errors": 0,
}
DATABASE = {
    "identifier": "lab",
    "status": "available",
    "class": "db.t4g.micro",
    "allocated_gib": 20,
    "max_gib": 100,
    "free_bytes": 15 * 1024**3,
}
DEPLOY = {
    "published_at": "2027-01-15T08:00:00Z",
    "release": "6f1d2a9c0b3e4f58",
    "author": "Ada",
    "git_revision": "0c6ff2f1d7",
    "repository": None,
    "current": True,
    "what": "release",
    "age_seconds": 600.0,
}


def status(**changes: Any) -> dict[str, Any]:
    return {
        "asleep": "",
        "services": [service()],
        "tasks": [task()],
        "daemons_and_runs": STATE,
        "database": DATABASE,
        "file_system": {"id": "fs-1", "status": "available", "size_bytes": 5 * 1024**2},
        "deploys": [DEPLOY],
        "unread": {},
        "processes": [],
        **changes,
    }


TRACEBACK = 'Traceback\n  File "dags/main/assets.py", line 7\n    import nonsense\nModuleNotFoundError: nonsense\n'
CASES: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "all is well": ({}, []),
    "nothing was made yet": (
        {"services": [service(status="MISSING")], "tasks": [], "database": None, "file_system": None},
        [("there are no services: the platform was not made yet, or was destroyed.", "make apply")],
    ),
    "a service is down": (
        {"services": [service(running=0, reasons=["(service webserver) was unable to place a task."])], "tasks": []},
        [("service webserver: 0 of 1 tasks run.", "make logs")],
    ),
    "a rollout has failed": (
        {"services": [service(rollout="FAILED", reasons=["ECS deployment circuit breaker: tasks failed to start."])]},
        [("service webserver: the rollout has failed.", "make logs")],
    ),
    "hibernated": (
        {
            "asleep": "hibernates since 2027-01-15T20:00:00Z",
            "services": [service(desired=0, running=0)],
            "tasks": [],
            "database": {**DATABASE, "status": "stopped"},
        },
        [("the platform hibernates since 2027-01-15T20:00:00Z: no task runs, all data is kept.", "make wake")],
    ),
    "stopped by hand": (
        {"services": [service(desired=0, running=0)], "tasks": [], "database": {**DATABASE, "status": "stopped"}},
        [
            ("service webserver: it is told to run no task.", "make wake"),
            ("database lab: it is stopped.", "make wake"),
        ],
    ),
    "the load balancer does not reach a task": (
        {"services": [service(targets={"healthy": 1, "unhealthy": 1}, target_reasons=["Request timed out"])]},
        [("service webserver: 1 of 2 targets are unhealthy for the load balancer.", "make logs")],
    ),
    "the load balancer looks at a new task": ({"services": [service(targets={"initial": 1})]}, []),
    "a release was refused": (
        {
            "tasks": [
                task(state="rejected", rejected="bad0", error=TRACEBACK),
                task(state="rejected", rejected="bad0", error=TRACEBACK, service="daemon", task="1234"),
            ]
        },
        [
            (
                "release bad0 is refused by webserver 0f9de17a, daemon 1234 (serving 6f1d2a9c0b3e4f58): "
                "ModuleNotFoundError: nonsense",
                "make deploy",
            )
        ],
    ),
    "S3 is away": (
        {"tasks": [task(state="stale", error="S3 was last read 1000 s ago")]},
        [
            (
                "tasks that are stale: webserver 0f9de17a (serving 6f1d2a9c0b3e4f58): S3 was last read 1000 s ago",
                "make logs",
            )
        ],
    ),
    "a task is behind": (
        {"tasks": [task(release="0ld")]},
        [("task webserver 0f9de17a serves 0ld, but 6f1d2a9c0b3e4f58 is current.", "make logs")],
    ),
    "a task follows a release of just now": (
        {"tasks": [task(release="0ld")], "deploys": [{**DEPLOY, "age_seconds": 5.0}]},
        [],
    ),
    "a task has just started": ({"tasks": [task(state=None, release=None, age_seconds=20.0)]}, []),
    "a task says nothing": (
        {"tasks": [task(state=None, release=None)]},
        [("task webserver 0f9de17a: it has said nothing of its release for minutes.", "make logs")],
    ),
    "a task is unhealthy": (
        {"tasks": [task(health="UNHEALTHY")]},
        [("task webserver 0f9de17a is unhealthy; ECS will replace it.", "make logs")],
    ),
    "a daemon is silent": (
        {
            "daemons_and_runs": {
                **STATE,
                "daemon_heartbeat_age_seconds": 900.0,
                "daemon_heartbeats": {"SCHEDULER": 900.0, "SENSOR": 10.0},
            }
        },
        [("daemons: the last heartbeat of one that is needed is 15 min old (SCHEDULER).", "make logs")],
    ),
    "runs do not start": (
        {"daemons_and_runs": {**STATE, "oldest_queued_seconds": 7200.0}},
        [("runs: the oldest waits in the queue for 2 h.", "make logs")],
    ),
    "the database is full": (
        {"database": {**DATABASE, "free_bytes": 1024**3, "max_gib": 20}},
        [("database lab: 1.0 GiB of 20 GiB are free.", "raise rds_storage or rds_max_storage, then make apply")],
    ),
    "a database that grows by itself": ({"database": {**DATABASE, "free_bytes": 1024**3}}, []),
    "the webserver has not reported yet": ({"daemons_and_runs": None}, []),
    "a part cannot be read": (
        {"database": None, "unread": {"database": "AWS refuses DescribeDBInstances: no."}},
        [("database: cannot be read. AWS refuses DescribeDBInstances: no.", "make doctor")],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_said_in_a_line_with_the_next_command(case: str) -> None:
    changes, expected = CASES[case]
    found = find_problems(status(**changes), COMMANDS, Limits())
    assert [(problem.what, problem.next) for problem in found] == expected


def test_the_end_of_a_traceback_and_what_aws_says_are_details() -> None:
    (refused,) = find_problems(status(**CASES["a release was refused"][0]), COMMANDS, Limits())
    assert refused.details[0] == "Traceback"
    assert refused.details[-1] == "    import nonsense"
    (failed,) = find_problems(status(**CASES["a rollout has failed"][0]), COMMANDS, Limits())
    assert failed.details == ("ECS deployment circuit breaker: tasks failed to start.",)


def test_the_screen() -> None:
    titles = {title: (heading, rows) for title, heading, rows in tables(status())}
    assert list(titles) == ["Services", "Tasks", "Last deploys"]
    assert titles["Services"][1] == [
        ("webserver", "ACTIVE", "1", "1", "0", "COMPLETED", "2 h", "lab-webserver:3", "1 healthy"),
    ]
    assert titles["Tasks"][1][0][6:] == ("6f1d2a9c0b3e4f58", "serving", "10 min", "4 s")
    assert titles["Last deploys"][1] == [
        ("2027-01-15 08:00:00", "6f1d2a9c0b3e4f58", "Ada", "0c6ff2f1", "current", ""),
    ]
    several = status(deploys=[{**DEPLOY, "repository": "finance"}, DEPLOY])
    (shown,) = [rows for title, _, rows in tables(several) if title == "Last deploys"]
    assert [row[2:4] for row in shown] == [("finance", "Ada"), ("-", "Ada")]
    assert facts(status()) == [
        ("Daemons", "last heartbeats ASSET never, SCHEDULER 12 s ago"),
        ("Runs", "2 queued (the oldest for 30 s), 1 in progress, 0 failed in the last minute"),
        ("Database", "lab (db.t4g.micro) available, 20 GiB, 15.0 GiB free, grows up to 100 GiB"),
        ("Files (EFS)", "fs-1 available, 5.0 MiB"),
    ]
    assert facts(status(daemons_and_runs=None))[0] == ("Daemons", "not reported yet")


def test_the_whole_report_is_json_and_readable_text() -> None:
    report = {
        **status(tasks=[task(state="rejected", error="\n".join(f"line [b]{n}[/b]" for n in range(9)))]),
        "platform": "lab",
        "account": "123456789012",
        "at": "2027-01-15T08:10:00Z",
        "healthy": False,
    }
    report["problems"] = [problem.as_json() for problem in find_problems(report, COMMANDS, Limits())]
    json.dumps(report)
    text = load(ROOT / "plugins" / "module_utils" / "report.py").text_of(*ACTION.screen(report), colour=False)
    assert text.splitlines()[0] == "lab  account 123456789012  2027-01-15T08:10:00Z  not healthy"
    assert "line [b]8[/b]" in text, "what others wrote is no markup"
    assert "line [b]3[/b]" not in text, "only the end of a traceback"
    assert "    -> make deploy" in text
    assert ACTION.unhealthy(report) == ("The platform lab is not healthy: 1 problem is in the report, with what to do.")


def test_what_tasks_said_is_as_of_now() -> None:
    tasks: list[dict[str, Any]] = [{"task": "a"}, {"task": "b"}]
    said = {
        "a": {"at": NOW - 30, "status": "serving", "release": "r", "release_age_seconds": 60.0, "error": "\x1b[2Jx"}
    }
    add_states(tasks, said, NOW)
    assert (tasks[0]["release_age_seconds"], tasks[0]["sync_age_seconds"], tasks[0]["error"]) == (90.0, None, "x")
    assert tasks[1]["state"] is None


def test_what_the_webserver_said_last_counts() -> None:
    assert platform_state({}, NOW) is None
    said: dict[str, dict[str, Any]] = {
        "old": {"at": NOW - 90, "runs_queued": 9},
        "new": {"at": NOW - 30, "runs_queued": 1, "daemon_heartbeats": {"SENSOR": 10, "ASSET": None}, "extra": 1},
    }
    state = platform_state(said, NOW)
    assert state is not None
    assert (state["runs_queued"], state["age_seconds"]) == (1, 30.0)
    assert state["daemon_heartbeats"] == {"SENSOR": 40.0, "ASSET": None}
    assert state["oldest_queued_seconds"] is None


class Ecs:
    """ECS with one service, whose rollout has failed."""

    class exceptions:
        ClusterNotFoundException = KeyError

    def describe_services(self, **_: Any) -> dict[str, Any]:
        moment = datetime.fromtimestamp(NOW - 60, UTC)
        failed = {
            "status": "PRIMARY",
            "rolloutState": "FAILED",
            "rolloutStateReason": "circuit breaker",
            "updatedAt": moment,
        }
        old = datetime.fromtimestamp(NOW - 86_400, UTC)
        events = [{"message": "unable to pull", "createdAt": moment}, {"message": "long ago", "createdAt": old}]
        counts = {"desiredCount": 1, "runningCount": 0, "pendingCount": 0}
        return {
            "services": [
                {
                    "serviceName": "daemon",
                    "status": "ACTIVE",
                    "taskDefinition": "arn:x:task-definition/lab-daemon:2",
                    "deployments": [failed],
                    "events": events,
                    **counts,
                }
            ]
        }

    def list_tasks(self, **_: Any) -> dict[str, Any]:
        return {"taskArns": ["arn:x/1"]}

    def describe_tasks(self, **_: Any) -> dict[str, Any]:
        return {"tasks": [{"taskArn": "arn:x/1", "stoppedReason": "CannotPullContainerError"}]}


def test_a_failed_rollout_says_why() -> None:
    daemon, webserver = read_services(Ecs(), SPEC, NOW)
    assert (daemon["rollout"], daemon["rollout_age_seconds"], daemon["revision"]) == ("FAILED", 60.0, "lab-daemon:2")
    assert daemon["reasons"] == ["circuit breaker", "unable to pull", "stopped: 1: CannotPullContainerError"]
    assert webserver["status"] == "MISSING"


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        ([], []),
        ([{"name": "emulator", "port": 4566, "health": "answers"}], []),
        ([{"name": "runner", "port": 3000, "health": "stopped"}], ["process runner (port 3000): stopped."]),
    ],
)
def test_processes_of_the_embedded_default(processes: list[dict[str, Any]], expected: list[str]) -> None:
    assert [problem.what for problem in ACTION.find_stopped(processes, COMMANDS)] == expected


def test_a_platform_that_sleeps_is_said_to_sleep() -> None:
    report = {**status(**CASES["hibernated"][0]), "platform": "lab", "account": "1", "at": "now", "healthy": False}
    report["problems"] = [problem.as_json() for problem in find_problems(report, COMMANDS, Limits())]
    text = load(ROOT / "plugins" / "module_utils" / "report.py").text_of(*ACTION.screen(report), colour=False)
    assert text.splitlines()[0] == "lab  account 1  now  hibernates since 2027-01-15T20:00:00Z"


def test_targets_are_counted_by_state() -> None:
    class Elbv2:
        def describe_target_health(self, TargetGroupArn: str) -> dict[str, Any]:
            assert TargetGroupArn == "arn:group"
            return {
                "TargetHealthDescriptions": [
                    {"TargetHealth": {"State": "healthy"}},
                    {"TargetHealth": {"State": "unhealthy", "Reason": "Target.Timeout", "Description": "timed out"}},
                    {"TargetHealth": {"State": "unhealthy", "Reason": "Target.Timeout"}},
                ]
            }

    services: list[dict[str, Any]] = [{"target_group": "arn:group"}, {"target_group": ""}]
    add_targets(services, Elbv2())
    assert [each["targets"] for each in services] == [{"healthy": 1, "unhealthy": 2}, {}]
    assert services[0]["target_reasons"] == ["Target.Timeout", "timed out"]


def test_spans_and_sizes_for_people() -> None:
    assert [duration(seconds) for seconds in (None, 0, 119, 120, 7200, 200_000)] == [
        "-",
        "0 s",
        "119 s",
        "2 min",
        "2 h",
        "2 d",
    ]
    assert [size(count) for count in (None, 12, 2048, 3 * 1024**3)] == ["-", "12 B", "2.0 KiB", "3.0 GiB"]
