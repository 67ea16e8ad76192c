"""Inventories as AWX has them: imported from the project once, and handed to each job as a script.

Told in our words from `RunInventoryUpdate.build_args` and `BaseTask.write_inventory_file` in awx/main/tasks/jobs.py and
`STANDARD_INVENTORY_UPDATE_ENV` in awx/main/constants.py of https://github.com/ansible/awx, commit e21dd0a0.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

UPDATE_ENVIRONMENT = {
    "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
    "ANSIBLE_INVENTORY_EXPORT": "True",
    "ANSIBLE_VERBOSE_TO_STDERR": "True",
    "ANSIBLE_HOST_PATTERN_MISMATCH": "error",
}


def clean_environment() -> dict[str, str]:
    """Return the environment without what would choose another configuration or account."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "AWS_"))}


def import_inventory(project: Path, source_path: str, output: Path) -> dict[str, Any]:
    """Read an inventory as an inventory source of AWX does that is sourced from a project.

    Variables beside it arrive as they were written: templates are not evaluated.
    """
    source = project / source_path
    program = Path(sys.executable).with_name("ansible-inventory")
    done = subprocess.run(
        [
            *(str(program), "--list", "--export", "-i", str(source)),
            *("--output", str(output), "--playbook-dir", str(source.parent)),
        ],
        cwd=project,
        env=clean_environment() | UPDATE_ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return found


def write_script(imported: dict[str, Any], directory: Path) -> Path:
    """Write the inventory of a job: a program that prints what was imported; `inventory_dir` is not the project's."""
    script = directory / "hosts"
    script.write_text(f"#! /usr/bin/env python3\nprint({json.dumps(imported)!r})\n", encoding="utf-8")
    script.chmod(0o700)
    return script
