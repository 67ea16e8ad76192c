"""Alarms, dashboards and their topic against moto: made once, corrected, foreign ones left alone, all removed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from module_utils.aws_alarms import (
    ensure_alarms,
    ensure_dashboard,
    ensure_topic,
    remove_alarms,
    remove_dashboard,
    remove_topic,
    subscription_name,
    topic_arn,
    topic_policy,
)
from module_utils.aws_plan import Plan, Refusal
from tests.unit.account import Account

TAGS = {"owner": "us"}
ARN = topic_arn("us-east-1", "123456789012", "lab-alarms")
POLICY = topic_policy("us-east-1", "123456789012", "lab", ARN)
WEBHOOK = "https://events.example.com/integration/0123456789abcdef/enqueue"


def alarm(name: str, **changes: Any) -> dict[str, Any]:
    metric = {
        "id": "metric",
        "namespace": "AWS/RDS",
        "metric": "CPUUtilization",
        "dimensions": {"DBInstanceIdentifier": "lab"},
        "statistic": "Average",
    }
    return {
        "name": f"lab-{name}",
        "description": "Busy. docs/runbook.md#busy",
        "metrics": [metric],
        "expression": "",
        "period": 300,
        "periods": 3,
        "comparison": ">",
        "threshold": 80.0,
        "missing": "notBreaching",
        **changes,
    }


def joined(name: str) -> dict[str, Any]:
    first = alarm(name)["metrics"][0]
    return alarm(name, metrics=[{**first, "id": "a"}, {**first, "id": "b", "metric": "Other"}], expression="a + b")


def alarms(aws: Account, *wanted: dict[str, Any], check: bool = False) -> list[dict[str, Any]]:
    plan = Plan(check)
    ensure_alarms(aws.cloudwatch, "lab", wanted, plan, actions=[ARN], tags=TAGS)
    return plan.changes


def test_alarms_are_made_once_and_those_not_wanted_go(aws: Account) -> None:
    aws.cloudwatch.put_metric_alarm(
        AlarmName="lab-of-somebody-else",
        EvaluationPeriods=1,
        ComparisonOperator="GreaterThanThreshold",
        Threshold=1.0,
        Namespace="x",
        MetricName="y",
        Period=60,
        Statistic="Sum",
    )
    assert [change["action"] for change in alarms(aws, alarm("one"), check=True)] == ["create"]
    made = alarms(aws, alarm("one"), joined("two"))
    assert [(change["name"], change["after"]["metrics"]) for change in made] == [("lab-one", 1), ("lab-two", 2)]
    assert alarms(aws, alarm("one"), joined("two")) == []
    found = {each["AlarmName"]: each for each in aws.cloudwatch.describe_alarms()["MetricAlarms"]}
    assert found["lab-one"]["AlarmActions"] == found["lab-one"]["OKActions"] == [ARN]
    assert found["lab-one"]["TreatMissingData"] == "notBreaching"
    (removed,) = alarms(aws, alarm("one"))
    assert (removed["action"], removed["name"], removed["before"]["metrics"]) == ("remove", "lab-two", 2)
    remove_alarms(aws.cloudwatch, "lab", plan := Plan())
    assert [change["name"] for change in plan.changes] == ["lab-one"]
    left = [each["AlarmName"] for each in aws.cloudwatch.describe_alarms()["MetricAlarms"]]
    assert left == ["lab-of-somebody-else"]


@pytest.mark.parametrize("wanted", [alarm("one"), joined("one")], ids=["one metric", "metric math"])
def test_whatever_is_changed_in_an_alarm_is_put_back(aws: Account, wanted: dict[str, Any]) -> None:
    alarms(aws, wanted)
    (before,) = aws.cloudwatch.describe_alarms()["MetricAlarms"]
    tags = {"owner": "somebody", "dagster-platform": "lab", "Name": "lab-one"}
    aws.cloudwatch.tag_resource(ResourceARN=before["AlarmArn"], Tags=[{"Key": k, "Value": v} for k, v in tags.items()])
    aws.cloudwatch.disable_alarm_actions(AlarmNames=["lab-one"])
    told = alarms(aws, wanted, check=True)
    assert [set(change["after"]) for change in told] == [{"ActionsEnabled"}, {"tags"}]
    assert len(alarms(aws, wanted)) == 2
    assert alarms(aws, wanted) == []
    (change,) = alarms(aws, {**wanted, "threshold": 90.0, "missing": "breaching"})
    assert change["after"] == {"Threshold": 90.0, "TreatMissingData": "breaching"}
    assert change["unchanged"] == {"metrics": len(wanted["metrics"])}


def test_an_alarm_of_somebody_else_is_refused(aws: Account) -> None:
    alarms(aws, alarm("one"))
    arn = aws.cloudwatch.describe_alarms()["MetricAlarms"][0]["AlarmArn"]
    aws.cloudwatch.untag_resource(ResourceARN=arn, TagKeys=["dagster-platform"])
    with pytest.raises(Refusal, match="Alarm 'lab-one' exists already and does not belong to the platform 'lab'"):
        alarms(aws, alarm("one"))


BODY = {"widgets": [{"type": "text", "properties": {"markdown": "dagster-platform: lab"}}]}


def dashboard(aws: Account, body: dict[str, Any]) -> list[str]:
    ensure_dashboard(aws.cloudwatch, "lab", "lab", body, plan := Plan(), tags=TAGS)
    return [change["action"] for change in plan.changes]


def test_a_dashboard_is_kept_and_removed(aws: Account) -> None:
    assert [dashboard(aws, BODY), dashboard(aws, BODY)] == [["create"], []]
    more = {"widgets": [*BODY["widgets"], {"type": "text", "properties": {"markdown": "more"}}]}
    assert [dashboard(aws, more), dashboard(aws, more)] == [["update"], []]
    for _ in range(2):
        remove_dashboard(aws.cloudwatch, "lab", "lab", Plan())
    assert aws.cloudwatch.list_dashboards()["DashboardEntries"] == []


def test_a_dashboard_of_somebody_else_is_refused(aws: Account) -> None:
    aws.cloudwatch.put_dashboard(DashboardName="lab", DashboardBody=json.dumps({"widgets": []}))
    with pytest.raises(Refusal, match=r"observability_dashboard, or, .* delete-dashboards --dashboard-names lab"):
        dashboard(aws, BODY)
    with pytest.raises(Refusal, match="does not belong"):
        remove_dashboard(aws.cloudwatch, "lab", "lab", Plan())


def topic(aws: Account, *emails: str, webhooks: tuple[str, ...] = (), key: str = "", check: bool = False) -> Plan:
    plan = Plan(check)
    ensure_topic(aws.sns, "lab", ARN, plan, policy=POLICY, key=key, emails=emails, webhooks=webhooks, tags=TAGS)
    return plan


def test_a_topic_tells_who_is_listed(aws: Account) -> None:
    assert [change["kind"] for change in topic(aws, "a@example.com", check=True).changes] == [
        "sns-topic",
        "sns-subscription",
    ]
    made = topic(aws, "a@example.com", "b@example.com", webhooks=(WEBHOOK,)).changes
    assert "0123456789abcdef" not in json.dumps(made)
    assert topic(aws, "a@example.com", "b@example.com", webhooks=(WEBHOOK,)).changes == []
    # Not ours: another protocol, and the chat client of AWS.
    for protocol, endpoint in (
        ("sqs", "arn:aws:sqs:us-east-1:123456789012:x"),
        ("https", "https://global.sns-api.chatbot.amazonaws.com"),
    ):
        aws.sns.subscribe(TopicArn=ARN, Protocol=protocol, Endpoint=endpoint)
    (removed,) = topic(aws, "a@example.com", webhooks=(WEBHOOK,)).changes
    assert (removed["action"], removed["name"]) == ("remove", "b@example.com")
    assert len(aws.sns.list_subscriptions_by_topic(TopicArn=ARN)["Subscriptions"]) == 4
    for _ in range(2):
        remove_topic(aws.sns, "lab", ARN, Plan())
    assert aws.sns.list_topics()["Topics"] == []


def test_policy_key_and_tags_of_a_topic_are_put_back(aws: Account) -> None:
    topic(aws)
    assert json.loads(aws.sns.get_topic_attributes(TopicArn=ARN)["Attributes"]["Policy"]) == POLICY
    aws.sns.set_topic_attributes(TopicArn=ARN, AttributeName="Policy", AttributeValue=json.dumps({"Statement": []}))
    aws.sns.tag_resource(ResourceArn=ARN, Tags=[{"Key": "owner", "Value": "somebody"}])
    assert [set(change["after"]) for change in topic(aws).changes] == [{"tags"}, {"Policy"}]
    assert topic(aws).changes == []
    assert [change["after"] for change in topic(aws, key="alias/alarms").changes] == [
        {"KmsMasterKeyId": "alias/alarms"}
    ]
    aws.sns.untag_resource(ResourceArn=ARN, TagKeys=["dagster-platform"])
    with pytest.raises(Refusal, match="observability_topic"):
        topic(aws)


class Pending:
    """SNS with a subscription that nobody has confirmed, which moto does not know."""

    def __init__(self, sns: Any) -> None:
        self._sns = sns

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sns, name)

    def get_paginator(self, _: str) -> Any:
        return self

    def paginate(self, **_: str) -> list[dict[str, Any]]:
        pending = {"Protocol": "email", "SubscriptionArn": "PendingConfirmation"}
        return [{"Subscriptions": [{**pending, "Endpoint": f"{name}@example.com"} for name in ("a", "gone")]}]


def test_who_has_not_confirmed_is_told_and_not_asked_again(aws: Account) -> None:
    topic(aws)
    plan = Plan()
    waiting = ensure_topic(
        Pending(aws.sns), "lab", ARN, plan, policy=POLICY, key="", emails=["a@example.com"], webhooks=[], tags=TAGS
    )
    assert waiting == ["a@example.com"]
    assert plan.changes == []


def test_names_of_subscriptions_hide_what_is_secret() -> None:
    assert subscription_name("email", "a@example.com") == "a@example.com"
    first, second = subscription_name("https", WEBHOOK), subscription_name("https", WEBHOOK + "2")
    assert first.startswith("https://events.example.com/... (")
    assert first != second
