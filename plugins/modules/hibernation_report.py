#!/usr/bin/python
"""Documentation of the action plugin hibernation_report; the work is done in plugins/action."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hibernation_report
short_description: Show what a platform that hibernates still costs, and what AWS does with it meanwhile
description:
  - Shows what it is given, with the list prices of the region. It asks nobody and changes nothing.
options:
  platform:
    description: Name of the platform.
    type: str
    required: true
  region:
    description: Region, for the prices.
    type: str
    required: true
  since:
    description: Since when it hibernates.
    type: str
    required: true
  resting:
    description: What is still charged, as M(platform_hibernation) returns it.
    type: list
    elements: dict
    required: true
  wake:
    description: What to type to wake it.
    type: str
    required: true
attributes:
  check_mode:
    support: full
  action:
    support: full
author:
  - The Dagster on ECS project
"""

EXAMPLES = r"""
- name: Say what is still charged
  hibernation_report:
    platform: dagster-staging
    region: eu-central-1
    since: "2026-01-31T20:00:00Z"
    resting: "{{ hibernation.resting }}"
    wake: make wake ENV=staging
"""

RETURN = r"""
monthly:
  description: What is still charged a month by being there, as far as prices are known.
  returned: success
  type: float
"""
