"""The estimate of cost_estimate.py for people. For the controller only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from .cost_estimate import Use, running_at_once
from .cost_resources import ACCESS
from .report import table

COLUMNS = {"none": "no load balancer", "internal": "internal UI", "public": "public UI"}
"""Heading of each of ACCESS."""


def parts(data: Mapping[str, Any]) -> Sequence[RenderableType]:
    """Return the report."""
    currency, totals, free = data["currency"], data["totals"], data["free_tier"]
    addresses = totals["public_ipv4"]
    return [
        f"{data['platform']}, {data['region']}: about {totals['total']:.2f} {currency} a month, "
        f"{totals['with_free_tier']:.2f} with what is always free, at its limits {totals['at_limits']:.2f}.",
        *_notes(data),
        "",
        table(("resource", "name", f"{currency} a month", ""), _resources(data), right=(f"{currency} a month",)),
        "",
        table(
            ("by use", "quantity", "", f"{currency} a month"), _usage(data), right=("quantity", f"{currency} a month")
        ),
        "",
        f"The same settings with another way out, {currency} a month (* is this one), what is used included:",
        _side_by_side(data),
        "",
        f"And with another way in, {currency} a month (* is this one):",
        table(("network_egress", *COLUMNS.values()), _topologies(data), right=tuple(COLUMNS.values())),
        "",
        *_repositories(data),
        f"Public IPv4 addresses: {addresses}; they are in the prices of what has them.",
        "Always free, once an account: "
        + ", ".join(f"{amount:g} {_FREE[name]}" for name, amount in free["always"].items())
        + f" (as of {free['date']}).",
        *_credits(data),
        _where(data),
    ]


_FREE = {
    "alarms": "alarms",
    "metrics": "metrics",
    "dashboards": "dashboards",
    "logs_gb": "GB of logs taken in",
    "logs_gb_month": "GB of logs kept",
    "internet_gb": "GB to the internet",
}


def over_limit(data: Mapping[str, Any]) -> str:
    """Return why the estimate is refused; empty if it is not."""
    limit, total = data["limit"], data["totals"]["total"]
    if limit is None or round(total, 2) <= limit:
        return ""
    cheaper = min(data["topologies"], key=lambda other: float(other["total"]))
    return (
        f"The estimate is {total:.2f} {data['currency']} a month, and cost_limit_usd is {limit:g}. Raise the limit in "
        "the inventory, or look above for what to do without; the cheapest topology is network_egress "
        f"{cheaper['egress']} with {_access(cheaper['access'])}: {cheaper['total']:.2f}."
    )


def _access(access: str) -> str:
    return {
        "none": "load_balancer false",
        "internal": "ui_access internal",
        "public": "ui_access public",
    }[access]


def _notes(data: Mapping[str, Any]) -> list[str]:
    notes = []
    if data["local"]:
        notes.append(
            "Nothing of that is charged: this platform runs on this machine. It is what the same settings cost on AWS."
        )
    if unknown := data["totals"]["unknown"]:
        notes.append(f"Not in it, because the price is not known: {'; '.join(unknown)}.")
    at_once = running_at_once(Use(**data["use"]))
    if at_once > data["max_concurrent_runs"]:
        notes.append(
            f"These runs do not fit: {at_once:.1f} would run at once on average, and image_max_concurrent_runs is "
            f"{data['max_concurrent_runs']}. They would queue up; larger tasks cost more."
        )
    return notes


def _resources(data: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for resource in data["resources"]:
        known = resource["monthly"] is not None
        grown = f"+{resource['growth']:.2f} at {resource['grown']}" if resource["growth"] else ""
        rows.append(
            [
                resource["kind"],
                resource["name"],
                f"{resource['monthly']:.2f}" if known else "?",
                grown or resource.get("unknown", ""),
            ]
        )
    return [*rows, ["total", "", f"{data['totals']['resources']:.2f}", ""]]


def _usage(data: Mapping[str, Any]) -> list[list[str]]:
    rows = [[line["what"], f"{line['quantity']:.2f}", line["unit"], f"{line['monthly']:.2f}"] for line in data["usage"]]
    return [*rows, ["total", "", "", f"{data['totals']['usage']:.2f}"]]


def _topologies(data: Mapping[str, Any]) -> list[list[str | Text]]:
    cells: dict[str, dict[str, str | Text]] = {}
    for other in data["topologies"]:
        text = f"{other['total']:.2f}{' *' if other['own'] else '  '}"
        cells.setdefault(other["egress"], {})[other["access"]] = Text(text, style="bold") if other["own"] else text
    return [[egress, *(row[access] for access in ACCESS)] for egress, row in cells.items()]


def _side_by_side(data: Mapping[str, Any]) -> Table:
    """Return what each kind of resource costs with every way out, and the way in of this platform."""
    chosen = [other for other in data["topologies"] if other["access"] == data["topology"]["access"]]
    heading = [f"{other['egress']}{' *' if other['own'] else ''}" for other in chosen]
    kinds = list(dict.fromkeys(kind for other in chosen for kind in other["kinds"]))
    rows = [[kind, *(_money(other["kinds"].get(kind)) for other in chosen)] for kind in kinds]
    rows.append(["by use", *(_money(other["usage"]) for other in chosen)])
    rows.append(["total", *(_money(other["total"]) for other in chosen)])
    return table(("resource", *heading), rows, right=heading)


def _money(amount: float | None) -> str:
    return "-" if amount is None else f"{amount:.2f}"


def _repositories(data: Mapping[str, Any]) -> list[RenderableType]:
    if not data["repositories"]:
        return []
    heading = ("repository", "code locations", "part", f"{data['currency']} a month")
    rows = [
        [part["repository"], ", ".join(part["locations"]), f"{part['share']:.0%}", f"{part['monthly']:.2f}"]
        for part in data["repositories"]
    ]
    return [table(heading, rows, right=heading[2:]), ""]


def _credits(data: Mapping[str, Any]) -> list[str]:
    credits = [credit for credit in data["free_tier"]["credits"] if credit["months"] is not None]
    if not credits:
        return []
    lasting = ", ".join(
        f"{credit['amount']} {data['currency']} last {credit['months']:.1f} months" for credit in credits
    )
    return [
        f"Credits of an account opened since July 2025: {lasting}; the free plan ends after "
        f"{data['free_tier']['free_plan_months']} months at the latest."
    ]


def _where(data: Mapping[str, Any]) -> str:
    prices = data["prices"]
    elsewhere = (
        "" if prices["region"] == data["region"] else f" (there are none of {data['region']}, where prices differ)"
    )
    return (
        f"List prices of {prices['region']}{elsewhere}, {prices['date']}, {prices['hours']:g} hours a month, without "
        "taxes and discounts. What is used is assumed: docs/cost.md says how to put in your own figures."
    )
