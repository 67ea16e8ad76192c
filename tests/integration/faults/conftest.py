"""A running webserver task that is probed throughout, with a way to S3 that can be broken.

A drill breaks something, waits until health says what, checks that the last good release is served, ends the fault,
and waits for the release that was published meanwhile.
"""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from module_utils.dag_manifest import Manifest, Pointer, dump_pointer, parse_manifest, parse_pointer
from tests.e2e.dagster_client import wait_for
from tests.e2e.platform_under_test import Probe
from tests.integration.faults.proxy import Proxy
from tests.integration.release.support import aws_environment
from tests.integration.runtime.conftest import Bucket, Task, blank_storage, endpoint

__all__ = ["blank_storage", "endpoint"]

DEFINITIONS = """
import dagster as dg

{extra}

@dg.asset
def {asset}() -> None: ...


defs = dg.Definitions(assets=[{asset}], executor=dg.in_process_executor)
"""


class Rig:
    """The bucket, the proxy before it, a webserver task behind that, and the probe of its location "main"."""

    def __init__(self, endpoint: str, base: Path, storage: Path) -> None:
        shutil.copytree(storage, base / "storage")
        self.base, self.endpoint = base, endpoint
        tree = base / "tree"
        tree.mkdir()
        (tree / "__init__.py").touch()
        self.bucket = Bucket(endpoint, tree)
        self.proxy = Proxy(endpoint)
        self.tasks: list[Task] = []
        self._numbers = itertools.count()
        self.release = self.asset = ""

    def begin(self, **variables: str) -> Probe:
        """Start the task, wait until it serves a first release, and return the probe that watches it."""
        self.task = self.start("webserver", **variables)
        self.wait_served(*self.publish())
        self.probe = Probe(self.task.ui, "main")
        return self.probe

    def start(self, service: str, **variables: str) -> Task:
        """Start a task that reaches S3 through the proxy."""
        base = self.base / f"{service}-{len(self.tasks)}"
        base.mkdir()
        settings = {
            "AWS_ENDPOINT_URL": self.proxy.url,
            "DAGSTER_POLL_SECONDS": "0.2",
            "DAGSTER_S3_TIMEOUT_SECONDS": "3",
            "DAGSTER_CANARY_SECONDS": "60",
        }
        self.tasks.append(Task(service, self.bucket, base, max_concurrent_runs=1, **(settings | variables)))
        return self.tasks[-1]

    def write(self, extra: str = "", location: str = "main") -> str:
        """Write a location whose one asset has a new name, and return that."""
        asset = f"asset_{next(self._numbers)}"
        package = self.bucket.tree / location
        package.mkdir(exist_ok=True)
        body = DEFINITIONS.format(extra=textwrap.dedent(extra), asset=asset)
        (package / "__init__.py").write_text(body, encoding="utf-8")
        return asset

    def publish(self, extra: str = "") -> tuple[str, str]:
        """Publish a release that nobody has seen; return its id and its asset."""
        asset = self.write(extra)
        return self.bucket.publish(), asset

    def wait_served(self, release: str, asset: str) -> None:
        """Wait until the task serves a release, is content with it, and the UI shows it."""
        self.task.wait_release(release)
        wait_for(f"{asset} in the UI", lambda: self.assets(self.task), until=lambda found: found == {asset})
        self.wait_calm()
        self.release, self.asset = release, asset

    def wait_error(self, said: str) -> dict[str, Any]:
        """Wait until health names an error; check that the last good release is served, and the task healthy."""
        code, body = wait_for(
            f"the error {said!r}", self.task.health, until=lambda seen: said in (seen[1].get("error") or "")
        )
        assert code == 200, "a fault does not make a task unhealthy"
        assert (body["release"], body["ready"], body["fresh"]) == (self.release, True, True)
        return dict(body)

    def wait_calm(self) -> None:
        """Wait until health names no error."""
        wait_for("no error", lambda: self.task.health()[1]["error"], until=lambda error: error is None)

    def check_probe(self) -> None:
        """Check that the probe has asked since the last check, and never saw anything but the location."""
        asked = self.probe.asked
        wait_for("the probe", lambda: self.probe.asked, until=lambda now: now > asked)
        assert self.probe.failures == []

    def pointer(self) -> tuple[bytes, Pointer]:
        """Return the pointer as it is in the bucket."""
        body = self.bucket.s3.get_object(Bucket=self.bucket.name, Key="releases/current")["Body"].read()
        return body, parse_pointer(body)

    def manifest(self) -> Manifest:
        """Return the manifest that the pointer names."""
        key = f"releases/{self.pointer()[1].release}.json"
        return parse_manifest(self.bucket.s3.get_object(Bucket=self.bucket.name, Key=key)["Body"].read())

    def point(self, pointer: bytes | Pointer) -> None:
        """Write a pointer by hand."""
        body = pointer if isinstance(pointer, bytes) else dump_pointer(pointer)
        self.bucket.s3.put_object(Bucket=self.bucket.name, Key="releases/current", Body=body)

    def point_to_manifest(self, identifier: str, document: bytes) -> None:
        """Write a manifest by hand, and a pointer to it."""
        key = f"releases/{identifier}.json"
        stored = self.bucket.s3.put_object(Bucket=self.bucket.name, Key=key, Body=document)
        pointer = self.pointer()[1]
        self.point(dataclasses.replace(pointer, release=identifier, manifest_version_id=stored["VersionId"]))

    def assets(self, task: Task) -> frozenset[str]:
        """Return the assets of "main" as the UI of a task shows them."""
        try:
            return task.ui.assets("main")
        except OSError:
            return frozenset()


@pytest.fixture(scope="module")
def rig(
    request: pytest.FixtureRequest, endpoint: str, blank_storage: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    """One for each file of drills, whose ``VARIABLES`` are added to the task's environment."""
    base = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_PROFILE", raising=False)
        for name, value in aws_environment(endpoint).items():
            patch.setenv(name, value)
        rig = Rig(endpoint, base, blank_storage)
        try:
            with rig.begin(**getattr(request.module, "VARIABLES", {})):
                yield rig
        finally:
            for task in rig.tasks:
                task.clean_up()
            rig.proxy.close()
