"""A monthly budget of AWS Budgets for one platform, with notifications that somebody reads.

It counts what carries the platform's tag. AWS sees a tag in the bill only after it was activated as a cost allocation
tag, which is done once, in the account that pays; until then the budget counts nothing and stays silent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .aws_plan import PLATFORM_TAG, Plan, partition, platform_tags, refuse_foreign, tag_dict, tag_list

KIND = "budget"
NOTIFICATIONS = (("ACTUAL", 80.0), ("ACTUAL", 100.0), ("FORECASTED", 100.0))
"""Type and percentage of the amount. A forecast needs some five weeks of bills, says the AWS Cost Management guide."""
COST_TYPES = {
    # What was used, not what credits have left of it: who lives on credits wants to know how fast.
    "IncludeCredit": False,
    "IncludeRefund": False,
    "IncludeDiscount": True,
    "IncludeOtherSubscription": True,
    "IncludeRecurring": True,
    "IncludeSubscription": True,
    "IncludeSupport": True,
    "IncludeTax": True,
    "IncludeUpfront": True,
    "UseAmortized": False,
    "UseBlended": False,
}


@dataclass(frozen=True)
class BudgetSpec:
    """How much in USD a month, and who is told: a mail address, an SNS topic, or both."""

    platform: str
    account: str
    region: str
    name: str
    amount: float
    email: str = ""
    topic_arn: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def arn(self) -> str:
        """Budgets belong to no region."""
        return f"arn:{partition(self.region)}:budgets::{self.account}:budget/{self.name}"

    def subscribers(self) -> list[dict[str, str]]:
        """Return who is told, in the form of the API."""
        found = {"EMAIL": self.email, "SNS": self.topic_arn}
        return [{"SubscriptionType": kind, "Address": address} for kind, address in found.items() if address]

    def settings(self) -> dict[str, Any]:
        """Return what can be changed, under the names of the API."""
        return {
            "BudgetLimit": {"Amount": f"{self.amount:.2f}", "Unit": "USD"},
            # The form of the AWS CLI's example: user:KEY$VALUE.
            "CostFilters": {"TagKeyValue": [f"user:{PLATFORM_TAG}${self.platform}"]},
            "CostTypes": COST_TYPES,
            "TimeUnit": "MONTHLY",
        }


def ensure_budget(budgets: Any, spec: BudgetSpec, plan: Plan) -> None:
    """Bring budget, notifications and subscribers to the wanted state."""
    wanted, tags = spec.settings(), platform_tags(spec.platform, spec.name, spec.tags)
    found = _find(budgets, spec)
    if found is None:
        plan.create(KIND, spec.name, {**wanted, "notifications": _shown(spec)}, partial(_create, budgets, spec, tags))
        return
    current_tags = _tags(budgets, spec)
    refuse_foreign("Budget", spec.name, spec.platform, current_tags, "budget_name")
    plan.ensure_tags(
        KIND,
        spec.name,
        current_tags,
        tags,
        lambda new: budgets.tag_resource(ResourceARN=spec.arn, ResourceTags=tag_list(new)),
    )
    plan.update_if_different(
        KIND,
        spec.name,
        _comparable(found, wanted),
        wanted,
        # The whole budget is replaced, not a part of it.
        lambda _: budgets.update_budget(AccountId=spec.account, NewBudget=_body(spec)),
    )
    _keep_notifications(budgets, spec, plan)


def remove_budget(budgets: Any, spec: BudgetSpec, plan: Plan) -> None:
    """Remove the budget, and its notifications with it."""
    found = _find(budgets, spec)
    if found is None:
        return
    refuse_foreign("Budget", spec.name, spec.platform, _tags(budgets, spec), "budget_name")
    plan.remove(
        KIND,
        spec.name,
        {"BudgetLimit": found.get("BudgetLimit")},
        lambda: budgets.delete_budget(AccountId=spec.account, BudgetName=spec.name),
    )


def _find(budgets: Any, spec: BudgetSpec) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = budgets.describe_budget(AccountId=spec.account, BudgetName=spec.name)["Budget"]
    except budgets.exceptions.NotFoundException:
        return None
    return found


def _tags(budgets: Any, spec: BudgetSpec) -> dict[str, str]:
    return tag_dict(budgets.list_tags_for_resource(ResourceARN=spec.arn)["ResourceTags"])


def _body(spec: BudgetSpec) -> dict[str, Any]:
    return {"BudgetName": spec.name, "BudgetType": "COST", **spec.settings()}


def _create(budgets: Any, spec: BudgetSpec, tags: Mapping[str, str]) -> str:
    budgets.create_budget(
        AccountId=spec.account,
        Budget=_body(spec),
        NotificationsWithSubscribers=[
            {"Notification": _notification(*key), "Subscribers": spec.subscribers()} for key in NOTIFICATIONS
        ],
        ResourceTags=tag_list(tags),
    )
    return spec.name


def _comparable(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are there as they are wanted: AWS writes 60 as 60.0 and adds what we do not name."""
    current = {name: found.get(name) for name in wanted}
    limit = found.get("BudgetLimit") or {}
    if "Amount" in limit:
        current["BudgetLimit"] = {"Amount": f"{float(limit['Amount']):.2f}", "Unit": limit["Unit"]}
    types = found.get("CostTypes") or {}
    current["CostTypes"] = {name: types.get(name) for name in COST_TYPES}
    return current


