#!/usr/bin/python
"""Documentation of the action plugin platform_open; the work is done in plugins/action."""

DOCUMENTATION = r"""
module: platform_open
short_description: Say where the web UI is, and open it where there is a browser
description:
  - Prints the address, of the load balancer or of a task, and how to reach it where it is not on the internet.
  - Refuses credentials of another account. Changes nothing.
  - Region, endpoint and credentials come from the environment of the task or play.
options:
  account:
    description: Id of the AWS account that the platform is in.
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
  certificate_arn:
    description: ARN of the certificate in ACM, which knows the host name; empty for none.
    type: str
    default: ""
  port:
    description: Port of the web server in a task.
    type: int
    default: 3000
  url:
    description: The address, where it is known. Then nobody is asked.
    type: str
    default: ""
  browser:
    description: Whether to open it in a browser; only in one with windows.
    type: bool
    default: true
  advice:
    description: What to do where there is no UI, for messages.
    type: str
    default: ""
  format:
    description: Text for people or JSON for scripts.
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
- name: Say where the UI is
  platform_open:
    account: "123456789012"
    cluster: dagster-production
    balancer: dagster-production
    browser: false
"""

RETURN = r"""
url:
  description: The address.
  type: str
  returned: success
  sample: https://dagster.example.com
internal:
  description: Whether it is reached from private networks only.
  type: bool
  returned: success
hints:
  description: How to reach it.
  type: list
  elements: str
  returned: success
opened:
  description: Whether a browser was told to open it.
  type: bool
  returned: success
"""
