"""Ansible action: show what a platform that hibernates still costs, and what happens to it meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_prices import PriceList, UnknownPrice, load_prices, price_of, usage_of  # noqa: E402
from ansible.module_utils.platform_action import Call, PlatformAction  # noqa: E402
from ansible.module_utils.report import show, table  # noqa: E402

ARGUMENTS: dict[str, dict[str, Any]] = {
    "platform": {"type": "str", "required": True},
    "region": {"type": "str", "required": True},
    "since": {"type": "str", "required": True},
    "resting": {"type": "list", "elements": "dict", "required": True},
    "wake": {"type": "str", "required": True},
}

BY_CONTENT = {
    "S3": "s3-bucket",
    "EFS": "efs-file-system",
    "ECR": "ecr-repository",
    "CloudWatch Logs": "log-group",
    "RDS": "rds-instance",
}
"""What is charged by what it holds."""

NOTES = {
    "rds-instance": (
        "AWS starts a stopped database again after seven days. A schedule stops it within the hour, each time; that "
        "hour is charged."
    ),
    "nat-instance": "The NAT instance gives its public address back; when it wakes it has another one.",
    "nat-gateway": "A NAT gateway cannot be stopped; network_egress: nat_instance could be.",
    "vpc-endpoint": "Endpoints cannot be stopped.",
    "load-balancer": "The load balancer stays, or the UI would have another address afterwards.",
}
"""What is to be known of the kinds that are there."""


class ActionModule(PlatformAction):  # type: ignore[misc]
    """The action ``hibernation_report``."""

    arguments = ARGUMENTS

    def perform(self, call: Call) -> dict[str, Any]:
        """Show the report and return the sum."""
        given = call.params
        prices = load_prices(given["region"])
        rows, monthly = priced(given["resting"], prices)
        rows.append(("together", f"{monthly:.2f}"))
        state = "would hibernate" if call.check_mode else f"hibernates since {given['since']}"
        begin = (
            f"The platform {given['platform']} {state}; all data is kept. Still charged a month ({prices.currency}, "
            f"list prices of {prices.region}, {prices.date}):"
        )
        notes = "\n".join(f"- {text}" for text in notes_of(given["resting"], prices))
        end = f"Wake it with: {given['wake']}"
        show({}, lambda: [begin, table(("", "a month"), rows, right=("a month",)), notes, end], "text")
        return {"changed": False, "monthly": monthly}


def priced(resting: Sequence[Mapping[str, Any]], prices: PriceList) -> tuple[list[tuple[str, str]], float]:
    """Return a row for each resource with its price, alike ones together, and the sum of those that are known."""
    amounts: dict[str, list[float]] = {}
    unknown = []
    for item in resting:
        try:
            amounts.setdefault(item["kind"], []).append(price_of(item["kind"], item["settings"], prices).monthly)
        except UnknownPrice as reason:
            unknown.append((f"{item['kind']} {item['name']}", f"not known: {reason}"))
    rows = [
        (f"{len(each)} {kind}" if len(each) > 1 else kind, f"{sum(each):.2f}")
        for kind, each in amounts.items()
        if sum(each)
    ]
    return rows + unknown, sum(sum(each) for each in amounts.values())


def notes_of(resting: Sequence[Mapping[str, Any]], prices: PriceList) -> list[str]:
    """Return what else is to be known."""
    kinds = {item["kind"] for item in resting}
    by_use = [
        f"{name} ({usage_of(kind, {}, prices)})" for name, kind in BY_CONTENT.items() if name != "RDS" or kind in kinds
    ]
    return [f"And by what they hold: {', '.join(by_use)}.", *(text for kind, text in NOTES.items() if kind in kinds)]
