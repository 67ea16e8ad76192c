"""Publishing against an S3 emulator: what is uploaded, in which order, who wins a race, how crashes are mended."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from module_utils import dag_publish
from module_utils.dag_publish import (
    LostRaceError,
    Origin,
    Plan,
    Published,
    PublishError,
    Store,
    create_store,
    explained,
    make_plan,
    publish,
    read_current,
    read_origin,
)
from module_utils.dag_tree import TreeError, read_tree
from tests.integration.release.support import (
    assert_whole_and_tidy,
    contents,
    create_bucket,
    keys,
    served,
    write_tree,
)

ORIGIN = Origin("ada", "a1b2c3")


class Killed(BaseException):
    """Stands for the death of the publisher: nothing in the program handles it."""


class Requests:
    """Counts the requests of a store, and may end the publisher before or after one of them."""

    def __init__(self, store: Store) -> None:
        self.made: list[tuple[str, str]] = []
        self.before: Callable[[str, str], None] | None = None
        self.after: Callable[[str, str], None] | None = None
        events = store._client.meta.events
        events.register("provide-client-params.s3", self._sending)
        events.register("after-call.s3", self._answered)
        self._thread = threading.local()

    def _sending(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        key = params.get("Key") or params.get("Prefix") or ""
        self._thread.key = key
        if self.before:
            self.before(model.name, key)
        self.made.append((model.name, key))

    def _answered(self, model: Any, **_: Any) -> None:
        if self.after:
            self.after(model.name, self._thread.key)

    def names(self) -> list[str]:
        return sorted(name for name, _ in self.made)


def plan_for(store: Store, root: Path) -> Plan:
    return make_plan(store, read_tree(str(root)), read_current(store))


def deploy(bucket: str, root: Path, prefix: str = "") -> Published:
    store = create_store(bucket, prefix)
    return publish(store, plan_for(store, root), ORIGIN)


def test_first_release(bucket: tuple[Any, str], root: Path) -> None:
    s3, name = bucket
    published = deploy(name, root)
    pointer, manifest, files = served(s3, name)
    assert published.moved
    assert published.pointer == pointer
    assert files == contents(root)
    assert [location.module for location in manifest.locations] == ["dags.main"]
    assert (manifest.author, manifest.git_revision, pointer.previous) == ("ada", "a1b2c3", None)
    assert keys(s3, "releases/", name) == sorted(["releases/current", f"releases/{manifest.id}.json"])


def test_same_tree_is_the_same_release_in_three_requests(bucket: tuple[Any, str], root: Path) -> None:
    _, name = bucket
    first = deploy(name, root)
    store = create_store(name)
    requests = Requests(store)
    plan = plan_for(store, root)
    again = publish(store, plan, Origin("somebody else", None))
    assert not plan.changes
    assert not again.moved
    assert again.pointer == first.pointer
    assert requests.names() == ["GetObject", "GetObject", "ListObjectsV2"]


def test_only_changed_files_are_uploaded_and_what_left_is_hidden(bucket: tuple[Any, str], root: Path) -> None:
    s3, name = bucket
    deploy(name, root)
    before, old, _ = served(s3, name)
    write_tree(root, {"main/a.py": "a = 2\n", "main/new.py": ""})
    (root / "main/b.py").unlink()
    store = create_store(name)
    requests = Requests(store)
    plan = plan_for(store, root)
    assert (plan.added, plan.changed, plan.removed) == (("main/new.py",), ("main/a.py",), ("main/b.py",))
    publish(store, plan, ORIGIN)
    puts = [key for operation, key in requests.made if operation == "PutObject"]
    assert sorted(key for key in puts if key.startswith("dags/")) == ["dags/main/a.py", "dags/main/new.py"]
    assert puts[0].startswith("releases/pending/")
    assert puts[-2:] == [f"releases/{plan.release}.json", "releases/current"]
    pointer, _, _ = served(s3, name)
    assert pointer.previous == before.release == old.id
    assert_whole_and_tidy(s3, name, root)
    # The release before stays restorable.
    for file in old.files:
        assert s3.get_object(Bucket=name, Key=f"dags/{file.path}", VersionId=file.version_id)["Body"].read() is not None


def test_uploads_carry_their_checksum(bucket: tuple[Any, str], root: Path) -> None:
    _, name = bucket
    store = create_store(name)
    seen: list[dict[str, Any]] = []
    store._client.meta.events.register(
        "provide-client-params.s3.PutObject", lambda params, **_: seen.append(dict(params))
    )
    publish(store, plan_for(store, root), ORIGIN)
    assert len(seen) == 7
    assert all(params["ChecksumSHA256"] for params in seen)
    pointer = next(params for params in seen if params["Key"] == "releases/current")
    assert pointer["IfNoneMatch"] == "*"


def test_prefixes_do_not_touch_each_other(bucket: tuple[Any, str], root: Path) -> None:
    s3, name = bucket
    deploy(name, root, "one/")
    write_tree(root, {"main/a.py": "a = 2\n"})
    deploy(name, root, "two/")
    assert served(s3, name, "one/")[2]["main/a.py"] == b"a = 1\n"
    assert served(s3, name, "two/")[2]["main/a.py"] == b"a = 2\n"


def test_plan_describes_itself(bucket: tuple[Any, str], root: Path) -> None:
    _, name = bucket
    first = deploy(name, root).pointer.release
    write_tree(root, {"main/a.py": "a = 22\n", "second/__init__.py": ""})
    (root / "main/b.py").unlink()
    plan = plan_for(create_store(name), root)
    assert plan.describe() == (
        f"release {first} -> {plan.release}\n+ location second\n+ second/__init__.py (0 bytes)\n"
        "~ main/a.py (7 bytes)\n- main/b.py\n"
    )
    shutil.rmtree(root / "second")
    assert plan_for(create_store(name), root).locations_removed == []


def test_removed_location_is_named(bucket: tuple[Any, str], root: Path) -> None:
    _, name = bucket
    write_tree(root, {"second/__init__.py": ""})
    deploy(name, root)
    shutil.rmtree(root / "second")
    assert plan_for(create_store(name), root).locations_removed == ["second"]


def test_loser_of_a_race_changes_nothing(bucket: tuple[Any, str], root: Path, tmp_path: Path) -> None:
    """Both read the same pointer; the second one to write it loses, and takes back what it uploaded."""
    s3, name = bucket
    deploy(name, root)
    winner_root, loser_root = tmp_path / "winner", tmp_path / "loser"
    for copy, text in ((winner_root, "winner"), (loser_root, "loser")):
        shutil.copytree(root, copy)
        write_tree(copy, {"main/a.py": f"a = '{text}'\n", f"main/{text}.py": ""})
    store = create_store(name)
    winner, loser = plan_for(store, winner_root), plan_for(store, loser_root)
    won = publish(store, winner, Origin("grace", None))
    with pytest.raises(LostRaceError, match=f"{won.pointer.release}, published by grace at .*run the same command"):
        publish(store, loser, ORIGIN)
    assert_whole_and_tidy(s3, name, winner_root)
    assert keys(s3, f"releases/{loser.release}", name) == []
    deploy(name, loser_root)
    assert_whole_and_tidy(s3, name, loser_root)
    assert keys(s3, "releases/pending/", name) == []


def test_race_with_the_same_tree_is_no_error(bucket: tuple[Any, str], root: Path) -> None:
    s3, name = bucket
    store = create_store(name)
    plans = [plan_for(store, root), plan_for(store, root)]
    first, second = (publish(store, plan, ORIGIN) for plan in plans)
    assert (first.moved, second.moved) == (True, False)
    assert first.pointer == second.pointer
    assert_whole_and_tidy(s3, name, root)


def test_exactly_one_of_many_publishers_wins(bucket: tuple[Any, str], root: Path, tmp_path: Path) -> None:
    s3, name = bucket
    trees = []
    for number in range(4):
        trees.append(tmp_path / f"tree-{number}")
        shutil.copytree(root, trees[-1])
    for turn in range(3):
        plans = []
        for number, tree in enumerate(trees):
            write_tree(tree, {"main/a.py": f"a = ({turn}, {number})\n"})
            store = create_store(name)
            plans.append((store, plan_for(store, tree)))
        barrier = threading.Barrier(len(trees))

        def run(item: tuple[Store, Plan], barrier: threading.Barrier = barrier) -> bool:
            barrier.wait(60)
            try:
                return publish(*item, ORIGIN).moved
            except LostRaceError:
                return False

        with ThreadPoolExecutor(len(plans)) as pool:
            outcomes = list(pool.map(run, plans))
        assert outcomes.count(True) == 1
        winner = trees[outcomes.index(True)]
        assert_whole_and_tidy(s3, name, winner)


def test_lost_answer_to_the_pointer_write_is_no_lost_race(bucket: tuple[Any, str], root: Path) -> None:
    """A write that arrived, whose answer did not, is retried and refused: by itself."""
    s3, name = bucket
    store = create_store(name)
    plan = plan_for(store, root)
    original = store.put_document

    def twice(key: str, body: bytes, **conditions: str) -> str:
        version = original(key, body, **conditions)
        return original(key, body, **conditions) if key == "releases/current" else version

    store.put_document = twice  # type: ignore[method-assign]
    assert publish(store, plan, ORIGIN).moved
    assert_whole_and_tidy(s3, name, root)


STAGES = {
    "before the note": ("before", "releases/pending/"),
    "after the note": ("after", "releases/pending/"),
    "before a file": ("before", "dags/main/a.py"),
    "after a file": ("after", "dags/main/a.py"),
    "before the manifest": ("before", "releases/"),
    "before the pointer": ("before", "releases/current"),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("next_one", ["same", "reverted", "other"])
def test_killed_publisher(bucket: tuple[Any, str], root: Path, tmp_path: Path, stage: str, next_one: str) -> None:
    """Nothing of it is served, and the next publisher leaves a tidy bucket, whatever it publishes."""
    s3, name = bucket
    deploy(name, root)
    before = served(s3, name)
    crashed = tmp_path / "crashed"
    shutil.copytree(root, crashed)
    write_tree(crashed, {"main/a.py": "a = 'crashed'\n", "main/orphan.py": "o\n"})
    (crashed / "main/b.py").unlink()
    store = create_store(name)
    plan = plan_for(store, crashed)
    requests = Requests(store)
    when, prefix = STAGES[stage]

    def kill(operation: str, key: str) -> None:
        manifest_too_early = stage == "before the manifest" and not key.endswith(f"{plan.release}.json")
        if operation == "PutObject" and key.startswith(prefix) and not manifest_too_early:
            raise Killed

    setattr(requests, when, kill)
    with pytest.raises(Killed):
        publish(store, plan, ORIGIN)
    assert served(s3, name) == before

    following = {"same": crashed, "reverted": root, "other": tmp_path / "other"}[next_one]
    if next_one == "other":
        write_tree(shutil.copytree(root, following), {"main/b.py": "b = 'other'\n"})
    deploy(name, following)
    assert_whole_and_tidy(s3, name, following)
    assert not plan_for(create_store(name), following).changes, "and a third publish has nothing left to do"


@pytest.mark.parametrize("next_one", ["same", "reverted"])
def test_publisher_killed_before_it_deletes(bucket: tuple[Any, str], root: Path, tmp_path: Path, next_one: str) -> None:
    s3, name = bucket
    deploy(name, root)
    crashed = write_tree(shutil.copytree(root, tmp_path / "crashed"), {"main/a.py": "a = 2\n"})
    (crashed / "main/b.py").unlink()
    store = create_store(name)
    plan = plan_for(store, crashed)

    def kill(operation: str, key: str) -> None:
        if operation == "DeleteObjects":
            raise Killed

    Requests(store).before = kill
    with pytest.raises(Killed):
        publish(store, plan, ORIGIN)
    assert served(s3, name)[2] == contents(crashed), "the pointer has moved: the release is served"
    following = crashed if next_one == "same" else root
    published = deploy(name, following)
    assert published.moved is (next_one == "reverted")
    assert_whole_and_tidy(s3, name, following)


def test_old_notes_are_removed_and_young_ones_kept(
    bucket: tuple[Any, str], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3, name = bucket
    deploy(name, root)
    s3.put_object(Bucket=name, Key="releases/pending/x.json", Body=json.dumps({"paths": ["main/a.py"]}).encode())
    s3.put_object(Bucket=name, Key="releases/pending/damaged.json", Body=b"{")
    assert not deploy(name, root).moved
    assert len(keys(s3, "releases/pending/", name)) == 2, "their publishers may still be at work"
    monkeypatch.setattr(dag_publish, "NOTE_LIFETIME", timedelta(seconds=-10))
    assert not deploy(name, root).moved
    assert keys(s3, "releases/pending/", name) == []


@pytest.mark.parametrize("damage", ["pointer", "manifest gone", "manifest"])
def test_publishing_repairs_what_is_damaged(bucket: tuple[Any, str], root: Path, damage: str) -> None:
    s3, name = bucket
    pointer = deploy(name, root).pointer
    manifest = f"releases/{pointer.release}.json"
    if damage == "pointer":
        s3.put_object(Bucket=name, Key="releases/current", Body=b"not json")
    elif damage == "manifest gone":
        s3.delete_object(Bucket=name, Key=manifest, VersionId=pointer.manifest_version_id)
    else:
        version = s3.put_object(Bucket=name, Key=manifest, Body=b"{}")["VersionId"]
        fields = json.loads(s3.get_object(Bucket=name, Key="releases/current")["Body"].read())
        fields["manifest_version_id"] = version
        s3.put_object(Bucket=name, Key="releases/current", Body=json.dumps(fields).encode())
    store = create_store(name)
    current = read_current(store)
    assert "is damaged" in current.warnings[0]
    assert publish(store, make_plan(store, read_tree(str(root)), current), ORIGIN).moved
    assert_whole_and_tidy(s3, name, root)


def test_newer_schema_is_not_overwritten(bucket: tuple[Any, str], root: Path) -> None:
    s3, name = bucket
    s3.put_object(Bucket=name, Key="releases/current", Body=b'{"schema": 2}')
    with pytest.raises(PublishError, match=r"schema 2 is newer.*update yours"):
        deploy(name, root)


def test_bucket_without_versioning(endpoint: str, environment: dict[str, str], root: Path) -> None:
    s3 = create_bucket(endpoint, "no-versioning", versioning=False)
    with pytest.raises(PublishError, match=r"'no-versioning' does not keep versions.*site.yml"):
        deploy("no-versioning", root)
    assert keys(s3, "", "no-versioning") == []


def test_bucket_that_does_not_exist(environment: dict[str, str], root: Path) -> None:
    with pytest.raises(PublishError, match=r"no bucket 'nowhere'.*site.yml"), explained("nowhere"):
        deploy("nowhere", root)


def test_unreachable_endpoint(environment: dict[str, str], root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(PublishError, match=r"S3 cannot be reached.*make up"), explained("x"):
        deploy("x", root)


def test_missing_credentials(environment: dict[str, str], root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(PublishError, match="no AWS credentials"), explained("x"):
        deploy("x", root)


def test_file_edited_while_publishing(bucket: tuple[Any, str], root: Path) -> None:
    s3, name = bucket
    store = create_store(name)
    plan = plan_for(store, root)
    write_tree(root, {"main/a.py": "a = 'edited'\n"})
    with pytest.raises(TreeError, match=r"main/a.py' was changed while"):
        publish(store, plan, ORIGIN)
    assert "releases/current" not in keys(s3, "releases/", name)


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), "-c", "user.name=Ada L", "-c", "user.email=a@example.org", *arguments],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def test_origin_comes_from_git(root: Path) -> None:
    git(root, "init", "-q")
    git(root, "config", "user.name", "Ada Lovelace")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    revision = git(root, "rev-parse", "HEAD")
    assert read_origin(root) == Origin("Ada Lovelace", revision)
    write_tree(root, {"main/a.py": "changed"})
    assert read_origin(root, author="CI") == Origin("CI", f"{revision}-dirty")


def test_origin_outside_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    monkeypatch.setenv("LOGNAME", "grace")
    assert read_origin(tmp_path) == Origin("grace", None)


def test_origin_without_git(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("LOGNAME", "grace")
    assert read_origin(root) == Origin("grace", None)
