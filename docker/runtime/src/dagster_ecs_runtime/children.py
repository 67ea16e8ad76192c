"""Dagster's processes as children of the supervisor, each in a process group of its own."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from .manifest import CodeLocation

_TAIL_LINES = 60
_LONGEST_SOCKET_PATH = 100
"""Bytes; Linux allows 107 (unix(7)), macOS 103."""


def program(name: str) -> str:
    """Return the path of a console script of this Python environment."""
    return str(Path(sys.executable).with_name(name))


class Child:
    """A process group. Its output is passed on line by line; the last lines are kept for the error report."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        self.name = name
        self.started = time.monotonic()
        # Not a shell's background job: Dagster ignores SIGTERM in a process that was started ignoring SIGINT.
        self._process = subprocess.Popen(
            command,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,  # of its own, in the session of the task, by which a task runner can find it
        )
        self._tail: collections.deque[str] = collections.deque(maxlen=_TAIL_LINES)
        self._reader = threading.Thread(target=self._pass_on, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_code(self) -> int | None:
        """Return the exit code, negative for a signal, or None while the process lives."""
        return self._process.poll()

    def tail(self) -> str:
        """Return the last lines of output; complete once the process has ended."""
        if self.exit_code() is not None:
            self._reader.join(2)
        return "".join(self._tail)

    def terminate(self) -> None:
        """Ask the process, not its group, to end: its own children may be runs that it waits for."""
        if self.exit_code() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> bool:
        """Wait for the end and return whether it came."""
        try:
            self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill_group(self) -> None:
        """End the process and everything it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _pass_on(self, output: IO[bytes]) -> None:
        with output:
            for raw in output:
                line = raw.decode("utf-8", "replace")
                self._tail.append(line)
                sys.stdout.write(line)
                sys.stdout.flush()


class CodeServer(Child):
    """`dagster api grpc` for one code location of one release, behind a socket of its own."""

    def __init__(
        self, location: CodeLocation, release: str, directory: Path, *, run_dir: Path, env: Mapping[str, str]
    ) -> None:
        self.location = location.name
        self.release = release
        self.socket = _socket_path(run_dir, f"{release}-{location.name}-{time.monotonic_ns()}")
        super().__init__(
            f"code server of {location.name} in release {release}",
            [
                program("dagster"),
                *("api", "grpc", "--socket", str(self.socket)),
                *("--working-directory", str(directory), "--module-name", location.module),
                *("--location-name", location.name, "--log-level", "warning", "--inject-env-vars-from-instance"),
            ],
            # Dagster puts sys.path back after loading; late imports, run workers and steps need PYTHONPATH.
            {**env, "PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1"},
            directory,
        )

    def accepts(self) -> bool:
        """Return whether the server is ready: Dagster opens the socket only after the code has loaded."""
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
            probe.settimeout(2)
            try:
                probe.connect(str(self.socket))
            except OSError:
                return False
            return True

    def remove_socket(self) -> None:
        """Remove the socket file of a server that has ended."""
        self.socket.unlink(missing_ok=True)


def stable_socket(run_dir: Path, location: str) -> Path:
    """Return the symlink that webserver and daemon connect through, whichever release is behind it."""
    return run_dir / f"{location}.sock"


def point_to(link: Path, target: Path) -> None:
    """Make ``link`` point to ``target`` in one step: there is no moment without a server behind it."""
    fresh = link.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.rename(link)


def _socket_path(run_dir: Path, name: str) -> Path:
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    path = run_dir / f"{digest}.sock"
    if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
        raise OSError(f"{path} is too long for a Unix socket ({_LONGEST_SOCKET_PATH} bytes): shorten DAGSTER_RUN_DIR")
    return path
