"""AWS Budgets of the emulator, with the operations that moto 5.2.5 lacks: changes, subscribers and tags.

Written after the AWS Budgets API Reference. tests/unit/aws_base/test_budget.py fails when moto has them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from moto.budgets.exceptions import NotFoundException
from moto.budgets.models import Budget, BudgetsBackend, Notification
from moto.budgets.responses import BudgetsResponse
from moto.core.utils import unix_time

IDENTITY = ("NotificationType", "ComparisonOperator", "Threshold")
"""What names a notification within a budget; ThresholdType is PERCENTAGE if it is left out."""


def _budget(response: BudgetsResponse, name: str) -> Budget:
    found = response.backend.budgets[str(response._get_param("AccountId"))].get(name)
    if found is None:
        raise NotFoundException(f"Unable to get budget: {name} - the budget doesn't exist.")
    return found


def _notification(response: BudgetsResponse) -> Notification:
    wanted = response._get_param("Notification")
    for notification in _budget(response, response._get_param("BudgetName")).notifications:
        if all(notification.details[key] == wanted[key] for key in IDENTITY):
            return notification
    raise NotFoundException("Unable to find the notification - it doesn't exist.")


def _update_budget(response: BudgetsResponse) -> str:
    new = response._get_param("NewBudget")
    found = _budget(response, new["BudgetName"])
    found.budget = {**new, "TimePeriod": found.budget["TimePeriod"], "LastUpdatedTime": unix_time()}
    return json.dumps({})


def _describe_subscribers(response: BudgetsResponse) -> str:
    return json.dumps({"Subscribers": _notification(response).subscribers})


def _create_subscriber(response: BudgetsResponse) -> str:
    subscribers: Any = _notification(response).subscribers
    subscribers.append(response._get_param("Subscriber"))
    return json.dumps({})


def _delete_subscriber(response: BudgetsResponse) -> str:
    notification: Any = _notification(response)
    gone = response._get_param("Subscriber")
    notification.subscribers = [item for item in notification.subscribers if item != gone]
    if not notification.subscribers:
        # "Deleting the last subscriber to a notification also deletes the notification."
        budget = _budget(response, response._get_param("BudgetName"))
        budget.notifications = [item for item in budget.notifications if item is not notification]
    return json.dumps({})


def _of_arn(response: BudgetsResponse) -> Any:
    _, _, _, _, account, resource = str(response._get_param("ResourceARN")).split(":", 5)
    found = response.backend.budgets[account].get(resource.removeprefix("budget/"))
    if found is None:
        raise NotFoundException(f"Unable to find {resource} - the budget doesn't exist.")
    return found


def _list_tags(response: BudgetsResponse) -> str:
    tags = getattr(_of_arn(response), "tags", {})
    return json.dumps({"ResourceTags": [{"Key": key, "Value": value} for key, value in tags.items()]})


def _tag(response: BudgetsResponse) -> str:
    found = _of_arn(response)
    new = {tag["Key"]: tag["Value"] for tag in response._get_param("ResourceTags")}
    found.tags = {**getattr(found, "tags", {}), **new}
    return json.dumps({})


OPERATIONS: dict[str, Callable[[BudgetsResponse], str]] = {
    "update_budget": _update_budget,
    "describe_subscribers_for_notification": _describe_subscribers,
    "create_subscriber": _create_subscriber,
    "delete_subscriber": _delete_subscriber,
    "list_tags_for_resource": _list_tags,
    "tag_resource": _tag,
}


def apply() -> None:
    """Add what is missing to the moto of this process."""
    for name, operation in OPERATIONS.items():
        setattr(BudgetsResponse, name, operation)
    create: Callable[[BudgetsResponse], str] = BudgetsResponse.create_budget

    def create_budget(self: BudgetsResponse) -> str:
        """Keep the tags, which moto drops."""
        answer = create(self)
        tags = self._get_param("ResourceTags") or []
        found: Any = _budget(self, self._get_param("Budget")["BudgetName"])
        found.tags = {tag["Key"]: tag["Value"] for tag in tags}
        return answer

    BudgetsResponse.create_budget = create_budget

    remove = BudgetsBackend.delete_notification

    def delete_notification(
        self: BudgetsBackend, account_id: str, budget_name: str, notification: dict[str, Any]
    ) -> None:
        """Find it by what names it; moto compares everything, so one that was made with a default stays."""
        budget = self.budgets[account_id].get(budget_name)
        if budget is None:
            remove(self, account_id, budget_name, notification)
            return
        budget.notifications = [
            item for item in budget.notifications if any(item.details[key] != notification[key] for key in IDENTITY)
        ]

    BudgetsBackend.delete_notification = delete_notification
