"""The prices of aws_prices.yml as AWS's Price List API has them: what to ask for each, and which answer counts.

Written after the API's documentation (AWS Billing user guide, "Using the AWS Price List Query API") and after what
other tools ask for; it was never run against AWS. Whatever is not found, or is found twice with different prices, is
told, and then nothing is written.
"""

from __future__ import annotations

import copy
import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

ENDPOINT_REGION = "us-east-1"
"""The API is offered in a few regions, and has the prices of all."""
ORIGIN = "AWS Price List API, GetProducts"
PREFIX = r"(?:[A-Z]+[0-9]*-)?"
"""Of usage types: those of us-east-1 have none, or USE1-; others APS2-, EU-, EUC1-."""

KEPT = (("fargate", "storage_included_gb"), ("fargate", "spot_share"), ("cloudwatch", "insights_metric_month"))
"""What is no price on demand, or has none of its own in the API: stays as it is in the file."""


@dataclass(frozen=True)
class Query:
    """How one price is asked for."""

    path: tuple[str, ...]
    """Where it stands in a region of the file."""
    service: str
    usage: str
    """Regular expression of the usage type, without the prefix of the region."""
    filters: Mapping[str, str] = field(default_factory=dict)
    """Further attributes; the region is always asked for."""
    per: float = 1.0
    """How many units of the API the file's price is for."""
    region_field: str = "regionCode"

    def request(self, region: str) -> dict[str, Any]:
        """Return the parameters of GetProducts."""
        wanted = {self.region_field: region, **self.filters}
        return {
            "ServiceCode": self.service,
            "FormatVersion": "aws_v1",
            "Filters": [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in wanted.items()],
        }


def _fargate(name: str, usage: str, *path: str) -> Query:
    return Query(("fargate", *path, name), "AmazonECS", usage, {"productFamily": "Compute"})


FIXED: tuple[Query, ...] = (
    _fargate("vcpu_hour", "Fargate-ARM-vCPU-Hours:perCPU", "ARM64"),
    _fargate("gb_hour", "Fargate-ARM-GB-Hours", "ARM64"),
    _fargate("vcpu_hour", "Fargate-vCPU-Hours:perCPU", "X86_64"),
    _fargate("gb_hour", "Fargate-GB-Hours", "X86_64"),
    Query(("fargate", "storage_gb_hour"), "AmazonECS", "Fargate-EphemeralStorage-GB-Hours"),
    Query(("ebs", "gp3_gb_month"), "AmazonEC2", r"EBS:VolumeUsage\.gp3", {"volumeApiName": "gp3"}),
    Query(("public_ipv4", "hour"), "AmazonVPC", "PublicIPv4:InUseAddress"),
    Query(("nat_gateway", "hour"), "AmazonEC2", "NatGateway-Hours", {"productFamily": "NAT Gateway"}),
    Query(("nat_gateway", "gb"), "AmazonEC2", "NatGateway-Bytes", {"productFamily": "NAT Gateway"}),
    Query(("interface_endpoint", "hour"), "AmazonVPC", "VpcEndpoint-Hours", {"productFamily": "VpcEndpoint"}),
    Query(("interface_endpoint", "gb"), "AmazonVPC", "VpcEndpoint-Bytes", {"productFamily": "VpcEndpoint"}),
    Query(
        ("data_transfer", "internet_gb"),
        "AWSDataTransfer",
        "DataTransfer-Out-Bytes",
        {"transferType": "AWS Outbound", "toLocation": "External"},
        region_field="fromRegionCode",
    ),
    Query(("load_balancer", "hour"), "AWSELB", "LoadBalancerUsage", {"productFamily": "Load Balancer-Application"}),
    Query(
        ("load_balancer", "capacity_unit_hour"), "AWSELB", "LCUUsage", {"productFamily": "Load Balancer-Application"}
    ),
    Query(
        ("rds", "storage_gb_month", "gp2"),
        "AmazonRDS",
        "RDS:GP2-Storage",
        {"productFamily": "Database Storage", "databaseEngine": "PostgreSQL", "deploymentOption": "Single-AZ"},
    ),
    Query(
        ("rds", "storage_gb_month", "gp3"),
        "AmazonRDS",
        "RDS:GP3-Storage",
        {"productFamily": "Database Storage", "databaseEngine": "PostgreSQL", "deploymentOption": "Single-AZ"},
    ),
    Query(
        ("rds", "backup_gb_month"),
        "AmazonRDS",
        "RDS:ChargedBackupUsage",
        {"productFamily": "Storage Snapshot", "databaseEngine": "PostgreSQL"},
    ),
    Query(("secret", "month"), "AWSSecretsManager", "AWSSecretsManager-Secrets?"),
    Query(("secret", "calls_10000"), "AWSSecretsManager", "AWSSecretsManager-?APIRequests?", per=10_000),
    Query(("s3", "gb_month"), "AmazonS3", "TimedStorage-ByteHrs", {"volumeType": "Standard"}),
    Query(("s3", "get_1000"), "AmazonS3", "Requests-Tier2", per=1_000),
    Query(("s3", "put_or_list_1000"), "AmazonS3", "Requests-Tier1", per=1_000),
    Query(("efs", "gb_month"), "AmazonEFS", "TimedStorage-ByteHrs"),
    Query(("efs", "infrequent_gb_month"), "AmazonEFS", "IATimedStorage-ByteHrs"),
    Query(("ecr", "gb_month"), "AmazonECR", "TimedStorage-ByteHrs"),
    Query(("cloudwatch", "alarm_month"), "AmazonCloudWatch", "CW:AlarmMonitorUsage"),
    Query(("cloudwatch", "dashboard_month"), "AmazonCloudWatch", "DashboardsUsageHour"),
    Query(("cloudwatch", "metric_month"), "AmazonCloudWatch", "CW:MetricMonitorUsage"),
    Query(("cloudwatch", "logs_gb"), "AmazonCloudWatch", "DataProcessing-Bytes"),
    Query(("cloudwatch", "logs_gb_month"), "AmazonCloudWatch", "TimedStorage-ByteHrs"),
    Query(("sns", "mails_1000"), "AmazonSNS", "DeliveryAttempts-SMTP", per=1_000),
    Query(("sns", "webhook_calls_1000"), "AmazonSNS", "DeliveryAttempts-HTTP", per=1_000),
)
"""What may be asked for; `queries` takes what a region of the file has."""


