"""Secrets in an inventory are refused before they reach a command line or an output."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.integration.emulated import ROOT, Emulator
from tests.integration.secrets.needles import Needles

PLAYBOOKS = sorted(path for path in (ROOT / "playbooks").glob("*.yml") if path.name != "inventory_guard.yml")


SECRET = "not/for+every.body"
SETTINGS = {
    "aws_environment": {"AWS_REGION": "us-east-1", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": SECRET},
    "ui_oidc": {"client_id": "dagster", "client_secret": SECRET},
}


def test_secrets_in_the_inventory_are_refused(tmp_path: Path) -> None:
    needles = Needles()
    needles.add("secret", SECRET)
    file = tmp_path / "settings.yml"
    file.write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")
    # Nothing listens there: whoever asked anyway would say so.
    nobody = Emulator(9, tmp_path)
    commands = tmp_path / "commands.jsonl"
    done = nobody.run("site.yml", "-vvv", "-e", f"@{file}", RECORD_COMMANDS=str(commands))
    assert done.returncode != 0
    said = " ".join(done.stdout.split())
    found = "aws_environment.AWS_SECRET_ACCESS_KEY and aws_environment.AWS_SESSION_TOKEN and ui_oidc.client_secret"
    assert f"The inventory holds {found}, where it would end up on command lines and in outputs." in said
    assert "AWS_PROFILE" in said
    assert needles.within(done.stdout + done.stderr) == set()
    assert not commands.exists() or needles.within(commands.read_bytes()) == set()
    assert nobody.requests == []


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: path.stem)
def test_every_playbook_looks_first(playbook: Path) -> None:
    first = yaml.safe_load(playbook.read_text(encoding="utf-8"))[0]
    assert first["ansible.builtin.import_playbook"] == "inventory_guard.yml"
