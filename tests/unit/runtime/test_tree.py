"""What a listing of a tree says: which files count, which code locations there are, and whether it has changed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_ecs_runtime import tree
from dagster_ecs_runtime.manifest import DEFAULT_IGNORE, MAX_FILE_BYTES, MAX_RELEASE_BYTES
from dagster_ecs_runtime.tree import Listed, Listing, TreeError
from module_utils.dag_tree import IgnoreRules, read_tree
from module_utils.dag_tree import TreeError as PublisherError

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def listing(*paths: str, **fields: Any) -> Listing:
    return Listing(tuple(replace(Listed(path, 1, '"e"', NOON), **fields) for path in sorted(paths)))


@pytest.mark.parametrize(
    "changes",
    [{"path": "b"}, {"size": 2}, {"etag": '"f"'}, {"modified": NOON + timedelta(seconds=1)}],
    ids=lambda changes: next(iter(changes)),
)
def test_digest_tells_listings_apart(changes: dict[str, Any]) -> None:
    one = Listed("a", 1, '"e"', NOON)
    assert Listing((one,)).digest() == Listing((replace(one),)).digest()
    assert Listing((one,)).digest() != Listing((replace(one, **changes),)).digest()
    assert len({Listing(()).digest(), Listing((one,)).digest(), Listing((), "wrong").digest()}) == 3


NAMES = st.sampled_from(
    [
        *(".git", ".env", "__pycache__", "x.pyc", "x.pyo", "x.py", "x~", "x.swp", "x.tmp", "x.bak", "#x#", "#x"),
        *("x#", "x.egg-info", "node_modules", "venv", "main", "data.tmpl", "x.PYC", "a b", "é.py"),
    ]
)


@given(st.lists(NAMES, min_size=1, max_size=4))
def test_what_the_publisher_leaves_out_is_left_out(names: list[str]) -> None:
    rules = IgnoreRules(DEFAULT_IGNORE)
    parents = ["/".join(names[:end]) for end in range(1, len(names))]
    by_publisher = any(rules.ignores(each, True) for each in parents) or rules.ignores("/".join(names), False)
    assert tree.ignored("/".join(names)) == by_publisher


def test_objects_in_the_place_of_directories_are_no_files() -> None:
    marker, empty = Listed("main", 0, '"e"', NOON), Listed("main/__init__.py", 0, '"e"', NOON)
    assert tree.without_markers([empty, marker]) == [empty]
    assert tree.without_markers([marker]) == [marker]


@pytest.mark.parametrize(
    "paths",
    [
        ("main/__init__.py", "main/assets.py", "util.py", "data/x.csv", "sales/__init__.py", "sales/sub/__init__.py"),
        ("main/assets.py", "README.md"),
        ("my-package/__init__.py",),
        ("class/__init__.py",),
        ("main/__init__.py", "Main/__init__.py"),
        ("main/__init__.py", "main.py"),
        ("dags/__init__.py",),
        ("x" * 41 + "/__init__.py",),
    ],
    ids=lambda paths: paths[0],
)
def test_code_locations_are_those_that_the_publisher_finds(tmp_path: Path, paths: tuple[str, ...]) -> None:
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    try:
        expected = [(each.name, each.module) for each in read_tree(str(tmp_path)).locations]
    except PublisherError:
        with pytest.raises(TreeError):
            tree.check(listing(*paths))
    else:
        assert [(each.name, each.module) for each in tree.check(listing(*paths))] == expected
        assert expected == [("main", "dags.main"), ("sales", "dags.sales")]


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (listing("main/__init__.py", "main/x.bin", size=MAX_FILE_BYTES + 1), f"at most {MAX_FILE_BYTES}"),
        (listing(*(f"main/{n}" for n in range(33)), size=MAX_FILE_BYTES), f"at most {MAX_RELEASE_BYTES}"),
        (listing("main/__init__.py", "main/a", "main/a/b"), "'main/a' is a file and also the directory"),
        (listing("main/__init__.py", "main/x\\y.py"), "has a backslash"),
        (Listing((), "there are more than 100000 objects in it"), "more than 100000"),
    ],
    ids=["large file", "large tree", "file and directory", "path", "problem"],
)
def test_refused_trees(found: Listing, why: str) -> None:
    with pytest.raises(TreeError, match=why):
        tree.check(found)
