"""Ansible callback for tests: writes down every variable that a host has in the end, facts and results included.

Enabled with ANSIBLE_CALLBACK_PLUGINS and ANSIBLE_CALLBACKS_ENABLED; RECORD_FACTS names the file, a line of JSON a host.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
    name: record_facts
    type: aggregate
    short_description: write down the variables of hosts
    description: For tests.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Appends to the file that RECORD_FACTS names."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "record_facts"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """A play begins."""
        self._play = play

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Everything has ended."""
        manager = self._play.get_variable_manager()
        with Path(os.environ["RECORD_FACTS"]).open("a", encoding="utf-8") as file:
            for name in sorted(stats.processed):
                host = manager._inventory.get_host(name)
                file.write(json.dumps(manager.get_vars(play=self._play, host=host), default=str) + "\n")
