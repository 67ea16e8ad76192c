"""How times grow with the number of files."""

from __future__ import annotations

import time

from bench.report import Result, Table, Target, growth_exponent
from bench.world import Measured, Published, World, longer, median, module

_LINEAR = 1.1
"""Exponents vary by some hundredths from run to run."""

_BOX_SECONDS = 600
"""No larger tree is begun when it would, at the pace so far, not be done within this time."""

_REPETITIONS = 3
"""Of a publish; what counts is the middle one."""

_OPERATIONS = ("publish, first", "publish, 1 changed", "publish, unchanged", "fetch", "poll")


def measure(world: World) -> Result:
    """Publish, fetch and poll ever larger trees."""
    began = time.monotonic()
    result = Result("Growth with the number of files")
    wall: dict[str, dict[int, float]] = {name: {} for name in _OPERATIONS}
    cpu: dict[str, dict[int, float]] = {name: {} for name in _OPERATIONS}
    sizes = (100, 300, 1_000) if world.quick else (100, 1_000, 10_000, 50_000)
    lasted = 0.0
    for index, files in enumerate(sizes):
        expected = lasted * files / sizes[index - 1] if index else 0
        if time.monotonic() - began + expected > _BOX_SECONDS:
            result.notes.append(f"{files:,} files were left out: with the emulator they would take {expected:.0f} s.")
            break
        published = world.published(files)
        start = time.monotonic()
        for name, (seconds, used) in _one(world, published).items():
            wall[name][files], cpu[name][files] = seconds, used
        lasted = time.monotonic() - start + published.first.usage.wall
    table = Table(["operation", *(f"{files:,} files" for files in wall["poll"]), "exponent", "exponent of CPU"])
    for name in _OPERATIONS:
        seconds, used = growth_exponent(list(wall[name].items())), growth_exponent(list(cpu[name].items()))
        table.add(name, *(_time(value) for value in wall[name].values()), f"{seconds:.2f}", f"{used:.2f}")
        wanted = 0.1 if name == "poll" else _LINEAR
        kind = "constant" if name == "poll" else "linear at most"
        result.targets.append(
            Target(f"growth of `{name}`", f"{kind} (exponent ≤ {wanted})", f"{seconds:.2f}", seconds <= wanted)
        )
    result.tables.append(table)
    result.values = {"wall": wall, "cpu": cpu}
    result.notes.append(
        "Exponents by least squares on logarithms: 0 is constant, 1 linear. Without the start of Python and its "
        "imports, which would make growth look smaller. CPU is the client's own, the times hold the emulator's too."
    )
    return result


def _one(world: World, published: Published) -> dict[str, tuple[float, float]]:
    """Return seconds and CPU-seconds of each operation with a tree of this size."""
    found = {"publish, first": _published(published.first)}
    changed, unchanged = [], []
    for _ in range(_REPETITIONS):
        longer(published.tree / module(2))
        changed.append(_published(world.publish(published.bucket, published.tree)))
        unchanged.append(_published(world.publish(published.bucket, published.tree)))
    found["publish, 1 changed"] = _middle(changed)
    found["publish, unchanged"] = _middle(unchanged)
    fetched = world.fetch(published.bucket)
    seconds = sum(fetched.phases[name] for name in ("pointer", "manifest", "files"))
    found["fetch"] = (seconds, fetched.cpu["fetch"])
    found["poll"] = (fetched.phases["poll"], fetched.cpu["poll"])
    return found


def _published(measured: Measured) -> tuple[float, float]:
    """Return seconds and CPU-seconds of a publisher without its start."""
    constant = sum(measured.phases[name] for name in ("imports", "S3 client", "git"))
    return sum(measured.phases.values()) - constant, measured.cpu["publish"]


def _middle(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    return median([seconds for seconds, _ in pairs]), median([used for _, used in pairs])


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
