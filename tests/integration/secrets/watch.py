"""Looks at all processes of this machine, and at directories, again and again until it is told to stop."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from tests.integration.secrets.needles import Needles, files

BETWEEN_SECONDS = 0.2
"""Between two looks; what lives shorter is written down by those who start it (tests/recorder)."""


class Watch:
    """What was seen while it looked. Secrets are looked for afterwards: they are made meanwhile."""

    def __init__(self, directories: list[Path]) -> None:
        self.commands: set[bytes] = set()
        """Every command line."""
        self.environments: set[tuple[bytes, int, bytes]] = set()
        """Command line, user and environment of every process that may be looked into."""
        self.contents: dict[str, bytes] = {}
        """Every state of every file in the directories, by path and size."""
        self.rounds = 0
        self._directories = directories
        self._known: set[tuple[str, bytes]] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(BETWEEN_SECONDS):
            self.look()

    def look(self) -> None:
        """Look once."""
        for process in Path("/proc").iterdir():
            if not process.name.isdecimal():
                continue
            try:
                # In this order: between the two, a process may become another program, whose environment is less.
                command = (process / "cmdline").read_bytes()
                self.commands.add(command)
                if (process.name, command) not in self._known:
                    self._known.add((process.name, command))
                    environment = (process / "environ").read_bytes()
                    self.environments.add((command, process.stat().st_uid, environment))
            except OSError:  # it has ended, or belongs to somebody else
                continue
        for file in files(self._directories):
            try:
                content = file.read_bytes()
            except OSError:
                continue
            self.contents[f"{file} ({len(content)} bytes)"] = content
        self.rounds += 1

    def holders(self, needles: Needles) -> set[Holder]:
        """Return every process that had a secret in its environment."""
        return {
            Holder(name, user, home(environment), command.replace(b"\0", b" ").decode("utf-8", "replace").strip())
            for command, user, environment in self.environments
            for name in needles.within(environment)
        }


class Holder(NamedTuple):
    """A process with a secret in its environment."""

    secret: str
    user: int
    home: str
    """Its home directory, which a task has of its own."""
    command: str


def home(environment: bytes) -> str:
    """Return HOME in an environment as the kernel shows it."""
    return next(
        (each.removeprefix(b"HOME=").decode() for each in environment.split(b"\0") if each.startswith(b"HOME=")), ""
    )
