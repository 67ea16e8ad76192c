"""Containers where there is no engine: what is said, and that nobody else is kept from working."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.runner import docker_runtime
from local.runner.docker_runtime import DockerRuntime
from local.settings import REPOSITORY, LocalError, Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A state directory whose runner has used Docker, on a machine whose engine is gone."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && { echo "Docker version 20.10.24, build x"; exit; }\n'
        "echo 'Cannot connect to the Docker daemon' >&2; exit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    settings = Settings(tmp_path / "state")
    settings.create_state()
    (settings.state / "runner").mkdir()
    (settings.state / "runner" / "docker").touch()
    return settings


def test_an_engine_that_does_not_answer_is_said(settings: Settings) -> None:
    with pytest.raises(LocalError, match=r"Cannot connect to the Docker daemon.*without RUNTIME tasks are processes"):
        DockerRuntime(settings)


def test_no_client_at_all_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LocalError, match=r"RUNTIME=docker needs Docker.*apt-get install docker\.io"):
        DockerRuntime(Settings(tmp_path / "state"))


def test_what_stays_is_said_and_how_to_remove_it(settings: Settings, tmp_path: Path) -> None:
    left = docker_runtime.remove_all(settings)
    assert f"docker volume ls --quiet --filter label=dagster-local.state={settings.state}" in left
    assert docker_runtime.remove_all(Settings(tmp_path / "never")) == ""


def test_tasks_as_processes_need_no_engine_afterwards(settings: Settings) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "local.runner", "--stop-leftovers"],
        cwd=REPOSITORY,
        env={**os.environ, **settings.environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0
    assert "containers of an earlier runner are not looked for" in ended.stderr
