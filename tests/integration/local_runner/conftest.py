"""An emulator for all tests here, and a task runner for each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.settings import REPOSITORY, free_ports
from tests.integration.local_runner.platform import Emulator, Runner, wait_for


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """The emulator of the local platform, with a network, a role and a cluster in it."""
    state = tmp_path_factory.mktemp("emulator")
    aws, ui, postgres = free_ports(3)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "DAGSTER_LOCAL_STATE": str(state),
        "DAGSTER_LOCAL_AWS_PORT": str(aws),
        "DAGSTER_LOCAL_UI_PORT": str(ui),
        "DAGSTER_LOCAL_POSTGRES_PORT": str(postgres),
    }
    log = tmp_path_factory.mktemp("log") / "emulator.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "local.emulator"], cwd=REPOSITORY, env=environment, stdout=output, stderr=output
        )
    emulator = Emulator(aws)
    try:
        wait_for(lambda: process.poll() is not None or emulator.answers(), "the emulator")
        assert process.poll() is None, log.read_text()
        emulator.prepare()
        yield emulator
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def runner(emulator: Emulator, tmp_path: Path) -> Iterator[Runner]:
    """A task runner with a state directory and an image directory of its own; it stops with everything it started."""
    (ui,) = free_ports(1)
    runner = Runner(emulator, tmp_path, ui)
    runner.start()
    try:
        yield runner
    finally:
        emulator.delete_services()
        runner.terminate()
        assert not runner.session_members(), "the runner has left processes behind"
