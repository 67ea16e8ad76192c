"""The estimate of the shipped inventories, what it is made of, and what `make cost` says and refuses."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from module_utils.aws_prices import load_prices
from module_utils.cost_estimate import Context, Use, estimate, load_free_tier, usage_of_platform
from module_utils.cost_report import over_limit, parts
from module_utils.cost_resources import SETTINGS, Platform, Topology, platform_of, resources_of, variants
from module_utils.report import text_of
from tests.unit.ecs.rendering import renderer

ROOT = Path(__file__).resolve().parents[3]
PRICES = load_prices("us-east-1")
CONTEXT = Context(poll_seconds=10, tree=False, retention_days=30)


def load_action() -> ModuleType:
    """Import the action as Ansible does."""
    file = ROOT / "plugins" / "action" / "platform_cost.py"
    spec = importlib.util.spec_from_file_location("platform_cost_action", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


ACTION = load_action()
ARGUMENTS = {name: option.get("default") for name, option in ACTION.ARGUMENTS.items()}


def settings(inventory: str, **changes: Any) -> dict[str, Any]:
    """Return what the action reads of an inventory, as Ansible templates it."""
    found = renderer(inventory, with_facts=False)
    return {name: found.evaluate(name, **changes) for name in SETTINGS} | changes


@pytest.fixture(scope="module")
def example() -> Platform:
    return platform_of(settings("example"))


def in_topology(platform: Platform, egress: str, access: str) -> Platform:
    return replace(platform, topology=Topology(egress, access))


def total(platform: Platform, use: Use | None = None) -> float:
    return float(estimate(platform, use or Use(), CONTEXT, PRICES)["totals"]["total"])


# -- The check of CI ---------------------------------------------------------------------------------------------


def test_the_shipped_inventory_stays_below_its_own_limit() -> None:
    """Whoever changes a default, a size or a price that matters changes the limit too, in the open."""
    file = ROOT / "inventories" / "example" / "group_vars" / "all" / "cost.yml"
    inventory = yaml.safe_load(file.read_text(encoding="utf-8"))
    data = ACTION.cost_of(
        settings("example"),
        {
            **ARGUMENTS,
            "limit": float(inventory["cost_limit_usd"]),
            "runs": float(inventory["cost_runs_per_month"]),
            "run_minutes": float(inventory["cost_run_minutes"]),
        },
    )
    assert data["limit"] > 0
    assert over_limit(data) == ""
    assert data["totals"]["unknown"] == []


def test_above_the_limit_it_says_so_and_what_is_cheapest() -> None:
    data = ACTION.cost_of(settings("example"), {**ARGUMENTS, "limit": 50.0})
    message = over_limit(data)
    assert re.match(r"The estimate is 6\d\.\d\d USD a month, and cost_limit_usd is 50\. ", message)
    assert "the cheapest topology is network_egress public_ip with load_balancer false: 4" in message
    assert over_limit({**data, "limit": None}) == ""


# -- What it is made of ------------------------------------------------------------------------------------------


def test_amounts_of_the_example(example: Platform) -> None:
    """By hand, from the price pages; test_requests.py compares with what site.yml makes."""
    found = {resource["kind"]: 0.0 for resource in estimate(example, Use(), CONTEXT, PRICES)["resources"]}
    for resource in estimate(example, Use(), CONTEXT, PRICES)["resources"]:
        found[resource["kind"]] += resource["monthly"]
    assert {
        "ecs-service": pytest.approx(2 * 7.20875),
        "rds-instance": pytest.approx(11.68 + 2.3),
        "nat-instance": pytest.approx(3.066 + 3.65 + 0.64),
        "load-balancer": pytest.approx(16.425),
        "secret": pytest.approx(0.4),
        "scaling-policy": pytest.approx(0.4),
        "alarm": pytest.approx(2.4),
        "dashboard": pytest.approx(3.0),
    }.items() <= found.items()


def test_the_load_balancer_its_addresses_and_the_way_out_are_in_it(example: Platform) -> None:
    public = in_topology(example, "nat_gateway", "public")
    without = in_topology(example, "public_ip", "none")
    kinds = [resource.kind for resource in resources_of(public)]
    assert {"load-balancer", "nat-gateway", "elastic-ip"} <= set(kinds)
    # Both ways without the other one: 16.425 and two addresses; gateway and its address instead of one for each task.
    # Four metrics of alarms are of the load balancer.
    difference = 0.4 + 16.425 + 2 * 3.65 + 32.85 + 3.65 - 2 * 3.65
    there = [estimate(platform, Use(), CONTEXT, PRICES)["totals"] for platform in (public, without)]
    assert there[0]["resources"] - there[1]["resources"] == pytest.approx(difference)
    assert [totals["public_ipv4"] for totals in there] == [3, 2]


def test_every_topology_stands_beside_the_others(example: Platform) -> None:
    data = estimate(example, Use(), CONTEXT, PRICES)
    assert len(data["topologies"]) == 12
    (own,) = [other for other in data["topologies"] if other["own"]]
    assert own["total"] == data["totals"]["total"]
    for other, platform in zip(data["topologies"], variants(example), strict=True):
        assert other["total"] == pytest.approx(total(platform))
        assert other["resources"] == pytest.approx(sum(other["kinds"].values()))
    adopted = in_topology(example, "existing", "internal")
    assert {other.topology.egress for other in variants(adopted)} == {"existing", "vpc_endpoints", "public_ip"}


def test_settings_may_be_texts_as_the_command_line_gives_them() -> None:
    texts = settings("example", load_balancer="false", ecs_task_cpu="512", ecs_task_memory="1024", rds_multi_az="no")
    platform = platform_of(texts)
    assert platform.topology == Topology("nat_instance", "none")
    assert platform.task["cpu"] == 512
    assert platform.database is not None
    assert platform.database["MultiAZ"] is False


def test_adopted_resources_cost_nothing_here() -> None:
    adopted = platform_of(
        settings(
            "example",
            rds_existing_instance="warehouse",
            rds_existing_secret="warehouse/dagster",
            secrets_manager_existing_database_secret="warehouse/dagster",
        )
    )
    assert {"rds-instance", "secret"}.isdisjoint(resource.kind for resource in resources_of(adopted))


# -- Use ---------------------------------------------------------------------------------------------------------


def test_runs_add_logs_and_requests_and_no_processor(example: Platform) -> None:
    """1,000 runs of 10 minutes: 1 GB to CloudWatch, kept for a month, and 1 GB to S3; 50 uploads each."""
    use = Use(runs=1000, run_minutes=10, run_steps=5, run_log_mb=1)
    idle = replace(use, runs=0)
    expected = 0.50 + 30 / (365 / 12) * 0.03 + 0.023 + 1000 * 2 * (5 + 20) / 1000 * 0.005
    assert total(example, use) - total(example, idle) == pytest.approx(expected)
    # Longer runs upload more often.
    assert total(example, replace(use, run_minutes=20)) > total(example, use)
    extra = replace(idle, extra_task_hours=730)
    assert total(example, extra) - total(example, idle) == pytest.approx(7.20875)


def test_what_goes_through_a_gateway_or_an_endpoint_is_charged_there(example: Platform) -> None:
    use, more = Use(internet_gb=0), Use(internet_gb=200)
    for egress, price in (("nat_instance", 0.09), ("nat_gateway", 0.09 + 0.045), ("vpc_endpoints", 0.09)):
        platform = in_topology(example, egress, "none")
        assert total(platform, more) - total(platform, use) == pytest.approx(200 * price)


def test_listing_a_tree_costs_more_than_a_pointer(example: Platform) -> None:
    lines = [
        next(
            line
            for line in usage_of_platform(example, Use(), replace(CONTEXT, tree=tree), PRICES)
            if "S3, l" in line.what
        )
        for tree in (False, True)
    ]
    # As README and inventories say: 0.1 and 1.3 USD for each of two tasks.
    assert [round(line.monthly / 2, 1) for line in lines] == [0.1, 1.3]


def test_what_is_always_free_is_taken_off_once(example: Platform) -> None:
    """Ten alarms, ten metrics, a dashboard, 5 GB of logs taken in and kept, 100 GB to the internet."""
    use = Use(runs=0, task_log_gb=5, internet_gb=150)
    totals = estimate(example, use, CONTEXT, PRICES)["totals"]
    saved = 10 * 0.10 + 10 * 0.30 + 3.00 + 5 * 0.50 + 5 * 0.03 + 100 * 0.09
    assert totals["total"] - totals["with_free_tier"] == pytest.approx(saved)


def test_credits_last_some_months(example: Platform) -> None:
    data = estimate(example, Use(), CONTEXT, PRICES)
    assert [credit["amount"] for credit in data["free_tier"]["credits"]] == [100, 200]
    assert data["free_tier"]["credits"][0]["months"] == pytest.approx(100 / data["totals"]["with_free_tier"])


def test_the_free_tier_is_dated_and_sourced() -> None:
    free = load_free_tier()
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", free["date"])
    assert all(source.startswith("https://") for source in [*free["sources"], *free["official"]])


@pytest.mark.parametrize("value", [-1, float("inf"), float("nan")])
def test_use_that_cannot_be_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"runs is .* it must be 0 or more"):
        Use(runs=value)


# -- Who uses it -------------------------------------------------------------------------------------------------


def test_a_bill_is_split_by_locations_and_runs(example: Platform) -> None:
    data = estimate(
        example,
        Use(runs=1000),
        CONTEXT,
        PRICES,
        locations=["main", "sales", "risk"],
        repositories={"sales": "team/sales"},
        location_runs={"sales": 3, "main": 1},
        repository="team/platform",
    )
    platform, sales = data["repositories"]
    assert (platform["repository"], platform["locations"]) == ("team/platform", ["main", "risk"])
    assert (sales["repository"], sales["locations"]) == ("team/sales", ["sales"])
    assert platform["monthly"] + sales["monthly"] == pytest.approx(data["totals"]["total"])
    # 1 GB of logs and the uploads are by runs; everything else by locations.
    by_runs = 1000 * 1e-3 * 0.50 + 1000 * 2 * 15 / 1000 * 0.005
    assert sales["monthly"] == pytest.approx((data["totals"]["total"] - by_runs) / 3 + by_runs * 3 / 4)
    assert platform["share"] + sales["share"] == pytest.approx(1)


def test_without_code_locations_nothing_is_split(example: Platform) -> None:
    assert estimate(example, Use(), CONTEXT, PRICES)["repositories"] == []


# -- What is said ------------------------------------------------------------------------------------------------


def report(data: dict[str, Any]) -> str:
    return text_of(*parts(data), colour=False)


def test_the_local_platform_is_said_to_cost_nothing() -> None:
    shown = report(ACTION.cost_of(settings("local"), ARGUMENTS))
    assert "Nothing of that is charged: this platform runs on this machine." in shown
    assert "Nothing of that" not in report(ACTION.cost_of(settings("example"), ARGUMENTS))


def test_a_region_without_prices_and_a_class_without_one_are_said() -> None:
    data = ACTION.cost_of(settings("example", aws_region="eu-central-1", rds_instance_class="db.x2g.large"), ARGUMENTS)
    shown = report(data)
    assert "List prices of us-east-1 (there are none of eu-central-1, where prices differ)" in shown
    assert "Not in it, because the price is not known: rds-instance dagster-production: aws_prices.yml has no" in shown


def test_runs_that_do_not_fit_are_said() -> None:
    data = ACTION.cost_of(settings("example"), {**ARGUMENTS, "runs": 30000.0, "run_minutes": 10.0})
    assert "6.8 would run at once on average, and image_max_concurrent_runs is 2" in report(data)


def test_wrong_settings_are_told_and_placeholders_are_not() -> None:
    found = settings("example")
    assert ACTION.wrong_settings(found) == []
    (problem,) = ACTION.wrong_settings({**found, "ecs_task_memory": 700})
    assert problem.setting == "ecs_task_memory"
    (missing,) = ACTION.wrong_settings({name: value for name, value in found.items() if name != "rds_storage"})
    assert str(missing).startswith("rds_storage = (not set): it is missing")


# -- docs/cost.md ------------------------------------------------------------------------------------------------


def test_every_input_is_in_the_document() -> None:
    document = (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")
    playbook = (ROOT / "playbooks" / "cost.yml").read_text(encoding="utf-8")
    inputs = set(re.findall(r"\b(cost_\w+) \|", playbook))
    assert len(inputs) > 10
    assert sorted(name for name in inputs if f"`{name}`" not in document) == []


def test_the_table_of_topologies_in_the_document_is_the_estimate(example: Platform) -> None:
    document = (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", document, re.MULTILINE)
    data = estimate(example, Use(), CONTEXT, PRICES)
    wanted: dict[str, list[str]] = {}
    for other in data["topologies"]:
        wanted.setdefault(other["egress"], []).append(f"{other['total']:.1f}")
    assert {egress: list(amounts) for egress, *amounts in rows} == wanted


def test_the_seed_s_figures_in_the_document_add_up() -> None:
    """A row for each thing that the seed left out, and the sum of the true bill."""
    document = (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")
    section = document.split("## What the seed said")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([\d.]+) \|$", section, re.MULTILINE)
    amounts = {what.strip(): float(amount) for what, _, amount in rows}
    true = {
        "two Fargate tasks": 2 * 7.20875,
        "RDS db.t3.micro, 20 GB": 730 * 0.018 + 2.3,
        "load balancer": 16.425,
        "its two public addresses": 7.3,
        "NAT gateway and its address": 32.85 + 3.65,
        "secrets": 2 * 0.4,
        "alarms of the autoscaling": 0.4,
    }
    assert {what: amount for what, amount in amounts.items() if what in true} == {
        what: round(amount, 2) for what, amount in true.items()
    }
    assert amounts["sum"] == pytest.approx(round(sum(true.values()), 2), abs=0.02)
