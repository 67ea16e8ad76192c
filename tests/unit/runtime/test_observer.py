"""What is made of the webserver's answers: ages, failures that count once, the oldest of many queued runs."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from dagster_ecs_runtime import events
from dagster_ecs_runtime.observer import Observer, observe

BEGAN = 1_700_000_000.0


class Webserver:
    """Answers as Dagster's does, from a list of queued runs (times of creation) and of failed ones."""

    def __init__(self) -> None:
        self.now = BEGAN
        self.queued: list[float] = []
        self.failed: list[dict[str, Any]] = []
        self.heartbeats: dict[str, float | None] = {"SCHEDULER": BEGAN, "BACKFILL": BEGAN}
        self.questions: list[str] = []

    def ask(self, question: str) -> dict[str, Any]:
        self.questions.append(question)
        before = re.search(r"createdBefore: ([\d.]+)", question)
        queued = sorted(
            (created for created in self.queued if before is None or created < float(before[1])), reverse=True
        )
        answer: dict[str, Any] = {
            "queued": {
                "__typename": "Runs",
                "count": len(queued),
                "results": [{"creationTime": created} for created in queued[:50]],
            }
        }
        if before is None:
            after = re.search(r"updatedAfter: ([\d.]+)", question)
            assert after
            failed = [run for run in self.failed if run["updated"] > float(after[1])]
            answer |= {
                "instance": {
                    "daemonHealth": {
                        "allDaemonStatuses": [
                            {"daemonType": name, "required": name != "BACKFILL", "lastHeartbeatTime": beat}
                            for name, beat in self.heartbeats.items()
                        ]
                    }
                },
                "running": {"__typename": "Runs", "count": 3},
                "failed": {"__typename": "Runs", "results": failed},
                "workspaceOrError": {
                    "__typename": "Workspace",
                    "locationEntries": [
                        {"locationOrLoadError": {"__typename": "RepositoryLocation"}},
                        {"locationOrLoadError": {"__typename": "PythonError"}},
                        {"locationOrLoadError": None},
                    ],
                },
            }
        return {"data": answer}

    def fail(self, run_id: str, ended: float | None = None) -> None:
        self.failed.append({"id": run_id, "endTime": ended or self.now, "updated": self.now})


@pytest.fixture
def webserver() -> Webserver:
    return Webserver()


@pytest.fixture
def observer(webserver: Webserver) -> Observer:
    return Observer(webserver.ask, lambda: webserver.now)


def test_what_a_line_says(webserver: Webserver, observer: Observer) -> None:
    webserver.now += 60
    webserver.queued = [BEGAN - 30, BEGAN + 10]
    webserver.heartbeats["BACKFILL"] = None
    assert observer.look() == {
        "daemon_heartbeat_age_seconds": 60.0,
        "daemon_heartbeats": {"SCHEDULER": 60.0, "BACKFILL": None},
        "runs_queued": 2,
        "runs_in_progress": 3,
        "run_failures": 0,
        "oldest_queued_seconds": 90.0,
        "code_location_errors": 1,
        "error": None,
    }
    webserver.queued = []
    assert observer.look()["oldest_queued_seconds"] is None
    assert len(webserver.questions) == 2


def test_a_daemon_that_was_never_heard_of_ages_from_the_start(webserver: Webserver, observer: Observer) -> None:
    webserver.heartbeats["SCHEDULER"] = None
    webserver.now += 700
    found = observer.look()
    assert found["daemon_heartbeat_age_seconds"] == 700.0
    assert found["daemon_heartbeats"]["SCHEDULER"] is None


def test_a_failure_counts_once(webserver: Webserver, observer: Observer) -> None:
    webserver.fail("before", ended=BEGAN - 5)
    webserver.now += 60
    webserver.fail("one")
    assert observer.look()["run_failures"] == 1
    webserver.now += 60
    webserver.fail("two")
    webserver.fail("late", ended=webserver.now - 90)
    assert observer.look()["run_failures"] == 2
    webserver.now += 60
    assert observer.look()["run_failures"] == 0
    # Somebody adds a tag to an old one, hours later.
    webserver.now += 3600
    webserver.failed[1]["updated"] = webserver.now
    assert observer.look()["run_failures"] == 0


def test_failures_while_the_webserver_was_away_are_counted(webserver: Webserver, observer: Observer) -> None:
    observer.look()
    webserver.now += 600
    webserver.fail("one", ended=webserver.now - 500)
    webserver.failed[0]["updated"] = webserver.now - 500
    assert observer.look()["run_failures"] == 1


def test_the_oldest_of_many_is_found_with_few_questions(webserver: Webserver, observer: Observer) -> None:
    webserver.now += 100_000
    webserver.queued = [webserver.now - 7 * number for number in range(1, 5001)]
    found = observer.look()
    assert found["runs_queued"] == 5000
    assert found["oldest_queued_seconds"] == 35_000.0
    assert len(webserver.questions) < 30
    # All in the same moment: to the second.
    webserver.queued = [webserver.now - 5000.5] * 1000
    assert observer.look()["oldest_queued_seconds"] == pytest.approx(5000.5, abs=1)


IDENTITY = {"service": "webserver", "environment": "production", "platform": "dagster", "task_id": "1"}


def written(observer: Observer, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    observe(observer, IDENTITY)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_metrics_of_a_line_are_in_the_line(
    webserver: Webserver, observer: Observer, capsys: pytest.CaptureFixture[str]
) -> None:
    webserver.queued = [BEGAN]
    found = written(observer, capsys)
    assert found["event"] == "platform_state"
    (directive,) = found["_aws"]["CloudWatchMetrics"]
    assert directive["Dimensions"] == [list(events.PLATFORM_DIMENSIONS)]
    assert [(metric["Name"], metric["Unit"]) for metric in directive["Metrics"]] == list(events.PLATFORM_METRICS)
    assert {*(metric["Name"] for metric in directive["Metrics"]), *directive["Dimensions"][0]} <= set(found)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"errors": [{"message": "no such field\nmore"}]}, "no such field"),
        ({"data": {"queued": {"__typename": "PythonError", "message": "no database\nmore"}}}, "queued: no database"),
        (OSError("connection refused"), "connection refused"),
    ],
)
def test_no_answer_is_said_and_makes_no_metric(answer: Any, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    def ask(_: str) -> dict[str, Any]:
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    found = written(Observer(ask), capsys)
    assert found["error"] == said
    assert found["runs_queued"] is None
    assert found["_aws"]["CloudWatchMetrics"][0]["Metrics"] == []
