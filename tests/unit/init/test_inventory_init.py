"""The starter inventory: what is copied, replaced and refused."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from module_utils.inventory_init import (
    Answers,
    InitError,
    check_collections,
    check_name,
    next_commands,
    repository_of,
    write,
)

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "inventories" / "example"


def settings(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for file in (directory / "group_vars" / "all").glob("*.yml"):
        found |= yaml.safe_load(file.read_text(encoding="utf-8"))
    return found


def test_answers_take_the_place_of_placeholders_and_nothing_else_changes(tmp_path: Path) -> None:
    answers = Answers(
        name="prod_eu",
        account="012345678901",
        region="eu-central-1",
        environment="staging",
        repository='git@example.com:team/"dags"',
        owner="data: the team",
        egress="public_ip",
        access="none",
        profile="team: prod",
    )
    write(EXAMPLE, tmp_path / "new", answers)
    before, after = settings(EXAMPLE), settings(tmp_path / "new")
    changed = {name: value for name, value in after.items() if value != before[name]}
    assert changed == {
        "aws_account_id": "012345678901",
        "aws_region": "eu-central-1",
        "aws_environment": {**before["aws_environment"], "AWS_PROFILE": "team: prod"},
        "name_prefix": "dagster-prod-eu",
        "deployment_environment": "staging",
        "resource_tags": {
            **before["resource_tags"],
            "repository": 'git@example.com:team/"dags"',
            "owner": "data: the team",
        },
        "network_egress": "public_ip",
        "load_balancer": False,
    }
    comments = [line for line in (EXAMPLE / "group_vars/all/aws.yml").read_text().splitlines() if line.startswith("#")]
    assert comments == [
        line for line in (tmp_path / "new/group_vars/all/aws.yml").read_text().splitlines() if line.startswith("#")
    ]


def test_without_answers_it_is_the_example_with_a_name(tmp_path: Path) -> None:
    write(EXAMPLE, tmp_path / "new", Answers(name="lab"))
    before, after = settings(EXAMPLE), settings(tmp_path / "new")
    assert {name for name in after if after[name] != before[name]} == {"name_prefix"}


@pytest.mark.parametrize("name", ["", "local", "example", "Prod", "../x", "a/b", "-x", "x" * 33, "a b"])
def test_bad_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InitError, match=r"cannot be the name of an inventory. Valid: 1 to 32 lower-case"):
        check_name(name, tmp_path)


def test_an_inventory_that_is_there_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "prod").mkdir()
    with pytest.raises(InitError, match=r"is there already; nothing was changed.*NAME=prod-2"):
        check_name("prod", tmp_path)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (Answers("x", access="public"), "init_access is 'public'. Valid: internal, none. A public UI needs"),
        (Answers("x", owner="{{ lookup('pipe', 'id') }}"), "holds a template"),
        (Answers("x", region="{{ 1 }}"), "holds a template"),
    ],
)
def test_answers_that_cannot_be_written_are_refused(tmp_path: Path, answers: Answers, message: str) -> None:
    with pytest.raises(InitError, match=message):
        write(EXAMPLE, tmp_path / "new", answers)


def test_no_answer_becomes_a_setting_of_its_own(tmp_path: Path) -> None:
    """Whatever it holds, it stays the value of its setting, which the preflight's rules then refuse."""
    write(EXAMPLE, tmp_path / "new", Answers("x", region="a\nb: c", egress="x # y", environment="yes: no"))
    found = settings(tmp_path / "new")
    assert found.keys() == settings(EXAMPLE).keys()
    assert (found["aws_region"], found["network_egress"]) == ("a\nb: c", "x # y")


@pytest.mark.parametrize(
    ("url", "tag"),
    [
        ("https://user:not-a-real-secret@git.example.com/team/dags.git", "https://git.example.com/team/dags.git"),
        ("git@git.example.com:team/dags.git", "git@git.example.com:team/dags.git"),
        ("https://git.example.com/team/a%20b", "https://git.example.com/team/a-20b"),
        ("/srv/git/dags", ""),
        ("", ""),
    ],
)
def test_the_repository_is_the_remote_without_credentials(tmp_path: Path, url: str, tag: str) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    if url:
        subprocess.run(["git", "-C", str(tmp_path), "remote", "add", "origin", url], check=True)
    assert repository_of(tmp_path) == tag


def test_collections_are_compared_with_what_is_wanted(tmp_path: Path) -> None:
    manifest = tmp_path / "amazon" / "aws" / "MANIFEST.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"collection_info": {"version": "11.4.0"}}))
    wanted = [{"name": "amazon.aws", "version": "11.4.0"}, {"name": "community.aws", "version": "11.2.0"}]
    found, missing = check_collections(wanted, [tmp_path])
    assert (found.ok, found.found, found.fix) == (True, "11.4.0", "")
    assert (missing.ok, missing.found) == (False, "missing")
    assert "ansible-galaxy collection install -r requirements.yml" in missing.fix


def test_the_next_commands_exist() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    commands = next_commands("x", ["aws_account_id"], credentials=False)
    assert "aws_account_id" in commands[0]
    assert "Get credentials" in commands[1]
    targets = [command.split()[1] for command in commands if command.startswith("make ")]
    assert len(targets) == 5
    assert [target for target in targets if f"make {target} " not in shown] == []
    assert len(next_commands("x", [], credentials=True)) == 5
