#!/usr/bin/python
"""Ansible module: one family of ECS task definitions."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ecs_task_definition
short_description: Register a task definition when it differs from the newest ACTIVE revision
description:
  - Compares a document with the newest ACTIVE revision of its family by meaning - defaults that AWS fills in, and the
    order of what has no order, make no difference; everything else does - and registers it only if they differ.
  - Before anything is sent the document is validated against the service model of botocore, enumerations included.
  - M(community.aws.ecs_taskdefinition) misses changes of environment, size, roles and architecture, matches any old
    revision instead of the newest, and knows neither tags nor ephemeral storage.
  - A changed tag is set on the newest revision in place, since it needs no new tasks.
options:
  document:
    description:
      - The task definition, in the form of the API's RegisterTaskDefinition without tags.
      - Secrets appear in it as ARNs only; anything else is refused. It is shown in diffs.
    type: dict
  family:
    description: With I(state=absent), the family whose revisions are deregistered and deleted.
    type: str
extends_documentation_fragment:
  - platform
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the task definition
  ecs_task_definition:
    platform: dagster-production
    document: "{{ lookup('ansible.builtin.template', 'task_definitions/daemon.json.j2') | from_json }}"

- name: Remove the family
  ecs_task_definition:
    platform: dagster-production
    family: dagster-production-daemon
    state: absent
"""

RETURN = r"""
task_definition_arn:
  description: ARN of the revision that is in force, whether it is new or not; a C(pending) id in check mode.
  returned: when state is present
  type: str
  sample: arn:aws:ecs:us-east-1:123456789012:task-definition/dagster-production-daemon:7
changes:
  description: One entry per change, with action, kind, name, before and after.
  returned: always
  type: list
"""

from typing import Any

from ansible.module_utils.aws_plan import Plan
from ansible.module_utils.aws_run import run
from ansible.module_utils.aws_task_definition import ensure_task_definition, remove_task_definition


def work(module: Any, plan: Plan) -> dict[str, Any]:
    """Bring the family to the wanted state."""
    arguments = module.params
    ecs = module.client("ecs")
    if arguments["state"] == "absent":
        remove_task_definition(ecs, arguments["platform"], arguments["family"], plan)
        return {}
    arn = ensure_task_definition(ecs, arguments["platform"], arguments["document"], arguments["resource_tags"], plan)
    return {"task_definition_arn": arn}


def main() -> None:
    """Entry point of Ansible."""
    run(
        {"document": {"type": "dict"}, "family": {"type": "str"}},
        work,
        required_if=[("state", "present", ["document"]), ("state", "absent", ["family"])],
    )


if __name__ == "__main__":
    main()
