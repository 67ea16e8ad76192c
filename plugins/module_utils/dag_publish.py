"""Publish a tree as a release in S3: the order of requests that never leaves a task without a whole release.

    note  ->  files that changed  ->  manifest  ->  pointer  ->  delete what left the tree  ->  remove the note

The pointer is written only if it is still the one that was read, so of two publishers one wins. Whatever
happens before that write leaves what is served untouched: a manifest names the VersionId of every file.

Of several repositories (`dag_repositories`) each uploads, deletes and looks after what it owns and nothing else, so
that its credentials need not reach further. Who lost to another one's publish puts its part into what is served now,
and writes manifest and pointer again; only who lost to a change of its own part has lost.

The note, ``releases/pending/<random>.json``, lists the keys a publisher is about to touch. A publisher that
died leaves it behind, and the next one checks those keys: it deletes what nobody's release holds and uploads
again what is no longer the current version of its key. The latter matters because a bucket's lifecycle rule
expires versions that are not current, and the release being served must never expire.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import json
import re
import subprocess
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
)

from .aws_session import new_client, new_session
from .dag_manifest import (
    FileEntry,
    Manifest,
    ManifestError,
    NewerSchemaError,
    Pointer,
    Repository,
    dump_manifest,
    dump_pointer,
    file_key,
    manifest_key,
    parse_manifest,
    parse_pointer,
    pointer_key,
    release_id,
)
from .dag_repositories import Owner, Whole, called, compose, part_of, same_part, whole_of
from .dag_tree import LocalFile, Tree, TreeError, changed_meanwhile, file_chunks

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKERS = 16
"""Parallel requests. S3 answers each in 20 to 100 ms, so one at a time would take a minute per 1,000 files."""

DELETE_BATCH = 1000
"""Keys in one DeleteObjects request, the API's limit."""

SHORTEST_ID = 4
"""Characters of a release's id that may stand for it, if they are unique."""

SHOWN_CHOICES = 10
"""Of releases or files, in a message."""

NOTE_LIFETIME = timedelta(minutes=15)
"""A note older than this is of a publisher that is dead: an upload of 1,000 files takes seconds."""


ATTEMPTS = 20
"""To get a part into what others publish at the same time; each that fails is another's success."""


class PublishError(Exception):
    """The release could not be published; what was served before is still served."""


class MissingBucketError(PublishError):
    """There is no such bucket."""


class LostRaceError(PublishError):
    """Somebody else published between reading the pointer and writing it."""


@dataclass(frozen=True)
class Origin:
    """Who publishes, and from which git revision (None outside of a repository)."""

    author: str
    git_revision: str | None


