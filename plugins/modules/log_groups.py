#!/usr/bin/python
"""Ansible module: CloudWatch log groups with a retention period."""

from __future__ import annotations

DOCUMENTATION = r"""
module: log_groups
short_description: Keep the log groups of a Dagster platform as described
description:
  - Makes the log groups and keeps retention and tags as they should be, all of them in one task.
options:
  names:
    description: Names of the log groups.
    type: list
    elements: str
    required: true
  retention_days:
    description: Days for which log events are kept; CloudWatch accepts only the listed periods.
    type: int
    default: 30
    choices:
      [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653]
extends_documentation_fragment:
  - platform
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the log groups
  log_groups:
    platform: dagster-production
    names: [/ecs/dagster-production/webserver, /ecs/dagster-production/daemon]
    retention_days: 30
"""

RETURN = r"""
changes:
  description: One entry per changed resource, with action, kind, name, before and after.
  returned: always
  type: list
"""

from typing import Any

from ansible.module_utils.aws_logs import RETENTION_DAYS, ensure_log_group, remove_log_groups
from ansible.module_utils.aws_plan import Plan
from ansible.module_utils.aws_run import run


def work(module: Any, plan: Plan) -> dict[str, Any]:
    """Bring the log groups to the wanted state."""
    arguments = module.params
    logs = module.client("logs")
    if arguments["state"] == "absent":
        remove_log_groups(logs, arguments["platform"], arguments["names"], plan)
        return {}
    for name in arguments["names"]:
        ensure_log_group(
            logs,
            arguments["platform"],
            name,
            plan,
            retention_days=arguments["retention_days"],
            tags=arguments["resource_tags"],
        )
    return {}


def main() -> None:
    """Entry point of Ansible."""
    run(
        {
            "names": {"type": "list", "elements": "str", "required": True},
            "retention_days": {"type": "int", "default": 30, "choices": list(RETENTION_DAYS)},
        },
        work,
    )


if __name__ == "__main__":
    main()
