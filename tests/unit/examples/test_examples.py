"""The examples of pipelines: linted, of the right schema, without keys, and with commands that do what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
GITHUB = sorted((ROOT / "examples" / "github").glob("*.yml"))
GITLAB = sorted((ROOT / "examples" / "gitlab").glob("*.yml"))
PIPELINES = [*GITHUB, *GITLAB]


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(each) for each in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_zizmor_finds_nothing_even_as_a_pedant() -> None:
    done = run(BIN / "zizmor", "--offline", "--pedantic", "--no-progress", *GITHUB)
    assert done.returncode == 0, done.stdout + done.stderr


def test_actionlint_finds_nothing_but_what_is_planted(tmp_path: Path) -> None:
    """With shellcheck, which it runs on the scripts in a workflow."""
    path = f"{BIN}:{os.environ['PATH']}"
    done = run(BIN / "actionlint", *GITHUB, PATH=path)
    assert (done.returncode, done.stdout) == (0, "")
    text = (ROOT / "examples/github/deploy-dags.yml").read_text(encoding="utf-8")
    for good, bad, said in (
        ("github.actor", "github.nobody", 'property "nobody" is not defined'),
        ("runs-on: ubuntu-24.04", "runs-on: ubuntu-0", 'label "ubuntu-0" is unknown'),
        ("make deploy-dags", "make $TARGET", "SC2086"),
    ):
        assert good in text
        planted = tmp_path / "planted.yml"
        planted.write_text(text.replace(good, bad), encoding="utf-8")
        found = run(BIN / "actionlint", planted, PATH=path)
        assert found.returncode == 1
        assert said in found.stdout


@pytest.mark.parametrize(
    ("schema", "file"),
    [*(("github-workflows", file) for file in GITHUB), *(("gitlab-ci", file) for file in GITLAB)],
)
def test_schemas(schema: str, file: Path) -> None:
    done = run(BIN / "check-jsonschema", "--builtin-schema", f"vendor.{schema}", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_pre_commit_takes_manifest_and_configuration() -> None:
    for command, file in (
        ("validate-manifest", ".pre-commit-hooks.yaml"),
        ("validate-config", "examples/pre-commit-config.yaml"),
    ):
        done = run(BIN / "pre-commit", command, file)
        assert done.returncode == 0, done.stdout + done.stderr
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    (repository,) = yaml.safe_load((ROOT / "examples/pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [each["id"] for each in repository["hooks"]] == [hook["id"]]
    assert os.access(ROOT / hook["entry"], os.X_OK)


@pytest.mark.parametrize("file", PIPELINES, ids=lambda file: file.name)
def test_no_long_lived_keys(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert not re.search(r"ACCESS_KEY|aws-access-key|secrets\.", text)


def test_foreign_code_and_rights_to_write_are_never_in_one_job() -> None:
    jobs = yaml.safe_load((ROOT / "examples/github/pull-request.yml").read_text(encoding="utf-8"))["jobs"]
    for name, job in jobs.items():
        checks_out = any(str(step.get("uses", "")).startswith("actions/checkout@") for step in job["steps"])
        writes = {right for right, level in job["permissions"].items() if level == "write"} - {"id-token"}
        assert not (checks_out and writes), name
    assert "id-token" not in jobs["validate"]["permissions"]
    assert "head.repo.full_name == github.repository" in jobs["plan"]["if"]


@pytest.mark.parametrize("file", PIPELINES, ids=lambda file: file.name)
def test_commands_exist(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+)", re.sub(r"#.*", "", text))) <= targets
    assert all(os.access(ROOT / name, os.X_OK) for name in re.findall(r"(?:local|examples)/\w+\.sh", text))


@pytest.mark.parametrize("file", PIPELINES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_another_repository_says_which_it_is_and_where_its_dags_are(file: Path) -> None:
    """`make` takes both from the environment; without them it would publish the platform's own."""
    text = re.sub(r"#.*", "", file.read_text(encoding="utf-8"))
    assert ("DIR:" in text) == (file.stem == "deploy-own-locations")
    if file.stem == "deploy-own-locations":
        assert "make deploy-dags" in text
        # GitLab's variables of a project are in the environment of its jobs already.
        assert "REPOSITORY:" in text or file.parent.name == "gitlab"
        done = run("make", "--dry-run", "deploy-dags", REPOSITORY="finance", DIR="/own/dags", ENV="example")
        assert '-e "dags_path=/own/dags" -e "dags_repository=finance"' in done.stdout
        assert "inventories/example/hosts.yml" in done.stdout


def test_check_dags_names_file_and_line(tmp_path: Path) -> None:
    if not (ROOT / ".venv/container/bin/python").exists():
        pytest.skip("needs the environment container: local/bootstrap.sh container")
    script = ROOT / "local" / "check_dags.sh"
    (tmp_path / "dags" / "sales").mkdir(parents=True)
    (tmp_path / "dags" / "sales" / "__init__.py").write_text(
        "from dagster import Definitions\n\ndefinitions = Definitions()\n"
    )
    good = run(script, "dags", cwd=tmp_path)
    assert (good.returncode, good.stdout) == (0, "dags: sales loads.\n"), good.stderr
    (tmp_path / "dags" / "sales" / "__init__.py").write_text("import dagster\n\nnowhere\n")
    bad = run(script, "dags", cwd=tmp_path)
    assert bad.returncode == 1
    assert "sales/__init__.py" in bad.stderr
    assert "line 3" in bad.stderr
    assert run(script, "one", "two", cwd=tmp_path).returncode == 2


def test_the_plan_cannot_be_left_by_what_is_printed_and_fails_where_make_does(tmp_path: Path) -> None:
    fake = tmp_path / "make"
    fake.write_text('#!/bin/sh\necho "$@"; echo "~~~~~~"; echo "<script>"; [ "$1" != infra-plan ]\n', encoding="utf-8")
    fake.chmod(0o755)
    file = tmp_path / "plan.md"
    done = run(ROOT / "examples/plan.sh", "production", file, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 1, done.stderr
    text = file.read_text(encoding="utf-8")
    assert "deploy-dags ENV=production ARGS=--check --diff" in text
    assert "### Infrastructure: **failed**" in text
    assert len(re.findall(r"^~~~~~~", text, re.MULTILINE)) == 4
    assert run(ROOT / "examples/plan.sh").returncode == 2
