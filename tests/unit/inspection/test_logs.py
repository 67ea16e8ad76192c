"""Which lines `make logs` prints, in which order, and how it refuses what it does not understand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from module_utils.aws_reading import ReadingError
from module_utils.log_lines import harmless, last_lines, newest, readable
from module_utils.log_tail import Line, Tail, Wanted, wanted

NOW = 1_800_000_000.0
GROUPS = {"webserver": "/ecs/lab/webserver", "daemon": "/ecs/lab/daemon"}
RUN = "b7a0c5de-3c39-4f1a-9a43-0c1ad5b5f3ce"


def event(
    number: int, text: str, *, service: str = "webserver", task: str = "aaaa1111", at: float = 0
) -> dict[str, Any]:
    return {
        "eventId": str(number),
        "timestamp": int((NOW + at) * 1000),
        "logStreamName": f"ecs/{service}/{task}",
        "message": text,
    }


class Logs:
    """CloudWatch Logs of two services; answers with every stream, as the emulator does."""

    class exceptions:
        class ClientError(Exception):
            pass

        class ResourceNotFoundException(ClientError):
            pass

    def __init__(self, *events: dict[str, Any]) -> None:
        self.events = list(events)
        self.asked: list[dict[str, Any]] = []

    def get_paginator(self, operation: str) -> Logs:
        assert operation == "filter_log_events"
        return self

    def paginate(self, **asked: Any) -> list[dict[str, Any]]:
        self.asked.append(asked)
        if asked["logGroupName"] not in GROUPS.values():
            raise self.exceptions.ResourceNotFoundException
        service = asked["logGroupName"].rpartition("/")[2]
        return [
            {
                "events": [
                    each
                    for each in self.events
                    if each["logStreamName"].startswith(f"ecs/{service}/") and each["timestamp"] >= asked["startTime"]
                ]
            }
        ]


def asked(**changes: str) -> Wanted:
    words = {"service": "all", "task": "", "since": "10m", "run": "", "pattern": "", **changes}
    return wanted(GROUPS, **words, now=NOW)


def texts(tail: Tail) -> list[str]:
    return [line.text for line in tail.look()]


def test_lines_of_all_services_come_in_the_order_of_time_and_once() -> None:
    logs = Logs(event(1, "second", at=-2), event(2, "first", service="daemon", at=-3), event(3, "too old", at=-900))
    tail = Tail(logs, asked(), "")
    assert texts(tail) == ["first", "second"]
    assert texts(tail) == []
    # One is shown late, another is new.
    logs.events += [event(4, "late", at=-4), event(5, "third", at=1)]
    assert texts(tail) == ["late", "third"]


def test_what_was_asked_for() -> None:
    logs = Logs(
        event(1, "plain", task="aaaa1111"),
        event(2, "plain", task="bbbb2222"),
        event(3, json.dumps({"event": "run_started", "run_id": RUN}), service="daemon"),
    )
    assert len(texts(Tail(logs, asked(service="web"), ""))) == 2
    assert len(texts(Tail(logs, asked(task="bbbb"), ""))) == 1
    assert texts(Tail(logs, asked(run=RUN[:8]), "")) == [logs.events[2]["message"]]
    assert texts(Tail(logs, asked(pattern="^daemon .* run_started run_id=b7"), "")) == [logs.events[2]["message"]]
    # A whole id is looked for by CloudWatch, which knows whole words only.
    logs.asked.clear()
    Tail(logs, asked(run=RUN, service="daemon", task="cc"), "").look()
    (request,) = logs.asked
    assert (request["filterPattern"], request["logStreamNamePrefix"]) == (f'"{RUN}"', "ecs/daemon/cc")


@pytest.mark.parametrize(
    ("since", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("3d", 259200), ("2027-01-15T07:59", 60)]
)
def test_since(since: str, seconds: float) -> None:
    assert asked(since=since).start == NOW - seconds


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            {"service": "db"},
            "SERVICE=db (logs_service) is no service of this platform. Choices: all, web, webserver, daemon.",
        ),
        (
            {"since": "yesterday"},
            "SINCE=yesterday (logs_since) is no time. Choices: 90s, 10m, 2h, 3d, or",
        ),
        ({"run": "my_job"}, "RUN=my_job (logs_run) is no id of a run."),
        ({"task": "x y"}, "TASK=x y (logs_task) is no id of a task."),
        ({"pattern": "(main"}, "GREP=(main (logs_grep) is no regular expression: missing ), unterminated subpattern"),
    ],
)
def test_what_nobody_understands_is_refused_with_the_choices(words: dict[str, str], message: str) -> None:
    with pytest.raises(ReadingError) as refused:
        asked(**words)
    assert str(refused.value).startswith(message)


def test_a_platform_that_is_not_there() -> None:
    what = wanted({"webserver": "/ecs/no/w"}, service="all", task="", since="1m", run="", pattern="", now=NOW)
    with pytest.raises(ReadingError, match=r"There is no log group /ecs/no/w: the platform was not made yet\. make it"):
        Tail(Logs(), what, "make it").look()


def test_lines_for_people_and_for_scripts() -> None:
    plain = Line(int(NOW * 1000), "daemon", "0f9de17a6465", "hello")
    assert plain.for_people() == "daemon 0f9de17a  2027-01-15T08:00:00.000Z hello"
    assert plain.as_json() == {"at": NOW, "service": "daemon", "task": "0f9de17a6465", "line": "hello"}
    said = Line(0, "daemon", "0f9de17a6465", '{"ts": "T", "event": "stopped"}')
    assert said.for_people() == "daemon 0f9de17a  T stopped"
    assert said.as_json()["line"] == {"ts": "T", "event": "stopped"}


def test_code_of_dags_cannot_write_to_the_terminal() -> None:
    line = json.dumps(
        {"ts": "T", "event": "output", "process": "main", "line": "\x1b[31mred\x1b[0m\x1b]0;title\x07\tx"}
    )
    assert readable(line) == "T main | red]0;title\tx"
    assert harmless("\x1b[2J\x9bx\r\n") == "x\n"


def test_the_last_event_of_a_name_of_each_task() -> None:
    def state(number: int, at: float, **fields: Any) -> dict[str, Any]:
        return event(number, json.dumps({"event": "platform_state", **fields}), at=at)

    logs = Logs(state(1, -60, runs_queued=1), state(2, -5, runs_queued=2), event(3, 'about "platform_state"'))
    found = newest(logs, "/ecs/lab/webserver", "platform_state", start=NOW - 100)
    assert {task: said["runs_queued"] for task, said in found.items()} == {"aaaa1111": 2}
    assert newest(logs, "/ecs/another", "platform_state", start=0) == {}


def test_what_a_task_printed_last() -> None:
    lines = [event(number, f"line {number}\n", at=number) for number in range(20)]
    logs = Logs(*lines, event(99, "of another task", task="bbbb2222", at=99))
    assert last_lines(logs, "lab", "webserver", "aaaa1111", count=3) == ["line 17", "line 18", "line 19"]
    assert last_lines(logs, "lab", "webserver", "cccc3333") == []
    assert last_lines(logs, "elsewhere", "webserver", "aaaa1111") == [], "who may not read, or what is not there"
