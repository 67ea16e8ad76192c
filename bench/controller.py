"""The playbooks of this commit beside those of the last commit whose modules were processes of their own."""

from __future__ import annotations

import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.playbook import children_cpu
from bench.report import Result, Table, Target
from bench.world import CONTROLLER_PYTHON, World, longer, make_tree, median, module
from tests.integration.emulated import Emulator, emulator
from tests.integration.release.support import ROOT

BEFORE = "efc75a6"
"""The commit before docs/decisions/0008-in-process.md."""
FILES = 1_000
FIRST, AGAIN = "site.yml, empty account", "site.yml, nothing to change"
CHECKED, UNCHECKED = "deploy_dags.yml, 1 file changed", "deploy_dags.yml, 1 file changed, not checked"
STATUS = "playbooks/status.yml"
WANTED = {AGAIN: 0.4, FIRST: 0.5, UNCHECKED: 0.6, CHECKED: 0.6, STATUS: 0.5}
"""The ratio of seconds that was asked for: this commit to the one before."""


def measure(world: World) -> Result:
    """Run each playbook in both trees, in turns, on one emulated account for each."""
    result = Result(f"The controller, beside commit `{BEFORE}`")
    seconds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    cpu: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with trees(world.base) as places:
        for turn in range(1 if world.quick else 3):
            for name, place in places.items():
                for what, took, used in _life(world, place, f"{name}-{turn}"):
                    seconds[what][name].append(took)
                    cpu[what][name].append(used)
    table = Table(["playbook", "before, s", "now, s", "ratio", "before, CPU-s", "now, CPU-s", "ratio"])
    for what, wanted in WANTED.items():
        before, now = (median(seconds[what][name]) for name in ("before", "now"))
        used_before, used_now = (median(cpu[what][name]) for name in ("before", "now"))
        ratio = now / before
        figures = (f"{before:.1f}", f"{now:.1f}", f"{ratio:.2f}")
        table.add(what, *figures, f"{used_before:.1f}", f"{used_now:.1f}", f"{used_now / used_before:.2f}")
        result.targets.append(Target(f"{what}, beside `{BEFORE}`", f"≤ {wanted} x", f"{ratio:.2f} x", ratio <= wanted))
    result.tables.append(table)
    result.notes.append(
        f"Medians of runs that take turns, of {FILES:,} files where DAGs are deployed, without the wait for the tasks. "
        "What is left of deploy_dags.yml is the start of Ansible and, where the code is checked, the import of Dagster "
        "in a process of its own; status.yml did its work in the controller's process before, too."
    )
    result.values = {"seconds": seconds, "cpu": cpu}
    return result


@contextmanager
def trees(base: Path) -> Iterator[dict[str, Path]]:
    """Give a checkout of the commit before, with the environments of this one, and this one."""
    before = base / "before"
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(before), BEFORE], check=True)
    try:
        before.joinpath(".venv").symlink_to(ROOT / ".venv")
        yield {"before": before, "now": ROOT}
    finally:
        subprocess.run([*git, "remove", "--force", str(before)], check=True)


def _life(world: World, place: Path, name: str) -> Iterator[tuple[str, float, float]]:
    """Yield name, seconds and CPU-seconds of each playbook on an account of its own."""
    state = world.base / f"controller-{name}"
    state.mkdir()
    tree = make_tree(state / "tree", FILES)
    deploy = ["deploy_dags.yml", "-e", f"dags_path={tree}", "-e", "dag_release_wait=false"]
    unchecked = [*deploy, "-e", "dag_release_validate=false"]
    with emulator(state / "aws") as aws:
        yield FIRST, *_run(aws, place, ["site.yml"])
        yield AGAIN, *_run(aws, place, ["site.yml"])
        _run(aws, place, deploy)
        longer(tree / module(3))
        yield CHECKED, *_run(aws, place, deploy)
        longer(tree / module(3))
        yield UNCHECKED, *_run(aws, place, unchecked)
        # No task runs: it is not healthy, and says so with its code.
        yield STATUS, *_run(aws, place, ["playbooks/status.yml", "-e", "inspection_local_python=/none"], code=2)


def _run(aws: Emulator, place: Path, arguments: list[str], code: int = 0) -> tuple[float, float]:
    environment = aws.command_environment({}) | {"ANSIBLE_CONFIG": str(place / "ansible.cfg"), "PWD": str(place)}
    for name in ("PYTHONPATH", "RECORD_AWS_REQUESTS", "ANSIBLE_CALLBACK_PLUGINS", "ANSIBLE_CALLBACKS_ENABLED"):
        del environment[name]
    program = str(CONTROLLER_PYTHON.with_name("ansible-playbook"))
    began, used = time.perf_counter(), children_cpu()
    done = subprocess.run(
        [program, *arguments], env=environment, cwd=place, capture_output=True, text=True, check=False
    )
    if done.returncode != code:
        raise RuntimeError(
            f"{' '.join(arguments)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}"
        )
    return time.perf_counter() - began, children_cpu() - used
