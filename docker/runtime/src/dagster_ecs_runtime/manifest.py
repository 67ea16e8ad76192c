"""The release manifest and the pointer: the one implementation of their format.

Imported by the container program and, through a symlink in ``plugins/module_utils``, by the Ansible
module that publishes. Standard library only; nothing here does input or output.

A *release* is a set of files, each pinned to the S3 VersionId it was uploaded as, and the code locations
in them. Its manifest is the object ``releases/<id>.json``; the *pointer* ``releases/current`` names the
manifest, by its VersionId, that containers serve. Parsing is strict: a document that is not exactly
schema 1 raises :class:`ManifestError`, whose text says which field, which value and why, so that no
half-understood release is ever served.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

SCHEMA = 1
"""The format written here, and the newest one that can be read."""

ROOT_PACKAGE = "dags"
"""Name of the directory that holds the tree, on disk, in S3 and as a Python package."""

DEFAULT_IGNORE = (
    ".*",  # .git, .venv, .env with its secrets, editors' and the operating system's files, the ignore file
    "__pycache__/",
    "*.py[cod]",
    "*~",
    "*.swp",
    "*.tmp",
    "*.bak",
    "\\#*#",
    "*.egg-info/",
    "node_modules/",
    "venv/",
)
"""What is never part of a release unless an ignore file takes it back: lines of .gitignore, about one name each."""

MAX_FILE_BYTES = 32 * 1024 * 1024
"""Bytes of one file: this is code and small configuration, fetched whole by a 512 MB container."""

MAX_RELEASE_BYTES = 1024 * 1024 * 1024
"""Bytes of all files: three releases are on a task's 20 GB disk at once during a swap."""

MAX_FILES = 100_000
MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
MAX_PATH_BYTES = 1024
MAX_SEGMENT_BYTES = 255
"""Of a path between two slashes: the limit of Linux file systems."""

MAX_LOCATION_NAME = 40
"""Characters. A location's socket path holds it, and socket paths end at 107 bytes."""

MAX_REPOSITORY_NAME = 63
"""Characters. IAM policies and files are named after it."""

_RELEASE_ID = re.compile(r"[0-9a-f]{16}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?Z")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")


class ManifestError(ValueError):
    """A manifest, a pointer or one of their values is not what schema 1 allows."""


class NewerSchemaError(ManifestError):
    """The document is of a later format: only a later version of this program may touch it."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file: ``path`` is POSIX and relative to the tree's root, ``size`` in bytes, ``sha256`` in hex."""

    path: str
    size: int
    sha256: str
    version_id: str


@dataclass(frozen=True, slots=True)
class CodeLocation:
    """A Dagster code location: its name in the UI and the Python module that defines it."""

    name: str
    module: str


@dataclass(frozen=True, slots=True)
class Repository:
    """One of several repositories that publish into a platform: what it is called, the names of the code locations that
    it owns, with all files in their directories, and when who published them last, from which git revision."""

    name: str
    locations: tuple[str, ...]
    git_revision: str | None
    author: str
    published_at: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A release. ``locations`` and ``repositories`` are sorted by name, ``files`` by path; that may be relied on.

    What belongs to no repository of the list is the platform's own. An empty list is left out of the document.
    """

    id: str
    created_at: str
    author: str
    git_revision: str | None
    locations: tuple[CodeLocation, ...]
    files: tuple[FileEntry, ...]
    repositories: tuple[Repository, ...] = ()


@dataclass(frozen=True, slots=True)
class Pointer:
    """What ``releases/current`` says: which release, in which version of its manifest, since when, and of whose making.

    ``repository`` is the one that published, None for the platform's own.
    """

    release: str
    manifest_version_id: str
    published_at: str
    author: str
    git_revision: str | None
    previous: str | None
    repository: str | None = None


def pointer_key(prefix: str) -> str:
    """S3 key of the pointer; ``prefix`` is "" or ends in "/"."""
    return f"{prefix}releases/current"


def manifest_key(prefix: str, identifier: str) -> str:
    """S3 key of the manifest of the release ``identifier``."""
    return f"{prefix}releases/{identifier}.json"


def file_key(prefix: str, path: str) -> str:
    """S3 key of the file ``path`` of the tree."""
    return f"{prefix}{ROOT_PACKAGE}/{path}"


def release_id(
    files: Iterable[FileEntry], locations: Iterable[CodeLocation], repositories: Iterable[Repository] = ()
) -> str:
    """Return the id that this content always has: 16 hex digits, in whatever order it is given.

    Whose it is belongs to it, when it was published does not.
    """
    content: dict[str, Any] = {
        "files": sorted([entry.path, entry.sha256] for entry in files),
        "locations": sorted([location.name, location.module] for location in locations),
    }
    if owners := sorted([each.name, *sorted(each.locations)] for each in repositories):
        content["repositories"] = owners
    canonical = json.dumps(content, separators=(",", ":"), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()[:16]


def validate_path(path: str) -> str:
    """Return ``path`` if it can only ever name a file below the tree's root, else raise ManifestError."""

    def refuse(why: str) -> ManifestError:
        return ManifestError(f"path {_short(path)} {why}; paths are relative to {ROOT_PACKAGE}/, with '/'")

    if not path:
        raise refuse("is empty")
    try:
        encoded = path.encode("utf-8")
    except UnicodeEncodeError:
        raise refuse("is not UTF-8 text") from None
    if len(encoded) > MAX_PATH_BYTES:
        raise refuse(f"is {len(encoded)} bytes long, at most {MAX_PATH_BYTES} are allowed")
    if "\\" in path:
        raise refuse("has a backslash")
    if _CONTROL_CHARACTER.search(path):
        raise refuse("has a control character")
    if path.startswith("/"):
        raise refuse("is absolute")
    for segment in path.split("/"):
        if segment in ("", ".", ".."):
            raise refuse(f"has the segment {segment!r}")
        if len(segment.encode("utf-8")) > MAX_SEGMENT_BYTES:
            raise refuse(f"has a name of more than {MAX_SEGMENT_BYTES} bytes")
    return path


