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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from . import events
from .manifest import CodeLocation

_TAIL_LINES = 120
_LONGEST_LINE = 16 * 1024
"""Bytes; a longer line is passed on in pieces, so that no output can fill the memory."""

_OUTPUT_BYTES, _OUTPUT_SECONDS = 1024 * 1024, 4
"""Most output that is passed on of a child, in a time. One that prints more is made to wait, by a full pipe: what an
endless loop prints would fill the logs, at a price, and keep the supervisor from its work."""

_ABORT_SECONDS = 5
_KILLS = 5
"""Times that what a process has started is looked for and killed: it may be starting more."""

SERVER_OOM_SCORE = 400
RUN_OOM_SCORE = 600
"""oom_score_adj of proc(5): when the memory of the task is used up, the kernel ends a run or the code server that has
taken it, which are started again or recorded, before webserver, daemon and supervisor."""

_own: set[int] = set()
_own_lock = threading.Lock()


def program(name: str) -> str:
    """Return the path of a console script of this Python environment."""
    return str(Path(sys.executable).with_name(name))


@contextlib.contextmanager
def reaping_paused() -> Iterator[None]:
    """Keep ``reap_orphans`` from taking the exit code of a process that is started and awaited inside."""
    with _own_lock:
        yield


def reap_orphans() -> None:
    """Collect ended processes that were handed to us because their parent had ended: process 1 has to.

    The exit codes of our own children are left to ``Child.exit_code``.
    """
    with _own_lock, contextlib.suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if ended.si_pid in _own:
                return
            os.waitpid(ended.si_pid, 0)


class Child:
    """A process group. Its output is passed on line by line; the last lines are kept for the error report."""

    def __init__(
        self, name: str, command: Sequence[str], env: Mapping[str, str], cwd: Path, *, oom_score: int = 0
    ) -> None:
        self.name = name
        self.started = time.monotonic()
        self.asked_to_end = False
        self._mark = f"DAGSTER_ECS_CHILD={os.getpid()}-{time.monotonic_ns()}"
        with _own_lock:
            # Not a shell's background job: Dagster ignores SIGTERM in a process that was started ignoring SIGINT.
            self._process = subprocess.Popen(
                command,
                env={**env, **dict([self._mark.split("=")])},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                process_group=0,  # of its own, in the session of the task, by which a task runner can find it
            )
            _own.add(self._process.pid)
        if oom_score:
            with contextlib.suppress(OSError):  # macOS, or the process has ended already
                Path(f"/proc/{self.pid}/oom_score_adj").write_text(str(oom_score), encoding="ascii")
        self._tail: collections.deque[str] = collections.deque(maxlen=_TAIL_LINES)
        self._reader = threading.Thread(target=self._pass_on, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_code(self) -> int | None:
        """Return the exit code, negative for a signal, or None while the process lives."""
        code = self._process.poll()
        if code is not None:
            _own.discard(self._process.pid)
        return code

    def tail(self) -> str:
        """Return the last lines of output; complete once the process has ended."""
        if self.exit_code() is not None:
            self._reader.join(2)
        return "\n".join(self._tail)

    def interrupt(self) -> None:
        """Do to the process, not to its group, what Ctrl-C does."""
        if self.exit_code() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGINT)

    def terminate(self) -> None:
        """Ask the process, not its group, to end; once only."""
        if not self.asked_to_end and self.exit_code() is None:
            self.asked_to_end = True
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def abort(self) -> None:
        """End the process; a Python with PYTHONFAULTHANDLER prints what each of its threads was doing."""
        if self.exit_code() is None:
            self._process.send_signal(signal.SIGABRT)
            self.wait(_ABORT_SECONDS)

    def wait(self, seconds: float) -> bool:
        """Wait for the end and return whether it came."""
        try:
            self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            return False
        return True

    def members(self) -> list[int]:
        """Return the pids of the other live processes that this one has started, and those again: a run's steps.

        They are in its group, or have its mark in their environment, which a process keeps that leaves the group.
        Found in /proc; where that does not exist (macOS) none are known.
        """
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            pid = int(process.name)
            try:
                # proc(5): "pid (name) state parent group ..."; the name may hold spaces and parentheses.
                state, _parent, group = (process / "stat").read_text().rpartition(")")[2].split()[:3]
                ours = int(group) == self.pid or self._mark.encode() in (process / "environ").read_bytes().split(b"\0")
            except (OSError, ValueError):
                continue
            if ours and pid != self.pid and state != "Z":
                found.append(pid)
        return found

    def signal_members(self, number: signal.Signals) -> None:
        """Send a signal to everything that this process has started."""
        for pid in self.members():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def kill_group(self) -> None:
        """End the process and everything it started."""
        if self.exit_code() is None:  # else the group's number may be somebody else's by now
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        for _ in range(_KILLS):
            if not self.members():
                break
            self.signal_members(signal.SIGKILL)
        self._process.wait()

    def _pass_on(self, output: IO[bytes]) -> None:
        began, passed = time.monotonic(), 0
        with output:
            while raw := output.readline(_LONGEST_LINE):
                passed += len(raw)
                if passed > _OUTPUT_BYTES:
                    while time.monotonic() < began + _OUTPUT_SECONDS and self.exit_code() is None:
                        time.sleep(0.1)
                    began, passed = time.monotonic(), 0
                line = raw.decode("utf-8", "replace").rstrip("\n")
                self._tail.append(line)
                events.emit_output(self.name, line)


