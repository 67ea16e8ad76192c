#!/usr/bin/python
"""Documentation of the action platform_cost, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: platform_cost
short_description: Estimate what the platform of an inventory costs a month
description:
  - Derives from the inventory's settings which resources there would be, and adds up their list prices and what is
    charged by use; in the inventory's topology, in every other one, with and without what AWS gives away.
  - Asks AWS nothing, so it needs neither credentials nor a platform that is there.
  - Fails if the estimate is above I(limit), after it was shown.
  - An action, which runs on the controller; there is no module of that name to be run elsewhere.
options:
  format:
    description: A report for people, or JSON with all figures for a program.
    type: str
    choices: [text, json]
    default: text
  limit:
    description: Amount a month, without free tier, that the estimate must not pass.
    type: float
  repositories:
    description: Code locations and the repositories that they come from; the inventory's tag C(repository) for others.
    type: dict
    default: {}
  other_repositories:
    description: >-
      The inventory's C(dags_repositories), by name with a list C(locations): other repositories that publish code
      locations of their own. O(repositories) comes before it.
    type: dict
    default: {}
  location_runs:
    description: Code locations and how many of the runs are theirs, in any unit; evenly if it is empty.
    type: dict
    default: {}
  runs:
    description: Runs a month.
    type: float
    default: 300.0
  run_minutes:
    description: Minutes that a run takes. While steps run, what they print goes to S3 every 30 seconds.
    type: float
    default: 5.0
  run_steps:
    description: Steps of a run.
    type: float
    default: 5.0
  run_log_mb:
    description: MB that a run writes to CloudWatch and, as the output of its steps, to S3; each.
    type: float
    default: 1.0
  task_log_gb:
    description: GB that a task writes to CloudWatch by being there.
    type: float
    default: 0.1
  extra_task_hours:
    description: Hours for which the autoscaling runs webservers beyond the least number.
    type: float
    default: 0.0
  bucket_gb:
    description: GB in the bucket.
    type: float
    default: 1.0
  bucket_files:
    description: Files below dags/. They count with dag_source tree only, where each poll lists them.
    type: float
    default: 100.0
  file_system_gb:
    description: GB in the file system.
    type: float
    default: 1.0
  image_gb:
    description: GB of images in the repository.
    type: float
    default: 1.0
  internet_gb:
    description: GB that tasks send to the internet.
    type: float
    default: 1.0
  ui_gb:
    description: GB that people download from the UI.
    type: float
    default: 1.0
"""

EXAMPLES = r"""
- name: Estimate the cost with a run every ten minutes
  platform_cost:
    runs: 4380
    run_minutes: 2
    limit: 70
"""

RETURN = r"""
estimate:
  description: All figures; what C(format=json) prints.
  returned: when the settings are complete
  type: dict
"""


def main() -> None:
    """Never run: Ansible takes the action of the same name."""


if __name__ == "__main__":
    main()
