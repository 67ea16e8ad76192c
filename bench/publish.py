"""Publishing, beside `aws s3 sync` of the same tree."""

from __future__ import annotations

from bench.report import Result, Table, Target
from bench.world import Measured, World, longer, median, module

_WANTED = {1_000: 1.0, 10_000: 0.3}
"""Wall time of publishing one changed file, as a multiple of that of `aws s3 sync`, by the number of files."""


def measure(world: World) -> Result:
    """Compare both, with one changed file and with none."""
    result = Result("Publishing a tree of which one file has changed, and one that has not")
    table = Table(["files", "changed", "client", "seconds", "its CPU-seconds", "emulator's", "requests"])
    for files in (1_000,) if world.quick else tuple(_WANTED):
        runs = _runs(world, files)
        for (changed, client), measured in runs.items():
            table.add(
                f"{files:,}",
                changed,
                client,
                f"{_wall(measured):.2f}",
                f"{median([m.usage.cpu for m in measured]):.2f}",
                f"{median([m.emulator_cpu for m in measured]):.2f}",
                median([m.requests for m in measured]),
            )
        ratio = _wall(runs[1, "dag_release"]) / _wall(runs[1, "aws s3 sync"])
        cpu = _cpu(runs[1, "dag_release"]) / _cpu(runs[1, "aws s3 sync"])
        wanted = _WANTED[files]
        result.targets.append(
            Target(
                f"publish 1 changed file of {files:,}, wall time beside `aws s3 sync`",
                f"≤ {wanted} x",
                f"{ratio:.2f} x (CPU {cpu:.2f} x)",
                ratio <= wanted,
            )
        )
        most = max(m.requests for m in runs[0, "dag_release"])
        result.targets.append(
            Target(f"publish an unchanged tree of {files:,} files", "≤ 3 requests", f"{most} requests", most <= 3)
        )
        result.values[str(files)] = {
            f"{client}, {changed} changed": {
                "wall": [m.usage.wall for m in measured],
                "cpu": [m.usage.cpu for m in measured],
                "emulator_cpu": [m.emulator_cpu for m in measured],
                "requests": [m.requests for m in measured],
            }
            for (changed, client), measured in runs.items()
        }
        result.tables.append(_phases(files, runs[1, "dag_release"]))
    result.tables.insert(0, table)
    result.notes.append(
        "Medians of runs that take turns; whole processes, from start to exit. `dag_release` is what the Ansible "
        "module does (hash the tree, read what is served, compare, upload, release), in a process without Ansible "
        "and without the check that the code loads."
    )
    return result


def _runs(world: World, files: int) -> dict[tuple[int, str], list[Measured]]:
    """Return the measured runs by number of changed files and client."""
    published = world.published(files)
    target = f"s3://{published.bucket.name}/dags/"
    # The file that `aws s3 sync` shall find changed is as released while it is the turn of the other.
    theirs, ours = (published.tree / module(number) for number in (0, 1))
    released = theirs.read_text(encoding="utf-8")
    world.aws_sync(published.tree, target)  # its byte code is there from now on
    runs: dict[tuple[int, str], list[Measured]] = {
        (changed, client): [] for changed in (1, 0) for client in ("dag_release", "aws s3 sync")
    }
    for _ in range(3 if world.quick else 5):
        longer(ours)
        for changed in (1, 0):
            runs[changed, "dag_release"].append(world.publish(published.bucket, published.tree))
        longer(theirs)
        for changed in (1, 0):
            runs[changed, "aws s3 sync"].append(world.aws_sync(published.tree, target))
        theirs.write_text(released, encoding="utf-8")
    return runs


def _wall(runs: list[Measured]) -> float:
    return median([m.usage.wall for m in runs])


def _cpu(runs: list[Measured]) -> float:
    return median([m.usage.cpu for m in runs])


def _phases(files: int, runs: list[Measured]) -> Table:
    table = Table([f"phase, 1 changed of {files:,}", "seconds"])
    for name in runs[0].phases:
        table.add(name, f"{median([m.phases[name] for m in runs]):.3f}")
    inside = median([sum(m.phases.values()) for m in runs])
    table.add("Python's start and end", f"{_wall(runs) - inside:.3f}")
    return table
