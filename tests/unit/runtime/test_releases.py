"""Releases on disk: whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dagster_ecs_runtime.bucket import SyncError
from dagster_ecs_runtime.manifest import CodeLocation, FileEntry, Manifest, Repository, release_id
from dagster_ecs_runtime.releases import Releases
from dagster_ecs_runtime.settings import OWNERS


class FakeBucket:
    """Files by version id; counts what is fetched."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents = contents
        self.fetched: list[str] = []

    def file(self, entry: FileEntry) -> Iterator[bytes]:
        self.fetched.append(entry.path)
        content = self.contents[entry.version_id]
        yield content[:2]
        yield content[2:]


def manifest(files: dict[str, bytes]) -> Manifest:
    """Return a manifest whose version ids are the paths."""
    entries = tuple(
        FileEntry(path, len(content), hashlib.sha256(content).hexdigest(), path)
        for path, content in sorted({"main/__init__.py": b"", **files}.items())
    )
    locations = (CodeLocation("main", "dags.main"),)
    return Manifest(release_id(entries, locations), "2026-01-01T00:00:00Z", "me", None, locations, entries)


def releases(root: Path, bucket: FakeBucket) -> Releases:
    return Releases(root, bucket)  # type: ignore[arg-type]


def test_fetch_places_every_file_read_only(tmp_path: Path) -> None:
    bucket = FakeBucket({"main/__init__.py": b"", "main/a.py": b"a = 1"})
    wanted = manifest({"main/a.py": b"a = 1"})
    directory = releases(tmp_path, bucket).fetch(wanted)
    assert directory == tmp_path / wanted.id
    path = directory / "dags/main/a.py"
    assert path.read_bytes() == b"a = 1"
    assert path.stat().st_mode & 0o777 == 0o444
    assert directory.stat().st_mode & 0o777 == 0o555


def test_owners_of_code_locations_lie_beside_the_manifest(tmp_path: Path) -> None:
    store = releases(tmp_path, FakeBucket({"main/__init__.py": b""}))
    single = manifest({})
    assert not (store.fetch(single) / OWNERS).exists()
    owners = (Repository("finance", ("main",), None, "me", "2026-01-01T00:00:00Z"),)
    several = replace(single, id=release_id(single.files, single.locations, owners), repositories=owners)
    assert json.loads((store.fetch(several) / OWNERS).read_bytes()) == {"main": "finance"}
    assert store.manifest(several.id) == several


def test_unchanged_files_are_not_fetched_again(tmp_path: Path) -> None:
    bucket = FakeBucket({"main/__init__.py": b"", "main/a.py": b"a = 1", "main/b.py": b"b = 2"})
    store = releases(tmp_path, bucket)
    store.fetch(manifest({"main/a.py": b"a = 1"}))
    bucket.fetched.clear()
    store.fetch(manifest({"main/a.py": b"a = 1", "main/b.py": b"b = 2"}))
    assert bucket.fetched == ["main/b.py"]


@pytest.mark.parametrize("content", [b"", b"a = 2", b"a = 1 and more"], ids=["cut", "corrupted", "longer"])
def test_wrong_content_is_refused_and_nothing_is_left(tmp_path: Path, content: bytes) -> None:
    bucket = FakeBucket({"main/__init__.py": b"", "main/a.py": content})
    with pytest.raises(SyncError, match=r"main/a\.py.*not what its manifest says"):
        releases(tmp_path, bucket).fetch(manifest({"main/a.py": b"a = 1"}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["changed", "gone", "a directory", "/etc/passwd", "/the same content", "/nowhere"])
def test_release_damaged_on_disk_is_made_again(tmp_path: Path, damage: str) -> None:
    """A path stands for a symbolic link to it, which is none of a release's even where its target is right."""
    bucket = FakeBucket({"main/__init__.py": b"", "main/a.py": b"a = 1"})
    wanted = manifest({"main/a.py": b"a = 1"})
    path = releases(tmp_path / "releases", bucket).fetch(wanted) / "dags/main/a.py"
    path.parent.chmod(0o755)
    moved = path.rename(tmp_path / "the same content")
    match damage:
        case "changed":
            path.write_bytes(b"damaged")
        case "a directory":
            path.mkdir()
        case "/the same content":
            path.symlink_to(moved)
        case _ if damage.startswith("/"):
            path.symlink_to(damage)
    releases(tmp_path / "releases", bucket).fetch(wanted)
    assert path.is_file()
    assert not path.is_symlink()
    assert path.read_bytes() == b"a = 1"


def test_damage_does_not_spread_by_hard_link(tmp_path: Path) -> None:
    bucket = FakeBucket({"main/__init__.py": b"", "main/a.py": b"a = 1", "main/b.py": b"b"})
    store = releases(tmp_path, bucket)
    damaged = store.fetch(manifest({"main/a.py": b"a = 1"})) / "dags/main/a.py"
    damaged.chmod(0o644)
    damaged.write_bytes(b"a = 9")
    second = store.fetch(manifest({"main/a.py": b"a = 1", "main/b.py": b"b"}))
    assert (second / "dags/main/a.py").read_bytes() == b"a = 1"


def test_collect_keeps_what_it_is_told_and_start_removes_what_was_cut_short(tmp_path: Path) -> None:
    bucket = FakeBucket({"main/__init__.py": b"", "main/a.py": b"a = 1", "main/b.py": b"b"})
    store = releases(tmp_path, bucket)
    first, second = manifest({"main/a.py": b"a = 1"}), manifest({"main/b.py": b"b"})
    store.fetch(first)
    store.fetch(second)
    store.collect([second.id])
    assert [path.name for path in tmp_path.iterdir()] == [second.id]
    (tmp_path / "half.tmp/dags").mkdir(parents=True)
    releases(tmp_path, bucket)
    assert [path.name for path in tmp_path.iterdir()] == [second.id]


def test_cancelled_fetch_leaves_nothing(tmp_path: Path) -> None:
    bucket = FakeBucket({"main/__init__.py": b""})
    with pytest.raises(SyncError, match="stopped"):
        releases(tmp_path, bucket).fetch(manifest({}), cancelled=lambda: True)
    assert list(tmp_path.iterdir()) == []
