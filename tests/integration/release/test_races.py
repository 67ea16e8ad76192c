"""Publishers at once, over and over: of each pointer exactly one replaces it, and losers leave nothing behind.

They are processes, and the emulator is the project's own, which serves requests at the same time. In every other round
a gate before it lets the writes of the pointer go at one moment, in the rest everything runs as it comes.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local import services
from local.settings import Settings, free_ports
from module_utils.dag_manifest import Pointer, file_key, manifest_key, parse_manifest, parse_pointer
from module_utils.dag_publish import NOTE_LIFETIME
from tests.e2e.dagster_client import wait_for
from tests.e2e.platform_under_test import Probe
from tests.integration.faults.proxy import POINTER, clock
from tests.integration.release.gate import Gate, Hold
from tests.integration.release.publisher import Publisher, publish_once
from tests.integration.release.support import assert_whole_and_tidy, keys, write_tree
from tests.integration.release.test_deploy_dags import DEFS
from tests.integration.runtime.conftest import Task, blank_storage

__all__ = ["blank_storage"]

ROUNDS = 30
ROUNDS_WITH_UI = 6
MOST = 5
"""Publishers in every third round; the others have two."""

LOST = re.compile(
    r"Somebody else published at the same time and was first: release (?P<release>[0-9a-f]{16}), published by "
    r"(?P<who>publisher-\d) at (?P<when>[-0-9T:.]+Z), is served now\. Nothing of this release \([0-9a-f]{16}\) is live "
    r"and nothing of theirs was lost\. Bring your tree up to date with theirs and run the same command again\."
)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = Settings(tmp_path_factory.mktemp("races") / "state", *free_ports(3))
    services.EMULATOR.start(settings)
    try:
        yield settings.aws_url
    finally:
        services.EMULATOR.stop(settings)


@pytest.fixture
def gate(endpoint: str) -> Iterator[Gate]:
    gate = Gate(endpoint)
    yield gate
    gate.close()


@pytest.fixture
def publishers(bucket: tuple[Any, str], environment: dict[str, str], gate: Gate) -> Iterator[list[Publisher]]:
    started = [Publisher(gate.url, environment, bucket[1], f"publisher-{number}") for number in range(MOST)]
    yield started
    for publisher in started:
        publisher.kill()


def write_trees(root: Path, base: Path, count: int, kind: int) -> list[Path]:
    """Write what each publisher of a round publishes, into new copies of ``root``.

    Kind 0 has the same content for all, kind 1 the same paths with other content, kind 2 has other paths too.
    """
    trees = []
    for each in range(count):
        tree = shutil.copytree(root, base / str(each))
        (tree / f"main/{'ab'[kind % 2]}.py").unlink()
        mark = f"x = ({base.name}, {each if kind else 0})\n"
        write_tree(tree, {"main/__init__.py": mark, "main/same.py": mark})
        if kind == 2:
            write_tree(tree, {f"main/only_{each}.py": mark})
        trees.append(tree)
    return trees


def history(s3: Any, bucket: str) -> list[Pointer]:
    """Return all pointers there have been, oldest first."""
    versions = s3.list_object_versions(Bucket=bucket, Prefix="releases/current")["Versions"]
    bodies = [
        s3.get_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])["Body"].read()
        for version in versions
    ]
    return [parse_pointer(body) for body in reversed(bodies)]


def pinned(s3: Any, bucket: str, pointers: list[Pointer]) -> set[tuple[str, str]]:
    """Return key and version of everything that releases hold: manifests and files."""
    found = set()
    for pointer in pointers:
        key, version = manifest_key("", pointer.release), pointer.manifest_version_id
        manifest = parse_manifest(s3.get_object(Bucket=bucket, Key=key, VersionId=version)["Body"].read())
        found |= {(key, version)} | {(file_key("", entry.path), entry.version_id) for entry in manifest.files}
    return found


def stored(s3: Any, bucket: str) -> set[tuple[str, str]]:
    """Return key and version of everything in the bucket but pointers and notes."""
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket)
    found = {(version["Key"], version["VersionId"]) for page in pages for version in page.get("Versions", [])}
    return {(key, version) for key, version in found if not key.startswith(("releases/current", "releases/pending/"))}


def let_notes_expire(gate: Gate, bucket: str, root: Path) -> None:
    """Publish what is served, when it is later by the clock of S3."""
    with gate.fault(clock(NOTE_LIFETIME.total_seconds() + 60)), pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", gate.url)
        assert publish_once(bucket, root, "later")["moved"] is False


def test_many_rounds(bucket: tuple[Any, str], gate: Gate, publishers: list[Publisher], root: Path) -> None:
    s3, name = bucket
    base = root.parent
    publish_once(name, root, "first")
    races = 0
    for number in range(ROUNDS):
        at_one_moment = number % 2 == 0
        racing = publishers[: MOST if number % 3 == 0 else 2]
        trees = write_trees(root, base / str(number), len(racing), number // 3 % 3)
        before = history(s3, name)
        with gate.holding(Hold("PUT", POINTER if at_one_moment else "^$")) as hold:
            for publisher, tree in zip(racing, trees, strict=True):
                publisher.begin(tree)
            if at_one_moment:
                hold.wait(len(racing))
                hold.open()
            results = [publisher.result() for publisher in racing]

        new = history(s3, name)[len(before) :]
        moved = [publisher.author for publisher, result in zip(racing, results, strict=True) if result.get("moved")]
        assert sorted(moved) == sorted(pointer.author for pointer in new)
        assert len(moved) == 1 if at_one_moment else len(moved) >= 1
        for pointer, earlier in zip(new, [before[-1], *new], strict=False):
            # The same content again is a repair: the way back stays where it was.
            repair = pointer.release == earlier.release
            assert pointer.previous == (earlier.previous if repair else earlier.release)
        for result in results:
            if "error" in result:
                races += 1
                assert result["error"] == "LostRaceError"
                told = LOST.fullmatch(result["text"])
                assert told, result["text"]
                assert told.groups() in [(pointer.release, pointer.author, pointer.published_at) for pointer in new]
            elif not result["moved"]:
                assert result["release"] in [pointer.release for pointer in new]
        served = next(
            tree for tree, result in zip(trees, results, strict=True) if result.get("release") == new[-1].release
        )
        assert_whole_and_tidy(s3, name, served)
        if number % 3 == 2:
            let_notes_expire(gate, name, served)
            assert keys(s3, "releases/pending/", name) == []
    assert races > 0
    assert stored(s3, name) == pinned(s3, name, history(s3, name)), "what losers had uploaded is gone"


@dataclass(frozen=True)
class Raced:
    """The bucket as ``Task`` wants it."""

    endpoint: str
    name: str


@pytest.fixture
def base(blank_storage: Path, tmp_path: Path) -> Path:
    """A directory with a storage for a task."""
    shutil.copytree(blank_storage, tmp_path / "storage")
    return tmp_path


def test_web_ui_while_publishers_race(
    endpoint: str,
    bucket: tuple[Any, str],
    gate: Gate,
    publishers: list[Publisher],
    base: Path,
) -> None:
    """Not a request fails, and no task ever takes up what a loser had."""
    s3, name = bucket
    root = write_tree(base / "tree", {"__init__.py": "", "main/__init__.py": DEFS.format(name="first")})
    publish_once(name, root, "first")
    task = Task("webserver", Raced(endpoint, name), base / "webserver", DAGSTER_POLL_SECONDS="0.2")
    try:
        task.wait_release(history(s3, name)[-1].release)
        wait_for("the first assets", lambda: shown(task), until={"first"}.__eq__)
        with Probe(task.ui, "main") as probe:
            for number in range(ROUNDS_WITH_UI):
                racing = publishers[: MOST if number % 3 == 0 else 2]
                with gate.holding(Hold("PUT", POINTER)) as hold:
                    for publisher in racing:
                        asset = f"asset_{number}_of_{publisher.author[-1]}"
                        tree = shutil.copytree(root, base / asset)
                        publisher.begin(write_tree(tree, {"main/__init__.py": DEFS.format(name=asset)}))
                    hold.wait(len(racing))
                    hold.open()
                    results = [publisher.result() for publisher in racing]
                winner = history(s3, name)[-1]
                assert [result.get("release") for result in results if "error" not in result] == [winner.release]
                task.wait_release(winner.release)
                won = f"asset_{number}_of_{winner.author[-1]}"
                wait_for(f"{won} in the UI", lambda: shown(task), until={won}.__eq__)
        assert probe.asked > 0
        assert probe.failures == []
        taken = {state[which] for state in task.states() for which in ("release", "target")} - {None}
        assert taken <= {pointer.release for pointer in history(s3, name)}
    finally:
        task.clean_up()


def shown(task: Task) -> frozenset[str]:
    """Return the assets that the web UI of a task shows."""
    try:
        return task.ui.assets("main")
    except OSError:
        return frozenset()
