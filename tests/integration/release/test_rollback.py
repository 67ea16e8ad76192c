"""Serving an earlier release again, and forgetting old ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from module_utils import dag_publish
from module_utils.dag_publish import (
    LostRaceError,
    Origin,
    Published,
    PublishError,
    Retention,
    Store,
    create_store,
    find_leftovers,
    find_release,
    make_plan,
    make_rollback_plan,
    publish,
    read_current,
)
from module_utils.dag_tree import read_tree
from tests.integration.release.support import (
    assert_whole_and_tidy,
    aws_environment,
    create_bucket,
    emulator,
    keys,
    served,
    write_tree,
)

ADA = Origin("ada", "a1b2c3")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with emulator() as url:
        yield url


class Bench:
    """A bucket, a directory to publish from, and the two commands."""

    def __init__(self, endpoint: str, name: str, root: Path) -> None:
        self.s3, self.name, self.root = create_bucket(endpoint, name), name, root
        self.store = create_store(name)

    def deploy(self, files: dict[str, str]) -> Published:
        """Publish a directory that holds one location and ``files``."""
        write_tree(self.root, {"__init__.py": "", "main/__init__.py": "", **files})
        for path in self.root.rglob("*.txt"):
            if path.relative_to(self.root).as_posix() not in files:
                path.unlink()
        store = create_store(self.name)
        return publish(store, make_plan(store, read_tree(str(self.root)), read_current(store)), ADA)

    def rollback(self, release: str = "", store: Store | None = None) -> Published:
        store = store or create_store(self.name)
        current = read_current(store)
        target = find_release(store, current, release)
        return publish(store, make_rollback_plan(store, target, current), Origin("bob", target.git_revision))

    def contents(self) -> dict[str, bytes]:
        """Return what tasks serve of the text files."""
        pointer, _, files = served(self.s3, self.name)
        assert pointer.release
        return {path: body for path, body in files.items() if path.endswith(".txt")}


@pytest.fixture
def bench(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    for name, value in aws_environment(endpoint).items():
        monkeypatch.setenv(name, value)
    name = tmp_path.name.lower().replace("_", "-").strip("-")
    return Bench(endpoint, name, tmp_path / "tree")


def test_there_and_back_again(bench: Bench) -> None:
    first = bench.deploy({"main/a.txt": "1", "main/b.txt": "same", "main/gone.txt": "x"}).pointer
    second = bench.deploy({"main/a.txt": "2", "main/b.txt": "same", "main/new.txt": "y"}).pointer

    back = bench.rollback().pointer
    assert back.release == first.release
    assert (back.previous, back.author, back.git_revision) == (second.release, "bob", "a1b2c3")
    assert bench.contents() == {"main/a.txt": b"1", "main/b.txt": b"same", "main/gone.txt": b"x"}
    assert_whole_and_tidy(bench.s3, bench.name)

    forth = bench.rollback().pointer
    assert forth.release == second.release, "twice in a row is where it was"
    assert bench.contents() == {"main/a.txt": b"2", "main/b.txt": b"same", "main/new.txt": b"y"}
    assert_whole_and_tidy(bench.s3, bench.name)

    third = bench.deploy({"main/a.txt": "3", "main/b.txt": "same", "main/new.txt": "y"})
    assert third.moved
    assert bench.contents()["main/a.txt"] == b"3"
    assert bench.rollback(first.release[:6]).pointer.release == first.release
    assert not bench.rollback(first.release).moved, "it is served already"
    assert bench.rollback(third.pointer.release).moved
    assert_whole_and_tidy(bench.s3, bench.name)


def test_only_what_differs_is_copied(bench: Bench) -> None:
    bench.deploy({f"main/{number}.txt": "same" for number in range(20)} | {"main/a.txt": "1"})
    bench.deploy({f"main/{number}.txt": "same" for number in range(20)} | {"main/a.txt": "2"})
    store = create_store(bench.name)
    made: list[str] = []
    store._client.meta.events.register("provide-client-params.s3", lambda model, **_: made.append(model.name))
    bench.rollback(store=store)
    assert made.count("CopyObject") == 1
    assert len(made) <= 14, made


@pytest.mark.parametrize(
    ("release", "message"),
    [
        ("0000000000000000", "is not a release of this bucket, or is no longer kept"),
        ("abc", "is too short: at least 4 characters"),
        ("", "is the first one: there is none to roll back to"),
    ],
)
def test_choice_that_cannot_be_made_is_explained(bench: Bench, release: str, message: str) -> None:
    only = bench.deploy({"main/a.txt": "1"}).pointer
    before = keys(bench.s3, bucket=bench.name)
    with pytest.raises(PublishError) as caught:
        bench.rollback(release)
    assert message in str(caught.value)
    assert only.release in str(caught.value), "the choices are listed"
    assert keys(bench.s3, bucket=bench.name) == before


def test_nothing_to_roll_back_in_an_empty_bucket(bench: Bench) -> None:
    with pytest.raises(PublishError, match="Nothing is released that could be rolled back"):
        bench.rollback()


def test_expired_versions_are_named_and_nothing_changes(bench: Bench) -> None:
    first = bench.deploy({"main/a.txt": "1", "main/b.txt": "1"}).pointer
    second = bench.deploy({"main/a.txt": "2", "main/b.txt": "1"}).pointer
    oldest = bench.s3.list_object_versions(Bucket=bench.name, Prefix="dags/main/a.txt")["Versions"][-1]
    bench.s3.delete_object(Bucket=bench.name, Key=oldest["Key"], VersionId=oldest["VersionId"])
    with pytest.raises(PublishError) as caught:
        bench.rollback()
    text = str(caught.value)
    assert f"Release {first.release} cannot be restored" in text
    assert "(main/a.txt)" in text
    assert "Nothing was changed" in text
    assert "a1b2c3" in text, "the git revision to deploy instead"
    assert served(bench.s3, bench.name)[0] == second


def test_rollback_and_deploy_at_once(bench: Bench) -> None:
    """One wins; the loser's copies leave nothing behind."""
    bench.deploy({"main/a.txt": "1"})
    second = bench.deploy({"main/a.txt": "2"}).pointer
    store = create_store(bench.name)
    current = read_current(store)
    plan = make_rollback_plan(store, find_release(store, current, ""), current)
    third = bench.deploy({"main/a.txt": "3"}).pointer
    with pytest.raises(LostRaceError, match="Somebody else published at the same time"):
        publish(store, plan, ADA)
    assert served(bench.s3, bench.name)[0] == third
    assert_whole_and_tidy(bench.s3, bench.name)
    assert bench.rollback().pointer.release == second.release


