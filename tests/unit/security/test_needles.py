"""The search of tests/integration/secrets finds what is there, in whatever form, and nothing else."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.secrets.needles import Needles, files
from tests.integration.secrets.watch import Holder, Watch

SECRET = '/+=&"s3cret.with.signs' + "x" * 10

WRITTEN: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "cut off": lambda secret: secret[:20] + "...",
    "in JSON": json.dumps,
    "in JSON in JSON": lambda secret: json.dumps(json.dumps({"password": secret})),
    "in Python": repr,
    "in a URL": lambda secret: f"postgresql://user:{urllib.parse.quote(secret, safe='')}@host/",
    "in a query": lambda secret: urllib.parse.urlencode({"a": "b", "password": secret}),
    "in base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "in base64 after one byte": lambda secret: base64.b64encode(b"a" + secret.encode()).decode(),
    "in base64 after two bytes": lambda secret: base64.b64encode(b"ab" + secret.encode() + b"c").decode(),
    "in base64 for URLs": lambda secret: base64.urlsafe_b64encode(b"abc" + secret.encode()).decode(),
    "in a user and password of HTTP": lambda secret: base64.b64encode(f"user:{secret}".encode()).decode(),
    "in JSON in base64": lambda secret: base64.b64encode(json.dumps({"password": secret}).encode()).decode(),
}


@pytest.fixture
def needles() -> Needles:
    needles = Needles()
    needles.add("password", SECRET)
    return needles


@pytest.mark.parametrize("form", WRITTEN)
def test_a_secret_is_found(form: str, needles: Needles) -> None:
    written = WRITTEN[form](SECRET)
    assert needles.within(f"before {written} after") == {"password"}
    assert needles.within(f"before {WRITTEN[form](SECRET[::-1])} after") == set()


def test_several_values_have_one_name(needles: Needles) -> None:
    needles.add("password", "the.one.that.comes.next")
    assert needles.within("the.one.that.comes.next") == needles.within(SECRET) == {"password"}


def test_a_secret_that_could_be_anything_is_refused(needles: Needles) -> None:
    with pytest.raises(AssertionError, match="too short"):
        needles.add("key", "test")


def test_files_of_every_depth_are_looked_at(tmp_path: Path, needles: Needles) -> None:
    deep = tmp_path / "a" / ".b" / "c"
    deep.parent.mkdir(parents=True)
    deep.write_bytes(b"\0\xff" + SECRET.encode())
    (tmp_path / "link").symlink_to(deep)
    assert list(files([tmp_path, tmp_path / "missing"])) == [deep]
    assert needles.within(deep.read_bytes()) == {"password"}


def test_processes_are_seen_with_their_arguments_and_environment(tmp_path: Path, needles: Needles) -> None:
    (tmp_path / "seen").write_text(SECRET)
    sleeping = ["sleep", "1000"]
    with (
        subprocess.Popen([*sleeping], env={"PASSWORD": SECRET, "HOME": "/nowhere"}) as secretive,
        subprocess.Popen(["sh", "-c", 'read -r _; exec "$@"', SECRET], stdin=subprocess.PIPE) as careless,
    ):
        watch = Watch([tmp_path])
        try:
            watch.look()
        finally:
            secretive.kill()
            careless.kill()
    assert {name for command in watch.commands for name in needles.within(command)} == {"password"}
    assert Holder("password", os.getuid(), "/nowhere", "sleep 1000") in watch.holders(needles)
    assert needles.among(watch.contents) == {f"{tmp_path / 'seen'} ({len(SECRET)} bytes)": {"password"}}
