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
  - Refuses a platform that hibernates, or sleeps outside of its office hours, where that matters.
  - The action plugin of the same name fills in I(settings), I(locations) and I(inventory) from the variables.
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
  needs_awake:
    description: Whether a platform that sleeps is refused, with what wakes it.
    type: bool
    default: true
  cluster:
    description: Name of the cluster, by which it is known whether the platform sleeps; empty for not looking.
    type: str
    default: ""
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

from ansible.module_utils.aws_hibernation import why_asleep
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


def refuse_asleep(module: Any) -> None:
    """Fail if the platform sleeps: half of it would be woken, and the other half waited for in vain."""
    try:
        why = why_asleep(module.client("ecs"), module.client("application-autoscaling"), module.params["cluster"])
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg="AWS does not say whether the platform sleeps")
    if why:
        module.fail_json(
            msg=f"The platform {module.params['settings'].get('name_prefix')!r} {why}. Nothing was created or changed. "
            f"Wake it first: ansible-playbook -i {module.params['inventory']} playbooks/wake.yml; then run this "
            "playbook again."
        )


def main() -> None:
    """Entry point of Ansible."""
    module = AnsibleAWSModule(
        argument_spec={
            "settings": {"type": "dict", "default": {}},
            "locations": {"type": "int", "default": 0},
            "inventory": {"type": "str", "default": "inventories/local/hosts.yml"},
            "needs_image": {"type": "bool", "default": True},
            "needs_awake": {"type": "bool", "default": True},
            "cluster": {"type": "str", "default": ""},
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
    if module.params["needs_awake"] and module.params["cluster"]:
        refuse_asleep(module)
    module.exit_json(changed=False, **identity)


if __name__ == "__main__":
    main()
