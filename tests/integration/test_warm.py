"""A playbook that a fork of a warm process runs does, says and leaves what one with a Python of its own does."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.dagster_client import wait_for
from tests.integration.emulated import Emulator, emulator
from tests.integration.quick import quick

WAITING = """
- name: Wait until a file goes
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Wait
      ansible.builtin.command:
        argv: [sh, -c, "touch '{{ reached }}'; while [ -e '{{ reached }}' ]; do sleep 0.1; done"]
"""


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("account")) as aws:
        yield aws


def seen(aws: Emulator, arguments: tuple[str, ...], changes: dict[str, str]) -> dict[str, Any]:
    """Run a playbook; return everything that it does, without how long that takes, and ids."""
    aws.forget_requests()
    aws.take_changes()
    result = aws.run(*arguments, **changes)
    return {
        "code": result.returncode,
        "output": re.sub(r"^ *\d+ s  .*\n", "", result.stdout, flags=re.MULTILINE),
        "errors": result.stderr,
        "requests": [{**request, "params": None} for request in aws.requests],
        "changes": aws.take_changes(),
    }


@pytest.mark.parametrize(
    ("arguments", "changes", "code"),
    [
        (("playbooks/cost.yml", "-e", "cost_format=json"), {"ANSIBLE_STDOUT_CALLBACK": "platform_report"}, 0),
        (("site.yml", "--tags", "cloudwatch_logs", "--check", "--diff"), {}, 0),
        (("playbooks/hibernate.yml", "-e", "platform_lock_wait=0"), {}, 2),
        (("playbooks/cost.yml", "--no-such-option"), {}, 2),
    ],
)
def test_it_does_and_says_the_same(
    aws: Emulator, arguments: tuple[str, ...], changes: dict[str, str], code: int
) -> None:
    found = seen(quick(aws), arguments, changes)
    assert found == seen(aws, arguments, changes)
    assert found["code"] == code


def until_it_waits(process: subprocess.Popen[str], reached: Path) -> None:
    wait_for("the command", lambda: reached.exists() or process.poll() is not None)
    assert process.poll() is None, process.communicate()


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda pid: os.killpg(pid, signal.SIGINT), 99),
        (lambda pid: os.kill(pid, signal.SIGKILL), -signal.SIGKILL),
    ],
    ids=["interrupted", "killed"],
)
def test_signals_end_it_alike(aws: Emulator, tmp_path: Path, end: Callable[[int], None], code: int) -> None:
    playbook = tmp_path / "waiting.yml"
    playbook.write_text(WAITING, encoding="utf-8")
    reached = tmp_path / "reached"
    codes = []
    for account in (aws, quick(aws)):
        process = account.start_playbook(str(playbook), "-e", f"reached={reached}")
        until_it_waits(process, reached)
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.01)
        end(process.pid)
        process.wait(timeout=100)
        reached.unlink()
        process.communicate(timeout=100)
        codes.append(process.returncode)
    assert codes == [code, code]


def test_two_at_once_have_their_own_files(aws: Emulator, tmp_path: Path) -> None:
    playbook = tmp_path / "waiting.yml"
    playbook.write_text(WAITING, encoding="utf-8")
    temporary = tmp_path / "temporary"
    started = {
        file: quick(aws).start_playbook(str(playbook), "-e", f"reached={file}", ANSIBLE_LOCAL_TEMP=str(temporary))
        for file in (tmp_path / "first", tmp_path / "second")
    }
    for file, process in started.items():
        until_it_waits(process, file)
    for file, process in started.items():
        assert list(temporary.glob(f"ansible-local-{process.pid}????????"))
        file.unlink()
        assert process.communicate(timeout=100)[1] == ""
        assert process.returncode == 0
        assert not list(temporary.glob(f"ansible-local-{process.pid}????????"))
