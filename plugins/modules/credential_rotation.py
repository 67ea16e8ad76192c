#!/usr/bin/python
"""Ansible module: changes the database's password and the S3 keys while everything runs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: credential_rotation
short_description: Change the database's password and the S3 keys of a running Dagster platform
description:
  - Gives the database of the platform a new password and the IAM user that reads the bucket a new access key. Nothing
    is restarted; tasks find the new ones in the secrets as soon as the old ones are refused.
  - How far it has come is written in AWS only, in the labels of the secrets' versions and in the user's keys. A run
    that finds what an earlier one has begun and not finished goes on with that; otherwise every run changes both.
  - New values are made inside this module or by IAM, go to Secrets Manager and RDS, and are shown to nobody.
  - If tasks do not take the new key in time, the old one is made active again and the module fails.
  - M(amazon.aws.rds_instance) takes the password as an argument, M(amazon.aws.iam_access_key) returns the key.
options:
  database_secret:
    description:
      - Name of the secret with C(username) and C(password) of the instance that is called like I(platform).
      - Empty leaves the password as it is.
    type: str
    default: ""
  user:
    description: Name of the IAM user that reads the bucket. Empty leaves the keys as they are.
    type: str
    default: ""
  user_secret:
    description: Name of the secret with the user's access key.
    type: str
  cluster:
    description: Name of the ECS cluster whose tasks use the key.
    type: str
  services:
    description: The ECS services in it, each with the log group in which its tasks say which key they use.
    type: dict
    default: {}
  wait_seconds:
    description: Deadline of each wait, for the database to take the password, and for the tasks to use the key.
    type: int
    default: 900
  state:
    description: Credentials exist or are not the business of this module.
    type: str
    choices: [present]
    default: present
extends_documentation_fragment:
  - platform
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Change the database's password and the S3 keys
  credential_rotation:
    platform: dagster-production
    database_secret: dagster-production/database
    user: dagster-production-s3
    user_secret: dagster-production/s3-user
    cluster: dagster-production
    services:
      webserver: /ecs/dagster-production/webserver
      daemon: /ecs/dagster-production/daemon
"""

RETURN = r"""
rotated:
  description: What was changed, or would be. C(password), C(keys) or both.
  returned: always
  type: list
  elements: str
resumed:
  description: That of it which an earlier run had begun.
  returned: always
  type: list
  elements: str
changes:
  description: One entry per changed resource, with action, kind, name, before and after.
  returned: always
  type: list
"""

import contextlib
from functools import partial
from typing import Any

from ansible.module_utils.aws_plan import Plan
from ansible.module_utils.aws_rotation import NothingThereError, S3Keys, rotate_password, task_states
from ansible.module_utils.aws_run import run
from ansible_collections.amazon.aws.plugins.module_utils.botocore import get_aws_connection_info

with contextlib.suppress(ImportError):  # AnsibleAWSModule reports it
    import boto3


def caller(module: Any, key: str, secret: str) -> object:
    """Ask AWS who is calling with this key."""
    region, endpoint, _ = get_aws_connection_info(module)
    session = boto3.session.Session(aws_access_key_id=key, aws_secret_access_key=secret, region_name=region)
    return session.client("sts", endpoint_url=endpoint).get_caller_identity()


def work(module: Any, plan: Plan) -> dict[str, Any]:
    """Change what is to be changed, or finish what an earlier run has begun."""
    arguments = module.params
    platform, seconds = arguments["platform"], arguments["wait_seconds"]
    secrets = module.client("secretsmanager")
    keys = None
    if arguments["user"]:
        keys = S3Keys(
            module.client("iam"),
            secrets,
            platform,
            arguments["user"],
            arguments["user_secret"],
            caller=partial(caller, module),
            tasks=task_states(module.client("ecs"), module.client("logs"), arguments["cluster"], arguments["services"]),
        )
    rotated, resumed = [], []
    try:
        # The password comes first. Where an earlier run has come to the keys, it has been changed by that.
        if arguments["database_secret"] and not (keys and keys.under_way()):
            begun = rotate_password(
                module.client("rds"), secrets, platform, arguments["database_secret"], plan, seconds=seconds
            )
            rotated.append("password")
            resumed.extend(["password"] if begun else [])
        if keys:
            begun = keys.rotate(plan, seconds=seconds)
            rotated.append("keys")
            resumed.extend(["keys"] if begun else [])
    except NothingThereError as missing:
        if not plan.check_mode:
            raise
        module.warn(f"Nothing would be changed: {missing}")
    return {"rotated": rotated, "resumed": resumed}


def main() -> None:
    """Entry point of Ansible."""
    run(
        {
            "database_secret": {"type": "str", "default": "", "no_log": False},  # the secret's name, not its value
            "user": {"type": "str", "default": ""},
            "user_secret": {"type": "str", "no_log": False},  # the same
            "cluster": {"type": "str"},
            "services": {"type": "dict", "default": {}},
            "wait_seconds": {"type": "int", "default": 900},
            "state": {"type": "str", "choices": ["present"], "default": "present"},
        },
        work,
        required_by={"user": ["user_secret", "cluster"]},
    )


if __name__ == "__main__":
    main()