def queries(region: Mapping[str, Any]) -> list[Query]:
    """Return what to ask for a region of the file: it lists the types of instances that it wants to know."""
    return [
        *(query for query in FIXED if _has(region, query.path)),
        *(
            Query(
                ("ec2", "instance_hour", name),
                "AmazonEC2",
                f"BoxUsage:{re.escape(name)}",
                {
                    "instanceType": name,
                    "operatingSystem": "Linux",
                    "tenancy": "Shared",
                    "preInstalledSw": "NA",
                    "capacitystatus": "Used",
                },
            )
            for name in region["ec2"]["instance_hour"]
        ),
        *(
            Query(
                ("rds", "instance_hour", name),
                "AmazonRDS",
                f"InstanceUsage:{re.escape(name)}",
                {
                    "instanceType": name,
                    "databaseEngine": "PostgreSQL",
                    "deploymentOption": "Single-AZ",
                    "licenseModel": "No license required",
                },
            )
            for name in region["rds"]["instance_hour"]
        ),
    ]


def amounts(query: Query, products: Iterable[str]) -> set[float]:
    """Return the prices on demand of those products, JSON texts of the API, that the query means.

    Where the price depends on the amount, it is that of the first units which are not free.
    """
    found = set()
    for text in products:
        item = json.loads(text)
        usage = item["product"]["attributes"].get("usagetype", "")
        if not re.fullmatch(PREFIX + query.usage, usage):
            continue
        for term in item.get("terms", {}).get("OnDemand", {}).values():
            steps = sorted(term["priceDimensions"].values(), key=lambda step: float(step.get("beginRange", 0)))
            prices = [float(step["pricePerUnit"]["USD"]) for step in steps if "USD" in step["pricePerUnit"]]
            if charged := [price for price in prices if price > 0]:
                found.add(round(charged[0] * query.per, 10))
    return found


def fetch(client: Any, region: str, wanted: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the prices of a region in the form of `wanted`, a region of the file, and what is wrong."""
    result: dict[str, Any] = copy.deepcopy(dict(wanted))
    answers: dict[str, list[str]] = {}
    problems = []
    for query in queries(wanted):
        request = query.request(region)
        products = answers.get(key := json.dumps(request))
        if products is None:
            pages = client.get_paginator("get_products").paginate(**request)
            products = answers[key] = [text for page in pages for text in page["PriceList"]]
        found = amounts(query, products)
        if len(found) == 1:
            _put(result, query.path, found.pop())
            continue
        filters = ", ".join(f"{item['Field']}={item['Value']}" for item in request["Filters"])
        what = (
            f"{len(found)} different prices: {sorted(found)}" if found else f"no price among {len(products)} products"
        )
        problems.append(f"{'.'.join(query.path)}: {what} ({query.service}, {filters}, usage type {query.usage})")
    return result, problems


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[float | None]]:
    """Return path -> price before and after, of what is not the same."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    return {
        ".".join(path): [old.get(path), new.get(path)]
        for path in [*old, *(path for path in new if path not in old)]
        if old.get(path) != new.get(path)
    }


def rewritten(text: str, date: str, origin: str, regions: Mapping[str, Any]) -> str:
    """Return the text of the file with other values, and with everything else as it is: comments, order, layout.

    A region that the file does not have yet is added at its end, which is inside of `regions`.
    """
    root = yaml.compose(text)
    there = yaml.safe_load(text)["regions"]
    values: dict[tuple[str, ...], str] = {("date",): json.dumps(date), ("origin",): json.dumps(origin)}
    for name, prices in regions.items():
        if name in there:
            changed = {path: price for path, price in _leaves(prices) if price != float(_get(there[name], path))}
            values |= {("regions", name, *path): _number(price) for path, price in changed.items()}
    places = sorted(((_node(root, path), value) for path, value in values.items()), key=lambda item: -item[0][0])
    for (start, end), value in places:
        text = text[:start] + value + text[end:]
    new = {name: prices for name, prices in regions.items() if name not in there}
    if not new:
        return text
    added = yaml.safe_dump(new, sort_keys=False, width=120, default_flow_style=False)
    return text.rstrip("\n") + "\n" + textwrap.indent(added, "  ")


def _node(root: Any, path: tuple[str, ...]) -> tuple[int, int]:
    """Return where the value at a path begins and ends in the text."""
    node = root
    for key in path:
        node = next(value for name, value in node.value if name.value == key)
    return node.start_mark.index, node.end_mark.index


def _number(price: float) -> str:
    """Return a price as it is written: 0.10, 0.00356."""
    text = f"{price:.10f}".rstrip("0")
    whole, _, digits = text.partition(".")
    return f"{whole}.{digits:0<2}"


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, (*path, str(key)))
    else:
        yield path, float(value)


def _has(value: Any, path: tuple[str, ...]) -> bool:
    return path in dict(_leaves(value))


def _get(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _put(target: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        target = target.setdefault(key, {})
    target[path[-1]] = value
