"""Runs a module and shows, line by line, what it is waiting for.

Ansible shows what a module says when it has ended; a database takes ten minutes. The module adds lines to a file
(`report_progress` in plugins/module_utils/aws_plan.py), and this action displays them. A module that waits long gets a
symbolic link to this file with its own name: Ansible takes the action of the same name as the module.
"""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

# Ansible puts this project's module_utils into modules, but not onto the controller's own import path.
_MODULE_UTILS = str(Path(__file__).resolve().parents[1] / "module_utils")
if _MODULE_UTILS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(_MODULE_UTILS)

from ansible.module_utils.aws_plan import PROGRESS_FILE  # noqa: E402

LOOK_SECONDS = 0.5


class ActionModule(ActionBase):  # type: ignore[misc]
    """Runs the module of the same name with its arguments as they are."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module and show its progress meanwhile."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        with tempfile.NamedTemporaryFile(mode="r", encoding="utf-8", prefix="progress-") as progress:
            # This is a process of its own, made for this task; the module inherits its environment.
            os.environ[PROGRESS_FILE] = progress.name
            ended = threading.Event()
            display = Display()

            def show() -> None:
                for line in progress:
                    display.display(f"  {line.rstrip()}")

            def follow() -> None:
                while not ended.wait(LOOK_SECONDS):
                    show()

            follower = threading.Thread(target=follow, name="progress")
            follower.start()
            try:
                result.update(self._execute_module(task_vars=task_vars))
            finally:
                ended.set()
                follower.join()
            show()
        return result
