"""The thread that follows the pointer: fetch, canary, switch, and keep the servers of the release alive."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from . import events, manifest
from .bucket import ReleaseBucket, SyncError
from .children import CodeServer, point_to, stable_socket
from .releases import Releases
from .settings import Settings, child_environment
from .state import State

_LAST_GOOD = ".last-good-release.json"
_HEARTBEAT_SECONDS = 60
_LONGEST_BACK_OFF = 60
_ERROR_CHARACTERS = 4000
_CANARY_ATTEMPTS = 3
"""Tries for a canary that failed outside of the release's own files: a database that is away is no broken DAG."""


class Rejected(RuntimeError):
    """A release does not load; the message is what its author needs to see."""


class Syncer(threading.Thread):
    """Brings the release that the pointer names into service, and reports it."""

    def __init__(self, settings: Settings, state: State, location_set_changed: Callable[[], None]) -> None:
        super().__init__(name="sync", daemon=True)
        self._settings, self._state = settings, state
        self._bucket = ReleaseBucket(settings)
        self._releases = Releases(settings.releases_dir, self._bucket)
        self._location_set_changed = location_set_changed
        self._stopping = threading.Event()
        self._etag: str | None = None
        self._pointer: manifest.Pointer | None = None
        self._active: dict[str, CodeServer] = {}
        self._retired: list[CodeServer] = []
        self._starting: list[CodeServer] = []
        self._locations: tuple[manifest.CodeLocation, ...] = ()
        self._restarts: dict[str, int] = {}
        self._canary_failures = 0
        self._next_report = 0.0
        self._env = child_environment()

    # -- the loop

    def run(self) -> None:
        """Poll until told to stop."""
        failures = 0
        while not self._stopping.is_set():
            try:
                self._sync()
                failures = 0
            except SyncError as error:
                if self._stopping.is_set():
                    break
                failures += 1
                with self._state.change():
                    self._state.sync_failures += 1
                    self._state.error = str(error)
                    self._state.swapping = False
                self._report()
            except Exception as error:  # a bug here must not end the polling for the rest of the task's life
                failures += 1
                with self._state.change():
                    self._state.error = f"{type(error).__name__}: {error}"
                    self._state.swapping = False
                self._report()
            self._wait(
                min(_LONGEST_BACK_OFF, self._settings.poll_seconds * 2 ** min(failures, 6))
                if failures
                else self._settings.poll_seconds
            )

    def stop(self) -> None:
        """Tell the thread to end; the servers are left to ``end_servers``."""
        self._stopping.set()

    def end_servers(self, deadline: float) -> None:
        """End all code servers: politely until ``deadline`` (monotonic), then with everything they started."""
        servers = [*self._active.values(), *self._retired, *self._starting]
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait(deadline - time.monotonic())
        for server in servers:
            server.kill_group()
            server.remove_socket()

    def _wait(self, seconds: float) -> None:
        """Wait for the next poll; meanwhile look after the servers and the heartbeat line."""
        until = time.monotonic() + seconds
        while not self._stopping.is_set():
            self._look_after_servers()
            if time.monotonic() >= self._next_report:
                self._report()
            left = until - time.monotonic()
            if left <= 0 or self._stopping.wait(min(left, 1.0)):
                return

    # -- one poll

    def _sync(self) -> None:
        found = self._bucket.poll(self._etag)
        with self._state.change():
            self._state.last_sync = time.monotonic()
        if found.changed:
            self._etag, self._pointer = found.etag, found.pointer
            self._canary_failures = 0
            with self._state.change():
                self._state.target = found.pointer.release if found.pointer else None
                self._state.rejected = None
        pointer = self._pointer
        if pointer is None:
            self._first_sync_done()
            return
        if pointer.release in (self._state.release, self._state.rejected):
            with self._state.change():
                if self._state.rejected is None:
                    self._state.error = None
            if found.changed:
                self._report()
            return
        try:
            self._take(pointer.release, pointer.manifest_version_id)
        except Rejected as rejection:
            with self._state.change():
                self._state.rejected = pointer.release
                self._state.error = str(rejection)
                self._state.canary_rejections += 1
                self._state.swapping = False
            self._report()
            if self._state.release is None:
                self._fall_back(pointer)
        else:
            with self._state.change():
                self._state.error = None
        self._first_sync_done()

    def _first_sync_done(self) -> None:
        """From the first answer of S3 on, whatever it was, webserver or daemon may start."""
        if self._state.first_sync_done:
            return
        self._write_workspace()
        with self._state.change():
            self._state.first_sync_done = True
        self._report()

    def _fall_back(self, pointer: manifest.Pointer) -> None:
        """Serve an older release: a task that is replaced must not go down because of a DAG."""
        for release, version in self._older(pointer):
            if release == pointer.release:
                continue
            try:
                self._take(release, version)
            except (Rejected, SyncError) as error:
                events.emit("fall_back_failed", release=release, error=str(error))
                continue
            return

    def _older(self, pointer: manifest.Pointer) -> list[tuple[str, str | None]]:
        candidates: list[tuple[str, str | None]] = []
        with contextlib.suppress(OSError, ValueError, KeyError):
            good = json.loads((self._settings.storage_dir / _LAST_GOOD).read_text(encoding="utf-8"))
            candidates.append((str(good["release"]), str(good["manifest_version_id"])))
        if pointer.previous:
            candidates.append((pointer.previous, None))
        return candidates

    # -- a swap

    def _take(self, release: str, version_id: str | None) -> None:
        """Put a release into service; raise Rejected or SyncError with the old one untouched."""
        began = time.monotonic()
        with self._state.change():
            self._state.swapping = True
        wanted = self._bucket.manifest(release, version_id)
        directory = self._releases.fetch(wanted, self._stopping.is_set)
        servers = self._start_servers(wanted, directory)
        self._switch(wanted, servers)
        with self._state.change():
            self._state.previous, self._state.release = self._state.release, release
            self._state.swapping = False
            self._state.serving_since = events.now()
            self._state.swap_seconds = round(time.monotonic() - began, 3)
            self._state.children.update({f"code server {s.location}": s.pid for s in self._active.values()})
        self._remember(release, version_id)
        self._report()
        self._collect()

    def _start_servers(self, wanted: manifest.Manifest, directory: Path) -> dict[str, CodeServer]:
        """Start a server for every location and wait until all are ready; their import is the canary."""
        self._starting = []
        try:
            for location in wanted.locations:
                self._starting.append(self._server(location, wanted.id, directory))
            deadline = time.monotonic() + self._settings.canary_seconds
            waiting = list(self._starting)
            while waiting:
                if self._stopping.wait(0.1):
                    raise SyncError("stopped during the canary")
                for server in list(waiting):
                    code = server.exit_code()
                    if code is not None:
                        raise self._refusal(server, f"ended with {code} while loading", directory)
                    if server.accepts():
                        waiting.remove(server)
                if waiting and time.monotonic() > deadline:
                    late = waiting[0]
                    raise Rejected(self._why(late, f"was not ready within {self._settings.canary_seconds:g} s"))
        except BaseException:
            for server in self._starting:
                server.kill_group()
                server.remove_socket()
            self._starting = []
            raise
        return {server.location: server for server in self._starting}

    def _server(self, location: manifest.CodeLocation, release: str, directory: Path) -> CodeServer:
        return CodeServer(location, release, directory, run_dir=self._settings.run_dir, env=self._env)

    def _refusal(self, server: CodeServer, what: str, directory: Path) -> Exception:
        """Return Rejected for an error in the release's own files, or when it has come back often enough."""
        self._canary_failures += 1
        why = self._why(server, what)
        if str(directory) in server.tail() or self._canary_failures >= _CANARY_ATTEMPTS:
            return Rejected(why)
        return SyncError(why)

    @staticmethod
    def _why(server: CodeServer, what: str) -> str:
        return f"code location {server.location!r} {what}:\n{server.tail()[-_ERROR_CHARACTERS:]}"

    def _switch(self, wanted: manifest.Manifest, servers: dict[str, CodeServer]) -> None:
        for name, server in servers.items():
            point_to(stable_socket(self._settings.run_dir, name), server.socket)
        old, self._active, self._starting = self._active, servers, []
        changed = {each.name for each in self._locations} != {each.name for each in wanted.locations}
        self._locations = wanted.locations
        self._restarts = {}
        if changed and self._state.first_sync_done:
            self._write_workspace()
            self._location_set_changed()
        for name, server in old.items():
            if name not in servers:
                stable_socket(self._settings.run_dir, name).unlink(missing_ok=True)
                with self._state.change():
                    self._state.children.pop(f"code server {name}", None)
            server.terminate()  # it stays until the runs in its subprocesses have ended
            self._retired.append(server)

    def _remember(self, release: str, version_id: str | None) -> None:
        """Note the last good release where the next task finds it: on the shared file system, if there is one."""
        if version_id is None:
            return
        note = self._settings.storage_dir / _LAST_GOOD
        text = json.dumps({"release": release, "manifest_version_id": version_id})
        with contextlib.suppress(OSError):
            fresh = note.with_name(f"{note.name}.{self._settings.task_id}")
            fresh.write_text(text, encoding="utf-8")
            fresh.rename(note)

    # -- servers and directories

    def _look_after_servers(self) -> None:
        for server in list(self._retired):
            if server.exit_code() is not None:
                server.remove_socket()
                self._retired.remove(server)
                self._collect()
        for location in self._locations:
            active = self._active.get(location.name)
            if active is None or active.exit_code() is None:
                continue
            restarts = self._restarts.get(location.name, 0)
            if time.monotonic() - active.started < min(_LONGEST_BACK_OFF, 2**restarts):
                continue
            self._restarts[location.name] = restarts + 1
            events.emit(
                "code_server_restart",
                location=location.name,
                exit_code=active.exit_code(),
                tail=active.tail()[-_ERROR_CHARACTERS:],
            )
            # Its group is left alone: runs that it started are subprocesses and may still finish.
            active.remove_socket()
            fresh = self._server(location, active.release, self._releases.path(active.release))
            self._active[location.name] = fresh
            # Pointed to at once: until it accepts, clients see what they see anyway, a server that is not there.
            point_to(stable_socket(self._settings.run_dir, location.name), fresh.socket)
            with self._state.change():
                self._state.children[f"code server {location.name}"] = fresh.pid

    def _collect(self) -> None:
        used = {server.release for server in [*self._active.values(), *self._retired, *self._starting]}
        used |= {r for r in (self._state.release, self._state.previous) if r}
        self._releases.collect(used)

    def _write_workspace(self) -> None:
        """Render workspace.yaml for the locations in service and swap it in."""
        locations = [
            {"name": each.name, "socket": str(stable_socket(self._settings.run_dir, each.name))}
            for each in self._locations
        ]
        rendered = subprocess.run(
            [sys.executable, "-m", f"{__package__}.workspace", str(self._settings.image_dir / "workspace.yaml.j2")],
            input=json.dumps(locations),
            capture_output=True,
            text=True,
            check=False,
        )
        if rendered.returncode != 0:
            raise SyncError(f"workspace.yaml cannot be rendered: {rendered.stderr.strip()[-500:]}")
        path = self._settings.home / "workspace.yaml"
        fresh = path.with_suffix(".new")
        fresh.write_text(rendered.stdout, encoding="utf-8")
        fresh.rename(path)

    def _report(self) -> None:
        self._next_report = time.monotonic() + _HEARTBEAT_SECONDS
        events.emit_state(self._state.report())


def reload_workspace(settings: Settings) -> None:
    """Make the webserver read workspace.yaml again."""
    host = "127.0.0.1" if settings.bind_host == "0.0.0.0" else settings.bind_host  # noqa: S104
    request = urllib.request.Request(
        f"http://{host}:{settings.webserver_port}/graphql",
        data=json.dumps({"query": "mutation { reloadWorkspace { __typename } }"}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()
