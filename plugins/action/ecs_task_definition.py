"""Ansible action: one family of ECS task definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_plan import Plan  # noqa: E402
from ansible.module_utils.aws_task_definition import ensure_task_definition, remove_task_definition  # noqa: E402
from ansible.module_utils.platform_action import Call, ResourceAction  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {"document": {"type": "dict"}, "family": {"type": "str"}}


class ActionModule(ResourceAction):  # type: ignore[misc]
    """The action ``ecs_task_definition``."""

    arguments = ARGUMENTS
    rules = {"required_if": [("state", "present", ["document"]), ("state", "absent", ["family"])]}
    services = ("ecs",)

    def work(self, call: Call, plan: Plan) -> dict[str, Any]:
        """Bring the family to the wanted state."""
        arguments = call.params
        ecs = call.client("ecs")
        if arguments["state"] == "absent":
            remove_task_definition(ecs, arguments["platform"], arguments["family"], plan)
            return {}
        arn = ensure_task_definition(
            ecs, arguments["platform"], arguments["document"], arguments["resource_tags"], plan
        )
        return {"task_definition_arn": arn}
