"""A publisher that is killed: what is served stays whole, and the next publishers leave nothing of it behind.

The publisher is a process behind a gate that holds one of its requests; SIGKILL ends it there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from dagster_ecs_runtime import settings
from dagster_ecs_runtime.bucket import ReleaseBucket
from dagster_ecs_runtime.releases import Releases
from module_utils.dag_publish import NOTE_LIFETIME
from tests.e2e.dagster_client import wait_for
from tests.e2e.platform_under_test import Probe
from tests.integration.faults.proxy import FILE, MANIFEST, POINTER, clock
from tests.integration.release.gate import Gate, Hold
from tests.integration.release.publisher import Publisher, publish_once
from tests.integration.release.support import (
    BUCKET,
    ROOT,
    assert_whole_and_tidy,
    contents,
    create_bucket,
    keys,
    served,
    write_tree,
)
from tests.integration.release.test_deploy_dags import DEFS, succeed
from tests.integration.runtime.conftest import Bucket, Task, blank_storage

__all__ = ["blank_storage"]

NOTE = r"/releases/pending/"
DELETION = r"\?delete"

STAGES: dict[str, Callable[[], Hold]] = {
    "before the note": lambda: Hold("PUT", NOTE),
    "after the note, before the files": lambda: Hold("PUT", FILE),
    "during the files": lambda: Hold("PUT", FILE, passing=2),
    "after a part of the files": lambda: Hold("PUT", FILE, "answer", passing=2),
    "after the files": lambda: Hold("PUT", MANIFEST),
    "after the manifest": lambda: Hold("PUT", MANIFEST, "answer"),
    "before the pointer": lambda: Hold("PUT", POINTER),
    "after the pointer": lambda: Hold("PUT", POINTER, "answer"),
    "before it deletes": lambda: Hold("POST", DELETION),
    "after it has deleted, before the note is removed": lambda: Hold("POST", DELETION, passing=1),
}
MOVED = ("after the pointer", "before it deletes", "after it has deleted, before the note is removed")


@pytest.fixture
def gate(endpoint: str) -> Iterator[Gate]:
    gate = Gate(endpoint)
    yield gate
    gate.close()


class Container:
    """What the container program does with the bucket."""

    def __init__(self, environment: dict[str, str], bucket: str, base: Path) -> None:
        variables = {
            "AWS_ALLOW_HTTP": "true",
            "DAGSTER_S3_BUCKET": bucket,
            "DAGSTER_RELEASES_DIR": str(base),
        }
        self._bucket = ReleaseBucket(settings.read("webserver", environment | variables))
        self._releases = Releases(base, self._bucket)

    def fetch(self) -> dict[str, bytes]:
        """Poll, fetch anew what is served, which checks every file's SHA-256, and return the files."""
        pointer = self._bucket.poll(None).pointer
        assert pointer is not None
        self._releases.collect([])
        directory = self._releases.fetch(self._bucket.manifest(pointer.release, pointer.manifest_version_id)) / "dags"
        files = (path for path in directory.rglob("*") if path.is_file())
        return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


