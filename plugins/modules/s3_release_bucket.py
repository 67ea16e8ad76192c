#!/usr/bin/python
"""Ansible module: the bucket that holds DAG releases."""

from __future__ import annotations

DOCUMENTATION = r"""
module: s3_release_bucket
short_description: Keep the bucket of a Dagster platform as described
description:
  - Makes the bucket and keeps versioning, encryption, the public access block, object ownership, the policy that
    refuses requests without TLS, the lifecycle and the tags as they should be.
  - M(amazon.aws.s3_bucket) and M(community.aws.s3_lifecycle) do nothing in check mode, so that no preview would be
    possible.
options:
  name:
    description: Name of the bucket.
    type: str
    required: true
  noncurrent_days:
    description: Days for which a version that was replaced is kept in any case.
    type: int
    default: 30
  noncurrent_versions:
    description:
      - Versions of a key that were replaced and are kept however old they are, 1 to 100.
      - A release whose files were replaced at most so often can be restored for ever.
    type: int
    default: 40
  expiring_prefixes:
    description: Key prefixes whose objects expire, with their period in days.
    type: dict
    default: {}
  existing:
    description:
      - Whether the bucket is somebody else's. It must exist, in this region and with versioning, and nothing of it is
        changed; I(state=absent) does nothing then.
    type: bool
    default: false
  with_contents:
    description: Whether I(state=absent) may delete a bucket that is not empty, with all objects and versions.
    type: bool
    default: false
extends_documentation_fragment:
  - platform
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the bucket
  s3_release_bucket:
    platform: dagster-production
    name: dagster-production-dags-123456789012
    noncurrent_days: 30
    noncurrent_versions: 40
    expiring_prefixes: {compute-logs/: 90}
"""

RETURN = r"""
changes:
  description: One entry per changed resource, with action, kind, name, before and after.
  returned: always
  type: list
"""

from typing import Any

from ansible.module_utils.aws_bucket import BucketSpec, check_adopted_bucket, ensure_bucket, remove_bucket
from ansible.module_utils.aws_plan import Plan
from ansible.module_utils.aws_run import run


def work(module: Any, plan: Plan) -> dict[str, Any]:
    """Bring the bucket to the wanted state."""
    arguments = module.params
    s3 = module.client("s3")
    if arguments["existing"]:
        if arguments["state"] == "present":
            for warning in check_adopted_bucket(s3, arguments["name"], module.region):
                module.warn(warning)
        return {}
    if arguments["state"] == "absent":
        remove_bucket(s3, arguments["platform"], arguments["name"], plan, with_contents=arguments["with_contents"])
        return {}
    ensure_bucket(
        s3,
        BucketSpec(
            platform=arguments["platform"],
            name=arguments["name"],
            region=module.region,
            noncurrent_days=arguments["noncurrent_days"],
            noncurrent_versions=arguments["noncurrent_versions"],
            expiring_prefixes={prefix: int(days) for prefix, days in arguments["expiring_prefixes"].items()},
            tags=arguments["resource_tags"],
        ),
        plan,
    )
    return {}


def main() -> None:
    """Entry point of Ansible."""
    run(
        {
            "name": {"type": "str", "required": True},
            "noncurrent_days": {"type": "int", "default": 30},
            "noncurrent_versions": {"type": "int", "default": 40},
            "expiring_prefixes": {"type": "dict", "default": {}},
            "existing": {"type": "bool", "default": False},
            "with_contents": {"type": "bool", "default": False},
        },
        work,
    )


if __name__ == "__main__":
    main()
