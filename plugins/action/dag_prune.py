"""Ansible action: forget releases that are beyond the retention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.dag_manifest import ManifestError  # noqa: E402
from ansible.module_utils.dag_publish import PublishError, Retention, create_store, explained, find_leftovers  # noqa: E402
from ansible.module_utils.platform_action import Call, Failure, PlatformAction  # noqa: E402


def work(call: Call) -> dict[str, Any]:
    """Prune, or say what would be pruned; return the module's result."""
    options = call.params
    with explained(options["bucket"]):
        store = create_store(options["bucket"], options["prefix"])
        retention = Retention(options["keep_releases"], options["keep_days"])
        leftovers = find_leftovers(store, retention, options["in_use"])
        if not call.check_mode:
            store.delete(leftovers.objects)
    return {"changed": bool(leftovers.objects), "releases": list(leftovers.releases)}


ARGUMENTS: dict[str, dict[str, Any]] = {
    "bucket": {"type": "str", "required": True},
    "prefix": {"type": "str", "default": ""},
    "keep_releases": {"type": "int", "required": True},
    "keep_days": {"type": "int", "required": True},
    "in_use": {"type": "list", "elements": "str", "default": []},
}


class ActionModule(PlatformAction):  # type: ignore[misc]
    """The action ``dag_prune``."""

    arguments = ARGUMENTS
    services = ("s3",)

    def perform(self, call: Call) -> dict[str, Any]:
        """Prune, or say what would be pruned."""
        try:
            return work(call)
        except (PublishError, ManifestError) as error:
            raise Failure(str(error)) from None