class Killed(BaseException):
    """Stands for the death of the process."""


@pytest.mark.parametrize(("operation", "key"), [("CopyObject", "dags/"), ("PutObject", "releases/current")])
def test_rollback_that_dies_changes_nothing_and_is_tidied_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, operation: str, key: str
) -> None:
    bench.deploy({"main/a.txt": "1", "main/b.txt": "1"})
    second = bench.deploy({"main/a.txt": "2", "main/b.txt": "2"}).pointer
    store = create_store(bench.name)

    def die(params: dict[str, Any], model: Any, **_: Any) -> None:
        if model.name == operation and params["Key"].startswith(key):
            raise Killed

    store._client.meta.events.register("provide-client-params.s3", die)
    with pytest.raises(Killed):
        bench.rollback(store=store)
    pointer, _, _ = served(bench.s3, bench.name)
    assert pointer == second
    assert bench.contents() == {"main/a.txt": b"2", "main/b.txt": b"2"}
    monkeypatch.setattr(dag_publish, "NOTE_LIFETIME", timedelta(seconds=-1))
    bench.deploy({"main/a.txt": "2", "main/b.txt": "2"})
    assert_whole_and_tidy(bench.s3, bench.name)
    assert bench.contents() == {"main/a.txt": b"2", "main/b.txt": b"2"}


def _kept(bench: Bench) -> set[str]:
    return {
        key.removeprefix("releases/").removesuffix(".json")
        for key in keys(bench.s3, "releases/", bench.name)
        if key.endswith(".json")
    }


class LaterStore(Store):
    """S3 as it is ``days`` later. What was written first is a second older a place in ``order``: S3 counts seconds."""

    def __init__(self, bench: Bench, order: list[str], days: int) -> None:
        super().__init__(bench.store._client, bench.name)
        self._order, self._days = order, days

    def release_versions(self) -> tuple[list[dict[str, Any]], datetime]:
        versions, now = super().release_versions()
        for version in versions:
            for place, release in enumerate(self._order):
                if release in version["Key"]:
                    version["LastModified"] = version["LastModified"].replace(second=0) + timedelta(seconds=place)
        return versions, now + timedelta(days=self._days)


def test_old_releases_are_forgotten(bench: Bench) -> None:
    ids = [bench.deploy({"main/a.txt": str(number)}).pointer.release for number in range(6)]
    for release in ids:
        body = json.dumps({"schema": 1}).encode()
        bench.s3.put_object(Bucket=bench.name, Key=f"releases/{release}.definitions.json", Body=body)
    assert find_leftovers(bench.store, Retention(2, 30), []).objects == (), "all are young"

    store = LaterStore(bench, ids, days=31)
    assert find_leftovers(store, Retention(6, 30), []).objects == (), "all are among the newest"
    old = find_leftovers(store, Retention(1, 30), [ids[1]])
    # The newest; the one before it, to which a rollback goes; and one that a task serves.
    assert old.releases == (ids[3], ids[2], ids[0])
    store.delete(old.objects)
    assert {release for release in _kept(bench) if "definitions" not in release} == {ids[1], ids[4], ids[5]}
    assert not [key for key in keys(bench.s3, "releases/", bench.name) if ids[0] in key], "definitions go too"
    versions = bench.s3.list_object_versions(Bucket=bench.name, Prefix=f"releases/{ids[0]}")
    assert "Versions" not in versions, "for good"
    assert served(bench.s3, bench.name)[0].release == ids[5]
    with pytest.raises(PublishError, match="no longer kept"):
        bench.rollback(ids[0])
    assert bench.rollback(ids[1]).pointer.release == ids[1]
    assert find_leftovers(store, Retention(1, 30), [ids[4]]).releases == ()
    pointers = bench.s3.list_object_versions(Bucket=bench.name, Prefix="releases/current")["Versions"]
    assert len(pointers) == 2, "one kept, and that of the rollback"


def test_rollback_makes_a_release_young_again(bench: Bench) -> None:
    ids = [bench.deploy({"main/a.txt": str(number)}).pointer.release for number in range(4)]
    bench.rollback(ids[0])
    store = LaterStore(bench, [*ids[1:], ids[0]], days=31)
    assert find_leftovers(store, Retention(2, 30), []).releases == (ids[2], ids[1])
