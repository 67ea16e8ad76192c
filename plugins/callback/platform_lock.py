"""Ends the keeper of the platform's lock together with the playbook, so that the next one finds the lock free."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible.plugins.callback import CallbackBase

# Ansible puts this project's module_utils into modules, but not onto the controller's own import path.
_MODULE_UTILS = str(Path(__file__).resolve().parents[1] / "module_utils")
if _MODULE_UTILS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(_MODULE_UTILS)

from ansible.module_utils.lock_keeper import alive  # noqa: E402

DOCUMENTATION = """
    name: platform_lock
    type: notification
    short_description: gives the lock back at the end of a playbook
    description:
      - Tells the process that M(platform_lock) has started that the playbook has ended, well or not, and waits for it.
      - Where this callback is not loaded (AWX brings callbacks of its own), or the playbook is interrupted or killed,
        that process notices by itself, a moment later.
"""

SECONDS = 10.0
"""How long the end of a playbook waits for AWS's answer."""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Remembers keepers, and ends them."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "platform_lock"

    def __init__(self) -> None:
        super().__init__()
        self._keepers: list[int] = []

    def v2_runner_on_ok(self, result: Any) -> None:
        """Remember the process that keeps a lock."""
        if result.task.action == "platform_lock" and (pid := result.result.get("keeper")):
            self._keepers.append(pid)

    def v2_playbook_on_stats(self, _stats: Any) -> None:
        """End them, and wait until the lock is given back."""
        for pid in self._keepers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + SECONDS
        while any(alive(pid) for pid in self._keepers) and time.monotonic() < deadline:
            time.sleep(0.02)
