"""Prints what a playbook reports and nothing else: no banners, no recap, failures to standard error."""

from __future__ import annotations

from typing import Any

from ansible.plugins.callback.default import CallbackModule as Default

DOCUMENTATION = """
    name: platform_report
    type: stdout
    short_description: only what a playbook reports
    description:
      - For playbooks whose purpose is an answer (status, cost, doctor, logs). What their tasks display is all of the
        standard output, so that C(FORMAT=json) can be read by a program.
      - A task that fails is told on standard error; with C(-v) all is shown as by the callback C(default).
    extends_documentation_fragment:
      - default_callback
      - result_format_callback
    requirements:
      - set as the stdout callback, for example with ANSIBLE_STDOUT_CALLBACK=platform_report
"""


class CallbackModule(Default):  # type: ignore[misc]
    """Keeps quiet about what goes well."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "platform_report"

    @property
    def _quiet(self) -> bool:
        return not self._display.verbosity

    def set_options(self, task_keys: Any = None, var_options: Any = None, direct: Any = None) -> None:
        """Read the options; with -v they are as the user has set them."""
        super().set_options(task_keys, var_options, direct)
        if self._quiet:
            for option in ("display_ok_hosts", "display_skipped_hosts", "display_included_hosts"):
                self.set_option(option, False)
            self.set_option("display_failed_stderr", True)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Remember the play, as the parent does, for the names of its tasks."""
        self._play = play
        if not self._quiet:
            super().v2_playbook_on_play_start(play)

    def v2_runner_on_ok(self, result: Any) -> None:
        """Pass on the warnings of a task that went well."""
        if self._quiet:
            self._handle_warnings_and_exception(result)
        else:
            super().v2_runner_on_ok(result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """Leave it to the task as a whole."""
        if not self._quiet:
            super().v2_runner_item_on_ok(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Say why on standard error, without the lines of the playbook; with -v as the parent does."""
        if not self._quiet:
            super().v2_runner_on_failed(result, ignore_errors)
            return
        self._handle_warnings(result.result)
        message = result.result.get("msg", "The task failed; -v shows all of it.")
        text = "\n".join(map(str, message)) if isinstance(message, list) else str(message)
        self._display.display(f"\nERROR: {text}", color="red", stderr=True)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Leave the recap away."""
        if not self._quiet:
            super().v2_playbook_on_stats(stats)
