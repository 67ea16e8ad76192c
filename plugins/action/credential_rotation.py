"""Ansible action: changes the database's password and the S3 keys while everything runs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_plan import Plan  # noqa: E402
from ansible.module_utils.aws_rotation import NothingThereError, S3Keys, rotate_password, task_states  # noqa: E402
from ansible.module_utils.aws_session import new_client, new_session  # noqa: E402
from ansible.module_utils.platform_action import Call, ResourceAction  # noqa: E402


def caller(call: Call, key: str, secret: str) -> object:
    """Ask AWS who is calling with this key."""
    return new_client(
        new_session(),
        "sts",
        region_name=call.region,
        endpoint_url=call.endpoint,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    ).get_caller_identity()


ARGUMENTS: dict[str, dict[str, Any]] = {
    "database_secret": {"type": "str", "default": "", "no_log": False},  # the secret's name, not its value
    "user": {"type": "str", "default": ""},
    "user_secret": {"type": "str", "no_log": False},  # the same
    "cluster": {"type": "str"},
    "services": {"type": "dict", "default": {}},
    "wait_seconds": {"type": "int", "default": 900},
    "state": {"type": "str", "choices": ["present"], "default": "present"},
}


class ActionModule(ResourceAction):  # type: ignore[misc]
    """The action ``credential_rotation``."""

    arguments = ARGUMENTS
    rules = {"required_by": {"user": ["user_secret", "cluster"]}}
    services = ("ecs", "iam", "logs", "rds", "secretsmanager", "sts")

    def work(self, call: Call, plan: Plan) -> dict[str, Any]:
        """Change what is to be changed, or finish what an earlier run has begun."""
        arguments = call.params
        platform, seconds = arguments["platform"], arguments["wait_seconds"]
        secrets = call.client("secretsmanager")
        keys = None
        if arguments["user"]:
            keys = S3Keys(
                call.client("iam"),
                secrets,
                platform,
                arguments["user"],
                arguments["user_secret"],
                caller=partial(caller, call),
                tasks=task_states(call.client("ecs"), call.client("logs"), arguments["cluster"], arguments["services"]),
            )
        rotated, resumed = [], []
        try:
            # The password comes first. Where an earlier run has come to the keys, it has been changed by that.
            if arguments["database_secret"] and not (keys and keys.under_way()):
                begun = rotate_password(
                    call.client("rds"), secrets, platform, arguments["database_secret"], plan, seconds=seconds
                )
                rotated.append("password")
                resumed.extend(["password"] if begun else [])
            if keys:
                begun = keys.rotate(plan, seconds=seconds)
                rotated.append("keys")
                resumed.extend(["keys"] if begun else [])
        except NothingThereError as missing:
            if not plan.check_mode:
                raise
            call.warn(f"Nothing would be changed: {missing}")
        return {"rotated": rotated, "resumed": resumed}
