"""What the measurements share: one emulator, trees of N files, and buckets that hold them."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.emulator import Emulator, emulator
from bench.usage import Usage, run
from tests.integration.release.support import ROOT, aws_environment
from tests.integration.runtime.conftest import Bucket, create_storage

AWS = ROOT / ".venv/bench/bin/aws"
CONTROLLER_PYTHON = ROOT / ".venv/controller/bin/python"
CONTAINER_PYTHON = ROOT / ".venv/container/bin/python"

_OLD = 1_600_000_000
"""Modification time of every file, older than any object: then `aws s3 sync` goes by sizes, as ours by hashes."""

_lengths = itertools.count(1)

_LOCATION = """
import dagster as dg


@dg.asset
def numbers() -> None: ...


defs = dg.Definitions(assets=[numbers])
"""


@dataclass(frozen=True)
class Published:
    """A bucket that holds a tree, and how publishing it for the first time went.

    ``copy`` is a directory for those who follow the bucket.
    """

    bucket: Bucket
    tree: Path
    copy: Path
    first: Measured


@dataclass(frozen=True)
class Measured:
    """One run of a client against the emulator.

    ``phases`` are seconds by name and ``cpu`` CPU-seconds by name, where the program reports them.
    """

    usage: Usage
    emulator_cpu: float
    requests: int
    phases: dict[str, float]
    cpu: dict[str, float]


@dataclass
class World:
    """The place where everything is measured. ``quick`` asks for fewer and smaller repetitions."""

    base: Path
    emulator: Emulator
    quick: bool
    storage: Path
    """A storage directory with empty databases, to copy."""
    _published: dict[int, Published] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a client of the emulator."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.base), **aws_environment(self.emulator.url)}

    def published(self, files: int) -> Published:
        """Return a bucket with a release of so many files, published now or earlier."""
        if files not in self._published:
            base = self.base / f"files-{files}"
            tree, copy = make_tree(base / "tree", files), base / "copy"
            shutil.copytree(tree, copy)
            bucket = Bucket(self.emulator.url, tree)
            self._published[files] = Published(bucket, tree, copy, self.publish(bucket, tree))
        return self._published[files]

    def publish(self, bucket: Bucket, tree: Path) -> Measured:
        """Publish a tree as the Ansible action does, in a process of its own without Ansible."""
        command: list[str | Path] = [CONTROLLER_PYTHON, ROOT / "bench/publish_once.py", tree, bucket.name]
        return self.measure(command, PYTHONPATH=str(ROOT / "plugins"))

    def aws_sync(
        self,
        source: str | Path,
        target: str | Path,
        *,
        memory: bool = False,
        started: Callable[[int], None] | None = None,
    ) -> Measured:
        """Run `aws s3 sync --delete`."""
        command: list[str | Path] = [AWS, "s3", "sync", source, target, "--delete", "--no-progress"]
        return self.measure(command, memory=memory, started=started)

    def fetch(self, bucket: Bucket, *, started: Callable[[int], None] | None = None) -> Measured:
        """Fetch a release onto an empty disk as a new task does, in a process of its own."""
        target = self.base / "fetched"
        command = [CONTAINER_PYTHON, ROOT / "bench/fetch_once.py", target]
        path = str(ROOT / "docker/runtime/src")
        measured = self.measure(command, started=started, PYTHONPATH=path, DAGSTER_S3_BUCKET=bucket.name)
        remove(target)
        return measured

    def measure(
        self,
        command: Sequence[str | Path],
        *,
        memory: bool = False,
        started: Callable[[int], None] | None = None,
        **environment: str,
    ) -> Measured:
        """Run a client and measure it; a last line of JSON in its output holds its phases."""
        cpu, requests = self.emulator.cpu(), self.emulator.count()
        usage = run(command, self.environment | environment, self.base, memory=memory, started=started)
        lines = usage.output.splitlines()
        said: dict[str, Any] = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
        used = self.emulator.cpu() - cpu
        return Measured(usage, used, self.emulator.count() - requests, said.get("phases", {}), said.get("cpu", {}))


@contextmanager
def world(base: Path, *, quick: bool) -> Iterator[World]:
    """Start the emulator; everything is written below ``base``, which is removed."""
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    try:
        with emulator() as running:
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                del os.environ[name]
            os.environ.update(aws_environment(running.url))
            yield World(base, running, quick, create_storage(base))
    finally:
        remove(base)


def remove(directory: Path) -> None:
    """Remove a directory tree, releases with their read-only directories too."""
    for where, _, _ in os.walk(directory):
        Path(where).chmod(0o755)
    shutil.rmtree(directory)


def make_tree(root: Path, files: int) -> Path:
    """Write a tree of ``files`` files, 100 in a directory and 1 KiB on average; one location, which imports one."""
    chance = random.Random(files)  # noqa: S311, sample data
    write(root / "__init__.py", "")
    write(root / "main/__init__.py", _LOCATION)
    for number in range(files - 2):
        write(root / module(number), f"x = {number}\n" + "# text\n" * chance.randint(0, 290))
    return root


def module(number: int) -> str:
    """Return the path of a file of a tree by its number."""
    return f"main/part_{number // 100}/module_{number % 100}.py"


def write(path: Path, text: str) -> None:
    """Write a file with the modification time that all files have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    os.utime(path, (_OLD, _OLD))


def longer(path: Path) -> None:
    """Change a file: another content, and a size that it never had."""
    write(path, path.read_text(encoding="utf-8") + "#" * next(_lengths) + "\n")


def median(values: list[float]) -> float:
    """Return the median."""
    return statistics.median(values)
