"""Inventories of the project, imported as AWX does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.awx.inventory import clean_environment, import_inventory, write_script

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", sorted(path.parent.name for path in (ROOT / "inventories").glob("*/hosts.yml")))
def test_an_inventory_is_imported_with_its_settings(name: str, tmp_path: Path) -> None:
    found = import_inventory(ROOT, f"inventories/{name}/hosts.yml", tmp_path / "output.json")
    assert found["dagster_platform"]["hosts"] == ["localhost"]
    settings = found["all"]["vars"]
    assert settings["name_prefix"].startswith("dagster")
    assert "{{" in settings["aws_environment"]["AWS_REGION"], "templates are evaluated by the job"


def test_a_job_of_an_imported_inventory_finds_what_is_in_the_project(tmp_path: Path) -> None:
    """Settings that look beside the inventory's own files would look in a directory that AWX made."""
    script = write_script(import_inventory(ROOT, "inventories/example/hosts.yml", tmp_path / "output.json"), tmp_path)
    playbook = Path(sys.executable).with_name("ansible-playbook")
    arguments = ("-e", "create_dag_name=sales", "-e", "aws_account_id=123456789012", "--check")
    done = subprocess.run(
        [str(playbook), "-i", str(script), "playbooks/create_dag.yml", *arguments],
        cwd=ROOT,
        env=clean_environment() | {"ANSIBLE_NOCOLOR": "1", "COLUMNS": "1000"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Would make the code location sales in {os.fspath(ROOT / 'dags')}" in " ".join(done.stdout.split())
