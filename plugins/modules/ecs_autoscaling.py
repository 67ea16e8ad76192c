#!/usr/bin/python
"""Ansible module: target tracking for an ECS service."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ecs_autoscaling
short_description: Keep the autoscaling of an ECS service as described
description:
  - Registers the service as scalable target with one target tracking policy each for CPU and memory, in one task, and
    corrects drift; suspended scaling is resumed and policies that nobody asked for are removed.
  - M(community.aws.application_autoscaling_policy) fails in check mode as long as the service does not exist, and
    handles one policy at a time.
options:
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  service:
    description: Name of the service.
    type: str
    required: true
  minimum:
    description: Least number of tasks.
    type: int
    default: 1
  maximum:
    description: Greatest number of tasks.
    type: int
    default: 2
  cpu_percent:
    description: Average CPU utilisation to keep.
    type: int
    default: 70
  memory_percent:
    description: Average memory utilisation to keep.
    type: int
    default: 80
  scale_out_cooldown:
    description: Seconds to wait after tasks were added.
    type: int
    default: 60
  scale_in_cooldown:
    description: Seconds to wait after tasks were taken away.
    type: int
    default: 300
extends_documentation_fragment:
  - platform
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Scale the webserver between one and two tasks
  ecs_autoscaling:
    platform: dagster-production
    cluster: dagster-production
    service: webserver
    minimum: 1
    maximum: 2
"""

RETURN = r"""
changes:
  description: One entry per changed resource, with action, kind, name, before and after.
  returned: always
  type: list
"""

from typing import Any

from ansible.module_utils.aws_autoscaling import ScalingSpec, ensure_scaling, remove_scaling
from ansible.module_utils.aws_ecs_service import running_settings
from ansible.module_utils.aws_plan import Plan, Refusal
from ansible.module_utils.aws_run import run


def work(module: Any, plan: Plan) -> dict[str, Any]:
    """Bring target and policies to the wanted state."""
    arguments = module.params
    client = module.client("application-autoscaling")
    if arguments["state"] == "absent":
        remove_scaling(client, arguments["cluster"], arguments["service"], plan)
        return {}
    minimum, maximum = arguments["minimum"], arguments["maximum"]
    if not 0 <= minimum <= maximum:
        raise Refusal(
            f"autoscaling_minimum {minimum} and autoscaling_maximum {maximum} do not fit: 0 <= minimum <= maximum."
        )
    ensure_scaling(
        client,
        ScalingSpec(
            platform=arguments["platform"],
            cluster=arguments["cluster"],
            service=arguments["service"],
            minimum=minimum,
            maximum=maximum,
            targets={"cpu": arguments["cpu_percent"], "memory": arguments["memory_percent"]},
            scale_out_cooldown=arguments["scale_out_cooldown"],
            scale_in_cooldown=arguments["scale_in_cooldown"],
            tags=arguments["resource_tags"],
        ),
        plan,
        service=lambda: running_settings(module.client("ecs"), arguments["cluster"], arguments["service"]),
    )
    return {}


def main() -> None:
    """Entry point of Ansible."""
    run(
        {
            "cluster": {"type": "str", "required": True},
            "service": {"type": "str", "required": True},
            "minimum": {"type": "int", "default": 1},
            "maximum": {"type": "int", "default": 2},
            "cpu_percent": {"type": "int", "default": 70},
            "memory_percent": {"type": "int", "default": 80},
            "scale_out_cooldown": {"type": "int", "default": 60},
            "scale_in_cooldown": {"type": "int", "default": 300},
        },
        work,
    )


if __name__ == "__main__":
    main()
