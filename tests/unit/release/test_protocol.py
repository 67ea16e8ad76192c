"""The protocol of releases: whatever the order of requests, and whoever dies, a task gets a whole release.

Publishers run the real code of `dag_publish` against a bucket in memory, pollers read as the container does. Hypothesis
chooses whose request is next, whose answer is lost and who is killed. HYPOTHESIS_PROFILE=soak: for many minutes.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dagster_ecs_runtime.manifest import Pointer, file_key, manifest_key, parse_manifest, parse_pointer, pointer_key
from module_utils import dag_publish
from module_utils.dag_publish import (
    NOTE_LIFETIME,
    LostRaceError,
    Origin,
    Published,
    Retention,
    Store,
    find_leftovers,
    find_release,
    make_plan,
    make_rollback_plan,
    publish,
    read_current,
)
from module_utils.dag_tree import Tree, read_tree
from tests.integration.release.support import write_tree
from tests.unit.release import s3_model
from tests.unit.release.s3_model import ALL, Actor, Client, Killed

TREES: dict[str, dict[str, str]] = {
    "first": {"a.py": "1", "b.py": "1"},
    "changed": {"a.py": "2", "b.py": "1"},
    "without b": {"a.py": "1"},
    "with c": {"a.py": "1", "b.py": "1", "c.py": "1"},
    "other c": {"a.py": "2", "c.py": "2"},
}
"""Files of the location "main": few paths and few contents, so that publishers get into each other's way."""

Trees = dict[str, Tree]
ROLLBACK = "(the release before)"
TREE_NAMES = st.sampled_from(sorted(TREES))
PRUNE = "(prune)"
WORK = st.sampled_from([*sorted(TREES), ROLLBACK, PRUNE])


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Trees:
    base = tmp_path_factory.mktemp("trees")
    return {
        name: read_tree(
            str(
                write_tree(
                    base / name,
                    {"__init__.py": "", "main/__init__.py": ""}
                    | {f"main/{path}": f"x = {content}\n" for path, content in files.items()},
                )
            )
        )
        for name, files in TREES.items()
    }


@pytest.fixture(autouse=True)
def one_request_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dag_publish, "ThreadPoolExecutor", s3_model.Pool)


parsed_pointer, parsed_manifest = functools.lru_cache(parse_pointer), functools.lru_cache(parse_manifest)
"""The same ones are looked at again and again, after each step."""


@functools.cache
def contents_of(tree: Tree) -> dict[str, bytes]:
    """Return what is in the files of a tree."""
    return {file.path: (tree.root / file.path).read_bytes() for file in tree.files}


