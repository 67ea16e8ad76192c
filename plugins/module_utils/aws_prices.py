"""What the platform's resources cost a month, at the list prices of aws_prices.yml.

A resource is a kind and its settings, under the names that the modules record in their plan of changes. For the
controller only: the file with the prices does not travel with modules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).with_suffix(".yml")
DEFAULT_REGION = "us-east-1"

Settings = Mapping[str, Any]


class UnknownPrice(Exception):
    """A resource whose price is not in the file, or that lacks a setting which the price depends on."""


@dataclass(frozen=True)
class PriceList:
    """The prices of one region; amounts in `currency`."""

    region: str
    """Of which the prices are: `DEFAULT_REGION` where the file does not have the one that was asked for."""
    date: str
    currency: str
    hours: float
    """Hours of a month."""
    values: Mapping[str, Any]

    def of(self, *path: str) -> float:
        """Return one price of the file. Raise `UnknownPrice` if it is not there."""
        value: Any = self.values
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is None:
            raise UnknownPrice(f"{FILE.name} has no price of {path[-1]}")
        return float(value)

    def monthly(self, *path: str) -> float:
        """Return what one price of the file, which is for an hour, makes in a month."""
        return self.hours * self.of(*path)


def load_prices(region: str, file: Path = FILE) -> PriceList:
    """Return the list prices of `region`, or of `DEFAULT_REGION` if the file does not have it."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    found = region if region in content["regions"] else DEFAULT_REGION
    return PriceList(
        region=found,
        date=str(content["date"]),
        currency=str(content["currency"]),
        hours=float(content["hours_per_month"]),
        values=content["regions"][found],
    )


@dataclass(frozen=True)
class Price:
    """What a resource costs a month as long as nothing happens, and what it may grow to by itself."""

    monthly: float = 0.0
    growth: float = 0.0
    """What may be added a month: by the autoscaling, or as the database's storage fills."""
    grown: str = ""
    """What there is then."""


@dataclass(frozen=True)
class _Rule:
    """How one kind is priced, and from which settings: as long as these stay the same, its price does."""

    settings: frozenset[str]
    price: Callable[[Settings, PriceList], Price]


def price_of(kind: str, settings: Settings, prices: PriceList) -> Price:
    """Return the price of a resource; what is charged by use is not in it (`usage_of`).

    Raise `UnknownPrice` if the file does not have it, or if `settings` are not complete.
    """
    if kind in PRICED:
        try:
            return PRICED[kind].price(settings, prices)
        except KeyError as error:
            raise UnknownPrice(f"its {error.args[0]} is not known") from error
    if kind in FREE:
        return Price()
    raise UnknownPrice(f"{FILE.name} has no price of {kind}")


def settings_with_price(kind: str) -> frozenset[str]:
    """Return the names of the settings that the price of a kind depends on."""
    return PRICED[kind].settings if kind in PRICED else frozenset()


def usage_of(kind: str, settings: Settings, prices: PriceList) -> str:
    """Return what is charged by use on top of the price, as a phrase; empty if nothing is."""
    if kind == "vpc-endpoint" and settings.get("type") != "Interface":
        return ""
    if kind == "ecs-cluster" and settings.get("containerInsights", "disabled") == "disabled":
        return ""
    return "; ".join(f"{prices.of(*path):g} {prices.currency} {unit}" for path, unit in BY_USE.get(kind, {}).items())


