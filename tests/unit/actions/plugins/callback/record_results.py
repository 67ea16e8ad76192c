"""Ansible callback for tests: writes down the result of every task, a line of JSON each.

RECORD_RESULTS names the file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
    name: record_results
    type: aggregate
    short_description: write down the results of tasks
    description: For tests.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Appends to the file."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "record_results"

    def _record(self, result: Any) -> None:
        line = {"task": result.task.get_name(), "result": {**result.result, "failed": result.is_failed()}}
        with Path(os.environ["RECORD_RESULTS"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task has ended well."""
        self._record(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:  # noqa: ARG002 - Ansible's
        """A task has failed."""
        self._record(result)
