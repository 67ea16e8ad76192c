"""S3 goes wrong in every way it can, as the container sees it; the last good release is served throughout."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from module_utils.dag_manifest import CodeLocation, FileEntry, Manifest, dump_manifest, release_id
from tests.e2e.dagster_client import wait_for
from tests.e2e.platform_under_test import Probe
from tests.integration.faults import proxy
from tests.integration.faults.conftest import Rig
from tests.integration.faults.proxy import EVERYTHING, FILE, MANIFEST, POINTER, Fault
from tests.integration.release.support import create_bucket

LATE = "no answer, or not all of it, in time"
CLOSED = "closed before all of the answer had come"
NOT_JSON = "not a JSON document"
HUGE = 100 * 1024 * 1024

ANSWERS: dict[str, tuple[Fault, str, str]] = {
    "pointer hangs": (proxy.hang, POINTER, LATE),
    "manifest hangs in its body": (proxy.hang_in_body, MANIFEST, LATE),
    "file comes too slowly": (proxy.trickle(10), FILE, LATE),
    "pointer is cut": (proxy.truncate, POINTER, CLOSED),
    "manifest is cut": (proxy.truncate, MANIFEST, CLOSED),
    "file is cut": (proxy.truncate, FILE, CLOSED),
    "pointer is shortened": (proxy.shorten, POINTER, f"releases/current: pointer: {NOT_JSON}"),
    "manifest is shortened": (proxy.shorten, MANIFEST, f"manifest: {NOT_JSON}"),
    "file is shortened": (proxy.shorten, FILE, "its manifest says"),
    "file is longer": (proxy.lengthen, FILE, "its manifest says"),
    "pointer is damaged": (proxy.corrupt, POINTER, "releases/current: pointer: "),
    "manifest is damaged": (proxy.corrupt, MANIFEST, "manifest: "),
    "file is damaged": (proxy.corrupt, FILE, "is not what its manifest says: SHA-256"),
    "pointer is empty": (proxy.empty, POINTER, "it starts with ''"),
    "manifest is empty": (proxy.empty, MANIFEST, "it starts with ''"),
    "file is empty": (proxy.empty, FILE, "has 0 bytes, its manifest says"),
    "a web proxy answers for the pointer": (proxy.html, POINTER, "it starts with '<!DOCTYPE html>"),
    "a web proxy answers for a file": (proxy.html, FILE, "its manifest says"),
    "a web proxy does not find the pointer": (
        proxy.replaced(b"<html>Not Found</html>", 404),
        POINTER,
        "404 without an error code of S3: is something else, such as a web proxy, in its place?",
    ),
    "something answers that is not HTTP": (proxy.nonsense, POINTER, "the answer is not HTTP"),
    "errors": (proxy.status(500, "InternalError", "An internal error."), POINTER, "500 InternalError (An internal"),
    "too many requests": (proxy.status(429, "TooManyRequests", "Slow down."), MANIFEST, "429 TooManyRequests"),
    "a role without rights": (
        proxy.status(403, "AccessDenied", "No."),
        FILE,
        "needs s3:GetObject, s3:GetObjectVersion",
    ),
    "a wrong secret": (proxy.status(403, "SignatureDoesNotMatch", "No."), EVERYTHING, "the secret key is wrong"),
    "an expired token": (
        proxy.status(400, "ExpiredToken", "Expired."),
        EVERYTHING,
        "have expired and were not renewed",
    ),
    "a wrong clock": (proxy.status(403, "RequestTimeTooSkewed", "No."), EVERYTHING, "the clock of the machine"),
}


@pytest.mark.parametrize(("fault", "paths", "said"), ANSWERS.values(), ids=ANSWERS)
def test_wrong_answer(rig: Rig, fault: Fault, paths: str, said: str) -> None:
    """The fault is named while it lasts, and forgotten with it. (A swap costs seconds: the next test has those.)"""
    served = rig.pointer()[0]
    with rig.proxy.fault(fault, paths):
        rig.publish()
        rig.wait_error(said)
    rig.point(served)
    rig.wait_calm()
    rig.check_probe()


OUTAGES: dict[str, tuple[Callable[[Rig], contextlib.AbstractContextManager[None]], str]] = {
    "connections are refused": (lambda rig: rig.proxy.refusal(), "the connection is refused"),
    "files hang": (lambda rig: rig.proxy.fault(proxy.hang, FILE), LATE),
    "files are damaged": (lambda rig: rig.proxy.fault(proxy.corrupt, FILE), "is not what its manifest says: SHA-256"),
    "a storm of 503": (
        lambda rig: rig.proxy.fault(proxy.status(503, "SlowDown", "Please reduce your request rate.")),
        "503 SlowDown (Please reduce your request rate)",
    ),
    "keys are revoked": (
        lambda rig: rig.proxy.fault(proxy.status(403, "InvalidAccessKeyId", "No such key.")),
        "403 InvalidAccessKeyId (No such key): the keys were revoked, and the secret has no others",
    ),
}


@pytest.mark.parametrize(("outage", "said"), OUTAGES.values(), ids=OUTAGES)
def test_release_of_the_meantime_is_taken(
    rig: Rig, outage: Callable[[Rig], contextlib.AbstractContextManager[None]], said: str
) -> None:
    with outage(rig):
        meanwhile = rig.publish()
        rig.wait_error(said)
    rig.wait_served(*meanwhile)
    rig.check_probe()


def test_what_is_bearable_is_borne(rig: Rig) -> None:
    """Single errors are tried again at once, slow answers are waited for, and S3's clock is not believed."""
    failures = rig.task.health()[1]["sync_failures"]
    with rig.proxy.fault(proxy.status(503, "SlowDown", "Please reduce your request rate."), times=3):
        rig.wait_served(*rig.publish())
        assert rig.proxy.struck == 3
    with rig.proxy.fault(lambda answer: proxy.clock(-7200)(proxy.trickle(2000)(answer))):
        rig.wait_served(*rig.publish())
    assert rig.task.health()[1]["sync_failures"] == failures
    rig.check_probe()


