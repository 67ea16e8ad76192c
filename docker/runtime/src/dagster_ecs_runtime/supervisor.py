"""The program of a task: runs webserver or daemon, and beside it the thread that follows the releases.

It does not import Dagster.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import threading
import time
from http.server import ThreadingHTTPServer
from types import FrameType
from typing import Any

from . import events, health
from .children import Child, program, reap_orphans
from .observer import Observer, observe
from .settings import Settings, SettingsError, child_environment
from .state import State
from .syncer import Syncer

_LONGEST_BACK_OFF = 30
_STEADY_SECONDS = 60
"""A child that ran this long had a good start: the next restart is immediate again."""
_HEARTBEAT_SECONDS = 60
_QUESTION_SECONDS = 5
"""Between two questions to the webserver whether it still answers, and the time it has for each."""
_LONGEST_START_SECONDS = 180
_WEBSERVER_PATIENCE = 3
"""Times the setting for code servers: a heavy page of the UI keeps a small webserver busy for long."""


class Supervisor:
    """Life of a task, from the first line to the exit code."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._state = State(settings)
        self._stop_at: float | None = None
        self._wake = threading.Event()
        self._locations_changed = threading.Event()
        self._main: Child | None = None
        self._failures = 0
        self._next_start = 0.0
        self._next_heartbeat = time.monotonic() + _HEARTBEAT_SECONDS

    def run(self) -> int:
        """Run until SIGTERM or SIGINT and return the exit code; raise SettingsError when a start is impossible."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop_signal)
        signal.signal(signal.SIGCHLD, lambda *_: self._wake.set())
        server = self._prepare()
        events.emit("supervisor_started", service=self._settings.service, task_id=self._settings.task_id)
        syncer = Syncer(self._settings, self._state, self._location_set_changed)
        syncer.start()
        if self._settings.service == "webserver":
            threading.Thread(target=self._watch_webserver, name="watch webserver", daemon=True).start()
            threading.Thread(target=self._observe, name="observe", daemon=True).start()
        try:
            while self._stop_at is None:
                self._look_after_main_child()
                self._beat()
                if os.getpid() == 1:
                    reap_orphans()
                self._wake.wait(1.0)
                self._wake.clear()
        finally:
            self._stop(syncer)
            server.shutdown()
        return 0

    def _prepare(self) -> ThreadingHTTPServer:
        s = self._settings
        try:
            for directory in (s.run_dir, s.home, s.releases_dir):
                directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"{error}: mount a directory there that user {os.getuid()} may write to") from error
        try:
            return health.serve(self._state)
        except OSError as error:
            where = f"{s.bind_host}:{s.health_port}"
            raise SettingsError(
                f"the health endpoint cannot listen on {where} ({error}): "
                "another process does, or the address is not this machine's. Set DAGSTER_HEALTH_PORT to a free port."
            ) from error

    def _on_stop_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._stop_at is None:
            self._stop_at = time.monotonic() + self._settings.stop_seconds
        self._wake.set()

    def _location_set_changed(self) -> None:
        """Called by the sync thread when workspace.yaml has other locations than before."""
        self._locations_changed.set()
        self._wake.set()

    def _beat(self) -> None:
        if time.monotonic() >= self._next_heartbeat:
            self._next_heartbeat = time.monotonic() + _HEARTBEAT_SECONDS
            self._state.emit()

    # -- webserver or daemon

    def _look_after_main_child(self) -> None:
        if self._main is not None and (code := self._main.exit_code()) is not None:
            lasted = time.monotonic() - self._main.started
            self._failures = 1 if lasted > _STEADY_SECONDS else self._failures + 1
            delay = 0.0 if self._failures == 1 else min(_LONGEST_BACK_OFF, 2.0**self._failures)
            tail = self._main.tail()
            events.emit("child_ended", child=self._main.name, exit_code=code, restart_in_seconds=delay, tail=tail)
            self._main.kill_group()
            with self._state.change():
                self._state.main_restarts += 1
            self._forget_main_child(time.monotonic() + delay)
        if self._main is None:
            if self._state.first_sync_done and time.monotonic() >= self._next_start:
                self._locations_changed.clear()
                self._main = self._start_main_child()
            return
        if self._locations_changed.is_set():
            self._locations_changed.clear()
            self._apply_locations(self._main)

    def _start_main_child(self) -> Child:
        s = self._settings
        workspace = str(s.home / "workspace.yaml")
        if s.service == "webserver":
            command = [program("dagster-webserver"), "--host", s.bind_host, "--port", str(s.webserver_port)]
            command += ["--workspace", workspace, "--log-level", "warning"]
        else:
            command = [program("dagster-daemon"), "run", "--workspace", workspace]
        child = Child(s.service, command, child_environment(), s.home)
        with self._state.change():
            self._state.main_pid = child.pid
            self._state.main_answers = s.service == "daemon"  # that it runs is good enough
        events.emit("child_started", child=child.name, pid=child.pid)
        return child

    def _forget_main_child(self, next_start: float) -> None:
        self._main = None
        self._next_start = next_start
        with self._state.change():
            self._state.main_pid = None
            self._state.main_answers = False

    def _watch_webserver(self) -> None:
        """Note whether the webserver answers, and kill one that hangs; the loop starts another."""
        answered: tuple[Child | None, float] = (None, 0.0)
        while self._stop_at is None:
            child = self._main
            if child is not None and self._webserver_answers():
                answered = (child, time.monotonic())
                with self._state.change():
                    self._state.main_answers = self._main is child
            elif child is not None:
                loaded = answered[0] is child
                patience = self._settings.hang_seconds * _WEBSERVER_PATIENCE if loaded else _LONGEST_START_SECONDS
                if time.monotonic() - (answered[1] if loaded else child.started) > patience:
                    events.emit("child_hangs", child=child.name, seconds=patience)
                    child.kill_group()
            time.sleep(_QUESTION_SECONDS if self._state.main_answers else 1)

    def _observe(self) -> None:
        """Write what Dagster says of itself as a log line, once a minute while the webserver answers."""
        s = self._settings
        identity = {"service": s.service, "environment": s.environment, "platform": s.platform, "task_id": s.task_id}
        observer = Observer(self._ask_webserver)
        while self._stop_at is None:
            if self._state.main_answers:
                observe(observer, identity)
                time.sleep(s.observe_seconds)
            else:
                time.sleep(1)

    def _webserver_answers(self) -> bool:
        """Return whether the webserver answers its cheapest page."""
        address = (self._webserver_host(), self._settings.webserver_port)
        with contextlib.closing(http.client.HTTPConnection(*address, timeout=_QUESTION_SECONDS)) as connection:
            try:
                connection.request("GET", "/server_info")
                return connection.getresponse().status == http.HTTPStatus.OK
            except (OSError, http.client.HTTPException):
                return False

    def _webserver_host(self) -> str:
        host = self._settings.bind_host
        return "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104, it is asked where it listens

    def _apply_locations(self, child: Child) -> None:
        """Make a running child see the new set of locations.

        The webserver is asked to reload its workspace. The daemon would read it again within a minute only
        (RELOAD_WORKSPACE_INTERVAL in dagster/_daemon/controller.py), so it is restarted: runs live in the code
        servers, nothing is lost.
        """
        if self._settings.service == "daemon":
            child.terminate()
            until = time.monotonic() + self._settings.stop_seconds
            while self._stop_at is None and time.monotonic() < until and not child.wait(0.5):
                pass
            if self._stop_at is None:
                child.kill_group()
                self._forget_main_child(0.0)
                self._wake.set()
            return
        threading.Thread(target=self._reload_webserver, args=(child,), name="reload", daemon=True).start()

    def _reload_webserver(self, child: Child) -> None:
        """Ask until the webserver has answered: it may still be starting."""
        while self._stop_at is None and child.exit_code() is None:
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                answer = self._ask_webserver("mutation { reloadWorkspace { __typename } }")
                if answer.get("data", {}).get("reloadWorkspace", {}).get("__typename") == "Workspace":
                    return
            time.sleep(1)

    def _ask_webserver(self, query: str) -> dict[str, Any]:
        """Return the answer to a GraphQL query; asked directly, whatever proxy the environment names."""
        connection = http.client.HTTPConnection(self._webserver_host(), self._settings.webserver_port, timeout=60)
        with contextlib.closing(connection):
            body = json.dumps({"query": query})
            connection.request("POST", "/graphql", body, {"Content-Type": "application/json"})
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer

    # -- the end

    def _stop(self, syncer: Syncer) -> None:
        """Stop in order: no new release, no new work, then the servers with what runs in them."""
        deadline = self._stop_at or time.monotonic() + self._settings.stop_seconds
        events.emit("stopping", seconds=round(deadline - time.monotonic(), 1))
        syncer.stop()
        if self._main is not None:
            self._main.terminate()
        syncer.join(max(0.0, min(5.0, deadline - time.monotonic())))
        syncer.end_children(deadline - 2)
        if self._main is not None:
            self._main.wait(deadline - time.monotonic())
            self._main.kill_group()
        events.emit("stopped")
