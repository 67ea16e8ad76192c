"""Which files of a project AWX offers as playbooks, by AWX's own rule.

Told in our words from `skip_directory` and `could_be_playbook` in awx/main/utils/ansible.py and `Project.playbooks` in
awx/main/models/projects.py of https://github.com/ansible/awx, commit e21dd0a0 (after 24.6.1): any .yml or .yaml file
with a line that begins, however far indented and as a list item or not, with one of four keys and a colon, or that is
encrypted with Ansible Vault. Directories `roles`, `tasks`, `group_vars`, `host_vars` and those with a dot are left out.
AWX looks at lines, not at YAML: a nested `hosts:` counts, a quoted key does not.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path, PurePosixPath

_LINE = re.compile(r"\s*-?\s*(hosts|(ansible\.builtin\.)?(include|import_playbook)):")
_NOT_IN = {"roles", "tasks", "group_vars", "host_vars"}


def is_playbook(path: PurePosixPath, text: str) -> bool:
    """Return whether AWX offers the file with this path in the project and this text."""
    if path.suffix not in {".yml", ".yaml"}:
        return False
    if any(part in _NOT_IN or part.startswith(".") for part in path.parts[:-1]):
        return False
    return text.startswith("$ANSIBLE_VAULT;") or any(_LINE.match(line) for line in text.splitlines())


def project_files(root: Path) -> list[PurePosixPath]:
    """Return the files that a checkout has, and those that will be once they are added."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted({PurePosixPath(name) for name in listed.stdout.splitlines() if (root / name).is_file()})


def playbooks(root: Path) -> list[str]:
    """Return what AWX offers for a checkout."""
    return [
        str(path)
        for path in project_files(root)
        if path.suffix in {".yml", ".yaml"} and is_playbook(path, (root / path).read_text("utf-8", "ignore"))
    ]
