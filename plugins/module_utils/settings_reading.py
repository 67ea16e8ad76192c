"""Settings of an inventory, read from the variables of a play one by one, so that a missing one hides no other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError

from .platform_settings import OPTIONAL, REQUIRED, without_secrets


def read_settings(templar: Any, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that can be read; what is not set, or refers to something that is not, is left out."""
    found = {name: _value(templar, variables, name) for name in (*REQUIRED, *OPTIONAL)}
    return {name: value for name, value in found.items() if value is not None}


def _value(templar: Any, variables: Mapping[str, Any], name: str) -> Any:
    if name not in variables:
        return None
    try:
        return without_secrets(name, templar.template(variables[name]))
    except AnsibleError:
        return None


def count_locations(settings: Mapping[str, Any]) -> int:
    """Return the number of code locations: those listed, or the packages in the DAG directory; 0 if unknown.

    Those of other repositories come on top.
    """
    return len(own_locations(settings)) + len(repository_of(settings))


def own_locations(settings: Mapping[str, Any]) -> list[str]:
    """Return the platform's own code locations, as `count_locations` finds them."""
    if listed := settings.get("dags_locations"):
        return [str(name) for name in listed]
    directory = Path(str(settings.get("dags_path") or "/nonexistent"))
    packages = (file.parent.name for file in directory.glob("*/__init__.py"))
    return sorted({*packages} - repository_of(settings).keys())


def repository_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return code location -> name of the other repository that publishes it."""
    repositories = settings.get("dags_repositories") or {}
    if not isinstance(repositories, Mapping):
        return {}
    return {
        str(location): str(name)
        for name, entry in repositories.items()
        if isinstance(entry, Mapping) and isinstance(entry.get("locations"), list)
        for location in entry["locations"]
    }


def inventory_of(variables: Mapping[str, Any]) -> str:
    """Return the inventory as the user would type it."""
    return ", ".join(_shown(str(source)) for source in variables.get("ansible_inventory_sources") or ["(none)"])


def _shown(source: str) -> str:
    path = Path(source)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else source
