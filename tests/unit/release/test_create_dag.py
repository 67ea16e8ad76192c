"""A new code location: what is made loads, passes its own test and is deployable; bad names are refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from module_utils.code_location import CodeLocationError, make_location, plan_location
from module_utils.dag_check import CheckSettings, check_tree
from module_utils.dag_tree import read_tree
from tests.integration.release.support import CONTAINER_PYTHON, ROOT

TEMPLATE = ROOT / "templates" / "code_location"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the example tree, under another name than `dags`."""
    copy = tmp_path / "code"
    shutil.copytree(ROOT / "dags", copy, ignore=shutil.ignore_patterns("__pycache__", ".dagignore", "tests"))
    return copy


def content(tree: Path) -> dict[str, bytes]:
    return {str(path.relative_to(tree)): path.read_bytes() for path in sorted(tree.rglob("*")) if path.is_file()}


def create(tree: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the playbook, as make create-dag does."""
    settings = {"dags_path": str(tree), "create_dag_name": name, "create_dag_python": str(CONTAINER_PYTHON)}
    playbook = Path(sys.executable).with_name("ansible-playbook")
    return subprocess.run(
        [str(playbook), "playbooks/create_dag.yml", "-e", json.dumps(settings), *arguments],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "COLUMNS": "10000"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_new_location_loads_passes_its_test_and_can_be_deployed(tree: Path) -> None:
    before = content(tree)
    previewed = create(tree, "sales", "--check", "--diff")
    assert previewed.returncode == 0, previewed.stdout
    assert "Would make the code location sales" in previewed.stdout
    assert "+def every_row_is_positive" in previewed.stdout
    assert content(tree) == before

    done = create(tree, "sales")
    assert done.returncode == 0, done.stdout
    assert f"{CONTAINER_PYTHON} {tree}/tests/test_sales.py" in done.stdout
    assert "make deploy-dags" in done.stdout

    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON"))}
    tested = subprocess.run(
        [str(CONTAINER_PYTHON), "-P", str(tree / "tests" / "test_sales.py")],
        env=environment | {"PYTHONDONTWRITEBYTECODE": "1", "DAGSTER_DISABLE_TELEMETRY": "true"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert tested.returncode == 0, tested.stderr
    assert "Ran 2 tests" in tested.stderr

    # As deploy_dags.yml does before it uploads anything.
    release = read_tree(str(tree))
    assert [location.name for location in release.locations] == ["main", "sales"]
    assert not [file.path for file in release.files if file.path.startswith("tests/")]
    script = ROOT / "docker" / "runtime" / "src" / "dagster_ecs_runtime" / "validate.py"
    defined = check_tree(release, CheckSettings(str(CONTAINER_PYTHON), str(script)))
    assert set(defined["sales"]["assets"]) == {"sales/rows"}

    made = content(tree)
    again = create(tree, "sales")
    assert again.returncode == 2
    assert "'sales' is there already" in again.stdout
    assert "nothing was changed. Its packages and modules: main, sales. Choose another NAME" in again.stdout
    assert content(tree) == made


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "No name was given"),
        ("my-dags", "is not a Python identifier"),
        ("2nd", "is not a Python identifier"),
        ("größe", "is not a Python identifier"),
        ("x" * 41, "has 41 characters"),
        ("class", "is a word of the Python language"),
        ("match", "is a word of the Python language"),
        ("_hidden", "begins with '_'"),
        ("dags", "is the package of the whole tree"),
        ("tests", "is the directory of the tests"),
        ("venv", "is left out of releases"),
        ("drafts", "is left out of releases"),
        ("main", "'main' is there already"),
        ("Main", "'Main' and 'main' differ in case only"),
        ("helpers", "'helpers' is there already"),
    ],
)
def test_bad_names_are_refused_with_a_way_out(tree: Path, name: str, reason: str) -> None:
    (tree / "helpers.py").touch()
    (tree / ".dagignore").write_text("/drafts/\n", encoding="utf-8")
    before = content(tree)
    with pytest.raises(CodeLocationError, match="NAME") as refused:
        make_location(plan_location(tree, TEMPLATE, name))
    assert reason in str(refused.value)
    assert content(tree) == before


def test_what_is_there_is_kept(tree: Path) -> None:
    """Lines of .dagignore stay, and a test of the name that is somebody's."""
    (tree / ".dagignore").write_text("notes.txt", encoding="utf-8")
    make_location(plan_location(tree, TEMPLATE, "first"))
    assert (tree / ".dagignore").read_text(encoding="utf-8") == "notes.txt\n/tests/\n"
    make_location(plan_location(tree, TEMPLATE, "second"))
    assert (tree / ".dagignore").read_text(encoding="utf-8") == "notes.txt\n/tests/\n"
    (tree / "tests" / "test_third.py").write_text("mine", encoding="utf-8")
    with pytest.raises(CodeLocationError, match=r"test_third.py' already, and it is not overwritten"):
        plan_location(tree, TEMPLATE, "third")


def test_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CodeLocationError, match=r"nowhere' does not exist.*dags_path=/path/to/dags"):
        plan_location(tmp_path / "nowhere", TEMPLATE, "sales")
