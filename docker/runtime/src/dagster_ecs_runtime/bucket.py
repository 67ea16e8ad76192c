"""The release bucket as the container reads it: a conditional GET of the pointer, pinned GETs of the rest."""

from __future__ import annotations

import re
from collections.abc import Buffer, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import NotModifiedError
from obstore.store import S3Store

from .keys import InjectedKeys
from .manifest import (
    MAX_DOCUMENT_BYTES,
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
_POINTER_BYTES = 64 * 1024
"""Most of what is read of a pointer, which has some 300 bytes; the author is the only text in it that can be long."""

_HINTS = {
    "AccessDenied": "the task's role or user needs s3:GetObject, s3:GetObjectVersion and s3:ListBucket: run site.yml",
    "InvalidAccessKeyId": "the keys were revoked, and the secret has no others: run rotate_credentials.yml or site.yml",
    "SignatureDoesNotMatch": "the secret key is wrong, and the secret has no other: run rotate_credentials.yml",
    "ExpiredToken": "the task's credentials have expired and were not renewed: stop the task, ECS starts another",
    "RequestTimeTooSkewed": "the clock of the machine that this task runs on is wrong",
    "NoSuchBucket": "run site.yml to make it and deploy again, or correct DAGSTER_S3_BUCKET",
    "NoSuchVersion": "this version was deleted or has expired: publish again",
    "NoSuchKey": "publish again",
}
"""What to do, by S3's error code; the codes are those of "Error responses" in the Amazon S3 API Reference."""

_REFUSED_KEYS = frozenset(("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"))
"""What S3 may answer to keys that were replaced."""

_BROKEN_CONNECTION = {
    "ConnectionRefused": "the connection is refused",
    "dns error": "its name cannot be resolved",
    "TimedOut": "no answer, or not all of it, in time (DAGSTER_S3_TIMEOUT_SECONDS)",
    "IncompleteMessage": "the connection was closed before all of the answer had come",
    "UnexpectedEof": "the connection was closed before all of the answer had come",
    "ConnectionReset": "the connection was reset",
    "Parse(": "the answer is not HTTP",
}
"""What went wrong below HTTP, by what obstore's description of the error contains."""


class SyncError(RuntimeError):
    """S3 could not be read, or what it holds is not a release; worth another try later."""


class UnusableError(SyncError):
    """S3 was read, and what it holds cannot be used: the way to S3 is not the problem."""


class RefusedError(SyncError):
    """S3 does not accept the credentials; there may be newer ones."""


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
    AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE; it renews those of a role itself. Keys that were replaced in their secret
    are renewed by ``renew_keys``.
    """

    gone = "releases/current was deleted from the bucket: the release that it named is served on; deploy again"
    """What to say when a release is served, and a poll finds none."""

    def __init__(self, settings: Settings) -> None:
        self.name = settings.bucket
        self._prefix = settings.prefix
        self._keys = InjectedKeys(settings.s3_credentials_arn)
        self._settings = settings
        self._store = self._open()

    def _open(self) -> S3Store:
        settings = self._settings
        options: dict[str, Any] = {"region": settings.region} if settings.region else {}
        if settings.endpoint_url:
            options["endpoint"] = settings.endpoint_url
        # A request ends after the whole time, and after a third of it without a byte; a silent one is sent twice.
        whole = timedelta(seconds=settings.s3_timeout_seconds)
        client: dict[str, Any] = {
            "timeout": whole,
            "read_timeout": whole / 3,
            "connect_timeout": min(whole / 3, timedelta(seconds=5)),
        }
        if settings.endpoint_url and settings.endpoint_url.startswith("http://"):
            client["allow_http"] = True
        if keys := self._keys.renewed:
            options |= {"access_key_id": keys.id, "secret_access_key": keys.secret}
        return S3Store(
            settings.bucket,
            client_options=client,
            retry_config={"max_retries": 3, "retry_timeout": whole / 2},
            **options,
        )

    @property
    def key_ending(self) -> str | None:
        """The end of the id of the keys in use; None for the task role."""
        return self._keys.ending

    def renew_keys(self) -> bool:
        """Go on with newer keys, after a RefusedError; return whether there are any."""
        if not self._keys.renew():
            return False
        self._store = self._open()
        return True

    def poll(self, etag: str | None) -> Poll:
        """Ask for the pointer, with ``If-None-Match: etag``: one request, and no body while nothing changes."""
        key = pointer_key(self._prefix)
        try:
            body, found = self._document(key, _POINTER_BYTES, {"if_none_match": etag} if etag else None)
        except NotModifiedError:
            return Poll(False, None, etag)
        except FileNotFoundError as error:
            if _code(error) == "NoSuchKey":
                return Poll(etag is not None, None, None)
            raise self._failure(key, None, error) from error
        except SyncError:
            raise
        except Exception as error:
            raise self._failure(key, None, error) from error
        try:
            return Poll(True, parse_pointer(body), found)
        except ManifestError as error:
            raise UnusableError(f"s3://{self.name}/{key}: {error}") from error

    def manifest(self, release: str, version_id: str | None) -> Manifest:
        """Return the manifest of a release, pinned to a version where one is known."""
        key = manifest_key(self._prefix, release)
        try:
            body, _ = self._document(key, MAX_DOCUMENT_BYTES, {"version": version_id} if version_id else None)
            found = parse_manifest(body)
        except SyncError:
            raise
        except ManifestError as error:
            raise UnusableError(f"s3://{self.name}/{key}: {error}") from error
        except Exception as error:
            raise self._failure(key, version_id, error) from error
        if found.id != release:
            raise UnusableError(f"s3://{self.name}/{key} holds the manifest of release {found.id}")
        return found

    def file(self, entry: FileEntry) -> Iterator[Buffer]:
        """Yield the content of one pinned file in pieces of about a megabyte; nothing of one of another size."""
        key = file_key(self._prefix, entry.path)
        try:
            answer = obstore.get(self._store, key, options={"version": entry.version_id})
            if answer.meta["size"] == entry.size:
                yield from answer.stream(min_chunk_size=_PIECE_BYTES)
                return
        except Exception as error:
            raise self._failure(key, entry.version_id, error) from error
        raise UnusableError(
            f"s3://{self.name}/{key} (version {entry.version_id}) has {answer.meta['size']} bytes, "
            f"its manifest says {entry.size}"
        )

    def _document(self, key: str, limit: int, options: dict[str, str] | None) -> tuple[bytes, str | None]:
        """Return body and ETag of an object, unless it is longer than ``limit``: then not a byte of it is read."""
        answer = obstore.get(self._store, key, options=options)
        if answer.meta["size"] > limit:
            raise UnusableError(
                f"s3://{self.name}/{key} has {answer.meta['size']} bytes, at most {limit} are read: "
                "it was not written by this program; publish again"
            )
        return bytes(answer.bytes()), answer.meta["e_tag"]

    def _failure(self, key: str, version_id: str | None, error: Exception) -> SyncError:
        pinned = f" (version {version_id})" if version_id else ""
        kind: type[SyncError] = SyncError
        if _code(error) in ("NoSuchKey", "NoSuchVersion"):
            kind = UnusableError
        elif _code(error) in _REFUSED_KEYS:
            kind = RefusedError
        return kind(f"s3://{self.name}/{key}{pinned} cannot be read: {_explain(error)}")


def _code(error: Exception) -> str | None:
    """Return the code of S3's error document; only S3 sends one, whatever else may answer in its place."""
    found = re.search(r"<Code>(\w+)</Code>", str(error))
    return found.group(1) if found else None


def _explain(error: Exception) -> str:
    """Return what happened, and what to do about it, in one line; obstore's texts are long and full of internals."""
    message, _, internals = str(error).partition("Debug source:")
    url = re.search(r"Error performing GET (\S+)", message)
    host = urlsplit(url.group(1)).netloc if url else "S3"
    if status := re.search(r"status code: (\d{3})", message):
        code, said = _code(error), re.search(r"<Message>(.*?)</Message>", message)
        answer = f"{host} answers {status.group(1)}"
        if code is None:
            return f"{answer} without an error code of S3: is something else, such as a web proxy, in its place?"
        answer += f" {code}" + (f" ({said.group(1)[:200].rstrip('.')})" if said else "")
        return answer + (f": {_HINTS[code]}" if code in _HINTS else "")
    for sign, reason in _BROKEN_CONNECTION.items():
        if sign in internals:
            return f"{host}: {reason}"
    return " ".join(message.split())[:500]
