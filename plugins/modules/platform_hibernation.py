#!/usr/bin/python
"""Ansible module: puts a platform to sleep, and wakes it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: platform_hibernation
short_description: Stop what a Dagster platform costs while nobody uses it, and start it again
description:
  - With I(state=present) it stops all tasks, the NAT instance and the database, and waits until they have stopped.
    Nothing that holds data is removed.
  - With I(state=absent) it starts NAT instance and database and waits for them; with I(counts) it then brings the tasks
    back and ends the hibernation.
  - While a platform hibernates, its cluster has the tag C(dagster-hibernation), whose value says since when. It is set
    first and taken away last, so that a run that was interrupted can be repeated.
  - The limits of the autoscaling are set to no task at all; the role autoscaling gives them back.
options:
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  own_database:
    description: Whether the platform has a database of its own. An adopted one is left alone.
    type: bool
    default: true
  load_balancer:
    description: Name of the load balancer, for what is still charged.
    type: str
    default: ""
  secrets:
    description: Names of the platform's secrets, for what is still charged.
    type: list
    elements: str
    default: []
  dashboard:
    description: Name of the dashboard, for what is still charged; empty for a platform without alarms and dashboard.
    type: str
    default: ""
  counts:
    description: Least number of tasks of each service to bring back, with I(state=absent). Empty for none.
    type: dict
    default: {}
  steady_seconds:
    description: Deadline for all services together to come up; 0 does not wait.
    type: int
    default: 900
extends_documentation_fragment:
  - platform
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Put the platform to sleep
  platform_hibernation:
    platform: dagster-staging
    cluster: dagster-staging

- name: Wake it
  platform_hibernation:
    platform: dagster-staging
    cluster: dagster-staging
    counts: {webserver: 1, daemon: 1}
    state: absent
"""

RETURN = r"""
since:
  description: Since when the platform hibernates, ISO 8601 in UTC.
  returned: when state is present
  type: str
resting:
  description: What is still charged by being there, one object with kind, name and settings each.
  returned: when state is present
  type: list
changes:
  description: One entry per changed resource, with action, kind, name, before and after.
  returned: always
  type: list
"""

from typing import Any

from ansible.module_utils.aws_hibernation import (
    Clients,
    Platform,
    hibernate,
    start_resources,
    start_services,
)
from ansible.module_utils.aws_plan import Plan
from ansible.module_utils.aws_resting import resting_resources
from ansible.module_utils.aws_run import run
from ansible.module_utils.log_lines import last_lines


def work(module: Any, plan: Plan) -> dict[str, Any]:
    """Stop or start the platform."""
    arguments = module.params
    clients = Clients(
        ecs=module.client("ecs"),
        scaling=module.client("application-autoscaling"),
        ec2=module.client("ec2"),
        rds=module.client("rds"),
    )
    platform = Platform(arguments["platform"], arguments["cluster"], arguments["own_database"])
    if arguments["state"] == "present":
        since = hibernate(clients, platform, plan)
        resting = resting_resources(
            clients,
            platform,
            elbv2=module.client("elbv2"),
            secretsmanager=module.client("secretsmanager"),
            cloudwatch=module.client("cloudwatch"),
            load_balancer=arguments["load_balancer"],
            secrets=arguments["secrets"],
            dashboard=arguments["dashboard"],
        )
        return {"since": since, "resting": resting}
    start_resources(clients, platform, plan)
    if arguments["counts"]:
        counts = {name: int(count) for name, count in arguments["counts"].items()}
        start_services(
            clients,
            platform,
            counts,
            plan,
            seconds=arguments["steady_seconds"],
            printed=lambda service, task: last_lines(module.client("logs"), platform.name, service, task),
        )
    return {}


def main() -> None:
    """Entry point of Ansible."""
    run(
        {
            "cluster": {"type": "str", "required": True},
            "own_database": {"type": "bool", "default": True},
            "load_balancer": {"type": "str", "default": ""},
            "secrets": {"type": "list", "elements": "str", "default": [], "no_log": False},  # their names
            "dashboard": {"type": "str", "default": ""},
            "counts": {"type": "dict", "default": {}},
            "steady_seconds": {"type": "int", "default": 900},
        },
        work,
    )


if __name__ == "__main__":
    main()
