"""The stand-in's rules of surveys, where a configuration is easily wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.awx.surveys import launch, spec_problems

ROOT = Path(__file__).parents[3]
ENABLED = {"survey_enabled": True}


def survey(**question: Any) -> dict[str, Any]:
    return {
        "name": "",
        "description": "",
        "spec": [{"question_name": "?", "variable": "x", "required": False, **question}],
    }


def test_a_required_answer_is_missed_although_the_question_has_a_default() -> None:
    spec = survey(type="integer", default=3, required=True)
    assert list(spec_problems(spec)) == []
    _, _, problems = launch(ENABLED, spec, {})
    assert problems == ["'x' value missing"]
    assert launch(ENABLED, spec, {"x": 4}) == ({"x": 4}, {}, [])


def test_the_default_of_an_optional_question_counts() -> None:
    assert launch(ENABLED, survey(type="integer", default=3), {}) == ({"x": 3}, {}, [])


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ({"type": "integer"}, "3"),
        ({"type": "integer"}, ""),
        ({"type": "integer", "max": 5}, 6),
        ({"type": "text"}, 3),
        ({"type": "text", "min": 3}, "ab"),
        ({"type": "multiplechoice", "choices": ["true", "false"]}, True),
        ({"type": "multiplechoice", "choices": ["true", "false"]}, ""),
        ({"type": "multiselect", "choices": ["s3", "ecr"]}, "s3"),
        ({"type": "multiselect", "choices": ["s3", "ecr"]}, ["s3", "rds"]),
    ],
)
def test_answers_of_another_type_are_refused(question: dict[str, Any], answer: Any) -> None:
    _, _, problems = launch(ENABLED, survey(**question), {"x": answer})
    assert problems


def test_only_confirmations_have_to_be_answered() -> None:
    """Where a question is required, calls, schedules and nodes of workflows fail that do not bring the answer along."""
    required = {
        (path.stem, item["variable"])
        for path in (ROOT / "awx" / "surveys").glob("*.yml")
        for item in yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]
        if item["required"]
    }
    assert required == {("destroy", "confirm_destroy"), ("restore", "confirm_restore")}


def test_what_may_be_chosen_is_no_free_text() -> None:
    """Yes and no, formats, services: choices; numbers: integers with limits."""
    for path in (ROOT / "awx" / "surveys").glob("*.yml"):
        for item in yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]:
            if item["type"] == "text":
                assert item["max"], item["variable"]
            if item["type"] == "integer":
                assert {"min", "max", "default"} <= set(item), item["variable"]
