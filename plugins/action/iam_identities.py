"""Ansible action: IAM roles, and the optional user whose keys live in a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_identity import (  # noqa: E402
    ensure_access_key,
    ensure_role,
    ensure_user,
    remove_role,
    remove_user,
)
from ansible.module_utils.aws_plan import Plan  # noqa: E402
from ansible.module_utils.platform_action import Call, ResourceAction  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {
    "roles": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "description": {"type": "str", "default": ""},
            "trust": {"type": "dict"},
            "policy": {"type": "dict"},
        },
    },
    "users": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "policy": {"type": "dict"},
            "access_key_secret": {"type": "str", "no_log": False},  # the secret's name
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
    },
}


class ActionModule(ResourceAction):  # type: ignore[misc]
    """The action ``iam_identities``."""

    arguments = ARGUMENTS
    services = ("iam", "secretsmanager")

    def work(self, call: Call, plan: Plan) -> dict[str, Any]:
        """Bring roles and users to the wanted state."""
        arguments = call.params
        platform, tags = arguments["platform"], arguments["resource_tags"]
        iam = call.client("iam")
        if arguments["state"] == "absent":
            for role in arguments["roles"]:
                remove_role(iam, platform, role["name"], plan)
            for user in arguments["users"]:
                remove_user(iam, platform, user["name"], plan)
            return {}
        arns = {
            role["name"]: ensure_role(
                iam,
                platform,
                role["name"],
                plan,
                description=role["description"],
                trust=role["trust"],
                policy=role["policy"],
                tags=tags,
            )
            for role in arguments["roles"]
        }
        for user in arguments["users"]:
            if user["state"] == "absent":
                remove_user(iam, platform, user["name"], plan)
                continue
            ensure_user(iam, platform, user["name"], plan, policy=user["policy"], tags=tags)
            ensure_access_key(iam, call.client("secretsmanager"), user["name"], user["access_key_secret"], plan)
        return {"role_arns": arns}
