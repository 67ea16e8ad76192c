"""Ansible action: the SNS topic that alarms are published to, and who is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_alarms import ensure_topic, remove_topic, topic_arn, topic_policy  # noqa: E402
from ansible.module_utils.aws_plan import Plan  # noqa: E402
from ansible.module_utils.platform_action import Call, ResourceAction  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "account_id": {"type": "str", "required": True},
    "emails": {"type": "list", "elements": "str", "default": []},
    "webhooks": {"type": "list", "elements": "str", "default": [], "no_log": True},
    "kms_key": {"type": "str", "default": "", "no_log": False},
}


class ActionModule(ResourceAction):  # type: ignore[misc]
    """The action ``alarm_topic``."""

    arguments = ARGUMENTS
    services = ("sns",)

    def work(self, call: Call, plan: Plan) -> dict[str, Any]:
        """Bring the topic to the wanted state."""
        arguments = call.params
        sns = call.client("sns")
        platform, account = arguments["platform"], arguments["account_id"]
        arn = topic_arn(call.region, account, arguments["name"])
        if arguments["state"] == "absent":
            remove_topic(sns, platform, arn, plan)
            return {"topic_arn": arn}
        unconfirmed = ensure_topic(
            sns,
            platform,
            arn,
            plan,
            policy=topic_policy(call.region, account, platform, arn),
            key=arguments["kms_key"],
            emails=arguments["emails"],
            webhooks=arguments["webhooks"],
            tags=arguments["resource_tags"],
        )
        if unconfirmed:
            call.warn(
                f"Not told of alarms yet: {', '.join(unconfirmed)}. SNS has sent each a message with a link to "
                "confirm; after two days it forgets them, and the next run of site.yml sends another."
            )
        return {"topic_arn": arn, "unconfirmed": unconfirmed}
