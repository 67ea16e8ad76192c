"""Several repositories in one release: who owns what, what is refused, and that nobody undoes what another did."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from module_utils import dag_publish
from module_utils.dag_manifest import (
    CodeLocation,
    FileEntry,
    Manifest,
    Repository,
    file_key,
    manifest_key,
    parse_manifest,
    release_id,
)
from module_utils.dag_publish import (
    NOTE_LIFETIME,
    LostRaceError,
    Origin,
    Published,
    Store,
    make_plan,
    publish,
    read_current,
)
from module_utils.dag_repositories import Owner, compose, own_part, part_of
from module_utils.dag_tree import LocalFile, Tree, TreeError, read_tree
from tests.integration.release.support import write_tree
from tests.unit.release import s3_model
from tests.unit.release.s3_model import Actor, Client
from tests.unit.release.test_protocol import World, contents_of, profile

WHEN = "2026-01-31T12:00:00Z"


def tree(*paths: str, locations: tuple[str, ...] | None = None) -> Tree:
    names = locations if locations is not None else tuple(sorted({p.split("/")[0] for p in paths if "/__init__" in p}))
    files = tuple(LocalFile(path, 1, "ab" * 32) for path in sorted(paths))
    return Tree(Path("/dags"), files, tuple(CodeLocation(name, f"dags.{name}") for name in names))


def served(*paths: str, **owners: tuple[str, ...]) -> Manifest:
    """Return a manifest with these files; ``owners`` are repositories with their locations."""
    content = tree(*paths)
    files = tuple(FileEntry(file.path, file.size, file.sha256, f"v-{file.path}") for file in content.files)
    repositories = tuple(Repository(name, owned, "abc", "ada", WHEN) for name, owned in sorted(owners.items()))
    identifier = release_id(files, content.locations, repositories)
    return Manifest(identifier, WHEN, "ada", None, content.locations, files, repositories)


BOTH = served(
    *("__init__.py", "main/__init__.py", "main/a.py", "finance/__init__.py", "finance/old.py", "sales/__init__.py"),
    finance=("finance",),
    sales=("sales",),
)


def paths(own: Tree, manifest: Manifest | None, owner: Owner) -> list[str]:
    return [file.path for file in compose(own, manifest, owner).tree.files]


def test_a_repository_replaces_what_it_owns_and_nothing_else() -> None:
    whole = compose(tree("finance/__init__.py", "finance/new.py"), BOTH, Owner("finance"))
    assert [file.path for file in whole.tree.files] == [
        *("__init__.py", "finance/__init__.py", "finance/new.py", "main/__init__.py", "main/a.py", "sales/__init__.py")
    ]
    assert [location.name for location in whole.tree.locations] == ["finance", "main", "sales"]
    assert [(each.name, each.locations) for each in whole.repositories] == [
        *(("finance", ("finance",)), ("sales", ("sales",)))
    ]
    assert whole.repositories[1] == BOTH.repositories[1], "what is known of another stays"
    assert whole.area.holds("finance/old.py")
    assert not whole.area.holds("main/a.py")
    assert not whole.area.holds("finance.py")


def test_the_platform_replaces_what_nobody_else_owns() -> None:
    whole = compose(tree("main/__init__.py", "hr/__init__.py", "shared.py"), BOTH, Owner())
    assert [file.path for file in whole.tree.files] == [
        *(
            "finance/__init__.py",
            "finance/old.py",
            "hr/__init__.py",
            "main/__init__.py",
            "sales/__init__.py",
            "shared.py",
        )
    ]
    assert whole.repositories == BOTH.repositories
    assert whole.area.holds("anything.py")
    assert not whole.area.holds("sales/x.py")


def test_a_location_that_is_not_published_any_more_goes() -> None:
    both = compose(tree("finance/__init__.py", "ledger/__init__.py"), BOTH, Owner("finance"))
    assert both.repositories[0].locations == ("finance", "ledger")
    assert "finance/old.py" not in paths(tree("ledger/__init__.py"), BOTH, Owner("finance"))
    nothing = compose(tree(), BOTH, Owner("finance"))
    assert [each.name for each in nothing.repositories] == ["sales"]
    assert [location.name for location in nothing.tree.locations] == ["main", "sales"]


@pytest.mark.parametrize(
    ("own", "owner", "said"),
    [
        (
            tree("sales/__init__.py"),
            Owner("finance"),
            "'sales' belongs to the repository 'sales', not to the repository",
        ),
        (tree("main/__init__.py"), Owner("finance"), "'main' belongs to the platform's own DAGs"),
        (
            tree("main/__init__.py", "sales/x.sql"),
            Owner(),
            "'sales' belongs to the repository 'sales', not to the plat",
        ),
    ],
)
def test_what_belongs_to_another_is_refused_unless_it_is_taken_over(own: Tree, owner: Owner, said: str) -> None:
    with pytest.raises(TreeError) as error:
        compose(own, BOTH, owner)
    assert said in str(error.value)
    assert "Nothing was uploaded" in str(error.value)
    assert "-e dag_release_take_over=true" in str(error.value)
    taken = compose(own, BOTH, replace(owner, take_over=True))
    assert {file.path for file in own.files} <= {file.path for file in taken.tree.files}
    owners = {location: each.name for each in taken.repositories for location in each.locations}
    for location in own.locations:
        assert owners.get(location.name, "") == owner.name
    assert len(taken.tree.files) == len({file.path for file in taken.tree.files})


@pytest.mark.parametrize(
    ("own", "owner", "said"),
    [
        (tree("Sales/__init__.py"), Owner("x"), "'Sales' and 'sales', which is another's, differ in case only"),
        (
            tree("main/__init__.py", "sales.py"),
            Owner(),
            "The file 'sales.py' and the directory 'sales' cannot be in one",
        ),
        (tree("main/__init__.py", "sales"), Owner(), "The file 'sales' and the directory 'sales' cannot be in one"),
    ],
)
def test_what_cannot_be_in_one_tree(own: Tree, owner: Owner, said: str) -> None:
    with pytest.raises(TreeError, match=said):
        compose(own, BOTH, owner)


def test_all_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("module_utils.dag_repositories.MAX_FILES", 6)
    compose(tree("finance/__init__.py", "finance/new.py"), BOTH, Owner("finance"))
    with pytest.raises(TreeError, match="All repositories together have 7 files"):
        compose(tree("finance/__init__.py", "finance/1.py", "finance/2.py"), BOTH, Owner("finance"))


def test_own_part_leaves_out_what_lies_beside_the_locations() -> None:
    own, left_out = own_part(
        tree("README.md", "__init__.py", "finance/__init__.py", "docs/x.md", locations=("finance",))
    )
    assert [file.path for file in own.files] == ["finance/__init__.py"]
    assert left_out == ["README.md", "__init__.py", "docs/x.md"]


def test_part_of() -> None:
    part = part_of(BOTH, "finance")
    assert part is not None
    assert [file.path for file in part.files] == ["finance/__init__.py", "finance/old.py"]
    assert part_of(BOTH, "nobody") is None


# -- Whatever the order of requests ----------------------------------------------------------------------------

OWNERS = ("", "finance", "sales")
VARIANTS: dict[str, dict[str, str]] = {
    "one": {"a.py": "1", "b.py": "1"},
    "two": {"a.py": "2", "b.py": "1"},
    "three": {"a.py": "1", "c.py": "1"},
}
WORK = st.tuples(st.sampled_from(OWNERS), st.sampled_from(sorted(VARIANTS)))
Trees = dict[tuple[str, str], Tree]


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Trees:
    found = {}
    for owner, variant in itertools.product(OWNERS, VARIANTS):
        location = owner or "main"
        root = tmp_path_factory.mktemp("trees")
        write_tree(root, {f"{location}/{path}": f"x = {text}\n" for path, text in VARIANTS[variant].items()})
        write_tree(root, {f"{location}/__init__.py": "", "README.md": owner})
        whole = read_tree(str(root))
        found[owner, variant] = own_part(whole)[0] if owner else whole
    return found


@pytest.fixture(autouse=True)
def one_request_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dag_publish, "ThreadPoolExecutor", s3_model.Pool)


class Several(World):
    """A bucket into which several repositories publish, and what each of them last published."""

    def __init__(self, trees: Trees) -> None:
        super().__init__({})
        self.parts = trees
        self.expected: dict[str, str] = {}

    def begin(self, owner: str, variant: str) -> Actor:
        name = f"publisher-{len(self.publishers)}"

        def work(client: Client) -> Published:
            store = Store(client, s3_model.BUCKET)
            plan = make_plan(store, self.parts[owner, variant], read_current(store), Owner(owner))
            return publish(store, plan, Origin(name, None))

        self.publishers.append(Actor(name, self.bucket, work, False))
        return self.publishers[-1]

    def done(self, owner: str, variant: str) -> None:
        self.begin(owner, variant).finish()
        self.expected[owner] = variant

    def contents_of(self, owner: str) -> dict[str, bytes]:
        return contents_of(self.parts[owner, self.expected[owner]])

    def manifest(self) -> Manifest:
        pointer = self.pointers()[-1]
        found = self.bucket.version(manifest_key("", pointer.release), pointer.manifest_version_id)
        assert found is not None
        assert found.body is not None
        return parse_manifest(found.body)

    def check_parts(self, *owners: str) -> None:
        """Check that what is served has these owners' parts as they were last published."""
        found = self.served()
        for owner in owners:
            tops = {path.partition("/")[0] for path in self.contents_of(owner)}
            part = {path: body for path, body in found.items() if path.partition("/")[0] in tops}
            assert part == self.contents_of(owner)

    def check_tidy_parts(self) -> None:
        """Check that after a publish of everybody, each alone, nothing else is there and every version is current."""
        for owner, variant in [*self.expected.items()]:
            self.done(owner, variant)
        everything = {path: body for owner in self.expected for path, body in self.contents_of(owner).items()}
        assert self.served() == everything
        assert self.bucket.visible("dags/") == sorted(file_key("", path) for path in everything)
        manifest = self.manifest()
        for entry in manifest.files:
            current = self.bucket.current(file_key("", entry.path))
            assert current is not None
            assert current.identifier == entry.version_id
        assert {each.name for each in manifest.repositories} == self.expected.keys() - {""}


