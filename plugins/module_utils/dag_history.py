"""What was released when: the versions of the pointer, and what the manifests they name differ in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from .dag_publish import Store, parallel


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


def read_history(store: Store, limit: int) -> list[Entry]:
    """Return all versions of the pointer, newest first; the manifests of ``limit`` and of one more to compare with."""
    versions, _ = store.release_versions()
    pointers = [version for version in versions if version["Key"] == pointer_key(store.prefix) and "ETag" in version]
    # S3 lists the versions of a key newest first; its times are whole seconds.
    return parallel(
        lambda numbered: _entry(store, numbered[1], with_manifest=numbered[0] <= limit), list(enumerate(pointers))
    )


def _entry(store: Store, version: dict[str, Any], *, with_manifest: bool) -> Entry:
    written, current = version["LastModified"].strftime("%Y-%m-%dT%H:%M:%SZ"), bool(version["IsLatest"])
    try:
        found = store.get(version["Key"], version["VersionId"])
        pointer = parse_pointer(found[0] if found else b"")
    except NewerSchemaError as error:
        return Entry(written, current, None, None, str(error))
    except ManifestError as error:
        return Entry(written, current, None, None, f"the pointer is damaged: {error}")
    if not with_manifest:
        return Entry(written, current, pointer, None, None)
    document = store.get(manifest_key(store.prefix, pointer.release), pointer.manifest_version_id)
    if document is None:
        return Entry(written, current, pointer, None, "no longer kept")
    try:
        return Entry(written, current, pointer, parse_manifest(document[0]), None)
    except ManifestError as error:
        return Entry(written, current, pointer, None, f"its manifest is damaged: {error}")


def describe(entries: Sequence[Entry], limit: int) -> list[dict[str, Any]]:
    """Return one object for each of the newest ``limit`` entries, with what it changed.

    ``files`` and ``locations`` are None where one of the two manifests is not there. ``what`` is release, rollback (the
    release was there before) or repair (it was there already, and was uploaded anew).
    """
    told = []
    for number, entry in enumerate(entries[:limit]):
        earlier = entries[number + 1 :]
        told.append(
            {
                "published_at": entry.pointer.published_at if entry.pointer else entry.written,
                "author": entry.pointer.author if entry.pointer else None,
                "release": entry.pointer.release if entry.pointer else None,
                "git_revision": entry.pointer.git_revision if entry.pointer else None,
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
    if entry.pointer is None or entry.pointer.release not in releases:
        return "release"
    return "repair" if releases[0] == entry.pointer.release else "rollback"


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
