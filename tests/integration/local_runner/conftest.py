"""An emulator for all tests here, and a task runner for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from local.settings import free_ports
from tests.integration.local_runner.platform import Emulator, Runner


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """The emulator of the local platform, with a network, a role and a cluster in it."""
    emulator = Emulator(tmp_path_factory.mktemp("emulator"), *free_ports(3))
    emulator.start()
    try:
        emulator.prepare()
        yield emulator
    finally:
        emulator.stop()


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
        assert not runner.short_directory.exists(), "the runner has left sockets behind"