@profile(600)
@given(
    first=st.lists(WORK, max_size=4),
    dead=st.none() | st.tuples(WORK, st.integers(1, 14), st.booleans()),
    racing=st.permutations(OWNERS).flatmap(
        lambda owners: st.tuples(*(st.tuples(st.just(owner), st.sampled_from(sorted(VARIANTS))) for owner in owners))
    ),
    turns=st.lists(
        st.tuples(st.integers(1, 14), st.sampled_from(["answer"] * 5 + ["lose the answer"])), min_size=1, max_size=8
    ),
)
def test_repositories_in_turns(
    trees: Trees,
    first: list[tuple[str, str]],
    dead: tuple[tuple[str, str], int, bool] | None,
    racing: tuple[tuple[str, str], ...],
    turns: list[tuple[int, s3_model.Order]],
) -> None:
    """Three repositories at once, after a dead publisher of one: each gets its part in, none undoes another's."""
    world = Several(trees)
    for owner, variant in first:
        world.done(owner, variant)
    if dead:
        (owner, variant), requests, expires = dead
        actor = world.begin(owner, variant)
        actor.step(requests)
        actor.kill()
        if expires:
            world.bucket.advance(NOTE_LIFETIME + timedelta(seconds=1))
    actors = [world.begin(*each) for each in racing]
    for actor, (requests, order) in zip(itertools.cycle(actors), turns, strict=False):
        actor.step(requests - 1)
        actor.step(order=order)
    for actor in actors:
        actor.step(s3_model.ALL)
    for actor, (owner, variant) in zip(actors, racing, strict=True):
        assert actor.ended
        assert actor.error is None, f"{owner or 'the platform'}: {actor.error}"
        world.expected[owner] = variant
    world.check_parts(*OWNERS)
    world.check_tidy_parts()
    for _ in range(2):
        world.bucket.advance(NOTE_LIFETIME + timedelta(seconds=1))
        world.check_tidy_parts()
    assert world.bucket.visible("releases/pending/") == [], "every note is somebody's to remove"


