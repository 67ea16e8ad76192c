"""What is left of an earlier tree, asked for by a task that has never seen it; without Dagster."""

from __future__ import annotations

from pathlib import Path

import pytest

from dagster_ecs_runtime import settings
from dagster_ecs_runtime.bucket import UnusableError
from dagster_ecs_runtime.tree import TreeSource
from tests.integration.release.support import aws_environment
from tests.integration.tree.conftest import Tree


@pytest.fixture(params=[True, False], ids=["with versions", "without versions"])
def tree(request: pytest.FixtureRequest, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    for name, value in aws_environment(endpoint).items():
        monkeypatch.setenv(name, value)
    return Tree(endpoint, f"source-{request.param}".lower(), tmp_path / "dags", versioning=request.param)


def source(tree: Tree, disk: Path) -> TreeSource:
    """Return what a task has: a disk of its own, and the shared file system."""
    shared = disk.with_name("shared")
    shared.mkdir(exist_ok=True)
    env = {
        **aws_environment(tree.endpoint),
        "DAGSTER_S3_BUCKET": tree.name,
        "DAGSTER_RELEASES_DIR": str(disk / "releases"),
        "DAGSTER_STORAGE_DIR": str(shared),
    }
    return TreeSource(settings.read("daemon", env), lambda: False)


def test_files_of_an_earlier_tree(tree: Tree, tmp_path: Path) -> None:
    tree.write("main", "earlier")
    (tree.tree / "main/same.txt").write_text("the same", encoding="utf-8")
    release = tree.sync()
    first = source(tree, tmp_path / "one")
    found = first.poll(None)
    assert found.pointer is not None
    assert found.pointer.release == release
    assert first.poll(found.etag).changed is False
    earlier = (tree.tree / "main/__init__.py").read_bytes()

    tree.write("main", "later")
    (tree.tree / "main/gone.py").touch()
    tree.sync()
    (tree.tree / "main/gone.py").unlink()
    assert first.poll(found.etag).changed is False, "it takes two listings"
    tree.sync()
    assert first.poll(found.etag).changed is False, "that are equal"
    assert first.poll(found.etag).changed is True

    second = source(tree, tmp_path / "two")
    files = {entry.path: entry for entry in second.manifest(release, None).files}
    assert b"".join(map(bytes, second.file(files["main/same.txt"]))) == b"the same"
    if "true" in tree.name:
        assert b"".join(map(bytes, second.file(files["main/__init__.py"]))) == earlier
    else:
        with pytest.raises(UnusableError, match=r"main/__init__\.py was replaced or removed, and the bucket keeps no"):
            list(second.file(files["main/__init__.py"]))
    with pytest.raises(UnusableError, match=r"release 0123456789abcdef, made of what .* is not known"):
        second.manifest("0123456789abcdef", None)
