"""Collects the settings for the module of the same name, also where some are missing or cannot be templated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible.plugins.action import ActionBase

# Ansible puts this project's module_utils into modules, but not onto the controller's own import path.
_MODULE_UTILS = str(Path(__file__).parents[1] / "module_utils")
if _MODULE_UTILS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(_MODULE_UTILS)

from ansible.module_utils.settings_reading import count_locations, inventory_of, read_settings  # noqa: E402


class ActionModule(ActionBase):  # type: ignore[misc]
    """Reads each setting from the variables, so that one that is missing does not hide the others."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module with all settings that can be read."""
        variables = task_vars or {}
        result: dict[str, Any] = super().run(tmp, variables)
        settings = read_settings(self._templar, variables)
        result.update(
            self._execute_module(
                module_name="platform_preflight",
                module_args={
                    "settings": settings,
                    "locations": count_locations(settings),
                    "inventory": inventory_of(variables),
                    "needs_image": self._task.args.get("needs_image", True),
                    "needs_awake": self._task.args.get("needs_awake", True),
                    "cluster": self._task.args.get("cluster", ""),
                },
                task_vars=variables,
            )
        )
        return result