def task_price(settings: Settings, prices: PriceList) -> float:
    """Return what one Fargate task costs that runs all month.

    `settings` are those of a service: `size` with cpu (units; 1024 are one vCPU), memory (MiB), architecture and
    ephemeral_storage (GiB); capacityProviderStrategy and networkConfiguration as in the API.
    """
    size = settings["size"] or {}
    vcpus, gigabytes = int(size["cpu"]) / 1024, int(size["memory"]) / 1024
    disk = max(0.0, int(size["ephemeral_storage"]) - prices.of("fargate", "storage_included_gb"))
    monthly = (
        vcpus * prices.monthly("fargate", size["architecture"], "vcpu_hour")
        + gigabytes * prices.monthly("fargate", size["architecture"], "gb_hour")
        + disk * prices.monthly("fargate", "storage_gb_hour")
    )
    if [item["capacityProvider"] for item in settings["capacityProviderStrategy"]] == ["FARGATE_SPOT"]:
        monthly *= prices.of("fargate", "spot_share")
    network = settings["networkConfiguration"]["awsvpcConfiguration"]
    return monthly + (prices.monthly("public_ipv4", "hour") if network["assignPublicIp"] == "ENABLED" else 0.0)


def _service(settings: Settings, prices: PriceList) -> Price:
    """Return the price of the desired number of tasks or, if the autoscaling moves that, of its limits."""
    tasks = int(settings["MinCapacity"] if "MaxCapacity" in settings else settings["desiredCount"])
    most = int(settings.get("MaxCapacity", tasks))
    if most == 0:
        return Price()
    each = task_price(settings, prices)
    return Price(tasks * each, max(0, most - tasks) * each, f"{most} tasks")


def _database(settings: Settings, prices: PriceList) -> Price:
    """A stopped one keeps its storage."""
    copies = 2 if settings["MultiAZ"] else 1
    gib = copies * prices.of("rds", "storage_gb_month", settings["StorageType"])
    stopped = settings.get("DBInstanceStatus") in ("stopping", "stopped")
    instance = 0.0 if stopped else copies * prices.monthly("rds", "instance_hour", settings["DBInstanceClass"])
    storage = int(settings["AllocatedStorage"])
    most = max(storage, int(settings["MaxAllocatedStorage"]))
    return Price(instance + gib * storage, gib * (most - storage), f"{most} GiB of storage")


def _load_balancer(settings: Settings, prices: PriceList) -> Price:
    addresses = len(settings["Subnets"]) if settings["Scheme"] == "internet-facing" else 0
    return Price(prices.monthly("load_balancer", "hour") + addresses * prices.monthly("public_ipv4", "hour"))


def _nat_instance(settings: Settings, prices: PriceList) -> Price:
    """A stopped one keeps its disk, but not its address."""
    disk = settings["volume_gib"] * prices.of("ebs", "gp3_gb_month")
    if settings["state"] not in ("pending", "running"):
        return Price(disk)
    instance = prices.monthly("ec2", "instance_hour", settings["instance_type"])
    return Price(disk + instance + prices.monthly("public_ipv4", "hour"))


def _endpoint(settings: Settings, prices: PriceList) -> Price:
    if settings["type"] != "Interface":
        return Price()
    return Price(len(settings["subnets"]) * prices.monthly("interface_endpoint", "hour"))


def _secret(settings: Settings, prices: PriceList) -> Price:
    return Price(0.0 if settings.get("scheduled_for_deletion") else prices.of("secret", "month"))


ALARMS_PER_POLICY = 2
"""The autoscaling makes one alarm to scale out and one to scale in."""

