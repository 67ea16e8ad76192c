"""Ansible action: secrets whose value is generated once and shown to nobody."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_plan import Plan  # noqa: E402
from ansible.module_utils.aws_secrets import (  # noqa: E402
    database_credentials,
    ensure_secret,
    find_adopted_secret,
    remove_secret,
)
from ansible.module_utils.platform_action import Call, ResourceAction  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {
    "secrets": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "no_log": False,  # names only; no value is ever an argument
        "options": {
            "name": {"type": "str", "required": True},
            "description": {"type": "str", "default": ""},
            "username": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent", "existing"], "default": "present"},
        },
    },
    "recovery_days": {"type": "int", "default": 30},
}


class ActionModule(ResourceAction):  # type: ignore[misc]
    """The action ``generated_secrets``."""

    arguments = ARGUMENTS
    services = ("secretsmanager",)

    def work(self, call: Call, plan: Plan) -> dict[str, Any]:
        """Bring the secrets to the wanted state."""
        arguments = call.params
        client = call.client("secretsmanager")
        arns, keys = {}, []
        for secret in arguments["secrets"]:
            if secret["state"] == "existing":
                if arguments["state"] == "present":
                    arns[secret["name"]], key = find_adopted_secret(client, partial(call.client, "kms"), secret["name"])
                    keys.extend([key] if key else [])
                continue
            if "absent" in (arguments["state"], secret["state"]):
                remove_secret(
                    client, arguments["platform"], secret["name"], plan, recovery_days=arguments["recovery_days"]
                )
                continue
            username = secret["username"]
            arns[secret["name"]] = ensure_secret(
                client,
                arguments["platform"],
                secret["name"],
                plan,
                description=secret["description"],
                tags=arguments["resource_tags"],
                generate=partial(database_credentials, username) if username else None,
            )
        return {"arns": arns, "kms_key_arns": keys}
