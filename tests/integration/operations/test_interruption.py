"""A playbook that is interrupted in the middle of an action, and an AWS that does not answer.

What an action does is done in a process that Ansible forks for the task: there is no module that could go on without
it. test_lock.py has an interrupted and a killed playbook whose request is answered after that; here it never is.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.integration.emulated import ROOT, Emulator, emulator, kill
from tests.integration.operations.test_lock import GATE, TABLE, wait_for

PROBE = ROOT / "tests" / "unit" / "actions" / "plugins" / "action"
MARK = "INTERRUPTION_TEST"
BULK = 1_000_000
"""Characters of a result: more than a pipe takes that nobody reads."""

PLAYBOOK = f"""
- hosts: dagster_platform
  gather_facts: false
  environment: "{{{{ aws_environment }}}}"
  tasks:
    - import_role: {{name: platform_lock}}
      vars: {{platform_lock_make_table: true}}
    - name: Ask AWS
      log_groups: {{platform: "{{{{ name_prefix }}}}", names: [/interrupted]}}
      tags: [asking]
    - name: Wait for a file, and have much to tell
      frame_probe: {{do: wait, platform: p, gate: "{{{{ gate }}}}", count: {BULK}}}
      tags: [probing]
"""
UNANSWERED = """
- hosts: dagster_platform
  gather_facts: false
  environment: "{{ aws_environment }}"
  tasks:
    - log_groups:
        platform: "{{ name_prefix }}"
        names: [/unanswered]
        aws_config: {connect_timeout: 1, read_timeout: 0.2, retries: {total_max_attempts: 2}}
"""


@dataclass
class Interrupted:
    """An account in which log groups are asked for in vain."""

    aws: Emulator
    place: Path
    hanging: Path
    """While this file is there nothing is answered."""

    @property
    def reached(self) -> Path:
        """There when the request has come."""
        return self.hanging.with_suffix(".reached")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the playbook."""
        return self.aws.start_playbook(
            *(str(self.place / "play.yml"), "-i", str(ROOT / "inventories" / "local" / "hosts.yml"), *arguments),
            ANSIBLE_ACTION_PLUGINS=f"{ROOT / 'plugins' / 'action'}:{PROBE}",
            **{MARK: str(self.place)},
        )

    @contextmanager
    def asking(self) -> Iterator[subprocess.Popen[str]]:
        """Have a playbook with the lock, and with a request that is not answered as long as this goes on."""
        self.reached.unlink(missing_ok=True)
        self.hanging.touch()
        process = self.start("--skip-tags", "probing")
        try:
            wait_for(self.reached.exists, process)
            assert self.lease_ends()
            yield process
        finally:
            self.hanging.unlink()
            kill(process)

    def lease_ends(self) -> int:
        """Return the time at which the lock would be free by itself; 0 if it is."""
        answer = self.aws.client("dynamodb").get_item(TableName=TABLE, Key={"lock_id": {"S": "platform"}})
        return int(answer["Item"]["expires"]["N"]) if "Item" in answer else 0

    def processes(self) -> list[psutil.Process]:
        """Return what runs of the playbooks of this account, whoever its parents are."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == str(self.place) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def all_is_given_back(self) -> None:
        """Wait until no process is left; the one that keeps the lock is the last."""
        wait_for(lambda: not self.processes())
        assert not self.lease_ends()


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interrupted]:
    place = tmp_path_factory.mktemp("interrupted")
    (place / "play.yml").write_text(PLAYBOOK, encoding="utf-8")
    hanging = place / "hanging"
    with emulator(tmp_path_factory.mktemp("account"), wrap=GATE.format(gate=str(hanging))) as aws:
        yield Interrupted(aws, place, hanging)


def worker_of(process: subprocess.Popen[str]) -> psutil.Process:
    """Return the process that does the task."""
    (worker,) = psutil.Process(process.pid).children()
    return worker


def test_an_interrupt_ends_all_at_once(account: Interrupted) -> None:
    with account.asking() as process:
        worker = worker_of(process)
        # As a terminal does; Ansible gives its workers a group of their own, and hands it on.
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        assert process.returncode != 0
        assert "User interrupted execution" in errors
        assert "Stopped before its end. What is done stays" in errors
        account.all_is_given_back()
        assert not worker.is_running()


def test_a_worker_that_is_killed_ends_the_playbook(account: Interrupted) -> None:
    with account.asking() as process:
        worker_of(process).kill()
        _, errors = process.communicate(timeout=120)
        assert process.returncode != 0
        assert "A worker was found in a dead state" in errors
        account.all_is_given_back()


def test_a_worker_ends_although_nobody_takes_its_result(account: Interrupted) -> None:
    gate = account.place / "open"
    process = account.start("--skip-tags", "asking", "-e", f"gate={gate}", "-e", "platform_lock_lease=3")
    try:
        assert process.stdout is not None
        assert any("waiting for the gate" in line for line in process.stdout)
        worker = worker_of(process)
        # The keeper of the lock renews it when it has looked who belongs to the run: after two times it knows this one.
        for _ in range(2):
            before = account.lease_ends()
            wait_for(lambda before=before: account.lease_ends() > before)
        process.kill()
        process.wait()
        before = account.lease_ends()
        wait_for(lambda: account.lease_ends() > before)
        # It goes on: what it has begun is not left half-done, and nobody else may begin.
        assert worker.is_running()
        gate.touch()
        account.all_is_given_back()
    finally:
        for each in account.processes():
            each.kill()
        kill(process)


def test_a_request_that_is_never_answered(account: Interrupted, tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(UNANSWERED, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        # The system takes the connections, and nobody looks at them.
        result = account.aws.run(
            *(str(tmp_path / "play.yml"), "-i", str(ROOT / "inventories" / "local" / "hosts.yml")),
            DAGSTER_LOCAL_AWS_PORT=str(silent.getsockname()[1]),
        )
    assert result.returncode != 0
    said = " ".join(result.stdout.split())
    assert "AWS does not answer: Read timeout on endpoint URL" in said
    assert "Check the way to AWS: network, VPN, proxy, and AWS_ENDPOINT_URL" in said
    assert "Then run the same command again: what is done is kept." in said