class CodeServer(Child):
    """`dagster api grpc` for one code location of one release, behind a socket of its own."""

    def __init__(
        self, location: CodeLocation, release: str, directory: Path, *, run_dir: Path, env: Mapping[str, str]
    ) -> None:
        self.location = location.name
        self.release = release
        self.answered: float | None = None
        """When it last answered (monotonic); None until it has loaded."""
        self.socket = _socket_path(run_dir, f"{release}-{location.name}-{time.monotonic_ns()}")
        super().__init__(
            f"code server of {location.name} in release {release}",
            [
                program("dagster"),
                *("api", "grpc", "--socket", str(self.socket)),
                *("--working-directory", str(directory), "--module-name", location.module),
                *("--location-name", location.name, "--log-level", "warning", "--inject-env-vars-from-instance"),
            ],
            {**environment_of_release(env, directory), "PYTHONFAULTHANDLER": "1"},
            directory,
            oom_score=SERVER_OOM_SCORE,
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

    def connections(self) -> int:
        """Return how many clients are connected; 0 where /proc does not exist (macOS)."""
        try:
            lines = Path("/proc/net/unix").read_text().splitlines()
        except OSError:
            return 0
        # proc(5): number, references, protocol, flags, type, state, inode, path. 01 is the listening socket itself.
        return sum(line.endswith(f" {self.socket}") and line.split()[5] != "01" for line in lines)

    def remove_socket(self) -> None:
        """Remove the socket file of a server that has ended."""
        self.socket.unlink(missing_ok=True)


def describe_end(code: int) -> str:
    """Return how a process has ended, for a sentence about it."""
    if code == -signal.SIGKILL:
        return "was killed, most likely because the memory of the task was used up,"
    return f"ended with {code}"


def stable_socket(run_dir: Path, location: str) -> Path:
    """Return the symlink that webserver and daemon connect through, whichever release is behind it."""
    return run_dir / f"{location}.sock"


class WaitingRoom:
    """A socket behind which nobody answers, for the clients of a server that is being restarted.

    They would see a refusal otherwise, and Dagster's give a location up after ten of them, a second apart
    (MAX_RECONNECT_ATTEMPTS in dagster/_grpc/server_watcher.py). Here each of their attempts takes its two seconds.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "waiting.room"
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(128)
        self._listener.setblocking(False)

    def empty(self) -> None:
        """Send all who wait away: they come again, and find the server."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._listener.accept()[0].close()


def point_to(link: Path, target: Path) -> None:
    """Make ``link`` point to ``target`` in one step: there is no moment without a server behind it."""
    fresh = link.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.rename(link)


def environment_of_release(env: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Return the environment for code of the release in ``directory``.

    Dagster puts sys.path back after loading; late imports and the processes of steps need PYTHONPATH.
    """
    inherited = env.get("PYTHONPATH")
    path = f"{directory}:{inherited}" if inherited else str(directory)
    return {**env, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def _socket_path(run_dir: Path, name: str) -> Path:
    """Return a short path of its own for each server; settings see to it that ``run_dir`` leaves room."""
    return run_dir / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.sock"
