"""The callback `platform_short`, which ansible.cfg sets for every playbook, with a small one and no AWS at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.e2e.dagster_client import wait_for
from tests.integration.emulated import PLAYBOOK, ROOT, recap
from tests.integration.plan.test_callback import environment, run, write

OURS = {"ANSIBLE_STDOUT_CALLBACK": "platform_short", "ANSIBLE_NOCOLOR": "1"}


def test_changes_messages_and_failures_only(tmp_path: Path) -> None:
    target = tmp_path / "made"
    copy = {"content": "x\n", "dest": str(target), "mode": "0600"}
    playbook = write(
        tmp_path,
        {"name": "Look", "ansible.builtin.stat": {"path": str(target)}},
        {"name": "Say", "ansible.builtin.debug": {"msg": ["one", "'two'"]}},
        {"name": "Say of each", "ansible.builtin.debug": {"msg": "{{ item }} of it"}, "loop": ["three"]},
        {"name": "Write", "ansible.builtin.copy": copy},
        {"name": "Leave", "ansible.builtin.copy": copy},
        {"name": "Skip", "ansible.builtin.debug": {"msg": "not said"}, "when": False},
        {"name": "Refuse", "ansible.builtin.fail": {"msg": "The name is taken.\nChoose another."}},
    )
    done = run(playbook, "--diff", **OURS)
    assert done.returncode == 2
    said = [line for line in done.stdout.splitlines() if line.strip()]
    assert said[:4] == ["one", "'two'", "three of it", "        changed: Write"]
    assert "+x" in said
    assert "changed: Leave" not in done.stdout
    assert "\nFAILED: Refuse\nThe name is taken.\nChoose another.\n" in done.stdout
    assert not any(word in done.stdout for word in ("TASK [", "ok: [", "skipping", "not said"))
    assert said[-3].endswith(" s  ended")
    assert (recap(done)["changed"], recap(done)["failed"]) == (1, 1)

    target.unlink()
    assert "        would change: Write\n" in run(playbook, "--check", **OURS).stdout
    assert not target.exists()
    loud = run(playbook, "-v", **OURS).stdout
    assert loud.index("TASK [Look]") < loud.index("ok: [localhost]") < loud.index("fatal: [localhost]: FAILED!")


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    waits = "from pathlib import Path; import time; Path('begun').touch(); time.sleep(600)"
    playbook = write(
        tmp_path,
        {"name": "Wait", "ansible.builtin.command": {"argv": [sys.executable, "-c", waits], "chdir": str(tmp_path)}},
    )
    with subprocess.Popen(
        [str(PLAYBOOK), "-i", str(ROOT / "inventories/local/hosts.yml"), str(playbook)],
        env=environment(**OURS),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        # Not while Ansible's processes talk to each other: it may wait for one of them then, until the second Ctrl-C.
        wait_for("the task", (tmp_path / "begun").exists)
        # A terminal sends it to all processes of the foreground.
        os.killpg(process.pid, signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()  # if it has not ended
    assert process.returncode == 99
    assert "Stopped before its end. What is done stays; the same command goes on from there." in errors
    assert "Traceback" not in errors
