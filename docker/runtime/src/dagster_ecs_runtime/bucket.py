"""The release bucket as the container reads it: a conditional GET of the pointer, pinned GETs of the rest."""

from __future__ import annotations

from collections.abc import Buffer, Iterator
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

_PIECE_BYTES = 1024 * 1024


class SyncError(RuntimeError):
    """S3 could not be read, or what it holds is not a release; worth another try later."""


@dataclass(frozen=True, slots=True)
class Poll:
    """What a poll of the pointer found. ``pointer`` is None where nobody has published yet."""

    changed: bool
    pointer: Pointer | None
    etag: str | None


class ReleaseBucket:
    """Reads pointer, manifests and files of one bucket and prefix.

    Credentials are found by object_store, in this order: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the task role
    through AWS_CONTAINER_CREDENTIALS_RELATIVE_URI (ECS), or through AWS_CONTAINER_CREDENTIALS_FULL_URI with
    AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE; it renews those of a role itself.
    """

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
            raise self._failure(key, None, error) from error
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

    def file(self, entry: FileEntry) -> Iterator[Buffer]:
        """Yield the content of one pinned file in pieces of about a megabyte."""
        key = file_key(self._prefix, entry.path)
        try:
            answer = obstore.get(self._store, key, options={"version": entry.version_id})
            yield from answer.stream(min_chunk_size=_PIECE_BYTES)
        except Exception as error:
            raise self._failure(key, entry.version_id, error) from error

    def _get(self, key: str, version_id: str | None) -> bytes:
        try:
            options = {"version": version_id} if version_id else None
            return bytes(obstore.get(self._store, key, options=options).bytes())
        except Exception as error:
            raise self._failure(key, version_id, error) from error

    def _failure(self, key: str, version_id: str | None, error: Exception) -> SyncError:
        pinned = f" (version {version_id})" if version_id else ""
        return SyncError(f"s3://{self.name}/{key}{pinned} cannot be read: {_short(error)}")


def _short(error: Exception) -> str:
    """Return an error on one line, without the program's internals that obstore appends."""
    return " ".join(str(error).partition("Debug source:")[0].split())[:500]
