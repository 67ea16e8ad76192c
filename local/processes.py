"""Background processes of a platform: started detached, remembered by pid *and* start time, stopped with care.

A pid alone is no identity: after a crash or reboot another program may have it. Every signal is therefore preceded by a
comparison of the start time that was written down.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from local.settings import HOST, LocalError, Settings, free_ports

MARK = "DAGSTER_LOCAL_PROCESS"
"""Environment variable `<name>@<state directory>` of each background process; task processes inherit the runner's."""


@dataclass(frozen=True)
class Record:
    """What is written down about a process: enough to know it again."""

    name: str
    pid: int
    identity: str
    """Start time in the kernel's own terms; see `identity`."""
    command: list[str]


def identity(pid: int) -> str | None:
    """Return what tells this process from any other that has or had its pid, or None if there is none.

    On Linux: boot id and start time in clock ticks since boot. Unlike a wall-clock start time they never move.
    """
    try:
        if Path("/proc/self/stat").exists():
            # Fields after the program's name, which is in parentheses and may hold blanks and parentheses (proc(5)).
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            # A zombie's other threads may still be about to end, and hold its sockets until they have.
            if fields[0] == "Z" and len(list(Path(f"/proc/{pid}/task").iterdir())) <= 1:
                return None
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
            return f"{boot}:{fields[19]}"
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else repr(process.create_time())
    except (FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
        return None


def _record_file(settings: Settings, name: str) -> Path:
    return settings.state / "run" / f"{name}.json"


def _write(settings: Settings, record: Record) -> None:
    file = _record_file(settings, record.name)
    file.parent.mkdir(exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(record)), encoding="utf-8")
    temporary.replace(file)


