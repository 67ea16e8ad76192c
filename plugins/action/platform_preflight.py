"""Collects the settings for the module of the same name, also where some are missing or cannot be templated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

# Ansible puts this project's module_utils into modules, but not onto the controller's own import path.
_MODULE_UTILS = str(Path(__file__).parents[1] / "module_utils")
if _MODULE_UTILS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(_MODULE_UTILS)

from ansible.module_utils.platform_settings import OPTIONAL, REQUIRED  # noqa: E402


class ActionModule(ActionBase):  # type: ignore[misc]
    """Reads each setting from the variables, so that one that is missing does not hide the others."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module with all settings that can be read."""
        variables = task_vars or {}
        result: dict[str, Any] = super().run(tmp, variables)
        settings = {
            name: value for name in (*REQUIRED, *OPTIONAL) if (value := self._value(name, variables)) is not None
        }
        sources = variables.get("ansible_inventory_sources") or ["(none)"]
        result.update(
            self._execute_module(
                module_name="platform_preflight",
                module_args={
                    "settings": settings,
                    "locations": _count_locations(settings),
                    "inventory": ", ".join(_shown(source) for source in sources),
                    "needs_image": self._task.args.get("needs_image", True),
                },
                task_vars=variables,
            )
        )
        return result

    def _value(self, name: str, variables: dict[str, Any]) -> Any:
        """Return the templated value; None if it, or something that it refers to, is not set."""
        if name not in variables:
            return None
        try:
            return self._templar.template(variables[name])
        except AnsibleError:
            return None


def _count_locations(settings: dict[str, Any]) -> int:
    """Return the number of code locations: those listed, or the packages in the DAG directory; 0 if unknown."""
    if listed := settings.get("dags_locations"):
        return len(listed)
    directory = Path(str(settings.get("dags_path") or "/nonexistent"))
    return len(list(directory.glob("*/__init__.py")))


def _shown(source: str) -> str:
    """Return a path as the user would type it."""
    path = Path(source)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else source