def validate_location_name(name: str) -> str:
    """Return ``name`` if it can be a package directly under the tree's root, else raise ManifestError."""
    if not _IDENTIFIER.fullmatch(name):
        raise ManifestError(
            f"location {_short(name)} is not a Python identifier; use letters, digits and '_', "
            "not starting with a digit"
        )
    if len(name) > MAX_LOCATION_NAME:
        raise ManifestError(
            f"location {_short(name)} has {len(name)} characters, at most {MAX_LOCATION_NAME} are allowed"
        )
    return name


def validate_repository_name(name: str) -> str:
    """Return ``name`` if a repository can be called so, else raise ManifestError."""
    if not _REPOSITORY.fullmatch(name) or len(name) > MAX_REPOSITORY_NAME:
        raise ManifestError(
            f"repository {_short(name)} is not a name of at most {MAX_REPOSITORY_NAME} letters, digits, '.', '_' and "
            "'-', beginning with a letter or a digit"
        )
    return name


def dump_manifest(manifest: Manifest) -> bytes:
    """Return the document of ``manifest``; the same manifest always gives the same bytes."""
    return _dump({"schema": SCHEMA, **asdict(manifest)})


def dump_pointer(pointer: Pointer) -> bytes:
    """Return the document of ``pointer``."""
    return _dump({"schema": SCHEMA, **asdict(pointer)})


def parse_manifest(document: bytes) -> Manifest:
    """Return the manifest in ``document``, complete and consistent, or raise ManifestError."""
    fields = _fields(document, "manifest", Manifest.__slots__, {"repositories": []})
    files = tuple(_file(value, f"manifest: files[{number}]") for number, value in enumerate(_list(fields, "files")))
    locations = tuple(
        _location(value, f"manifest: locations[{number}]") for number, value in enumerate(_list(fields, "locations"))
    )
    _check_files(files)
    _check_locations(locations, {entry.path for entry in files})
    repositories = tuple(
        _repository(value, f"manifest: repositories[{number}]")
        for number, value in enumerate(_list(fields, "repositories"))
    )
    _check_repositories(repositories, {location.name for location in locations})
    identifier = _matching(fields, "id", _RELEASE_ID, "16 hex digits", "manifest")
    expected = release_id(files, locations, repositories)
    if identifier != expected:
        raise ManifestError(
            f"manifest: id {identifier!r} does not belong to its content, which has the id {expected!r}; "
            "it was edited or damaged: publish the release again"
        )
    return Manifest(
        id=identifier,
        created_at=_timestamp(fields, "created_at", "manifest"),
        author=_text(fields, "author", "manifest"),
        git_revision=_optional_text(fields, "git_revision", "manifest"),
        locations=tuple(sorted(locations, key=lambda location: location.name)),
        files=tuple(sorted(files, key=lambda entry: entry.path)),
        repositories=tuple(sorted(repositories, key=lambda repository: repository.name)),
    )


