"""An emulator and a task runner for all tests here."""

from __future__ import annotations

from collections.abc import Iterator

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


@pytest.fixture(scope="module")
def started(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """A task runner with a state directory and an image directory of its own; it stops with everything it started."""
    (ui,) = free_ports(1)
    runner = Runner(emulator, tmp_path_factory.mktemp("runner"), ui)
    yield runner
    runner.terminate()
    assert not runner.session_members(), "the runner has left processes behind"
    assert not runner.short_directory.exists(), "the runner has left sockets behind"


@pytest.fixture
def runner(started: Runner) -> Iterator[Runner]:
    """The task runner, without a service; some tests kill it and start it again."""
    started.begin()
    yield started
    started.end()
