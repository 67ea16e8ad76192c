"""Answers to surveys arrive as strings, empty ones included: every playbook takes them, or says what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from tests.awx.surveys import TYPES, spec_problems
from tests.integration.emulated import Emulator, emulator

ROOT = Path(__file__).parents[3]
SURVEYS = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in sorted((ROOT / "awx/surveys").glob("*.yml"))}
PLATFORM = "dagster-local"


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("account")) as account:
        # The rest of the platform is not there: that is said, or previewed, after the answers have been looked at.
        account.succeed("playbooks/site.yml", "--tags", "s3")
        yield account


def strings(answers: dict[str, str]) -> list[str]:
    """Return arguments that give answers as key=value does: all are strings."""
    return [argument for item in answers.items() for argument in ("-e", json.dumps(dict([item])))]


@pytest.mark.parametrize("name", SURVEYS)
def test_awx_takes_the_survey(name: str) -> None:
    assert list(spec_problems(SURVEYS[name])) == []


def test_playbooks_and_surveys_are_of_one_name() -> None:
    text = (ROOT / "awx" / "job_templates.yml").read_text(encoding="utf-8")
    used = re.findall(r"playbook: playbooks/(\w+)\.yml\n    survey: (\w+)", text)
    assert {survey for _, survey in used} == set(SURVEYS)
    assert all(playbook == survey for playbook, survey in used)


def test_every_question_is_answered_below() -> None:
    """As a string, whatever its type; those that have to be answered with the right thing are in ANSWERED alone."""
    for name, survey in SURVEYS.items():
        asked = {item["variable"]: item["type"] for item in survey["spec"]}
        assert set(ANSWERED[name]) == set(asked), name
        assert set(asked.values()) <= set(TYPES)


ANSWERED: dict[str, dict[str, str]] = {
    "deploy_dags": {
        "dag_release_wait": "false",
        "dag_release_wait_timeout": "120",
        "dag_release_refuse_vanishing": "false",
    },
    "rollback_dags": {
        "dag_release_rollback_to": "",
        "dags_repository": "",
        "dag_release_wait": "false",
        "dag_release_wait_timeout": "120",
        "dag_release_refuse_vanishing": "false",
    },
    "dags_history": {"dag_release_history_limit": "2", "dag_release_history_format": "json", "dags_repository": ""},
    "deploy": {"deploy_steady_seconds": "0"},
    "status": {"status_format": "json"},
    "doctor": {"doctor_format": "json"},
    "cost": {"cost_format": "json"},
    "logs": {"logs_service": "web", "logs_since": "10m", "logs_grep": "", "logs_run": ""},
    "backup": {"backup_name": ""},
    "backups": {"backup_format": "json"},
    "wake": {"hibernation_steady_seconds": "0"},
    "restore": {"backup_restore": "", "backup_restore_time": "", "confirm_restore": PLATFORM},
    "destroy": {
        "confirm_destroy": PLATFORM,
        "destroy_keep": "s3",
        "s3_destroy_contents": "false",
        "ecr_destroy_images": "",
    },
}
FAILS_BUT_SAYS = {
    "rollback_dags": "Nothing is released that could be rolled back: ",
    "deploy": "The platform 'dagster-local' is not there as the inventory describes it: ",
    "status": "The platform dagster-local is not healthy: ",
    "doctor": "in the report, with what to do. Nothing was changed.",
    "restore": "There is no RDS instance 'dagster-local' to restore into the place of.",
    "backup": "There is no RDS instance 'dagster-local', so there is nothing to back up.",
    "logs": "There is no log group /ecs/dagster-local/webserver: ",
    "wake": "There is no platform 'dagster-local' in this account and region: ",
}
"""What an answered playbook says although it fails: something of the platform is missing, nothing of the answers.

All others go well.
"""
MORE = {"destroy": {"destroy_roles": ["ecr", "s3", "platform_lock"]}}
"""What is no answer: the roles that have questions, for all of them take a minute."""


@pytest.mark.parametrize("name", ANSWERED)
def test_strings_are_taken(aws: Emulator, name: str) -> None:
    more = ["-e", json.dumps(MORE[name])] if name in MORE else []
    result = aws.run(f"playbooks/{name}.yml", "--check", *strings(ANSWERED[name]), *more)
    output = result.stdout + result.stderr
    assert "Traceback" not in output
    assert (result.returncode != 0) is (name in FAILS_BUT_SAYS), output
    assert FAILS_BUT_SAYS.get(name, "") in output, output


WRONG = [
    ("deploy_dags", {"dag_release_wait": "perhaps"}, "dag_release_wait"),
    ("deploy_dags", {"dag_release_wait": ""}, "dag_release_wait"),
    ("deploy_dags", {"dag_release_refuse_vanishing": "perhaps"}, "refuse_vanishing"),
    ("dags_history", {"dag_release_history_limit": "many"}, "limit"),
    ("dags_history", {"dag_release_history_limit": ""}, "limit"),
    ("deploy", {"deploy_steady_seconds": "soon"}, 'deploy_steady_seconds is "soon". Valid: '),
    ("deploy", {"deploy_steady_seconds": ""}, 'deploy_steady_seconds is "". Valid: '),
    ("logs", {"logs_since": "yesterday"}, "yesterday"),
    ("status", {"status_format": "xml"}, "xml"),
    ("wake", {"hibernation_steady_seconds": "soon"}, "hibernation_steady_seconds"),
    ("destroy", {"confirm_destroy": ""}, "no name was given"),
    ("destroy", {"confirm_destroy": PLATFORM, "destroy_keep": "s3,rds"}, "rds"),
]


@pytest.mark.parametrize(("name", "answers", "said"), WRONG)
def test_wrong_answers_are_named_and_change_nothing(
    aws: Emulator, name: str, answers: dict[str, str], said: str
) -> None:
    aws.take_changes()
    check = [] if name == "destroy" else ["--check"]
    result = aws.run(f"playbooks/{name}.yml", *check, *strings(answers))
    output = result.stdout + result.stderr
    assert result.returncode != 0, output
    assert "Traceback" not in output
    assert said in output, output
    assert aws.take_changes() == []


@pytest.mark.parametrize(("keep", "kept"), [("s3", True), ("s3, ecr", True), (["s3"], True), ("", False), ([], False)])
def test_what_destroy_keeps_is_a_list_or_names_with_commas(keep: str | list[str], *, kept: bool) -> None:
    play = yaml.safe_load((ROOT / "playbooks" / "destroy.yml").read_text(encoding="utf-8"))[1]
    names = {"destroy_keep": keep, "__destroy_keep": trust_as_template(play["vars"]["__destroy_keep"])}
    found = Templar(loader=DataLoader(), variables=names).template(trust_as_template("{{ __destroy_keep }}"))
    assert ("s3" in found) is kept
    assert all(name in {"s3", "ecr"} for name in found)
