"""The runs of a task: each a process of its own, on the release that the run was created from.

Dagster's processes ask for them through a Unix socket (see launcher.py): the supervisor has the releases on disk, and
outlives the daemon and every code server. A request is one line of JSON, and so is the answer:

    {"launch": <run id>, "release": <release id>}   ->  {"error": str | null, "directory": str, the release's}
    {"terminate": <run id>}                         ->  {"found": bool}
    {"look_up": <run id>}                           ->  {"state": "running" | "ended" | "unknown",
                                                         "exit_code": int | null, "tail": str}
"""

from __future__ import annotations

import collections
import json
import re
import signal
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from . import events
from .bucket import SyncError
from .children import RUN_OOM_SCORE, Child, environment_of_release
from .settings import runs_socket

_RUN_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_RELEASE = re.compile(r"[0-9a-f]{16}")
_LONGEST_REQUEST = 4096
_REMEMBERED = 200
"""Runs that have ended and can still be asked about: Dagster's run monitoring looks once a minute."""


class Runs:
    """The processes of the runs, and the socket through which they are started. Safe to use from several threads."""

    def __init__(self, run_dir: Path, env: Mapping[str, str], directory_of: Callable[[str], Path]) -> None:
        """``directory_of`` brings a release onto the disk where needed; it raises SyncError."""
        self._env, self._directory_of = env, directory_of
        self._lock = threading.Lock()
        self._live: dict[str, _Run] = {}
        self._launching: collections.Counter[str] = collections.Counter()
        self._ended: collections.OrderedDict[str, _Run] = collections.OrderedDict()
        self._closed = threading.Event()
        path = runs_socket(run_dir)
        path.unlink(missing_ok=True)
        self._server = _Server(str(path), self._answer)
        threading.Thread(target=self._server.serve_forever, name="runs", daemon=True).start()

    def releases(self) -> set[str]:
        """Return the releases that a run uses or is about to use."""
        with self._lock:
            return {run.release for run in self._live.values()} | set(+self._launching)

    def pids(self) -> dict[str, int]:
        """Return the pids of the live runs."""
        with self._lock:
            return {run.name: run.pid for run in self._live.values()}

    def tend(self) -> bool:
        """Note the runs that have ended; return whether there were any."""
        with self._lock:
            ended = [run for run in self._live.values() if run.exit_code() is not None]
            for run in ended:
                del self._live[run.id]
                self._ended[run.id] = run
                while len(self._ended) > _REMEMBERED:
                    self._ended.popitem(last=False)
        for run in ended:
            run.kill_group()  # steps that outlived their run's process
            events.emit("run_ended", run_id=run.id, release=run.release, exit_code=run.exit_code())
        return bool(ended)

    def end(self, deadline: float) -> None:
        """End all runs until ``deadline`` (monotonic), and start no more.

        Half of the time is for them to finish by themselves. Then they are interrupted as by Ctrl-C, which they
        record as their end; then their steps are killed, which the run still records; at last the run itself.
        """
        with self._lock:
            self._closed.set()
            runs = list(self._live.values())
        self._server.shutdown()
        left = max(0.0, deadline - time.monotonic())
        for until, number in ((deadline - left / 2, signal.SIGINT), (deadline - left / 6, signal.SIGKILL)):
            for run in runs:
                run.wait(until - time.monotonic())
            for run in runs:
                run.signal_members(number)
                if number is signal.SIGINT:
                    run.interrupt()
        for run in runs:
            run.wait(deadline - time.monotonic())
            run.kill_group()
        self.tend()

    def _launch(self, run_id: str, release: str) -> dict[str, Any]:
        """Start a run; say where its release is, or why it cannot be started."""
        with self._lock:
            if self._closed.is_set():
                return {"error": "the task is stopping"}
            if run_id in self._live:
                return {"error": "the run is executed already"}
            self._launching[release] += 1  # from here on its directory stays
        try:
            directory = self._directory_of(release)
            with self._lock:
                if self._closed.is_set():
                    return {"error": "the task is stopping"}
                run = _Run(run_id, release, directory, self._env)
                self._live[run_id] = run
        except SyncError as error:
            return {"error": str(error)}
        finally:
            with self._lock:
                self._launching[release] -= 1
        events.emit("run_started", run_id=run_id, release=release, pid=run.pid)
        return {"error": None, "directory": str(directory)}

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        match request:
            case {"launch": str(run_id), "release": str(release)} if _are_ids(run_id, release):
                return self._launch(run_id, release)
            case {"terminate": str(run_id)}:
                with self._lock:
                    run = self._live.get(run_id)
                if run is not None:
                    run.interrupt()
                return {"found": run is not None}
            case {"look_up": str(run_id)}:
                with self._lock:
                    run = self._live.get(run_id) or self._ended.get(run_id)
                if run is None:
                    return {"state": "unknown", "exit_code": None, "tail": ""}
                code = run.exit_code()
                state = "running" if code is None else "ended"
                return {"state": state, "exit_code": code, "tail": run.tail()}
        return {"error": f"not a request: {request}"}


class _Run(Child):
    """The process that executes one run; its steps are its children."""

    def __init__(self, run_id: str, release: str, directory: Path, env: Mapping[str, str]) -> None:
        self.id, self.release = run_id, release
        super().__init__(
            f"run {run_id}",
            [sys.executable, "-m", "dagster_ecs_runtime.run_worker", run_id, str(directory)],
            environment_of_release(env, directory),
            directory,
            oom_score=RUN_OOM_SCORE,
        )


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Hands each request to ``answer`` in a thread of its own: a launch may have to fetch a release first."""

    daemon_threads = True

    def __init__(self, path: str, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.answer = answer
        super().__init__(path, _Handler)


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        try:
            request = json.loads(self.rfile.readline(_LONGEST_REQUEST))
            answer = self.server.answer(request)
        except ValueError as error:
            answer = {"error": f"not a request: {error}"}
        self.wfile.write(json.dumps(answer).encode() + b"\n")


def _are_ids(run_id: str, release: str) -> bool:
    return bool(_RUN_ID.fullmatch(run_id) and _RELEASE.fullmatch(release))
