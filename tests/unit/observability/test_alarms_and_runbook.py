"""Alarms and dashboard ask for metrics that exist, in every topology, and the runbook has an entry for every alarm."""

from __future__ import annotations

import copy
import itertools
import json
import re
from typing import Any

import botocore.session
import pytest
import yaml
from ansible.template import trust_as_template

from dagster_ecs_runtime import events
from module_utils.aws_alarms import METRICS_OF_CONTAINERS, alarm_metrics, dashboard_mark, parameters
from module_utils.aws_model import request_problems
from module_utils.aws_prices import load_prices, price_of
from tests.unit.ecs.rendering import REPOSITORY, renderer

EMITTED: dict[str, tuple[events.Metrics, tuple[str, ...]]] = {
    "release_state": (events.METRICS, events.DIMENSIONS),
    "platform_state": (events.PLATFORM_METRICS, events.PLATFORM_DIMENSIONS),
}
OF_AWS: dict[str, dict[str, set[tuple[str, ...]]]] = {
    # "CloudWatch metrics for your Application Load Balancer", Elastic Load Balancing user guide.
    "AWS/ApplicationELB": {
        "HTTPCode_ELB_5XX_Count": {("LoadBalancer",)},
        "HTTPCode_Target_5XX_Count": {("LoadBalancer", "TargetGroup")},
        "HealthyHostCount": {("LoadBalancer", "TargetGroup")},
        "TargetResponseTime": {("LoadBalancer", "TargetGroup")},
        "UnHealthyHostCount": {("LoadBalancer", "TargetGroup")},
    },
    # "Amazon ECS CloudWatch metrics", Amazon ECS developer guide.
    "AWS/ECS": {
        "CPUUtilization": {("ClusterName", "ServiceName")},
        "MemoryUtilization": {("ClusterName", "ServiceName")},
    },
    # "CloudWatch metrics for Amazon EFS", Amazon EFS user guide.
    "AWS/EFS": {"BurstCreditBalance": {("FileSystemId",)}},
    # "Amazon CloudWatch metrics for Amazon RDS", Amazon RDS user guide.
    "AWS/RDS": {
        name: {("DBInstanceIdentifier",)} for name in ("CPUUtilization", "DatabaseConnections", "FreeStorageSpace")
    },
}
"""Metrics and sets of dimensions that AWS documents."""

WITHOUT_BALANCER = {"load_balancer": False, "alb_arn": "", "alb_target_group_arn": ""}
INVENTORIES: dict[str, dict[str, Any]] = {
    "the example": {},
    "without a load balancer": WITHOUT_BALANCER,
    "with a database of yours": {"rds_existing_instance": "warehouse"},
    "before anything is there": {
        "alb_arn": "pending:load-balancer/x",
        "alb_target_group_arn": "pending:target-group/x",
        "efs_file_system_id": "pending:efs-file-system/x",
    },
}
RUNBOOK = (REPOSITORY / "docs" / "runbook.md").read_text(encoding="utf-8")


RENDERED: dict[tuple[str, str], Any] = {}
"""What was asked for already."""


def rendered(name: str, **changes: Any) -> Any:
    key = name, repr(changes)
    if key not in RENDERED:
        given = {key: trust_as_template(value) if isinstance(value, str) else value for key, value in changes.items()}
        role = str(REPOSITORY / "roles" / "observability")
        RENDERED[key] = renderer("example").evaluate(name, role_path=role, **given)
    return copy.deepcopy(RENDERED[key])


