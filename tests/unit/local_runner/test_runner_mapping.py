"""Container paths, ports and addresses on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.runner.mapping import HostView

VIEW = HostView(
    {
        "/opt/dagster": Path("/state/image"),
        "/tmp": Path("/tmp/dagster-0-abcdef/12345678/tmp"),
        "/var/lib/dagster": Path("/state/tasks/t/volumes/releases"),
        "/var/lib/dagster/cache": Path("/state/cache"),
    },
    {3000: 45001, 8080: 45002},
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/opt/dagster", "/state/image"),
        ("/opt/dagster/entrypoint.sh", "/state/image/entrypoint.sh"),
        ("/opt/dagster2/x", "/opt/dagster2/x"),
        ("/usr/opt/dagster", "/usr/opt/dagster"),
        ("/var/lib/dagster/cache/x", "/state/cache/x"),
        ("/var/lib/dagster/home", "/state/tasks/t/volumes/releases/home"),
        # A directory here that looks like a container path is not mapped again.
        ("/tmp/compute-logs", "/tmp/dagster-0-abcdef/12345678/tmp/compute-logs"),
        ("--home=/var/lib/dagster", "--home=/state/tasks/t/volumes/releases"),
        (
            "/opt/dagster/a:/tmp/b",
            "/state/image/a:/tmp/dagster-0-abcdef/12345678/tmp/b",
        ),
        ("test -e /opt/dagster/x || exit 1", "test -e /state/image/x || exit 1"),
        ("s3://bucket/tmp/x", "s3://bucket/tmp/x"),
        ("3000", "45001"),
        ("8080", "45002"),
        ("30000", "30000"),
        ("port 3000", "port 3000"),
        ("²", "²"),
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104, what is replaced
        ("http://0.0.0.0:9", "http://127.0.0.1:9"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("10.0.0.0", "10.0.0.0"),
        ("10.0.0.0.0", "10.0.0.0.0"),
        ("", ""),
    ],
)
def test_values(text: str, expected: str) -> None:
    assert VIEW.value(text) == expected


def test_without_mounts_paths_stay() -> None:
    assert HostView().value("/opt/dagster/x") == "/opt/dagster/x"


def test_words_and_environment() -> None:
    assert VIEW.words(["/opt/dagster/entrypoint.sh", "webserver"]) == ["/state/image/entrypoint.sh", "webserver"]
    assert VIEW.environment({"PORT": "3000"}) == {"PORT": "45001"}


def test_path() -> None:
    assert VIEW.path("/opt/dagster/x") == Path("/state/image/x")
    assert VIEW.path("/srv") is None
