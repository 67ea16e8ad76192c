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
from typing import Any

from local import postgres, processes
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

UI_SECONDS = 300
_STATE_SECONDS = 150
"""How far back the tasks' last words about their releases are looked for: they come every minute."""
LOG_LINES = 40


class Steps:
    """One line for each step: what it was, how it went, how long it and all so far took."""

    def __init__(self) -> None:
        self._begin = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._begin

    def run(self, title: str, work: Callable[[], bool]) -> None:
        """Do a step; ``work`` returns whether there was anything to do."""
        began = time.monotonic()
        print(f"[{self.elapsed:6.1f} s] {title} ...", flush=True)
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
    file = settings.state / "ports.json"
    ports = {name: value for name, value in asdict(settings).items() if name.endswith("_port")}
    if file.exists() and file.read_text(encoding="utf-8") != json.dumps(ports):
        # Processes on other ports than those asked for now are of no use.
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
    code = subprocess.run(
        [str(program), "-i", "inventories/local/hosts.yml", playbook, *arguments],
        cwd=REPOSITORY,
        env=variables,
        check=False,
    ).returncode
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
        steps.run("Provision (site.yml)", lambda: play(settings, "site.yml"))
        # Where the inventory has dag_source: tree, it only says how DAGs get there.
        tree_ok = ("-e", "dag_release_tree_ok=true")
        steps.run("Deploy the DAGs (deploy_dags.yml)", lambda: play(settings, "deploy_dags.yml", *tree_ok))
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
        postgres.remove(settings)
        remove_tree(settings.state)
    print(f"Removed {settings.state}. `make up` begins anew.")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows in columns; the first is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def as_started(settings: Settings) -> Settings:
    """Return the settings with the ports that the platform was started with, whatever the environment says now."""
    file = settings.state / "ports.json"
    return replace(settings, **json.loads(file.read_text(encoding="utf-8"))) if file.exists() else settings


def status(settings: Settings, _arguments: argparse.Namespace) -> None:
    """Show processes and tasks."""
    settings = as_started(settings)
    rows = [("PROCESS", "PID", "PORT", "HEALTH")]
    for name, running, port, healthy in (
        ("postgres", postgres.running, settings.postgres_port, postgres.answers),
        ("emulator", EMULATOR.running, settings.aws_port, EMULATOR.ready),
        ("runner", RUNNER.running, settings.ui_port, ui_answers),
    ):
        pid = running(settings) if settings.state.exists() else None
        health = "stopped" if pid is None else "answers" if healthy(settings) else "does not answer"
        rows.append((name, str(pid or "-"), str(port), health))
    print(table(rows))
    if EMULATOR.ready(settings):
        lines, problems = served(settings, tasks(settings))
        print("\n" + table(lines))
        if problems:
            print("\n" + "\n".join(problems))
    print(f"\nState: {settings.state}\nUI:    {settings.ui_url}")


def aws(settings: Settings, service: Any) -> Any:
    """Return a client of the emulator."""
    import boto3

    return boto3.client(
        service,
        region_name="us-east-1",
        endpoint_url=settings.aws_url,
        aws_access_key_id="dagster-local",
        aws_secret_access_key="dagster-local",  # noqa: S106 - the emulator accepts any
    )


def tasks(settings: Settings) -> list[tuple[str, str, str, str, str]]:
    """Return service, id, status, health and revision of the tasks that should run."""
    ecs = aws(settings, "ecs")
    rows = []
    for cluster in ecs.list_clusters()["clusterArns"]:
        arns = ecs.list_tasks(cluster=cluster)["taskArns"]
        for task in ecs.describe_tasks(cluster=cluster, tasks=arns)["tasks"] if arns else []:
            rows.append(
                (
                    task.get("group", "-").removeprefix("service:"),
                    task["taskArn"].rpartition("/")[2],
                    task["lastStatus"],
                    task.get("healthStatus", "-"),
                    task["taskDefinitionArn"].rpartition("/")[2],
                )
            )
    return sorted(rows)