@dataclass(frozen=True)
class Current:
    """What the bucket holds: the pointer with its ETag, the manifest it names, and notes of other publishers.

    ``pointer`` is None when there is none or it cannot be read; ``etag`` is None only when there is none.
    """

    pointer: Pointer | None
    etag: str | None
    manifest: Manifest | None
    notes: tuple[Note, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Note:
    """A publisher's note: its key, whether its publisher must be dead by now, its paths and its repository."""

    key: str
    expired: bool
    paths: frozenset[str]
    repository: str = ""


@dataclass(frozen=True)
class Plan:
    """What publishing a tree would do. All are paths in the tree, sorted.

    ``own`` is what the owner publishes, ``tree`` the release with everybody's files. ``uploads`` are the added and
    changed files and those to ``restore``, whose pinned version is no longer the current one in S3; ``orphans`` were
    left by a publisher that died.
    """

    release: str
    own: Tree
    owner: Owner
    whole: Whole
    current: Current
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    restore: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)
    """Versions in S3 that the uploads are copies of, by path: a rollback. Empty: they come from the directory."""
    composed: bool = True
    """Whether it is the owner's part with the others' as they are served; False: an old release with everybody's."""

    @property
    def tree(self) -> Tree:
        """The whole release."""
        return self.whole.tree

    @property
    def previous(self) -> str | None:
        """The release that is served now."""
        return self.current.pointer.release if self.current.pointer else None

    @property
    def moves_pointer(self) -> bool:
        """Whether tasks get anything new, or a manifest with other versions has to be named."""
        return self.current.manifest is None or self.release != self.current.manifest.id or bool(self.restore)

    @property
    def changes(self) -> bool:
        """Whether publishing changes anything at all."""
        return self.moves_pointer or bool(self.orphans)

    @property
    def uploads(self) -> tuple[str, ...]:
        """Paths to upload."""
        return tuple(sorted({*self.added, *self.changed, *self.restore}))

    @property
    def locations_added(self) -> list[str]:
        """Names of code locations that the release served now does not have."""
        return sorted(self._names(self.tree.locations) - self._names(self._locations()))

    @property
    def locations_removed(self) -> list[str]:
        """Names of code locations that only the release served now has."""
        return sorted(self._names(self._locations()) - self._names(self.tree.locations))

    def _locations(self) -> Iterable[Any]:
        return self.current.manifest.locations if self.current.manifest else ()

    @staticmethod
    def _names(locations: Iterable[Any]) -> set[str]:
        return {location.name for location in locations}

    def facts(self) -> dict[str, Any]:
        """Return what the plan would change, as modules return it."""
        pointer = self.current.pointer
        return {
            "changed": self.changes,
            "release": self.release,
            "previous": self.previous,
            "repository": self.owner.name or None,
            "moved": self.moves_pointer,
            "published_at": pointer.published_at if pointer and not self.moves_pointer else None,
            "locations": {
                "all": [location.name for location in self.tree.locations],
                "own": [location.name for location in self.tree.locations if self.whole.area.owns(location.name)],
                "added": self.locations_added,
                "removed": self.locations_removed,
            },
            "files": {
                "count": len(self.tree.files),
                "added": list(self.added),
                "changed": list(self.changed),
                "removed": list(self.removed),
                "restored": list(self.restore),
                "orphans": list(self.orphans),
            },
        }

    def describe(self) -> str:
        """Return the plan as text, one line per file, for ``--diff``."""
        sizes = {file.path: file.size for file in self.tree.files}
        lines = [f"release {self.previous or '(none)'} -> {self.release}"] if self.moves_pointer else []
        lines += [f"+ location {name}" for name in self.locations_added]
        lines += [f"- location {name}" for name in self.locations_removed]
        lines += [f"+ {path} ({sizes[path]} bytes)" for path in self.added]
        lines += [f"~ {path} ({sizes[path]} bytes)" for path in self.changed]
        lines += [f"- {path}" for path in self.removed]
        lines += [f"^ {path} (upload again: an interrupted publish has overwritten it)" for path in self.restore]
        lines += [f"- {path} (left by an interrupted publish)" for path in self.orphans]
        return "\n".join(lines) + "\n" if lines else ""


@dataclass(frozen=True)
class Published:
    """The result: the pointer as it is now, whether this call moved it, and the plan that was carried out at last."""

    pointer: Pointer
    moved: bool
    plan: Plan


