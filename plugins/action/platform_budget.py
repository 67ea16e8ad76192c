"""Ansible action: a monthly budget with notifications."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_budget import BudgetSpec, ensure_budget, remove_budget  # noqa: E402
from ansible.module_utils.aws_plan import Plan  # noqa: E402
from ansible.module_utils.platform_action import Call, ResourceAction  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {
    "account_id": {"type": "str", "required": True},
    "name": {"type": "str"},
    "amount": {"type": "float", "default": 0},
    "email": {"type": "str", "default": ""},
    "topic_arn": {"type": "str", "default": ""},
}


class ActionModule(ResourceAction):  # type: ignore[misc]
    """The action ``platform_budget``."""

    arguments = ARGUMENTS
    services = ("budgets",)

    def work(self, call: Call, plan: Plan) -> dict[str, Any]:
        """Bring the budget to the wanted state."""
        arguments = call.params
        spec = BudgetSpec(
            platform=arguments["platform"],
            account=arguments["account_id"],
            region=str(call.region or "us-east-1"),
            name=arguments["name"] or f"{arguments['platform']}-monthly",
            amount=arguments["amount"],
            email=arguments["email"],
            topic_arn=arguments["topic_arn"],
            tags=arguments["resource_tags"],
        )
        budgets = call.client("budgets")
        if arguments["state"] == "absent":
            remove_budget(budgets, spec, plan)
        else:
            ensure_budget(budgets, spec, plan)
        return {}
