"""Checks of the inventory's settings, done before anything is created.

`check_settings` looks at all of them in one pass and returns every problem. It talks to nobody; what needs AWS
(whose account is this?) is added by the module `platform_preflight`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .aws_logs import RETENTION_DAYS
from .aws_plan import PLATFORM_TAG

GIB = 1024

FARGATE_MEMORY: dict[int, tuple[int, ...]] = {
    256: (512, 1 * GIB, 2 * GIB),
    512: tuple(range(1 * GIB, 4 * GIB + 1, GIB)),
    1024: tuple(range(2 * GIB, 8 * GIB + 1, GIB)),
    2048: tuple(range(4 * GIB, 16 * GIB + 1, GIB)),
    4096: tuple(range(8 * GIB, 30 * GIB + 1, GIB)),
    8192: tuple(range(16 * GIB, 60 * GIB + 1, 4 * GIB)),
    16384: tuple(range(32 * GIB, 120 * GIB + 1, 8 * GIB)),
}
"""CPU units -> MiB that Fargate offers with them; Amazon ECS developer guide, "Task CPU and memory"."""

EGRESS = ("nat_instance", "nat_gateway")
CREDENTIALS = ("task_role", "iam_user")
DAG_SOURCES = ("release", "tree")
UI_ACCESS = ("internal", "public")
ENVIRONMENTS = ("local", "staging", "production")
EFS_DAYS = (0, 1, 7, 14, 30, 60, 90, 180, 270, 365)

# Load balancers and target groups have 32 characters; the longest suffix that this project adds is "-webserver".
MAX_NAME_PREFIX = 32 - len("-webserver")

REQUIRED = (
    *("name_prefix", "deployment_environment", "resource_tags"),
    *("aws_region", "aws_account_id", "aws_environment", "network_egress"),
    *("ui_access", "ui_allowed_cidrs", "ui_certificate_arn"),
    *("ecs_task_cpu", "ecs_task_memory", "dags_path", "dags_locations", "dags_bucket_name", "dags_credentials"),
    "dag_source",
)
"""Settings that every inventory has to make; the others have a default in their role."""

OPTIONAL = (
    *("vpc_cidr", "vpc_public_subnet_cidrs", "vpc_private_subnet_cidrs"),
    *("rds_instance_class", "rds_engine_version", "rds_storage", "rds_max_storage", "rds_backup_days"),
    *("cloudwatch_logs_retention_days", "dags_keep_releases", "dags_keep_days", "efs_infrequent_access_days"),
    "secrets_manager_recovery_days",
)

# Proportional set sizes in MiB, measured with Dagster 1.13.27 (docs/architecture.md).
WEBSERVER_MEMORY = 130
DAEMON_MEMORY = 104
LOCATION_MEMORY = 104
RUN_MEMORY = 161


@dataclass(frozen=True)
class Problem:
    """One setting that cannot be used: its value, the reason, and what would be valid."""

    setting: str
    value: object
    why: str
    choices: str

    def __str__(self) -> str:
        shown = "(not set)" if self.value is None else repr(self.value)
        return f"{self.setting} = {shown}: {self.why} Valid: {self.choices}"


def required_memory(locations: int) -> int:
    """Return the MiB that a task needs at its peak, with `locations` code locations.

    During a swap the old and the new server of each location run side by side; the daemon also runs jobs.
    """
    swap = 2 * LOCATION_MEMORY * locations
    webserver = WEBSERVER_MEMORY + swap
    daemon = DAEMON_MEMORY + max(swap, LOCATION_MEMORY * locations + RUN_MEMORY)
    return max(webserver, daemon)


def check_settings(settings: Mapping[str, Any], locations: int = 0) -> list[Problem]:
    """Return every problem of the settings. A missing one is absent from the mapping or None.

    Args:
        settings: values of `REQUIRED` and, as far as they are set, `OPTIONAL`, as Ansible templated them.
        locations: number of code locations that will be served, 0 if it is not known yet.
    """
    present = {name: value for name, value in settings.items() if value is not None}
    problems = [
        Problem(name, None, "it is missing.", f"see inventories/example, where {name} is explained.")
        for name in REQUIRED
        if name not in present
    ]
    problems.extend(
        Problem(name, value, "it still holds a placeholder of the example.", "a value of your own.")
        for name, value in present.items()
        if any(re.fullmatch("<.*>", text) for text in _texts(value))
    )
    # A placeholder spoils what is derived from it too, which is reported no further.
    usable = {
        name: value for name, value in present.items() if not any(re.search("<.*>", text) for text in _texts(value))
    }
    for name, check in SINGLE_CHECKS.items():
        if name in usable:
            problems.extend(Problem(name, usable[name], why, choices) for why, choices in check(usable[name]))
    for joint_check in JOINT_CHECKS:
        problems.extend(joint_check(usable))
    problems.extend(_memory_for_locations(usable, locations))
    return problems


def report(problems: Sequence[Problem], inventory: str) -> str:
    """Return the message that shows all problems and says how to go on."""
    count = f"{len(problems)} setting{'s' if len(problems) > 1 else ''}"
    lines = [f"{count} cannot be used. Nothing was created or changed."]
    lines += [f"  {number}. {problem}" for number, problem in enumerate(problems, 1)]
    lines.append(
        f"Correct them in the group_vars next to {inventory} (or with -e), then try again without changing anything: "
        f"ansible-playbook -i {inventory} site.yml --check --diff"
    )
    return "\n".join(lines)


Finding = tuple[str, str]
"""Why a value cannot be used, and what would be valid."""


def _name_prefix(value: Any) -> Iterator[Finding]:
    choices = (
        f"3 to {MAX_NAME_PREFIX} characters: lower-case letters, digits and single hyphens; a letter first, no hyphen "
        "last; not starting with 'internal-' or 'aws'."
    )
    text = str(value)
    if not 3 <= len(text) <= MAX_NAME_PREFIX:
        yield (
            f"it has {len(text)} characters; names of load balancers and target groups are made from it.",
            choices,
        )
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", text):
        yield "RDS, ECR or the load balancer would refuse names made from it.", choices
    if text.startswith(("internal-", "aws")):
        yield "AWS reserves names that start like this.", choices


def _bucket_name(value: Any) -> Iterator[Finding]:
    """Amazon S3 user guide, "General purpose bucket naming rules"; dots would break TLS host names."""
    choices = "3 to 63 lower-case letters, digits and hyphens, a letter or digit at both ends."
    text = str(value)
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", text):
        yield f"S3 refuses this name, or (with a dot) serves it without TLS; it has {len(text)} characters.", choices
    if text.startswith(("xn--", "sthree-", "amzn-s3-demo-")) or text.endswith(
        ("-s3alias", "--ol-s3", "--x-s3", "--table-s3", "-an")
    ):
        yield "S3 reserves this prefix or suffix.", choices


def _account_id(value: Any) -> Iterator[Finding]:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{12}", value):
        yield (
            "it is not an AWS account id.",
            'twelve digits in quotes, e.g. "123456789012" (quotes keep leading zeros).',
        )


def _region(value: Any) -> Iterator[Finding]:
    if not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-[0-9]", str(value)):
        yield "it is not an AWS region.", "a region code, e.g. us-east-1 or ap-southeast-2."


def _one_of(choices: Sequence[object]) -> Callable[[Any], Iterator[Finding]]:
    def check(value: Any) -> Iterator[Finding]:
        if value not in choices or isinstance(value, bool):
            yield "it is not known.", ", ".join(str(choice) for choice in choices) + "."

    return check


def _whole_number(lowest: int, highest: int, unit: str) -> Callable[[Any], Iterator[Finding]]:
    def check(value: Any) -> Iterator[Finding]:
        number = _integer(value)
        if number is None or not lowest <= number <= highest:
            yield "AWS or this project would refuse it.", f"{lowest} to {highest} {unit}."

    return check


def _recovery_days(value: Any) -> Iterator[Finding]:
    number = _integer(value)
    if number is None or not (number == 0 or 7 <= number <= 30):
        yield "Secrets Manager would refuse it.", "7 to 30 days, or 0 to delete secrets at once."


def _tags(value: Any) -> Iterator[Finding]:
    """Tag restrictions as in the AWS General Reference; 50 per resource, of which this project sets two."""
    choices = (
        "at most 40 tags; keys of 1 to 128 and values of up to 256 letters, digits, spaces and _ . : / = + - @; "
        f"keys other than Name, {PLATFORM_TAG} and aws:…"
    )
    if not isinstance(value, Mapping):
        yield "it is not a mapping from tag to value.", choices
        return
    if len(value) > 40:
        yield f"it has {len(value)} tags.", choices
    if len({str(key).lower() for key in value}) < len(value):
        yield "IAM takes tags whose keys differ only in case for the same.", choices
    for key, text in value.items():
        # IAM takes keys that differ only in case for the same.
        if str(key).lower() in ("name", PLATFORM_TAG) or str(key).lower().startswith("aws:"):
            yield f"the tag {key!r} is set by this project or reserved by AWS.", choices
        elif not re.fullmatch(r"[\w\s.:/=+\-@]{1,128}", str(key)):
            yield f"AWS refuses the tag key {key!r}.", choices
        if not isinstance(text, str) or not re.fullmatch(r"[\w\s.:/=+\-@]{0,256}", text):
            yield f"AWS refuses the value {text!r} of the tag {key!r}.", choices


def _cidrs(value: Any) -> Iterator[Finding]:
    choices = "a list of IPv4 ranges, e.g. [198.51.100.0/24]."
    if not isinstance(value, list) or not value:
        yield "nobody could connect, or it is no list.", choices
        return
    for item in value:
        if _network(item) is None:
            yield f"{item!r} is not an IPv4 range (bits behind the prefix length must be zero).", choices


def _vpc_cidr(value: Any) -> Iterator[Finding]:
    network = _network(value)
    if network is None or not 16 <= network.prefixlen <= 28:
        yield "AWS refuses this range for a VPC.", "an IPv4 range of size /16 to /28, e.g. 10.42.0.0/16."


def _subnet_cidrs(value: Any) -> Iterator[Finding]:
    choices = "a list of two or more IPv4 ranges of size /16 to /28, one per availability zone."
    if not isinstance(value, list) or len(value) < 2:
        yield "RDS and the load balancer need subnets in two availability zones.", choices
        return
    for item in value:
        network = _network(item)
        if network is None or not 16 <= network.prefixlen <= 28:
            yield f"AWS refuses the range {item!r} for a subnet.", choices


def _instance_class(value: Any) -> Iterator[Finding]:
    if not re.fullmatch(r"db\.[a-z0-9-]+\.[a-z0-9]+", str(value)):
        yield "it is not an RDS instance class.", "e.g. db.t4g.micro, db.t3.micro, db.t4g.small, db.m7g.large."


def _certificate(value: Any) -> Iterator[Finding]:
    if value and not re.fullmatch(r"arn:aws[a-z-]*:acm:[a-z0-9-]+:[0-9]{12}:certificate/[\w-]+", str(value)):
        yield (
            "it is not the ARN of a certificate in ACM.",
            ('"" for none, or arn:aws:acm:REGION:ACCOUNT:certificate/ID (aws acm list-certificates).'),
        )


def _engine_version(value: Any) -> Iterator[Finding]:
    if not isinstance(value, str) or not re.fullmatch(r"1[4-9](\.[0-9]+)?", value):
        yield "it is not a version of PostgreSQL that this project knows.", 'a major version in quotes, "14" to "19".'


SINGLE_CHECKS: dict[str, Callable[[Any], Iterator[Finding]]] = {
    "name_prefix": _name_prefix,
    "deployment_environment": _one_of(ENVIRONMENTS),
    "resource_tags": _tags,
    "aws_region": _region,
    "aws_account_id": _account_id,
    "network_egress": _one_of(EGRESS),
    "ui_access": _one_of(UI_ACCESS),
    "ui_allowed_cidrs": _cidrs,
    "ui_certificate_arn": _certificate,
    "dags_bucket_name": _bucket_name,
    "dags_credentials": _one_of(CREDENTIALS),
    "dag_source": _one_of(DAG_SOURCES),
    "vpc_cidr": _vpc_cidr,
    "vpc_public_subnet_cidrs": _subnet_cidrs,
    "vpc_private_subnet_cidrs": _subnet_cidrs,
    "rds_instance_class": _instance_class,
    "rds_engine_version": _engine_version,
    "rds_storage": _whole_number(20, 65536, "GiB"),
    "rds_max_storage": _whole_number(20, 65536, "GiB"),
    "rds_backup_days": _whole_number(1, 35, "days"),
    "cloudwatch_logs_retention_days": _one_of(RETENTION_DAYS),
    "dags_keep_releases": _whole_number(1, 50, "releases"),
    "dags_keep_days": _whole_number(1, 3650, "days"),
    "efs_infrequent_access_days": _one_of(EFS_DAYS),
    "secrets_manager_recovery_days": _recovery_days,
}


def _fargate_size(settings: Mapping[str, Any]) -> Iterator[Problem]:
    if "ecs_task_cpu" not in settings or "ecs_task_memory" not in settings:
        return
    cpu, memory = _integer(settings["ecs_task_cpu"]), _integer(settings["ecs_task_memory"])
    if cpu not in FARGATE_MEMORY:
        yield Problem(
            "ecs_task_cpu",
            settings["ecs_task_cpu"],
            "Fargate has no such size (1024 units are one vCPU).",
            ", ".join(str(size) for size in FARGATE_MEMORY) + ".",
        )
    elif memory not in FARGATE_MEMORY[cpu]:
        yield Problem(
            "ecs_task_memory",
            settings["ecs_task_memory"],
            f"Fargate does not offer so many MiB with ecs_task_cpu {cpu}.",
            ", ".join(str(size) for size in FARGATE_MEMORY[cpu]) + ".",
        )


def _public_ui(settings: Mapping[str, Any]) -> Iterator[Problem]:
    cidrs = settings.get("ui_allowed_cidrs")
    ranges = [_network(item) for item in cidrs] if isinstance(cidrs, list) else []
    if any(network is not None and network.prefixlen == 0 for network in ranges):
        yield Problem(
            "ui_allowed_cidrs",
            cidrs,
            "Dagster has no log-in of its own: everybody on the internet could run code with the task's role.",
            "the ranges of your office or VPN.",
        )
    if settings.get("ui_access") == "public":
        # Until the load balancer can ask for a log-in, TLS alone does not make a public UI acceptable.
        yield Problem(
            "ui_access",
            "public",
            "Dagster has no log-in of its own and the load balancer does not ask for one yet: whoever reaches the UI "
            "could run code with the task's role.",
            "internal; reach it over a VPN, peering, or a Session Manager port forwarding.",
        )


def _subnets_in_vpc(settings: Mapping[str, Any]) -> Iterator[Problem]:
    vpc = _network(settings.get("vpc_cidr"))
    tiers = {
        name: [network for network in map(_network, settings[name]) if network]
        for name in ("vpc_public_subnet_cidrs", "vpc_private_subnet_cidrs")
        if isinstance(settings.get(name), list)
    }
    seen: list[ipaddress.IPv4Network] = []
    for name, networks in tiers.items():
        for network in networks:
            if vpc is not None and not network.subnet_of(vpc):
                yield Problem(name, settings[name], f"{network} lies outside vpc_cidr {vpc}.", f"ranges within {vpc}.")
            for other in seen:
                if network.overlaps(other):
                    yield Problem(name, settings[name], f"{network} overlaps {other}.", "ranges that do not overlap.")
            seen.append(network)
    if len(tiers) == 2 and len({len(networks) for networks in tiers.values()}) > 1:
        yield Problem(
            "vpc_private_subnet_cidrs",
            settings["vpc_private_subnet_cidrs"],
            "there are not as many private as public subnets.",
            "one public and one private range per availability zone.",
        )


def _storage_limit(settings: Mapping[str, Any]) -> Iterator[Problem]:
    storage, limit = _integer(settings.get("rds_storage")), _integer(settings.get("rds_max_storage"))
    if storage is not None and limit is not None and limit < storage:
        yield Problem(
            "rds_max_storage",
            settings["rds_max_storage"],
            f"it is less than rds_storage {storage}.",
            f"{storage} or more.",
        )


def _local_means_loopback(settings: Mapping[str, Any]) -> Iterator[Problem]:
    """The local environment protects nothing against deletion; it must not end up in a real account."""
    environment = settings.get("aws_environment")
    if not isinstance(environment, Mapping):
        if environment is not None:
            yield Problem("aws_environment", environment, "it is not a mapping.", "variable: value, e.g. AWS_REGION.")
        return
    endpoint = str(environment.get("AWS_ENDPOINT_URL", ""))
    on_loopback = re.match(r"https?://(127\.[0-9.]+|localhost|\[::1\])(:|/|$)", endpoint) is not None
    if settings.get("deployment_environment") == "local" and not on_loopback:
        yield Problem(
            "deployment_environment",
            "local",
            f"it keeps no backups and protects nothing, but AWS_ENDPOINT_URL is {endpoint or 'not set'!r}.",
            "staging or production on AWS; local only with an emulator on the loopback interface.",
        )


JOINT_CHECKS: tuple[Callable[[Mapping[str, Any]], Iterator[Problem]], ...] = (
    _fargate_size,
    _public_ui,
    _subnets_in_vpc,
    _storage_limit,
    _local_means_loopback,
)


def _memory_for_locations(settings: Mapping[str, Any], locations: int) -> Iterator[Problem]:
    memory = _integer(settings.get("ecs_task_memory"))
    needed = required_memory(locations)
    if memory is not None and locations and memory < needed:
        enough = sorted({size for sizes in FARGATE_MEMORY.values() for size in sizes if size >= needed})
        yield Problem(
            "ecs_task_memory",
            settings["ecs_task_memory"],
            f"{locations} code locations need {needed} MiB while a new release takes over from the old one.",
            f"{enough[0]} MiB or more, or fewer code locations.",
        )


def _texts(value: Any) -> list[str]:
    """Return every string in a setting, however deep."""
    if isinstance(value, Mapping):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


def _integer(value: Any) -> int | None:
    """Return a whole number, also from a string as -e gives it; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value) else None


def _network(value: Any) -> ipaddress.IPv4Network | None:
    try:
        return ipaddress.IPv4Network(value) if isinstance(value, str) and "/" in value else None
    except ValueError:
        return None
