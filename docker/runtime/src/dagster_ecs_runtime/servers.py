"""The code servers of a task: started as a set, switched as a set, restarted when they die or hang, retired with care.

Runs are not among their children (see runs.py), so that a server may be ended at any time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from . import events, ping
from .bucket import SyncError
from .children import CodeServer, WaitingRoom, describe_end, point_to, stable_socket
from .manifest import CodeLocation, Manifest

_ERROR_CHARACTERS = 4000
_CAUSED = "The above exception was the direct cause of the following exception:"
_LONGEST_BACK_OFF = 60

_NOTICE_SECONDS = 2
"""Dagster's clients ask for the server's id every second (WATCH_INTERVAL in dagster/_grpc/server_watcher.py)."""

_DRAIN_SECONDS = 60
"""How long a server that was replaced is left alone while a call to it is under way.

It is Dagster's limit for a call (DEFAULT_GRPC_TIMEOUT in dagster/_grpc/client.py).
"""
_GRACE_SECONDS = 30
"""A server that was asked to end, and has not by then, is killed."""

_PING_SECONDS = 5
"""Between two questions to a server whether it still answers."""


class CanaryError(RuntimeError):
    """A release did not load. ``own_fault``: the reason is in the release, not around it."""

    def __init__(self, message: str, *, own_fault: bool) -> None:
        super().__init__(message)
        self.own_fault = own_fault


class CodeServers:
    """All code servers of one task: the active one of each location, and those that only finish their calls."""

    def __init__(
        self,
        run_dir: Path,
        env: Mapping[str, str],
        *,
        canary_seconds: float,
        hang_seconds: float,
        stopping: threading.Event,
    ) -> None:
        self._run_dir, self._env = run_dir, env
        self._canary_seconds, self._hang_seconds, self._stopping = canary_seconds, hang_seconds, stopping
        self.locations: tuple[CodeLocation, ...] = ()
        self._directory = Path("/")
        self._active: dict[str, CodeServer] = {}
        self._starting: list[CodeServer] = []
        self._retired: dict[CodeServer, float] = {}
        """Replaced servers, and since when (monotonic)."""
        self._restarts: dict[str, int] = {}
        self.restarts = 0
        """All restarts of servers that had died or hung."""
        for left_over in (*run_dir.glob("*.sock"), *run_dir.glob("*.new")):
            left_over.unlink()
        self._waiting_room = WaitingRoom(run_dir)

    def pids(self) -> dict[str, int]:
        """Return the pid of each location's active server."""
        return {f"code server {name}": server.pid for name, server in self._active.items()}

    def releases(self) -> set[str]:
        """Return the releases that a live process uses."""
        return {server.release for server in (*self._active.values(), *self._retired, *self._starting)}

    def start(self, wanted: Manifest, directory: Path, meanwhile: Callable[[], None]) -> dict[str, CodeServer]:
        """Start a server for every location and wait until all are ready; their import is the canary.

        ``meanwhile`` is called about every second. Raise CanaryError, with none of them left, when one does not load.
        """
        try:
            for location in wanted.locations:
                self._starting.append(self._new(location, wanted.id, directory))
            deadline = time.monotonic() + self._canary_seconds
            next_call = time.monotonic() + 1
            waiting = list(self._starting)
            while waiting:
                if self._stopping.wait(0.1):
                    raise SyncError("stopped during the canary")
                if time.monotonic() >= next_call:
                    next_call = time.monotonic() + 1
                    meanwhile()
                for server in list(waiting):
                    code = server.exit_code()
                    if code is not None:
                        raise _canary_error(server, code, directory)
                    if server.accepts():
                        server.answered = time.monotonic()
                        waiting.remove(server)
                if waiting and time.monotonic() > deadline:
                    what = f"was not ready within {self._canary_seconds:g} s"
                    waiting[0].abort()
                    raise CanaryError(_why(waiting[0], what), own_fault=True)
            return {server.location: server for server in self._starting}
        except BaseException:
            for server in self._starting:
                _bury(server)
            raise
        finally:
            self._starting = []

    def switch(self, wanted: Manifest, directory: Path, servers: dict[str, CodeServer]) -> None:
        """Put ``servers`` in the place of the active ones."""
        for name, server in servers.items():
            point_to(stable_socket(self._run_dir, name), server.socket)
        old, self._active = self._active, servers
        self.locations, self._directory = wanted.locations, directory
        self._restarts = {}
        for name, server in old.items():
            if name not in servers:
                stable_socket(self._run_dir, name).unlink(missing_ok=True)
            self._retired[server] = time.monotonic()

    def tend(self, repair: Callable[[], None]) -> bool:
        """Restart what died, end what nobody uses any more; return whether a retired server is gone.

        ``repair`` is called before a restart: the server may have died of damage to the release's directory.
        """
        for location in self.locations:
            self._restart_if_dead(location, repair)
            self._open_if_loaded(self._active[location.name])
        before = len(self._retired)
        for server, since in list(self._retired.items()):
            waited = time.monotonic() - since
            if server.exit_code() is None:
                self._end_when_drained(server, waited)
            if server.exit_code() is not None or waited > _DRAIN_SECONDS + _GRACE_SECONDS:
                _bury(server)
                del self._retired[server]
        return len(self._retired) < before

    def watch(self) -> None:
        """Kill servers that hang, until told to stop; ``tend`` starts others. Runs in a thread of its own.

        One that is still loading has as long as a canary.
        """
        while not self._stopping.wait(_PING_SECONDS):
            for server in list(self._active.values()):
                if server.answered is not None and ping.answers(server.socket, _PING_SECONDS):
                    server.answered = time.monotonic()
                    continue
                since, patience = server.answered, self._hang_seconds
                if since is None:
                    since, patience = server.started, self._canary_seconds
                if server.exit_code() is None and time.monotonic() - since > patience:
                    events.emit("code_server_hangs", location=server.location, seconds=patience)
                    server.kill_group()

    def end(self, deadline: float) -> None:
        """End all servers until ``deadline`` (monotonic)."""
        servers = [*self._active.values(), *self._retired, *self._starting]
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait(deadline - time.monotonic())
        for server in servers:
            _bury(server)

    def _new(self, location: CodeLocation, release: str, directory: Path) -> CodeServer:
        return CodeServer(location, release, directory, run_dir=self._run_dir, env=self._env)

    def _restart_if_dead(self, location: CodeLocation, repair: Callable[[], None]) -> None:
        dead = self._active[location.name]
        if dead.exit_code() is None:
            return
        point_to(stable_socket(self._run_dir, location.name), self._waiting_room.path)
        restarts = self._restarts.get(location.name, 0)
        if time.monotonic() - dead.started < min(_LONGEST_BACK_OFF, 2**restarts):
            return
        self._restarts[location.name] = restarts + 1
        self.restarts += 1
        events.emit(
            "code_server_restart",
            location=location.name,
            exit_code=dead.exit_code(),
            tail=dead.tail()[-_ERROR_CHARACTERS:],
        )
        _bury(dead)
        repair()
        self._active[location.name] = self._new(location, dead.release, self._directory)

    def _open_if_loaded(self, server: CodeServer) -> None:
        """Let the clients of a server that was restarted through to it."""
        if server.answered is None and server.accepts():
            server.answered = time.monotonic()
            point_to(stable_socket(self._run_dir, server.location), server.socket)
            self._waiting_room.empty()

    @staticmethod
    def _end_when_drained(server: CodeServer, waited: float) -> None:
        """Ask a replaced server to end, once the clients have turned to the new one and no call is under way."""
        if waited > _NOTICE_SECONDS and (waited > _DRAIN_SECONDS or not server.connections()):
            server.terminate()


def _bury(server: CodeServer) -> None:
    """End what is left of a server, and what its code has started beside it."""
    server.kill_group()
    server.remove_socket()


def _canary_error(server: CodeServer, code: int, directory: Path) -> CanaryError:
    """Return why a server has ended while loading. Python says so of every error; code that just ends is at fault."""
    tail, what = server.tail(), f"{describe_end(code)} while loading"
    if code >= 0 and '  File "' not in tail:
        what += ", without an error (does its code call sys.exit() or os._exit() when it is imported?)"
        return CanaryError(_why(server, what), own_fault=True)
    return CanaryError(_why(server, what), own_fault=str(directory) in tail)


def _why(server: CodeServer, what: str) -> str:
    """Return what happened and the end of the output, without Dagster's own traceback that follows the code's."""
    tail = server.tail()
    error, _, wrapper = tail.rpartition(_CAUSED)
    text = error.rstrip() if "DagsterUserCodeLoadError" in wrapper else tail
    return f"code location {server.location!r} {what}:\n{text[-_ERROR_CHARACTERS:]}"
