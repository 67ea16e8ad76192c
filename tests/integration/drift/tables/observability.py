"""Alarms, the topic that they tell, the dashboard."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.integration.drift.tables.common import NAME, STRANGE_TAG, Clients, Drift, tag_dict

TOPIC = f"arn:aws:sns:us-east-1:123456789012:{NAME}-alarms"
_KEPT = (
    *("AlarmName", "AlarmDescription", "OKActions", "AlarmActions", "MetricName", "Namespace", "Statistic"),
    *("Dimensions", "Period", "EvaluationPeriods", "DatapointsToAlarm", "Threshold", "ComparisonOperator"),
    *("TreatMissingData", "Metrics", "ActionsEnabled"),
)


def _alarms(aws: Clients, name: str) -> list[dict[str, Any]]:
    return list(aws("cloudwatch").describe_alarms(AlarmNames=[f"{NAME}-{name}"])["MetricAlarms"])


def _set_alarm(name: str, **settings: Any) -> Callable[[Clients], object]:
    def change(aws: Clients) -> object:
        (found,) = _alarms(aws, name)
        alarm = {key: value for key, value in found.items() if key in _KEPT}
        return aws("cloudwatch").put_metric_alarm(**{**alarm, **settings})

    return change


def _kept(name: str, setting: str, value: object) -> Drift:
    return Drift("alarm", setting, _set_alarm(name, **{setting: value}), lambda aws: _alarms(aws, name)[0].get(setting))


def _queries(aws: Clients) -> list[dict[str, Any]]:
    return list(_alarms(aws, "alb-5xx")[0]["Metrics"])


def _set_expression(aws: Clients) -> object:
    changed = [{**query, "Expression": "0"} if "Expression" in query else query for query in _queries(aws)]
    return _set_alarm("alb-5xx", Metrics=changed)(aws)


def _tag_alarm(aws: Clients) -> object:
    (found,) = _alarms(aws, "unhealthy-tasks")
    return aws("cloudwatch").tag_resource(ResourceARN=found["AlarmArn"], Tags=[STRANGE_TAG])


def _alarm_tags(aws: Clients) -> dict[str, str]:
    (found,) = _alarms(aws, "unhealthy-tasks")
    return tag_dict(aws("cloudwatch").list_tags_for_resource(ResourceARN=found["AlarmArn"])["Tags"])


def _dashboard(aws: Clients) -> Any:
    return json.loads(aws("cloudwatch").get_dashboard(DashboardName=NAME)["DashboardBody"])


def _without_last_widget(aws: Clients) -> object:
    body = _dashboard(aws)
    body["widgets"].pop()
    return aws("cloudwatch").put_dashboard(DashboardName=NAME, DashboardBody=json.dumps(body))


def _attributes(aws: Clients) -> dict[str, str]:
    return dict(aws("sns").get_topic_attributes(TopicArn=TOPIC)["Attributes"])


def _set_attribute(name: str, value: str) -> Callable[[Clients], object]:
    return lambda aws: aws("sns").set_topic_attributes(TopicArn=TOPIC, AttributeName=name, AttributeValue=value)


TABLE: tuple[Drift, ...] = (
    _kept("database-cpu", "Threshold", 99.0),
    _kept("database-storage", "ComparisonOperator", "GreaterThanThreshold"),
    _kept("database-connections", "AlarmActions", []),
    _kept("queue-age", "TreatMissingData", "missing"),
    _kept("run-failures", "Statistic", "Sum"),
    _kept("efs-burst-credits", "AlarmDescription", "nothing"),
    _kept("daemon-heartbeat", "EvaluationPeriods", 60),
    Drift(
        "alarm",
        "ActionsEnabled",
        lambda aws: aws("cloudwatch").disable_alarm_actions(AlarmNames=[f"{NAME}-silent"]),
        lambda aws: _alarms(aws, "silent")[0]["ActionsEnabled"],
    ),
    Drift("alarm", "Metrics", _set_expression, _queries),
    Drift("alarm", "tags", _tag_alarm, _alarm_tags),
    Drift(
        "alarm",
        "MetricName",
        lambda aws: aws("cloudwatch").delete_alarms(AlarmNames=[f"{NAME}-code-location-errors"]),
        lambda aws: len(_alarms(aws, "code-location-errors")),
    ),
    Drift("dashboard", "body", _without_last_widget, _dashboard),
    Drift(
        "sns-topic",
        "Policy",
        _set_attribute("Policy", json.dumps({"Statement": []})),
        lambda aws: json.loads(_attributes(aws)["Policy"]),
    ),
    Drift(
        "sns-topic",
        "KmsMasterKeyId",
        _set_attribute("KmsMasterKeyId", "alias/aws/sns"),
        lambda aws: _attributes(aws).get("KmsMasterKeyId", ""),
    ),
    Drift(
        "sns-topic",
        "tags",
        lambda aws: aws("sns").tag_resource(ResourceArn=TOPIC, Tags=[STRANGE_TAG]),
        lambda aws: tag_dict(aws("sns").list_tags_for_resource(ResourceArn=TOPIC)["Tags"]),
    ),
    Drift(
        "sns-subscription",
        "protocol",
        lambda aws: aws("sns").subscribe(TopicArn=TOPIC, Protocol="email", Endpoint="somebody@example.com"),
        lambda aws: [
            item["Endpoint"] for item in aws("sns").list_subscriptions_by_topic(TopicArn=TOPIC)["Subscriptions"]
        ],
    ),
)
