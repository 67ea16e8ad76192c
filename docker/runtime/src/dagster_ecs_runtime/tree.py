"""`dag_source: tree`: releases made here, from a tree that others keep up to date with `aws s3 sync --delete`.

There is neither pointer nor manifest in the bucket. The tree is listed at every poll; when two listings in a row are
equal, its files are fetched and become a release like any other: the same id, directory and canary.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import keyword
import re
import shutil
import time
from collections.abc import Buffer, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fnmatch import translate
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import InvalidPathError, PermissionDeniedError, PreconditionError

from .bucket import Poll, ReleaseBucket, SyncError, UnusableError
from .manifest import (
    DEFAULT_IGNORE,
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_RELEASE_BYTES,
    ROOT_PACKAGE,
    CodeLocation,
    FileEntry,
    Manifest,
    ManifestError,
    Pointer,
    dump_manifest,
    file_key,
    parse_manifest,
    release_id,
    validate_location_name,
    validate_path,
)
from .servers import CanaryError
from .settings import Settings

_AUTHOR = "tree"
"""Author of every release that is made here, and version of its manifest."""

_SECOND_LOOK_SECONDS = 1.0
"""Between the first two listings: a start should not take a whole poll longer."""

_FETCHERS = 8
_PIECE_BYTES = 1024 * 1024
_KEPT_MANIFESTS = 100
"""On the shared file system: for tasks that start while the tree is broken, and for runs of older releases."""

_REPLACED = (PreconditionError, FileNotFoundError, PermissionDeniedError)
"""How S3 answers for an object that was replaced or removed; who may not list its key gets 403 instead of 404."""


class TreeError(Exception):
    """The tree cannot be a release as it is."""


class _MovedError(Exception):
    """A file is no longer what was listed; ``failure`` is what to say if the tree has not changed after all."""

    def __init__(self, failure: SyncError) -> None:
        super().__init__(str(failure))
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Listed:
    """A file of the tree as S3 lists it; ``path`` is relative to the tree's root, ``size`` in bytes."""

    path: str
    size: int
    etag: str
    modified: datetime


@dataclass(frozen=True, slots=True)
class Listing:
    """What a poll has seen: the files sorted by path, or why it cannot be a release."""

    files: tuple[Listed, ...]
    problem: str | None = None

    def digest(self) -> str:
        """Return the same text for equal listings only."""
        hasher = hashlib.sha256(repr(self.problem).encode())
        for each in self.files:
            hasher.update(repr((each.path, each.size, each.etag, each.modified.timestamp())).encode())
        return hasher.hexdigest()