def test_poll_is_one_conditional_request(rig: Rig) -> None:
    rig.wait_calm()
    start = len(rig.proxy.requests)
    wait_for("polls", lambda: len(rig.proxy.requests) - start, until=lambda count: count >= 10)
    for request in rig.proxy.requests[start:]:
        assert (request.method, request.status) == ("GET", 304)
        assert request.path == f"/{rig.bucket.name}/releases/current"


def test_huge_answers_are_not_read(rig: Rig) -> None:
    """A pointer, a manifest and a file of 100 MB: refused, and nowhere near the memory of a 512 MB task."""
    before = _peak_memory(rig)
    for paths, said in (
        (POINTER, f"has {HUGE} bytes, at most 65536 are read"),
        (MANIFEST, f"has {HUGE} bytes, at most 67108864 are read"),
        (FILE, f"has {HUGE} bytes, its manifest says"),
    ):
        served = rig.pointer()[0]
        with rig.proxy.fault(proxy.replaced(b" " * HUGE), paths):
            rig.publish()
            rig.wait_error(said)
        rig.point(served)
        rig.wait_calm()
    assert _peak_memory(rig) - before < 20 * 1024 * 1024
    rig.check_probe()


# -- documents written by hand


def _with(*paths: str, size: int = 1, version_id: str = "v", locations: tuple[CodeLocation, ...] = ()) -> bytes:
    """Return a manifest with these files and a right id; what it says is for the container to judge."""
    files = tuple(FileEntry(path, size, "0" * 64, version_id) for path in paths)
    identifier = release_id(files, locations)
    return dump_manifest(Manifest(identifier, "2026-01-01T00:00:00Z", "by hand", None, locations, files))


