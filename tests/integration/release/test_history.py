"""Who released what when."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from module_utils.dag_history import describe, read_history
from module_utils.dag_manifest import Manifest
from tests.integration.release.support import create_bucket, keys, write_tree
from tests.integration.release.test_deploy_dags import DEFS, Agent, deploy, endpoint, succeed
from tests.integration.release.test_rollback import Bench, bench

__all__ = ["bench", "endpoint"]

PLAYBOOK = "dags_history.yml"


def test_every_kind_of_entry(bench: Bench) -> None:
    first = bench.deploy({"main/a.txt": "1", "main/b.txt": "same"}).pointer
    second = bench.deploy({"main/a.txt": "2", "main/b.txt": "same", "other/__init__.py": ""}).pointer
    bench.s3.put_object(Bucket=bench.name, Key="releases/current", Body=b"{ cut")
    third = bench.deploy({"main/a.txt": "3", "other/__init__.py": ""}).pointer
    back = bench.rollback(first.release).pointer
    told = describe(read_history(bench.store, 20), 20)
    assert [entry["release"] for entry in told] == [
        back.release,
        third.release,
        None,
        second.release,
        first.release,
    ]
    assert [entry["what"] for entry in told] == ["rollback", "release", "release", "release", "release"]
    assert [entry["current"] for entry in told] == [True, False, False, False, False]
    assert [entry["author"] for entry in told] == ["bob", "ada", None, "ada", "ada"]
    newest, after_damage, damaged, changed, oldest = told
    assert newest["files"] == {
        "added": ["main/b.txt"],
        "changed": ["main/a.txt"],
        "removed": ["other/__init__.py"],
    }
    assert newest["locations"] == {"added": [], "removed": ["other"]}
    assert after_damage["files"] is None
    assert "the pointer is damaged" in damaged["problem"]
    assert changed["files"]["changed"] == ["main/a.txt"]
    assert changed["locations"] == {"added": ["other"], "removed": []}
    assert oldest["files"]["added"] == ["__init__.py", "main/__init__.py", "main/a.txt", "main/b.txt"]

    assert describe(read_history(bench.store, 2), 2) == told[:2], "the last entry shown has something to compare with"


def test_release_that_is_no_longer_kept(bench: Bench) -> None:
    first = bench.deploy({"main/a.txt": "1"}).pointer
    bench.deploy({"main/a.txt": "2"})
    for version in bench.s3.list_object_versions(Bucket=bench.name, Prefix=f"releases/{first.release}")["Versions"]:
        bench.s3.delete_object(Bucket=bench.name, Key=version["Key"], VersionId=version["VersionId"])
    newest, oldest = describe(read_history(bench.store, 20), 20)
    assert (newest["problem"], newest["files"]) == (None, None)
    assert (oldest["problem"], oldest["release"]) == ("no longer kept", first.release)


def test_history_that_was_pruned_or_whose_pointer_is_gone(bench: Bench) -> None:
    bench.deploy({"main/a.txt": "1"})
    second = bench.deploy({"main/a.txt": "2"}).pointer
    first_pointer = bench.s3.list_object_versions(Bucket=bench.name, Prefix="releases/current")["Versions"][-1]
    bench.s3.delete_object(Bucket=bench.name, Key="releases/current", VersionId=first_pointer["VersionId"])
    (only,) = describe(read_history(bench.store, 20), 20)
    assert (only["release"], only["current"]) == (second.release, True)
    assert only["files"] is None, "what it changed is not known any more"
    bench.s3.delete_object(Bucket=bench.name, Key="releases/current")
    assert [entry["current"] for entry in describe(read_history(bench.store, 20), 20)] == [False]


def test_table_and_json_of_the_playbook(endpoint: str, tmp_path: Path) -> None:
    create_bucket(endpoint)
    assert "Nothing was released yet" in succeed(endpoint, playbook=PLAYBOOK)
    root = write_tree(tmp_path / "tree", {"__init__.py": "", "sales/__init__.py": DEFS.format(name="revenue")})
    path = json.dumps({"dags_path": str(root), "dag_release_author": "Ada Lovelace of the Analytical Engine"})
    with Agent(endpoint, {"status": "serving", "release": "RELEASE"}) as agent:
        succeed(endpoint, "-e", path, "-e", "dag_release_validate=false")
    write_tree(root, {"sales/__init__.py": DEFS.format(name="profit"), "sales/new.py": ""})
    succeed(endpoint, "-e", path, "-e", '{"dag_release_validate": false, "dag_release_wait": false}')
    shown = succeed(endpoint, playbook=PLAYBOOK)
    assert "changed=0" in shown
    heading, _, newest, oldest, *_ = shown[shown.index("when (UTC)") :].splitlines()
    assert heading.split() == ["when", "(UTC)", "release", "who", "git", "files", "locations", "served", "by"]
    assert "Ada Lovelace of…" in newest
    assert "+1 ~1 -0" in newest
    assert "current" in newest
    assert agent.task[:8] not in newest
    assert oldest.endswith(f"webserver {agent.task[:8]}"), "the task has not followed yet"
    assert "+2 ~0 -0" in oldest
    assert "+sales" in oldest
    text = succeed(endpoint, "-e", "dag_release_history_format=json", playbook=PLAYBOOK)
    told = json.loads(text[text.index("\n[") : text.index("\n]") + 2])
    assert told[0]["files"]["added"] == ["sales/new.py"]
    assert [entry["tasks"] for entry in told] == [[], [f"webserver {agent.task[:8]}"]]


def test_without_a_bucket_and_with_a_tree(endpoint: str) -> None:
    done = deploy(endpoint, playbook=PLAYBOOK)
    assert done.returncode != 0
    assert "Create the platform first" in done.stdout
    done = deploy(endpoint, "-e", "dag_source=tree", playbook=PLAYBOOK)
    assert done.returncode != 0
    assert "there is no history of releases" in done.stdout


@pytest.mark.parametrize("limit", ["0", "1001"])
def test_limit_that_makes_no_sense(endpoint: str, limit: str) -> None:
    create_bucket(endpoint)
    done = deploy(endpoint, "-e", f"dag_release_history_limit={limit}", playbook=PLAYBOOK)
    assert done.returncode != 0
    assert "choose 1 to 1000" in done.stdout


def test_nothing_is_written(bench: Bench) -> None:
    bench.deploy({"main/a.txt": "1"})
    before = keys(bench.s3, bucket=bench.name)
    assert isinstance(read_history(bench.store, 5)[0].manifest, Manifest)
    assert keys(bench.s3, bucket=bench.name) == before
