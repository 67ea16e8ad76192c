"""What a platform costs a month: what is there, what is used, in its own topology and in the others, and who uses it.

For the controller only, like the prices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from .aws_alarms import METRICS_OF_CONTAINERS
from .aws_prices import ALARMS_PER_POLICY, PriceList, UnknownPrice, price_of, task_price
from .cost_resources import Platform, public_addresses, resources_of, service_settings, variants

FREE_TIER_FILE = Path(__file__).with_name("aws_free_tier.yml")
DAYS = 365 / 12
"""Of a month."""
UPLOAD_SECONDS = 30
"""upload_interval in templates/dagster.yaml.j2: while a step runs, what it prints goes to S3 so often."""
FILES_OF_A_STEP = 2
"""Standard output and standard error."""
FILES_OF_A_LISTING = 1000


@dataclass(frozen=True)
class Use:
    """What is done with a platform in a month. The defaults are guesses for a small team, to be replaced."""

    runs: float = 300
    run_minutes: float = 5
    run_steps: float = 5
    run_log_mb: float = 1
    """What a run writes to CloudWatch and, as the output of its steps, to S3; MB each."""
    task_log_gb: float = 0.1
    """What a task writes to CloudWatch by being there; GB."""
    extra_task_hours: float = 0
    """Hours for which the autoscaling runs webservers beyond the least number."""
    bucket_gb: float = 1
    bucket_files: float = 100
    """Files below dags/; only counts with dag_source: tree, where they are listed at each poll."""
    file_system_gb: float = 1
    image_gb: float = 1
    internet_gb: float = 1
    """What leaves for the internet, past the load balancer."""
    ui_gb: float = 1
    """What people download from the UI."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= getattr(self, field.name) < math.inf:
                raise ValueError(f"{field.name} is {getattr(self, field.name)!r}; it must be 0 or more.")


@dataclass(frozen=True)
class Context:
    """What the use of a platform depends on besides its topology."""

    poll_seconds: float
    tree: bool
    """Whether containers list the tree instead of reading a pointer."""
    retention_days: float


@dataclass(frozen=True)
class Line:
    """Something that is charged by use."""

    what: str
    quantity: float
    unit: str
    price: float
    """Of one unit."""
    free: str = ""
    """Key of `always` in the file with the free tier."""
    by_runs: bool = False
    """Whether it is runs that use it."""

    @property
    def monthly(self) -> float:
        """What it costs, without the free tier."""
        return self.quantity * self.price

    def saved(self, free: Mapping[str, float]) -> float:
        """Return what the free tier pays."""
        return min(self.quantity, float(free[self.free])) * self.price if self.free else 0.0


def load_free_tier() -> dict[str, Any]:
    """Return the file with the free tier."""
    content: dict[str, Any] = yaml.safe_load(FREE_TIER_FILE.read_text(encoding="utf-8"))
    return content


def usage_of_platform(platform: Platform, use: Use, context: Context, prices: PriceList) -> list[Line]:
    """Return what is charged by use in one topology."""
    tasks = platform.webservers[0] + 1
    polls = tasks * prices.hours * 3600 / context.poll_seconds / 1000
    run_gb = use.runs * use.run_log_mb / 1000
    logs = tasks * use.task_log_gb + run_gb
    uploads = use.runs * FILES_OF_A_STEP * (use.run_steps + use.run_minutes * 60 / UPLOAD_SECONDS) / 1000
    listings = math.ceil(use.bucket_files / FILES_OF_A_LISTING) or 1
    put, get = (prices.of("s3", name) for name in ("put_or_list_1000", "get_1000"))
    lines = [
        Line(
            "CloudWatch, metrics of the tasks",
            METRICS_OF_CONTAINERS,
            "metric",
            prices.of("cloudwatch", "metric_month"),
            "metrics",
        ),
        Line("CloudWatch Logs, taken in: tasks", tasks * use.task_log_gb, "GB", prices.of("cloudwatch", "logs_gb")),
        Line("CloudWatch Logs, taken in: runs", run_gb, "GB", prices.of("cloudwatch", "logs_gb"), by_runs=True),
        Line(
            f"CloudWatch Logs, kept {context.retention_days:g} days",
            logs * context.retention_days / DAYS,
            "GB",
            prices.of("cloudwatch", "logs_gb_month"),
            "logs_gb_month",
        ),
        Line("S3, listings of the tree", polls * listings, "1,000", put)
        if context.tree
        else Line("S3, looks at the pointer", polls, "1,000", get),
        Line("S3, output of steps", uploads, "1,000", put, by_runs=True),
        Line("S3, storage", use.bucket_gb + run_gb, "GB", prices.of("s3", "gb_month")),
        Line("EFS, storage", use.file_system_gb, "GB", prices.of("efs", "gb_month")),
        Line("ECR, images", use.image_gb, "GB", prices.of("ecr", "gb_month")),
        Line(
            "Transfer to the internet", use.internet_gb, "GB", prices.of("data_transfer", "internet_gb"), "internet_gb"
        ),
    ]
    if use.extra_task_hours:
        hourly = task_price(service_settings(platform), prices) / prices.hours
        lines.append(Line("Webservers beyond the least number", use.extra_task_hours, "hour", hourly))
    if platform.topology.egress == "nat_gateway":
        lines.append(Line("NAT gateway", use.internet_gb + logs, "GB", prices.of("nat_gateway", "gb")))
    if platform.topology.egress == "vpc_endpoints":
        lines.append(Line("VPC endpoints", logs, "GB", prices.of("interface_endpoint", "gb")))
    if platform.topology.access != "none":
        # One unit is 1 GB an hour, 25 new connections a second or 3,000 open ones, whatever is most.
        unit = prices.of("load_balancer", "capacity_unit_hour")
        lines.append(Line("Load balancer, capacity units", use.ui_gb, "hour", unit))
    return lines