class World:
    """A bucket, those who publish to it and read from it, and what must be true of it."""

    def __init__(self, trees: Trees) -> None:
        self.trees = trees
        self.bucket = s3_model.Bucket()
        self.publishers: list[Actor] = []
        self.pollers: list[Actor] = []
        self.contents = {name: contents_of(tree) for name, tree in trees.items()}

    def publisher(self, tree: str, late: bool = False) -> Actor:
        """Begin to publish a tree, to roll back or to prune; the author is unknown to all others."""
        name = f"publisher-{len(self.publishers)}"

        def work(client: Client) -> Published | None:
            store = Store(client, s3_model.BUCKET)
            if tree == PRUNE:
                store.delete(find_leftovers(store, Retention(releases=1, days=1), ()).objects)
                return None
            current = read_current(store)
            if tree != ROLLBACK:
                return publish(store, make_plan(store, self.trees[tree], current), Origin(name, None))
            if current.pointer is None or current.pointer.previous is None:
                return None
            target = find_release(store, current, "")
            return publish(store, make_rollback_plan(store, target, current), Origin(name, None))

        self.publishers.append(Actor(name, self.bucket, work, late))
        return self.publishers[-1]

    def poller(self) -> Actor:
        """Begin to fetch what is served."""
        self.pollers.append(Actor(f"poller-{len(self.pollers)}", self.bucket, fetch))
        return self.pollers[-1]

    @property
    def at_work(self) -> list[Actor]:
        return [actor for actor in self.publishers if not actor.ended]

    def pointers(self) -> list[Pointer]:
        """Return every pointer there has been."""
        versions = [version for key, version in self.bucket.log if key == pointer_key("")]
        return [parsed_pointer(version.body) for version in versions if version.body is not None]

    def served(self) -> dict[str, bytes]:
        """Return what a task would fetch now, or fail."""
        found = fetch(Client(self.bucket, lambda *_: "answer"))
        assert found is not None
        return found

    def check_served(self) -> None:
        """Check that what is served is whole: every version that it pins is there."""
        if self.bucket.current(pointer_key("")):
            assert self.served() in self.contents.values()

    def check_pollers(self) -> None:
        """Check that everybody who has fetched got a whole release."""
        for actor in self.pollers:
            if actor.ended:
                assert actor.error is None
                assert actor.result is None or actor.result in self.contents.values()
        self.pollers = [actor for actor in self.pollers if not actor.ended]

    def check_history(self) -> None:
        """Check that each pointer replaced the one before it, and that every publisher knows what it did."""
        history = self.pointers()
        for before, after in itertools.pairwise(history):
            expected = before.release if after.release != before.release else before.previous
            assert after.previous == expected
        authors = [pointer.author for pointer in history]
        assert len(authors) == len(set(authors)), "nobody moves the pointer twice"
        for actor in self.publishers:
            if not actor.ended or isinstance(actor.error, Killed):
                continue
            assert actor.error is None or isinstance(actor.error, LostRaceError)
            if actor.result is not None and actor.result.moved:
                assert actor.name in authors
            elif not actor.lost:
                # Who got no answer may have moved the pointer, and another one after it.
                assert actor.name not in authors

    def check_tidy(self, tree: str | None = None) -> None:
        """Check that a publish alone leaves its release, nothing else, and what it pins as the current versions.

        Without a name it is the tree that is served already: that mends least, so that it shows most.
        """
        if tree is None:
            tree = next(name for name, content in self.contents.items() if content == self.served())
        self.publisher(tree).finish()
        assert self.served() == self.contents[tree]
        assert self.bucket.visible("dags/") == sorted(file_key("", path) for path in self.contents[tree])
        pointer = self.pointers()[-1]
        body = self.bucket.version(manifest_key("", pointer.release), pointer.manifest_version_id)
        assert body is not None
        assert body.body is not None
        for entry in parsed_manifest(body.body).files:
            current = self.bucket.current(file_key("", entry.path))
            assert current is not None
            assert current.identifier == entry.version_id
        before = self.bucket.keys[pointer_key("")]
        assert not self.publisher(tree).finish().moved, "and the next one has nothing to do"
        assert self.bucket.keys[pointer_key("")] == before

    def check_rollback(self) -> None:
        """Check that the release before can be restored."""
        previous = self.pointers()[-1].previous
        if previous:
            self.publisher(ROLLBACK).finish()
            assert self.pointers()[-1].release == previous
            self.check_tidy()

    def check_no_notes(self) -> None:
        """Check that no note outlives its time, nor what it takes to mend what it names."""
        for _ in range(2):
            self.bucket.advance(NOTE_LIFETIME + timedelta(seconds=1))
            self.check_tidy()
        assert self.bucket.visible("releases/pending/") == []


def fetch(client: Client) -> dict[str, bytes] | None:
    """Read what is served as the container does; None where nobody has published."""

    def get(key: str, version: str | None) -> bytes:
        return bytes(client.get_object(Bucket=s3_model.BUCKET, Key=key, VersionId=version)["Body"].read())

    try:
        pointer = parsed_pointer(get(pointer_key(""), None))
    except client.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] == "NoSuchKey"
        return None
    manifest = parsed_manifest(get(manifest_key("", pointer.release), pointer.manifest_version_id))
    assert manifest.id == pointer.release
    files = {}
    for entry in manifest.files:
        files[entry.path] = get(file_key("", entry.path), entry.version_id)
        assert hashlib.sha256(files[entry.path]).hexdigest() == entry.sha256
    return files


