"""A whole local platform of its own (state directory and ports), driven by the commands a user types."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import boto3
import psutil

from local.emulator_state import FILE as STATE_FILE
from tests.e2e.dagster_client import DagsterClient
from tests.integration.deployer.identity import as_profile, make_user, read_keys

REPOSITORY = Path(__file__).resolve().parents[2]
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")


def free_ports(count: int) -> list[int]:
    """Return ``count`` different TCP ports that are free on loopback now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@dataclass
class Platform:
    """Names, addresses and commands of the platform under test."""

    state: Path
    aws_port: int
    ui_port: int
    postgres_port: int
    tree: Path
    """The DAG tree that ``deploy`` publishes; starts as a copy of the repository's ``dags/``."""
    enforce_iam: bool = True
    """Whether the emulator enforces IAM from its first request on: tasks have their role and nothing else."""
    settings: dict[str, str] = field(default_factory=dict)
    """Further variables of the process environment."""
    outputs: list[str] = field(default_factory=list)

    @classmethod
    def create(
        cls, base: Path, *, enforce_iam: bool = True, settings: Mapping[str, str] = MappingProxyType({})
    ) -> Platform:
        """Choose free ports and lay out a copy of the example DAGs below ``base``."""
        aws, ui, postgres = free_ports(3)
        tree = base / "dags"
        shutil.copytree(REPOSITORY / "dags", tree, ignore=shutil.ignore_patterns("__pycache__"))
        return cls(base / "state", aws, ui, postgres, tree, enforce_iam, dict(settings))

    @property
    def environment(self) -> dict[str, str]:
        """The process environment that selects this platform."""
        ours = {
            "DAGSTER_LOCAL_STATE": str(self.state),
            "DAGSTER_LOCAL_AWS_PORT": str(self.aws_port),
            "DAGSTER_LOCAL_UI_PORT": str(self.ui_port),
            "DAGSTER_LOCAL_POSTGRES_PORT": str(self.postgres_port),
            "ANSIBLE_NOCOLOR": "1",
        }
        if self.enforce_iam:
            ours["INITIAL_NO_AUTH_ACTION_COUNT"] = "0"
        return {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | ours | self.settings

    @property
    def ui(self) -> DagsterClient:
        return DagsterClient(f"http://127.0.0.1:{self.ui_port}")

    def aws(self, service: Any, *keys: str) -> Any:
        """Return a boto3 client of the emulator, as the account's owner or with other keys: id, secret and token."""
        key, secret, *token = keys or ("test", "test")
        return boto3.client(
            service,
            region_name="us-east-1",
            endpoint_url=f"http://127.0.0.1:{self.aws_port}",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token[0] if token else None,
        )

    def run(self, *command: str, expect: int | None = 0, seconds: float = 900) -> str:
        """Run a command in the repository and return its output, stderr included.

        ``expect`` is the exit code it must have; None accepts any code but 0.
        """
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
        self.outputs.append(done.stdout)
        right = done.returncode != 0 if expect is None else done.returncode == expect
        assert right, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-8000:]}"
        return done.stdout

    def make(self, target: str, **kwargs: Any) -> str:
        return self.run("make", "--no-print-directory", target, **kwargs)

    def deploy(self, *extra: str, **kwargs: Any) -> str:
        """Run ``ansible-playbook deploy_dags.yml`` on the tree of this platform, as who may deploy DAGs only."""
        arguments = ("-e", f"dags_path={self.tree}", *self.publisher(), *extra)
        return self.run(str(PLAYBOOK), "deploy_dags.yml", *arguments, **kwargs)

    @property
    def _publisher_file(self) -> Path:
        return self.state.with_name("publisher.cfg")

    def publisher(self) -> tuple[str, ...]:
        """Return the arguments of a playbook that runs with the printed policy for deploying DAGs, and no other."""
        iam = self.aws("iam")
        # An account that has forgotten everything has forgotten the user, too.
        if "publisher" not in {user["UserName"] for user in iam.list_users()["Users"]}:
            policies = self.state.with_name("policies")
            self.run(str(PLAYBOOK), "playbooks/deployer_policy.yml", "-e", f"deployer_policy_directory={policies}")
            document = json.loads((policies / "dags.json").read_text(encoding="utf-8"))
            make_user(iam, "publisher", {"dags": document}, self._publisher_file)
        return as_profile(self._publisher_file, f"http://127.0.0.1:{self.aws_port}")

    def publisher_keys(self) -> tuple[str, str]:
        """Return the keys of that user."""
        return read_keys(self._publisher_file)

    def forget_the_account(self) -> None:
        """Kill the emulator and remove what it has kept, as if the machine had lost it."""
        record = json.loads((self.state / "run" / "emulator.json").read_text(encoding="utf-8"))
        emulator = psutil.Process(record["pid"])
        assert "local.emulator" in emulator.cmdline()
        emulator.kill()
        emulator.wait(10)
        (self.state / STATE_FILE).unlink()

    def running_tasks(self) -> set[str]:
        """Return the ARNs of the RUNNING tasks of the cluster."""
        ecs = self.aws("ecs")
        (cluster,) = ecs.list_clusters()["clusterArns"]
        return set(ecs.list_tasks(cluster=cluster, desiredStatus="RUNNING")["taskArns"])


class Probe:
    """Asks the web UI for a location without a break, and remembers every moment it was not right.

    What it asserts is promise 3 of the design: never down because of a DAG.
    """

    def __init__(self, ui: DagsterClient, location: str) -> None:
        self._ui, self._location = ui, location
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.asked = 0
        self.failures: list[str] = []

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                found = self._ui.locations().get(self._location)
                if found is None:
                    self.failures.append("location missing")
                elif found.error:
                    self.failures.append(found.error[:200])
            except Exception as error:  # whatever went wrong, the user saw it
                self.failures.append(repr(error)[:200])
            self.asked += 1
            self._stop.wait(0.2)

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)


def port_answers(port: int) -> bool:
    """Return whether something listens on a loopback port."""
    with closing(socket.socket()) as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
