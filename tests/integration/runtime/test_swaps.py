"""Swap after swap: processes, open files, memory and disk stay as they are.

SWAPS says how many; `make soak` makes 200 of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from tests.e2e.dagster_client import wait_for
from tests.e2e.platform_under_test import Probe
from tests.integration.runtime.conftest import Bucket, Task
from tests.integration.runtime.test_drills import publish, serving

SWAPS = int(os.environ.get("SWAPS", "14"))
WARM_UP = 4
"""Swaps after which caches are filled and the number of directories has its final size."""

LEAK_KB = 1000
"""By as much may the memory of the supervisor differ between half-time and end, however many swaps there are."""


@dataclass(frozen=True)
class Use:
    """What a task uses between two swaps; memory is RssAnon of proc(5): other processes have no part in it."""

    processes: int
    supervisor_files: int
    webserver_files: int
    threads: int
    supervisor_kb: int
    webserver_kb: int
    disk_bytes: int
    sockets: int


def test_successive_swaps_use_nothing_more(bucket: Bucket, start: Callable[..., Task]) -> None:
    task = start("webserver", DAGSTER_POLL_SECONDS="0.2")
    release = publish(bucket, "asset_0")
    serving(task, release, "asset_0")
    uses: list[Use] = []
    with Probe(task.ui, "main") as probe:
        for number in range(1, SWAPS + 1):
            asset = f"asset_{number % 7}_{number}"
            serving(task, publish(bucket, asset), asset)
            if number in (WARM_UP, SWAPS // 2, SWAPS):
                # Supervisor, webserver and one code server; a server that was replaced is left alone for a while.
                wait_for("three processes", lambda: len(task.session()), until=lambda count: count == 3)
                wait_for("two releases only", lambda: _releases(task), until=lambda count: count == 2)
                uses.append(_use(task))
    assert probe.failures == []
    before, half, _ = uses
    # A webserver that answers has connections open, to clients, database and code server. What is leaked stays open.
    after = wait_for(
        f"no more than {before.webserver_files} + 2 open files of the webserver, which nobody asks any longer",
        lambda: _use(task),
        until=lambda use: use.webserver_files <= before.webserver_files + 2,
    )
    uses.append(after)
    names = (f"after {WARM_UP} swaps", f"after {SWAPS // 2}", f"after {SWAPS}", "and when nobody asks")
    print(*(f"{name}: {asdict(use)}" for name, use in zip(names, uses, strict=True)), sep="\n")
    assert after.processes == before.processes
    assert after.sockets == before.sockets
    assert after.threads <= before.threads + 1, "a thread that answers /health may be there or not"
    assert after.supervisor_files <= before.supervisor_files + 2
    assert abs(after.disk_bytes - before.disk_bytes) < 10_000
    assert after.supervisor_kb - half.supervisor_kb <= LEAK_KB


def _releases(task: Task) -> int:
    return len(list((task.base / "releases").iterdir()))


def _anonymous_kb(pid: int) -> int:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines())
    return int(fields["RssAnon"].split()[0])


def _use(task: Task) -> Use:
    supervisor = psutil.Process(task.process.pid)
    webserver = psutil.Process(task.health()[1]["children"]["webserver"])
    return Use(
        processes=len(task.session()),
        supervisor_files=supervisor.num_fds(),
        webserver_files=webserver.num_fds(),
        threads=supervisor.num_threads(),
        supervisor_kb=_anonymous_kb(supervisor.pid),
        webserver_kb=_anonymous_kb(webserver.pid),
        disk_bytes=sum(file.stat().st_size for file in (task.base / "releases").rglob("*") if file.is_file()),
        sockets=len(list(task.run_dir.iterdir())),
    )
