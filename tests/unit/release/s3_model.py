"""A bucket with versions in memory, and clients of it that stop before every request until they are told to go on.

The model knows what the protocol of `dag_publish` needs of S3: versions, delete markers, conditional writes, deletion
of versions, a clock. Nothing in it knows the protocol.
"""

from __future__ import annotations

import _thread
import base64
import functools
import hashlib
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from io import BytesIO
from types import SimpleNamespace
from typing import Any, Literal

from botocore.exceptions import ClientError

BUCKET = "bucket"

Order = Literal["answer", "lose the answer", "kill before", "kill after"]
"""What happens to a request. A lost answer makes the client send it again, as botocore does."""


ALL = 1000
"""More requests than anybody makes."""


class Killed(BaseException):
    """The end of an actor's process: nothing in the program handles it."""


@dataclass(frozen=True)
class Version:
    """One version of a key; ``body`` is None for a delete marker."""

    identifier: str
    body: bytes | None
    modified: datetime

    @functools.cached_property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.body or b"", usedforsecurity=False).hexdigest()}"'


class Bucket:
    """The versions of every key, oldest first."""

    def __init__(self) -> None:
        self.keys: dict[str, list[Version]] = {}
        self.log: list[tuple[str, Version]] = []
        """Everything that was ever put."""
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self._numbers = itertools.count(1)

    def advance(self, time: timedelta) -> None:
        """Let time pass."""
        self.now += time

    def current(self, key: str) -> Version | None:
        """Return what a GET without a version finds."""
        versions = self.keys.get(key)
        return versions[-1] if versions and versions[-1].body is not None else None

    def version(self, key: str, identifier: str) -> Version | None:
        """Return a version that holds an object."""
        found = (version for version in self.keys.get(key, ()) if version.identifier == identifier)
        return next((version for version in found if version.body is not None), None)

    def visible(self, prefix: str) -> list[str]:
        """Return the keys that a listing shows."""
        return sorted(key for key in self.keys if key.startswith(prefix) and self.current(key))

    def put(self, key: str, body: bytes | None) -> Version:
        """Add a version; None adds a delete marker."""
        version = Version(f"v{next(self._numbers)}", body, self.now)
        self.keys.setdefault(key, []).append(version)
        self.log.append((key, version))
        return version

    def delete_version(self, key: str, identifier: str) -> None:
        """Remove a version for good; the one before it may become the current one."""
        left = [version for version in self.keys.get(key, ()) if version.identifier != identifier]
        if left:
            self.keys[key] = left
        else:
            self.keys.pop(key, None)


