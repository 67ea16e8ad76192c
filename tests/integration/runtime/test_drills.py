"""Processes and disks that fail for real, while a web UI is asked throughout: nothing is lost or missing."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from dagster_ecs_runtime.ping import answers
from tests.e2e.dagster_client import wait_for
from tests.e2e.platform_under_test import Probe
from tests.integration.faults.proxy import FILE, Proxy
from tests.integration.runtime.conftest import Bucket, Task

Start = Callable[..., Task]


def write(bucket: Bucket, asset: str, extra: str = "") -> None:
    package = bucket.tree / "main"
    package.mkdir(exist_ok=True)
    body = f"import dagster as dg\n\n{textwrap.dedent(extra)}\n\n@dg.asset\ndef {asset}() -> None: ...\n\n\n"
    body += f"defs = dg.Definitions(assets=[{asset}], executor=dg.in_process_executor)\n"
    (package / "__init__.py").write_text(body, encoding="utf-8")


def publish(bucket: Bucket, asset: str, extra: str = "") -> str:
    write(bucket, asset, extra)
    return bucket.publish()


def serving(task: Task, release: str, asset: str) -> None:
    """Wait until a task serves a release, and its web UI shows the release's asset."""
    task.wait_release(release)
    wait_for(f"{asset} in the UI", lambda: _assets(task) == {asset})


def code_server(task: Task) -> int:
    pid: int = task.health()[1]["children"]["code server main"]
    return pid


def another(task: Task, child: str, broken: int) -> int:
    """Wait until a task has another child in the place of the one that was broken."""
    return int(
        wait_for(
            f"another {child}", lambda: task.health()[1]["children"].get(child, broken), until=lambda pid: pid != broken
        )
    )


def other_code_server(task: Task, than: int) -> int:
    return another(task, "code server main", than)


def first_release(task: Task) -> str:
    """Wait until a task serves anything."""
    return str(wait_for("some release", lambda: task.health()[1].get("release")))


@contextlib.contextmanager
def probed(task: Task) -> Iterator[None]:
    """Ask the web UI throughout: not one request fails, and the location is there and whole at every moment."""
    with Probe(task.ui, "main") as probe:
        yield
        asked = probe.asked
        wait_for("two more answers", lambda: probe.asked >= asked + 2)
    assert probe.failures == []


def test_code_servers_that_die_hang_or_lose_their_files_are_replaced(bucket: Bucket, start: Start) -> None:
    release = publish(bucket, "one")
    task = start("webserver", DAGSTER_HANG_SECONDS="1")
    serving(task, release, "one")
    webserver = task.health()[1]["children"]["webserver"]
    with probed(task):
        killed = code_server(task)
        os.kill(killed, signal.SIGKILL)
        other_code_server(task, killed)
        serving(task, release, "one")

        release = publish(bucket, "two")
        serving(task, release, "two")
        hung = code_server(task)
        os.kill(hung, signal.SIGSTOP)
        fresh = other_code_server(task, hung)
        wait_for("the end of the one that hung", lambda: not psutil.pid_exists(hung))

        dags = task.base / "releases" / release / "dags"
        for path in (dags, dags / "main/__init__.py"):
            path.chmod(0o755)
        (dags / "main/__init__.py").write_text("raise RuntimeError('damaged on the disk')\n", encoding="utf-8")
        (dags / "__init__.py").unlink()
        os.kill(fresh, signal.SIGKILL)
        other_code_server(task, fresh)
        serving(task, release, "two")
        assert "damaged" not in (dags / "main/__init__.py").read_text(encoding="utf-8")
        assert (dags / "__init__.py").exists()

        release = publish(bucket, "three")
        serving(task, release, "three")
    assert task.health()[1]["children"]["webserver"] == webserver
    assert task.health()[1]["server_restarts"] == 3
    assert [line for line in task.lines if '"code_server_hangs"' in line]
    restarts = sum(state["server_restarts"] for state in task.states())
    assert restarts <= 3, "log lines count what is new; CloudWatch adds them up"


def test_code_server_that_takes_long_to_load_is_not_missed(bucket: Bucket, start: Start) -> None:
    """Dagster's webserver gives a location up after ten refused connections, a second apart: nobody is refused."""
    release = publish(bucket, "one", "import time\ntime.sleep(14)")
    task = start("webserver")
    serving(task, release, "one")
    with probed(task):
        killed = code_server(task)
        os.kill(killed, signal.SIGKILL)
        other_code_server(task, killed)
        wait_for("the server to answer", lambda: answers(task.run_dir / "main.sock", 2))
    run = task.ui.launch("main", assets=["one"])
    assert task.ui.run_status(run) == "QUEUED"
    assert task.health()[1]["server_restarts"] == 1


