"""The seam between tasks and what executes their containers: processes of this machine, or Docker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from local.runner.definition import Definition


class StartError(Exception):
    """A container could not be started; the message becomes the task's stopped reason."""


@dataclass(frozen=True)
class Launch:
    """One container to start. Nothing in it is mapped yet: that is the runtime's business."""

    task: str
    """Task id."""
    definition: Definition
    secrets: Mapping[str, str]
    """Variables whose values come from secrets: never mapped, never logged."""
    environment: Mapping[str, str]
    """Variables that the agent adds; their values are for this machine already."""


class Container(Protocol):
    """A started container."""

    ports: Mapping[int, int]
    """Container port -> port on 127.0.0.1."""
    output: IO[bytes]
    """Standard output and error; ends when the container and everything it started have ended."""

    def exit_code(self) -> int | None:
        """Return the exit code (128 + n for signal n), or None while it runs."""

    def check(self, command: Sequence[str], timeout: float) -> bool:
        """Run a health check command in the container and return whether it exited with 0 within ``timeout`` s."""

    def terminate(self) -> None:
        """Ask the main process to end (SIGTERM), as the ECS agent does."""

    def kill(self) -> None:
        """End everything in the container at once, and wait for that. Also right after it has ended by itself."""

    def remove(self) -> None:
        """Remove its files. Only after `kill`."""


class Runtime(Protocol):
    """Starts containers, and finds those that a killed runner has left behind."""

    def start(self, launch: Launch) -> Container:
        """Start a container.

        Raises:
            StartError: a file is missing, a directory cannot be made …
        """

    def directory(self, task: str) -> Path:
        """Return the private directory of a task (mode 0700), and create it."""

    def stop_leftovers(self) -> list[str]:
        """Stop all containers that an earlier runner has left, each within its stop timeout. Returns task ids."""

    def close(self) -> None:
        """Remove what tasks share and nobody needs later. Only after all tasks have stopped."""