class Protocol(RuleBasedStateMachine):
    """Publishers and pollers, request by request."""

    def __init__(self, trees: Trees) -> None:
        super().__init__()
        self.world = World(trees)

    @initialize(tree=TREE_NAMES)
    def publish_first(self, tree: str) -> None:
        self.world.check_tidy(tree)

    @rule(tree=WORK, late=st.booleans())
    @precondition(lambda self: len(self.world.at_work) < 3)
    def begin_to_publish(self, tree: str, late: bool) -> None:
        self.world.publisher(tree, late)

    @rule(data=st.data(), requests=st.integers(1, 15))
    @precondition(lambda self: self.world.at_work)
    def go_on(self, data: st.DataObject, requests: int) -> None:
        self._some(data).step(requests)

    @rule(data=st.data())
    @precondition(lambda self: self.world.at_work)
    def end(self, data: st.DataObject) -> None:
        self._some(data).step(ALL)

    @rule(data=st.data(), requests=st.integers(0, 10), order=st.sampled_from(["kill before", "kill after"]))
    @precondition(lambda self: self.world.at_work)
    def kill(self, data: st.DataObject, requests: int, order: s3_model.Order) -> None:
        actor = self._some(data)
        actor.step(requests)
        if not actor.ended:
            actor.step(order=order)
            assert isinstance(actor.error, Killed)

    @rule(data=st.data(), requests=st.integers(0, 10))
    @precondition(lambda self: self.world.at_work)
    def lose_an_answer(self, data: st.DataObject, requests: int) -> None:
        actor = self._some(data)
        actor.step(requests)
        if not actor.ended:
            actor.step(order="lose the answer")

    @rule(requests=st.integers(0, 4))
    def poll(self, requests: int) -> None:
        """Go on with a fetch that has begun, and begin another one."""
        for actor in self.world.pollers:
            actor.step(ALL)
        self.world.check_pollers()
        self.world.poller().step(requests)

    @rule(time=st.sampled_from([NOTE_LIFETIME + timedelta(seconds=1), timedelta(days=2)]))
    @precondition(lambda self: not self.world.at_work)
    def let_time_pass(self, time: timedelta) -> None:
        """Long enough for notes to expire, or for releases."""
        self.world.bucket.advance(time)

    @rule(tree=st.none() | TREE_NAMES)
    @precondition(lambda self: not self.world.at_work)
    def publish_alone(self, tree: str | None) -> None:
        self.world.check_tidy(tree)

    @invariant()
    def what_is_served_is_whole(self) -> None:
        self.world.check_served()
        self.world.check_history()

    def teardown(self) -> None:
        try:
            for actor in [*self.world.publishers, *self.world.pollers]:
                actor.step(ALL)
            self.world.check_pollers()
            self.what_is_served_is_whole()
            self.world.check_tidy()
            self.world.check_rollback()
            self.world.check_no_notes()
        finally:
            for actor in [*self.world.publishers, *self.world.pollers]:
                actor.kill()

    def _some(self, data: st.DataObject) -> Actor:
        return data.draw(st.sampled_from(self.world.at_work))


SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"


def profile(examples: int, steps: int = 50) -> settings:
    """Return the settings of a test: the same examples each time, or very many new ones."""
    return settings(
        max_examples=50 * examples if SOAK else examples,
        derandomize=not SOAK,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        stateful_step_count=steps,
    )


def test_any_interleaving(trees: Trees) -> None:
    class OnTrees(Protocol):
        def __init__(self) -> None:
            super().__init__(trees)

    run_state_machine_as_test(OnTrees, settings=profile(60, steps=40))