DOCUMENTS: dict[str, tuple[Callable[[Rig], bytes], str]] = {
    "path traversal": (lambda _: _with("../../escaped.py"), "has the segment '..'"),
    "hidden path traversal": (lambda _: _with("main/../../../escaped.py"), "has the segment '..'"),
    "absolute path": (lambda rig: _with(f"{rig.base}/escaped.py"), "is absolute"),
    "NUL": (lambda _: _with("escaped.py\0.txt"), "has a control character"),
    "backslash": (lambda _: _with("..\\escaped.py"), "has a backslash"),
    "file that is a directory too": (lambda _: _with("main", "main/escaped.py"), "is a file and also the directory"),
    "the same path twice": (lambda _: _with("a.py", "a.py"), "is listed twice"),
    "100 MB": (lambda _: _with("a.py", size=HUGE), f"size {HUGE} bytes, at most 33554432 are allowed"),
    "a release of 2 GB": (
        lambda _: _with(*(f"{number}.bin" for number in range(64)), size=32 * 1024 * 1024),
        "at most 1073741824 are allowed",
    ),
    "no versioning": (lambda _: _with("a.py", version_id="null"), "turn the bucket's versioning on"),
    "location outside of the tree": (
        lambda _: _with("a.py", locations=(CodeLocation("os", "os"),)),
        "module 'os' is not in the package 'dags'",
    ),
    "location named as a path": (
        lambda _: _with("a.py", locations=(CodeLocation("../main", "dags.a"),)),
        "is not a Python identifier",
    ),
    "edited": (
        lambda rig: dump_manifest(rig.manifest()).replace(b'"main"', b'"niam"'),
        "does not belong to its content",
    ),
    "newer schema": (lambda _: _with("a.py").replace(b'"schema":1', b'"schema":2'), "update the container image"),
    "nested without end": (lambda _: b"[" * 1_000_000, "not a JSON document"),
}