def parse_pointer(document: bytes) -> Pointer:
    """Return the pointer in ``document``, or raise ManifestError."""
    fields = _fields(document, "pointer", Pointer.__slots__, {"repository": None})
    previous = fields["previous"]
    if previous is not None:
        previous = _matching(fields, "previous", _RELEASE_ID, "16 hex digits or null", "pointer")
    return Pointer(
        release=_matching(fields, "release", _RELEASE_ID, "16 hex digits", "pointer"),
        manifest_version_id=_version_id(fields, "manifest_version_id", "pointer"),
        published_at=_timestamp(fields, "published_at", "pointer"),
        author=_text(fields, "author", "pointer"),
        git_revision=_optional_text(fields, "git_revision", "pointer"),
        previous=previous,
        repository=None if fields["repository"] is None else _repository_name(fields["repository"], "pointer"),
    )


def _check_files(files: Sequence[FileEntry]) -> None:
    """Refuse duplicates, a path that is both file and directory, and too much of anything."""
    if len(files) > MAX_FILES:
        raise ManifestError(f"manifest: {len(files)} files, at most {MAX_FILES} are allowed")
    total = sum(entry.size for entry in files)
    if total > MAX_RELEASE_BYTES:
        raise ManifestError(f"manifest: files of {total} bytes, at most {MAX_RELEASE_BYTES} are allowed")
    paths: set[str] = set()
    for entry in files:
        if entry.path in paths:
            raise ManifestError(f"manifest: the path {_short(entry.path)} is listed twice")
        paths.add(entry.path)
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent:
            if parent in paths:
                raise ManifestError(f"manifest: {_short(parent)} is a file and also the directory of {_short(path)}")
            parent = parent.rpartition("/")[0]


def _check_locations(locations: Sequence[CodeLocation], paths: set[str]) -> None:
    """Refuse duplicates and locations whose code is not in the release."""
    names: set[str] = set()
    for location in locations:
        if location.name in names:
            raise ManifestError(f"manifest: the location {_short(location.name)} is listed twice")
        names.add(location.name)
        module_path = "/".join(location.module.split(".")[1:])
        if f"{module_path}/__init__.py" not in paths and f"{module_path}.py" not in paths:
            raise ManifestError(
                f"manifest: the location {_short(location.name)} is the module {location.module!r}, "
                f"but {module_path}/__init__.py is not among the files"
            )


def _check_repositories(repositories: Sequence[Repository], locations: set[str]) -> None:
    """Refuse repositories that are listed twice, and locations that are not there or have two owners."""
    names: set[str] = set()
    owned: set[str] = set()
    for repository in repositories:
        if repository.name in names:
            raise ManifestError(f"manifest: the repository {_short(repository.name)} is listed twice")
        names.add(repository.name)
        for location in repository.locations:
            if location not in locations:
                raise ManifestError(
                    f"manifest: the repository {_short(repository.name)} owns the location {_short(location)}, "
                    "which is not listed"
                )
            if location in owned:
                raise ManifestError(f"manifest: the location {_short(location)} has two owners")
            owned.add(location)


def _file(value: object, where: str) -> FileEntry:
    """Return the entry in ``value``."""
    fields = _object(value, where, FileEntry.__slots__)
    size = fields["size"]
    if type(size) is not int or size < 0:
        raise ManifestError(f"{where}: size {_short(size)} is not a number of bytes")
    if size > MAX_FILE_BYTES:
        raise ManifestError(f"{where}: size {size} bytes, at most {MAX_FILE_BYTES} are allowed")
    path = fields["path"]
    if not isinstance(path, str):
        raise ManifestError(f"{where}: path {_short(path)} is not text")
    try:
        validate_path(path)
    except ManifestError as error:
        raise ManifestError(f"{where}: {error}") from None
    return FileEntry(
        path=path,
        size=size,
        sha256=_matching(fields, "sha256", _SHA256, "64 hex digits", where),
        version_id=_version_id(fields, "version_id", where),
    )


def _location(value: object, where: str) -> CodeLocation:
    """Return the code location in ``value``."""
    fields = _object(value, where, CodeLocation.__slots__)
    name = _text(fields, "name", where)
    try:
        validate_location_name(name)
    except ManifestError as error:
        raise ManifestError(f"{where}: {error}") from None
    module = _matching(fields, "module", _MODULE, "a dotted module name", where)
    if not module.startswith(f"{ROOT_PACKAGE}."):
        raise ManifestError(f"{where}: module {_short(module)} is not in the package {ROOT_PACKAGE!r}")
    return CodeLocation(name=name, module=module)


