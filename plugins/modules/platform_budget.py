#!/usr/bin/python
"""Ansible module: a monthly budget with notifications."""

from __future__ import annotations

DOCUMENTATION = r"""
module: platform_budget
short_description: Keep the monthly budget of a Dagster platform as described
description:
  - Keeps a budget of AWS Budgets that counts what carries the platform's tag, and tells when 80 and 100 percent of the
    amount were spent, and when all of it is going to be.
  - The tag C(dagster-platform) has to be activated as a cost allocation tag in the account that pays; before that the
    budget counts nothing.
  - Credits and refunds are not subtracted. A budget costs nothing.
options:
  account_id:
    description: The AWS account.
    type: str
    required: true
  name:
    description: Name of the budget; default is I(platform) with C(-monthly).
    type: str
  amount:
    description: USD a month; needed if I(state) is C(present).
    type: float
    default: 0
  email:
    description: Mail address that is told.
    type: str
    default: ""
  topic_arn:
    description: ARN of an SNS topic that is told. Its policy has to let C(budgets.amazonaws.com) publish.
    type: str
    default: ""
extends_documentation_fragment:
  - platform
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the budget
  platform_budget:
    platform: dagster-production
    account_id: "123456789012"
    amount: 60
    email: data-platform@example.com
"""

RETURN = r"""
changes:
  description: One entry per changed resource, with action, kind, name, before and after.
  returned: always
  type: list
"""

from typing import Any

from ansible.module_utils.aws_budget import BudgetSpec, ensure_budget, remove_budget
from ansible.module_utils.aws_plan import Plan
from ansible.module_utils.aws_run import run


def work(module: Any, plan: Plan) -> dict[str, Any]:
    """Bring the budget to the wanted state."""
    arguments = module.params
    spec = BudgetSpec(
        platform=arguments["platform"],
        account=arguments["account_id"],
        region=str(module.region or "us-east-1"),
        name=arguments["name"] or f"{arguments['platform']}-monthly",
        amount=arguments["amount"],
        email=arguments["email"],
        topic_arn=arguments["topic_arn"],
        tags=arguments["resource_tags"],
    )
    budgets = module.client("budgets")
    if arguments["state"] == "absent":
        remove_budget(budgets, spec, plan)
    else:
        ensure_budget(budgets, spec, plan)
    return {}


def main() -> None:
    """Entry point of Ansible."""
    run(
        {
            "account_id": {"type": "str", "required": True},
            "name": {"type": "str"},
            "amount": {"type": "float", "default": 0},
            "email": {"type": "str", "default": ""},
            "topic_arn": {"type": "str", "default": ""},
        },
        work,
    )


if __name__ == "__main__":
    main()