@pytest.mark.parametrize(("document", "said"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_manifest_written_by_hand(rig: Rig, document: Callable[[Rig], bytes], said: str) -> None:
    """Refused as a whole, and nothing is written, least of all outside of the releases' directory."""
    served = rig.pointer()[0]
    before = _files(rig)
    rig.point_to_manifest("0123456789abcdef", document(rig))
    rig.wait_error(said)
    assert _files(rig) == before
    rig.point(served)
    rig.wait_calm()
    rig.check_probe()


POINTERS: dict[str, tuple[Callable[[Rig], bytes], str]] = {
    "malformed": (lambda _: b"{ cut", NOT_JSON),
    "empty": (lambda _: b"", "it starts with ''"),
    "not UTF-8": (lambda _: b"\xff\xfe", NOT_JSON),
    "newer schema": (lambda _: b'{"schema": 2, "release": "0123456789abcdef"}', "update the container image"),
    "path for a release": (
        lambda rig: rig.pointer()[0].replace(rig.release.encode(), b"../../../dags/x/"),
        "is not 16 hex digits",
    ),
    "missing manifest": (
        lambda rig: rig.pointer()[0].replace(rig.release.encode(), b"0123456789abcdef"),
        "releases/0123456789abcdef.json (version ",
    ),
}


@pytest.mark.parametrize(("document", "said"), POINTERS.values(), ids=POINTERS)
def test_pointer_written_by_hand(rig: Rig, document: Callable[[Rig], bytes], said: str) -> None:
    served = rig.pointer()[0]
    rig.point(document(rig))
    rig.wait_error(said)
    rig.point(served)
    rig.wait_calm()
    rig.check_probe()


def test_version_that_is_gone(rig: Rig) -> None:
    """The pinned version of a file was deleted before the task had it; publishing again repairs it."""
    with rig.proxy.fault(proxy.hang, FILE):
        rig.publish()
        wait_for("the fetch", lambda: rig.proxy.struck)
        version = next(entry.version_id for entry in rig.manifest().files if entry.path == "main/__init__.py")
        rig.bucket.s3.delete_object(Bucket=rig.bucket.name, Key="dags/main/__init__.py", VersionId=version)
    rig.wait_error(f"dags/main/__init__.py (version {version}) cannot be read")
    rig.wait_served(*rig.publish())
    rig.check_probe()


def test_wrong_checksum_in_the_manifest(rig: Rig) -> None:
    served, manifest = rig.pointer()[0], rig.manifest()
    files = tuple(replace(e, sha256=hashlib.sha256(e.path.encode()).hexdigest()) for e in manifest.files)
    wrong = replace(manifest, files=files, id=release_id(files, manifest.locations))
    rig.point_to_manifest(wrong.id, dump_manifest(wrong))
    rig.wait_error("is not what its manifest says: SHA-256")
    rig.point(served)
    rig.wait_calm()
    rig.check_probe()


def test_pointer_that_is_no_good_takes_no_task_down(rig: Rig) -> None:
    """A publisher of tomorrow: tasks serve on and stay healthy however long it lasts, and new ones fall back."""
    served = rig.pointer()[0]
    rig.point(b'{"schema": 2, "release": "0123456789abcdef"}')
    task = rig.start("webserver", DAGSTER_STALE_SECONDS="3")
    task.wait_release(rig.release)
    wait_for("the UI", lambda: rig.assets(task), until=lambda found: found == {rig.asset})
    looks = task.health()[1]["sync_failures"]
    since = task.health()[1]["serving_since"]
    code, body = wait_for(
        "more failures, for longer than a task may be stale",
        task.health,
        until=lambda seen: seen[1]["release_age_seconds"] > 6 and seen[1]["sync_failures"] > looks,
    )
    assert (code, body["status"], body["serving_since"]) == (200, "serving", since)
    assert "update the container image" in body["error"]
    assert task.stop() == 0
    rig.wait_error("update the container image")
    rig.point(served)
    rig.wait_calm()
    rig.check_probe()


def test_pointer_is_deleted(rig: Rig) -> None:
    rig.bucket.s3.delete_object(Bucket=rig.bucket.name, Key="releases/current")
    rig.wait_error("releases/current was deleted from the bucket")
    rig.wait_served(*rig.publish())
    rig.check_probe()


def test_bucket_is_deleted_and_made_again(rig: Rig) -> None:
    objects = rig.bucket.s3.list_object_versions(Bucket=rig.bucket.name)
    for each in objects.get("Versions", []) + objects.get("DeleteMarkers", []):
        rig.bucket.s3.delete_object(Bucket=rig.bucket.name, Key=each["Key"], VersionId=each["VersionId"])
    rig.bucket.s3.delete_bucket(Bucket=rig.bucket.name)
    rig.wait_error("404 NoSuchBucket")
    create_bucket(rig.endpoint, rig.bucket.name)
    rig.wait_served(*rig.publish())
    rig.check_probe()


@pytest.mark.parametrize("paths", [POINTER, MANIFEST, FILE], ids=["pointer", "manifest", "file"])
def test_sigterm_while_s3_hangs(rig: Rig, paths: str) -> None:
    """The task ends in time and with all its processes, however long a request may take."""
    with rig.proxy.fault(proxy.hang, paths):
        task = rig.start("daemon", DAGSTER_S3_TIMEOUT_SECONDS="3600")
        # The task of the rig is struck too: only when this one has started does it obey SIGTERM.
        wait_for("the start", lambda: any('"supervisor_started"' in line for line in task.lines))
        wait_for("a request that hangs", lambda: rig.proxy.struck)
        assert task.stop() == 0
        assert task.session() == []


def test_code_server_dies_while_s3_hangs(rig: Rig) -> None:
    task = rig.start("webserver", DAGSTER_S3_TIMEOUT_SECONDS="3600")
    task.wait_release(rig.release)
    wait_for("the UI", lambda: rig.assets(task), until=lambda found: found == {rig.asset})
    with Probe(task.ui, "main") as probe, rig.proxy.fault(proxy.hang, POINTER):
        wait_for("a poll that hangs", lambda: task.health()[1]["sync_age_seconds"], until=lambda age: age > 2)
        psutil.Process(task.health()[1]["children"]["code server main"]).kill()
        wait_for("another server", lambda: task.health()[1]["server_restarts"])
        wait_for("the UI", lambda: rig.assets(task), until=lambda found: found == {rig.asset})
        asked = probe.asked
        wait_for("two more answers", lambda: probe.asked >= asked + 2)
    assert probe.failures == []
    assert task.stop() == 0
    rig.wait_calm()
    rig.check_probe()


def _peak_memory(rig: Rig) -> int:
    """Return the most memory that the supervisor has ever had resident, in bytes (proc(5), VmHWM)."""
    status = Path(f"/proc/{rig.task.process.pid}/status")
    if not status.exists():
        return psutil.Process(rig.task.process.pid).memory_info().rss
    line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _files(rig: Rig) -> set[Path]:
    """Return all files below the directories of the test, but those of Dagster's storage."""
    return {path for path in rig.base.rglob("*") if path.is_file() and "storage" not in path.parts}
