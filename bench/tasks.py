"""Tasks under limits: the container program, and the baseline in its place."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jinja2
import psutil
import yaml

from bench.limits import Group
from bench.world import AWS, CONTAINER_PYTHON, World
from tests.e2e.dagster_client import DagsterClient
from tests.e2e.platform_under_test import free_ports
from tests.integration.release.support import ROOT, aws_environment
from tests.integration.runtime.conftest import Bucket, Task

CPU = 0.25
MEMORY = 512 * 1024 * 1024
POLL_SECONDS = 10
STOP_SECONDS = 25
"""`ecs_poll_seconds`, and `ecs_stop_timeout` less 5; tests/unit/bench compares them with the role."""

IMPORTS = "BENCH_IMPORTS"
"""Variable that names the file into which the example location writes the newest probe whenever it is imported."""

_PROBE = """

import os
from pathlib import Path

if "{variable}" in os.environ:
    with Path(os.environ["{variable}"]).open("a", encoding="utf-8") as file:
        file.write("{probe}\\n")


@dg.asset
def {probe}() -> None: ...
"""


def instance() -> str:
    """Return dagster.yaml as the template has it, with SQLite for PostgreSQL and without S3 for what runs print."""
    environment = jinja2.Environment(autoescape=False)  # noqa: S701, it makes YAML
    environment.filters["to_json"] = json.dumps
    template = environment.from_string((ROOT / "templates/dagster.yaml.j2").read_text(encoding="utf-8"))
    defaults = yaml.safe_load((ROOT / "roles/image/defaults/main.yml").read_text(encoding="utf-8"))
    document = yaml.safe_load(template.render(defaults))
    document |= {"storage": {"sqlite": {"base_dir": {"env": "DAGSTER_STORAGE_DIR"}}}}
    del document["compute_logs"]
    return str(yaml.safe_dump(document))


class Example:
    """A bucket and a copy of the example DAGs, which gets another asset with every round."""

    def __init__(self, world: World, name: str) -> None:
        self.base = world.base / name
        self.tree = self.base / "dags"
        shutil.copytree(ROOT / "dags", self.tree, ignore=shutil.ignore_patterns("__pycache__"))
        self._assets = (self.tree / "main/assets.py").read_text(encoding="utf-8")
        self.bucket = Bucket(world.emulator.url, self.tree)
        shutil.copytree(world.storage, self.base / "storage")

    def edit(self, probe: str) -> None:
        """Add the asset ``probe``, in the place of the one before."""
        text = self._assets + _PROBE.format(probe=probe, variable=IMPORTS)
        (self.tree / "main/assets.py").write_text(text, encoding="utf-8")


@contextmanager
def idle_task(world: World, files: int) -> Iterator[Task]:
    """Run the container program without limits on a release of so many files."""
    base = Path(tempfile.mkdtemp(prefix=f"idle-{files}-", dir=world.base))
    shutil.copytree(world.storage, base / "storage")
    running = _start("webserver", world.published(files).bucket, base / "webserver")
    try:
        yield running
    finally:
        _clean_up(running)


def _start(service: str, bucket: Bucket, base: Path) -> Task:
    """Start the container program with default settings."""
    return Task(
        service,
        bucket,
        base,
        instance=instance(),
        DAGSTER_POLL_SECONDS=str(POLL_SECONDS),
        DAGSTER_STOP_SECONDS=str(STOP_SECONDS),
    )


def _clean_up(running: Task) -> None:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its log
        running.clean_up()


@contextmanager
def task(example: Example, service: str) -> Iterator[tuple[Task, Group]]:
    """Run the container program with default settings within the limits."""
    group = Group(f"{example.base.name}-{service}", cpu=CPU, memory=MEMORY)
    try:
        running = _start(service, example.bucket, example.base / service)
        try:
            group.add(running.process.pid)
            yield running, group
        finally:
            _clean_up(running)
    finally:
        group.close()


class Baseline:
    """bench/baseline.sh as a task: it has the interface of ``Task`` as far as the measurement needs it."""

    def __init__(self, example: Example, service: str) -> None:
        self.service, self.base = service, example.base / service
        self.base.mkdir()
        (self.base / "home").mkdir()
        document = yaml.safe_load(instance())
        del document["run_launcher"]  # the container program's own
        (self.base / "home/dagster.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
        location = {"module_name": "dags.main", "working_directory": str(self.base), "location_name": "main"}
        workspace = {"load_from": [{"python_module": location}]}
        (self.base / "workspace.yaml").write_text(yaml.safe_dump(workspace), encoding="utf-8")
        (port,) = free_ports(1)
        self.ui = DagsterClient(f"http://127.0.0.1:{port}")
        self.imports = self.base / "imports"
        self._log = (self.base / "log").open("w", encoding="utf-8")
        self.process = subprocess.Popen(
            [ROOT / "bench/baseline.sh", service],
            env={
                "PATH": f"{CONTAINER_PYTHON.parent}:{AWS.parent}:{os.environ['PATH']}",
                "HOME": str(self.base),
                **aws_environment(example.bucket.endpoint),
                "DAGSTER_S3_BUCKET": example.bucket.name,
                "DAGSTER_HOME": str(self.base / "home"),
                "DAGSTER_STORAGE_DIR": str(example.base / "storage"),
                "DAGSTER_WEBSERVER_PORT": str(port),
                IMPORTS: str(self.imports),
            },
            cwd=self.base,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def has_imported(self, probe: str) -> bool:
        """Return whether a code server has imported the version with this asset."""
        return self.imports.exists() and probe in self.imports.read_text(encoding="utf-8").split()

    def clean_up(self) -> None:
        """End everything; Dagster's servers have left the process group, but not the session."""
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getsid(process.pid) == self.process.pid:
                    process.kill()
        self.process.wait(10)
        self._log.close()


@contextmanager
def baseline(example: Example, service: str) -> Iterator[tuple[Baseline, Group]]:
    """Run the baseline within the limits."""
    group = Group(f"{example.base.name}-{service}", cpu=CPU, memory=MEMORY)
    try:
        running = Baseline(example, service)
        try:
            group.add(running.process.pid)
            yield running, group
        finally:
            running.clean_up()
    finally:
        group.close()
