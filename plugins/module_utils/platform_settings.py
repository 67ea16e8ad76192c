"""Checks of the inventory's settings, done before anything is created.

`check_settings` looks at all of them in one pass and returns every problem. It talks to nobody; what needs AWS
(whose account is this?) is added by the module `platform_preflight`.
"""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .aws_logs import RETENTION_DAYS
from .aws_plan import PLATFORM_TAG
from .dag_manifest import ManifestError, validate_location_name, validate_repository_name

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

EGRESS = ("nat_instance", "nat_gateway", "vpc_endpoints", "public_ip", "existing")
AUTHENTICATION = ("none", "oidc", "cognito")
OIDC_KEYS = (
    *("issuer", "authorization_endpoint", "token_endpoint", "user_info_endpoint"),
    *("client_id", "client_secret_name", "scope"),
)
COGNITO_KEYS = ("user_pool_arn", "user_pool_client_id", "user_pool_domain")
COST_TAGS = ("project", "environment", "repository", "owner")
"""Tags that every resource carries, so that the bill can be split by them."""
CREDENTIALS = ("task_role", "iam_user")
DAG_SOURCES = ("release", "tree")
UI_ACCESS = ("internal", "public")
ENVIRONMENTS = ("local", "staging", "production")
PRIVATE_RANGES = tuple(
    ipaddress.IPv4Network(item) for item in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
)
"""RFC 1918, and RFC 6598, which VPNs between machines use."""
OFFICE_HOURS_KEYS = ("start", "stop", "timezone")
OFFICE_LEAD = 15
"""office_hours_lead_minutes of the role: minutes that NAT instance and database run before and after the services."""
DAY_MINUTES = 24 * 60
EFS_DAYS = (0, 1, 7, 14, 30, 60, 90, 180, 270, 365)

# Load balancers and target groups have 32 characters; the longest suffix that this project adds is "-webserver".
MAX_NAME_PREFIX = 32 - len("-webserver")

REQUIRED = (
    *("name_prefix", "deployment_environment", "resource_tags"),
    *("aws_region", "aws_account_id", "aws_environment", "network_egress"),
    *("vpc_existing_id", "vpc_existing_public_subnet_ids", "vpc_existing_private_subnet_ids"),
    *("load_balancer", "ui_access", "ui_allowed_cidrs", "ui_certificate_arn"),
    *("ui_authentication", "ui_oidc", "ui_cognito"),
    *("ecs_task_cpu", "ecs_task_memory", "ecs_exec"),
    *("rds_existing_instance", "rds_existing_secret", "s3_existing_bucket"),
    *("dags_path", "dags_locations", "dags_bucket_name", "dags_credentials", "dag_source"),
)
"""Settings that every inventory has to make; the others have a default in their role."""

OPTIONAL = (
    *("vpc_cidr", "vpc_public_subnet_cidrs", "vpc_private_subnet_cidrs", "vpc_availability_zones", "ecs_image"),
    *("rds_instance_class", "rds_engine_version", "rds_storage", "rds_max_storage", "rds_backup_days"),
    *("cloudwatch_logs_retention_days", "dags_keep_releases", "dags_keep_days", "efs_infrequent_access_days"),
    *("dags_repositories",),
    *("secrets_manager_recovery_days", "office_hours"),
    *("alarms_enabled", "alarm_emails", "alarm_webhooks"),
    *("budget_monthly_usd", "budget_email", "budget_sns_topic_arn", "cost_limit_usd"),
)

# Proportional set sizes in MiB, measured with Dagster 1.13.27 (docs/benchmarks.md).
SUPERVISOR_MEMORY = 24
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
    return SUPERVISOR_MEMORY + max(webserver, daemon)


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


def _amount(otherwise: str) -> Callable[[Any], Iterator[Finding]]:
    def check(value: Any) -> Iterator[Finding]:
        if isinstance(value, bool) or not re.fullmatch(r"([0-9]{1,9}(\.[0-9]+)?)?", str(value)):
            yield "it is not an amount.", f"USD a month, e.g. 60; {otherwise}."

    return check


