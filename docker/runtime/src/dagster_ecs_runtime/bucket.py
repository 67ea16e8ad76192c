"""The release bucket as the container reads it: a conditional GET of the pointer, pinned GETs of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import obstore
from obstore.exceptions import NotModifiedError
from obstore.store import S3Store

from .manifest import (
    FileEntry,
    Manifest,
    ManifestError,
    Pointer,
    file_key,
    manifest_key,
    parse_manifest,
    parse_pointer,
    pointer_key,
)
from .settings import Settings


class SyncError(RuntimeError):
    """S3 could not be read, or what it holds is not a release; worth another try later."""


@dataclass(frozen=True, slots=True)
class Poll:
    """What a poll of the pointer found. ``pointer`` is None where nobody has published yet."""

    changed: bool
    pointer: Pointer | None
    etag: str | None


class ReleaseBucket:
    """Reads pointer, manifests and files of one bucket and prefix."""

    def __init__(self, settings: Settings) -> None:
        self.name = settings.bucket
        self._prefix = settings.prefix
        options: dict[str, Any] = {"region": settings.region} if settings.region else {}
        if settings.endpoint_url:
            options["endpoint"] = settings.endpoint_url
        client: dict[str, Any] = {"timeout": timedelta(seconds=30), "connect_timeout": timedelta(seconds=5)}
        if settings.endpoint_url and settings.endpoint_url.startswith("http://"):
            client["allow_http"] = True
        self._store = S3Store(
            settings.bucket,
            client_options=client,
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=30)},
            **options,
        )

    def poll(self, etag: str | None) -> Poll:
        """Ask for the pointer, with ``If-None-Match: etag``: one request, and no body while nothing changes."""
        key = pointer_key(self._prefix)
        try:
            answer = obstore.get(self._store, key, options={"if_none_match": etag} if etag else None)
            body = bytes(answer.bytes())
        except NotModifiedError:
            return Poll(False, None, etag)
        except FileNotFoundError:
            return Poll(etag is not None, None, None)
        except Exception as error:
            raise SyncError(f"s3://{self.name}/{key} cannot be read: {_short(error)}") from error
        try:
            return Poll(True, parse_pointer(body), answer.meta["e_tag"])
        except ManifestError as error:
            raise SyncError(f"s3://{self.name}/{key}: {error}") from error

    def manifest(self, release: str, version_id: str | None) -> Manifest:
        """Return the manifest of a release, pinned to a version where one is known."""
        key = manifest_key(self._prefix, release)
        body = self._get(key, version_id)
        try:
            found = parse_manifest(body)
        except ManifestError as error:
            raise SyncError(f"s3://{self.name}/{key}: {error}") from error
        if found.id != release:
            raise SyncError(f"s3://{self.name}/{key} holds the manifest of release {found.id}")
        return found

    def file(self, entry: FileEntry) -> bytes:
        """Return the content of one pinned file; its size is bounded by the manifest's limits."""
        return self._get(file_key(self._prefix, entry.path), entry.version_id)

    def _get(self, key: str, version_id: str | None) -> bytes:
        try:
            options = {"version": version_id} if version_id else None
            return bytes(obstore.get(self._store, key, options=options).bytes())
        except Exception as error:
            pinned = f" (version {version_id})" if version_id else ""
            raise SyncError(f"s3://{self.name}/{key}{pinned} cannot be read: {_short(error)}") from error


def _short(error: Exception) -> str:
    """Return an error on one line; obstore's carry the whole request."""
    return " ".join(str(error).split())[:300]
