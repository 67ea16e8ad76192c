"""The fetch of a release by a task that has nothing yet."""

from __future__ import annotations

from bench.limits import Group, UnavailableError
from bench.report import Result, Table, Target
from bench.world import World, median, remove

FILES = 1_000
CPU = 0.25
WANTED = 5.0


def measure(world: World) -> Result:
    """Fetch at a quarter of a core, beside `aws s3 sync` onto an empty disk."""
    result = Result(f"Cold start: a release of {FILES:,} files onto an empty disk, at {CPU} CPU")
    what, wanted = f"fetch of {FILES:,} files at {CPU} CPU", f"≤ {WANTED:g} s"
    published = world.published(FILES)
    try:
        group = Group("cold-start", cpu=CPU)
    except UnavailableError as error:
        result.notes.append(f"Not measured: {error}.")
        result.targets.append(Target(what, wanted, "-", None))
        return result
    empty = world.base / "synced"
    table = Table(["client", "seconds", "CPU-seconds", "requests"])
    try:
        ours = [world.fetch(published.bucket, started=group.add) for _ in range(2 if world.quick else 5)]
        world.aws_sync(f"s3://{published.bucket.name}/dags/main/part_0/", empty / "part")  # compiles
        theirs = world.aws_sync(f"s3://{published.bucket.name}/dags/", empty / "all", started=group.add)
        remove(empty)
    finally:
        group.close()
    fetch = [sum(m.phases[name] for name in ("pointer", "manifest", "files")) for m in ours]
    table.add(
        "dagster_ecs_runtime, fetch", f"{median(fetch):.2f}", f"{median([m.cpu['fetch'] for m in ours]):.2f}", FILES + 2
    )
    walls = [m.usage.wall - m.phases["poll"] * 50 for m in ours]
    table.add("with the start of Python", f"{median(walls):.2f}", "", "")
    table.add("aws s3 sync", f"{theirs.usage.wall:.2f}", f"{theirs.usage.cpu:.2f}", theirs.requests)
    result.tables.append(table)
    for name in ("imports", "pointer", "manifest", "files"):
        result.values[name] = [m.phases[name] for m in ours]
    result.values["aws s3 sync"] = theirs.usage.wall
    worst = max(fetch)
    result.targets.append(Target(what, wanted, f"{median(fetch):.1f} s, worst {worst:.1f} s", worst <= WANTED))
    result.notes.append("The emulator is outside of the limit; its answers take about 2 ms each, one after the other.")
    return result
