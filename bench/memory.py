"""Memory of the web container: steady, and while it swaps one release for another."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

from bench.limits import UnavailableError
from bench.report import Result, Table, Target
from bench.tasks import Example, task
from bench.usage import pss
from bench.world import World, median
from tests.e2e.dagster_client import wait_for
from tests.integration.runtime.conftest import Task

PEAK, STEADY = 360, 270
_MEGABYTE = 1024 * 1024
_AFTER_SECONDS = 8
"""After a swap, until the server that was replaced has left and the web UI has turned to the new one."""


def measure(world: World) -> Result:
    """Swap some times; the peak is that of all swaps."""
    result = Result("Memory of the web container, one location")
    example = Example(world, "memory")
    example.edit("probe_start")
    first = example.bucket.publish()
    targets = (
        ("memory of the web container during a swap (PSS), one location", f"≤ {PEAK} MB"),
        ("memory of the web container, steady (PSS)", f"≤ {STEADY} MB"),
    )
    with ExitStack() as stack:
        try:
            web, group = stack.enter_context(task(example, "webserver"))
        except UnavailableError as error:
            result.notes.append(f"Not measured: {error}.")
            result.targets += [Target(what, wanted, "-", None) for what, wanted in targets]
            return result
        _wait_served(web, first)
        web.ui.locations()
        time.sleep(_AFTER_SECONDS)
        steady, peaks, charged = [_by_name(web)], [], []
        for number in range(1 if world.quick else 3):
            example.edit(f"probe_{number}")
            group.reset_peak()
            with _Sampler(web) as sampler:
                _wait_served(web, example.bucket.publish())
                web.ui.locations()
                time.sleep(_AFTER_SECONDS)
            peaks.append(sampler.peak)
            charged.append(group.peak_bytes())
            steady.append(_by_name(web))
        cache = group.cache_bytes()
    peak = max(peaks, key=_sum)
    table = Table(["process", "steady, MB", "at the peak of a swap, MB"])
    last = steady[-1]
    for name in sorted({*last, *peak}):
        table.add(name, _megabytes(last.get(name, 0)), _megabytes(peak.get(name, 0)))
    table.add("all (PSS)", _megabytes(_sum(last)), _megabytes(_sum(peak)))
    table.add("charged to the control group, with file cache", "", _megabytes(max(charged)))
    result.tables.append(table)
    values = (_sum(peak), int(median([_sum(sample) for sample in steady])))
    for (what, wanted), limit, value in zip(targets, (PEAK, STEADY), values, strict=True):
        result.targets.append(Target(what, wanted, f"{_megabytes(value)} MB", value <= limit * _MEGABYTE))
    result.values = {"steady": steady, "peaks": peaks, "charged": charged, "cache": cache}
    result.notes.append(
        f"The highest sum of all processes' proportional set sizes in {len(peaks)} swaps, sampled every 0.1 s. What is "
        f"charged to the control group holds files that were read, too ({_megabytes(cache)} MB at the end), which the "
        "kernel takes back when it needs them."
    )
    return result


class _Sampler:
    """Samples a task's memory in the background and keeps the highest."""

    def __init__(self, web: Task) -> None:
        self.peak: dict[str, int] = {}
        self._web = web
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> _Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(0.1):
            self.peak = max(self.peak, _by_name(self._web), key=_sum)


def _by_name(web: Task) -> dict[str, int]:
    """Return the memory of the task's processes in bytes, by what they are."""
    webserver = web.health()[1].get("children", {}).get("webserver")
    sizes: dict[str, int] = {}
    servers = 0
    for process in sorted(web.session(), key=lambda each: each.create_time()):
        if process.pid == web.process.pid:
            name = "supervisor"
        elif process.pid == webserver:
            name = "dagster-webserver"
        else:
            servers += 1
            name = f"code server {servers}"
        sizes[name] = pss(process.pid)
    return sizes


def _wait_served(web: Task, release: str) -> None:
    def serves() -> bool:
        health = web.health()[1]
        return bool(health.get("release") == release and health.get("status") == "serving" and health["ready"])

    wait_for(f"the web container to serve {release}", serves, seconds=240)


def _sum(sample: dict[str, int]) -> int:
    return sum(sample.values())


def _megabytes(size: int) -> str:
    return f"{size / _MEGABYTE:.0f}"