class Client:
    """What `dag_publish.Store` calls of a botocore client; ``turn`` decides when each request is made, and its fate."""

    exceptions = SimpleNamespace(ClientError=ClientError)

    def __init__(self, bucket: Bucket, turn: Callable[[str, str], Order]) -> None:
        self._bucket, self._turn = bucket, turn

    def get_object(self, **given: Any) -> dict[str, Any]:
        key, pinned = given["Key"], given.get("VersionId")

        def get() -> dict[str, Any]:
            found = self._bucket.version(key, pinned) if pinned else self._bucket.current(key)
            if found is None or found.body is None:
                raise _error("GetObject", "NoSuchVersion" if pinned else "NoSuchKey")
            return {"Body": BytesIO(found.body), "ETag": found.etag, "VersionId": found.identifier}

        return self._request("GetObject", key, get)

    def head_object(self, **given: Any) -> dict[str, Any]:
        key, pinned = given["Key"], given.get("VersionId")

        def head() -> dict[str, Any]:
            found = self._bucket.version(key, pinned) if pinned else self._bucket.current(key)
            if found is None:
                raise _error("HeadObject", "404")
            return {"ETag": found.etag, "VersionId": found.identifier}

        return self._request("HeadObject", key, head)

    def put_object(self, **given: Any) -> dict[str, Any]:
        key, match, none_match = given["Key"], given.get("IfMatch"), given.get("IfNoneMatch")
        body = given["Body"] if isinstance(given["Body"], bytes) else given["Body"].read()
        assert base64.b64decode(given["ChecksumSHA256"]) == hashlib.sha256(body).digest()
        assert none_match in (None, "*")

        def put() -> dict[str, Any]:
            found = self._bucket.current(key)
            if match is not None and found is None:
                raise _error("PutObject", "NoSuchKey")
            if (none_match and found) or (match is not None and found and found.etag != match):
                raise _error("PutObject", "PreconditionFailed")
            stored = self._bucket.put(key, body)
            return {"ETag": stored.etag, "VersionId": stored.identifier}

        return self._request("PutObject", key, put)

    def copy_object(self, **given: Any) -> dict[str, Any]:
        source = given["CopySource"]

        def copy() -> dict[str, Any]:
            found = self._bucket.version(source["Key"], source["VersionId"])
            if found is None:
                raise _error("CopyObject", "NoSuchVersion")
            return {"VersionId": self._bucket.put(given["Key"], found.body).identifier}

        return self._request("CopyObject", given["Key"], copy)

    def delete_objects(self, **given: Any) -> dict[str, Any]:
        objects = given["Delete"]["Objects"]

        def delete() -> dict[str, Any]:
            for item in objects:
                if "VersionId" in item:
                    self._bucket.delete_version(item["Key"], item["VersionId"])
                else:
                    self._bucket.put(item["Key"], None)
            return {}

        return self._request("DeleteObjects", objects[0]["Key"], delete)

    def list_objects_v2(self, **given: Any) -> dict[str, Any]:
        def listing() -> dict[str, Any]:
            found = [(key, self._bucket.current(key)) for key in self._bucket.visible(given["Prefix"])]
            return {"Contents": [{"Key": key, "LastModified": version.modified} for key, version in found if version]}

        return self._request("ListObjectsV2", given["Prefix"], listing)

    def get_paginator(self, operation: str) -> Any:
        """Return all in one page."""
        assert operation == "list_object_versions"
        return SimpleNamespace(paginate=lambda **given: [self._list_object_versions(given["Prefix"])])

    def _list_object_versions(self, prefix: str) -> dict[str, Any]:
        def listing() -> dict[str, Any]:
            found: dict[str, list[dict[str, Any]]] = {"Versions": [], "DeleteMarkers": []}
            for key in sorted(key for key in self._bucket.keys if key.startswith(prefix)):
                for version in reversed(self._bucket.keys[key]):
                    entry = {
                        "Key": key,
                        "VersionId": version.identifier,
                        "LastModified": version.modified,
                        "IsLatest": version is self._bucket.keys[key][-1],
                    }
                    if version.body is None:
                        found["DeleteMarkers"].append(entry)
                    else:
                        found["Versions"].append(entry | {"ETag": version.etag})
            return found

        return self._request("ListObjectVersions", prefix, listing)

    def get_bucket_versioning(self, **given: Any) -> dict[str, Any]:
        return self._request("GetBucketVersioning", given["Bucket"], lambda: {"Status": "Enabled"})

    def _request(self, operation: str, key: str, apply: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Apply a request when its turn comes, once more for every answer that is lost."""
        for retries in itertools.count():
            order = self._turn(operation, key)
            if order == "kill before":
                raise Killed
            try:
                answer, refusal = apply(), None
            except ClientError as error:
                answer, refusal = {}, error
            if order == "kill after":
                raise Killed
            if order == "answer":
                metadata: Any = {
                    "RetryAttempts": retries,
                    "HTTPHeaders": {"date": _date(self._bucket.now)},
                }
                if refusal is not None:
                    refusal.response["ResponseMetadata"] = metadata
                    raise refusal
                return answer | {"ResponseMetadata": metadata}
        raise AssertionError


@functools.lru_cache
def _date(now: datetime) -> str:
    return format_datetime(now, usegmt=True)


def _error(operation: str, code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": code}}, operation)


class Actor:
    """Somebody who does ``work(client)``, and at each moment either waits before a request or has ended.

    Only `step` lets it go on, so that nothing ever runs at the same time and every run is repeatable. It is a thread of
    its own, unless it is let run to its end from the beginning, as most are: nobody else has to do anything meanwhile.
    """

    def __init__(self, name: str, bucket: Bucket, work: Callable[[Client], Any], late: bool = False) -> None:
        self.name = name
        self.late = late
        """Whether a `Pool` of this actor begins its work only when a result is asked for, or else at once."""
        self.request: tuple[str, str] | None = None
        self.result: Any = None
        self.error: BaseException | None = None
        self.lost = 0
        """Answers that did not arrive."""
        self._order: Order = "answer"
        self._requests = 0
        """How many it may make before it stops again."""
        self._go, self._stopped = _held_lock(), _held_lock()
        self._work = work
        self._client = Client(bucket, self._turn)
        self._alone = True
        """Whether it has no thread of its own."""
        self._ended = False

    @classmethod
    def running(cls) -> Actor:
        """Return the actor whose thread this is."""
        actor: Actor = _running.actor
        return actor

    @property
    def ended(self) -> bool:
        return self._ended

    def step(self, requests: int = 1, order: Order = "answer") -> None:
        """Let it make some requests, and run up to the next one or to its end."""
        if self._ended:
            return
        self._order, self._requests = order, requests
        if self._alone and requests >= ALL:
            before = getattr(_running, "actor", None)
            self._run()
            _running.actor = before
            return
        if self._alone:
            self._alone = False
            # Not a `Thread`, which takes its time to begin.
            _thread.start_new_thread(self._run_and_tell, ())
        elif requests:
            self._go.release()
        else:
            return
        self._stopped.acquire()

    def finish(self) -> Any:
        """Let it run to its end, and return or raise what it does."""
        self.step(ALL)
        if self.error is not None:
            raise self.error
        return self.result

    def run_to(self, operation: str, key: str = "") -> None:
        """Let it run until it waits before a request of this kind."""
        self.step(0)
        while self.request is not None and not (self.request[0] == operation and self.request[1].startswith(key)):
            self.step()
        assert not self.ended, f"{self.name} never came to {operation} {key}"

    def kill(self) -> None:
        """End it where it is."""
        self.step(ALL, "kill before")

    def _run(self) -> None:
        _running.actor = self
        try:
            self.result = self._work(self._client)
        except BaseException as error:  # kept for whoever asks
            self.error = error
        self.request = None
        self._ended = True

    def _run_and_tell(self) -> None:
        self._run()
        self._stopped.release()

    def _turn(self, operation: str, key: str) -> Order:
        self.request = (operation, key)
        if not self._requests:
            assert not self._alone, f"{self.name} does not end"
            self._stopped.release()
            self._go.acquire()
        self._requests -= 1
        self.lost += self._order == "lose the answer"
        return self._order


def _held_lock() -> threading.Lock:
    """Return what one thread waits for until another releases it."""
    lock = threading.Lock()
    lock.acquire()
    return lock


_running = threading.local()


class Pool:
    """Stands for ThreadPoolExecutor where requests are made one by one: calls are made in the actor's own thread."""

    def __init__(self, _workers: int) -> None:
        self._late = Actor.running().late

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to wait for: what nobody asks for is never begun when work begins late."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return _Late(function, arguments) if self._late else _done(function, arguments)

    def shutdown(self, cancel_futures: bool = False) -> None:
        """Nothing is under way."""


class _Late:
    """A future whose work begins when its result is asked for."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._function, self._arguments = function, arguments
        self._future: Future[Any] | None = None

    def result(self) -> Any:
        self._future = self._future or _done(self._function, self._arguments)
        return self._future.result()


def _done(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Future[Any]:
    future: Future[Any] = Future()
    try:
        future.set_result(function(*arguments))
    except Exception as error:
        future.set_exception(error)
    return future
