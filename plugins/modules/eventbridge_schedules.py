#!/usr/bin/python
"""Ansible module: a group of schedules that call AWS, and the role in whose name they do."""

from __future__ import annotations

DOCUMENTATION = r"""
module: eventbridge_schedules
short_description: Keep a group of EventBridge schedules that call AWS, with their role
description:
  - Makes a schedule group, a role with exactly one inline policy, and the schedules, and corrects drift in all of them.
    Schedules of the group that nobody asked for are removed.
  - Each schedule calls one operation of the AWS API (a universal target); no function runs.
  - The amazon.aws and community.aws collections have no module for schedule groups.
options:
  group:
    description: Name of the schedule group.
    type: str
    required: true
  role:
    description: Name of the role.
    type: str
    required: true
  role_description:
    description: What the role is for.
    type: str
    default: ""
  trust:
    description: Trust policy of the role.
    type: dict
  policy:
    description: What the schedules may do.
    type: dict
  schedules:
    description: The schedules.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the schedule within its group.
        type: str
        required: true
      description:
        description: What it is for.
        type: str
        default: ""
      expression:
        description: When, as C(cron(...)) or C(rate(...)).
        type: str
        required: true
      timezone:
        description: Time zone of a cron expression.
        type: str
        default: UTC
      call:
        description: The operation, as C(service:operation), spelt as EventBridge Scheduler does.
        type: str
        required: true
      input:
        description: What the operation is called with, under the names of the AWS SDK for Java.
        type: dict
        required: true
      retry_seconds:
        description: For how long a call that failed is tried again; 0 for never.
        type: int
        default: 0
extends_documentation_fragment:
  - platform
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Stop a database every evening
  eventbridge_schedules:
    platform: dagster-production
    group: dagster-production-office-hours
    role: dagster-production-office-hours
    trust: "{{ trust_policy }}"
    policy: "{{ policy }}"
    schedules:
      - name: stop-database
        expression: cron(0 20 ? * MON-FRI *)
        timezone: Europe/Berlin
        call: rds:stopDBInstance
        input: {DbInstanceIdentifier: dagster-production}
"""

RETURN = r"""
changes:
  description: One entry per changed resource, with action, kind, name, before and after.
  returned: always
  type: list
"""

from typing import Any

from ansible.module_utils.aws_plan import Plan, partition
from ansible.module_utils.aws_run import run
from ansible.module_utils.aws_schedules import GroupSpec, ScheduleSpec, ensure_schedules, remove_schedules

SCHEDULE_OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "description": {"type": "str", "default": ""},
    "expression": {"type": "str", "required": True},
    "timezone": {"type": "str", "default": "UTC"},
    "call": {"type": "str", "required": True},
    "input": {"type": "dict", "required": True},
    "retry_seconds": {"type": "int", "default": 0},
}


def work(module: Any, plan: Plan) -> dict[str, Any]:
    """Bring group, role and schedules to the wanted state."""
    arguments = module.params
    platform, group, role = arguments["platform"], arguments["group"], arguments["role"]
    scheduler, iam = module.client("scheduler"), module.client("iam")
    if arguments["state"] == "absent":
        remove_schedules(scheduler, iam, platform, plan, group=group, role=role)
        return {}
    spec = GroupSpec(
        platform=platform,
        name=group,
        partition=partition(module.region),
        role=role,
        role_description=arguments["role_description"],
        trust=arguments["trust"],
        policy=arguments["policy"],
        tags=arguments["resource_tags"],
    )
    ensure_schedules(scheduler, iam, spec, [ScheduleSpec(**options) for options in arguments["schedules"]], plan)
    return {}


def main() -> None:
    """Entry point of Ansible."""
    run(
        {
            "group": {"type": "str", "required": True},
            "role": {"type": "str", "required": True},
            "role_description": {"type": "str", "default": ""},
            "trust": {"type": "dict"},
            "policy": {"type": "dict"},
            "schedules": {"type": "list", "elements": "dict", "default": [], "options": SCHEDULE_OPTIONS},
        },
        work,
        required_if=[("state", "present", ["trust", "policy"])],
    )


if __name__ == "__main__":
    main()
