"""What was released when: the versions of the pointer, and what the manifests they name differ in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .dag_manifest import (
    Manifest,
    ManifestError,
    NewerSchemaError,
    Pointer,
    manifest_key,
    parse_manifest,
    parse_pointer,
    pointer_key,
)
from .dag_publish import PublishError, Store, parallel
from .dag_repositories import part_of


@dataclass(frozen=True)
class Entry:
    """A version of the pointer. ``pointer`` is None if it is damaged, ``manifest`` if it is gone, damaged or not read.

    ``written`` is S3's time of it, in ISO 8601; ``problem`` says what is missing. ``current`` is False for the newest
    too if the pointer was deleted.
    """

    written: str
    current: bool
    pointer: Pointer | None
    manifest: Manifest | None
    problem: str | None


def read_history(store: Store, limit: int, repository: str = "") -> list[Entry]:
    """Return all versions of the pointer, newest first, with the manifests that `describe` needs.

    These are the manifests of the newest ``limit`` that ``repository`` has published ("": that anybody has), and for
    each of them the one before it, to compare with.
    """
    versions, _ = store.release_versions()
    pointers = [version for version in versions if version["Key"] == pointer_key(store.prefix) and "ETag" in version]
    # S3 lists the versions of a key newest first; its times are whole seconds.
    entries = parallel(lambda version: _entry(store, version), pointers)
    shown = [number for number, entry in enumerate(entries) if _is_of(entry, repository)][:limit]
    needed = {number + step for number in shown for step in (0, 1)}
    return parallel(
        lambda numbered: _with_manifest(store, numbered[1]) if numbered[0] in needed else numbered[1],
        list(enumerate(entries)),
    )


def _is_of(entry: Entry, repository: str) -> bool:
    return not repository or (entry.pointer is not None and entry.pointer.repository == repository)


def find_earlier_part(entries: Sequence[Entry], name: str) -> Manifest:
    """Return the newest release in which a repository had something else than now; ``entries`` are newest first.

    Raises PublishError if it has nothing now, or nothing else is kept.
    """
    manifests = [entry.manifest for entry in entries if entry.manifest is not None]
    now = _part(manifests[0], name) if manifests else None
    for manifest in manifests:
        earlier = _part(manifest, name)
        if earlier is not None and earlier != now:
            return manifest
    known = sorted({each.name for manifest in manifests for each in manifest.repositories})
    why = (
        "has published nothing else that is still kept"
        if now is not None
        else f"has published nothing; there are: {', '.join(known) or 'none'}"
    )
    raise PublishError(
        f"The repository {name!r} {why}: there is nothing to roll back to. Nothing was changed. make dags-history "
        f"REPOSITORY={name} lists what it has published."
    )


def _part(manifest: Manifest, name: str) -> Any:
    """Return a repository's content in a release, to compare; None if it has nothing of it."""
    part = part_of(manifest, name)
    return None if part is None else (part.files, part.locations)


def _entry(store: Store, version: dict[str, Any]) -> Entry:
    written, current = version["LastModified"].strftime("%Y-%m-%dT%H:%M:%SZ"), bool(version["IsLatest"])
    try:
        found = store.get(version["Key"], version["VersionId"])
        return Entry(written, current, parse_pointer(found[0] if found else b""), None, None)
    except NewerSchemaError as error:
        return Entry(written, current, None, None, str(error))
    except ManifestError as error:
        return Entry(written, current, None, None, f"the pointer is damaged: {error}")


def _with_manifest(store: Store, entry: Entry) -> Entry:
    if entry.pointer is None:
        return entry
    document = store.get(manifest_key(store.prefix, entry.pointer.release), entry.pointer.manifest_version_id)
    if document is None:
        return replace(entry, problem="no longer kept")
    try:
        return replace(entry, manifest=parse_manifest(document[0]))
    except ManifestError as error:
        return replace(entry, problem=f"its manifest is damaged: {error}")


def describe(entries: Sequence[Entry], limit: int, repository: str = "") -> list[dict[str, Any]]:
    """Return one object for each of the newest ``limit`` entries, with what it changed; of one ``repository`` if named.

    ``files`` and ``locations`` are None where one of the two manifests is not there. ``what`` is release, rollback (the
    release was there before; of a named repository, its part in one of the manifests that were read) or repair (it was
    there already, and was uploaded anew).
    """
    told: list[dict[str, Any]] = []
    for number, entry in enumerate(entries):
        if len(told) == limit:
            break
        if not _is_of(entry, repository):
            continue
        earlier = entries[number + 1 :]
        told.append(
            {
                "published_at": entry.pointer.published_at if entry.pointer else entry.written,
                "author": entry.pointer.author if entry.pointer else None,
                "release": entry.pointer.release if entry.pointer else None,
                "git_revision": entry.pointer.git_revision if entry.pointer else None,
                "repository": entry.pointer.repository if entry.pointer else None,
                "current": entry.current,
                "what": _what(entry, earlier),
                "problem": entry.problem,
                **_changes(entry.manifest, earlier[0].manifest if earlier else None, first=_is_first(entry, earlier)),
            }
        )
    return told


def _is_first(entry: Entry, earlier: Sequence[Entry]) -> bool:
    """Return whether nothing was released before; older versions of the pointer may only have been forgotten."""
    return not earlier and entry.pointer is not None and entry.pointer.previous is None


def _what(entry: Entry, earlier: Sequence[Entry]) -> str:
    releases = [other.pointer.release if other.pointer else None for other in earlier]
    if entry.pointer is None:
        return "release"
    if entry.pointer.release not in releases:
        name = entry.pointer.repository
        return "rollback" if name and _had_part_before(entry, earlier, name) else "release"
    return "repair" if releases[0] == entry.pointer.release else "rollback"


def _had_part_before(entry: Entry, earlier: Sequence[Entry], name: str) -> bool:
    part = _part(entry.manifest, name) if entry.manifest else None
    return part is not None and any(other.manifest and _part(other.manifest, name) == part for other in earlier)


def _changes(after: Manifest | None, before: Manifest | None, *, first: bool) -> dict[str, Any]:
    if after is None or (before is None and not first):
        return {"files": None, "locations": None}
    old = {file.path: file.sha256 for file in before.files} if before else {}
    new = {file.path: file.sha256 for file in after.files}
    names = {location.name for location in after.locations}
    old_names = {location.name for location in before.locations} if before else set()
    return {
        "files": {
            "added": sorted(new.keys() - old.keys()),
            "changed": sorted(path for path in new.keys() & old.keys() if new[path] != old[path]),
            "removed": sorted(old.keys() - new.keys()),
        },
        "locations": {"added": sorted(names - old_names), "removed": sorted(old_names - names)},
    }
