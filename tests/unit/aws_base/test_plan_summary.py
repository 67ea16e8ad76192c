"""The summary of a plan: one line per resource, what changes in it, and what that costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from module_utils.aws_plan import Plan
from module_utils.aws_prices import load_prices
from module_utils.plan_summary import local_changes, merge, summary

PRICES = load_prices("us-east-1")
SMALL, LARGE = (
    {"cpu": 256, "memory": memory, "architecture": "ARM64", "ephemeral_storage": 20} for memory in (512, 1024)
)
SERVICE: dict[str, Any] = {
    "size": SMALL,
    "capacityProviderStrategy": [{"capacityProvider": "FARGATE"}],
    "networkConfiguration": {"awsvpcConfiguration": {"assignPublicIp": "DISABLED"}},
    "desiredCount": 1,
}
DATABASE = {
    "DBInstanceClass": "db.t4g.micro",
    "AllocatedStorage": 20,
    "MaxAllocatedStorage": 20,
    "MultiAZ": False,
    "StorageType": "gp3",
}


def nothing(*_: object) -> str:
    raise AssertionError("acted in check mode")


@pytest.fixture
def plan() -> Plan:
    return Plan(check_mode=True)


def lines(plan: Plan, *, region: str = "us-east-1", would: bool = True, complete: bool = True) -> list[str]:
    return [line.text for line in summary(plan.changes, PRICES, region=region, would=would, complete=complete)]


def only(found: list[str], part: str) -> str:
    """Return the one line that holds `part`, with single spaces."""
    (line,) = [line for line in found if part in line]
    return " ".join(line.split())


def test_parts_of_one_resource_are_one_entry(plan: Plan) -> None:
    plan.create("s3-bucket", "x", {"region": "us-east-1"}, nothing)
    plan.ensure_tags("s3-bucket", "x", {}, {"owner": "me"}, nothing)
    plan.update("security-group", "web", {"inbound": []}, {"inbound": ["tcp 443"]}, nothing)
    plan.update("security-group", "web", {"outbound": []}, {"outbound": ["all"]}, nothing)
    plan.update("security-group", "other", {"outbound": []}, {"outbound": ["all"]}, nothing)
    entries = merge(plan.changes)
    assert [(entry.action, entry.name) for entry in entries] == [
        ("create", "x"),
        ("update", "web"),
        ("update", "other"),
    ]
    assert entries[1].after == {"inbound": ["tcp 443"], "outbound": ["all"]}


def test_a_removal_that_is_followed_by_a_creation_is_a_replacement(plan: Plan) -> None:
    plan.remove("iam-access-key", "x", {"id": "AKIA"}, nothing)
    plan.create("iam-access-key", "x", {"secret": "y"}, nothing)
    assert [entry.action for entry in merge(plan.changes)] == ["replace"]


def test_two_resources_of_one_name_stay_two(plan: Plan) -> None:
    for number in (1, 2):
        plan.remove("elastic-ip", "x-nat", {"address": f"192.0.2.{number}"}, nothing)
    found = lines(plan)
    assert "0 to create, 0 to change, 0 to replace, 2 to remove." in found
    assert only(found, "Price a month") == "Price a month: -7.30 USD."


def test_nothing_to_do_is_one_line(plan: Plan) -> None:
    assert lines(plan) == ["Nothing would change."]
    assert lines(plan, would=False) == ["Nothing was changed."]


def test_a_run_that_failed_does_not_say_that_nothing_would_change(plan: Plan) -> None:
    (line,) = lines(plan, complete=False)
    assert line.startswith("The run failed before its end")
    plan.create("secret", "x", {}, nothing)
    found = lines(plan, complete=False)
    assert found.index(line) < found.index("1 to create, 0 to change, 0 to replace, 0 to remove.")


def test_groups_signs_amounts_and_what_changes(plan: Plan) -> None:
    plan.create("elastic-ip", "x-nat", {}, nothing)
    plan.create("vpc", "x", {"cidr": "10.0.0.0/16"}, nothing)
    plan.update("rds-instance", "x", {"MultiAZ": False}, {"MultiAZ": True}, nothing, unchanged=DATABASE)
    plan.replace(
        "load-balancer",
        "x",
        {"Scheme": "internal", "Subnets": ["a", "b"]},
        {"Scheme": "internet-facing", "Subnets": ["c", "d"]},
        nothing,
    )
    plan.remove("nat-gateway", "x-nat", {"id": "nat-1"}, nothing)
    found = lines(plan)
    assert [line for line in found if line.endswith(")") and not line.startswith(" ")] == [
        "Create (2)",
        "Change (1)",
        "Replace (1)",
        "Remove (1)",
    ]
    assert only(found, "+ elastic-ip") == "+ elastic-ip x-nat +3.65"
    assert only(found, "+ vpc") == "+ vpc x"
    assert only(found, "~ rds-instance") == "~ rds-instance x +13.98"
    assert only(found, "MultiAZ") == "MultiAZ: false -> true"
    assert only(found, "! load-balancer") == "! load-balancer x +7.30"
    assert only(found, "Scheme") == "Scheme: internal -> internet-facing"
    assert only(found, "- nat-gateway") == "- nat-gateway x-nat -32.85"
    assert only(found, "Price a month") == "Price a month: -7.92 USD."
    assert only(found, "us-east-1") == (
        f"List prices of us-east-1, {PRICES.date}, 730 hours a month, without taxes, discounts and free tiers."
    )


def test_usage_is_listed_once_for_what_comes_and_not_for_what_goes(plan: Plan) -> None:
    for name in ("/ecs/x/webserver", "/ecs/x/daemon"):
        plan.create("log-group", name, {}, nothing)
    plan.remove("s3-bucket", "x", {}, nothing)
    found = lines(plan)
    assert only(found, "log-group:") == (
        "log-group: 0.5 USD per GB taken in; 0.03 USD per GB and month kept; "
        "0.3 USD per metric and month of those in its lines"
    )
    assert not [line for line in found if "s3-bucket:" in line]
    assert "Price a month: the same as before." in found


def test_a_change_that_no_price_depends_on_costs_nothing_although_not_all_is_known(plan: Plan) -> None:
    plan.ensure_tags("rds-instance", "x", {}, {"owner": "me"}, nothing)
    plan.update("nat-instance", "x", {"source_dest_check": True}, {"source_dest_check": False}, nothing)
    found = lines(plan)
    assert "Price a month: the same as before." in found
    assert only(found, "tags.owner") == "tags.owner: (none) -> me"


def test_an_unknown_price_is_left_out_of_the_sum_and_named(plan: Plan) -> None:
    after = {"DBInstanceClass": "db.x9.large"}
    plan.update("rds-instance", "x", {"DBInstanceClass": "db.t4g.micro"}, after, nothing, unchanged=DATABASE)
    plan.create("secret", "x", {}, nothing)
    found = lines(plan)
    assert only(found, "~ rds-instance") == "~ rds-instance x ?"
    assert only(found, "Price a month") == "Price a month: +0.40 USD."
    assert only(found, "without rds") == "without rds-instance x: aws_prices.yml has no price of db.x9.large"


def test_a_region_without_prices_is_told(plan: Plan) -> None:
    plan.create("secret", "x", {}, nothing)
    assert "List prices of us-east-1 (there are none of eu-central-1, where prices differ)" in only(
        lines(plan, region="eu-central-1"), "List prices"
    )


def test_ids_that_are_not_known_yet_and_arns_are_short(plan: Plan) -> None:
    before = {"taskDefinition": "arn:aws:ecs:us-east-1:123456789012:task-definition/x-daemon:3"}
    plan.update("ecs-service", "daemon", before, {"taskDefinition": "pending:task-definition/x-daemon"}, nothing)
    plan.create("efs-mount-target", "pending:subnet/x-private-1", {}, nothing)
    found = lines(plan)
    assert only(found, "taskDefinition") == "taskDefinition: task-definition/x-daemon:3 -> x-daemon (new)"
    assert only(found, "efs-mount-target") == "+ efs-mount-target x-private-1 (new)"
    assert max(map(len, found)) < 140


# -- Autoscaling: what the service costs at least and at most ------------------------------------------------------

TARGET = "service/x/webserver"
EACH, MORE_MEMORY = 7.20875, 730 * 0.5 * 0.00356


def price(plan: Plan) -> str:
    return only(lines(plan), "Price a month").removeprefix("Price a month: ")


def test_a_new_service_costs_its_least_number_of_tasks_and_may_cost_more(plan: Plan) -> None:
    plan.create("ecs-service", "webserver", {**SERVICE, "desiredCount": 1}, nothing)
    plan.create("scalable-target", TARGET, {"MinCapacity": 1, "MaxCapacity": 2}, nothing)
    assert price(plan) == f"+{EACH:.2f} USD, at its limits +{2 * EACH:.2f} USD."
    found = only(lines(plan), "of that if")
    assert found == f"+{EACH:.2f} of that if ecs-service webserver grows to 2 tasks"


def test_another_size_counts_for_tasks_that_may_be_added_too(plan: Plan) -> None:
    limits = {"MinCapacity": 1, "MaxCapacity": 3}
    plan.update("ecs-service", "webserver", {"size": SMALL}, {"size": LARGE}, nothing, unchanged={**SERVICE, **limits})
    assert price(plan) == f"+{MORE_MEMORY:.2f} USD, at its limits +{3 * MORE_MEMORY:.2f} USD."


def test_limits_alone_are_priced_with_the_service_that_they_are_of(plan: Plan) -> None:
    unchanged = {**SERVICE, "MinCapacity": 1, "MaxCapacity": 2}
    plan.update("scalable-target", TARGET, {"MaxCapacity": 2}, {"MaxCapacity": 4}, nothing, unchanged=unchanged)
    assert price(plan) == f"+0.00 USD, at its limits +{2 * EACH:.2f} USD."


def test_size_and_limits_together_are_not_counted_twice(plan: Plan) -> None:
    limits = {"MinCapacity": 1, "MaxCapacity": 2}
    plan.update("ecs-service", "webserver", {"size": SMALL}, {"size": LARGE}, nothing, unchanged={**SERVICE, **limits})
    plan.update(
        "scalable-target", TARGET, {"MaxCapacity": 2}, {"MaxCapacity": 4}, nothing, unchanged={**SERVICE, **limits}
    )
    most = 4 * (EACH + MORE_MEMORY) - 2 * EACH
    assert price(plan) == f"+{MORE_MEMORY:.2f} USD, at its limits +{most:.2f} USD."


def test_autoscaling_that_is_put_back_costs_what_it_adds(plan: Plan) -> None:
    plan.create("scalable-target", TARGET, {"MinCapacity": 1, "MaxCapacity": 2}, nothing, unchanged=SERVICE)
    assert price(plan) == f"+0.00 USD, at its limits +{EACH:.2f} USD."


def test_a_removed_service_saves_its_tasks(plan: Plan) -> None:
    plan.remove("scalable-target", TARGET, {"MinCapacity": 1, "MaxCapacity": 2}, nothing)
    plan.remove("ecs-service", "webserver", {"desiredCount": 2}, nothing, unchanged=SERVICE)
    assert price(plan) == f"-{EACH:.2f} USD, at its limits -{2 * EACH:.2f} USD."


# -- Files on this machine -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "action", "name"),
    [
        (
            {"path": "build", "diff": {"before": {"state": "absent"}, "after": {"state": "directory"}}},
            "create",
            "build",
        ),
        (
            {"path": "build", "diff": {"before": {"state": "directory"}, "after": {"state": "absent"}}},
            "remove",
            "build",
        ),
        ({"diff": [{"before": "", "after": "text"}]}, "create", "Render it"),
        # An empty one that comes, and an empty one that is filled.
        ({"diff": [{"before": "", "after": ""}]}, "create", "Render it"),
        ({"diff": [{"before": "", "before_header": "build/x", "after": "text"}]}, "update", "build/x"),
        # Too large to be compared, or not text.
        ({"diff": [{"dst_larger": 104448, "src_larger": 104448}]}, "update", "Render it"),
        ({"diff": [{"before": "", "src_binary": 1}]}, "create", "Render it"),
        ({"dest": "build/x", "diff": [{"before": "old", "after": "new"}, {}]}, "update", "build/x"),
        ({"dest": str(Path.cwd() / "roles/../build/x"), "diff": []}, "update", "build/x"),
        ({"dest": "/etc/x", "diff": []}, "update", "/etc/x"),
        ({"dest": "build/x", "diff": []}, "update", "build/x"),
    ],
)
def test_files_are_told_by_what_happens_to_them(answer: dict[str, Any], action: str, name: str) -> None:
    (change,) = local_changes("Render it", {"changed": True, **answer})
    assert (change["action"], change["kind"], change["name"]) == (action, "file", name)
    assert local_changes("Render it", {"changed": False, **answer}) == []
    assert any(name in line for line in (line.text for line in summary([change], PRICES, region="x", would=True)))
