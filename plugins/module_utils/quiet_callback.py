"""What the callbacks of plugins/callback share: keeping quiet about what goes well, unless -v asks for all of it."""

from __future__ import annotations

from typing import Any

from ansible.plugins.callback.default import CallbackModule as Default


def text_of(message: Any) -> str:
    """Return a message for people; Ansible's are a text or a list of lines."""
    return "\n".join(map(str, message)) if isinstance(message, list) else str(message)


class QuietCallback(Default):  # type: ignore[misc]
    """As the callback `default` with -v; without it, banners and tasks that went well are left away."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"

    @property
    def _quiet(self) -> bool:
        return not self._display.verbosity

    def set_options(self, task_keys: Any = None, var_options: Any = None, direct: Any = None) -> None:
        """Read the options; with -v they are as the user has set them."""
        super().set_options(task_keys, var_options, direct)
        if self._quiet:
            for option in ("display_ok_hosts", "display_skipped_hosts"):
                self.set_option(option, False)

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

    def v2_playbook_on_include(self, included_file: Any) -> None:
        """Say nothing of included files; the option display_included_hosts is new in ansible-core 2.21."""
        if not self._quiet:
            super().v2_playbook_on_include(included_file)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Leave the recap away."""
        if not self._quiet:
            super().v2_playbook_on_stats(stats)
