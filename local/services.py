"""The background processes of a platform that are Python programs of ours: AWS emulator and task runner."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

from local import processes
from local.settings import REPOSITORY, Settings


@dataclass(frozen=True)
class Service:
    """A program `python -m <module>` that runs in the background and is ready when `ready` says so."""

    name: str
    module: str
    ready: Callable[[Settings], bool]
    stop_seconds: float
    """How long it may take to stop before it is killed."""

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", self.module]

    def running(self, settings: Settings) -> int | None:
        """Return the pid, or None."""
        return processes.find(settings, self.name, self.command)

    def start(self, settings: Settings) -> bool:
        """Start the program if it does not run and wait until it is ready. Returns whether it had to be started."""
        started = self.running(settings) is None
        if started:
            processes.start(settings, self.name, self.command, cwd=REPOSITORY, environment=environment(settings))
        processes.wait_until(lambda: self.ready(settings), settings, self.name)
        return started

    def stop(self, settings: Settings) -> bool:
        """Stop the program and what it may have left behind. Returns whether it ran."""
        stopped = processes.stop(settings, self.name, self.command, seconds=self.stop_seconds)
        processes.stop_leftovers(settings, self.name)
        return stopped


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment without AWS settings of the user, which must never reach a local platform."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return kept | settings.environment | {"PYTHONUNBUFFERED": "1"}


def emulator_answers(settings: Settings) -> bool:
    """Return whether the emulator answers; that something listens is not enough, it may be about to end."""
    return processes.answers_http(f"{settings.aws_url}/moto-api/")


EMULATOR = Service("emulator", "local.emulator", emulator_answers, 30)
# Its tasks take their time; `make up` waits for the UI instead.
RUNNER = Service("runner", "local.runner", lambda _settings: True, 60)
