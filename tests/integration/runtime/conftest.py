"""A real supervisor with real Dagster processes, against an emulated bucket; no container, no PostgreSQL."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest

from module_utils.dag_publish import create_store, make_plan, publish, read_current, read_origin
from module_utils.dag_repositories import Owner, own_part
from module_utils.dag_tree import read_tree
from tests.e2e.dagster_client import DagsterClient, wait_for
from tests.e2e.platform_under_test import free_ports
from tests.integration.release.support import CONTAINER_PYTHON, ROOT, aws_environment, create_bucket, emulator

INSTANCE = """
telemetry: {enabled: false}
storage: {sqlite: {base_dir: {env: DAGSTER_STORAGE_DIR}}}
concurrency: {runs: {max_concurrent_runs: %d}}
run_queue: {max_user_code_failure_retries: 3, user_code_failure_retry_delay: 1}
run_launcher: {module: dagster_ecs_runtime.launcher, class: ReleaseRunLauncher}
run_monitoring: {enabled: true, start_timeout_seconds: 60, poll_interval_seconds: 1}
"""


def create_storage(base: Path) -> Path:
    """Return a storage directory with empty SQLite databases: Dagster's processes cannot create them side by side."""
    (base / "dagster.yaml").write_text(INSTANCE % 4, encoding="utf-8")
    storage = base / "storage"
    storage.mkdir()
    subprocess.run(
        [CONTAINER_PYTHON, "-c", "import dagster; dagster.DagsterInstance.get().get_runs_count()"],
        env={
            "DAGSTER_HOME": str(base),
            "DAGSTER_STORAGE_DIR": str(storage),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "docker/runtime/src"),
        },
        check=True,
    )
    return storage


@pytest.fixture(scope="session")
def blank_storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage directory to copy."""
    return create_storage(tmp_path_factory.mktemp("blank"))


class Bucket:
    """The bucket of one test and the tree that is published into it."""

    def __init__(self, endpoint: str, tree: Path) -> None:
        self.endpoint, self.tree = endpoint, tree
        self.name = f"runtime-{tree.parent.name.lower().replace('_', '-')}"[:60].strip("-")
        self.s3 = create_bucket(endpoint, self.name)
        self.repository = ""
        """Which of several repositories publishes; "" for the platform's own."""

    def publish(self) -> str:
        """Publish the tree and return the release id."""
        store = create_store(self.name)
        tree = read_tree(str(self.tree))
        own = own_part(tree)[0] if self.repository else tree
        plan = make_plan(store, own, read_current(store), Owner(self.repository))
        return publish(store, plan, read_origin(self.tree)).pointer.release


class NamedBucket(Protocol):
    """What a task must know of its bucket."""

    @property
    def endpoint(self) -> str: ...

    @property
    def name(self) -> str: ...


class Task:
    """A running supervisor and what it says."""

    def __init__(
        self,
        service: str,
        bucket: NamedBucket,
        base: Path,
        *,
        max_concurrent_runs: int = 4,
        instance: str | None = None,
        **variables: Any,
    ) -> None:
        self.service, self.base = service, base
        self.run_dir = Path(tempfile.mkdtemp(prefix="dt-", dir="/tmp"))
        image = base / "image"
        image.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "templates/workspace.yaml.j2", image)
        (base / "home").mkdir(exist_ok=True)
        (base / "home/dagster.yaml").write_text(instance or INSTANCE % max_concurrent_runs, encoding="utf-8")
        self.web_port, self.health_port = free_ports(2)
        given: dict[str, str | None] = {
            "PATH": f"{CONTAINER_PYTHON.parent}:{os.environ['PATH']}",
            "HOME": str(base),
            "PYTHONPATH": str(ROOT / "docker/runtime/src"),
            **aws_environment(bucket.endpoint),
            "DAGSTER_S3_BUCKET": bucket.name,
            "DAGSTER_HOME": str(base / "home"),
            "DAGSTER_RELEASES_DIR": str(base / "releases"),
            "DAGSTER_RUN_DIR": str(self.run_dir),
            "DAGSTER_STORAGE_DIR": str(base.parent / "storage"),
            "DAGSTER_IMAGE_DIR": str(image),
            "DAGSTER_BIND_HOST": "127.0.0.1",
            "DAGSTER_WEBSERVER_PORT": str(self.web_port),
            "DAGSTER_HEALTH_PORT": str(self.health_port),
            "DAGSTER_POLL_SECONDS": "0.5",
            "DAGSTER_STOP_SECONDS": "20",
            **variables,
        }
        self.env = {name: value for name, value in given.items() if value is not None}
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [CONTAINER_PYTHON, "-m", "dagster_ecs_runtime", service],
            env=self.env,
            cwd=base,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def ui(self) -> DagsterClient:
        return DagsterClient(f"http://127.0.0.1:{self.web_port}")

    def health(self, path: str = "/health") -> tuple[int, dict[str, Any]]:
        """Return status and body of the health endpoint; status 0 while nothing listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}{path}", timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, {}

    def states(self) -> list[dict[str, Any]]:
        """Return the release_state lines so far."""
        return [json.loads(line) for line in list(self.lines) if line.startswith("{") and '"release_state"' in line]

    def wait_release(self, release: str) -> None:
        """Wait until the task reports the release as serving."""
        wait_for(
            f"{self.service} to serve {release}",
            lambda: self.health()[1],
            until=lambda body: body.get("release") == release and body.get("status") == "serving" and body["ready"],
            seconds=90,
        )

    def session(self) -> list[psutil.Process]:
        """Return every live process of the task, orphans too: they share its session."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.terminate()
        return self.process.wait(40)

    def clean_up(self) -> None:
        """End whatever is left."""
        for process in self.session():
            process.kill()
        self.process.wait(10)
        self._reader.join(10)
        shutil.rmtree(self.run_dir, ignore_errors=True)
        lines = [line for line in self.lines if "MonitoringDaemon" not in line]
        print(f"--- {self.service}:", *lines[-100:], sep="\n")  # shown when the test fails


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with emulator() as url:
        yield url


@pytest.fixture
def bucket(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket, and an empty tree to publish into it."""
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    for name, value in aws_environment(endpoint).items():
        monkeypatch.setenv(name, value)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "__init__.py").touch()
    return Bucket(endpoint, tree)


@pytest.fixture
def start(bucket: Bucket, blank_storage: Path, tmp_path: Path) -> Iterator[Callable[..., Task]]:
    """Start tasks; whatever they leave is ended after the test."""
    tasks: list[Task] = []
    shutil.copytree(blank_storage, tmp_path / "storage")

    def starter(service: str, base: Path | None = None, **variables: Any) -> Task:
        base = base or tmp_path / f"{service}-{len(tasks)}"
        base.mkdir(exist_ok=True)
        tasks.append(Task(service, bucket, base, **variables))
        return tasks[-1]

    yield starter
    for task in tasks:
        task.clean_up()
