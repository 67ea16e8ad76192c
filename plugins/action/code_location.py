"""Ansible action: a new code location, copied from a template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.code_location import CodeLocationError, make_location, plan_location  # noqa: E402
from ansible.module_utils.platform_action import Call, PlatformAction  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {
    "path": {"type": "path", "required": True},
    "name": {"type": "str", "required": True},
    "template": {"type": "path", "required": True},
}


class ActionModule(PlatformAction):  # type: ignore[misc]
    """The action ``code_location``."""

    arguments = ARGUMENTS

    def perform(self, call: Call) -> dict[str, Any]:
        """Copy the template, all of it or nothing."""
        tree = Path(call.params["path"]).resolve()
        try:
            new = plan_location(tree, Path(call.params["template"]), call.params["name"])
            if not call.check_mode:
                make_location(new)
        except CodeLocationError as error:
            call.fail_json(str(error))
        except OSError as error:
            call.fail_json(f"{str(tree)!r} cannot be written to: {error}. Run the same command again afterwards.")
        paths = [str(tree / path) for path in new.files]
        return {
            "changed": True,
            "files": paths,
            "test": paths[-1],
            "diff": [{"before": "", "after": content, "after_header": path} for path, content in new.files.items()],
        }
