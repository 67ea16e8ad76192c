"""The local side of a release: which files of a directory belong to it, their hashes, its code locations.

Everything wrong with the tree is found here, before anything is uploaded; each :class:`TreeError` says the
value, why it is wrong, what is possible and what to do next.
"""

from __future__ import annotations

import hashlib
import keyword
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .dag_manifest import (
    DEFAULT_IGNORE,
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_RELEASE_BYTES,
    ROOT_PACKAGE,
    CodeLocation,
    ManifestError,
    validate_location_name,
    validate_path,
)

IGNORE_FILE = ".dagignore"

CHUNK_BYTES = 1024 * 1024
"""Read at a time, so that memory does not grow with the files."""


class TreeError(Exception):
    """The directory cannot be published as it is."""


@dataclass(frozen=True)
class LocalFile:
    """A file to publish: its ``path`` in the release, ``size`` in bytes and ``sha256`` in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Tree:
    """A directory as it will be published. ``files`` are sorted by path, ``locations`` by name."""

    root: Path
    files: tuple[LocalFile, ...]
    locations: tuple[CodeLocation, ...]


@dataclass(frozen=True)
class _Rule:
    pattern: re.Pattern[str]
    negated: bool
    directories_only: bool


class IgnoreRules:
    """Patterns as in .gitignore: the last one that matches decides, ``!`` takes back, ``/`` anchors."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._rules = [rule for line in lines if (rule := _rule(line))]

    def ignores(self, path: str, is_directory: bool) -> bool:
        """Return whether ``path``, relative to the root, is left out (its parents are asked first)."""
        ignored = False
        for rule in self._rules:
            if (is_directory or not rule.directories_only) and rule.pattern.fullmatch(path):
                ignored = not rule.negated
        return ignored


def _rule(line: str) -> _Rule | None:
    """Return the rule of one line, None for a comment or an empty line."""
    text = line.rstrip("\r\n")
    text = text.rstrip(" ") if not text.endswith("\\ ") else text
    if not text or text.startswith("#"):
        return None
    negated = text.startswith("!")
    text = text.removeprefix("!")
    directories_only = text.endswith("/")
    text = text.rstrip("/")
    anchored = "/" in text
    text = text.lstrip("/")
    if not text:
        return None
    prefix = "" if anchored else "(?:.*/)?"
    try:
        return _Rule(re.compile(prefix + _regular_expression(text), re.DOTALL), negated, directories_only)
    except re.error:
        raise TreeError(
            f"{IGNORE_FILE}: the pattern {line!r} is not valid. Patterns are those of .gitignore: "
            "*, **, ?, [a-z], a leading ! or /, a trailing /. Correct the line and run again."
        ) from None


def _regular_expression(pattern: str) -> str:
    """Translate a glob in which ``*`` stops at "/" and ``**`` does not."""
    tokens = re.split(r"(\*\*/|/\*\*$|\*+|\?|\[!?\]?[^\]]*\]|\\.)", pattern)
    special = {"**/": "(?:.*/)?", "/**": "/.*", "?": "[^/]"}
    result = []
    for token in tokens:
        if token in special:
            result.append(special[token])
        elif token and not token.strip("*"):
            result.append("[^/]*")
        elif token.startswith("[") and token.endswith("]") and len(token) > 2:
            body = token[1:-1].replace("\\", "\\\\")
            result.append(f"[^{body[1:]}]" if body.startswith("!") else f"[{body}]")
        elif token.startswith("\\") and len(token) == 2:
            result.append(re.escape(token[1]))
        else:
            result.append(re.escape(token))
    return "".join(result)


