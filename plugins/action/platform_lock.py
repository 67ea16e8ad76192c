"""Ansible action: tells the module of the same name which run of ansible-playbook it takes the lock for.

Shows its progress as aws_progress.py does. Documentation of the options is in plugins/modules/platform_lock.py.
"""

from __future__ import annotations

import getpass
import os
import socket
import sys
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible.plugins.loader import action_loader

# Ansible puts this project's module_utils into modules, but not onto the controller's own import path.
_MODULE_UTILS = str(Path(__file__).resolve().parents[1] / "module_utils")
if _MODULE_UTILS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(_MODULE_UTILS)

from ansible.module_utils.lock_keeper import identity  # noqa: E402

Progress: Any = action_loader.get("aws_progress", class_only=True)


class ActionModule(Progress):  # type: ignore[misc]
    """Runs the module with what it cannot know itself."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module for the process whose worker this is."""
        pid, host = os.getppid(), socket.gethostname()
        self._task.args = {
            **self._task.args,
            "owner": self._task.args.get("owner") or _user(),
            "run": identity(pid, host),
            "pid": pid,
            "host": host,
            "playbook": _playbook(),
        }
        result: dict[str, Any] = super().run(tmp, task_vars)
        return result


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number that has no name
        return f"uid {os.getuid()}"


def _playbook() -> str:
    """Return the playbooks of the command line: a worker has the arguments of the process it comes from."""
    found = [
        word for word in sys.argv[1:] if word.endswith((".yml", ".yaml")) and "/hosts." not in word and word[0] != "@"
    ]
    return " ".join(found) or "a playbook"
