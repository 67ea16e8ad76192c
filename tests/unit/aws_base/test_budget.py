"""The budget: made, unchanged, put right after others changed it, removed; and what moto lacks for that."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from local.emulator_budgets import OPERATIONS
from module_utils.aws_budget import BudgetSpec, ensure_budget, remove_budget
from module_utils.aws_plan import Plan, Refusal
from module_utils.platform_settings import check_settings

ACCOUNT, NAME = "123456789012", "lab-monthly"
TOPIC = "arn:aws:sns:us-east-1:123456789012:alarms"
SPEC = BudgetSpec("lab", ACCOUNT, "us-east-1", NAME, 60, email="team@example.com", tags={"owner": "me"})
WHERE = {"AccountId": ACCOUNT, "BudgetName": NAME}
ACTUAL = {"NotificationType": "ACTUAL", "ComparisonOperator": "GREATER_THAN", "ThresholdType": "PERCENTAGE"}


def keep(aws: Any, spec: BudgetSpec = SPEC, *, check: bool = False) -> list[dict[str, Any]]:
    plan = Plan(check_mode=check)
    ensure_budget(aws.budgets, spec, plan)
    return plan.changes


def state(aws: Any) -> dict[str, Any]:
    """Return all of the budget, read by itself."""
    budget = aws.budgets.describe_budget(**WHERE)["Budget"]
    notifications = aws.budgets.describe_notifications_for_budget(**WHERE)["Notifications"]
    return {
        "amount": float(budget["BudgetLimit"]["Amount"]),
        "filters": budget["CostFilters"],
        "credit": budget["CostTypes"]["IncludeCredit"],
        "told": {
            (item["NotificationType"], item["Threshold"]): sorted(
                subscriber["Address"]
                for subscriber in aws.budgets.describe_subscribers_for_notification(**WHERE, Notification=item)[
                    "Subscribers"
                ]
            )
            for item in notifications
        },
        "tags": {
            tag["Key"]: tag["Value"] for tag in aws.budgets.list_tags_for_resource(ResourceARN=SPEC.arn)["ResourceTags"]
        },
    }


WANTED: dict[str, Any] = {
    "amount": 60.0,
    "filters": {"TagKeyValue": ["user:dagster-platform$lab"]},
    "credit": False,
    "told": {
        ("ACTUAL", 80.0): ["team@example.com"],
        ("ACTUAL", 100.0): ["team@example.com"],
        ("FORECASTED", 100.0): ["team@example.com"],
    },
    "tags": {"owner": "me", "Name": NAME, "dagster-platform": "lab"},
}


def test_it_is_made_once(aws: Any) -> None:
    assert [(change["action"], change["kind"]) for change in keep(aws, check=True)] == [("create", "budget")]
    assert aws.budgets.describe_budgets(AccountId=ACCOUNT)["Budgets"] == []
    assert len(keep(aws)) == 1
    assert state(aws) == WANTED
    assert keep(aws) == []


def test_another_amount_and_other_people(aws: Any) -> None:
    keep(aws)
    other = replace(SPEC, amount=75.5, email="", topic_arn=TOPIC)
    preview = keep(aws, other, check=True)
    assert state(aws) == WANTED
    assert preview == keep(aws, other)
    assert preview[0]["before"] == {"BudgetLimit": {"Amount": "60.00", "Unit": "USD"}}
    assert preview[1]["after"] == {"actual above 80%": [TOPIC]}
    assert state(aws) == {**WANTED, "amount": 75.5, "told": {key: [TOPIC] for key in WANTED["told"]}}
    assert keep(aws, other) == []


def _update(aws: Any, **changes: Any) -> None:
    body = {"BudgetName": NAME, "BudgetType": "COST", **SPEC.settings(), **changes}
    aws.budgets.update_budget(AccountId=ACCOUNT, NewBudget=body)


DRIFT: dict[str, Callable[[Any], object]] = {
    "amount": lambda aws: _update(aws, BudgetLimit={"Amount": "600", "Unit": "USD"}),
    "filter": lambda aws: _update(aws, CostFilters={}),
    "credits": lambda aws: _update(aws, CostTypes={**SPEC.settings()["CostTypes"], "IncludeCredit": True}),
    "a notification less": lambda aws: aws.budgets.delete_notification(
        **WHERE, Notification={**ACTUAL, "Threshold": 80.0}
    ),
    "a notification more": lambda aws: aws.budgets.create_notification(
        **WHERE,
        Notification={**ACTUAL, "Threshold": 500.0},
        Subscribers=[{"SubscriptionType": "EMAIL", "Address": "x@example.com"}],
    ),
    "somebody more": lambda aws: aws.budgets.create_subscriber(
        **WHERE,
        Notification={**ACTUAL, "Threshold": 80.0},
        Subscriber={"SubscriptionType": "EMAIL", "Address": "x@example.com"},
    ),
    "a tag": lambda aws: aws.budgets.tag_resource(
        ResourceARN=SPEC.arn, ResourceTags=[{"Key": "owner", "Value": "you"}]
    ),
}


@pytest.mark.parametrize("what", DRIFT)
def test_what_others_changed_is_put_right(aws: Any, what: str) -> None:
    keep(aws)
    DRIFT[what](aws)
    assert state(aws) != WANTED
    assert len(keep(aws)) == 1
    assert state(aws) == WANTED
    assert keep(aws) == []


def test_amounts_as_aws_writes_them_are_the_same(aws: Any) -> None:
    keep(aws)
    _update(aws, BudgetLimit={"Amount": "60.0", "Unit": "USD"})
    assert keep(aws) == []


def test_it_is_removed_once(aws: Any) -> None:
    keep(aws)
    for changes in (1, 0):
        plan = Plan()
        remove_budget(aws.budgets, SPEC, plan)
        assert len(plan.changes) == changes
    assert aws.budgets.describe_budgets(AccountId=ACCOUNT)["Budgets"] == []


@pytest.mark.parametrize("act", [ensure_budget, remove_budget])
def test_somebody_else_s_is_left_alone(aws: Any, act: Callable[[Any, BudgetSpec, Plan], None]) -> None:
    aws.budgets.create_budget(
        AccountId=ACCOUNT, Budget={"BudgetName": NAME, "BudgetType": "COST", **replace(SPEC, amount=5).settings()}
    )
    with pytest.raises(Refusal, match="budget_name"):
        act(aws.budgets, SPEC, Plan())
    assert float(aws.budgets.describe_budget(**WHERE)["Budget"]["BudgetLimit"]["Amount"]) == 5


def test_a_budget_that_tells_nobody_is_refused_before_it_is_made() -> None:
    problems = [str(problem) for problem in check_settings({"budget_monthly_usd": 60}) if problem.why[:2] != "it"]
    assert problems == [
        "budget_email = (not set): budget_monthly_usd is 60, and nobody would be told when it is spent. Valid: a mail "
        "address, or the ARN of an SNS topic in budget_sns_topic_arn."
    ]
    for told in ({"budget_email": "a@example.com"}, {"budget_sns_topic_arn": TOPIC}):
        assert [
            problem for problem in check_settings({"budget_monthly_usd": 60, **told}) if problem.why[:2] != "it"
        ] == []


def test_moto_lacks_what_the_emulator_adds() -> None:
    """When this fails, the operations in local/emulator_budgets.py that moto has now can go."""
    program = f"""
from moto.budgets.responses import BudgetsResponse
print([name for name in {list(OPERATIONS)} if hasattr(BudgetsResponse, name)])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