class TreeSource(ReleaseBucket):
    """A tree that looks like a bucket of releases. ``stopped`` tells whether the task is being stopped."""

    gone = "there is no file in the tree any more: the last release is served on"

    def __init__(self, settings: Settings, stopped: Callable[[], bool]) -> None:
        super().__init__(settings)
        self._stopped = stopped
        self._releases_dir = settings.releases_dir
        self._incoming = settings.releases_dir.with_name(f"{settings.releases_dir.name}-incoming")
        """What was fetched and is not in a release yet; each file is named by its SHA-256."""
        self._kept = settings.storage_dir / "tree-releases"
        self._task_id = settings.task_id
        self._seen: str | None = None
        """Digest of the last listing."""
        self._manifest: Manifest | None = None
        self._refused: tuple[str, str] | None = None
        """The release that could not be made, and why."""
        self._known = _read_known(settings.releases_dir)
        shutil.rmtree(self._incoming, ignore_errors=True)

    @property
    def _root(self) -> str:
        return f"s3://{self.name}/{file_key(self._prefix, '')}"

    # -- what ReleaseBucket does, for a tree

    def poll(self, etag: str | None) -> Poll:
        """List the tree; when the listing is new, and equal to the one before, make a release of it.

        ``etag`` is the digest of the listing that was acted upon last. One request a thousand files.
        """
        before, first = self._seen, self._seen is None
        if first:
            before = self._list().digest()
            time.sleep(_SECOND_LOOK_SECONDS)
        listing = self._list()
        digest = self._seen = listing.digest()
        if digest == etag:
            shutil.rmtree(self._incoming, ignore_errors=True)
            return Poll(False, None, etag)
        if digest == before:
            with contextlib.suppress(_MovedError):
                return Poll(True, self._snapshot(listing, digest), digest)
        if first:
            raise UnusableError(f"{self._root} is being changed; waiting until two listings in a row are equal")
        return Poll(False, None, etag)

    def manifest(self, release: str, version_id: str | None) -> Manifest:  # noqa: ARG002, there is one version only
        """Return the manifest of a release that was made here, or by another task with the same storage."""
        if self._refused is not None and self._refused[0] == release:
            raise CanaryError(f"{self._root} cannot be a release: {self._refused[1]}", own_fault=True)
        if self._manifest is not None and self._manifest.id == release:
            return self._manifest
        for document in (self._releases_dir / release / "manifest.json", self._kept / f"{release}.json"):
            with contextlib.suppress(OSError, ManifestError):
                found = parse_manifest(document.read_bytes())
                if found.id == release:
                    return found
        raise UnusableError(f"release {release}, made of what {self._root} was earlier, is not known here any more")

    def file(self, entry: FileEntry) -> Iterator[Buffer]:
        """Yield a file as a poll has fetched it, else from S3: the object with its ETag, or its version."""
        try:
            fetched = (self._incoming / entry.sha256).open("rb")
        except OSError:
            yield from self._from_s3(entry)
            return
        with fetched:
            while piece := fetched.read(_PIECE_BYTES):
                yield piece

    # -- listing

    def _list(self) -> Listing:
        """Return what is in the tree now; raise SyncError when S3 does not say."""
        prefix = file_key(self._prefix, "")
        found: list[Listed] = []
        count = 0
        try:
            for page in obstore.list(self._store, prefix=prefix, chunk_size=1000):
                count += len(page)
                if count > MAX_FILES:
                    return Listing((), f"there are more than {MAX_FILES} objects in it")
                for each in page:
                    path = each["path"].removeprefix(prefix)
                    if path != each["path"] and not ignored(path):
                        found.append(Listed(path, each["size"], each["e_tag"] or "", each["last_modified"]))
        except InvalidPathError as error:
            return Listing((), " ".join(str(error).partition("Debug source:")[0].split()))
        except Exception as error:
            raise self._failure(prefix, None, error) from error
        return Listing(tuple(without_markers(found)))

    # -- a release

    def _snapshot(self, listing: Listing, digest: str) -> Pointer | None:
        """Fetch what is new and return the release that the tree is, None for an empty one."""
        published = max((each.modified for each in listing.files), default=datetime.now(UTC))
        pointer = Pointer(
            release=digest[:16],
            manifest_version_id=_AUTHOR,
            published_at=published.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            author=_AUTHOR,
            git_revision=None,
            previous=None,
        )
        if not listing.files and listing.problem is None:
            return None
        try:
            locations = check(listing)
        except TreeError as error:
            self._refused = (pointer.release, str(error))
            return pointer
        files = self._fetch(listing)
        pointer = replace(pointer, release=release_id(files, locations))
        self._manifest = Manifest(pointer.release, pointer.published_at, _AUTHOR, None, locations, files)
        self._known = {_key(entry): entry for entry in files}
        self._keep(self._manifest)
        return pointer

    def _fetch(self, listing: Listing) -> tuple[FileEntry, ...]:
        """Return an entry for every file, those that are not known yet fetched; raise _MovedError or SyncError."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(_FETCHERS, thread_name_prefix="fetch") as pool:
            try:
                return tuple(pool.map(self._entry, listing.files))
            except _MovedError as moved:
                pool.shutdown(cancel_futures=True)
                if self._list() == listing:
                    raise moved.failure from moved
                raise
            except OSError as error:
                pool.shutdown(cancel_futures=True)
                raise SyncError(f"{self._root} cannot be stored in {self._incoming}: {error}") from error
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _entry(self, listed: Listed) -> FileEntry:
        """Return the entry of a file, which is fetched if it is not known."""
        known = self._known.get((listed.path, listed.etag, listed.size))
        if known is not None:
            return known
        if self._stopped():
            raise SyncError("stopped while fetching")
        key = file_key(self._prefix, listed.path)
        hasher = hashlib.sha256()
        part = self._incoming / f"{hashlib.sha256(listed.path.encode()).hexdigest()}.part"
        try:
            answer = obstore.get(self._store, key, options={"if_match": listed.etag})
        except _REPLACED as error:
            raise _MovedError(self._failure(key, None, error)) from error
        except Exception as error:
            raise self._failure(key, None, error) from error
        with part.open("wb") as file:
            for piece in self._pieces(answer, key):
                hasher.update(piece)
                file.write(piece)
            size = file.tell()
        if size != listed.size:
            raise SyncError(f"s3://{self.name}/{key} has {size} bytes, listed were {listed.size}")
        part.rename(self._incoming / hasher.hexdigest())
        version = answer.meta.get("version")
        pin = f"{listed.etag} {version}" if version and version != "null" else listed.etag
        entry = FileEntry(listed.path, listed.size, hasher.hexdigest(), pin)
        self._known[_key(entry)] = entry
        return entry

    def _from_s3(self, entry: FileEntry) -> Iterator[Buffer]:
        key = file_key(self._prefix, entry.path)
        etag, _, version = entry.version_id.partition(" ")
        try:
            answer = obstore.get(self._store, key, options={"if_match": etag})
        except _REPLACED as error:
            if not version:
                raise UnusableError(
                    f"s3://{self.name}/{key} was replaced or removed, and the bucket keeps no versions"
                ) from error
            yield from super().file(replace(entry, version_id=version))
            return
        except Exception as error:
            raise self._failure(key, None, error) from error
        yield from self._pieces(answer, key)

    def _pieces(self, answer: Any, key: str) -> Iterator[Buffer]:
        try:
            yield from answer.stream(min_chunk_size=_PIECE_BYTES)
        except Exception as error:
            raise self._failure(key, None, error) from error

    def _keep(self, manifest: Manifest) -> None:
        """Put a manifest on the shared file system, if there is one, and remove the oldest there."""
        with contextlib.suppress(OSError):
            self._kept.mkdir(exist_ok=True)
            fresh = self._kept / f"{manifest.id}.{self._task_id}"
            fresh.write_bytes(dump_manifest(manifest))
            fresh.rename(self._kept / f"{manifest.id}.json")
            documents = sorted(self._kept.glob("*.json"), key=lambda path: path.stat().st_mtime)
            for document in documents[:-_KEPT_MANIFESTS]:
                document.unlink()


def ignored(path: str) -> bool:
    """Return whether the default patterns leave out a file, for its own name or that of a directory above it."""
    directory, _, name = path.rpartition("/")
    return _ignored_name(name, is_directory=False) or (bool(directory) and _ignored_directory(directory))


def without_markers(files: Iterable[Listed]) -> list[Listed]:
    """Return the files sorted by path, without the empty objects that consoles put in the place of directories."""
    found = sorted(files, key=lambda each: each.path)
    directories = {each.path.rpartition("/")[0] for each in found}
    directories |= {parent for each in directories for parent in _parents(each)}
    return [each for each in found if each.size or each.path not in directories]


def check(listing: Listing) -> tuple[CodeLocation, ...]:
    """Return the code locations, one for each package at the top; raise TreeError for what no release may have."""
    if listing.problem is not None:
        raise TreeError(listing.problem)
    paths = {each.path for each in listing.files}
    total = sum(each.size for each in listing.files)
    if total > MAX_RELEASE_BYTES:
        raise TreeError(f"its files have {total} bytes, at most {MAX_RELEASE_BYTES} are allowed")
    for each in listing.files:
        try:
            validate_path(each.path)
        except ManifestError as error:
            raise TreeError(str(error)) from error
        if each.size > MAX_FILE_BYTES:
            raise TreeError(f"{each.path!r} has {each.size} bytes, at most {MAX_FILE_BYTES} are allowed")
        for parent in _parents(each.path):
            if parent in paths:
                raise TreeError(f"{parent!r} is a file and also the directory of {each.path!r}")
    names = sorted(path.split("/")[0] for path in paths if re.fullmatch(r"[^/]+/__init__\.py", path))
    _check_names(names, paths)
    return tuple(CodeLocation(name, f"{ROOT_PACKAGE}.{name}") for name in names)


def _check_names(names: Sequence[str], paths: set[str]) -> None:
    """Hold the names of packages to the rules by which deploy_dags.yml accepts them."""
    if not names:
        raise TreeError("there is no package in it: no directory directly below it has an __init__.py")
    seen: dict[str, str] = {}
    for name in names:
        try:
            validate_location_name(name)
        except ManifestError as error:
            raise TreeError(str(error)) from error
        if keyword.iskeyword(name):
            raise TreeError(f"the package {name!r} is a word of the Python language")
        if name.lower() in seen:
            raise TreeError(f"the packages {seen[name.lower()]!r} and {name!r} differ in case only")
        if f"{name}.py" in paths:
            raise TreeError(f"there are both a package {name!r} and a module {name}.py")
        if name == ROOT_PACKAGE:
            raise TreeError(f"it has a package {name!r}: was the directory above the tree synchronized?")
        seen[name.lower()] = name


@functools.lru_cache(maxsize=10_000)
def _ignored_directory(path: str) -> bool:
    return any(_ignored_name(each, is_directory=True) for each in path.split("/"))


def _ignored_name(name: str, *, is_directory: bool) -> bool:
    return (_IGNORED_DIRECTORY if is_directory else _IGNORED_FILE).match(name) is not None


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    """Return what matches a name that one of the patterns of .gitignore matches."""
    return re.compile("|".join(translate(each.removeprefix("\\").removesuffix("/")) for each in patterns))


_IGNORED_DIRECTORY = _any_of(DEFAULT_IGNORE)
_IGNORED_FILE = _any_of(each for each in DEFAULT_IGNORE if not each.endswith("/"))


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _key(entry: FileEntry) -> tuple[str, str, int]:
    """Return what an unchanged file is known by: path, ETag and size."""
    return entry.path, entry.version_id.partition(" ")[0], entry.size


def _read_known(releases_dir: Path) -> dict[tuple[str, str, int], FileEntry]:
    """Return the files of the releases on the disk: a program that was restarted need not fetch them again."""
    known: dict[tuple[str, str, int], FileEntry] = {}
    for document in releases_dir.glob("*/manifest.json"):
        with contextlib.suppress(OSError, ManifestError):
            known |= {_key(entry): entry for entry in parse_manifest(document.read_bytes()).files}
    return known
