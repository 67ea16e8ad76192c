"""Lines of a task's log, as `make logs` prints them."""

from __future__ import annotations

import json

import pytest

from module_utils.log_lines import readable


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ({"ts": "T", "event": "output", "process": "daemon", "line": "hello"}, "T daemon | hello"),
        (
            {"ts": "T", "event": "release_state", "status": "serving", "error": None, "task_id": "x", "_aws": {}},
            "T release_state status=serving",
        ),
        ({"ts": "T", "event": "stopped"}, "T stopped"),
    ],
)
def test_events_are_shortened(line: dict[str, object], shown: str) -> None:
    assert readable(json.dumps(line)) == shown


@pytest.mark.parametrize("line", ["plain text", "{ cut", "[1]", '{"a": 1}'])
def test_anything_else_is_printed_as_it_is(line: str) -> None:
    assert readable(line) == line