SERVED_HEADING = ("SERVICE", "TASK", "STATUS", "HEALTH", "REVISION", "RELEASE", "STATE", "SERVED FOR", "S3 READ AGO")


def served(settings: Settings, running: Sequence[tuple[str, ...]]) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return the rows of tasks with what each serves and since when, and what is wrong with them.

    Tasks say so in their logs, on every change and every minute: the ages are as of now.
    """
    newest: dict[str, tuple[float, dict[str, Any]]] = {}
    client, now = aws(settings, "logs"), time.time()
    for group in client.describe_log_groups(logGroupNamePrefix="/ecs/")["logGroups"]:
        pages = client.get_paginator("filter_log_events").paginate(
            logGroupName=group["logGroupName"],
            filterPattern='"release_state"',
            startTime=int((now - _STATE_SECONDS) * 1000),
        )
        for event in (event for page in pages for event in page["events"]):
            with contextlib.suppress(ValueError):
                state = json.loads(event["message"])
                if state.get("event") == "release_state":
                    newest[event["logStreamName"].rpartition("/")[2]] = (event["timestamp"] / 1000, state)
    rows: list[tuple[str, ...]] = [SERVED_HEADING]
    problems = []
    for row in running:
        at, state = newest.get(row[1], (now, {}))
        ages = [
            "-" if state.get(name) is None else duration(state[name] + now - at)
            for name in ("release_age_seconds", "sync_age_seconds")
        ]
        rows.append((*row, state.get("release") or "-", state.get("status", "-"), *ages))
        if state.get("error"):
            problems.append(f"{row[0]} {row[1]} is {state['status']}: {state['error'].strip()}")
    return rows, problems


def duration(seconds: float) -> str:
    """Return a time span for people: the largest unit that gives at least two of it."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def logs(settings: Settings, arguments: argparse.Namespace) -> None:
    """Print the last lines of the processes' logs and of the running tasks' log streams."""
    settings = as_started(settings)
    for file in sorted(settings.logs.glob("*.log")):
        if arguments.name in (None, file.stem):
            print(f"==> {file} <==\n{processes.tail(file, arguments.lines)}\n")
    if not EMULATOR.ready(settings):
        print("The platform is not running, so there are no logs of tasks: `make up` starts it.")
        return
    client = aws(settings, "logs")
    for service, task, *_ in tasks(settings):
        if arguments.name not in (None, service):
            continue
        for group in client.describe_log_groups(logGroupNamePrefix="/ecs/")["logGroups"]:
            streams = client.describe_log_streams(logGroupName=group["logGroupName"])["logStreams"]
            for stream in (each["logStreamName"] for each in streams if each["logStreamName"].endswith(task)):
                events = client.get_log_events(
                    logGroupName=group["logGroupName"], logStreamName=stream, limit=arguments.lines
                )["events"]
                print(f"==> {group['logGroupName']} {stream} <==")
                print("\n".join(readable(event["message"]) for event in events), end="\n\n")


def readable(line: str) -> str:
    """Return a line of a task's log for people: what a program printed as it is, an event without its metrics."""
    try:
        event = json.loads(line)
    except ValueError:
        return line
    if not isinstance(event, dict) or "event" not in event:
        return line
    moment, name = event.pop("ts", ""), event.pop("event")
    if name == "output":
        return f"{moment} {event.get('process')} | {event.get('line')}"
    # Where the line comes from stands above it; what is not set says nothing.
    left_out = {"_aws", "service", "environment", "task_id"}
    rest = " ".join(f"{key}={value}" for key, value in event.items() if key not in left_out and value is not None)
    return f"{moment} {name} {rest}".rstrip()


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
        if command is logs:
            sub.add_argument(
                "name", nargs="?", help="process or service: postgres, emulator, runner, webserver, daemon"
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