def test_webserver_that_dies_or_hangs_is_replaced(bucket: Bucket, start: Start) -> None:
    """Its clients notice: a task has one web server. The code servers go on, and the new one is whole at once."""
    release = publish(bucket, "one")
    task = start("webserver", DAGSTER_HANG_SECONDS="1")
    serving(task, release, "one")
    server = code_server(task)
    for number in (signal.SIGKILL, signal.SIGSTOP):
        broken = task.health()[1]["children"]["webserver"]
        os.kill(broken, number)
        another(task, "webserver", broken)
        serving(task, release, "one")
        with probed(task):
            assert code_server(task) == server
        wait_for("the webserver to answer the supervisor", lambda: task.health()[1]["ready"])


def test_daemon_that_dies_is_replaced_and_the_ui_does_not_notice(bucket: Bucket, start: Start) -> None:
    release = publish(bucket, "one")
    webserver, daemon = start("webserver"), start("daemon")
    serving(webserver, release, "one")
    daemon.wait_release(release)
    with probed(webserver):
        broken = daemon.health()[1]["children"]["daemon"]
        os.kill(broken, signal.SIGKILL)
        another(daemon, "daemon", broken)
        run = webserver.ui.launch("main", assets=["one"])
        assert webserver.ui.wait_run(run) == "SUCCESS"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_disk_full_while_fetching(bucket: Bucket, start: Start, small_disk: Path) -> None:
    release = publish(bucket, "one")
    task = start("webserver", DAGSTER_RELEASES_DIR=str(small_disk / "releases"))
    serving(task, release, "one")
    with probed(task):
        big = bucket.tree / "main/big.bin"
        big.write_bytes(os.urandom(5_000_000))
        publish(bucket, "two")
        body = wait_for("the reason", lambda: task.health()[1], until=lambda body: body["error"])
        assert "No space left on device" in body["error"]
        assert str(small_disk) in body["error"]
        assert (body["release"], body["status"]) == (release, "serving")
        assert task.health()[0] == 200
        wait_for("the half-fetched release to be removed", lambda: not list(small_disk.glob("releases/*.tmp")))
        big.unlink()
        serving(task, publish(bucket, "three"), "three")


def test_code_that_takes_all_memory_is_ended_before_what_serves(bucket: Bucket, start: Start, tmp_path: Path) -> None:
    """First a canary whose import eats memory, then a leak in the code server of the release that is served."""
    release = publish(bucket, "one", LEAK.format(trigger=str(tmp_path / "leak")))
    task = start("webserver", DAGSTER_CANARY_SECONDS="100")
    serving(task, release, "one")
    webserver = task.health()[1]["children"]["webserver"]
    with memory_limit(task, 600 * 1024 * 1024), probed(task):
        eater = publish(bucket, "two", "held = []\nwhile True:\n    held.append(bytearray(b'x' * 10_000_000))")
        body = wait_for("the rejection", lambda: task.health()[1], until=lambda body: body["rejected"] == eater)
        assert "most likely because the memory of the task was used up" in body["error"]
        leaking = code_server(task)
        (tmp_path / "leak").touch()
        wait_for("the end of the leaking server", lambda: not psutil.pid_exists(leaking))
        (tmp_path / "leak").unlink()
        other_code_server(task, leaking)
        serving(task, publish(bucket, "three"), "three")
        assert task.health()[1]["children"]["webserver"] == webserver
        assert task.process.poll() is None


LEAK = """
import threading
import time
from pathlib import Path


def leak() -> None:
    held = []
    while True:
        time.sleep(0.1)
        if Path({trigger!r}).exists():
            held.append(bytearray(b"x" * 20_000_000))


threading.Thread(target=leak, daemon=True).start()
"""