def read_tree(path: str, locations: Sequence[str] = ()) -> Tree:
    """Read the directory ``path``: find its files, hash them and find its code locations.

    ``locations`` are the names of the packages to serve; none means every package directly below ``path``.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        kind = "is not a directory" if root.exists() else "does not exist"
        raise TreeError(
            f"dags_path {path!r} {kind}. Give the directory whose content becomes {ROOT_PACKAGE}/: "
            "ansible-playbook deploy_dags.yml -e dags_path=/path/to/dags"
        )
    root = root.resolve()
    found = list(_walk(root))
    if not found:
        raise TreeError(
            f"There is nothing to publish in {str(root)!r}: it is empty, or {IGNORE_FILE} and the default "
            f"patterns ignore all of it. Put a package into it, such as {root}/main/__init__.py with a "
            "Definitions object, and run again."
        )
    _check_sizes(root, found)
    names = _location_names(root, [path for path, _ in found], locations)
    files = tuple(_hashed(root, path) for path, _ in sorted(found))
    return Tree(root, files, tuple(CodeLocation(name, f"{ROOT_PACKAGE}.{name}") for name in names))


def _walk(root: Path) -> Iterator[tuple[str, int]]:
    """Yield path and size in bytes of every file that is not ignored."""
    lines = list(DEFAULT_IGNORE)
    ignore_file = root / IGNORE_FILE
    if ignore_file.is_file():
        lines += ignore_file.read_text(encoding="utf-8", errors="replace").splitlines()
    rules = IgnoreRules(lines)
    waiting = [""]
    while waiting:
        parent = waiting.pop()
        try:
            entries = sorted(os.scandir(root / parent), key=lambda entry: entry.name)
        except OSError as error:
            raise TreeError(_unreadable(root / parent, error)) from error
        for entry in entries:
            path = f"{parent}/{entry.name}" if parent else entry.name
            is_directory = entry.is_dir(follow_symlinks=False)
            if rules.ignores(path, is_directory):
                continue
            if is_directory:
                waiting.append(path)
            else:
                yield _checked_path(root, path), _checked_size(root, path, entry)


def _checked_path(root: Path, path: str) -> str:
    try:
        return validate_path(path)
    except ManifestError as error:
        raise TreeError(f"In {str(root)!r}: {error}. Rename it, or add it to {IGNORE_FILE}.") from None


def _checked_size(root: Path, path: str, entry: os.DirEntry[str]) -> int:
    """Return the size of a file in bytes, or say why it is not one that can be published."""

    def refuse(what: str) -> TreeError:
        return TreeError(f"{entry.path!r} is {what}. Replace it with a copy, or add {path!r} to {root / IGNORE_FILE}.")

    try:
        if entry.is_symlink():
            target = Path(entry.path).resolve(strict=True)
            if not target.is_relative_to(root):
                raise refuse(
                    f"a symbolic link to {str(target)!r}, outside of the tree: containers would not have what it "
                    "points to"
                )
            if target.is_dir():
                raise refuse("a symbolic link to a directory; releases hold files only")
        status = entry.stat()
    except FileNotFoundError:
        raise refuse("a symbolic link to nothing") from None
    except (OSError, RuntimeError) as error:
        raise TreeError(_unreadable(Path(entry.path), error)) from error
    if not stat.S_ISREG(status.st_mode):
        raise refuse("not a regular file (a socket, pipe or device)")
    if status.st_size > MAX_FILE_BYTES:
        raise TreeError(
            f"{entry.path!r} has {_megabytes(status.st_size)}, more than the {_megabytes(MAX_FILE_BYTES)} a file "
            f"of a release may have: every task fetches it. Keep data in S3 and read it from there, or add "
            f"{path!r} to {root / IGNORE_FILE}."
        )
    return status.st_size


def _check_sizes(root: Path, found: Sequence[tuple[str, int]]) -> None:
    """Refuse more than a task can take."""
    total = sum(size for _, size in found)
    if len(found) > MAX_FILES or total > MAX_RELEASE_BYTES:
        raise TreeError(
            f"{str(root)!r} holds {len(found)} files with {_megabytes(total)}; a release may have {MAX_FILES} "
            f"files with {_megabytes(MAX_RELEASE_BYTES)}. Is it the right directory? Leave out what is not code "
            f"with {root / IGNORE_FILE}."
        )


def _location_names(root: Path, paths: Sequence[str], listed: Sequence[str]) -> list[str]:
    """Return the names of the code locations, sorted, each checked."""
    packages = sorted(path.split("/")[0] for path in paths if re.fullmatch(r"[^/]+/__init__\.py", path))
    names = list(listed) or packages
    choices = f"The packages in {str(root)!r} are: {', '.join(packages) or 'none'}."
    if not names:
        raise TreeError(
            f"There is no code location in {str(root)!r}: no directory in it has an __init__.py. Each package "
            f"directly below it is one; create {root}/main/__init__.py with a Definitions object, or give the "
            "right directory with -e dags_path=/path/to/dags."
        )
    seen: dict[str, str] = {}
    for name in names:
        try:
            validate_location_name(name)
        except ManifestError as error:
            raise TreeError(
                f"{error}. Rename the directory {root / name}, or add '/{name}/' to {root / IGNORE_FILE}. {choices}"
            ) from None
        if keyword.iskeyword(name):
            raise TreeError(f"location {name!r} is a word of the Python language. Rename it. {choices}")
        if name.lower() in seen:
            other = seen[name.lower()]
            how = "is listed twice" if name == other else f"and {other!r} differ in case only"
            raise TreeError(f"location {name!r} {how}. Name each location once in dags_locations. {choices}")
        seen[name.lower()] = name
        if name not in packages:
            what = (
                f"{root / name} has no __init__.py, or it is ignored, so it is not a Python package"
                if (root / name).is_dir()
                else f"there is no directory {root / name}"
            )
            raise TreeError(f"location {name!r} cannot be served: {what}. {choices}")
        if f"{name}.py" in paths:
            raise TreeError(
                f"location {name!r} is ambiguous: {root} has both {name}/ and {name}.py. Rename one of them."
            )
        if name == ROOT_PACKAGE:
            raise TreeError(
                f"location {name!r}: {str(root)!r} looks like the directory above the tree. "
                f"Run again with -e dags_path={root / name}"
            )
    return sorted(names)


def _hashed(root: Path, path: str) -> LocalFile:
    """Read and hash one file."""
    try:
        # Plain text for the path: with tens of thousands of files, objects for them take longer than the hashing.
        with open(f"{root}/{path}", "rb", buffering=0) as file:  # noqa: PTH123
            digest, size = _digest(file_chunks(file))
    except OSError as error:
        raise TreeError(_unreadable(root / path, error)) from error
    return LocalFile(path, size, digest)


def file_chunks(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the rest of an open binary file."""
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def _digest(chunks: Iterable[bytes]) -> tuple[str, int]:
    """Return SHA-256 in hex and length in bytes of ``chunks``."""
    hasher, size = hashlib.sha256(), 0
    for chunk in chunks:
        hasher.update(chunk)
        size += len(chunk)
    return hasher.hexdigest(), size


