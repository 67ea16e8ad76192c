"""The program of a task: runs webserver or daemon, and beside it the thread that follows the releases.

It does not import Dagster. Orphans are left to the init process that ECS puts before it (initProcessEnabled).
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

from . import events, health
from .children import Child, program
from .settings import Settings, child_environment
from .state import State
from .syncer import Syncer, reload_workspace

_LONGEST_BACK_OFF = 30
_STEADY_SECONDS = 60
"""A child that ran this long had a good start: the next restart is immediate again."""


class Supervisor:
    """Life of a task, from the first line to the exit code."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._state = State(settings)
        self._stopping = False
        self._wake = threading.Event()
        self._locations_changed = threading.Event()
        self._main: Child | None = None
        self._failures = 0
        self._next_start = 0.0
        self._syncer = Syncer(settings, self._state, self._location_set_changed)

    def run(self) -> int:
        """Run until SIGTERM or SIGINT and return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop_signal)
        signal.signal(signal.SIGCHLD, lambda *_: self._wake.set())
        for directory in (self._settings.run_dir, self._settings.home, self._settings.releases_dir):
            directory.mkdir(parents=True, exist_ok=True)
        server = health.serve(self._state)
        events.emit("supervisor_started", service=self._settings.service, task_id=self._settings.task_id)
        self._syncer.start()
        while not self._stopping:
            self._look_after_main_child()
            self._wake.wait(1.0)
            self._wake.clear()
        self._stop()
        server.shutdown()
        return 0

    def _on_stop_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        self._wake.set()

    def _location_set_changed(self) -> None:
        """Called by the sync thread when workspace.yaml has other locations than before."""
        self._locations_changed.set()
        self._wake.set()

    def _look_after_main_child(self) -> None:
        if self._main is not None and (code := self._main.exit_code()) is not None:
            lasted = time.monotonic() - self._main.started
            self._failures = 1 if lasted > _STEADY_SECONDS else self._failures + 1
            delay = 0.0 if self._failures == 1 else min(_LONGEST_BACK_OFF, 2.0**self._failures)
            events.emit("child_ended", child=self._main.name, exit_code=code, restart_in_seconds=delay)
            self._main.kill_group()
            self._main = None
            self._next_start = time.monotonic() + delay
            with self._state.change():
                self._state.main_child_up = False
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
            self._state.main_child_up = True
            self._state.children[s.service] = child.pid
        events.emit("child_started", child=child.name, pid=child.pid)
        return child

    def _apply_locations(self, child: Child) -> None:
        """Make a running child see the new set of locations.

        The webserver is asked to reload its workspace. The daemon would read it again within a minute only
        (RELOAD_WORKSPACE_INTERVAL in dagster/_daemon/controller.py), so it is restarted: runs live in the code
        servers, nothing is lost.
        """
        if self._settings.service == "daemon":
            child.terminate()
            if not child.wait(self._settings.stop_seconds):
                child.kill_group()
            self._main = None
            self._next_start = 0.0
            return
        threading.Thread(target=self._reload_webserver, args=(child,), name="reload", daemon=True).start()

    def _reload_webserver(self, child: Child) -> None:
        """Ask until the webserver has answered: it may still be starting."""
        while not self._stopping and child.exit_code() is None:
            try:
                reload_workspace(self._settings)
            except OSError:
                time.sleep(1)
            else:
                return

    def _stop(self) -> None:
        """Stop in order: no new release, no new work, then the servers with what runs in them."""
        events.emit("stopping", seconds=self._settings.stop_seconds)
        deadline = time.monotonic() + self._settings.stop_seconds
        self._syncer.stop()
        if self._main is not None:
            self._main.terminate()
        self._syncer.join(max(0.0, min(5.0, deadline - time.monotonic())))
        self._syncer.end_servers(deadline - 2)
        if self._main is not None:
            self._main.wait(deadline - time.monotonic())
            self._main.kill_group()
        events.emit("stopped")
