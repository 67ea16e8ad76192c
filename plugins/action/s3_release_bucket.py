"""Ansible action: the bucket that holds DAG releases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_bucket import BucketSpec, check_adopted_bucket, ensure_bucket, remove_bucket  # noqa: E402
from ansible.module_utils.aws_plan import Plan  # noqa: E402
from ansible.module_utils.platform_action import Call, ResourceAction  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "noncurrent_days": {"type": "int", "default": 30},
    "noncurrent_versions": {"type": "int", "default": 40},
    "expiring_prefixes": {"type": "dict", "default": {}},
    "existing": {"type": "bool", "default": False},
    "with_contents": {"type": "bool", "default": False},
}


class ActionModule(ResourceAction):  # type: ignore[misc]
    """The action ``s3_release_bucket``."""

    arguments = ARGUMENTS
    services = ("s3",)

    def work(self, call: Call, plan: Plan) -> dict[str, Any]:
        """Bring the bucket to the wanted state."""
        arguments = call.params
        s3 = call.client("s3")
        if arguments["existing"]:
            if arguments["state"] == "present":
                for warning in check_adopted_bucket(s3, arguments["name"], call.region):
                    call.warn(warning)
            return {}
        if arguments["state"] == "absent":
            remove_bucket(s3, arguments["platform"], arguments["name"], plan, with_contents=arguments["with_contents"])
            return {}
        ensure_bucket(
            s3,
            BucketSpec(
                platform=arguments["platform"],
                name=arguments["name"],
                region=call.region,
                noncurrent_days=arguments["noncurrent_days"],
                noncurrent_versions=arguments["noncurrent_versions"],
                expiring_prefixes={prefix: int(days) for prefix, days in arguments["expiring_prefixes"].items()},
                tags=arguments["resource_tags"],
            ),
            plan,
        )
        return {}
