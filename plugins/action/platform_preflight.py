"""Ansible action: checks all settings and the AWS account before anything is created."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils
import boto3
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_hibernation import why_asleep  # noqa: E402
from ansible.module_utils.platform_action import AwsAction, Call  # noqa: E402
from ansible.module_utils.platform_settings import Problem, check_settings, missing_image, report  # noqa: E402
from ansible.module_utils.settings_reading import count_locations, inventory_of, read_settings  # noqa: E402


def identify(call: Call) -> tuple[dict[str, str], list[Problem]]:
    """Return the caller's identity and what is wrong with region, credentials or account."""
    settings = call.params["settings"]
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
        caller = call.client("sts").get_caller_identity()
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
    return identity, unknown_zones(call.client("ec2"), settings.get("vpc_availability_zones") or [])


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


def refuse_asleep(call: Call) -> None:
    """Fail if the platform sleeps: half of it would be woken, and the other half waited for in vain."""
    try:
        why = why_asleep(call.client("ecs"), call.client("application-autoscaling"), call.params["cluster"])
    except (BotoCoreError, ClientError) as error:
        call.fail_json_aws(error, msg="AWS does not say whether the platform sleeps")
    if why:
        call.fail_json(
            msg=f"The platform {call.params['settings'].get('name_prefix')!r} {why}. Nothing was created or changed. "
            f"Wake it first: ansible-playbook -i {call.params['inventory']} playbooks/wake.yml; then run this "
            "playbook again."
        )


ARGUMENTS: dict[str, dict[str, Any]] = {
    "settings": {"type": "dict", "default": {}},
    "locations": {"type": "int", "default": 0},
    "inventory": {"type": "str", "default": "inventories/local/hosts.yml"},
    "needs_image": {"type": "bool", "default": True},
    "needs_awake": {"type": "bool", "default": True},
    "cluster": {"type": "str", "default": ""},
}


class ActionModule(AwsAction):  # type: ignore[misc]
    """The action ``platform_preflight``."""

    arguments = ARGUMENTS
    services = ("sts", "ec2")

    def given(self) -> dict[str, Any]:
        """Read each setting from the variables, so that one that is missing does not hide the others."""
        settings = read_settings(self._templar, self.task_vars)
        return {
            "settings": settings,
            "locations": count_locations(settings),
            "inventory": inventory_of(self.task_vars),
        }

    def perform(self, call: Call) -> dict[str, Any]:
        """Check everything; fail with all problems at once."""
        settings = call.params["settings"]
        problems = check_settings(settings, call.params["locations"])
        if call.params["needs_image"] and not call.check_mode:
            problems += missing_image(settings)
        identity, wrong = identify(call)
        problems += wrong
        if problems:
            call.fail_json(report(problems, call.params["inventory"]))
        if call.params["needs_awake"] and call.params["cluster"]:
            refuse_asleep(call)
        return identity
