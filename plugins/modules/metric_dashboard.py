#!/usr/bin/python
"""Ansible module: a CloudWatch dashboard."""

from __future__ import annotations

DOCUMENTATION = r"""
module: metric_dashboard
short_description: Keep a CloudWatch dashboard as described
description:
  - Makes the dashboard and writes it anew when it differs.
  - A text of it has to say C(dagster-platform) and the platform's name, by which it is known to belong to the platform.
options:
  name:
    description: Name of the dashboard.
    type: str
    required: true
  body:
    description: What it shows, as in the API reference of CloudWatch, "Dashboard body structure and syntax".
    type: dict
    default: {}
extends_documentation_fragment:
  - platform
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the dashboard
  metric_dashboard:
    platform: dagster-production
    name: dagster-production
    body:
      widgets:
        - type: text
          properties: {markdown: "dagster-platform: dagster-production"}
"""

RETURN = r"""
changes:
  description: One entry per changed resource, with action, kind, name, before and after.
  returned: always
  type: list
"""

from typing import Any

from ansible.module_utils.aws_alarms import ensure_dashboard, remove_dashboard
from ansible.module_utils.aws_plan import Plan
from ansible.module_utils.aws_run import run


def work(module: Any, plan: Plan) -> dict[str, Any]:
    """Bring the dashboard to the wanted state."""
    arguments = module.params
    cloudwatch = module.client("cloudwatch")
    if arguments["state"] == "absent":
        remove_dashboard(cloudwatch, arguments["platform"], arguments["name"], plan)
        return {}
    ensure_dashboard(
        cloudwatch,
        arguments["platform"],
        arguments["name"],
        arguments["body"],
        plan,
        tags=arguments["resource_tags"],
    )
    return {}


def main() -> None:
    """Entry point of Ansible."""
    run(
        {
            "name": {"type": "str", "required": True},
            "body": {"type": "dict", "default": {}},
        },
        work,
    )


if __name__ == "__main__":
    main()
