"""The thread that follows the pointer: fetch, canary, switch, and keep the servers of the release alive."""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

from . import events, manifest, workspace
from .bucket import Poll, RefusedError, ReleaseBucket, SyncError, UnusableError
from .children import stable_socket
from .releases import Releases
from .runs import Runs
from .servers import CanaryError, CodeServers
from .settings import Settings, child_environment
from .state import State

_LAST_GOOD = ".last-good-release.json"
_LONGEST_BACK_OFF = 30
"""Seconds; a deploy that ends a row of failures is still noticed within a minute."""
_CANARY_ATTEMPTS = 3
"""Tries for a canary that failed outside of the release's own files: a database that is away is no broken DAG."""
_RETRY_SECONDS = 300
"""After those tries the release counts as rejected, and is tried again now and then."""
_REPAIR_PATIENCE = 2
"""Seconds that the restart of a server waits for a fetch to end, before it goes on without a look at the disk."""


class Syncer(threading.Thread):
    """Brings the release that the pointer names into service, and reports it."""

    def __init__(self, settings: Settings, state: State, location_set_changed: Callable[[], None]) -> None:
        super().__init__(name="sync", daemon=True)
        self._settings, self._state = settings, state
        self._stopping = threading.Event()
        self._bucket = ReleaseBucket(settings)
        if settings.dag_source == "tree":
            from .tree import TreeSource  # only there: its imports take memory

            self._bucket = TreeSource(settings, self._stopping.is_set)
        with state.change():
            state.s3_key_ending = self._bucket.key_ending
        self._releases = Releases(settings.releases_dir, self._bucket)
        self._location_set_changed = location_set_changed
        self._servers = CodeServers(
            settings.run_dir,
            child_environment(),
            canary_seconds=settings.canary_seconds,
            hang_seconds=settings.hang_seconds,
            stopping=self._stopping,
        )
        self._disk = threading.Lock()
        """Held while the releases on disk change: runs may need one fetched beside a swap."""
        self._runs = Runs(settings.run_dir, child_environment(), self._directory_of)
        self._collect_due = False
        self._incoming: str | None = None
        """The release that a swap is bringing in."""
        self._manifest_version: str | None = None
        """VersionId of the manifest of the release that is served."""
        self._etag: str | None = None
        self._pointer: manifest.Pointer | None = None
        self._canary_failures = 0
        self._retry_at = math.inf

    # -- the loop

    def run(self) -> None:
        """Poll until told to stop."""
        threading.Thread(target=self._servers.watch, name="watch", daemon=True).start()
        failures = 0
        while not self._stopping.is_set():
            error = self._attempt()
            failures = 0 if error is None else failures + 1
            if error is not None and not self._stopping.is_set():
                with self._state.change():
                    self._state.error = error
                    self._state.sync_failures += 1
                self._state.emit()
            seconds = self._settings.poll_seconds * 2 ** min(failures, 8)
            self._wait(min(seconds, max(_LONGEST_BACK_OFF, self._settings.poll_seconds)))

    def stop(self) -> None:
        """Tell the thread to end; servers and runs are left to ``end_children``."""
        self._stopping.set()

    def end_children(self, deadline: float) -> None:
        """End all runs and code servers: politely until ``deadline`` (monotonic), then with all they started."""
        self._runs.end(deadline - 2)
        self._servers.end(deadline)

    def _attempt(self) -> str | None:
        """Do one poll and what follows from it; return what failed."""
        try:
            self._sync()
        except SyncError as error:
            return str(error)
        except Exception as error:  # a bug here must not end the polling for the rest of the task's life
            return f"{type(error).__name__}: {error}"
        return None

    def _wait(self, seconds: float) -> None:
        """Wait for the next poll; meanwhile look after the servers."""
        until = time.monotonic() + seconds
        while not self._stopping.is_set():
            self._tend()
            left = until - time.monotonic()
            if left <= 0 or self._stopping.wait(min(left, 1.0)):
                return

    # -- one poll

    def _sync(self) -> None:
        try:
            found = self._patiently(self._poll)
        except UnusableError:
            # S3 is there, its pointer is no good: a task that serves stays fresh, one that has nothing falls back.
            with self._state.change():
                self._state.last_sync = time.monotonic()
                self._state.s3_key_ending = self._bucket.key_ending
            self._fall_back(None)
            self._first_sync_done()
            raise
        with self._state.change():
            self._state.last_sync = time.monotonic()
            renewed = self._state.s3_key_ending != self._bucket.key_ending
            self._state.s3_key_ending = self._bucket.key_ending
            if found.changed:
                self._etag, self._pointer = found.etag, found.pointer
                self._canary_failures = 0
                self._state.target = found.pointer.release if found.pointer else None
                self._state.rejected = None
        pointer = self._pointer
        if pointer is None or pointer.release == self._state.release:
            with self._state.change():
                gone = pointer is None and self._state.release is not None
                self._state.error = self._bucket.gone if gone else None
            if found.changed or renewed:
                self._state.emit()
        elif pointer.release != self._state.rejected or time.monotonic() >= self._retry_at:
            self._follow(pointer)
        self._first_sync_done()

    def _poll(self) -> Poll:
        """Poll; where S3 refuses the keys, once more with those that have taken their place."""
        try:
            return self._bucket.poll(self._etag)
        except RefusedError:
            if not self._bucket.renew_keys():
                raise
        return self._bucket.poll(self._etag)

    def _follow(self, pointer: manifest.Pointer) -> None:
        """Take the pointer's release; a task that has none yet takes an older one when that fails."""
        try:
            self._take(pointer.release, pointer.manifest_version_id)
        except CanaryError as error:
            self._canary_failures += 1
            if not error.own_fault and self._canary_failures < _CANARY_ATTEMPTS:
                raise SyncError(str(error)) from error
            self._retry_at = math.inf if error.own_fault else time.monotonic() + _RETRY_SECONDS
            with self._state.change():
                self._state.rejected, self._state.error = pointer.release, str(error)
                self._state.canary_rejections += 1
            self._state.emit()
            self._fall_back(pointer)
        except SyncError:
            if self._fall_back(pointer):
                self._first_sync_done()
            raise
        else:
            with self._state.change():
                self._state.error = self._state.rejected = None
            self._state.emit()

    def _fall_back(self, pointer: manifest.Pointer | None) -> bool:
        """Serve an older release where none is served: a replaced task must not go down because of a DAG.

        ``pointer`` is None where it cannot be used.
        """
        if self._state.release is not None or self._stopping.is_set():
            return False
        for release, version in self._older(pointer):
            if pointer is not None and release == pointer.release:
                continue
            try:
                self._take(release, version)
            except (CanaryError, SyncError) as error:
                events.emit("fall_back_failed", release=release, error=str(error))
            else:
                self._state.emit()
                return True
        return False

    def _older(self, pointer: manifest.Pointer | None) -> list[tuple[str, str | None]]:
        """Return releases that may still work, and the version ids of their manifests where known."""
        candidates: list[tuple[str, str | None]] = []
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            good = json.loads((self._settings.storage_dir / _LAST_GOOD).read_text(encoding="utf-8"))
            candidates.append((str(good["release"]), str(good["manifest_version_id"])))
        previous = pointer.previous if pointer is not None else None
        if previous and previous not in {release for release, _ in candidates}:
            candidates.append((previous, None))
        return candidates

    def _patiently[Result](self, call: Callable[[], Result]) -> Result:
        """Return the result of a call to S3, in a thread of its own: while it waits, the servers are looked after.

        Nobody waits for the thread when the task is told to stop.
        """
        answers: list[Result] = []
        errors: list[Exception] = []
        done = threading.Event()

        def ask() -> None:
            try:
                answers.append(call())
            except Exception as error:
                errors.append(error)
            done.set()

        threading.Thread(target=ask, name="ask", daemon=True).start()
        while not done.wait(0.5):
            if self._stopping.is_set():
                raise SyncError("stopped while S3 was asked")
            self._tend()
        if errors:
            raise errors[0]
        return answers[0]

    def _first_sync_done(self) -> None:
        """From the first answer of S3 on, whatever it was, webserver or daemon may start."""
        if self._state.first_sync_done:
            return
        workspace.write(self._workspace({each.name for each in self._servers.locations}), self._settings.home)
        with self._state.change():
            self._state.first_sync_done = True
        self._state.emit()

    # -- a swap

    def _take(self, release: str, version_id: str | None) -> None:
        """Put a release into service; raise CanaryError or SyncError with the old one untouched."""
        began = time.monotonic()
        with self._state.change():
            self._state.swapping = True
        self._state.emit()
        try:
            self._incoming = release
            wanted, directory = self._patiently(lambda: self._fetch(release, version_id))
            names = {each.name for each in wanted.locations}
            changed = names != {each.name for each in self._servers.locations}
            document = self._workspace(names) if changed else ""
            servers = self._servers.start(wanted, directory, self._tend)
            self._servers.switch(wanted, directory, servers)
            del wanted  # megabytes, if the files are many
        finally:
            self._incoming = None
            with self._state.change():
                self._state.swapping = False
        if changed and self._state.first_sync_done:
            workspace.write(document, self._settings.home)
            self._location_set_changed()
        with self._state.change():
            self._state.previous, self._state.release = self._state.release, release
            self._state.serving_since = events.now()
            self._state.swap_seconds = round(time.monotonic() - began, 3)
            self._state.server_pids = self._servers.pids() | self._runs.pids()
        self._manifest_version = version_id
        self._remember(release, version_id)
        self._collect()
        _give_memory_back()

    def _fetch(self, release: str, version_id: str | None) -> tuple[manifest.Manifest, Path]:
        wanted = self._bucket.manifest(release, version_id)
        with self._disk:
            return wanted, self._releases.fetch(wanted, self._stopping.is_set)

    def _workspace(self, names: set[str]) -> str:
        """Return workspace.yaml for these locations."""
        locations = [{"name": n, "socket": str(stable_socket(self._settings.run_dir, n))} for n in sorted(names)]
        try:
            return workspace.render(self._settings.image_dir / "workspace.yaml.j2", locations)
        except workspace.RenderError as error:
            raise SyncError(str(error)) from error

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

    def _tend(self) -> None:
        gone = self._servers.tend(self._repair)
        gone = self._runs.tend() or gone
        if gone or self._collect_due:
            self._collect()
        with self._state.change():
            self._state.server_pids = self._servers.pids() | self._runs.pids()
            self._state.server_restarts = self._servers.restarts

    def _directory_of(self, release: str) -> Path:
        """Return the directory of a release for a run, fetched where it is not on the disk; raise SyncError."""
        with self._disk:
            directory = self._releases.path(release)
            if release in self._servers.releases() and directory.is_dir():
                return directory
            return self._releases.fetch(self._bucket.manifest(release, None), self._stopping.is_set)

    def _repair(self) -> None:
        """Put the release that is served right on the disk: files may have been damaged or removed."""
        release = self._state.release
        if release is None or not self._disk.acquire(timeout=_REPAIR_PATIENCE):
            return
        try:
            found = self._releases.manifest(release) or self._bucket.manifest(release, self._manifest_version)
            self._releases.fetch(found, self._stopping.is_set)
        except SyncError as error:
            events.emit("repair_failed", release=release, error=str(error))
        finally:
            self._disk.release()

    def _collect(self) -> None:
        """Remove releases that are neither current, previous, on their way in, nor used by a live process.

        Put off while a release is being fetched: servers and runs must be looked after meanwhile.
        """
        self._collect_due = not self._disk.acquire(blocking=False)
        if self._collect_due:
            return
        try:
            named = (self._state.release, self._state.previous, self._state.target, self._incoming)
            used = self._servers.releases() | self._runs.releases()
            self._releases.collect(used | {release for release in named if release})
        finally:
            self._disk.release()


def _give_memory_back() -> None:
    """Return to the system what a manifest of many files took; glibc would keep it for later."""
    with contextlib.suppress(OSError, AttributeError):  # another C library, as on macOS
        ctypes.CDLL(None).malloc_trim(0)
