#!/usr/bin/python
"""Ansible module: the CloudWatch alarms of a platform."""

from __future__ import annotations

DOCUMENTATION = r"""
module: metric_alarms
short_description: Keep the CloudWatch alarms of a platform as described
description:
  - Makes and corrects the alarms, and removes those of the platform that are not listed.
  - An alarm of the platform has a name that begins with the platform's, and its tag.
options:
  alarms:
    description: The alarms.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the alarm; begins with the platform's.
        type: str
        required: true
      description:
        description: What it means, and where to read what to do.
        type: str
        required: true
      metrics:
        description: The metrics that it looks at, one, or several with an expression. Each costs as much as an alarm.
        type: list
        elements: dict
        required: true
        suboptions:
          id:
            description: Name of the metric in the expression.
            type: str
            default: metric
          namespace:
            description: Namespace of the metric.
            type: str
            required: true
          metric:
            description: Name of the metric.
            type: str
            required: true
          dimensions:
            description: Dimensions of the metric, by name.
            type: dict
            required: true
          statistic:
            description: What is made of the values within a period.
            type: str
            choices: [Average, Maximum, Minimum, SampleCount, Sum]
            required: true
      expression:
        description: Metric math that joins the metrics by their ids; empty for one metric as it is.
        type: str
        default: ""
      period:
        description: Seconds of a period.
        type: int
        default: 60
      periods:
        description: Periods in a row after which the alarm goes off.
        type: int
        default: 1
      comparison:
        description: How the value compares with the threshold when something is wrong.
        type: str
        choices: [">", ">=", "<", "<="]
        default: ">="
      threshold:
        description: The threshold.
        type: float
        required: true
      missing:
        description: What a period without a value counts as.
        type: str
        choices: [breaching, notBreaching, ignore, missing]
        default: notBreaching
  actions:
    description: ARNs of what is told when an alarm goes off, and when it is over.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - platform
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the alarms
  metric_alarms:
    platform: dagster-production
    actions: [arn:aws:sns:us-east-1:123456789012:dagster-production-alarms]
    alarms:
      - name: dagster-production-database-cpu
        description: The database is busy. What to do is in docs/runbook.md#database-cpu
        metrics:
          - namespace: AWS/RDS
            metric: CPUUtilization
            dimensions: {DBInstanceIdentifier: dagster-production}
            statistic: Average
        period: 300
        periods: 3
        threshold: 80
"""

RETURN = r"""
changes:
  description: One entry per changed resource, with action, kind, name, before and after.
  returned: always
  type: list
"""

from typing import Any

from ansible.module_utils.aws_alarms import COMPARISONS, ensure_alarms, remove_alarms
from ansible.module_utils.aws_plan import Plan
from ansible.module_utils.aws_run import run

METRIC = {
    "id": {"type": "str", "default": "metric"},
    "namespace": {"type": "str", "required": True},
    "metric": {"type": "str", "required": True},
    "dimensions": {"type": "dict", "required": True},
    "statistic": {
        "type": "str",
        "choices": ["Average", "Maximum", "Minimum", "SampleCount", "Sum"],
        "required": True,
    },
}
ALARM = {
    "name": {"type": "str", "required": True},
    "description": {"type": "str", "required": True},
    "metrics": {"type": "list", "elements": "dict", "required": True, "options": METRIC},
    "expression": {"type": "str", "default": ""},
    "period": {"type": "int", "default": 60},
    "periods": {"type": "int", "default": 1},
    "comparison": {"type": "str", "choices": list(COMPARISONS), "default": ">="},
    "threshold": {"type": "float", "required": True},
    "missing": {
        "type": "str",
        "choices": ["breaching", "notBreaching", "ignore", "missing"],
        "default": "notBreaching",
    },
}


def work(module: Any, plan: Plan) -> dict[str, Any]:
    """Bring the alarms to the wanted state."""
    arguments = module.params
    cloudwatch = module.client("cloudwatch")
    if arguments["state"] == "absent":
        remove_alarms(cloudwatch, arguments["platform"], plan)
        return {}
    ensure_alarms(
        cloudwatch,
        arguments["platform"],
        arguments["alarms"],
        plan,
        actions=arguments["actions"],
        tags=arguments["resource_tags"],
    )
    return {}


def main() -> None:
    """Entry point of Ansible."""
    run(
        {
            "alarms": {"type": "list", "elements": "dict", "default": [], "options": ALARM},
            "actions": {"type": "list", "elements": "str", "default": []},
        },
        work,
    )


if __name__ == "__main__":
    main()
