"""Ansible action: the ECR repository of the container image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_plan import Plan  # noqa: E402
from ansible.module_utils.aws_repository import ensure_repository, remove_repository  # noqa: E402
from ansible.module_utils.platform_action import Call, ResourceAction  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "immutable_tags": {"type": "bool", "default": True},
    "untagged_days": {"type": "int", "default": 7},
    "kept_images": {"type": "int", "default": 20},
    "with_images": {"type": "bool", "default": False},
}


class ActionModule(ResourceAction):  # type: ignore[misc]
    """The action ``ecr_image_repository``."""

    arguments = ARGUMENTS
    services = ("ecr",)

    def work(self, call: Call, plan: Plan) -> dict[str, Any]:
        """Bring the repository to the wanted state."""
        arguments = call.params
        ecr = call.client("ecr")
        if arguments["state"] == "absent":
            remove_repository(ecr, arguments["platform"], arguments["name"], plan, with_images=arguments["with_images"])
            return {}
        repository: dict[str, Any] = ensure_repository(
            ecr,
            arguments["platform"],
            arguments["name"],
            arguments["resource_tags"],
            plan,
            immutable_tags=arguments["immutable_tags"],
            untagged_days=arguments["untagged_days"],
            kept_images=arguments["kept_images"],
        )
        return repository