PRICED: dict[str, _Rule] = {
    # "Amazon CloudWatch Pricing": an alarm on an expression costs as much as one for each of its metrics.
    "alarm": _Rule(
        frozenset({"metrics"}),
        lambda settings, prices: Price(int(settings["metrics"]) * prices.of("cloudwatch", "alarm_month")),
    ),
    "dashboard": _Rule(frozenset(), lambda _, prices: Price(prices.of("cloudwatch", "dashboard_month"))),
    "ecs-service": _Rule(
        frozenset(
            {
                "size",
                "capacityProviderStrategy",
                "networkConfiguration",
                "desiredCount",
                "MinCapacity",
                "MaxCapacity",
            }
        ),
        _service,
    ),
    "elastic-ip": _Rule(frozenset(), lambda _, prices: Price(prices.monthly("public_ipv4", "hour"))),
    "load-balancer": _Rule(frozenset({"Scheme", "Subnets"}), _load_balancer),
    "nat-gateway": _Rule(frozenset(), lambda _, prices: Price(prices.monthly("nat_gateway", "hour"))),
    "nat-instance": _Rule(frozenset({"instance_type", "state", "volume_gib"}), _nat_instance),
    "rds-instance": _Rule(
        frozenset(
            {
                "DBInstanceClass",
                "AllocatedStorage",
                "MaxAllocatedStorage",
                "MultiAZ",
                "StorageType",
                "DBInstanceStatus",
            }
        ),
        _database,
    ),
    "scaling-policy": _Rule(
        frozenset(), lambda _, prices: Price(ALARMS_PER_POLICY * prices.of("cloudwatch", "alarm_month"))
    ),
    "secret": _Rule(frozenset({"scheduled_for_deletion"}), _secret),
    "vpc-endpoint": _Rule(frozenset({"type", "subnets"}), _endpoint),
}
"""Kinds that cost something by being there."""

BY_USE: dict[str, dict[tuple[str, ...], str]] = {
    "ecr-repository": {("ecr", "gb_month"): "per GB and month of images"},
    "ecs-cluster": {("cloudwatch", "insights_metric_month"): "and more per metric and month"},
    "efs-file-system": {
        ("efs", "gb_month"): "per GB and month",
        ("efs", "infrequent_gb_month"): "for what is not read",
    },
    "internet-gateway": {("data_transfer", "internet_gb"): "per GB that leaves for the internet"},
    "load-balancer": {("load_balancer", "capacity_unit_hour"): "per capacity unit and hour"},
    "log-group": {
        ("cloudwatch", "logs_gb"): "per GB taken in",
        ("cloudwatch", "logs_gb_month"): "per GB and month kept",
        ("cloudwatch", "metric_month"): "per metric and month of those in its lines",
    },
    "nat-gateway": {("nat_gateway", "gb"): "per GB through it"},
    "rds-instance": {("rds", "backup_gb_month"): "per GB and month of backups beyond the storage's size"},
    "rds-snapshot": {("rds", "backup_gb_month"): "per GB and month of backups beyond the storage's size"},
    "s3-bucket": {
        ("s3", "gb_month"): "per GB and month",
        ("s3", "get_1000"): "per 1,000 reads",
        ("s3", "put_or_list_1000"): "per 1,000 writes or listings",
    },
    "secret": {("secret", "calls_10000"): "per 10,000 reads"},
    "sns-topic": {
        ("sns", "mails_1000"): "per 1,000 mails",
        ("sns", "webhook_calls_1000"): "per 1,000 calls of a web address",
    },
    "vpc-endpoint": {("interface_endpoint", "gb"): "per GB through it"},
}
"""What is charged by use: prices of the file, and what of. Such kinds may have a price besides."""

FREE = frozenset(
    {
        "budget",
        "dynamodb-table",
        "ecr-repository",
        "ecs-cluster",
        "efs-access-point",
        "efs-file-system",
        "efs-mount-target",
        "file",
        "iam-access-key",
        "iam-role",
        "iam-user",
        "internet-gateway",
        "listener",
        "listener-rule",
        "log-group",
        "network-interface",
        "rds-snapshot",
        "rds-subnet-group",
        "route",
        "route-table",
        "s3-bucket",
        "scalable-target",
        "schedule",
        "schedule-group",
        "secret-version",
        "security-group",
        "sns-subscription",
        "sns-topic",
        "subnet",
        "target-group",
        "task-definition",
        "volume",
        "vpc",
    }
)
"""Kinds that cost nothing by being there, or that are in the price of another one: `volume` and `network-interface` in
that of the NAT instance, `scalable-target` in that of its service. A `file` is one on the user's machine."""