@profile(1200)
@given(
    first=st.lists(TREE_NAMES, min_size=1, max_size=2),
    dead=st.none() | st.tuples(TREE_NAMES, st.integers(6, 14), st.booleans()),
    racing=st.tuples(*[st.tuples(WORK, st.booleans())] * 2),
    turns=st.lists(st.tuples(st.integers(1, 14), st.sampled_from(["answer"] * 5 + ["lose the answer"])), max_size=4),
)
def test_two_in_turns(
    trees: Trees,
    first: list[str],
    dead: tuple[str, int, bool] | None,
    racing: tuple[tuple[str, bool], tuple[str, bool]],
    turns: list[tuple[int, s3_model.Order]],
) -> None:
    """Two publishers that are interrupted a few times, after a dead one: most of what goes wrong needs no more."""
    world = World(trees)
    for tree in first:
        world.publisher(tree).finish()
    if dead:
        tree, requests, expires = dead
        actor = world.publisher(tree)
        actor.step(requests)
        actor.kill()
        if expires:
            world.bucket.advance(timedelta(days=2))
    both = [world.publisher(*each) for each in racing]
    for actor, (requests, order) in zip(itertools.cycle(both), turns, strict=False):
        actor.step(requests - 1)
        actor.step(order=order)
        world.check_served()
    for actor in both:
        actor.step(ALL)
        world.check_served()
    world.check_history()
    world.check_tidy()
    world.check_rollback()


def test_publisher_sees_who_wins_while_it_reads(trees: Trees) -> None:
    """One that finds the new pointer finds the note too: the winner has not yet hidden what left its tree."""
    world = World(trees)
    world.check_tidy("first")
    second = world.publisher("first")
    second.step()
    first = world.publisher("without b")
    first.run_to("DeleteObjects", "dags/")
    second.finish()
    first.finish()
    world.check_tidy("first")


def test_tidying_up_races_with_a_publisher(trees: Trees) -> None:
    """A publish that only hides what a dead one has left may hide what another one has just made live."""
    world = World(trees)
    world.check_tidy("first")
    dead = world.publisher("with c")
    dead.run_to("PutObject", "releases/")
    dead.step()
    dead.run_to("PutObject", "releases/")
    dead.kill()
    world.bucket.advance(NOTE_LIFETIME + timedelta(seconds=1))
    tidying, publishing = world.publisher("first"), world.publisher("with c")
    tidying.run_to("PutObject")
    publishing.run_to("PutObject")
    tidying.run_to("DeleteObjects", "dags/main/c.py")
    publishing.finish()
    tidying.finish()
    world.check_served()
    world.check_tidy("with c")


def test_loser_with_the_same_tree(trees: Trees) -> None:
    """It leaves what left the tree to the winner: somebody else may have brought that back."""
    world = World(trees)
    world.check_tidy("first")
    winner, loser = world.publisher("without b"), world.publisher("without b")
    winner.run_to("PutObject")
    loser.run_to("PutObject", pointer_key(""))
    winner.finish()
    loser.step(5)
    world.publisher("first").finish()
    assert not loser.finish().moved
    world.check_tidy("first")


def test_rollback_races_with_a_publisher(trees: Trees) -> None:
    """Both have copied and uploaded when one of them moves the pointer; the other takes back what it made."""
    for order in ([0, 1], [1, 0]):
        world = World(trees)
        for tree in ("first", "without b"):
            world.check_tidy(tree)
        racing = [world.publisher(ROLLBACK), world.publisher("with c")]
        for actor in racing:
            actor.run_to("PutObject", pointer_key(""))
        winner, loser = (racing[number] for number in order)
        assert winner.finish().moved
        with pytest.raises(LostRaceError):
            loser.finish()
        world.check_history()
        world.check_tidy(["first", "with c"][order[0]])
        world.check_no_notes()


def test_winner_that_never_heard_of_it(trees: Trees) -> None:
    """The answer to a pointer's write is lost, and before the retry somebody builds on that release."""
    world = World(trees)
    world.check_tidy("first")
    first = world.publisher("changed")
    first.run_to("PutObject", "releases/current")
    first.step(order="lose the answer")
    world.publisher("other c").finish()
    with pytest.raises(LostRaceError):
        first.finish()
    world.check_served()
    world.check_tidy("other c")


def test_loser_that_uploaded_twice(trees: Trees) -> None:
    """The answer to a file's upload is lost: there is a version that its publisher knows nothing of."""
    world = World(trees)
    world.check_tidy("first")
    winner, loser = world.publisher("with c"), world.publisher("changed")
    winner.run_to("PutObject")
    loser.run_to("PutObject", "dags/")
    loser.step(order="lose the answer")
    winner.finish()
    with pytest.raises(LostRaceError):
        loser.finish()
    world.check_tidy("with c")
    world.check_no_notes()
