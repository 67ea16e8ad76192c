"""`ansible-playbook deploy_dags.yml` as a whole, and where its time goes."""

from __future__ import annotations

import re
import subprocess
import time
from urllib.parse import urlsplit

from bench.report import Result, Table, Target
from bench.world import CONTROLLER_PYTHON, World, longer, median, module
from tests.integration.release.support import ROOT

FILES = 1_000
WANTED = 5.0
_START, _END = "ansible-playbook: start, inventory", "ansible-playbook: end"

Timed = tuple[float, dict[str, float]]
"""Seconds of a run, and of its parts."""


def measure(world: World) -> Result:
    """Deploy a tree of which one file has changed, with the check that it loads and without."""
    result = Result(f"`ansible-playbook deploy_dags.yml`, {FILES:,} files, without the wait for the tasks")
    published = world.published(FILES)
    arguments = ["-e", f"dags_path={published.tree}", "-e", f"dags_bucket_name={published.bucket.name}"]
    unchecked = [*arguments, "-e", "dag_release_validate=false"]
    _run(world, arguments)  # byte code
    checked_runs, unchecked_runs, unchanged_runs = [], [], []
    for _ in range(2 if world.quick else 7):
        longer(published.tree / module(3))
        checked_runs.append(_run(world, arguments))
        longer(published.tree / module(3))
        unchecked_runs.append(_run(world, unchecked))
        unchanged_runs.append(_run(world, arguments))
    runs = {"1 changed": checked_runs, "1 changed, not checked": unchecked_runs, "unchanged": unchanged_runs}
    table = Table(["part", *(f"{name}, s" for name in runs)])
    for part in checked_runs[0][1]:
        table.add(part, *(f"{median([parts[part] for _, parts in timed]):.2f}" for timed in runs.values()))
    table.add("all", *(f"{median([seconds for seconds, _ in timed]):.2f}" for timed in runs.values()))
    result.tables.append(table)
    total = median([seconds for seconds, _ in checked_runs])
    worst = max(seconds for seconds, _ in checked_runs)
    result.targets.append(
        Target(
            f"whole `ansible-playbook deploy_dags.yml`, {FILES:,} files, 1 changed, without the wait",
            f"≤ {WANTED:g} s",
            f"{total:.1f} s, worst {worst:.1f} s",
            total <= WANTED,
        )
    )
    result.values = {name: [{"all": seconds, **parts} for seconds, parts in timed] for name, timed in runs.items()}
    result.notes.append(
        "Medians. A part begins when its name is printed and ends when the next is. The tree's one location imports "
        "Dagster and nothing else; what the import of your DAGs takes comes on top, in the deploy's check and in each "
        "task."
    )
    return result


def _run(world: World, arguments: list[str]) -> Timed:
    """Run the playbook; return the seconds it took, and those of its parts by name."""
    environment = world.environment | {
        "PWD": str(ROOT),
        "DAGSTER_LOCAL_AWS_PORT": str(urlsplit(world.emulator.url).port),
        "ANSIBLE_NOCOLOR": "1",
    }
    program = str(CONTROLLER_PYTHON.with_name("ansible-playbook"))
    began = time.perf_counter()
    parts: dict[str, float] = {}
    part, since, output = _START, began, []
    with subprocess.Popen(
        [program, "-i", "inventories/local/hosts.yml", "deploy_dags.yml", *arguments, "-e", "dag_release_wait=false"],
        env=environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None  # noqa: S101, for the type checker
        for line in process.stdout:
            output.append(line)
            if found := re.match(r"(?:TASK \[(.*)\]|PLAY RECAP)", line):
                now = time.perf_counter()
                parts[part] = parts.get(part, 0.0) + now - since
                part, since = found.group(1) or _END, now
    now = time.perf_counter()
    parts[part] = now - since
    if process.returncode:
        raise RuntimeError(f"the playbook failed:\n{''.join(output)[-4000:]}")
    return now - began, parts