class Store:
    """The requests a publisher makes, on one bucket and prefix ("" or ending in "/")."""

    def __init__(self, client: Any, bucket: str, prefix: str = "") -> None:
        self._client, self.bucket, self.prefix = client, bucket, prefix
        self.uncertain = False
        """Whether a write was sent twice: the first may have been carried out too, and only its answer be lost."""

    def get(self, key: str, version_id: str | None = None) -> tuple[bytes, str] | None:
        """Return body and ETag of an object, or None if there is no such object or version."""
        pinned = {"VersionId": version_id} if version_id else {}
        try:
            response = self._client.get_object(Bucket=self.bucket, Key=key, **pinned)
        except self._client.exceptions.ClientError as error:
            if _code(error) in ("NoSuchKey", "NoSuchVersion"):
                return None
            raise
        return response["Body"].read(), response["ETag"]

    def put(self, key: str, body: Any, sha256: str, content_type: str, **conditions: str) -> str:
        """Store an object that S3 checks against ``sha256`` (hex); return its VersionId, "" without one."""
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode("ascii")
        try:
            response = self._client.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=body,
                ContentType=content_type,
                ChecksumSHA256=checksum,
                **conditions,
            )
        except self._client.exceptions.ClientError as error:
            self._note_retries(error.response)
            raise
        self._note_retries(response)
        return str(response.get("VersionId", ""))

    def copy(self, key: str, version_id: str, sha256: str) -> str:
        """Make an old version of an object its current one; return the new VersionId, "" without one.

        S3 refuses to copy an object onto itself with nothing changed, which replaced metadata is not.
        """
        response = self._client.copy_object(
            Bucket=self.bucket,
            Key=key,
            CopySource={"Bucket": self.bucket, "Key": key, "VersionId": version_id},
            MetadataDirective="REPLACE",
            ContentType="application/octet-stream",
            Metadata={"sha256": sha256},
            ChecksumAlgorithm="SHA256",
        )
        self._note_retries(response)
        return str(response.get("VersionId", ""))

    def has_version(self, key: str, version_id: str) -> bool:
        """Return whether a version of an object is still there."""
        try:
            self._client.head_object(Bucket=self.bucket, Key=key, VersionId=version_id)
        except self._client.exceptions.ClientError as error:
            if _code(error) in ("404", "NoSuchKey", "NoSuchVersion"):
                return False
            raise
        return True

    def release_versions(self) -> tuple[list[dict[str, Any]], datetime]:
        """Return all versions and delete markers below ``releases/``, and S3's time.

        Each is {"Key", "VersionId", "LastModified"} and "IsLatest".
        """
        found: list[dict[str, Any]] = []
        now = datetime.now(UTC)
        pages = self._client.get_paginator("list_object_versions")
        for page in pages.paginate(Bucket=self.bucket, Prefix=f"{self.prefix}releases/"):
            now = _response_time(page)
            found += [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        return found, now

    def _note_retries(self, response: Mapping[str, Any]) -> None:
        if response.get("ResponseMetadata", {}).get("RetryAttempts"):
            self.uncertain = True

    def put_document(self, key: str, body: bytes, **conditions: str) -> str:
        """Store a JSON document; return its VersionId."""
        return self.put(key, body, hashlib.sha256(body).hexdigest(), "application/json", **conditions)

    def current_version(self, key: str) -> str | None:
        """Return the VersionId of an object's current version, or None if there is none."""
        try:
            return str(self._client.head_object(Bucket=self.bucket, Key=key).get("VersionId", ""))
        except self._client.exceptions.ClientError as error:
            if _code(error) in ("404", "NoSuchKey"):
                return None
            raise

    def delete(self, objects: Sequence[dict[str, str]]) -> None:
        """Delete ``objects``: {"Key": …} hides an object, with "VersionId" that version is gone for good."""
        for start in range(0, len(objects), DELETE_BATCH):
            response = self._client.delete_objects(
                Bucket=self.bucket,
                Delete={"Objects": list(objects[start : start + DELETE_BATCH]), "Quiet": True},
            )
            for failure in response.get("Errors", []):
                raise PublishError(
                    f"s3://{self.bucket}/{failure['Key']} could not be deleted: {failure.get('Code')} "
                    f"{failure.get('Message', '')}. Allow s3:DeleteObject and s3:DeleteObjectVersion on the "
                    "bucket and run the same command again."
                )

    def notes(self) -> list[Note]:
        """Return the notes of publishers that are at work or were interrupted."""
        response = self._client.list_objects_v2(Bucket=self.bucket, Prefix=_note_key(self.prefix, ""))
        now = _response_time(response)
        return [
            self._note(item["Key"], now - item["LastModified"] > NOTE_LIFETIME) for item in response.get("Contents", [])
        ]

    def _note(self, key: str, expired: bool) -> Note:
        found = self.get(key)
        try:
            text = json.loads(found[0]) if found else {"paths": []}
            return Note(key, expired, frozenset(map(str, text["paths"])), str(text.get("repository", "")))
        except (ValueError, KeyError, TypeError):
            return Note(key, expired, frozenset())

    def versioning(self) -> bool:
        """Return whether the bucket keeps versions."""
        return bool(self._client.get_bucket_versioning(Bucket=self.bucket).get("Status") == "Enabled")


def create_store(bucket: str, prefix: str = "") -> Store:
    """Return the store; region, endpoint and credentials come from the environment, as with the AWS CLI."""
    config = Config(
        max_pool_connections=WORKERS,
        connect_timeout=10,
        read_timeout=60,
        retries={"mode": "adaptive", "total_max_attempts": 6},
    )
    return Store(new_client(new_session(), "s3", config), bucket, prefix)


@contextmanager
def explained(bucket: str) -> Iterator[None]:
    """Turn errors of AWS and of its client into a PublishError that says what to do."""
    try:
        yield
    except ClientError as error:
        kind = MissingBucketError if _code(error) == "NoSuchBucket" else PublishError
        raise kind(_explain(error, bucket)) from error
    except NoCredentialsError as error:
        raise PublishError(
            "There are no AWS credentials. Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        ) from error
    except NoRegionError as error:
        raise PublishError("There is no AWS region. Set aws_region in the inventory, or AWS_REGION.") from error
    except (ConnectionError, HTTPClientError) as error:
        raise PublishError(
            f"S3 cannot be reached: {error}. Check the network; on the local platform start it with `make up`. "
            "Then run the same command again."
        ) from error
    except BotoCoreError as error:
        raise PublishError(f"The request to S3 for the bucket {bucket!r} failed: {error}") from error


def _explain(error: Any, bucket: str) -> str:
    """Return what a refusal of S3 means here and what to do about it."""
    code, text = _code(error), error.response.get("Error", {}).get("Message", "")
    if code == "NoSuchBucket":
        return (
            f"There is no bucket {bucket!r}. Create the platform first (ansible-playbook site.yml), or correct "
            "dags_bucket_name."
        )
    if code in ("AccessDenied", "403"):
        return (
            f"{error.operation_name} on the bucket {bucket!r} is not allowed for these credentials ({text}). "
            "Publishing needs s3:GetBucketVersioning, s3:ListBucket, s3:GetObject, s3:GetObjectVersion, "
            "s3:PutObject, s3:DeleteObject and s3:DeleteObjectVersion; history, roll-back and pruning "
            "s3:ListBucketVersions too."
        )
    return (
        f"{error.operation_name} on the bucket {bucket!r} failed: {code} {text}. What was served before is "
        "still served; run the same command again."
    )


def read_current(store: Store) -> Current:
    """Read what the bucket holds, in at most three requests when no publisher was interrupted."""
    found = store.get(pointer_key(store.prefix))
    if found is None:
        return Current(None, None, None, tuple(store.notes()))
    # Notes after the pointer: who has moved it may still be deleting, and its note is there until it has done so.
    with ThreadPoolExecutor(1) as pool:
        listing = pool.submit(store.notes)
        pointer, manifest, warnings = _read_manifest(store, found[0])
        return Current(pointer, found[1], manifest, tuple(listing.result()), warnings)


def _read_manifest(store: Store, body: bytes) -> tuple[Pointer | None, Manifest | None, tuple[str, ...]]:
    """Return the pointer in ``body`` and its manifest, as far as they can be read, and a warning if they cannot."""
    pointer = None
    try:
        pointer = parse_pointer(body)
        document = store.get(manifest_key(store.prefix, pointer.release), pointer.manifest_version_id)
        if document is None:
            raise ManifestError(f"the manifest of release {pointer.release} is gone")
        manifest = parse_manifest(document[0])
        if manifest.id != pointer.release:
            raise ManifestError(f"the pointer names {pointer.release}, its manifest says {manifest.id}")
    except NewerSchemaError as error:
        raise PublishError(f"{error}. It was published by a later version of this project: update yours.") from error
    except ManifestError as error:
        # Publishing is how this gets repaired: everything is uploaded anew.
        return pointer, None, (f"What the bucket {store.bucket!r} serves is damaged: {error}",)
    return pointer, manifest, ()


ALONE = Owner()


def make_plan(store: Store, own: Tree, current: Current, owner: Owner = ALONE) -> Plan:
    """Compare what ``owner`` publishes with what is served, and look after what interrupted publishers have left.

    Raises TreeError where it would take what belongs to another repository.
    """
    if owner.name and current.etag is not None and current.manifest is None:
        raise PublishError(
            f"What the bucket {store.bucket!r} serves is damaged, and the parts of the other repositories are known "
            "from it only: nothing was uploaded. Let the platform's owner serve an earlier release again (make "
            "dags-history, make rollback-dags RELEASE=...), then run the same command again."
        )
    return _plan(store, own, owner, compose(own, current.manifest, owner), current)


def _plan(store: Store, own: Tree, owner: Owner, whole: Whole, current: Current) -> Plan:
    before: Mapping[str, FileEntry] = (
        {entry.path: entry for entry in current.manifest.files} if current.manifest else {}
    )
    after = {file.path: file for file in whole.tree.files}
    # Only its own repository looks after what a publisher has left, because it alone may write there. What is taken
    # over is looked after by the new owner.
    noted = frozenset[str]().union(
        *(note.paths for note in current.notes if owner.take_over or note.repository == owner.name)
    )
    touched = sorted(path for path in noted if whole.area.holds(path))
    versions = dict(
        zip(touched, parallel(lambda path: store.current_version(file_key(store.prefix, path)), touched), strict=True)
    )
    same = {path for path, file in after.items() if path in before and before[path].sha256 == file.sha256}
    return Plan(
        release=_release_of(whole),
        own=own,
        owner=owner,
        whole=whole,
        current=current,
        added=tuple(sorted(after.keys() - before.keys())),
        changed=tuple(sorted((after.keys() & before.keys()) - same)),
        removed=tuple(sorted(before.keys() - after.keys())),
        restore=tuple(path for path in touched if path in same and versions[path] != before[path].version_id),
        orphans=tuple(
            path for path in touched if versions[path] is not None and path not in after and path not in before
        ),
    )


def _release_of(whole: Whole) -> str:
    entries = [FileEntry(file.path, file.size, file.sha256, "-") for file in whole.tree.files]
    return release_id(entries, whole.tree.locations, whole.repositories)


def find_release(store: Store, current: Current, wanted: str) -> Manifest:
    """Return the manifest of the release that ``wanted`` begins like; if empty, of the one served before.

    Raises PublishError with the choices where there is none.
    """
    versions, _ = store.release_versions()
    pattern = re.compile(re.escape(manifest_key(store.prefix, "#")).replace(re.escape("#"), "([0-9a-f]{16})"))
    newest: dict[str, datetime] = {}
    for version in versions:
        if version["IsLatest"] and "ETag" in version and (match := pattern.fullmatch(version["Key"])):
            newest[match[1]] = version["LastModified"]
    if not wanted and current.pointer is None:
        raise PublishError("Nothing is released that could be rolled back: run ansible-playbook deploy_dags.yml first.")
    if not wanted and current.pointer is not None and current.pointer.previous is None:
        raise PublishError(f"Release {current.pointer.release} is the first one: there is none to roll back to.")
    identifier = wanted or str(current.pointer and current.pointer.previous)
    matches = sorted(release for release in newest if release.startswith(identifier))
    if len(matches) != 1 or len(identifier) < SHORTEST_ID:
        why = "is not unique" if len(matches) > 1 else "is not a release of this bucket, or is no longer kept"
        if len(identifier) < SHORTEST_ID:
            why = f"is too short: at least {SHORTEST_ID} characters are needed"
        choices = sorted(newest, key=lambda release: newest[release], reverse=True)
        listed = ", ".join(choices[:SHOWN_CHOICES]) + (" and older ones" if len(choices) > SHOWN_CHOICES else "")
        raise PublishError(
            f"Release {identifier!r} {why}. Releases that can be rolled back to, newest first: "
            f"{listed or 'none'}. make dags-history (playbooks/dags_history.yml) tells them apart."
        )
    document = store.get(manifest_key(store.prefix, matches[0]))
    try:
        return parse_manifest(document[0] if document else b"")
    except ManifestError as error:
        raise PublishError(f"Release {matches[0]} cannot be restored, its manifest is damaged: {error}") from error


def make_rollback_plan(store: Store, target: Manifest, current: Current, owner: Owner = ALONE) -> Plan:
    """Return what publishing an old release again would do: its files are copied from their versions in S3.

    A named owner gets its part of it, and the rest stays as it is served; without a name it is all of it.

    They are copied rather than only named again, because a bucket's lifecycle rule expires versions that are not
    current. Raises PublishError, with the files, if a version has expired already.
    """
    pinned = {entry.path: entry.version_id for entry in target.files}
    if owner.name:
        part = part_of(target, owner.name)
        if part is None:
            names = ", ".join(each.name for each in target.repositories) or "none"
            raise PublishError(
                f"Release {target.id} has nothing of {called(owner.name)}; it has: {names}. Nothing was changed. "
                f"make dags-history REPOSITORY={owner.name} tells which ones have."
            )
        plan = make_plan(store, part, current, owner)
    else:
        whole = whole_of(target)
        plan = replace(_plan(store, whole.tree, owner, whole, current), composed=False)
    there = parallel(lambda path: store.has_version(file_key(store.prefix, path), pinned[path]), plan.uploads)
    gone = [path for path, found in zip(plan.uploads, there, strict=True) if not found]
    if gone:
        more = f" and {len(gone) - SHOWN_CHOICES} more" if len(gone) > SHOWN_CHOICES else ""
        raise PublishError(
            f"Release {target.id} cannot be restored: of {len(plan.own.files)} files the versions of {len(gone)} have "
            f"expired or were deleted ({', '.join(gone[:SHOWN_CHOICES])}{more}). Nothing was changed. Choose another "
            "one (make dags-history), or check its git revision out and deploy it: "
            f"{target.git_revision or 'none was recorded'}."
        )
    return replace(plan, copies={path: pinned[path] for path in plan.uploads})


@dataclass(frozen=True)
class Retention:
    """What is kept: the newest releases, at least as many as ``releases``, and all younger than ``days``."""

    releases: int
    days: int


@dataclass(frozen=True)
class Leftovers:
    """What is no longer kept: ids of releases, and the versions (as `Store.delete` takes them) to delete."""

    releases: tuple[str, ...]
    objects: tuple[dict[str, str], ...]


def find_leftovers(store: Store, retention: Retention, in_use: Iterable[str]) -> Leftovers:
    """Return the manifests and pointers that are beyond the retention, never of a release that is current,
    previous or ``in_use``.

    Whoever publishes or rolls back writes the release's manifest anew, so its time says when that was last done.
    Versions of files are left to the bucket's lifecycle rule, which keeps those of all releases that are kept here.
    """
    versions, now = store.release_versions()
    pointer = parse_pointer(_required(store.get(pointer_key(store.prefix))))
    kept = {pointer.release, pointer.previous, *in_use}
    limit = now - timedelta(days=retention.days)
    documents = re.compile(re.escape(f"{store.prefix}releases/") + r"([0-9a-f]{16})\.(definitions\.)?json")
    owners = {version["Key"]: match[1] for version in versions if (match := documents.fullmatch(version["Key"]))}
    published: dict[str, datetime] = {}
    for version in versions:
        if version["Key"] in owners:
            owner = owners[version["Key"]]
            published[owner] = max(published.get(owner, version["LastModified"]), version["LastModified"])
    ordered = sorted(published, key=lambda release: (published[release], release), reverse=True)
    kept |= {*ordered[: retention.releases], *(release for release in ordered if published[release] > limit)}
    pointers = sorted(
        (version for version in versions if version["Key"] == pointer_key(store.prefix)),
        key=lambda version: (bool(version["IsLatest"]), version["LastModified"]),
        reverse=True,
    )
    old = [version for version in pointers[retention.releases :] if version["LastModified"] <= limit]
    old += [version for version in versions if owners.get(version["Key"], pointer.release) not in kept]
    return Leftovers(
        tuple(release for release in ordered if release not in kept),
        tuple({"Key": version["Key"], "VersionId": version["VersionId"]} for version in old),
    )


def _required(found: tuple[bytes, str] | None) -> bytes:
    if found is None:
        raise PublishError("The pointer releases/current is gone: run ansible-playbook deploy_dags.yml again.")
    return found[0]


def publish(
    store: Store, plan: Plan, origin: Origin, before_pointer: Callable[[Plan], None] | None = None
) -> Published:
    """Carry ``plan`` out; raises LostRaceError if somebody else published the same part meanwhile, nothing being live.

    ``before_pointer`` is called with the plan of each pointer that is about to be written.
    """
    if not plan.changes:
        assert plan.current.pointer is not None  # noqa: S101, a manifest was read through it
        _remove_expired_notes(store, plan)
        return Published(plan.current.pointer, moved=False, plan=plan)
    if not store.versioning():
        raise PublishError(
            f"The bucket {store.bucket!r} does not keep versions, and a release is a set of versions. Turn "
            "versioning on (ansible-playbook site.yml does), then run the same command again."
        )
    note = _note_key(store.prefix, f"{uuid.uuid4().hex}.json")
    paths = [*plan.uploads, *plan.removed, *plan.orphans]
    text = {"release": plan.release, "author": origin.author, "repository": plan.owner.name, "paths": paths}
    store.put_document(note, json.dumps(text).encode())
    result = _move(store, plan, origin, note, before_pointer) if plan.moves_pointer else None
    if result is not None and not result.moved:
        return result  # What left the tree is deleted by who moved the pointer.
    plan = result.plan if result else plan
    _hide(store, [*plan.removed, *plan.orphans])
    # While somebody else may be at work on the same keys, the next publisher shall look at them once more. Who has
    # moved the pointer knows that all others either lose or have seen this note; who has not moved it knows nothing.
    others = [other for other in plan.current.notes if other.repository == plan.owner.name]
    if result is not None and all(other.expired for other in others):
        store.delete([{"Key": note}])
    _remove_expired_notes(store, plan)
    if result is not None:
        return result
    assert plan.current.pointer is not None  # noqa: S101, else the pointer would have moved
    return Published(plan.current.pointer, moved=False, plan=plan)


def _move(
    store: Store, plan: Plan, origin: Origin, note: str, before_pointer: Callable[[Plan], None] | None
) -> Published:
    """Upload files and manifest, then move the pointer to them; if others moved it, put the same part into theirs."""
    uploaded = _upload(store, plan)
    for _ in range(ATTEMPTS):
        manifest = _manifest(plan, uploaded, origin)
        manifest_version = store.put_document(manifest_key(store.prefix, plan.release), dump_manifest(manifest))
        if before_pointer:
            before_pointer(plan)
        pointer = Pointer(
            release=plan.release,
            manifest_version_id=manifest_version,
            published_at=_now(),
            author=origin.author,
            git_revision=origin.git_revision,
            previous=plan.previous if plan.previous != plan.release else _previous_of(plan),
            repository=plan.owner.name or None,
        )
        if _write_pointer(store, pointer, plan.current.etag):
            return Published(pointer, moved=True, plan=plan)
        winner = read_current(store)
        first = winner.pointer
        # It may have been written, only the answer was lost, and then another repository have published.
        served = same_part(plan.owner, plan.whole.area, manifest, winner.manifest)
        if store.uncertain and served and first is not None and first.release != plan.release:
            return Published(first, moved=True, plan=plan)
        again = _recomposed(plan, winner)
        if again is None:
            break
        plan = again
    # Nobody else can have named these versions: without them the winner's are the current ones again. Unless answers
    # were lost: then this may have been served already, and there may be more versions. The note stays for the next.
    # Of manifests a named repository cannot delete versions; nothing names this one.
    if not store.uncertain:
        ours = [{"Key": file_key(store.prefix, path), "VersionId": version} for path, version in uploaded.items()]
        document = [{"Key": manifest_key(store.prefix, plan.release), "VersionId": manifest_version}]
        store.delete([*ours, *([] if plan.owner.name else document), {"Key": note}])
    if first is not None and first.release == plan.release:
        return Published(first, moved=False, plan=plan)
    who = (
        f"release {first.release}, published by {first.author} at {first.published_at}" if first else "another pointer"
    )
    raise LostRaceError(
        f"Somebody else published at the same time and was first: {who}, is served now. Nothing of this release "
        f"({plan.release}) is live and nothing of theirs was lost. Bring your tree up to date with theirs and "
        "run the same command again."
    )


def _manifest(plan: Plan, uploaded: Mapping[str, str], origin: Origin) -> Manifest:
    """Return the manifest of the plan's release, with the versions that were uploaded and those that are kept."""
    kept = {entry.path: entry.version_id for entry in plan.current.manifest.files} if plan.current.manifest else {}
    versions = {**kept, **uploaded}
    created_at = _now()

    def stamped(repository: Repository) -> Repository:
        if repository.name != plan.owner.name:
            return repository
        return replace(repository, git_revision=origin.git_revision, author=origin.author, published_at=created_at)

    return Manifest(
        id=plan.release,
        created_at=created_at,
        author=origin.author,
        git_revision=origin.git_revision,
        locations=plan.tree.locations,
        files=tuple(FileEntry(file.path, file.size, file.sha256, versions[file.path]) for file in plan.tree.files),
        repositories=tuple(map(stamped, plan.whole.repositories)),
    )


def _recomposed(plan: Plan, winner: Current) -> Plan | None:
    """Return the plan with its part put into what another repository has published; None if that is the same part."""
    same = same_part(plan.owner, plan.whole.area, plan.current.manifest, winner.manifest)
    if not plan.composed or winner.manifest is None or not same:
        return None
    whole = compose(plan.own, winner.manifest, plan.owner)
    return replace(plan, release=_release_of(whole), whole=whole, current=winner)


def _previous_of(plan: Plan) -> str | None:
    """A repaired release keeps the previous one of the pointer it replaces."""
    return plan.current.pointer.previous if plan.current.pointer else None


def _upload(store: Store, plan: Plan) -> dict[str, str]:
    """Upload the files of the plan, in parallel; return their VersionIds by path."""
    local = {file.path: file for file in plan.tree.files}

    def upload(path: str) -> str:
        if path in plan.copies:
            version = store.copy(file_key(store.prefix, path), plan.copies[path], local[path].sha256)
        else:
            version = _upload_file(store, plan.tree.root, local[path])
        if version in ("", "null"):
            raise PublishError(
                f"The bucket {store.bucket!r} gave no VersionId to {path!r}: its versioning is off. Turn it on "
                "(ansible-playbook site.yml does), then run the same command again."
            )
        return version

    return dict(zip(plan.uploads, parallel(upload, plan.uploads), strict=True))


def _upload_file(store: Store, root: Path, file: LocalFile) -> str:
    """Upload one file; refuse it if it is no longer what was hashed and checked."""
    with (root / file.path).open("rb") as body:
        hasher = hashlib.sha256()
        for chunk in file_chunks(body):
            hasher.update(chunk)
        if hasher.hexdigest() != file.sha256:
            raise TreeError(changed_meanwhile(root / file.path))
        body.seek(0)
        return store.put(file_key(store.prefix, file.path), body, file.sha256, "application/octet-stream")


def _write_pointer(store: Store, pointer: Pointer, etag: str | None) -> bool:
    """Write the pointer if it still has ``etag`` (None: if there is none); return whether it is ours now."""
    condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
    body = dump_pointer(pointer)
    try:
        store.put_document(pointer_key(store.prefix), body, **condition)
    except ClientError as error:
        if _code(error) not in ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409"):
            raise
        # The answer to a first attempt may have been lost and the retry refused because of it.
        found = store.get(pointer_key(store.prefix))
        return found is not None and found[0] == body
    return True


def _hide(store: Store, paths: Sequence[str]) -> None:
    """Delete files from the tree in S3; their versions stay for the releases that name them."""
    store.delete([{"Key": file_key(store.prefix, path)} for path in paths])


def _remove_expired_notes(store: Store, plan: Plan) -> None:
    """Remove notes whose publishers are dead; those of other repositories are theirs to look after."""
    own = [note for note in plan.current.notes if note.repository == plan.owner.name]
    store.delete([{"Key": note.key} for note in own if note.expired])


def parallel[T, R](function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return ``function`` of every item; after a failure nothing more is started."""
    if not items:
        return []
    with ThreadPoolExecutor(min(WORKERS, len(items))) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def read_origin(root: Path, author: str | None = None) -> Origin:
    """Return who publishes what: from git where ``root`` is in a repository, else the user's name."""
    revision = _git(root, "rev-parse", "HEAD")
    if revision and _git(root, "status", "--porcelain", "--", "."):
        revision += "-dirty"
    name = author or _git(root, "config", "user.name") or user_name()
    return Origin(name, revision or None)


def _git(root: Path, *arguments: str) -> str:
    """Return what git prints, "" whenever it has nothing to say."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(root), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def user_name() -> str:
    """Return the name of the operating system's user."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _code(error: Any) -> str:
    """Return the error code of a ClientError."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _response_time(response: Mapping[str, Any]) -> datetime:
    """Return S3's time, so that a wrong clock here makes no note look old."""
    header = response["ResponseMetadata"]["HTTPHeaders"].get("date", "")
    try:
        return datetime.strptime(header, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    except ValueError:
        return datetime.now(UTC)


def _note_key(prefix: str, name: str) -> str:
    return f"{prefix}releases/pending/{name}"


def _now() -> str:
    """Return the time as manifests have it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