def _read(settings: Settings, name: str) -> Record | None:
    try:
        return Record(**json.loads(_record_file(settings, name).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        # A file that cannot be read is as good as none: `_search` finds a process that runs nevertheless.
        return None


def mark(settings: Settings, name: str) -> str:
    """Return the value of the environment variable MARK of a process."""
    return f"{name}@{settings.state}"


def _marked(settings: Settings, name: str) -> Iterator[psutil.Process]:
    """Yield the processes, of any program, that carry the mark in their environment."""
    wanted = mark(settings, name)
    for process in psutil.process_iter():
        # Processes of other users cannot be ours and cannot be looked into.
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == wanted:
                yield process


def find(settings: Settings, name: str, command: Sequence[str]) -> int | None:
    """Return the pid of the running process ``name``, or None; forgets a record that is stale.

    A process whose start was interrupted before it could be written down is found by its environment and command.
    """
    record = _read(settings, name)
    if record is not None and identity(record.pid) == record.identity:
        return record.pid
    _record_file(settings, name).unlink(missing_ok=True)
    for process in _marked(settings, name):
        with contextlib.suppress(psutil.Error):
            if process.cmdline() == list(command) and (now := identity(process.pid)):
                _write(settings, Record(name, process.pid, now, list(command)))
                return process.pid
    return None


def started_otherwise(settings: Settings, name: str, command: Sequence[str]) -> bool:
    """Return whether the process runs, but was started with another command (another port, another version)."""
    record = _read(settings, name)
    return record is not None and identity(record.pid) == record.identity and record.command != list(command)


def has_argument(pid: int, argument: str) -> bool:
    """Return whether a process with this pid exists that has ``argument`` on its command line."""
    try:
        return argument in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False


def start(
    settings: Settings,
    name: str,
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    account: tuple[int, int] | None = None,
) -> int:
    """Start a detached process that outlives this one; its output goes to `logs/<name>.log`. Returns the pid.

    ``account`` is (uid, gid) to run it as; only root may give one.
    """
    settings.create_state()
    settings.logs.mkdir(exist_ok=True)
    with (settings.logs / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            list(command),
            cwd=cwd,
            env={**environment, MARK: mark(settings, name)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Away from the terminal: Ctrl-C there must not reach it.
            start_new_session=True,
            user=account[0] if account else None,
            group=account[1] if account else None,
            extra_groups=[] if account else None,
        )
    if started := identity(process.pid):
        _write(settings, Record(name, process.pid, started, list(command)))
    return process.pid


def wait_until(ready: Callable[[], bool], settings: Settings, name: str, *, seconds: float = 60) -> None:
    """Wait until ``ready`` returns true.

    Raises:
        LocalError: the process ended before, or the time is over; the text holds the end of its log.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        record = _read(settings, name)
        gone = record is None or identity(record.pid) != record.identity
        if gone or time.monotonic() > deadline:
            log = settings.logs / f"{name}.log"
            why = "ended before it was ready" if gone else f"was not ready after {seconds:.0f} s"
            raise LocalError(
                f"The process {name} {why}. The last lines of its log {log}:\n{tail(log, 20)}\n"
                "`make down` stops what still runs; `make up` tries again."
            )
        time.sleep(0.1)


def tail(file: Path, lines: int) -> str:
    """Return the last lines of a text file, or a note that there is none."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - 400 * lines))
            text = stream.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return f"(no file {file})"
    return "\n".join(text.splitlines()[-lines:])


def stop(
    settings: Settings, name: str, command: Sequence[str], *, how: int = signal.SIGTERM, seconds: float = 60
) -> bool:
    """Stop a process: signal ``how``, then SIGKILL after ``seconds``. Returns whether it ran."""
    pid = find(settings, name, command)
    if pid is None:
        return False
    known = identity(pid)
    _end(pid, known, how, seconds)
    _record_file(settings, name).unlink(missing_ok=True)
    return True


def stop_leftovers(settings: Settings, name: str, *, seconds: float = 15) -> int:
    """Stop the processes that carry the mark of ``name`` although it has gone (its children). Returns their number."""
    left = [(process.pid, identity(process.pid)) for process in _marked(settings, name)]
    for pid, known in left:
        _signal(pid, known, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    for pid, known in left:
        _end(pid, known, signal.SIGTERM, max(0.0, deadline - time.monotonic()))
    return len(left)


def _signal(pid: int, known: str | None, how: int) -> None:
    """Send a signal to a pid, but only while it is still the process that is meant."""
    if known is not None and identity(pid) == known:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)


def _end(pid: int, known: str | None, how: int, seconds: float) -> None:
    _signal(pid, known, how)
    deadline = time.monotonic() + seconds
    while known is not None and identity(pid) == known:
        if time.monotonic() > deadline:
            how = signal.SIGKILL
            _signal(pid, known, how)
        reap(pid)
        time.sleep(0.05)


def reap(pid: int) -> None:
    """Collect the exit status if the process is a child of this one, so that it does not stay a zombie."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def listens(port: int) -> bool:
    """Return whether something accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((HOST, port)) == 0


def answers_http(url: str) -> bool:
    """Return whether a server on this machine answers a GET with status 200."""
    # Not through a proxy of the environment: this is the loopback interface.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException):
        return False


def require_free_port(port: int, variable: str, purpose: str) -> None:
    """Refuse a port that something else listens on.

    Raises:
        LocalError: the port is busy; names port, holder, the variable that chooses another, and a command.
    """
    with socket.socket() as probe:
        # As servers do: a port is free although connections of an earlier server are still in TIME_WAIT.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError:
            reason = "may not be opened by this user (ports below 1024 belong to root)"
        except OSError:
            reason = f"is busy: {_holder(port)}"
        else:
            return
    raise LocalError(
        f"Port {port} on {HOST}, wanted for {purpose}, {reason}. "
        f"Stop that program, or choose another port: `{variable}={_another(port)} make up`."
    )


def _another(port: int) -> int:
    """Return a port near the given one that is free now."""
    return next((near for near in range(port + 1, min(port + 100, 65536)) if not listens(near)), free_ports(1)[0])


def _holder(port: int) -> str:
    """Say who listens on a port, as far as the operating system tells this user."""
    try:
        for connection in psutil.net_connections("tcp"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and local and local.port == port and connection.pid:
                process = psutil.Process(connection.pid)
                return f"pid {process.pid} ({process.name()}, of user {process.username()}) listens on it"
    except psutil.Error:
        pass  # macOS shows other processes' sockets to root only
    return "a program that this user may not look into listens on it"
