"""A bucket that a plain client synchronizes, and tasks that run with `dag_source: tree`."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from module_utils.dag_manifest import FileEntry, release_id
from module_utils.dag_tree import read_tree
from tests.e2e.dagster_client import wait_for
from tests.e2e.platform_under_test import Probe
from tests.integration.faults.proxy import Proxy
from tests.integration.release.support import aws_environment, create_bucket, keys
from tests.integration.runtime.conftest import Bucket, Task, blank_storage, endpoint

__all__ = ["blank_storage", "endpoint"]

DEFINITIONS = """
import dagster as dg

{extra}

@dg.asset
def {asset}() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={{"version": {version!r}}})


defs = dg.Definitions(assets=[{asset}], executor=dg.in_process_executor)
"""


class Tree(Bucket):
    """A directory, and a client that does what `aws s3 sync DIRECTORY s3://BUCKET/dags/ --delete` does."""

    def __init__(self, endpoint: str, name: str, directory: Path, *, versioning: bool = True) -> None:
        self.endpoint, self.name, self.tree = endpoint, name, directory
        self.s3 = create_bucket(endpoint, name, versioning=versioning)
        directory.mkdir()
        (directory / "__init__.py").touch()

    def write(self, location: str, asset: str, *, extra: str = "", version: str = "one") -> None:
        """Write a code location with one asset, whose materializations tell the version."""
        package = self.tree / location
        package.mkdir(exist_ok=True)
        text = DEFINITIONS.format(asset=asset, extra=textwrap.dedent(extra), version=version)
        (package / "__init__.py").write_text(text, encoding="utf-8")

    def upload(self, *paths: str) -> None:
        """Upload some files."""
        for path in paths:
            self.s3.put_object(Bucket=self.name, Key=f"dags/{path}", Body=(self.tree / path).read_bytes())

    def sync(self) -> str:
        """Upload what has another size or is newer, delete what is not here; return the id that this tree has."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix="dags/")
        there = {each["Key"].removeprefix("dags/"): each for page in pages for each in page.get("Contents", [])}
        here = {str(path.relative_to(self.tree)): path for path in self.tree.rglob("*") if path.is_file()}
        for name, path in sorted(here.items()):
            old, status = there.get(name), path.stat()
            if old is None or old["Size"] != status.st_size or old["LastModified"].timestamp() < status.st_mtime:
                self.upload(name)
        for name in sorted(there.keys() - here.keys()):
            self.s3.delete_object(Bucket=self.name, Key=f"dags/{name}")
        return self.release()

    def release(self) -> str:
        """Return the id under which deploy_dags.yml would publish the directory."""
        tree = read_tree(str(self.tree))
        return release_id([FileEntry(f.path, f.size, f.sha256, "any") for f in tree.files], tree.locations)

    def clear(self) -> None:
        """Delete everything."""
        for key in keys(self.s3, bucket=self.name):
            self.s3.delete_object(Bucket=self.name, Key=key)


class Rig:
    """A tree, tasks that follow it, and a way to S3 that can be watched."""

    def __init__(self, tree: Tree, base: Path, storage: Path) -> None:
        self.tree, self._base = tree, base
        self.proxy = Proxy(tree.endpoint)
        self._tasks: list[Task] = []
        shutil.copytree(storage, base / "storage")

    def start(self, service: str, base: Path | None = None) -> Task:
        """Start a task, on the disk of an earlier one if its ``base`` is given."""
        where = base or self._base / f"{service}-{len(self._tasks)}"
        where.mkdir(exist_ok=True)
        variables: dict[str, Any] = {
            "DAGSTER_DAG_SOURCE": "tree",
            "AWS_ENDPOINT_URL": self.proxy.url,
            "DAGSTER_POLL_SECONDS": "0.3",
        }
        self._tasks.append(Task(service, self.tree, where, **variables))
        return self._tasks[-1]

    def wait_polls(self, count: int = 4) -> None:
        """Wait until the tree has been listed so many times more."""
        before = self.listings()
        wait_for(f"{count} polls", lambda: self.listings() - before, until=lambda seen: seen >= count)

    def listings(self) -> int:
        """Return how many listings were asked for."""
        return sum("list-type=2" in request.path for request in list(self.proxy.requests))

    def fetched(self) -> list[str]:
        """Return the files that were asked for, and forget all requests."""
        seen = list(self.proxy.requests)
        self.proxy.requests.clear()
        return [request.path.split("?")[0].partition("/dags/")[2] for request in seen if "/dags/" in request.path]

    def end(self) -> None:
        for task in self._tasks:
            task.clean_up()
        self.proxy.close()


@pytest.fixture(scope="module")
def new_rig(
    endpoint: str, blank_storage: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Rig]]:
    """Make rigs, each with a bucket of its own."""
    rigs: list[Rig] = []

    def make(**options: Any) -> Rig:
        base = tmp_path_factory.mktemp("tree")
        tree = Tree(endpoint, f"tree-{len(rigs)}", base / "dags", **options)
        rigs.append(Rig(tree, base, blank_storage))
        return rigs[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_PROFILE", raising=False)
        for name, value in aws_environment(endpoint).items():
            patch.setenv(name, value)
        yield make
        for rig in rigs:
            rig.end()


class Served:
    """The rig and the webserver task that most drills share; the probe watches its location "main" throughout."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.tree = rig, rig.tree
        self.tree.write("main", "zero")
        release = self.tree.sync()
        self.task = rig.start("webserver")
        self.task.wait_release(release)
        wait_for("the first assets", self.assets, until=lambda found: found == {"zero"})
        self.probe = Probe(self.task.ui, "main")

    def assets(self, location: str = "main") -> frozenset[str]:
        """Return the assets of a location, as the UI shows them."""
        try:
            return self.task.ui.assets(location)
        except OSError:
            return frozenset()

    def wait_assets(self, expected: set[str], location: str = "main") -> None:
        """Wait until the UI shows these assets."""
        wait_for(f"{expected} in the UI", lambda: self.assets(location), until=lambda found: found == expected)

    def check_probe(self) -> None:
        """Check that the probe has asked since the last check, and never saw anything but the location."""
        asked = self.probe.asked
        wait_for("the probe", lambda: self.probe.asked, until=lambda now: now > asked)
        assert self.probe.failures == []


@pytest.fixture(scope="module")
def served(new_rig: Callable[..., Rig]) -> Iterator[Served]:
    served = Served(new_rig())
    with served.probe:
        yield served
