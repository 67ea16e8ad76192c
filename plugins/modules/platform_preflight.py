#!/usr/bin/python
"""Ansible module: checks all settings and the AWS account before anything is created."""

from __future__ import annotations

DOCUMENTATION = r"""
module: platform_preflight
short_description: Check the settings of a Dagster platform and whose AWS account this is
description:
  - Looks at all settings in one pass and fails with every problem, each with value, reason and valid choices.
  - Asks AWS for the caller's identity and refuses an account other than the inventory's.
  - Asks AWS for the availability zones if the inventory names some.
  - The action plugin of the same name fills in the options from the inventory's variables, all but I(needs_image).
options:
  settings:
    description: The settings that could be read; missing ones are left out.
    type: dict
    default: {}
  locations:
    description: Number of code locations to be served; 0 if it is not known.
    type: int
    default: 0
  inventory:
    description: The inventory, for messages.
    type: str
    default: inventories/local/hosts.yml
  needs_image:
    description: Whether services will be made, which need I(ecs_image). Not looked at in check mode.
    type: bool
    default: true
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Check all settings
  platform_preflight:
"""

RETURN = r"""
account:
  description: The caller's account id.
  returned: success
  type: str
caller:
  description: ARN of the caller.
  returned: success
  type: str
"""

from typing import Any

from ansible.module_utils.platform_settings import Problem, check_settings, missing_image, report
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

try:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError
except ImportError:
    pass  # AnsibleAWSModule reports it


def identify(module: Any) -> tuple[dict[str, str], list[Problem]]:
    """Return the caller's identity and what is wrong with region, credentials or account."""
    settings = module.params["settings"]
    expected, region = settings.get("aws_account_id"), settings.get("aws_region")
    environment = settings.get("aws_environment")
    endpoint = environment.get("AWS_ENDPOINT_URL") if isinstance(environment, dict) else None
    try:
        session = boto3.session.Session()
        regions = [
            name
            for partition in session.get_available_partitions()
            for name in session.get_available_regions("ecs", partition_name=partition)
        ]
        if region is not None and region not in regions:
            return {}, [Problem("aws_region", region, "ECS is not offered there.", ", ".join(regions) + ".")]
        caller = module.client("sts").get_caller_identity()
    except EndpointConnectionError:
        return {}, [
            Problem(
                "AWS_ENDPOINT_URL in aws_environment",
                endpoint,
                "nothing answers there.",
                "start the emulator of the local inventory with `make up`; for real AWS leave the variable out.",
            )
        ]
    except (BotoCoreError, ClientError) as error:
        return {}, [
            Problem(
                "AWS credentials",
                None,
                f"AWS does not know who is calling: {error}.",
                "what `aws sts get-caller-identity` accepts, e.g. after `aws sso login` with AWS_PROFILE set.",
            )
        ]
    identity = {"account": caller["Account"], "caller": caller["Arn"]}
    if expected is not None and "<" not in str(expected) and expected != caller["Account"]:
        return identity, [
            Problem(
                "aws_account_id",
                expected,
                f"your credentials ({caller['Arn']}) belong to the account {caller['Account']}.",
                f"credentials of the account {expected} (AWS_PROFILE), or the inventory of {caller['Account']}.",
            )
        ]
    return identity, unknown_zones(module.client("ec2"), settings.get("vpc_availability_zones") or [])


def unknown_zones(ec2: Any, wanted: list[str]) -> list[Problem]:
    """Return a problem if one of the availability zones cannot be used in this account and region."""
    if not wanted:
        return []
    answer = ec2.describe_availability_zones(
        Filters=[{"Name": "state", "Values": ["available"]}, {"Name": "zone-type", "Values": ["availability-zone"]}]
    )
    available = sorted(zone["ZoneName"] for zone in answer["AvailabilityZones"])
    unknown = sorted(set(wanted) - set(available))
    if not unknown:
        return []
    return [
        Problem(
            "vpc_availability_zones",
            wanted,
            f"{', '.join(unknown)} cannot be used in this account and region.",
            f"{', '.join(available)}; or [] for the first ones.",
        )
    ]


def main() -> None:
    """Entry point of Ansible."""
    module = AnsibleAWSModule(
        argument_spec={
            "settings": {"type": "dict", "default": {}},
            "locations": {"type": "int", "default": 0},
            "inventory": {"type": "str", "default": "inventories/local/hosts.yml"},
            "needs_image": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    settings = module.params["settings"]
    problems = check_settings(settings, module.params["locations"])
    if module.params["needs_image"] and not module.check_mode:
        problems += missing_image(settings)
    identity, wrong = identify(module)
    problems += wrong
    if problems:
        module.fail_json(msg=report(problems, module.params["inventory"]))
    module.exit_json(changed=False, **identity)


if __name__ == "__main__":
    main()