def test_two_of_the_same_repository_are_a_race(trees: Trees) -> None:
    for other in (("finance", "two"), ("finance", "three")):
        world = Several(trees)
        world.done("", "one")
        world.done("finance", "one")
        loser, winner = world.begin("finance", "three" if other[1] == "two" else "two"), world.begin(*other)
        loser.run_to("PutObject", "releases/current")
        winner.finish()
        world.expected["finance"] = other[1]
        with pytest.raises(LostRaceError, match="Somebody else published at the same time"):
            loser.finish()
        world.check_parts("", "finance")
        world.check_tidy_parts()


def test_who_is_overtaken_by_another_repository_uploads_nothing_again(trees: Trees) -> None:
    world = Several(trees)
    world.done("", "one")
    slow = world.begin("finance", "one")
    slow.run_to("PutObject", "releases/current")
    world.done("sales", "one")
    world.done("", "two")
    before = len([key for key, _ in world.bucket.log if key.startswith("dags/finance/")])
    assert slow.finish().moved
    world.expected["finance"] = "one"
    assert len([key for key, _ in world.bucket.log if key.startswith("dags/finance/")]) == before
    world.check_parts(*OWNERS)
    world.check_tidy_parts()


def test_a_damaged_release_is_not_replaced_by_a_part(trees: Trees) -> None:
    world = Several(trees)
    world.done("", "one")
    world.done("finance", "one")
    world.bucket.put("releases/current", b"{}")
    with pytest.raises(dag_publish.PublishError, match="is damaged, and the parts of the other repositories"):
        world.begin("finance", "two").finish()
