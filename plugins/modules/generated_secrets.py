#!/usr/bin/python
"""Ansible module: secrets whose value is generated once and shown to nobody."""

from __future__ import annotations

DOCUMENTATION = r"""
module: generated_secrets
short_description: Keep secrets of a Dagster platform in Secrets Manager
description:
  - Makes secrets. The first value is generated inside this module and goes to Secrets Manager only; an existing value
    is never changed, read or returned.
  - M(community.aws.secretsmanager_secret) takes the value as an argument, and masks parts of the ARN that it returns
    when the secret's text occurs in it.
options:
  secrets:
    description: The secrets.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the secret.
        type: str
        required: true
      description:
        description: What the secret is for.
        type: str
        default: ""
      username:
        description:
          - User name to generate a password for; the value is then a JSON object with C(username) and C(password).
          - Without it the secret is made without a value, for somebody else to fill.
        type: str
      state:
        description:
          - Whether this secret should exist. With C(existing) it is somebody else's, must be there, and is never
            changed or removed.
        type: str
        choices: [present, absent, existing]
        default: present
  recovery_days:
    description: Days (7 to 30) for which a removed secret can be restored; 0 removes it at once.
    type: int
    default: 30
extends_documentation_fragment:
  - platform
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the database's secret
  generated_secrets:
    platform: dagster-production
    secrets:
      - name: dagster-production/database
        description: User name and password of the database
        username: dagster
"""

RETURN = r"""
arns:
  description: ARN of each secret by its name.
  returned: when state is present
  type: dict
kms_key_arns:
  description: ARNs of the customer managed keys with which secrets of state C(existing) are encrypted.
  returned: when state is present
  type: list
changes:
  description: One entry per changed resource, with action, kind, name, before and after.
  returned: always
  type: list
"""

from functools import partial
from typing import Any

from ansible.module_utils.aws_plan import Plan
from ansible.module_utils.aws_run import run
from ansible.module_utils.aws_secrets import (
    database_credentials,
    ensure_secret,
    find_adopted_secret,
    remove_secret,
)


def work(module: Any, plan: Plan) -> dict[str, Any]:
    """Bring the secrets to the wanted state."""
    arguments = module.params
    client = module.client("secretsmanager")
    arns, keys = {}, []
    for secret in arguments["secrets"]:
        if secret["state"] == "existing":
            if arguments["state"] == "present":
                arns[secret["name"]], key = find_adopted_secret(client, partial(module.client, "kms"), secret["name"])
                keys.extend([key] if key else [])
            continue
        if "absent" in (arguments["state"], secret["state"]):
            remove_secret(client, arguments["platform"], secret["name"], plan, recovery_days=arguments["recovery_days"])
            continue
        username = secret["username"]
        arns[secret["name"]] = ensure_secret(
            client,
            arguments["platform"],
            secret["name"],
            plan,
            description=secret["description"],
            tags=arguments["resource_tags"],
            generate=partial(database_credentials, username) if username else None,
        )
    return {"arns": arns, "kms_key_arns": keys}


def main() -> None:
    """Entry point of Ansible."""
    run(
        {
            "secrets": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "no_log": False,  # names only; no value is ever an argument
                "options": {
                    "name": {"type": "str", "required": True},
                    "description": {"type": "str", "default": ""},
                    "username": {"type": "str"},
                    "state": {"type": "str", "choices": ["present", "absent", "existing"], "default": "present"},
                },
            },
            "recovery_days": {"type": "int", "default": 30},
        },
        work,
    )


if __name__ == "__main__":
    main()
