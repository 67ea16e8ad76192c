#!/usr/bin/python
"""Documentation of the action plugin dag_convergence; the work is done in plugins/action."""

DOCUMENTATION = r"""
module: dag_convergence
short_description: Wait until every running task serves a release
description:
  - Follows the running tasks of ECS services through what they write to CloudWatch Logs, shows each change, and
    ends with a table of the tasks with the seconds that each took.
  - Fails at once, with the task's traceback, when a task refuses the release.
  - If nothing is running it says so and succeeds, because tasks fetch the release when they start.
  - Changes nothing. Region, endpoint and credentials come from the environment of the task or play.
options:
  cluster:
    description: Name of the ECS cluster.
    type: str
    required: true
  services:
    description: Names of the ECS services, each with the name of its log group.
    type: dict
    required: true
  wait:
    description: Whether to wait. If not, it only returns the running tasks and what they serve, and shows nothing.
    type: bool
    default: true
  release:
    description: Id of the release to wait for. Required if O(wait=true).
    type: str
  published_at:
    description: When the pointer to the release was written, ISO 8601 in UTC. Required if O(wait=true).
    type: str
  timeout:
    description: Seconds to wait.
    type: float
    default: 120
  poll_seconds:
    description: Seconds between two looks.
    type: float
    default: 1
attributes:
  check_mode:
    support: full
  action:
    support: full
author:
  - The Dagster on ECS project
"""

EXAMPLES = r"""
- name: Wait until the tasks serve the release
  dag_convergence:
    cluster: dagster-production
    services:
      webserver: /ecs/dagster-production/webserver
      daemon: /ecs/dagster-production/daemon
    release: 6f1d2a9c0b3e4f58
    published_at: "2026-01-31T12:00:00Z"
"""

RETURN = r"""
tasks:
  description: The running tasks, one object each.
  type: list
  elements: dict
  returned: success
  sample:
    - service: webserver
      task: 0f9de17a6465404e8b1f2356dc13c2f8
      release: 6f1d2a9c0b3e4f58
      status: serving
      seconds: "8.7"
msg:
  description: The table, line by line, or that nothing is running.
  type: list
  elements: str
  returned: success
"""
