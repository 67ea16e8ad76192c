"""The callback `platform_short`, which ansible.cfg sets for every playbook, with a small one and no AWS at all."""

from __future__ import annotations

from pathlib import Path

from tests.integration.emulated import recap
from tests.integration.plan.test_callback import run, write

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
