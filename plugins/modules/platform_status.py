#!/usr/bin/python
"""Documentation of the action plugin platform_status; the work is done in plugins/action."""

DOCUMENTATION = r"""
module: platform_status
short_description: Show on one screen how a platform is
description:
  - Reads services and tasks from ECS, what tasks say of themselves from CloudWatch Logs, the state and size of database
    and file system, and the last releases of DAG code.
  - Shows it as tables or as JSON, and fails if something is wrong, with a line and the next command for each problem.
  - Refuses credentials of another account. A part that cannot be read is a problem and does not hide the others.
  - Changes nothing. Region, endpoint and credentials come from the environment of the task or play.
options:
  platform:
    description: Name of the platform.
    type: str
    required: true
  account:
    description: Id of the AWS account that it is in.
    type: str
    required: true
  cluster:
    description: Name of the ECS cluster.
    type: str
    required: true
  services:
    description: Names of the ECS services, each with the name of its log group.
    type: dict
    required: true
  database:
    description: Identifier of the RDS instance.
    type: str
    required: true
  bucket:
    description: The bucket of the releases.
    type: str
    required: true
  prefix:
    description: What all keys begin with, empty or ending in C(/).
    type: str
    default: ""
  follows_releases:
    description: Whether containers follow releases, which have a history.
    type: bool
    default: true
  deploys:
    description: Releases to show.
    type: int
    default: 5
  heartbeat_seconds:
    description: Age of a daemon's heartbeat that is a problem.
    type: float
    default: 300
  queued_seconds:
    description: Time in the queue that is a problem, of the oldest queued run.
    type: float
    default: 3600
  processes:
    description: Processes of the embedded default, as C(python -m local status --json) tells them.
    type: list
    elements: dict
    default: []
  commands:
    description: >-
      What is advised, by what it is for. The keys are C(apply), C(wake), C(logs), C(deploy) and C(doctor).
    type: dict
    required: true
  format:
    description: Tables for people or JSON for scripts.
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
- name: Show how the platform is
  platform_status:
    platform: dagster-production
    account: "123456789012"
    cluster: dagster-production
    services:
      webserver: /ecs/dagster-production/webserver
      daemon: /ecs/dagster-production/daemon
    database: dagster-production
    bucket: dagster-production-dags-123456789012
    commands: {apply: make infra-apply, wake: make wake, logs: make logs, deploy: make deploy-dags, doctor: make doctor}
"""

RETURN = r"""
status:
  description: >-
    What is shown. C(healthy), C(problems) (each with C(what), C(next) and C(details)), C(asleep) (why the platform
    sleeps, empty if it is awake), and what was read of C(services), C(tasks), C(daemons_and_runs), C(database),
    C(file_system) and C(deploys), null where nothing is known.
    Ages end in C(_seconds).
  type: dict
  returned: unless nothing can be read
  sample:
    platform: dagster-production
    healthy: false
    problems:
      - what: "service daemon: 0 of 1 tasks run."
        next: make logs ENV=production
        details: []
"""
