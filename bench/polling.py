"""What following the releases costs while nothing changes, beside `aws s3 sync` of the same trees."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from bench.report import Result, Table, Target
from bench.tasks import POLL_SECONDS, idle_task
from bench.usage import cpu_seconds, pss, rss
from bench.world import Measured, World, median
from tests.e2e.dagster_client import wait_for
from tests.integration.runtime.conftest import Task

PSS, SHARE = 25, 0.2
HEALTH_CHECK_SECONDS = 15
"""`ecs_health_check_interval`."""
_SETTLE_SECONDS = 10
_BASELINE_SECONDS = 60
_MEGABYTE = 1024 * 1024


@dataclass
class Idle:
    """What an idle supervisor used: CPU-seconds in all, requests a poll, memory in bytes."""

    cpu: float
    requests: float
    peak_rss: int
    pss: int
    """With no other task that shares its pages."""


def measure(world: World) -> Result:
    """Let one task for each tree idle, all at the same time; then poll the same trees with the AWS CLI."""
    result = Result("Polling while nothing changes")
    sizes = (1_000,) if world.quick else (10, 1_000, 10_000)
    seconds = 25 if world.quick else 60
    ours = _idle(world, sizes, seconds)
    theirs = {files: _aws_polls(world, files) for files in sizes}
    table = Table(["files", "client", "CPU a poll, ms", "requests a poll", "share of a core, %", "RSS, MB", "PSS, MB"])
    ratios = Table(["files", "CPU a poll: aws s3 sync / supervisor", "requests: aws s3 sync / supervisor"])
    for files in sizes:
        idle, polls = ours[files], theirs[files]
        cpu, their_cpu = idle.cpu / seconds * POLL_SECONDS, median([each.usage.cpu for each in polls])
        table.add(
            f"{files:,}",
            f"supervisor, every {POLL_SECONDS} s",
            f"{cpu * 1000:.1f}",
            f"{idle.requests:g}",
            f"{idle.cpu / seconds * 100:.2f}",
            _megabytes(idle.peak_rss),
            _megabytes(idle.pss),
        )
        table.add(
            f"{files:,}",
            f"aws s3 sync, every {_BASELINE_SECONDS} s",
            f"{their_cpu * 1000:.0f}",
            polls[0].requests,
            f"{their_cpu / _BASELINE_SECONDS * 100:.2f}",
            _megabytes(polls[0].usage.peak_rss),
            _megabytes(polls[0].usage.peak_pss),
        )
        ratios.add(f"{files:,}", f"{their_cpu / cpu:.0f}", f"{polls[0].requests / idle.requests:g}")
    result.tables += [table, ratios]
    share = max(idle.cpu for idle in ours.values()) / seconds * 100
    result.targets += [
        *(
            Target(
                f"memory of the supervisor (PSS), {files:,} files",
                f"≤ {PSS} MB",
                f"{_megabytes(idle.pss)} MB",
                idle.pss <= PSS * _MEGABYTE,
            )
            for files, idle in ours.items()
        ),
        Target("CPU of the supervisor, idle polling", f"≤ {SHARE} % of a core", f"{share:.2f} %", share <= SHARE),
        Target(
            f"requests a poll, at {', '.join(f'{files:,}' for files in sizes)} files",
            "1",
            ", ".join(f"{idle.requests:g}" for idle in ours.values()),
            all(idle.requests == 1 for idle in ours.values()),
        ),
    ]
    result.values = {
        str(files): {
            "supervisor": {"seconds": seconds, **asdict(idle)},
            "aws": [{**asdict(each.usage), "requests": each.requests} for each in theirs[files]],
        }
        for files, idle in ours.items()
    }
    result.notes.append(
        f"The supervisor's CPU is all it used in {seconds} s, and so holds more than the polls: it looks after its "
        f"processes every second, asks the code server whether it answers, and answers a health check every "
        f"{HEALTH_CHECK_SECONDS} s. Its PSS was taken while no other task was there to share pages. "
        "`aws s3 sync` is a new process for each poll, on a tree that is complete."
    )
    return result


def _idle(world: World, sizes: tuple[int, ...], seconds: float) -> dict[int, Idle]:
    """Return what an idle supervisor used by number of files: memory one after the other, CPU side by side."""
    memory = {}
    for files in sizes[:-1]:
        with idle_task(world, files) as task:
            memory[files] = _settled([task])[0]
    with idle_task(world, sizes[-1]) as last:
        with ExitStack() as stack:
            tasks = {files: stack.enter_context(idle_task(world, files)) for files in sizes[:-1]} | {sizes[-1]: last}
            _settled(list(tasks.values()))
            before = {files: cpu_seconds(task.process.pid) for files, task in tasks.items()}
            first = world.emulator.count()
            until = time.monotonic() + seconds
            while (left := until - time.monotonic()) > 0:
                time.sleep(min(left, HEALTH_CHECK_SECONDS))
                for task in tasks.values():
                    task.health()
            used = {files: cpu_seconds(task.process.pid) - before[files] for files, task in tasks.items()}
            seen = world.emulator.requests(first)
            peaks = {files: rss(task.process.pid) for files, task in tasks.items()}
        memory[sizes[-1]] = pss(last.process.pid)
    found = {}
    for files in sizes:
        prefix = f"/{world.published(files).bucket.name}/"
        times = [at for at, _, path in seen if path.startswith(prefix)]
        requests = len(times) / (round((times[-1] - times[0]) / POLL_SECONDS) + 1)
        found[files] = Idle(used[files], requests, peaks[files], memory[files])
    return found


def _settled(tasks: list[Task]) -> list[int]:
    """Wait until tasks have started and come to rest; return their supervisors' PSS in bytes."""
    wait_for("the tasks", lambda: all(task.health()[0] == 200 for task in tasks), seconds=600)
    time.sleep(_SETTLE_SECONDS)
    return [pss(task.process.pid) for task in tasks]


def _megabytes(size: int) -> str:
    return f"{size / _MEGABYTE:.1f}"


def _aws_polls(world: World, files: int) -> list[Measured]:
    """Return some polls of a tree by `aws s3 sync`, none of which finds anything."""
    published = world.published(files)
    source = f"s3://{published.bucket.name}/dags/"
    world.aws_sync(source, published.copy)
    polls = [world.aws_sync(source, published.copy, memory=turn == 0) for turn in range(4)]
    if any("download:" in poll.usage.output for poll in polls):
        raise RuntimeError("aws s3 sync found something new in a tree that has not changed")
    return polls