def _saved(platform: Platform, lines: Sequence[Line], prices: PriceList, free: Mapping[str, float]) -> float:
    resources = resources_of(platform)
    alarms = ALARMS_PER_POLICY * sum(resource.kind == "scaling-policy" for resource in resources)
    alarms += sum(int(resource.settings["metrics"]) for resource in resources if resource.kind == "alarm")
    dashboards = sum(resource.kind == "dashboard" for resource in resources)
    # Both lines of what is taken in share one allowance.
    taken = [line for line in lines if line.what.startswith("CloudWatch Logs, taken in")]
    return float(
        min(alarms, free["alarms"]) * prices.of("cloudwatch", "alarm_month")
        + min(dashboards, free["dashboards"]) * prices.of("cloudwatch", "dashboard_month")
        + min(sum(line.quantity for line in taken), free["logs_gb"]) * prices.of("cloudwatch", "logs_gb")
        + sum(line.saved(free) for line in lines)
    )


def _totals(platform: Platform, lines: Sequence[Line], prices: PriceList, free: Mapping[str, float]) -> dict[str, Any]:
    growth, unknown = 0.0, []
    kinds: dict[str, float] = {}
    for resource in resources_of(platform):
        try:
            price = price_of(resource.kind, resource.settings, prices)
        except UnknownPrice as reason:
            unknown.append(f"{resource.kind} {resource.name}: {reason}")
            continue
        kinds[resource.kind] = kinds.get(resource.kind, 0.0) + price.monthly
        growth += price.growth
    there = sum(kinds.values())
    used = sum(line.monthly for line in lines)
    return {
        "kinds": kinds,
        "resources": there,
        "usage": used,
        "total": there + used,
        "at_limits": there + used + growth,
        "with_free_tier": there + used - _saved(platform, lines, prices, free),
        "public_ipv4": public_addresses(platform),
        "unknown": unknown,
    }


def estimate(
    platform: Platform,
    use: Use,
    context: Context,
    prices: PriceList,
    *,
    locations: Sequence[str] = (),
    repositories: Mapping[str, str] | None = None,
    location_runs: Mapping[str, float] | None = None,
    repository: str = "",
) -> dict[str, Any]:
    """Return the whole estimate as data; amounts are in `currency`, a month.

    Args:
        locations: code locations that the platform serves.
        repositories: location -> repository that it comes from, where that is not `repository`.
        location_runs: location -> its part of the runs; evenly if it is not given.
        repository: the inventory's tag of that name.
    """
    free_tier = load_free_tier()
    free: Mapping[str, float] = free_tier["always"]
    lines = usage_of_platform(platform, use, context, prices)
    totals = _totals(platform, lines, prices, free)
    resources = []
    for resource in resources_of(platform):
        try:
            price = asdict(price_of(resource.kind, resource.settings, prices))
        except UnknownPrice as reason:
            price = {"monthly": None, "growth": 0.0, "grown": "", "unknown": str(reason)}
        resources.append({"kind": resource.kind, "name": resource.name, **price})
    credits = free_tier["credits"]
    return {
        "topology": asdict(platform.topology),
        "currency": prices.currency,
        "prices": {"region": prices.region, "date": prices.date, "hours": prices.hours},
        "resources": resources,
        "usage": [
            {"what": line.what, "quantity": line.quantity, "unit": line.unit, "monthly": line.monthly} for line in lines
        ],
        "totals": totals,
        "topologies": [
            {
                **asdict(other.topology),
                "own": other.topology == platform.topology,
                **_totals(other, usage_of_platform(other, use, context, prices), prices, free),
            }
            for other in variants(platform)
        ],
        "free_tier": {
            "date": str(free_tier["date"]),
            "always": dict(free),
            "credits": [
                {"amount": amount, "months": amount / totals["with_free_tier"] if totals["with_free_tier"] else None}
                for amount in (credits["sign_up"], credits["sign_up"] + credits["earned"])
            ],
            "free_plan_months": credits["free_plan_months"],
        },
        "use": asdict(use),
        "repositories": split(
            totals["total"],
            lines,
            locations=locations,
            repositories=repositories or {},
            location_runs=location_runs or {},
            repository=repository,
        ),
    }


def split(
    total: float,
    lines: Sequence[Line],
    *,
    locations: Sequence[str],
    repositories: Mapping[str, str],
    location_runs: Mapping[str, float],
    repository: str,
) -> list[dict[str, Any]]:
    """Return each repository's part: of what runs use by its runs, of everything else by its number of locations.

    Each code location takes the same memory of every task, and everything else is shared.
    """
    if not locations:
        return []
    by_runs = sum(line.monthly for line in lines if line.by_runs)
    runs = {name: float(location_runs.get(name, 0 if location_runs else 1)) for name in locations}
    all_runs = sum(runs.values())
    parts: dict[str, dict[str, Any]] = {}
    for name in locations:
        owner = repositories.get(name) or repository
        part = parts.setdefault(owner, {"repository": owner, "locations": [], "monthly": 0.0})
        part["locations"].append(name)
        share = runs[name] / all_runs if all_runs else 1 / len(locations)
        part["monthly"] += (total - by_runs) / len(locations) + by_runs * share
    return [{**part, "share": part["monthly"] / total if total else 0.0} for _, part in sorted(parts.items())]


def running_at_once(use: Use) -> float:
    """Return how many runs are in progress on average."""
    return use.runs * use.run_minutes / (DAYS * 24 * 60)
