"""The process beside a playbook that keeps its lock: renews the lease, and gives the lock back when the run has ended.

Ansible has no step that is always the last: a run may fail, be interrupted or be killed. So the lock is kept by a
process of its own, which watches the one that runs the playbook. When that has ended, however it did, it waits for
modules that go on without it, and gives the lock back. When its own machine goes, nobody renews the lease, and it runs
out.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .aws_lock import Lock

RENEWALS = 6
"""In the time of one lease."""
LOOK_SECONDS = 1.0
PROC = Path("/proc")


def start(make_lock: Callable[[], Lock], run: str, pid: int) -> int:
    """Start a keeper for the lock that `run` has, whose playbook is run by the process `pid`; return its own pid."""
    told, tell = os.pipe()
    child = os.fork()
    if child:
        os.close(tell)
        os.waitpid(child, 0)
        with os.fdopen(told) as answer:
            return int(answer.read())
    try:
        _become_keeper(make_lock, run, pid, tell)
    finally:
        os._exit(0)


def _become_keeper(make_lock: Callable[[], Lock], run: str, pid: int, tell: int) -> None:
    """Be a process of a process: nobody has to wait for it when it ends."""
    os.setsid()
    if grandchild := os.fork():
        os.write(tell, str(grandchild).encode())
        return
    _leave_everything()
    Keeper(make_lock(), run, pid).keep()


def _leave_everything() -> None:
    """Hold on to nothing of the module's: whoever reads its output waits until everybody has closed it."""
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.closerange(3, 1024)


class End(BaseException):
    """The playbook has come to its end, and says so with SIGTERM."""


def _end(_signal: int, _frame: Any) -> None:
    raise End


class Keeper:
    """Keeps a lock until a process has ended, or somebody else has the lock."""

    def __init__(self, lock: Lock, run: str, pid: int) -> None:
        self._lock = lock
        self._run = run
        self._pid = pid
        self._handle = _open_process(pid)
        self._pipes = _own_pipes(pid)

    def keep(self) -> None:
        """Renew the lease until the run has ended; then give the lock back."""
        for ignored in (signal.SIGINT, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _end)
        try:
            kept = self._keep()
        except End:
            kept = True
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if kept:
            self._give_back()

    def _keep(self) -> bool:
        """Return when the run has ended; False if the lock is not to be given back."""
        renewed = time.monotonic()
        children: set[int] = set()
        while True:
            if self._ended():
                # Without /proc nobody knows what of it goes on: the lease runs out instead.
                if not PROC.joinpath("self").exists():
                    return False
                children = {child for child in children | set(_holders(self._pipes)) if alive(child)}
                if not children:
                    return True
            else:
                children = {child for child in children if alive(child)} | set(_descendants(self._pid)) - {os.getpid()}
            if time.monotonic() - renewed >= self._lock.lease / RENEWALS:
                # What is not answered is asked again; until the lease has run out the lock is kept all the same.
                with suppress(Exception):
                    if not self._lock.renew(self._run):
                        self._interrupt()
                        return False
                    renewed = time.monotonic()

    def _ended(self) -> bool:
        """Wait a moment for the process to end; tell whether it has."""
        if self._handle is None:
            time.sleep(LOOK_SECONDS)
            return not alive(self._pid)
        if self._handle < 0:
            time.sleep(LOOK_SECONDS)
            return True
        ready, _, _ = select.select([self._handle], [], [], LOOK_SECONDS)
        if ready:
            os.close(self._handle)
            self._handle = -1
        return bool(ready)

    def _give_back(self) -> None:
        for _ in range(RENEWALS):
            try:
                self._lock.release(self._run)
            except Exception as error:
                if type(error).__name__ == "NoTable":
                    return
                time.sleep(LOOK_SECONDS)
            else:
                return

    def _interrupt(self) -> None:
        """End the run as Ctrl-C does, and say why where it writes its errors to."""
        text = (
            f"\nThe lock of this platform was taken from this run ({self._run}): by somebody who said so, or because "
            f"AWS heard nothing from it for {self._lock.lease} s. The run is interrupted. Run the playbook again to "
            "finish.\n"
        )
        with suppress(OSError), PROC.joinpath(str(self._pid), "fd", "2").open("a", encoding="utf-8") as errors:
            errors.write(text)
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGINT)


def _open_process(pid: int) -> int | None:
    """Return a handle that cannot come to mean another process; None where the system has none, or it has ended."""
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that nobody has waited for yet does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with suppress(OSError):
        # proc(5): the state comes after the name, which may hold anything.
        return PROC.joinpath(str(pid), "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    return True


def _descendants(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for thread in PROC.joinpath(str(pid), "task").iterdir():
            for child in map(int, (thread / "children").read_text(encoding="utf-8").split()):
                yield child
                yield from _descendants(child)


def _pipes_of(pid: int) -> Iterator[str]:
    """Yield the pipes that a process has open, by their inodes; one that it has both ends of comes twice."""
    with suppress(OSError):
        for descriptor in PROC.joinpath(str(pid), "fd").iterdir():
            with suppress(OSError):
                target = str(descriptor.readlink())
                if target.startswith("pipe:"):
                    yield target


def _own_pipes(pid: int) -> frozenset[str]:
    """Return the pipes of which a process has both ends: Ansible's, through which its workers tell results.

    Whatever it shares with others, such as the pipe of its output, it has one end of.
    """
    return frozenset(pipe for pipe, ends in Counter(_pipes_of(pid)).items() if ends > 1)


def _holders(pipes: frozenset[str]) -> Iterator[int]:
    """Yield the processes that have one of the pipes open: workers of a playbook that has ended.

    A worker that was forked since somebody looked last is nobody's child any more, and found by nothing else.
    """
    for process in PROC.iterdir() if pipes else ():
        if process.name.isdecimal() and int(process.name) != os.getpid() and pipes & set(_pipes_of(int(process.name))):
            yield int(process.name)


def identity(pid: int, host: str) -> str:
    """Return the name of the run of a process: a number of a process is used again, the time of its begin is not."""
    try:
        # The 22nd field of proc(5) is the time after the boot at which it began, in ticks.
        begun = PROC.joinpath(str(pid), "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        told = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
        begun = re.sub(r"\D", "", told.stdout)
    return f"{host}-{pid}-{begun}"
