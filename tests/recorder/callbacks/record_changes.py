"""Ansible callback for tests: writes down the `changes` of every task, one line of JSON each.

Enabled with ANSIBLE_CALLBACK_PLUGINS and ANSIBLE_CALLBACKS_ENABLED; RECORD_CHANGES names the file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
    name: record_changes
    type: aggregate
    short_description: write down what tasks changed
    description: For tests.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Appends to the file that RECORD_CHANGES names."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "record_changes"
    CALLBACK_NEEDS_ENABLED = True

    def _record(self, result: Any) -> None:
        # Ansible renamed the attribute to a public one.
        answer = result.result if hasattr(result, "result") else result._result
        results = answer.get("results") or [answer]
        with Path(os.environ["RECORD_CHANGES"]).open("a", encoding="utf-8") as file:
            for one in results:
                for change in one.get("changes", []) if isinstance(one, dict) else []:
                    file.write(json.dumps(change, default=str) + "\n")

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task has ended well."""
        self._record(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:  # noqa: ARG002 - Ansible's
        """A task has failed, maybe after some changes."""
        self._record(result)
