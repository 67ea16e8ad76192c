#!/usr/bin/python
"""Ansible module: IAM roles, and the optional user whose keys live in a secret."""

from __future__ import annotations

DOCUMENTATION = r"""
module: iam_identities
short_description: Keep the IAM roles and users of a Dagster platform as described
description:
  - Each role and user has exactly one inline policy. Other policies, inline or attached, are taken away.
  - A user's access key is made once and goes to a secret inside this module; nobody else sees it.
  - M(amazon.aws.iam_policy) fails in check mode when the role does not exist, M(amazon.aws.iam_access_key) makes
    another key on each run and returns it.
options:
  roles:
    description: The roles.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the role.
        type: str
        required: true
      description:
        description: What the role is for.
        type: str
        default: ""
      trust:
        description: Trust policy.
        type: dict
      policy:
        description: The role's permissions.
        type: dict
  users:
    description: The users.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the user.
        type: str
        required: true
      policy:
        description: The user's permissions.
        type: dict
      access_key_secret:
        description: Name of an existing secret that holds the user's access key.
        type: str
      state:
        description: Whether this user should exist.
        type: str
        choices: [present, absent]
        default: present
extends_documentation_fragment:
  - platform
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the roles
  iam_identities:
    platform: dagster-production
    roles:
      - name: dagster-production-task
        description: What DAG code may do
        trust: "{{ trust_policy }}"
        policy: "{{ task_policy }}"
"""

RETURN = r"""
role_arns:
  description: ARN of each role by its name.
  returned: when state is present
  type: dict
changes:
  description: One entry per changed resource, with action, kind, name, before and after.
  returned: always
  type: list
"""

from typing import Any

from ansible.module_utils.aws_identity import (
    ensure_access_key,
    ensure_role,
    ensure_user,
    remove_role,
    remove_user,
)
from ansible.module_utils.aws_plan import Plan
from ansible.module_utils.aws_run import run


def work(module: Any, plan: Plan) -> dict[str, Any]:
    """Bring roles and users to the wanted state."""
    arguments = module.params
    platform, tags = arguments["platform"], arguments["resource_tags"]
    iam = module.client("iam")
    if arguments["state"] == "absent":
        for role in arguments["roles"]:
            remove_role(iam, platform, role["name"], plan)
        for user in arguments["users"]:
            remove_user(iam, platform, user["name"], plan)
        return {}
    arns = {
        role["name"]: ensure_role(
            iam,
            platform,
            role["name"],
            plan,
            description=role["description"],
            trust=role["trust"],
            policy=role["policy"],
            tags=tags,
        )
        for role in arguments["roles"]
    }
    for user in arguments["users"]:
        if user["state"] == "absent":
            remove_user(iam, platform, user["name"], plan)
            continue
        ensure_user(iam, platform, user["name"], plan, policy=user["policy"], tags=tags)
        ensure_access_key(iam, module.client("secretsmanager"), user["name"], user["access_key_secret"], plan)
    return {"role_arns": arns}


def main() -> None:
    """Entry point of Ansible."""
    run(
        {
            "roles": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "description": {"type": "str", "default": ""},
                    "trust": {"type": "dict"},
                    "policy": {"type": "dict"},
                },
            },
            "users": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "policy": {"type": "dict"},
                    "access_key_secret": {"type": "str", "no_log": False},  # the secret's name
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                },
            },
        },
        work,
    )


if __name__ == "__main__":
    main()
