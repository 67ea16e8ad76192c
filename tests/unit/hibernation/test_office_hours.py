"""Office hours: what the inventory may say, and the schedules and permissions that the role makes of it."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from module_utils.aws_model import request_problems
from module_utils.aws_schedules import ScheduleSpec, creation
from module_utils.platform_settings import OFFICE_LEAD, SINGLE_CHECKS

ROOT = Path(__file__).parents[3]
HOURS = {"start": "cron(0 7 ? * MON-FRI *)", "stop": "cron(30 20 ? * MON-FRI *)", "timezone": "Europe/Berlin"}
SETTINGS = {
    "name_prefix": "lab",
    "aws_region": "eu-central-1",
    "aws_account_id": "123456789012",
    "rds_existing_instance": "",
    "office_hours": HOURS,
    "__office_hours_nat": {"instances": [{"instance_id": "i-0123456789abcdef0"}]},
}


def findings(value: Any) -> list[str]:
    return [why for why, _ in SINGLE_CHECKS["office_hours"](value)]


@pytest.mark.parametrize(
    "hours",
    [
        {},
        HOURS,
        {**HOURS, "start": "cron(15 0 1,15 JAN-MAR ? 2027)"},
        {**HOURS, "stop": "cron(44 23 ? * 2#1 *)"},
        {**HOURS, "stop": "cron(0 20 LW */2 ? *)"},
    ],
)
def test_usable_hours_are_accepted(hours: dict[str, str]) -> None:
    assert findings(hours) == []


@pytest.mark.parametrize(
    ("hours", "why"),
    [
        ("always", "not a mapping"),
        ({"start": HOURS["start"]}, "missing or unknown: stop, timezone"),
        ({**HOURS, "begin": "now"}, "missing or unknown: begin"),
        ({**HOURS, "start": "rate(1 day)"}, "is not cron"),
        ({**HOURS, "start": "cron(0 7 * * MON-FRI)"}, "is not cron"),
        ({**HOURS, "start": "cron(*/5 7 ? * MON-FRI *)"}, "not one number"),
        ({**HOURS, "start": "cron(0 7-9 ? * MON-FRI *)"}, "not one number"),
        ({**HOURS, "start": "cron(14 0 ? * MON-FRI *)"}, "time of day"),
        ({**HOURS, "stop": "cron(45 23 ? * MON-FRI *)"}, "time of day"),
        ({**HOURS, "stop": "cron(0 24 ? * MON-FRI *)"}, "time of day"),
        ({**HOURS, "stop": "cron(60 20 ? * MON-FRI *)"}, "time of day"),
        ({**HOURS, "stop": "cron(0 20 * * * *)"}, "exactly one ?"),
        ({**HOURS, "stop": "cron(0 20 ? * Monday *)"}, "does not take: Monday"),
        ({**HOURS, "stop": HOURS["start"]}, "stops when it starts"),
        ({**HOURS, "timezone": "Berlin"}, "'Berlin' is not known"),
    ],
)
def test_others_are_refused_with_the_reason_and_the_choices(hours: Any, why: str) -> None:
    found = list(SINGLE_CHECKS["office_hours"](hours))
    assert any(why in reason for reason, _ in found), found
    assert all("cron(0 7 ? * MON-FRI *)" in choices for _, choices in found)


@functools.cache
def of_role() -> tuple[DataLoader, dict[str, Any]]:
    loader = DataLoader()
    variables: dict[str, Any] = {}
    for path in ("defaults/main.yml", "vars/main.yml"):
        variables |= loader.load_from_file(str(ROOT / "roles" / "office_hours" / path), trusted_as_template=True)
    return loader, variables


def render(name: str, **changes: Any) -> Any:
    """Return a variable of the role as Ansible sees it."""
    loader, variables = of_role()
    return Templar(loader=loader, variables=variables | SETTINGS | changes).template(variables[name])


def schedules(**changes: Any) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in render("__office_hours_schedules", **changes)}


def test_what_is_slow_starts_before_the_services_and_stops_after_them() -> None:
    assert render("office_hours_lead_minutes") == OFFICE_LEAD
    times = {name: item["expression"] for name, item in schedules().items()}
    assert times["start-database"] == times["start-nat-instance"] == "cron(45 6 ? * MON-FRI *)"
    assert times["start-webserver"] == times["start-daemon"] == times["start-autoscaling"] == HOURS["start"]
    assert times["stop-webserver"] == times["stop-daemon"] == times["stop-autoscaling"] == HOURS["stop"]
    assert times["stop-database"] == times["stop-nat-instance"] == "cron(45 20 ? * MON-FRI *)"


def test_what_is_adopted_or_not_there_is_left_alone() -> None:
    without = {"rds_existing_instance": "warehouse", "__office_hours_nat": {"instances": []}}
    assert not {name for name in schedules(**without) if name.endswith(("database", "instance"))}
    statements = render("__office_hours_policy", **without)["Statement"]
    assert [statement["Sid"] for statement in statements] == ["RunServices", "LimitWebservers"]


def test_webservers_are_as_many_as_the_autoscaling_wants_and_at_least_one() -> None:
    scaled = schedules(autoscaling_minimum=2, autoscaling_maximum=5)
    assert scaled["start-webserver"]["input"]["DesiredCount"] == 2
    assert {key: scaled["start-autoscaling"]["input"][key] for key in ("MinCapacity", "MaxCapacity")} == {
        "MinCapacity": 2,
        "MaxCapacity": 5,
    }
    assert schedules(autoscaling_minimum=0)["start-webserver"]["input"]["DesiredCount"] == 1


def test_requests_are_valid_and_call_what_the_role_allows() -> None:
    session = botocore.session.get_session()
    policy = render("__office_hours_policy")
    allowed = {action for statement in policy["Statement"] for action in statement["Action"] if len(action) > 1}
    allowed |= {statement["Action"] for statement in policy["Statement"] if isinstance(statement["Action"], str)}
    for item in schedules().values():
        request = creation("group", ScheduleSpec(**item), "aws", "arn:aws:iam::123456789012:role/lab-office-hours")
        assert request_problems(session.get_service_model("scheduler"), "CreateSchedule", request) == []
        service, _, operation = item["call"].partition(":")
        prefix = {"applicationautoscaling": "application-autoscaling"}.get(service, service)
        # Scheduler writes operations and parameters as the SDK for Java does.
        model = session.get_service_model(prefix)
        name = next(each for each in model.operation_names if each.lower() == operation.lower())
        assert operation == name[0].lower() + name[1:]
        shape = model.operation_model(name).input_shape
        assert shape is not None
        members = shape.members
        known = {key.lower(): key for key in members}
        called = json.loads(request["Target"]["Input"])
        # ECS and Application Auto Scaling know other cases of the same names.
        sent = {known[key.lower()]: value for key, value in called.items()}
        assert request_problems(model, name, sent) == []
        assert f"{prefix}:{name}" in allowed
