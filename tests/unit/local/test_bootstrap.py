"""What `local/bootstrap.sh` says on a machine where something is missing; nothing is installed here."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from local.settings import REPOSITORY

TOOLS = ("bash", "env", "dirname", "cat", "mkdir", "rm", "grep", "head", "cut", "awk", "sha256sum")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the script in a bare checkout, with nothing on PATH but basic tools and the given programs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found
        (programs / tool).symlink_to(found)
    for name in ("local/bootstrap.sh", "requirements/uv.txt", "requirements/local.txt"):
        target = tmp_path / "checkout" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, target)

    def call(
        *arguments: str, python: dict[str, str] | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        for name, script in (python or {}).items():
            (programs / name).write_text(f"#!{programs}/bash\n{script}\n")
            (programs / name).chmod(0o755)
        return subprocess.run(
            ["bash", str(tmp_path / "checkout/local/bootstrap.sh"), *arguments],
            env={"PATH": str(programs), "HOME": str(tmp_path / "home"), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return call


def test_no_python_at_all(run: Run) -> None:
    done = run("local")
    assert done.returncode == 1
    assert "No Python >= 3.12 was found" in done.stderr
    assert "uv python install 3.12" in done.stderr and "PYTHON=/path/to/python3 make up" in done.stderr


def test_a_shim_that_fails_is_passed_over(run: Run) -> None:
    done = run("local", python={"python3.12": "echo 'pyenv: python3.12: command not found' >&2; exit 127"})
    assert done.returncode == 1
    assert "No Python >= 3.12 was found" in done.stderr


def test_a_python_without_ensurepip(run: Run) -> None:
    # Answers the question for its version, but not the import of ensurepip; says its package's name.
    python = 'case "$*" in *"import ensurepip"*) exit 1;; *python%d*) echo python3.12-venv;; *) echo "$0";; esac'
    done = run("local", python={"python3.12": python})
    assert done.returncode == 1
    assert "has no ensurepip" in done.stderr
    assert "apt-get install python3.12-venv" in done.stderr


def test_a_chosen_python_that_does_not_work(run: Run) -> None:
    done = run("local", PYTHON="/nowhere/python3")
    assert done.returncode == 1
    assert "PYTHON=/nowhere/python3 is no Python >= 3." in done.stderr


@pytest.mark.parametrize("arguments", [[], ["nonsense"]])
def test_unknown_environments(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 1
    assert "controller local container test" in done.stderr
