"""Prints what a playbook would change, or has changed, as one summary with prices instead of task by task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible import constants as C
from ansible import context

# Ansible puts this project's module_utils into modules, but not onto the controller's own import path.
_MODULE_UTILS = str(Path(__file__).resolve().parents[1] / "module_utils")
if _MODULE_UTILS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(_MODULE_UTILS)

from ansible.module_utils.aws_prices import DEFAULT_REGION, load_prices  # noqa: E402
from ansible.module_utils.plan_summary import local_changes, summary  # noqa: E402
from ansible.module_utils.quiet_callback import QuietCallback  # noqa: E402

DOCUMENTATION = """
    name: platform_plan
    type: stdout
    short_description: a readable plan of what would change, with prices
    description:
      - Collects the C(changes) that the modules of this project return and prints them at the end, grouped into what is
        created, changed, replaced and removed, with the difference in the monthly price of each and of all together.
      - Made for C(site.yml --check --diff); without C(--check) it says what was changed.
      - A task that fails is shown as the callback C(default) shows it, and so is everything with C(-v).
    extends_documentation_fragment:
      - default_callback
      - result_format_callback
    requirements:
      - set as the stdout callback, for example with ANSIBLE_STDOUT_CALLBACK=platform_plan
"""

COLORS = {
    "create": C.COLOR_OK,
    "update": C.COLOR_CHANGED,
    "replace": C.COLOR_WARN,
    "remove": C.COLOR_ERROR,
    "total": C.COLOR_HIGHLIGHT,
    "note": C.COLOR_VERBOSE,
}
"""By what a line of the summary is about. Ansible leaves colours away off a terminal and with NO_COLOR."""


class CallbackModule(QuietCallback):  # type: ignore[misc]
    """Keeps quiet about what goes well, and sums it up at the end."""

    CALLBACK_NAME = "platform_plan"

    def __init__(self) -> None:
        super().__init__()
        self._changes: list[dict[str, Any]] = []
        self._region = DEFAULT_REGION

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Say why nothing is to be seen for a while."""
        if self._quiet and context.CLIARGS["check"]:
            self._display.display("Comparing what is there with what is wanted; nothing is changed.\n")
        super().v2_playbook_on_start(playbook)

    def v2_runner_on_ok(self, result: Any) -> None:
        """Collect the changes of a task that went well, and pass on its warnings."""
        self._collect(result)
        super().v2_runner_on_ok(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Collect the changes that a task made until it failed, and show it."""
        self._collect(result)
        super().v2_runner_on_failed(result, ignore_errors)

    def v2_on_file_diff(self, result: Any) -> None:
        """Leave it to the summary."""
        if not self._quiet:
            super().v2_on_file_diff(result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Print the summary."""
        super().v2_playbook_on_stats(stats)
        for line in summary(
            self._changes,
            load_prices(self._region),
            region=self._region,
            would=bool(context.CLIARGS["check"]),
            complete=not stats.failures and not stats.dark,
        ):
            self._display.display(line.text, color=COLORS.get(line.tone))

    def _collect(self, result: Any) -> None:
        answer = result.result
        for one in answer["results"] if result.task.loop and "results" in answer else [answer]:
            self._region = one.get("region") or self._region
            self._changes += one["changes"] if "changes" in one else local_changes(result.task.get_name(), one)
