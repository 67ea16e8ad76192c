"""Releases on disk: fetched whole, verified, read-only, and removed when nothing needs them any more."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Buffer, Callable, Iterable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .bucket import ReleaseBucket, SyncError
from .manifest import ROOT_PACKAGE, FileEntry, Manifest, dump_manifest, parse_manifest

_MANIFEST = "manifest.json"
_FETCHERS = 8
"""Files under way at once; with the size of the pieces they come in this bounds the memory of a fetch."""


class Releases:
    """The directory that holds ``<id>/dags/...`` for each release, and ``<id>.tmp`` while one is being made."""

    def __init__(self, root: Path, bucket: ReleaseBucket) -> None:
        self.root = root
        self._bucket = bucket
        root.mkdir(parents=True, exist_ok=True)
        for left_over in root.glob("*.tmp"):
            _remove(left_over)

    def path(self, release: str) -> Path:
        """Return the directory of a release, there or not."""
        return self.root / release

    def fetch(self, wanted: Manifest, cancelled: Callable[[], bool] = lambda: False) -> Path:
        """Bring a release onto the disk and return its directory; raise SyncError when that cannot be done.

        A file whose SHA-256 is that of a file of another release here is hard-linked, the others are fetched by
        VersionId. The directory appears under its name only when all of it is there, verified and synced.
        """
        target = self.path(wanted.id)
        if target.is_dir():
            if self._is_intact(target, wanted):
                return target
            _remove(target)
        work = target.with_suffix(".tmp")
        _remove(work)
        try:
            (work / ROOT_PACKAGE).mkdir(parents=True)
            have = self._contents({(entry.sha256, entry.size) for entry in wanted.files})

            def place(entry: FileEntry) -> None:
                if cancelled():
                    raise SyncError("stopped while fetching")
                path = work / ROOT_PACKAGE / entry.path
                path.parent.mkdir(parents=True, exist_ok=True)
                twin = have.get((entry.sha256, entry.size))
                if twin is not None:
                    with contextlib.suppress(OSError):
                        os.link(twin, path)
                        return
                self._download(entry, path)

            with ThreadPoolExecutor(_FETCHERS, thread_name_prefix="fetch") as pool:
                for _ in pool.map(place, wanted.files):
                    pass
            _write(work / _MANIFEST, [dump_manifest(wanted)])
            directories = [Path(where) for where, _, _ in os.walk(work)]
            for directory in directories:
                _sync(directory)
                directory.chmod(0o555)
            work.chmod(0o755)  # a directory can only be renamed by who may write to it
            work.rename(target)
            target.chmod(0o555)
            _sync(self.root)
        except OSError as error:
            _remove(work)
            raise SyncError(f"release {wanted.id} cannot be stored in {self.root}: {error}") from error
        except SyncError:
            _remove(work)
            raise
        return target

    def collect(self, keep: Iterable[str]) -> None:
        """Remove every release that is not in ``keep``."""
        kept = set(keep)
        for directory in self.root.iterdir():
            if directory.is_dir() and directory.name not in kept:
                _remove(directory)

    def _download(self, entry: FileEntry, path: Path) -> None:
        """Write one file piece by piece; raise SyncError when it is not what the manifest says."""
        digest, size = hashlib.sha256(), 0

        def pieces() -> Iterator[Buffer]:
            nonlocal size
            for piece in self._bucket.file(entry):
                digest.update(piece)
                size += len(memoryview(piece))
                yield piece

        _write(path, pieces())
        if size != entry.size or digest.hexdigest() != entry.sha256:
            raise SyncError(
                f"{ROOT_PACKAGE}/{entry.path} (version {entry.version_id}) is not what its manifest says: "
                f"{size} bytes for {entry.size}, or another SHA-256"
            )

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
