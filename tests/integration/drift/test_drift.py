"""Whatever was changed behind Ansible's back is told by a preview, brought back by site.yml, and stays.

The table is in tables/. Everything is changed at once: one preview, one run and one more take a minute; a run for each
entry would take half an hour.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.drift.tables import TABLE
from tests.integration.drift.tables.common import Drift
from tests.integration.emulated import Emulator, emulator, recap

ENTRIES = {f"{number:03} {drift}": drift for number, drift in enumerate(TABLE)}
ARGUMENTS = ("-e", "dags_credentials=iam_user")


@dataclass
class Course:
    """What was seen on the way: values by entry of the table, changes told, counters of the last run."""

    converged: dict[str, Any]
    drifted: dict[str, Any]
    told: list[dict[str, Any]]
    previewed: dict[str, Any]
    corrected: dict[str, Any]
    again: dict[str, int]


def read(aws: Emulator) -> dict[str, Any]:
    return {name: drift.read(aws.client) for name, drift in ENTRIES.items()}


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Course]:
    state: Path = tmp_path_factory.mktemp("drift")
    with emulator(state) as aws:
        aws.succeed("site.yml", *ARGUMENTS)
        converged = read(aws)
        for drift in TABLE:
            drift.change(aws.client)
        drifted = read(aws)
        aws.take_changes()
        aws.succeed("site.yml", "--check", "--diff", *ARGUMENTS)
        told = aws.take_changes()
        previewed = read(aws)
        aws.succeed("site.yml", *ARGUMENTS)
        corrected = read(aws)
        yield Course(converged, drifted, told, previewed, corrected, recap(aws.succeed("site.yml", *ARGUMENTS)))


@pytest.mark.parametrize(("name", "drift"), [pytest.param(name, drift, id=name) for name, drift in ENTRIES.items()])
def test_drift_is_told_and_corrected(course: Course, name: str, drift: Drift) -> None:
    assert course.drifted[name] != course.converged[name], "the test did not change anything"
    told = [change for change in course.told if change["kind"] == drift.kind]
    assert any(drift.setting in {**change["before"], **change["after"]} for change in told), told
    assert course.previewed[name] == course.drifted[name], "the preview changed something"
    assert course.corrected[name] == course.converged[name]


def test_the_run_after_that_changes_nothing(course: Course) -> None:
    assert course.again["changed"] == 0
