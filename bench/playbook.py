"""`ansible-playbook deploy_dags.yml` as a whole, and where its time goes."""

from __future__ import annotations

import re
import resource
import subprocess
import time
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

from bench.report import Result, Table, Target
from bench.world import CONTROLLER_PYTHON, World, longer, median, module
from tests.integration.release.support import ROOT

FILES = 1_000
WANTED = 5.0
_START, _END = "ansible-playbook: start, inventory", "ansible-playbook: end"

_MODULE = "publish | Validate, upload and release the DAGs"


@dataclass(frozen=True)
class Timed:
    """One run: its seconds, the CPU-seconds of all its processes, the seconds of its parts by name."""

    seconds: float
    cpu: float
    parts: dict[str, float]


def measure(world: World) -> Result:
    """Deploy a tree of which one file has changed, with the check that it loads and without."""
    result = Result(f"`ansible-playbook deploy_dags.yml`, {FILES:,} files, without the wait for the tasks")
    published = world.published(FILES)
    arguments = ["-e", f"dags_path={published.tree}", "-e", f"dags_bucket_name={published.bucket.name}"]
    unchecked = [*arguments, "-e", "dag_release_validate=false"]
    _run(world, arguments)  # byte code
    checked_runs, unchecked_runs, unchanged_runs = [], [], []
    for _ in range(2 if world.quick else 5):
        longer(published.tree / module(3))
        checked_runs.append(_run(world, arguments))
        longer(published.tree / module(3))
        unchecked_runs.append(_run(world, unchecked))
        unchanged_runs.append(_run(world, arguments))
    runs = {"1 changed": checked_runs, "1 changed, not checked": unchecked_runs, "unchanged": unchanged_runs}
    table = Table(["part", *(f"{name}, s" for name in runs)])
    for part in checked_runs[0].parts:
        table.add(part, *(f"{median([run.parts[part] for run in each]):.2f}" for each in runs.values()))
    table.add("all", *(f"{median([run.seconds for run in each]):.2f}" for each in runs.values()))
    table.add("CPU-seconds of all processes", *(f"{median([run.cpu for run in each]):.2f}" for each in runs.values()))
    result.tables.append(table)
    total = median([run.seconds for run in checked_runs])
    worst = max(run.seconds for run in checked_runs)
    alone = median([world.publish(published.bucket, published.tree).usage.wall for _ in range(3)])
    check = median([run.parts[_MODULE] for run in checked_runs]) - median(
        [run.parts[_MODULE] for run in unchecked_runs]
    )
    result.notes.append(
        f"Of the part `{_MODULE}` the check that the code loads takes {check:.1f} s (the difference of the first two "
        f"columns); the publisher without Ansible takes {alone:.1f} s as a process of its own, half of it botocore's "
        "start. The rest is Ansible's: to pack the module, start it and unpack it."
    )
    result.targets.append(
        Target(
            f"whole `ansible-playbook deploy_dags.yml`, {FILES:,} files, 1 changed, without the wait",
            f"≤ {WANTED:g} s",
            f"{total:.1f} s, worst {worst:.1f} s",
            total <= WANTED,
        )
    )
    result.values = {name: [asdict(run) for run in each] for name, each in runs.items()} | {"publisher alone": alone}
    result.notes.append(
        "Medians. A part begins when its name is printed and ends when the next is. The tree's one location imports "
        "Dagster and nothing else; what the import of your DAGs takes comes on top, in the deploy's check and in each "
        "task."
    )
    return result


def _run(world: World, arguments: list[str]) -> Timed:
    """Run the playbook and measure it."""
    environment = world.environment | {
        "PWD": str(ROOT),
        "DAGSTER_LOCAL_AWS_PORT": str(urlsplit(world.emulator.url).port),
        "ANSIBLE_NOCOLOR": "1",
    }
    program = str(CONTROLLER_PYTHON.with_name("ansible-playbook"))
    used = children_cpu()
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
                part, since = _short(found.group(1)) if found.group(1) else _END, now
    now = time.perf_counter()
    parts[part] = now - since
    if process.returncode:
        raise RuntimeError(f"the playbook failed:\n{''.join(output)[-4000:]}")
    return Timed(now - began, children_cpu() - used, parts)


def _short(task: str) -> str:
    """Return a task's name without its role, and without what an argument specification says about it."""
    return task.removeprefix("dag_release : ").split(" - ")[0]


def children_cpu() -> float:
    """Return the CPU-seconds of all processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