def _mail_address(value: Any) -> Iterator[Finding]:
    if value and not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", str(value)):
        yield "it is not a mail address.", '"" for none, or one address, e.g. data-platform@example.com.'


def _topic(value: Any) -> Iterator[Finding]:
    if value and not re.fullmatch(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[\w-]{1,256}", str(value)):
        yield (
            "it is not the ARN of an SNS topic.",
            '"" for none, or arn:aws:sns:REGION:ACCOUNT:NAME (aws sns list-topics).',
        )


def _mail_addresses(value: Any) -> Iterator[Finding]:
    choices = "a list of mail addresses, e.g. [oncall@example.com]."
    if not isinstance(value, list):
        yield "it is not a list.", choices
        return
    for item in value:
        if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", str(item)):
            yield f"{item!r} is not a mail address.", choices


def without_secrets(name: str, value: Any) -> Any:
    """Return a setting as it may be shown: of the addresses in alarm_webhooks only scheme and host."""
    if name != "alarm_webhooks" or not isinstance(value, list):
        return value
    found = [re.match(r"https?://[\w.-]+(:[0-9]+)?(?=/|$)", str(item)) for item in value]
    return [f"{match[0]}/..." if match else "(not shown)" for match in found]


def _webhooks(value: Any) -> Iterator[Finding]:
    """What comes here has gone through `without_secrets`."""
    choices = "a list of addresses that begin with https://, of services that confirm a subscription of SNS."
    if not isinstance(value, list):
        yield "it is not a list.", choices
        return
    for number, item in enumerate(value, 1):
        if not str(item).startswith("https://"):
            yield f"number {number} of it is not an https:// address.", choices


def _tags(value: Any) -> Iterator[Finding]:
    """Tag restrictions as in the AWS General Reference; 50 per resource, of which this project sets two."""
    choices = (
        f"{', '.join(COST_TAGS)} and whatever else you like; at most 40 tags; keys of 1 to 128 and values of up to 256 "
        f"letters, digits, spaces and _ . : / = + - @; keys other than Name, {PLATFORM_TAG} and aws:…"
    )
    if not isinstance(value, Mapping):
        yield "it is not a mapping from tag to value.", choices
        return
    missing = [key for key in COST_TAGS if not value.get(key)]
    if missing:
        yield f"it lacks {', '.join(missing)}, by which the bill is split.", choices
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


def _yes_or_no(value: Any) -> Iterator[Finding]:
    if _boolean(value) is None:
        yield "it is neither yes nor no.", "true or false."


def _resource_id(prefix: str, command: str) -> Callable[[Any], Iterator[Finding]]:
    def check(value: Any) -> Iterator[Finding]:
        if value and not re.fullmatch(prefix + "-[0-9a-f]{8,17}", str(value)):
            yield f"it is not an id of AWS ({prefix}-…).", f'"" for one of the platform\'s own, or an id: {command}.'

    return check


def _subnet_ids(value: Any) -> Iterator[Finding]:
    choices = (
        "[] for subnets of the platform's own, or ids in two or more availability zones: "
        "aws ec2 describe-subnets --filters Name=vpc-id,Values=VPC."
    )
    if not isinstance(value, list) or any(not re.fullmatch("subnet-[0-9a-f]{8,17}", str(item)) for item in value):
        yield "it is not a list of ids of subnets (subnet-…).", choices
    elif len(value) == 1 or len(set(value)) < len(value):
        yield "RDS, EFS and the load balancer need different subnets in two availability zones.", choices


def _database_identifier(value: Any) -> Iterator[Finding]:
    if value and not re.fullmatch("[a-zA-Z](-?[a-zA-Z0-9]){0,62}", str(value)):
        yield (
            "it is not an identifier of an RDS instance.",
            '"" for an instance of the platform\'s own, or an identifier: aws rds describe-db-instances.',
        )


def _mapping_of(keys: Sequence[str]) -> Callable[[Any], Iterator[Finding]]:
    def check(value: Any) -> Iterator[Finding]:
        choices = f"{{}} or a mapping with the keys {', '.join(keys)}."
        if not isinstance(value, Mapping):
            yield "it is not a mapping.", choices
        elif unknown := sorted(str(key) for key in value if key not in keys):
            yield f"it has unknown keys: {', '.join(unknown)}.", choices

    return check


def _certificate(value: Any) -> Iterator[Finding]:
    if value and not re.fullmatch(r"arn:aws[a-z-]*:acm:[a-z0-9-]+:[0-9]{12}:certificate/[\w-]+", str(value)):
        yield (
            "it is not the ARN of a certificate in ACM.",
            ('"" for none, or arn:aws:acm:REGION:ACCOUNT:certificate/ID (aws acm list-certificates).'),
        )


def _engine_version(value: Any) -> Iterator[Finding]:
    # Before 15, RDS takes connections without TLS unless a parameter group forbids it (rds.force_ssl).
    if not isinstance(value, str) or not re.fullmatch(r"1[5-9](\.[0-9]+)?", value):
        yield "it is not a version of PostgreSQL that this project knows.", 'a major version in quotes, "15" to "19".'


def _office_hours(value: Any) -> Iterator[Finding]:
    choices = (
        "{} for always; or start, stop and timezone (e.g. Europe/Berlin). Times are cron(MINUTE HOUR DAY MONTH WEEKDAY "
        "YEAR), e.g. cron(0 7 ? * MON-FRI *): one of DAY and WEEKDAY is ?, MINUTE and HOUR are numbers, from "
        f"{_clock(OFFICE_LEAD)} to {_clock(DAY_MINUTES - OFFICE_LEAD - 1)}, because what is slow starts {OFFICE_LEAD} "
        "minutes before and stops as long after."
    )
    if not isinstance(value, Mapping):
        yield "it is not a mapping.", choices
        return
    if not value:
        return
    if wrong := sorted(map(str, {*value} ^ {*OFFICE_HOURS_KEYS})):
        yield f"its keys are not {', '.join(OFFICE_HOURS_KEYS)} (missing or unknown: {', '.join(wrong)}).", choices
        return
    for key in ("start", "stop"):
        if problem := _cron_problem(str(value[key])):
            yield f"{key} {value[key]!r} {problem}", choices
    if value["start"] == value["stop"]:
        yield "it stops when it starts.", choices
    known = zoneinfo.available_timezones()
    # A machine without a time zone database knows none.
    if known and value["timezone"] not in known:
        yield f"the time zone {value['timezone']!r} is not known.", choices


def _repositories(value: Any) -> Iterator[Finding]:
    choices = (
        "{} for none; or name -> locations (a list of names), and where its pipeline is: github "
        "(organization/repository) or gitlab (group/project), e.g. {finance: {locations: [finance], github: "
        "your-organization/finance}}."
    )
    if not isinstance(value, Mapping):
        yield "it is not a mapping.", choices
        return
    owners: dict[str, str] = {}
    for name, entry in value.items():
        locations = entry.get("locations") if isinstance(entry, Mapping) else None
        if not locations or not isinstance(locations, list) or {*entry} - {"locations", "github", "gitlab"}:
            yield f"{name} has no list of locations, or something else than locations, github, gitlab.", choices
            continue
        try:
            for location in [validate_repository_name(str(name)) and str(each) for each in locations]:
                validate_location_name(location)
                if location in owners:
                    yield f"the location {location!r} belongs to {owners[location]} and to {name}.", choices
                owners[location] = str(name)
        except ManifestError as error:
            yield f"{error}.", choices
        for key in ("github", "gitlab"):
            if key in entry and not re.fullmatch(r"[\w.-]+(/[\w.-]+)+", str(entry[key])):
                yield f"{key} {entry[key]!r} of {name} is not the path of a repository.", choices


def _cron_problem(text: str) -> str:
    """Return what is wrong with a cron expression, as a clause; "Schedule types in EventBridge Scheduler"."""
    found = re.fullmatch(r"cron\((\S+) (\S+) (\S+) (\S+) (\S+) (\S+)\)", text)
    if not found:
        return "is not cron(…) with six fields."
    minute, hour, day, month, weekday, year = found.groups()
    if not (re.fullmatch("[0-9]{1,2}", minute) and re.fullmatch("[0-9]{1,2}", hour)):
        return "has a minute or an hour that is not one number."
    at = int(hour) * 60 + int(minute)
    if int(minute) > 59 or not OFFICE_LEAD <= at < DAY_MINUTES - OFFICE_LEAD:
        return "is not at a time of day that can be used."
    if (day == "?") == (weekday == "?"):
        return "has not exactly one ? among day and weekday."
    fields = ((day, "[0-9LW]+"), (month, "[0-9]+|[A-Z]{3}"), (weekday, "[0-9L]+|[A-Z]{3}L?"), (year, "[0-9]{4}"))
    for field, item in fields:
        one = rf"(\*|({item})([-#]({item}))?)(/[0-9]+)?"
        if field != "?" and not re.fullmatch(rf"{one}(,{one})*", field):
            return f"has a field that EventBridge Scheduler does not take: {field}."
    return ""


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


SINGLE_CHECKS: dict[str, Callable[[Any], Iterator[Finding]]] = {
    "name_prefix": _name_prefix,
    "deployment_environment": _one_of(ENVIRONMENTS),
    "resource_tags": _tags,
    "aws_region": _region,
    "aws_account_id": _account_id,
    "network_egress": _one_of(EGRESS),
    "vpc_existing_id": _resource_id("vpc", "aws ec2 describe-vpcs"),
    "vpc_existing_public_subnet_ids": _subnet_ids,
    "vpc_existing_private_subnet_ids": _subnet_ids,
    "load_balancer": _yes_or_no,
    "ui_authentication": _one_of(AUTHENTICATION),
    "ui_oidc": _mapping_of(OIDC_KEYS),
    "ui_cognito": _mapping_of(COGNITO_KEYS),
    "ecs_exec": _yes_or_no,
    "rds_existing_instance": _database_identifier,
    "s3_existing_bucket": _yes_or_no,
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
    "alarms_enabled": _yes_or_no,
    "alarm_emails": _mail_addresses,
    "alarm_webhooks": _webhooks,
    "office_hours": _office_hours,
    "dags_repositories": _repositories,
    "budget_monthly_usd": _amount('"" for no budget, 0 to remove the one that is there'),
    "budget_email": _mail_address,
    "budget_sns_topic_arn": _topic,
    "cost_limit_usd": _amount("0 for no limit"),
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
    """Dagster has no log-in of its own: whoever reaches the UI can run code with the task's role."""
    cidrs = settings.get("ui_allowed_cidrs")
    networks = [_network(item) for item in cidrs] if isinstance(cidrs, list) else []
    guarded = (
        bool(settings.get("ui_certificate_arn"))
        and settings.get("ui_authentication") in ("oidc", "cognito")
        and _boolean(settings.get("load_balancer")) is True
    )
    if _open_to_the_internet([network for network in networks if network is not None]) and not guarded:
        yield Problem(
            "ui_allowed_cidrs",
            cidrs,
            "Dagster has no log-in of its own: everybody on the internet, or in a large part of it, could run code "
            "with the task's role.",
            "the ranges of your office or VPN; or everybody, once ui_certificate_arn and ui_authentication are set.",
        )
    if settings.get("ui_access") == "public" and not guarded:
        missing = [
            text
            for text, there in (
                ("load_balancer: true", _boolean(settings.get("load_balancer")) is True),
                ("a certificate (ui_certificate_arn)", bool(settings.get("ui_certificate_arn"))),
                ("a log-in (ui_authentication: oidc or cognito)", settings.get("ui_authentication") != "none"),
            )
            if not there
        ]
        yield Problem(
            "ui_access",
            "public",
            "Dagster has no log-in of its own, and whoever reaches the UI can run code with the task's role. "
            f"What a public UI lacks here: {', '.join(missing)}.",
            "internal, reached over a VPN, peering or a Session Manager port forwarding; or public with all of these.",
        )


def _open_to_the_internet(networks: Sequence[ipaddress.IPv4Network]) -> bool:
    """Tell whether public ranges together, however they are split, hold more than any owner has: more than a /8."""
    public = [network for network in networks if not any(network.subnet_of(private) for private in PRIVATE_RANGES)]
    return sum(network.num_addresses for network in ipaddress.collapse_addresses(public)) > 2**24


def _without_load_balancer(settings: Mapping[str, Any]) -> Iterator[Problem]:
    """Without a load balancer browsers talk plain HTTP to the task itself."""
    if _boolean(settings.get("load_balancer")) is not False:
        return
    cidrs = settings.get("ui_allowed_cidrs")
    networks = [_network(item) for item in cidrs] if isinstance(cidrs, list) else []
    public = [
        str(network)
        for network in networks
        if network is not None and not any(network.subnet_of(private) for private in PRIVATE_RANGES)
    ]
    if public:
        yield Problem(
            "ui_allowed_cidrs",
            cidrs,
            f"without a load balancer there is no TLS, so {', '.join(public)} would send everything in clear text over "
            "the internet.",
            "private ranges (VPN, peering, the VPC itself), or load_balancer: true.",
        )
    if settings.get("ui_authentication") in ("oidc", "cognito"):
        yield Problem(
            "ui_authentication",
            settings["ui_authentication"],
            "it is the load balancer that asks for a log-in, and load_balancer is false.",
            "none, or load_balancer: true.",
        )


def _log_in(settings: Mapping[str, Any]) -> Iterator[Problem]:
    """The listener's rules as in the Elastic Load Balancing user guide, "Authenticate users"."""
    kind = settings.get("ui_authentication")
    if kind not in ("oidc", "cognito"):
        return
    if not settings.get("ui_certificate_arn"):
        yield Problem(
            "ui_certificate_arn",
            "",
            f"ui_authentication is {kind}, and load balancers ask for a log-in over HTTPS only.",
            "the ARN of a certificate in ACM (aws acm list-certificates).",
        )
    egress = settings.get("network_egress")
    if settings.get("ui_access") == "internal" and egress in ("vpc_endpoints", "public_ip"):
        yield Problem(
            "ui_authentication",
            kind,
            f"the load balancer must reach the identity provider, and with network_egress {egress} nothing leads from "
            "private subnets to the internet.",
            "none; or network_egress nat_instance or nat_gateway; or ui_access public.",
        )
    name, needed = ("ui_oidc", OIDC_KEYS) if kind == "oidc" else ("ui_cognito", COGNITO_KEYS)
    value = settings.get(name)
    if not isinstance(value, Mapping):
        return
    missing = [key for key in needed if not value.get(key) and key != "scope"]
    if missing:
        yield Problem(
            name,
            dict(value),
            f"ui_authentication is {kind}, which needs {', '.join(missing)}.",
            "see inventories/example.",
        )
    for key in ("issuer", "authorization_endpoint", "token_endpoint", "user_info_endpoint"):
        if value.get(key) and not re.fullmatch(r"https://[^\s/]+(/\S*)?", str(value[key])):
            yield Problem(
                f"{name}.{key}",
                value[key],
                "it is not an https:// address.",
                "what your identity provider's /.well-known/openid-configuration says.",
            )
    pool = value.get("user_pool_arn")
    if pool and not re.fullmatch(r"arn:aws[a-z-]*:cognito-idp:[a-z0-9-]+:[0-9]{12}:userpool/[\w-]+", str(pool)):
        yield Problem(
            f"{name}.user_pool_arn",
            pool,
            "it is not the ARN of a user pool.",
            "arn:aws:cognito-idp:REGION:ACCOUNT:userpool/ID (aws cognito-idp list-user-pools --max-results 20).",
        )


def _certificate_is_here(settings: Mapping[str, Any]) -> Iterator[Problem]:
    parts = str(settings.get("ui_certificate_arn") or "").split(":")
    if len(parts) != 6:
        return
    for name, part in (("aws_region", parts[3]), ("aws_account_id", parts[4])):
        if settings.get(name) and settings[name] != part:
            yield Problem(
                "ui_certificate_arn",
                settings["ui_certificate_arn"],
                f"load balancers use certificates of their own region and account only, and {name} is "
                f"{settings[name]}.",
                "a certificate requested there (aws acm request-certificate).",
            )


def _adopted_network(settings: Mapping[str, Any]) -> Iterator[Problem]:
    names = ("vpc_existing_public_subnet_ids", "vpc_existing_private_subnet_ids")
    public, private = (settings.get(name) or [] for name in names)
    egress = settings.get("network_egress")
    if (public or private) and not settings.get("vpc_existing_id"):
        yield Problem(
            "vpc_existing_id",
            settings.get("vpc_existing_id"),
            "subnets are given, but not the VPC that they lie in.",
            "the id of that VPC.",
        )
    if public and not private:
        yield Problem(
            names[1],
            private,
            "the database and the file system need private subnets too.",
            "two or more private subnets of the same VPC.",
        )
    if private and not public and (egress == "public_ip" or settings.get("ui_access") == "public"):
        yield Problem(
            names[0],
            public,
            "tasks with public addresses, and a public load balancer, need public subnets.",
            "two or more public subnets of the same VPC; or another network_egress and ui_access internal.",
        )
    if private and egress in ("nat_instance", "nat_gateway"):
        yield Problem(
            "network_egress",
            egress,
            "the subnets are yours, and their routes are not changed.",
            "existing (whatever their routes lead to), vpc_endpoints or public_ip.",
        )
    if egress == "existing" and not private:
        yield Problem(
            "network_egress",
            egress,
            "the platform makes its own subnets, which have no way out yet.",
            "nat_instance, nat_gateway, vpc_endpoints or public_ip; or name subnets of yours.",
        )


def _adopted_database(settings: Mapping[str, Any]) -> Iterator[Problem]:
    instance, secret = settings.get("rds_existing_instance"), settings.get("rds_existing_secret")
    if bool(instance) != bool(secret):
        missing, given = (
            ("rds_existing_secret", "rds_existing_instance")
            if instance
            else ("rds_existing_instance", "rds_existing_secret")
        )
        yield Problem(
            missing,
            settings.get(missing),
            f"{given} is {settings[given]!r}, and one is of no use without the other.",
            'the identifier of the instance, and the secret with username and password for it; or "" for both.',
        )


def _budget_tells_somebody(settings: Mapping[str, Any]) -> Iterator[Problem]:
    amount = str(settings.get("budget_monthly_usd", ""))
    told = settings.get("budget_email") or settings.get("budget_sns_topic_arn")
    if re.search("[1-9]", amount) and not told:
        yield Problem(
            "budget_email",
            settings.get("budget_email"),
            f"budget_monthly_usd is {amount}, and nobody would be told when it is spent.",
            "a mail address, or the ARN of an SNS topic in budget_sns_topic_arn.",
        )


def _subnets_in_vpc(settings: Mapping[str, Any]) -> Iterator[Problem]:
    if settings.get("vpc_existing_private_subnet_ids"):
        return
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
    _without_load_balancer,
    _log_in,
    _certificate_is_here,
    _adopted_network,
    _adopted_database,
    _budget_tells_somebody,
    _subnets_in_vpc,
    _storage_limit,
    _local_means_loopback,
)


def missing_image(settings: Mapping[str, Any]) -> list[Problem]:
    """Return a problem if services are to be made without an image: found late, by a rollout that never completes.

    The embedded default runs the container program without one.
    """
    if settings.get("ecs_image") or settings.get("deployment_environment") == "local":
        return []
    return [
        Problem(
            "ecs_image",
            None,
            "the services would have nothing to run.",
            "the image that you pushed, by its digest: ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME@sha256:…; "
            "`ansible-playbook site.yml --tags ecr` makes the repository first, and docs/first-deployment.md shows how "
            "to build and push.",
        )
    ]


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


def _boolean(value: Any) -> bool | None:
    """Return a truth value, also from a string as -e gives it; None for anything else."""
    if isinstance(value, bool):
        return value
    return {"true": True, "yes": True, "false": False, "no": False}.get(str(value).lower())


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
