"""`python -m local`: bring the embedded default up and down and look at it; `make help` lists the usual ways."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace

from local import postgres, processes
from local.runner import docker_runtime
from local.services import EMULATOR, RUNNER, environment
from local.settings import (
    AWS_PORT,
    POSTGRES_PORT,
    REPOSITORY,
    UI_PORT,
    LocalError,
    Settings,
    free_ports,
)
from local.trees import remove_tree
from local.waiting import ticking

UI_SECONDS = 300
INTERRUPT_SECONDS = 15
"""How long a playbook may take to end after Ctrl-C."""
LOG_LINES = 40


class Steps:
    """One line for each step: what it was, how it went, how long it and all so far took."""

    def __init__(self) -> None:
        self._begin = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._begin

    def run(self, title: str, work: Callable[[], bool], *, prints: bool = False) -> None:
        """Do a step; ``work`` returns whether there was anything to do. ``prints``: it shows its progress itself."""
        began = time.monotonic()
        print(f"[{self.elapsed:6.1f} s] {title} ...", flush=True)
        with contextlib.nullcontext() if prints else ticking(title):
            done = "done" if work() else "already so"
        print(f"[{self.elapsed:6.1f} s] {title}: {done} ({time.monotonic() - began:.1f} s)", flush=True)


@contextlib.contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """Hold the platform's lock: two commands that start and stop processes must not run at the same time.

    Raises:
        LocalError: another command holds it.
    """
    settings.create_state()
    # Beside what `clean` removes file by file: the lock lives as long as this process has the file open.
    with (settings.state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalError(
                f"Another command is just starting or stopping the platform in {settings.state}. "
                "Wait for it, then try again; `make status` shows what runs."
            ) from None
        yield


def start_services(settings: Settings, steps: Steps, *, with_runner: bool) -> None:
    """Start PostgreSQL, the emulator and, if wanted, the task runner: whatever of them does not run yet."""
    if with_runner and settings.runtime == "docker":
        # First, so that what is missing is told before anything is stopped or started.
        build = "playbooks/build.yml"
        steps.run(f"Build the image ({build})", lambda: play(settings, build), prints=True)
    file = settings.state / "ports.json"
    ports = {name: value for name, value in asdict(settings).items() if name != "state"}
    if file.exists() and json.loads(file.read_text(encoding="utf-8")) != ports:
        # Processes on other ports than those asked for now, or another kind of tasks, are of no use.
        stop_all(settings, steps)
    if RUNNER.running(settings) is None:
        # Tasks of a runner that was killed would hold the UI's port.
        stop_leftover_tasks(settings)
    for running, port, variable, purpose in (
        (postgres.running, settings.postgres_port, POSTGRES_PORT, "PostgreSQL"),
        (EMULATOR.running, settings.aws_port, AWS_PORT, "the AWS emulator"),
        (RUNNER.running, settings.ui_port, UI_PORT, "the Dagster UI"),
    ):
        # All ports first: nothing is started if something cannot be.
        if running(settings) is None and (with_runner or variable != UI_PORT):
            processes.require_free_port(port, variable, purpose)
    file.write_text(json.dumps(ports), encoding="utf-8")
    steps.run("Start PostgreSQL", lambda: postgres.start(settings))
    steps.run("Start the AWS emulator", lambda: EMULATOR.start(settings))
    if with_runner:
        steps.run("Start the task runner", lambda: RUNNER.start(settings))


def stop_leftover_tasks(settings: Settings) -> None:
    """Stop tasks whose runner was killed."""
    if not (settings.logs / f"{RUNNER.name}.log").exists():
        return  # it never ran here
    subprocess.run(
        [sys.executable, "-m", RUNNER.module, "--stop-leftovers"],
        cwd=REPOSITORY,
        env=environment(settings),
        check=True,
    )
    processes.stop_leftovers(settings, RUNNER.name)


def stop_all(settings: Settings, steps: Steps) -> None:
    """Stop everything that runs; data stays."""
    was_running = RUNNER.running(settings) is not None
    steps.run("Stop the tasks and their runner", lambda: RUNNER.stop(settings))
    if not was_running:
        stop_leftover_tasks(settings)
    steps.run("Stop the AWS emulator", lambda: EMULATOR.stop(settings))
    steps.run("Stop PostgreSQL", lambda: postgres.stop(settings))


def play(settings: Settings, playbook: str, *arguments: str) -> bool:
    """Run a playbook on the local inventory; its output is shown as it comes."""
    program = REPOSITORY / ".venv" / "controller" / "bin" / "ansible-playbook"
    if not program.exists():
        raise LocalError(f"{program} does not exist. `make up` installs it; so does `local/bootstrap.sh controller`.")
    variables = environment(settings) | {"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")}
    command = [str(program), "-i", "inventories/local/hosts.yml", playbook, *arguments]
    with subprocess.Popen(command, cwd=REPOSITORY, env=variables) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            # Ctrl-C reached it too: it says so, and ends its modules.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=INTERRUPT_SECONDS)
            process.kill()
            raise
    if code:
        raise LocalError(
            f"ansible-playbook {playbook} ended with exit code {code}; the reason is above. What was started still "
            "runs: `make status` shows it, `make logs` says more, `make up` continues, `make down` stops all."
        )
    return True


def wait_for_ui(settings: Settings) -> bool:
    """Wait until the web UI answers."""
    deadline = time.monotonic() + UI_SECONDS
    while not ui_answers(settings):
        if RUNNER.running(settings) is None:
            log = settings.logs / "runner.log"
            raise LocalError(f"The task runner has ended. The last lines of {log}:\n{processes.tail(log, 20)}")
        if time.monotonic() > deadline:
            raise LocalError(
                f"{settings.ui_url} does not answer after {UI_SECONDS} s. `make status` shows the tasks, "
                "`make logs` what they say; `make up` waits again."
            )
        time.sleep(0.2)
    return True


def ui_answers(settings: Settings) -> bool:
    """Return whether Dagster's web server answers on the UI's port."""
    return processes.answers_http(f"{settings.ui_url}/server_info")


def up(settings: Settings, _arguments: argparse.Namespace) -> None:
    """Start everything, provision the emulated account, deploy the DAGs, wait for the UI."""
    steps = Steps()
    with only_one(settings):
        start_services(settings, steps, with_runner=True)
        steps.run("Provision (site.yml)", lambda: play(settings, "site.yml"), prints=True)
        # Where the inventory has dag_source: tree, it only says how DAGs get there.
        tree_ok = ("-e", "dag_release_tree_ok=true")
        steps.run("Deploy the DAGs (deploy_dags.yml)", lambda: play(settings, "deploy_dags.yml", *tree_ok), prints=True)
        steps.run("Wait for the UI", lambda: wait_for_ui(settings))
    print(
        f"\nDagster is up after {steps.elapsed:.0f} s: {settings.ui_url}\n"
        "Next: edit dags/main/assets.py, then `make deploy-dags`.\n"
        "Also: `make status`, `make logs`, `make down` (keeps data), `make clean` (removes everything)."
    )


def services(settings: Settings, _arguments: argparse.Namespace) -> None:
    """Start PostgreSQL and the emulator only."""
    with only_one(settings):
        start_services(settings, Steps(), with_runner=False)


def down(settings: Settings, _arguments: argparse.Namespace) -> None:
    """Stop everything and keep the data."""
    if not settings.state.exists():
        print(f"Nothing to stop: {settings.state} does not exist.")
        return
    with only_one(settings):
        stop_all(settings, Steps())
    print(f"All stopped; the data is kept in {settings.state}. `make up` continues, `make clean` removes it.")


def clean(settings: Settings, _arguments: argparse.Namespace) -> None:
    """Stop everything and remove the data."""
    if not settings.state.exists():
        print(f"Nothing to remove: {settings.state} does not exist.")
        return
    settings.require_own_state()
    with only_one(settings):
        stop_all(settings, Steps())
        left = docker_runtime.remove_all(settings)
        postgres.remove(settings)
        remove_tree(settings.state)
    if left:
        print(left)
    print(f"Removed {settings.state}. `make up` begins anew.")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows in columns; the first is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def as_started(settings: Settings) -> Settings:
    """Return the settings that the platform was started with, whatever the environment says now."""
    file = settings.state / "ports.json"
    return replace(settings, **json.loads(file.read_text(encoding="utf-8"))) if file.exists() else settings


def status(settings: Settings, arguments: argparse.Namespace) -> None:
    """Show the processes; `make status` shows them with the tasks."""
    settings = as_started(settings)
    found = []
    for name, running, port, healthy in (
        ("postgres", postgres.running, settings.postgres_port, postgres.answers),
        ("emulator", EMULATOR.running, settings.aws_port, EMULATOR.ready),
        ("runner", RUNNER.running, settings.ui_port, ui_answers),
    ):
        pid = running(settings) if settings.state.exists() else None
        health = "stopped" if pid is None else "answers" if healthy(settings) else "does not answer"
        busy = pid is None and processes.listens(port)
        found.append({"name": name, "pid": pid, "port": port, "health": health, "port_taken": busy})
    if arguments.json:
        print(json.dumps({"processes": found, "state": str(settings.state), "ui_url": settings.ui_url}))
        return
    heading = ("PROCESS", "PID", "PORT", "HEALTH")
    rows = [tuple(str(each[name] or "-") for name in ("name", "pid", "port", "health")) for each in found]
    print(table([heading, *rows]))
    print(f"\nState: {settings.state}\nUI:    {settings.ui_url}")


def logs(settings: Settings, arguments: argparse.Namespace) -> None:
    """Print the last lines of the background processes' logs; `make logs` prints those of the tasks."""
    files = [file for file in sorted(settings.logs.glob("*.log")) if arguments.name in (None, file.stem)]
    for file in files:
        print(f"==> {file} <==\n{processes.tail(file, arguments.lines)}\n")
    if not files:
        print(f"There are no logs of {arguments.name or 'processes'} in {settings.logs}: `make up` starts all.")


def ports(_settings: Settings, _arguments: argparse.Namespace) -> None:
    """Print three free ports as variables, for a platform beside the first one."""
    for variable, port in zip((AWS_PORT, UI_PORT, POSTGRES_PORT), free_ports(3), strict=True):
        print(f"{variable}={port}")


COMMANDS: tuple[Callable[[Settings, argparse.Namespace], None], ...] = (
    up,
    services,
    down,
    clean,
    status,
    logs,
    ports,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit code: 1 if something the message names went wrong, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        sub = commands.add_parser(command.__name__, help=command.__doc__)
        sub.set_defaults(command=command)
        if command is status:
            sub.add_argument("--json", action="store_true", help="for programs")
        if command is logs:
            sub.add_argument(
                "name", nargs="?", help="postgres, emulator, runner, or <service>-<task> as the runner wrote it"
            )
            sub.add_argument("-n", "--lines", type=int, default=LOG_LINES, help="lines of each (default %(default)s)")
    arguments = parser.parse_args(argv)
    try:
        arguments.command(Settings.from_environment(), arguments)
    except LocalError as error:
        print(f"\nERROR: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. What was started still runs: `make up` continues, `make down` stops it.", file=sys.stderr)
        return 130
    return 0