class Scene:
    """A bucket that serves ``root``, and ``changed``: a file is another, one is gone, some are new."""

    def __init__(self, bucket: tuple[Any, str], environment: dict[str, str], gate: Gate, root: Path) -> None:
        self.s3, self.name = bucket
        self.root, self.gate = root, gate
        self.changed = shutil.copytree(root, root.with_name("changed"))
        (self.changed / "main/b.py").unlink()
        new = {f"main/new_{number}.py": "" for number in range(4)}
        write_tree(self.changed, {"main/a.py": "a = 2\n"} | new)
        self.container = Container(environment, self.name, root.with_name("releases"))
        assert self.moved(root)
        self._environment = environment

    def begin(self, hold: Hold) -> Publisher:
        """Let a publisher of ``changed`` come to where it is held."""
        publisher = Publisher(self.gate.url, self._environment, self.name, "killed")
        publisher.begin(self.changed)
        hold.wait()
        return publisher

    def moved(self, root: Path) -> bool:
        """Publish, and return whether that moved the pointer."""
        result = publish_once(self.name, root, "next")
        assert "error" not in result, result
        return bool(result["moved"])

    def assert_notes_end(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """When notes are old by the clock of S3, a publish without changes removes them."""
        with self.gate.fault(clock(NOTE_LIFETIME.total_seconds() + 60)), monkeypatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", self.gate.url)
            assert not self.moved(root)
        assert keys(self.s3, "releases/pending/", self.name) == []
        assert_whole_and_tidy(self.s3, self.name, root)


@pytest.fixture
def scene(bucket: tuple[Any, str], environment: dict[str, str], gate: Gate, root: Path) -> Scene:
    return Scene(bucket, environment, gate, root)


@pytest.mark.parametrize("stage", STAGES)
def test_killed(scene: Scene, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = served(scene.s3, scene.name)
    with scene.gate.holding(STAGES[stage]()) as hold:
        scene.begin(hold).kill()
    if stage in MOVED:
        assert scene.container.fetch() == contents(scene.changed)
    else:
        assert served(scene.s3, scene.name) == before
        assert scene.container.fetch() == contents(scene.root)

    assert scene.moved(scene.changed) is (stage not in MOVED)
    assert_whole_and_tidy(scene.s3, scene.name, scene.changed)
    assert scene.container.fetch() == contents(scene.changed)
    assert not scene.moved(scene.changed)
    scene.assert_notes_end(scene.changed, monkeypatch)


@pytest.mark.parametrize(
    ("stage", "covered"), [("after the note, before the files", True), ("before the pointer", False)]
)
def test_request_that_arrives_after_all(
    scene: Scene, stage: str, covered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead publisher's last requests were on their way, and reach S3 only when the next publisher has finished."""
    with scene.gate.holding(STAGES[stage]()) as hold:
        scene.begin(hold).kill()
        assert scene.moved(scene.changed)
        after = served(scene.s3, scene.name)
        arrived = len(scene.gate.requests) + hold.waiting
        hold.open()
        wait_for("the late requests", lambda: len(scene.gate.requests), until=lambda count: count == arrived)
    assert served(scene.s3, scene.name) == after
    assert scene.moved(scene.changed) is covered, "files that late ones have covered are uploaded once more"
    assert_whole_and_tidy(scene.s3, scene.name, scene.changed)
    assert not scene.moved(scene.changed)
    scene.assert_notes_end(scene.changed, monkeypatch)


@pytest.mark.parametrize("stage", ["after the pointer", "after a part of the files"])
def test_answers_that_are_lost(scene: Scene, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections break when S3 has stored what was sent; before it is sent again somebody else publishes.

    After the pointer that one builds on a release whose publisher does not know that it was served.
    """
    other = write_tree(shutil.copytree(scene.changed, scene.root.with_name("other")), {"main/new_0.py": "x = 1\n"})
    with scene.gate.holding(STAGES[stage]()) as hold:
        publisher = scene.begin(hold)
        assert scene.moved(other)
    assert publisher.result()["error"] == "LostRaceError"
    publisher.kill()
    assert scene.container.fetch() == contents(other)
    scene.moved(other)
    assert_whole_and_tidy(scene.s3, scene.name, other)
    scene.assert_notes_end(other, monkeypatch)


def test_killed_playbook(endpoint: str, gate: Gate, tmp_path: Path) -> None:
    """The command that users type, with all of its processes."""
    s3 = create_bucket(endpoint)
    root = write_tree(tmp_path / "tree", {"__init__.py": "", "sales/__init__.py": DEFS.format(name="revenue")})
    path = ("-e", json.dumps({"dags_path": str(root)}))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ANSIBLE_"))}
    with gate.holding(STAGES["after the manifest"]()) as hold:
        playbook = subprocess.Popen(
            [str(Path(sys.executable).with_name("ansible-playbook")), str(ROOT / "deploy_dags.yml"), *path],
            cwd=ROOT,
            env=environment | {"DAGSTER_LOCAL_AWS_PORT": str(urlsplit(gate.url).port)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        hold.wait()
        for process in [psutil.Process(playbook.pid), *psutil.Process(playbook.pid).children(recursive=True)]:
            process.kill()
        playbook.wait()
    assert "releases/current" not in keys(s3)
    assert "changed=1 " in succeed(endpoint, *path)
    assert_whole_and_tidy(s3, BUCKET, root)
    assert "changed=0 " in succeed(endpoint, *path)


def test_web_ui_while_publishers_die(
    endpoint: str, environment: dict[str, str], gate: Gate, blank_storage: Path, tmp_path: Path
) -> None:
    """One task serves on through it all: not a request fails, and each whole release that comes is served."""
    shutil.copytree(blank_storage, tmp_path / "storage")
    files = {"__init__.py": "", "main/__init__.py": DEFS.format(name="asset_0"), "main/data.txt": ""}
    tree = write_tree(tmp_path / "tree", files)
    bucket = Bucket(endpoint, tree)
    task = Task("webserver", bucket, tmp_path / "webserver", DAGSTER_POLL_SECONDS="0.2")
    try:
        release = bucket.publish()
        task.wait_release(release)
        with Probe(task.ui, "main") as probe:
            # The last first: a note of somebody who has died is a reason not to remove one's own.
            for number, stage in enumerate(reversed(STAGES)):
                asset = f"asset_{number + 1}"
                shutil.rmtree(tree / "main")
                files = {f"main/data_{number}_{each}.txt": "" for each in range(4)}
                write_tree(tree, files | {"main/__init__.py": DEFS.format(name=asset)})
                with gate.holding(STAGES[stage]()) as hold:
                    publisher = Publisher(gate.url, environment, bucket.name, "killed")
                    publisher.begin(tree)
                    hold.wait()
                    publisher.kill()
                if stage not in MOVED:
                    assert task.health()[1]["release"] == release
                release = bucket.publish()
                task.wait_release(release)
                wait_for(f"{asset} in the UI", lambda: task.ui.assets("main"), until={asset}.__eq__)
                assert_whole_and_tidy(bucket.s3, bucket.name, tree)
        assert probe.asked > 0
        assert probe.failures == []
    finally:
        task.clean_up()
