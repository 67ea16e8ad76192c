#!/usr/bin/python
"""Documentation of the action plugin platform_doctor; the work is done in plugins/action."""

DOCUMENTATION = r"""
module: platform_doctor
short_description: Check what a platform needs, on this machine and in the account
description:
  - Looks at Python and the locked packages, ports and processes of the embedded default, all settings, whether the
    instance's configuration loads with the container's packages, credentials and account, quotas, the architecture of
    the image, memory for the code locations, and who can reach the UI that exists.
  - Shows for each what was found and how to repair it, and fails if there is a problem. What cannot be looked at is
    said, with the reason, and is no failure.
  - Changes nothing. Settings are read from the inventory's variables; region, endpoint and credentials come from the
    environment of the task or play.
options:
  platform:
    description: Name of the platform, as in the tag C(dagster-platform).
    type: str
    required: true
  cluster:
    description: Name of the ECS cluster.
    type: str
    required: true
  service:
    description: Name of the ECS service of the web server.
    type: str
    default: webserver
  balancer:
    description: Name of the load balancer.
    type: str
    required: true
  port:
    description: Port of the web server in a task.
    type: int
    default: 3000
  task_cpu:
    description: CPU units of a task.
    type: int
    required: true
  task_memory:
    description: Memory of a task in MiB.
    type: int
    required: true
  architecture:
    description: Processor architecture of a task, as Fargate calls it.
    type: str
    default: ARM64
  most_tasks:
    description: Tasks that run at the same time at most, those of a rollout included.
    type: int
    default: 5
  prefix:
    description: What all keys of the bucket begin with, empty or ending in C(/).
    type: str
    default: ""
  instance_config:
    description: The rendered configuration of the instance (dagster.yaml).
    type: str
    required: true
  instance_script:
    description: Script that loads it, for the Python in O(container_python).
    type: path
    required: true
  container_python:
    description: A Python with the packages of the container.
    type: path
    required: true
  lock:
    description: Lock file of the controller's packages.
    type: path
    required: true
  collections:
    description: Names of collections, each with its version.
    type: dict
    default: {}
  processes:
    description: Processes of the embedded default, as C(python -m local status --json) tells them.
    type: list
    elements: dict
    default: []
  commands:
    description: What is advised, by what it is for. The key is C(apply).
    type: dict
    required: true
  format:
    description: A table for people or JSON for scripts.
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
- name: Check everything
  platform_doctor:
    platform: dagster-production
    cluster: dagster-production
    balancer: dagster-production
    task_cpu: 256
    task_memory: 512
    instance_config: "{{ lookup('ansible.builtin.file', 'build/image/dagster.yaml') }}"
    instance_script: roles/inspection/files/instance_config.py
    container_python: .venv/container/bin/python
    lock: requirements.txt
    commands: {apply: make infra-apply ENV=production}
"""

RETURN = r"""
doctor:
  description: >-
    C(ok) is whether no check is a problem. Each of C(checks) has C(name), C(state) (ok, warning, problem, not checked),
    C(found) and C(fix).
  type: dict
  returned: always
  sample:
    platform: dagster-production
    ok: true
    checks:
      - {name: Python, state: ok, found: 3.12.1, fix: ""}
"""
