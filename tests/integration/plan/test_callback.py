"""The callback `platform_plan` as Ansible loads it, with small playbooks and no AWS at all."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.integration.emulated import PLAYBOOK, ROOT, Result

MODULE = """#!/usr/bin/python
from ansible.module_utils.basic import AnsibleModule
options = {"changes": {"type": "list", "elements": "dict"}, "fails": {"type": "bool"}}
module = AnsibleModule(options, supports_check_mode=True)
found = {"changed": True, "changes": module.params["changes"], "region": "us-east-1"}
if module.params["fails"]:
    module.fail_json(msg="The bucket name is taken. Choose another one.", **found)
module.warn("Somebody should know.")
module.exit_json(**found)
"""
ADDRESS = {"action": "create", "kind": "elastic-ip", "name": "x-nat", "before": {}, "after": {}, "unchanged": {}}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "record.py").write_text(MODULE)
    return tmp_path


def write(project: Path, *tasks: dict[str, object]) -> Path:
    playbook = project / "play.yml"
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": list(tasks)}
    playbook.write_text(json.dumps([play]))
    return playbook


def environment(**changes: str) -> dict[str, str]:
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_") and key != "NO_COLOR"
    }
    return {
        **inherited,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_STDOUT_CALLBACK": "platform_plan",
        "TERM": "xterm",
        **changes,
    }


def run(playbook: Path, *arguments: str, **changes: str) -> Result:
    return subprocess.run(
        [str(PLAYBOOK), "-i", str(ROOT / "inventories/local/hosts.yml"), str(playbook), *arguments],
        env=environment(**changes),
        capture_output=True,
        text=True,
        check=False,
    )


def test_quiet_about_tasks_but_not_about_their_warnings(project: Path) -> None:
    target = project / "made"
    playbook = write(
        project,
        {"name": "Record", "record": {"changes": [ADDRESS]}},
        {"name": "Record again", "record": {"changes": "{{ [item] }}"}, "loop": [{**ADDRESS, "name": "y-nat"}]},
        {"name": "Write", "ansible.builtin.copy": {"content": "x", "dest": str(target), "mode": "0644"}},
        {"name": "Skip", "ansible.builtin.debug": {"msg": "hidden"}, "when": False},
    )
    result = run(playbook, "--check", "--diff")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("Somebody should know.") == 1
    lines = [" ".join(line.split()) for line in result.stdout.splitlines() if line.strip()]
    assert lines[:4] == [
        "Comparing what is there with what is wanted; nothing is changed.",
        "Create (3)",
        "+ elastic-ip x-nat +3.65",
        "+ elastic-ip y-nat +3.65",
    ]
    assert lines[5:7] == ["3 to create, 0 to change, 0 to replace, 0 to remove.", "Price a month: +7.30 USD."]
    assert lines[4].startswith("+ file ")
    assert not target.exists()
    done = run(playbook, "--diff")
    assert "3 created, 0 changed, 0 replaced, 0 removed." in done.stdout
    assert target.exists()


def test_v_shows_what_ansible_shows_and_then_the_summary(project: Path) -> None:
    playbook = write(project, {"name": "Record", "record": {"changes": [ADDRESS]}})
    output = run(playbook, "--check", "-v").stdout
    assert output.index("TASK [Record]") < output.index("changed: [localhost] =>") < output.index("PLAY RECAP")
    assert output.index("PLAY RECAP") < output.index("Create (1)")


def test_a_failure_is_shown_as_ever_and_the_plan_is_said_to_be_incomplete(project: Path) -> None:
    playbook = write(
        project,
        {"name": "Record", "record": {"changes": [ADDRESS]}},
        {"name": "Fail", "record": {"changes": [{**ADDRESS, "name": "y-nat"}], "fails": True}},
        {"name": "Never", "record": {"changes": [{**ADDRESS, "name": "z-nat"}]}},
    )
    result = run(playbook, "--check", "--diff")
    assert result.returncode == 2
    assert "TASK [Record]" not in result.stdout
    assert "TASK [Fail]" in result.stdout
    assert "fatal: [localhost]: FAILED!" in result.stdout
    assert "msg: The bucket name is taken. Choose another one." in result.stdout
    assert "The run failed before its end, see above" in result.stdout
    assert "2 to create, 0 to change, 0 to replace, 0 to remove." in result.stdout


@pytest.mark.parametrize(("changes", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_for_terminals_and_those_who_want_them(
    project: Path, changes: dict[str, str], coloured: bool
) -> None:
    playbook = write(project, {"name": "Record", "record": {"changes": [ADDRESS]}})
    assert "\x1b[" not in run(playbook, "--check", **changes).stdout
    parent, terminal = pty.openpty()
    with subprocess.Popen(
        [str(PLAYBOOK), "-i", str(ROOT / "inventories/local/hosts.yml"), str(playbook), "--check"],
        env=environment(**changes),
        stdin=terminal,
        stdout=terminal,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(terminal)
        output = b""
        try:
            while part := os.read(parent, 4096):
                output += part
        except OSError:
            pass  # Linux says so when the last writer has closed the terminal
        os.close(parent)
    assert process.returncode == 0
    assert b"1 to create" in output
    assert (b"\x1b[0;32m  + elastic-ip" in output) is coloured
    assert (b"\x1b[" in output) is coloured
