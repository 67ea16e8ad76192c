"""Shows what a playbook changes, says and waits for, with the time; leaves away what went well without a change."""

from __future__ import annotations

import atexit
import time
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible import constants as C
from ansible import context

# Ansible puts this project's module_utils into modules, but not onto the controller's own import path.
_MODULE_UTILS = str(Path(__file__).resolve().parents[1] / "module_utils")
if _MODULE_UTILS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(_MODULE_UTILS)

from ansible.module_utils.quiet_callback import QuietCallback, text_of  # noqa: E402

DOCUMENTATION = """
    name: platform_short
    type: stdout
    short_description: what is changed, said and waited for, with elapsed time
    description:
      - One line for each role that begins, with the seconds so far, and one for each task that changes something.
      - Messages of tasks are shown as they are, a task that fails with its name and message, and the recap at the end.
      - With C(-v) all is shown as by the callback C(default).
    extends_documentation_fragment:
      - default_callback
      - result_format_callback
    requirements:
      - set as the stdout callback, as ansible.cfg of this project does
"""

_MORE_THAN_A_MESSAGE = frozenset({"rc", "stdout", "stderr", "module_stdout", "module_stderr", "results"})
"""What a failed task returns when its message alone does not tell why."""


class CallbackModule(QuietCallback):  # type: ignore[misc]
    """Keeps quiet about what goes well and changes nothing."""

    CALLBACK_NAME = "platform_short"

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()
        self._role = ""
        self._announced = ""

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Have it said how to go on, should the playbook not come to its end."""
        if self._quiet:
            atexit.register(self._tell_how_to_go_on)
        super().v2_playbook_on_play_start(play)

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Say which role begins, and when."""
        super().v2_playbook_on_task_start(task, is_conditional)
        role = task._role.get_name() if task._role else self._role
        if self._quiet and role != self._role:
            self._role = role
            self._say(f"{self._elapsed()}  {role}")

    def v2_runner_on_ok(self, result: Any) -> None:
        """Tell a change, or what the task says; items of a loop have told theirs."""
        if not self._quiet:
            super().v2_runner_on_ok(result)
            return
        self._handle_warnings_and_exception(result)
        if not (result.task.loop and "results" in result.result):
            self._tell(result, "")

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """Tell a change, or what the item says."""
        if not self._quiet:
            super().v2_runner_item_on_ok(result)
            return
        self._handle_warnings_and_exception(result)
        self._tell(result, self._item(result))

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Show name and message; all that there is, if the message alone is not the reason."""
        answer = result.result
        if not self._quiet or ignore_errors or "msg" not in answer or _MORE_THAN_A_MESSAGE & set(answer):
            super().v2_runner_on_failed(result, ignore_errors)
            return
        self._handle_warnings(answer)
        self._display.display(
            f"\nFAILED: {result.task.get_name()}\n{text_of(answer['msg'])}\n",
            color=C.COLOR_ERROR,
            stderr=self.get_option("display_failed_stderr"),
        )

    def v2_on_file_diff(self, result: Any) -> None:
        """Show a difference below the name of its task."""
        if self._quiet and result.result.get("changed") and "results" not in result.result:
            self._announce(result, self._item(result) if result.task.loop else "")
            self._last_task_banner = result.task._uuid
        super().v2_on_file_diff(result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Say how long all of it took, and the recap, which the parent leaves away."""
        atexit.unregister(self._tell_how_to_go_on)
        if self._quiet:
            self._say(f"{self._elapsed()}  ended")
        super(QuietCallback, self).v2_playbook_on_stats(stats)

    def _tell_how_to_go_on(self) -> None:
        """Ansible tells callbacks nothing of Ctrl-C."""
        self._display.display(
            f"{self._elapsed()}  Stopped before its end. What is done stays; the same command goes on from there.",
            stderr=True,
        )

    def _tell(self, result: Any, item: str) -> None:
        answer = result.result
        if answer.get("changed"):
            self._announce(result, item)
        elif answer.get("_ansible_verbose_always"):
            self._say(text_of(answer["msg"]) if "msg" in answer else self._dump_results(answer).strip())

    def _item(self, result: Any) -> str:
        return f" ({self._get_item_label(result.result)})"

    def _announce(self, result: Any, item: str) -> None:
        """Say what a task changes, once."""
        if self._announced != (name := f"{result.task._uuid}{item}"):
            self._announced = name
            verb = "would change" if context.CLIARGS["check"] else "changed"
            self._say(f"        {verb}: {result.task.get_name()}{item}", C.COLOR_CHANGED)

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._began:4.0f} s"

    def _say(self, text: str, color: str | None = None) -> None:
        self._display.display(text, color=color)
