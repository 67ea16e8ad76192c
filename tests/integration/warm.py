"""Playbooks that are run by a fork of a process which has imported Ansible and botocore already.

Most of a small playbook's time is Python's: it starts, and imports. Here a process does so once and forks for each run
(warm_process.py). The fork has the arguments, the environment, the directory and the streams of that run, and calls
what the program `ansible-playbook` calls: output, exit code and signals are those of a run that a user starts. Only
/proc shows another command line, and the environment of the process that was forked.
"""

from __future__ import annotations

import atexit
import os
import select
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from json import dumps
from pathlib import Path
from typing import IO, Any

PROCESS = Path(__file__).with_name("warm_process.py")
IMPORTS = """
from importlib.util import find_spec
import ansible.cli.playbook
import ansible.executor.process.worker, ansible.executor.module_common, ansible.plugins.callback.default
import ansible.plugins.connection.local, ansible.plugins.filter.core, ansible.plugins.strategy.linear
if find_spec("boto3"):
    import boto3, botocore.client, botocore.session
"""
PROGRAM = """
import atexit, sys
from ansible import constants
from ansible.config import manager
# The one thing that is chosen at import and is a run's own: the temporary directory.
atexit.unregister(manager.cleanup_tmp_file)
constants.DEFAULT_LOCAL_TMP = constants.config.get_config_value("DEFAULT_LOCAL_TMP")
from ansible.cli.playbook import main
sys.exit(main())
"""
READ_LATE = ("AWS_", "AWX_", "CONTROLLER_", "DAGSTER_", "PWD", "PYTEST_", "RECORD_")
"""How names of variables begin that say nothing to what is imported; for all others there is a process each."""
MOST = 4
"""Processes that are kept."""

Key = tuple[Any, ...]


class Run(subprocess.Popen[str]):
    """A run, seen from the test that has started it: what a Popen is for a child of one's own."""

    def __init__(self, arguments: Sequence[str], pid: int, status: int, outputs: Sequence[IO[str] | None]) -> None:
        """`status` is where its exit code is to be read; the outputs are stdout and stderr."""
        self._child_created = False
        self.args, self.pid = list(arguments), pid
        self.stdin = None
        self.stdout, self.stderr = outputs
        self.returncode: int | Any = None
        self._status, self._lock = status, threading.Lock()

    def _ended(self, seconds: float | None) -> bool:
        with self._lock:
            if self.returncode is None and select.select([self._status], [], [], seconds)[0]:
                told = os.read(self._status, 100)
                os.close(self._status)
                assert told, "the warm process has ended"
                self.returncode = int(told)
            return self.returncode is not None

    def poll(self) -> int | None:
        """Return its exit code, None as long as it runs."""
        return self.returncode if self._ended(0) else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended."""
        if not self._ended(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return int(self.returncode)

    def communicate(self, input: str | None = None, timeout: float | None = None) -> tuple[str, str]:
        """Return what it says until it ends."""
        assert input is None
        until = None if timeout is None else time.monotonic() + timeout
        said = ["", ""]

        def read(number: int, stream: IO[str]) -> None:
            said[number] = stream.read()

        streams = [each for each in enumerate((self.stdout, self.stderr)) if each[1]]
        readers = [threading.Thread(target=read, args=each, daemon=True) for each in streams]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(None if until is None else max(0, until - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.wait(None if until is None else max(0, until - time.monotonic()))
        return said[0], said[1]

    def __exit__(self, *_: object) -> None:
        """Close its outputs and wait for it."""
        for stream in (self.stdout, self.stderr):
            if stream:
                stream.close()
        self.wait()


class Warm:
    """A process that forks runs of `ansible-playbook`; it has been started in this directory and environment."""

    def __init__(self, program: Path, environment: Mapping[str, str], directory: Path) -> None:
        """`program` is `ansible-playbook` of some virtual environment."""
        self._program, self._directory = program, directory
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [str(program.with_name("python")), "-P", str(PROCESS), str(theirs.fileno()), IMPORTS],
                pass_fds=[theirs.fileno()],
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], *, joined: bool = False) -> Run:
        """Run it with arguments, in a session of its own; `joined`: its errors are written to stdout, too."""
        command = [str(self._program), *arguments]
        asked = {"code": PROGRAM, "arguments": command, "environment": dict(environment)}
        pipes = [os.pipe() for _ in range(2 if joined else 3)]
        (status, status_there), *outputs = pipes
        with tempfile.TemporaryFile() as request, Path(os.devnull).open("rb") as nothing:
            request.write(dumps(asked | {"directory": str(self._directory)}).encode())
            request.seek(0)
            streams = [nothing.fileno(), outputs[0][1], outputs[-1][1]]
            socket.send_fds(self._socket, [b"run"], [request.fileno(), status_there, *streams])
            answer = self._socket.recv(100)
        for _, there in pipes:
            os.close(there)
        assert answer, "the warm process has ended"
        read: list[IO[str] | None] = [os.fdopen(here, encoding="utf-8") for here, _ in outputs]
        return Run(command, int(answer), status, [*read, None][:2])

    def close(self) -> None:
        """End it; runs go on."""
        self._socket.close()
        self._process.wait()


_kept: dict[Key, Warm] = {}
_choosing = threading.Lock()


def start_playbook(
    program: Path, arguments: Sequence[str], environment: Mapping[str, str], directory: Path, *, joined: bool = False
) -> Run:
    """Start `ansible-playbook`, in a session of its own: as `Warm.start`, with a process that is kept for others."""
    early = {name: value for name, value in environment.items() if not name.startswith(READ_LATE)}
    key: Key = (program, directory, *sorted(early.items()))
    with _choosing:
        if key not in _kept and len(_kept) == MOST:
            _kept.pop(next(iter(_kept))).close()
        # The first to go is the one that has not been used for longest.
        warm = _kept[key] = _kept.pop(key) if key in _kept else Warm(program, early, directory)
        return warm.start(arguments, environment, joined=joined)


@atexit.register
def close_all() -> None:
    """End all processes that are kept; the next run begins one."""
    while _kept:
        _kept.popitem()[1].close()