@contextlib.contextmanager
def memory_limit(task: Task, limit: int) -> Iterator[None]:
    """Put a running task, and what it starts from now on, into a memory cgroup."""
    v1, v2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    parent, limit_file = (v1, "memory.limit_in_bytes") if v1.is_dir() else (v2, "memory.max")
    group = parent / f"drill-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit_file).write_text(str(limit))
    except OSError as error:
        pytest.skip(f"memory cannot be limited here: {error}")
    try:
        for process in task.session():
            (group / "cgroup.procs").write_text(str(process.pid))
        yield
    finally:
        task.clean_up()
        wait_for("the cgroup to be empty", lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


@pytest.mark.parametrize("moment", ["fetch", "canary", "swap"])
def test_stop_in_the_middle(bucket: Bucket, start: Start, endpoint: str, tmp_path: Path, moment: str) -> None:
    """SIGTERM is obeyed within the time that ECS gives, and no process is left."""
    proxy = Proxy(endpoint)
    release = publish(bucket, "one")
    task = start("webserver", AWS_ENDPOINT_URL=proxy.url, DAGSTER_STOP_SECONDS="15")
    serving(task, release, "one")
    mark = tmp_path / "importing"
    hang = f"import time, pathlib\npathlib.Path({str(mark)!r}).touch()\ntime.sleep(3600)"
    with contextlib.ExitStack() as stack:
        if moment == "fetch":
            stack.enter_context(proxy.fault(lambda answer: replace(answer, sends=10, holds=True), FILE))
        release = publish(bucket, "two", hang if moment == "canary" else "")
        match moment:
            case "fetch":
                wait_for("the fetch to be held up", lambda: proxy.struck)
            case "canary":
                wait_for("the import to hang", mark.exists)
            case "swap":
                wait_for("the new release", lambda: task.health()[1], until=lambda body: body["release"] == release)
        assert task.stop() == 0
        assert task.session() == []
    proxy.close()


class Swap:
    """A swap that comes to one of its stages, and no further than a moment beyond it."""

    STAGES = ("fetch", "directory", "canary", "switch", "served")

    def __init__(self, task: Task, proxy: Proxy, marks: Path) -> None:
        self.task, self._proxy = task, proxy
        self._importing, self._go_on = marks.with_suffix(".importing"), marks.with_suffix(".go-on")

    def begin(self, bucket: Bucket, asset: str, stage: str) -> str:
        """Publish a release, wait until the swap is at this stage, and return the release."""
        link = self.task.run_dir / "main.sock"
        server = link.readlink()
        held = f"import time, pathlib\npathlib.Path({str(self._importing)!r}).touch()\n"
        held += f"while not pathlib.Path({str(self._go_on)!r}).exists():\n    time.sleep(0.1)"
        release = publish(bucket, asset, held if stage == "canary" else "")
        directory = self.task.base / "releases" / release
        match stage:
            case "fetch":
                wait_for("the fetch to be held up", lambda: self._proxy.struck)
                assert list(directory.parent.glob("*.tmp"))
            case "directory":
                at_once("the whole release on the disk", directory.is_dir)
            case "canary":
                wait_for("the import", self._importing.exists)
            case "switch":
                at_once("another server behind the link", lambda: link.readlink() != server)
            case "served":
                at_once("the new release", lambda: self.task.health()[1].get("release") == release)
        return release

    def let_go(self) -> None:
        """Let an import that waits go on."""
        self._go_on.touch()


def at_once(what: str, condition: Callable[[], bool]) -> None:
    """Wait for a condition that nothing holds up, asking without a pause."""
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until, what


def test_supervisor_killed_at_each_stage_of_a_swap(bucket: Bucket, start: Start, endpoint: str, tmp_path: Path) -> None:
    """As when a task is lost and ECS starts another: it serves a whole release, whatever the first left behind.

    The users of a second web UI notice nothing.
    """
    proxy = Proxy(endpoint)
    release = publish(bucket, "asset_0")
    published = {release}
    task, spared = start("webserver", AWS_ENDPOINT_URL=proxy.url), start("webserver")
    base = task.base
    for each in (task, spared):
        serving(each, release, "asset_0")
    with probed(spared):
        for number, stage in enumerate(Swap.STAGES, start=1):
            swap = Swap(task, proxy, tmp_path / stage)
            with contextlib.ExitStack() as stack:
                if stage == "fetch":
                    stack.enter_context(proxy.fault(lambda answer: replace(answer, sends=10, holds=True), FILE))
                release = swap.begin(bucket, f"asset_{number}", stage)
                published.add(release)
                task.process.kill()
                task.clean_up()
            swap.let_go()
            task = start("webserver", base=base, AWS_ENDPOINT_URL=proxy.url)
            assert first_release(task) in published
            for each in (task, spared):
                serving(each, release, f"asset_{number}")
            with probed(task):
                assert not list((base / "releases").glob("*.tmp"))
    proxy.close()


def _assets(task: Task) -> frozenset[str]:
    try:
        return task.ui.assets("main")
    except (OSError, KeyError):
        return frozenset()
