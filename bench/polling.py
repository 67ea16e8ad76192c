"""What following the releases costs while nothing changes, beside `aws s3 sync` of the same trees."""

from __future__ import annotations

import time
from contextlib import ExitStack

from bench.report import Result, Table, Target
from bench.tasks import POLL_SECONDS, idle_task
from bench.usage import cpu_seconds, pss
from bench.world import Measured, World, median
from tests.e2e.dagster_client import wait_for

PSS, SHARE = 25, 0.2
HEALTH_CHECK_SECONDS = 15
"""`ecs_health_check_interval`."""
_SETTLE_SECONDS = 10
_BASELINE_SECONDS = 60
_MEGABYTE = 1024 * 1024


def measure(world: World) -> Result:
    """Let one task for each tree idle, all at the same time; then poll the same trees with the AWS CLI."""
    result = Result("Polling while nothing changes")
    sizes = (10, 1_000) if world.quick else (10, 1_000, 10_000)
    seconds = 25 if world.quick else 120
    ours = _idle(world, sizes, seconds)
    theirs = {files: _aws_polls(world, files) for files in sizes}
    table = Table(["files", "client", "CPU a poll, ms", "requests a poll", "memory, MB", "share of a core, %"])
    for files in sizes:
        cpu, requests, size = ours[files]
        table.add(
            f"{files:,}",
            f"supervisor, every {POLL_SECONDS} s",
            f"{cpu / seconds * POLL_SECONDS * 1000:.1f}",
            f"{requests:.2f}",
            f"{size / _MEGABYTE:.1f}",
            f"{cpu / seconds * 100:.2f}",
        )
        used = median([each.usage.cpu for each in theirs[files]])
        table.add(
            f"{files:,}",
            f"aws s3 sync, every {_BASELINE_SECONDS} s",
            f"{used * 1000:.0f}",
            theirs[files][0].requests,
            f"{max(each.usage.peak_pss for each in theirs[files]) / _MEGABYTE:.1f}",
            f"{used / _BASELINE_SECONDS * 100:.2f}",
        )
    result.tables.append(table)
    ratios = Table(["files", "CPU a poll: aws s3 sync / supervisor", "requests: aws s3 sync / supervisor"])
    for files in sizes:
        cpu, requests, _ = ours[files]
        used = median([each.usage.cpu for each in theirs[files]])
        ratios.add(f"{files:,}", f"{used / (cpu / seconds * POLL_SECONDS):.0f}", theirs[files][0].requests)
    result.tables.append(ratios)
    most_memory = max(size for _, _, size in ours.values()) / _MEGABYTE
    most_cpu = max(cpu for cpu, _, _ in ours.values()) / seconds * 100
    per_poll = {files: requests for files, (_, requests, _) in ours.items()}
    result.targets += [
        Target("memory of the supervisor (PSS)", f"≤ {PSS} MB", f"{most_memory:.1f} MB", most_memory <= PSS),
        Target("CPU of the supervisor, idle polling", f"≤ {SHARE} % of a core", f"{most_cpu:.2f} %", most_cpu <= SHARE),
        Target(
            f"requests a poll, at {', '.join(f'{files:,}' for files in sizes)} files",
            "1",
            ", ".join(f"{value:g}" for value in per_poll.values()),
            all(value == 1 for value in per_poll.values()),
        ),
    ]
    result.values = {
        str(files): {
            "supervisor": {"cpu": cpu, "seconds": seconds, "requests a poll": requests, "pss": size},
            "aws": {
                "cpu": [each.usage.cpu for each in theirs[files]],
                "wall": [each.usage.wall for each in theirs[files]],
                "requests": [each.requests for each in theirs[files]],
                "pss": max(each.usage.peak_pss for each in theirs[files]),
            },
        }
        for files, (cpu, requests, size) in ours.items()
    }
    result.notes.append(
        f"The supervisor's CPU is all it used in {seconds} s, and so holds more than the polls: it looks after its "
        f"processes every second, asks the code server whether it answers, and answers a health check every "
        f"{HEALTH_CHECK_SECONDS} s. `aws s3 sync` is a new process for each poll, on a tree that is complete."
    )
    return result


def _idle(world: World, sizes: tuple[int, ...], seconds: float) -> dict[int, tuple[float, float, int]]:
    """Return CPU-seconds, requests a poll and memory in bytes of an idle supervisor by number of files."""
    with ExitStack() as stack:
        tasks = {}
        for files in sizes:
            running = tasks[files] = stack.enter_context(idle_task(world, files))
            wait_for(f"the task with {files} files", lambda task=running: task.health("/health")[0] == 200, seconds=240)  # type: ignore[misc]
        time.sleep(_SETTLE_SECONDS)
        before = {files: cpu_seconds(task.process.pid) for files, task in tasks.items()}
        first = world.emulator.count()
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, HEALTH_CHECK_SECONDS))
            for task in tasks.values():
                task.health()
        used = {files: cpu_seconds(task.process.pid) - before[files] for files, task in tasks.items()}
        seen = world.emulator.requests(first)
        sizes_in_memory = {files: pss(task.process.pid) for files, task in tasks.items()}
    found = {}
    for files in sizes:
        prefix = f"/{world.published(files).bucket.name}/"
        times = [at for at, _, path in seen if path.startswith(prefix)]
        polls = round((times[-1] - times[0]) / POLL_SECONDS) + 1
        found[files] = (used[files], len(times) / polls, sizes_in_memory[files])
    return found


def _aws_polls(world: World, files: int) -> list[Measured]:
    """Return some polls of a tree by `aws s3 sync`, none of which finds anything."""
    published = world.published(files)
    source = f"s3://{published.bucket.name}/dags/"
    world.aws_sync(source, published.copy)
    polls = [world.aws_sync(source, published.copy, memory=turn == 0) for turn in range(4)]
    if any("download:" in poll.usage.output for poll in polls):
        raise RuntimeError("aws s3 sync found something new in a tree that has not changed")
    return polls