def _repository(value: object, where: str) -> Repository:
    """Return the repository in ``value``."""
    fields = _object(value, where, Repository.__slots__)
    locations = fields["locations"]
    if not isinstance(locations, list) or not locations or not all(isinstance(name, str) for name in locations):
        raise ManifestError(f"{where}: locations {_short(locations)} is not a list of names, or empty")
    return Repository(
        name=_repository_name(fields["name"], where),
        locations=tuple(sorted(locations)),
        git_revision=_optional_text(fields, "git_revision", where),
        author=_text(fields, "author", where),
        published_at=_timestamp(fields, "published_at", where),
    )


def _repository_name(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ManifestError(f"{where}: repository {_short(value)} is not text")
    try:
        return validate_repository_name(value)
    except ManifestError as error:
        raise ManifestError(f"{where}: {error}") from None


def _fields(document: bytes, kind: str, names: Iterable[str], defaults: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a whole document, its schema checked first; those with a default may be missing."""
    if len(document) > MAX_DOCUMENT_BYTES:
        raise ManifestError(f"{kind}: {len(document)} bytes, at most {MAX_DOCUMENT_BYTES} are allowed")
    try:
        value = json.loads(document, object_pairs_hook=_no_duplicate_keys)
    except ManifestError as error:
        raise ManifestError(f"{kind}: {error}") from None
    except (ValueError, RecursionError) as error:
        start = _short(document[:80].decode("utf-8", "replace"))
        raise ManifestError(f"{kind}: not a JSON document ({error}); it starts with {start}") from None
    if not isinstance(value, dict):
        raise ManifestError(f"{kind}: a JSON object is expected, not {_short(value)}")
    schema = value.get("schema")
    if type(schema) is not int or schema < 1:
        raise ManifestError(f"{kind}: schema {_short(schema)} is not a version; this program reads {SCHEMA}")
    if schema > SCHEMA:
        raise NewerSchemaError(
            f"{kind}: schema {schema} is newer than {SCHEMA}, the newest this program reads; "
            "update the container image, or publish with the matching version"
        )
    return _object({**defaults, **value}, kind, ["schema", *names])


def _object(value: object, where: str, names: Iterable[str]) -> dict[str, Any]:
    """Return ``value`` if it is an object with exactly the fields ``names``."""
    if not isinstance(value, dict):
        raise ManifestError(f"{where}: a JSON object is expected, not {_short(value)}")
    expected = set(names)
    for problem, found in (("is missing", expected - set(value)), ("is unknown", set(value) - expected)):
        if found:
            raise ManifestError(f"{where}: the field {sorted(found)[0]!r} {problem}")
    return value


def _no_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object that names a field twice: readers would disagree about which one counts."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ManifestError(f"the field {repeated!r} is there twice")
    return fields


def _list(fields: dict[str, Any], name: str) -> list[Any]:
    value = fields[name]
    if not isinstance(value, list):
        raise ManifestError(f"manifest: {name} {_short(value)} is not a list")
    return value


def _text(fields: dict[str, Any], name: str, where: str) -> str:
    value = fields[name]
    if not isinstance(value, str) or not value:
        raise ManifestError(f"{where}: {name} {_short(value)} is not text, or empty")
    return value


def _optional_text(fields: dict[str, Any], name: str, where: str) -> str | None:
    return None if fields[name] is None else _text(fields, name, where)


def _version_id(fields: dict[str, Any], name: str, where: str) -> str:
    value = _text(fields, name, where)
    if value == "null":
        raise ManifestError(
            f"{where}: {name} is 'null', which S3 gives to objects stored without versioning; "
            "turn the bucket's versioning on and publish again"
        )
    return value


def _matching(fields: dict[str, Any], name: str, pattern: re.Pattern[str], kind: str, where: str) -> str:
    value = fields[name]
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ManifestError(f"{where}: {name} {_short(value)} is not {kind}")
    return value


def _timestamp(fields: dict[str, Any], name: str, where: str) -> str:
    return _matching(fields, name, _TIMESTAMP, "a UTC time such as 2026-01-31T12:00:00Z", where)


def _dump(fields: dict[str, Any]) -> bytes:
    # What only several repositories need is not mentioned without them.
    fields = {name: value for name, value in fields.items() if value or name not in ("repositories", "repository")}
    return (json.dumps(fields, separators=(",", ":"), ensure_ascii=False) + "\n").encode("utf-8")


def _short(value: object) -> str:
    """Return ``value`` for a message, never longer than a line."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