def copy_tree(tree: Tree, target: Path) -> None:
    """Copy exactly the files of ``tree``, as they were hashed, to ``target``/dags."""
    for directory in sorted({os.path.dirname(file.path) for file in tree.files}):  # noqa: PTH120, plain text
        (target / ROOT_PACKAGE / directory).mkdir(parents=True, exist_ok=True)
    for file in tree.files:
        hasher = hashlib.sha256()
        try:
            with (tree.root / file.path).open("rb") as source, (target / ROOT_PACKAGE / file.path).open("wb") as copy:
                for chunk in file_chunks(source):
                    hasher.update(chunk)
                    copy.write(chunk)
        except OSError as error:
            raise TreeError(_unreadable(tree.root / file.path, error)) from error
        if hasher.hexdigest() != file.sha256:
            raise TreeError(changed_meanwhile(tree.root / file.path))


def changed_meanwhile(path: Path) -> str:
    """Return the message for a file that is no longer what was hashed."""
    return f"{str(path)!r} was changed while it was being published. Run the same command again."


def _unreadable(path: Path, error: BaseException) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (
        f"{str(path)!r} cannot be read ({reason}). Give yourself permission (chmod u+r), or add it to "
        f"{IGNORE_FILE}, and run again."
    )


def _megabytes(size: int) -> str:
    return f"{size / 1024 / 1024:.1f} MiB"