def alarms(**changes: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rendered("__observability_alarms", **changes)
    return found


def widgets(**changes: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rendered("__observability_dashboard_body", **changes)["widgets"]
    return found


def exists(namespace: str, name: str, dimensions: dict[str, str]) -> bool:
    """Tell whether somebody emits this metric with these dimensions."""
    if namespace != events.METRIC_NAMESPACE:
        return tuple(sorted(dimensions)) in OF_AWS[namespace].get(name, set())
    (emitted,) = [keys for metrics, keys in EMITTED.values() if name in dict(metrics)]
    assert dimensions["platform"] == "dagster-production"
    assert dimensions.get("service", "daemon") in ("webserver", "daemon")
    return set(dimensions) == set(emitted)


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_alarms_and_dashboard_ask_for_metrics_that_exist(inventory: str) -> None:
    asked = [
        (metric["namespace"], metric["metric"], metric["dimensions"])
        for alarm in alarms(**INVENTORIES[inventory])
        for metric in alarm["metrics"]
    ]
    for widget in widgets(**INVENTORIES[inventory]):
        for namespace, name, *rest in widget["properties"].get("metrics", []):
            pairs = [item for item in rest if isinstance(item, str)]
            asked.append((namespace, name, dict(itertools.batched(pairs, 2))))  # type: ignore[arg-type]
    assert [entry for entry in asked if not exists(*entry)] == []
    assert all(value for _, _, dimensions in asked for value in dimensions.values())


def test_everything_that_is_emitted_is_on_the_dashboard() -> None:
    """A metric costs money: one that nobody looks at should not be there."""
    shown = {metric[1] for widget in widgets() for metric in widget["properties"].get("metrics", [])}
    assert {name for metrics, _ in EMITTED.values() for name, _ in metrics} <= shown


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_alarms_are_requests_that_cloudwatch_takes(inventory: str) -> None:
    model = botocore.session.get_session().get_service_model("cloudwatch")
    names = set()
    for alarm in alarms(**INVENTORIES[inventory]):
        request = parameters(alarm, ["arn:aws:sns:us-east-1:123456789012:dagster-production-alarms"])
        assert request_problems(model, "PutMetricAlarm", request) == []
        assert alarm["name"].startswith("dagster-production-")
        assert request["AlarmActions"] == request["OKActions"] != []
        # "PutMetricAlarm": periods of more than an hour are looked at less often, a day is the most.
        assert alarm["period"] * alarm["periods"] <= 86_400
        assert alarm["period"] % 60 == 0
        assert bool(alarm["expression"]) == (len(alarm["metrics"]) > 1)
        used = set(re.findall(r"\b[a-z]+\b", alarm["expression"]))
        assert used == ({metric["id"] for metric in alarm["metrics"]} if alarm["expression"] else set())
        names.add(alarm["name"])
    assert len(names) == len(alarms(**INVENTORIES[inventory]))


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_a_hibernating_platform_raises_no_alarm(inventory: str) -> None:
    """No task, no data of ours; the database stands still. What counts none as something needs the database's data."""
    for alarm in alarms(**INVENTORIES[inventory]):
        assert alarm["missing"] == "notBreaching"
        filled = re.findall(r"FILL\((\w+)", alarm["expression"])
        if alarm["expression"] and filled:
            guard = re.match(r"IF\(FILL\((\w+), 0\) > 0( AND |,)", alarm["expression"])
            assert guard, "the first condition is that something is awake"
            (metric,) = [metric for metric in alarm["metrics"] if metric["id"] == guard[1]]
            assert metric["metric"] in ("DatabaseConnections", "HealthyHostCount")
    left_out = {"silent"} if inventory == "with a database of yours" else set()
    assert ("dagster-production-silent" in {alarm["name"] for alarm in alarms(**INVENTORIES[inventory])}) == (
        not left_out
    )


def test_counts_of_all_webservers_are_not_added_up() -> None:
    names = dict(events.PLATFORM_METRICS)
    for alarm in alarms():
        for metric in alarm["metrics"]:
            if metric["metric"] in names:
                assert metric["statistic"] in ("Maximum", "SampleCount")
    for widget in widgets():
        if any(metric[1] in names for metric in widget["properties"].get("metrics", [])):
            assert widget["properties"]["stat"] == "Maximum"


def test_every_alarm_has_an_entry_in_the_runbook_and_every_entry_an_alarm() -> None:
    section = RUNBOOK.split("\n## Alarms\n")[1]
    entries = dict(re.findall(r"^### ([\w-]+)\n(.*?)(?=^### |\Z)", section, re.MULTILINE | re.DOTALL))
    told = {}
    for alarm in alarms():
        found = re.search(r" What to do: docs/runbook\.md#([\w-]+)$", alarm["description"])
        assert found, alarm["description"]
        told[alarm["name"]] = found[1]
    assert set(told.values()) == set(entries)
    for name, entry in told.items():
        assert re.fullmatch(rf"dagster-production-{entry}(-webserver|-daemon)?", name)
    for name, text in entries.items():
        assert [word for word in ("**Means:**", "**Look at:**", "**Do:**") if word not in text] == [], name


def test_links_within_the_runbook_lead_somewhere_and_every_entry_is_found_by_a_symptom() -> None:
    headings = {
        re.sub(r"[^\w -]", "", line.strip("# ").lower()).replace(" ", "-")
        for line in RUNBOOK.splitlines()
        if line.startswith("#")
    }
    assert [link for link in re.findall(r"\]\(#([\w-]+)\)", RUNBOOK) if link not in headings] == []
    symptoms = RUNBOOK.split("## From the symptom to the entry")[1].split("\n## ")[0]
    section = RUNBOOK.split("\n## Alarms\n")[1]
    without = set(re.findall(r"^### ([\w-]+)", section, re.MULTILINE)) - set(re.findall(r"#([\w-]+)\)", symptoms))
    assert without == {"database-storage"}, "nobody sees a disk fill"


def test_the_runbook_names_settings_and_events_that_exist() -> None:
    defaults = set()
    for file in sorted((REPOSITORY / "roles").glob("*/defaults/main.yml")):
        defaults |= set(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    named = set(re.findall(r"`((?:ecs|rds|image|observability)_\w+)`", RUNBOOK))
    assert sorted(named - defaults) == []
    source = "".join(file.read_text(encoding="utf-8") for file in (REPOSITORY / "docker/runtime/src").rglob("*.py"))
    for event in re.findall(r"`((?:child|code_server|release|platform)_[a-z]+)`", RUNBOOK):
        assert f'"{event}"' in source, event


def test_the_dashboard_is_known_as_ours_and_nothing_overlaps() -> None:
    found = widgets()
    assert dashboard_mark("dagster-production") in json.dumps(found)
    taken: set[tuple[int, int]] = set()
    for widget in found:
        cells = {
            (x, y)
            for x in range(widget["x"], widget["x"] + widget["width"])
            for y in range(widget["y"], widget["y"] + widget["height"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_what_the_example_says_of_numbers_and_prices() -> None:
    text = (REPOSITORY / "inventories/example/group_vars/all/alarms.yml").read_text(encoding="utf-8")
    found = alarms()
    prices = load_prices("us-east-1")
    total = sum(price_of("alarm", {"metrics": len(alarm["metrics"])}, prices).monthly for alarm in found)
    assert f"{len(found)} alarms\n# cost {total:.1f} USD" in text
    services = 2
    assert f"{services * len(events.METRICS) + len(events.PLATFORM_METRICS)} of them" in text


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_the_estimate_knows_the_alarms_and_metrics(inventory: str) -> None:
    changes = INVENTORIES[inventory]
    expected = alarm_metrics(
        balancer=changes.get("load_balancer", True), database=not changes.get("rds_existing_instance")
    )
    found = {alarm["name"]: len(alarm["metrics"]) for alarm in alarms(**changes)}
    assert found == {f"dagster-production-{name}": count for name, count in expected.items()}
    assert len(events.METRICS) * 2 + len(events.PLATFORM_METRICS) == METRICS_OF_CONTAINERS