def _notification(kind: str, percent: float) -> dict[str, Any]:
    return {
        "NotificationType": kind,
        "ComparisonOperator": "GREATER_THAN",
        "Threshold": percent,
        "ThresholdType": "PERCENTAGE",
    }


def _key(notification: Mapping[str, Any]) -> tuple[str, float] | None:
    """Return type and percentage of a notification that is of our form; None of another one."""
    ours = ("GREATER_THAN", "PERCENTAGE")
    if (notification["ComparisonOperator"], notification.get("ThresholdType", "PERCENTAGE")) != ours:
        return None
    return str(notification["NotificationType"]), float(notification["Threshold"])


def _keep_notifications(budgets: Any, spec: BudgetSpec, plan: Plan) -> None:
    where = {"AccountId": spec.account, "BudgetName": spec.name}
    pages = budgets.get_paginator("describe_notifications_for_budget").paginate(**where)
    found = [item for page in pages for item in page["Notifications"]]
    kept = {}
    for item in found:
        bare = {name: value for name, value in item.items() if name != "NotificationState"}
        key = _key(bare)
        if key in NOTIFICATIONS:
            kept[key] = bare
        else:
            plan.update(
                KIND,
                spec.name,
                {"notifications": [_text(bare)]},
                {"notifications": []},
                partial(budgets.delete_notification, **where, Notification=bare),
            )
    for key in NOTIFICATIONS:
        if key in kept:
            _keep_subscribers(budgets, spec, kept[key], plan)
        else:
            new = _notification(*key)
            plan.update(
                KIND,
                spec.name,
                {"notifications": []},
                {"notifications": [_text(new)]},
                partial(budgets.create_notification, **where, Notification=new, Subscribers=spec.subscribers()),
            )


def _keep_subscribers(budgets: Any, spec: BudgetSpec, notification: Mapping[str, Any], plan: Plan) -> None:
    where = {"AccountId": spec.account, "BudgetName": spec.name, "Notification": notification}
    pages = budgets.get_paginator("describe_subscribers_for_notification").paginate(**where)
    found = [item for page in pages for item in page["Subscribers"]]
    wanted = spec.subscribers()
    new = [item for item in wanted if item not in found]
    gone = [item for item in found if item not in wanted]
    if not new and not gone:
        return

    def change() -> None:
        # First the new ones: AWS deletes a notification with its last subscriber.
        for item in new:
            budgets.create_subscriber(**where, Subscriber=item)
        for item in gone:
            budgets.delete_subscriber(**where, Subscriber=item)

    plan.update(
        KIND,
        spec.name,
        {_text(notification): [item["Address"] for item in found]},
        {_text(notification): [item["Address"] for item in wanted]},
        change,
    )


def _text(notification: Mapping[str, Any]) -> str:
    unit = "%" if notification.get("ThresholdType", "PERCENTAGE") == "PERCENTAGE" else " USD"
    return f"{notification['NotificationType'].lower()} above {notification['Threshold']:g}{unit}"


def _shown(spec: BudgetSpec) -> list[str]:
    addresses = ", ".join(item["Address"] for item in spec.subscribers())
    return [f"{_text(_notification(*key))}: {addresses}" for key in NOTIFICATIONS]
