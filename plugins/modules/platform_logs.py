#!/usr/bin/python
"""Documentation of the action plugin platform_logs; the work is done in plugins/action."""

DOCUMENTATION = r"""
module: platform_logs
short_description: Print the log lines of a platform's tasks
description:
  - Reads what tasks have written to CloudWatch Logs, oldest first, and prints it for people or as an object a line.
  - With O(follow=true) it goes on until it is interrupted.
  - Refuses credentials of another account. Changes nothing.
  - Region, endpoint and credentials come from the environment of the task or play.
options:
  account:
    description: Id of the AWS account that the platform is in.
    type: str
    required: true
  services:
    description: Names of the ECS services, each with the name of its log group.
    type: dict
    required: true
  service:
    description: Of which service; C(all), or a name in O(services), of which C(webserver) may be called C(web).
    type: str
    default: all
  task:
    description: Of which task, its id or what it begins with.
    type: str
    default: ""
  run:
    description: About which run, its id or at least its first 8 characters.
    type: str
    default: ""
  since:
    description: From when on, for example 90s, 10m, 2h or 3d ago, or an ISO 8601 time in UTC.
    type: str
    default: 10m
  pattern:
    description: A regular expression that lines have to match, as they are printed for people.
    type: str
    default: ""
  follow:
    description: Whether to go on with what comes.
    type: bool
    default: false
  poll_seconds:
    description: Seconds between two looks.
    type: float
    default: 2
  advice:
    description: What to do where there is nothing to read, for messages.
    type: str
    default: ""
  format:
    description: Text for people or an object a line for scripts.
    type: str
    choices: [text, json]
    default: text
attributes:
  check_mode:
    support: full
  action:
    support: full
author:
  - The Dagster on ECS project
"""

EXAMPLES = r"""
- name: Print what the daemon wrote
  platform_logs:
    account: "123456789012"
    services: {daemon: /ecs/dagster-production/daemon}
    since: 1h
"""

RETURN = r"""
lines:
  description: How many were printed.
  type: int
  returned: success
  sample: 12
"""
