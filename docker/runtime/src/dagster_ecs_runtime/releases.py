"""Releases on disk: fetched whole, verified, read-only, and removed when nothing needs them any more."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import queue
import shutil
import threading
import time
from collections.abc import Buffer, Callable, Iterable, Iterator, Sequence, Set
from pathlib import Path

from .bucket import ReleaseBucket, SyncError, UnusableError
from .manifest import ROOT_PACKAGE, FileEntry, Manifest, dump_manifest, parse_manifest
from .settings import OWNERS

_MANIFEST = "manifest.json"
_LAST_WRITES_SECONDS = 1
_FETCHERS = 8
"""Files under way at once; with the size of the pieces they come in this bounds the memory of a fetch."""


class Releases:
    """The directory that holds ``<id>/dags/...`` for each release, and ``<id>.<n>.tmp`` while one is being made."""

    def __init__(self, root: Path, bucket: ReleaseBucket) -> None:
        self.root = root
        self._bucket = bucket
        self._numbers = itertools.count()
        root.mkdir(parents=True, exist_ok=True)
        for left_over in root.glob("*.tmp"):
            _remove(left_over)

    def path(self, release: str) -> Path:
        """Return the directory of a release, there or not."""
        return self.root / release

    def manifest(self, release: str) -> Manifest | None:
        """Return the manifest of a release on the disk; None if it is not there or damaged: its id is a checksum."""
        try:
            found = parse_manifest((self.path(release) / _MANIFEST).read_bytes())
        except (OSError, ValueError):
            return None
        return found if found.id == release else None

    def fetch(self, wanted: Manifest, cancelled: Callable[[], bool] = lambda: False) -> Path:
        """Bring a release onto the disk and return its directory; raise SyncError when that cannot be done.

        A file whose SHA-256 is that of a file of another release here is hard-linked, the others are fetched by
        VersionId. The directory appears under its name only when all of it is there, verified and synced. A file
        that does not come within the time of a request ends the fetch; while files come, it goes on.
        """
        target = self.path(wanted.id)
        if target.is_dir() and self._is_intact(target, wanted):
            return target
        # A name of its own: threads that hang in S3 since an earlier attempt have nothing to do with this one.
        work = self.root / f"{wanted.id}.{next(self._numbers)}.tmp"
        try:
            (work / ROOT_PACKAGE).mkdir(parents=True)
            have = self._contents({(entry.sha256, entry.size) for entry in wanted.files})

            def place(entry: FileEntry, ended: threading.Event) -> None:
                path = work / ROOT_PACKAGE / entry.path
                path.parent.mkdir(parents=True, exist_ok=True)
                twin = have.get((entry.sha256, entry.size))
                if twin is not None:
                    with contextlib.suppress(OSError):
                        os.link(twin, path)
                        return
                self._download(entry, path, ended)

            _for_each(wanted.files, place, cancelled)
            _write(work / _MANIFEST, [dump_manifest(wanted)])
            owners = {location: each.name for each in wanted.repositories for location in each.locations}
            if owners:
                _write(work / OWNERS, [json.dumps(owners).encode()])
            directories = [Path(where) for where, _, _ in os.walk(work)]
            for directory in directories:
                _sync(directory)
                directory.chmod(0o555)
            work.chmod(0o755)  # a directory can only be renamed by who may write to it
            _remove(target)  # there if it was damaged; what of it is good has been linked
            work.rename(target)
            target.chmod(0o555)
            _sync(self.root)
        except OSError as error:
            _remove(work)
            raise SyncError(f"release {wanted.id} cannot be stored in {self.root}: {error}") from error
        except BaseException:
            _remove(work)
            raise
        return target

    def collect(self, keep: Iterable[str]) -> None:
        """Remove every release that is not in ``keep``."""
        kept = set(keep)
        for directory in self.root.iterdir():
            if directory.is_dir() and directory.name not in kept:
                _remove(directory)

    def _download(self, entry: FileEntry, path: Path, ended: threading.Event) -> None:
        """Write one file piece by piece; raise UnusableError when it is not what the manifest says."""
        digest, size = hashlib.sha256(), 0

        def wrong(what: str) -> UnusableError:
            return UnusableError(
                f"{ROOT_PACKAGE}/{entry.path} (version {entry.version_id}) is not what its manifest says: {what}; "
                "it is fetched again, and if that goes on, publish the file anew"
            )

        def pieces() -> Iterator[Buffer]:
            nonlocal size
            for piece in self._bucket.file(entry):
                digest.update(piece)
                size += len(memoryview(piece))
                if size > entry.size:
                    raise wrong(f"more than {entry.size} bytes")
                if ended.is_set():
                    raise SyncError("no longer wanted")
                yield piece

        _write(path, pieces())
        if size != entry.size:
            raise wrong(f"{size} bytes for {entry.size}")
        if digest.hexdigest() != entry.sha256:
            raise wrong(f"SHA-256 {digest.hexdigest()} for {entry.sha256}")

    def _contents(self, wanted: Set[tuple[str, int]]) -> dict[tuple[str, int], Path]:
        """Return where the releases here hold ``wanted`` files, given and keyed by SHA-256 and size."""
        found: dict[tuple[str, int], Path] = {}
        for document in self.root.glob(f"*/{_MANIFEST}"):
            try:
                entries = parse_manifest(document.read_bytes()).files
            except (OSError, ValueError):
                continue
            for entry in entries:
                key = (entry.sha256, entry.size)
                path = document.parent / ROOT_PACKAGE / entry.path
                if key in wanted and key not in found and _holds(path, entry):
                    found[key] = path
        return found

    @staticmethod
    def _is_intact(directory: Path, wanted: Manifest) -> bool:
        return all(_holds(directory / ROOT_PACKAGE / entry.path, entry) for entry in wanted.files)


def _for_each(
    entries: Sequence[FileEntry],
    work: Callable[[FileEntry, threading.Event], None],
    cancelled: Callable[[], bool],
) -> None:
    """Call ``work`` for every entry, several at once; raise the first error, or SyncError when ``cancelled``.

    Its second argument is set when the result has become useless. The threads are daemons, and waited for only as long
    as a write takes: one that hangs in S3 must delay neither the next attempt nor the end of the task.
    """
    waiting: queue.SimpleQueue[FileEntry] = queue.SimpleQueue()
    for entry in entries:
        waiting.put(entry)
    results: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
    ended = threading.Event()

    def fetch() -> None:
        with contextlib.suppress(queue.Empty):
            while not ended.is_set():
                entry = waiting.get_nowait()
                try:
                    work(entry, ended)
                except Exception as error:
                    results.put(error)
                    return
                results.put(None)

    count = min(_FETCHERS, len(entries))
    threads = [threading.Thread(target=fetch, name=f"fetch-{number}", daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        for _ in entries:
            error = _next(results, cancelled)
            if error is not None:
                raise error
    finally:
        ended.set()
        until = time.monotonic() + _LAST_WRITES_SECONDS
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))


def _next(results: queue.SimpleQueue[Exception | None], cancelled: Callable[[], bool]) -> Exception | None:
    while not cancelled():
        with contextlib.suppress(queue.Empty):
            return results.get(timeout=0.5)
    raise SyncError("stopped while fetching")


def _holds(path: Path, entry: FileEntry) -> bool:
    """Return whether a file has the content of an entry; damage on the disk must not spread by hard link."""
    try:
        if path.is_symlink() or path.stat().st_size != entry.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
    except OSError:
        return False


def _write(path: Path, pieces: Iterable[Buffer]) -> None:
    with path.open("xb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), 0o444)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(directory: Path) -> None:
    """Remove a directory tree whose directories are read-only."""
    if not directory.exists():
        return
    for where, _, _ in os.walk(directory):
        with contextlib.suppress(OSError):
            Path(where).chmod(0o755)
    shutil.rmtree(directory, ignore_errors=True)
