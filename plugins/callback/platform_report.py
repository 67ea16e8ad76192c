"""Prints what a playbook reports and nothing else: no banners, no recap, failures to standard error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

# Ansible puts this project's module_utils into modules, but not onto the controller's own import path.
_MODULE_UTILS = str(Path(__file__).resolve().parents[1] / "module_utils")
if _MODULE_UTILS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(_MODULE_UTILS)

from ansible.module_utils.quiet_callback import QuietCallback, text_of  # noqa: E402

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


class CallbackModule(QuietCallback):  # type: ignore[misc]
    """Keeps quiet about what goes well."""

    CALLBACK_NAME = "platform_report"

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Say why on standard error, without the lines of the playbook; with -v as the parent does."""
        if not self._quiet:
            super().v2_runner_on_failed(result, ignore_errors)
            return
        self._handle_warnings(result.result)
        message = text_of(result.result.get("msg", "The task failed; -v shows all of it."))
        self._display.display(f"\nERROR: {message}", color="red", stderr=True)
