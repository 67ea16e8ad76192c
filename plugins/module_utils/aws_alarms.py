"""CloudWatch alarms and dashboards, and the SNS topic that tells people."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from .aws_plan import PLATFORM_TAG, Plan, Refusal, error_code, partition, platform_tags, refuse_foreign, tag_list

COMPARISONS = {
    ">": "GreaterThanThreshold",
    ">=": "GreaterThanOrEqualToThreshold",
    "<": "LessThanThreshold",
    "<=": "LessThanOrEqualToThreshold",
}

_COMPARED = (
    *("AlarmDescription", "ActionsEnabled", "AlarmActions", "OKActions", "InsufficientDataActions"),
    *("Namespace", "MetricName", "Dimensions", "Statistic", "Period", "Metrics"),
    *("EvaluationPeriods", "DatapointsToAlarm", "Threshold", "ComparisonOperator", "TreatMissingData"),
)
"""Parameters of PutMetricAlarm that are kept as described; each call replaces them all."""

Alarm = Mapping[str, Any]
"""As the module `metric_alarms` takes one."""

OF_EACH_TASK = {"release-stale": 1, "sync-failures": 1, "canary-rejected": 1, "restart-loop": 2}
"""Alarm -> number of its metrics, of alarms that there are of webserver and daemon each."""
OF_THE_PLATFORM = {
    **dict.fromkeys(("daemon-heartbeat", "run-failures", "queue-age", "code-location-errors"), 1),
    **dict.fromkeys(("database-cpu", "database-storage", "database-connections", "efs-burst-credits"), 1),
}
OF_THE_LOAD_BALANCER = {"unhealthy-tasks": 1, "alb-5xx": 3}
OF_OWN_DATABASE = {"silent": 2}
METRICS_OF_CONTAINERS = 20
"""Metrics that the containers of a platform emit."""


def alarm_metrics(*, balancer: bool, database: bool) -> dict[str, int]:
    """Return the alarms of templates/alarms.yml.j2, which a test compares, and of how many metrics each is.

    Args:
        balancer: whether there is a load balancer.
        database: whether the database is the platform's own.
    """
    return {
        **{f"{name}-{service}": count for service in ("webserver", "daemon") for name, count in OF_EACH_TASK.items()},
        **OF_THE_PLATFORM,
        **(OF_THE_LOAD_BALANCER if balancer else {}),
        **(OF_OWN_DATABASE if database else {}),
    }


# -- Alarms ----------------------------------------------------------------------------------------------------------


def parameters(alarm: Alarm, actions: Sequence[str]) -> dict[str, Any]:
    """Return an alarm as PutMetricAlarm takes it, without tags. Several metrics are joined by `expression`."""
    metrics, period = alarm["metrics"], int(alarm["period"])
    wanted: dict[str, Any] = {
        "AlarmName": alarm["name"],
        "AlarmDescription": alarm["description"],
        "ActionsEnabled": True,
        "AlarmActions": list(actions),
        "OKActions": list(actions),
        "InsufficientDataActions": [],
        "EvaluationPeriods": int(alarm["periods"]),
        "DatapointsToAlarm": int(alarm["periods"]),
        "Threshold": float(alarm["threshold"]),
        "ComparisonOperator": COMPARISONS[alarm["comparison"]],
        "TreatMissingData": alarm["missing"],
    }
    if not alarm.get("expression"):
        (metric,) = metrics
        return {**wanted, **_metric(metric), "Statistic": metric["statistic"], "Period": period}
    queries = [
        {
            "Id": metric["id"],
            "MetricStat": {"Metric": _metric(metric), "Period": period, "Stat": metric["statistic"]},
            "ReturnData": False,
        }
        for metric in metrics
    ]
    result = {"Id": "result", "Expression": alarm["expression"], "Label": alarm["name"], "ReturnData": True}
    return {**wanted, "Metrics": [*queries, result]}


def _metric(metric: Mapping[str, Any]) -> dict[str, Any]:
    dimensions = [{"Name": name, "Value": str(value)} for name, value in sorted(metric["dimensions"].items())]
    return {"Namespace": metric["namespace"], "MetricName": metric["metric"], "Dimensions": dimensions}


def comparable(alarm: Mapping[str, Any]) -> dict[str, Any]:
    """Return an alarm, as it is asked for or as DescribeAlarms has it, in a form that is equal if it does the same."""
    found = {name: alarm[name] for name in _COMPARED if alarm.get(name) not in (None, [], "")}
    if "Dimensions" in found:
        found["Dimensions"] = _plain(found["Dimensions"])
    if "Metrics" in found:
        found["Metrics"] = {query["Id"]: _query(query) for query in found["Metrics"]}
    return found


def _plain(dimensions: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {item["Name"]: item["Value"] for item in dimensions}


def _query(query: Mapping[str, Any]) -> dict[str, Any]:
    if not (stat := query.get("MetricStat")):
        return {"Expression": query.get("Expression")}
    metric = stat["Metric"]
    return {
        **{name: metric.get(name) for name in ("Namespace", "MetricName")},
        "Dimensions": _plain(metric.get("Dimensions") or []),
        **{name: stat.get(name) for name in ("Period", "Stat")},
    }


def ensure_alarms(
    cloudwatch: Any,
    platform: str,
    alarms: Sequence[Alarm],
    plan: Plan,
    *,
    actions: Sequence[str],
    tags: Mapping[str, str],
) -> None:
    """Bring the platform's alarms to the wanted state, and remove those that are wanted no more."""
    known = _alarms_of(cloudwatch, platform)
    for alarm in alarms:
        name, wanted = str(alarm["name"]), parameters(alarm, actions)
        all_tags = platform_tags(platform, name, tags)
        found = known.get(name)
        # What an alarm costs depends on the number of its metrics.
        priced = {"metrics": len(alarm["metrics"])}
        if found is None:
            plan.create(
                "alarm", name, {**comparable(wanted), **priced}, partial(_create_alarm, cloudwatch, wanted, all_tags)
            )
            continue
        current_tags = _tags(cloudwatch, found["AlarmArn"])
        refuse_foreign("Alarm", name, platform, current_tags, "name_prefix")
        before, after = comparable(found), comparable(wanted)
        if before != after:
            differing = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
            plan.update(
                "alarm",
                name,
                {key: before.get(key) for key in differing},
                {key: after.get(key) for key in differing},
                partial(cloudwatch.put_metric_alarm, **wanted),
                unchanged=priced,
            )
        plan.ensure_tags("alarm", name, current_tags, all_tags, partial(_tag, cloudwatch, found["AlarmArn"]))
    wanted_names = {str(alarm["name"]) for alarm in alarms}
    _remove(cloudwatch, platform, {name: each for name, each in known.items() if name not in wanted_names}, plan)


def remove_alarms(cloudwatch: Any, platform: str, plan: Plan) -> None:
    """Remove all alarms of the platform."""
    _remove(cloudwatch, platform, _alarms_of(cloudwatch, platform), plan)


def _remove(cloudwatch: Any, platform: str, alarms: Mapping[str, Mapping[str, Any]], plan: Plan) -> None:
    """Remove those that carry the platform's tag; others may have names that begin like ours."""
    for name, alarm in alarms.items():
        if not _is_ours(cloudwatch, platform, alarm):
            continue
        plan.remove(
            "alarm",
            name,
            {**comparable(alarm), "metrics": _metric_count(alarm)},
            partial(cloudwatch.delete_alarms, AlarmNames=[name]),
        )


def alarm_sizes(cloudwatch: Any, platform: str) -> dict[str, int]:
    """Return the platform's alarms and of how many metrics each is, on which its price depends."""
    return {
        name: _metric_count(alarm)
        for name, alarm in _alarms_of(cloudwatch, platform).items()
        if _is_ours(cloudwatch, platform, alarm)
    }


def _metric_count(alarm: Mapping[str, Any]) -> int:
    return sum("MetricStat" in query for query in alarm.get("Metrics") or [{"MetricStat": {}}])


def _is_ours(cloudwatch: Any, platform: str, alarm: Mapping[str, Any]) -> bool:
    return _tags(cloudwatch, alarm["AlarmArn"]).get(PLATFORM_TAG) == platform


def _alarms_of(cloudwatch: Any, platform: str) -> dict[str, dict[str, Any]]:
    pages = cloudwatch.get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{platform}-")
    return {alarm["AlarmName"]: alarm for page in pages for alarm in page["MetricAlarms"]}


def _create_alarm(cloudwatch: Any, wanted: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    cloudwatch.put_metric_alarm(**wanted, Tags=tag_list(tags))
    return str(wanted["AlarmName"])


def _tags(cloudwatch: Any, arn: str) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in cloudwatch.list_tags_for_resource(ResourceARN=arn)["Tags"]}


def _tag(cloudwatch: Any, arn: str, tags: Mapping[str, str]) -> object:
    return cloudwatch.tag_resource(ResourceARN=arn, Tags=tag_list(tags))


# -- Dashboards ------------------------------------------------------------------------------------------------------


def dashboard_mark(platform: str) -> str:
    """Return what stands in a text of a dashboard of ours, by which it is known to belong to the platform."""
    return f"{PLATFORM_TAG}: {platform}"


def ensure_dashboard(
    cloudwatch: Any, platform: str, name: str, body: Mapping[str, Any], plan: Plan, *, tags: Mapping[str, str]
) -> None:
    """Bring a dashboard to the wanted state; `body` as in the API's "Dashboard body structure and syntax"."""
    found = _dashboard(cloudwatch, name)
    text = json.dumps(body, separators=(",", ":"), sort_keys=True)
    if dashboard_mark(platform) not in text:
        raise Refusal(
            f"The body of the dashboard {name!r} does not say {dashboard_mark(platform)!r}: add it to a text."
        )
    if found is None:
        plan.create(
            "dashboard",
            name,
            {"widgets": len(body["widgets"])},
            lambda: _put_dashboard(cloudwatch, name, text, Tags=tag_list(platform_tags(platform, name, tags))),
        )
        return
    _refuse_foreign_dashboard(platform, name, found)
    if found != body:
        plan.update(
            "dashboard", name, {"body": found}, {"body": dict(body)}, partial(_put_dashboard, cloudwatch, name, text)
        )


def remove_dashboard(cloudwatch: Any, platform: str, name: str, plan: Plan) -> None:
    """Remove a dashboard of ours."""
    found = _dashboard(cloudwatch, name)
    if found is None:
        return
    _refuse_foreign_dashboard(platform, name, found)
    plan.remove(
        "dashboard",
        name,
        {"widgets": len(found.get("widgets", []))},
        partial(cloudwatch.delete_dashboards, DashboardNames=[name]),
    )


def has_dashboard(cloudwatch: Any, name: str) -> bool:
    """Return whether there is a dashboard of this name."""
    return _dashboard(cloudwatch, name) is not None


def _dashboard(cloudwatch: Any, name: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(cloudwatch.get_dashboard(DashboardName=name)["DashboardBody"]))
    except cloudwatch.exceptions.ClientError as error:
        # "ResourceNotFound" is what the service answers, DashboardNotFoundError the name of the error in its model.
        if error_code(error) not in ("ResourceNotFound", "DashboardNotFoundError"):
            raise
        return None


def _put_dashboard(cloudwatch: Any, name: str, text: str, **more: Any) -> str:
    cloudwatch.put_dashboard(DashboardName=name, DashboardBody=text, **more)
    return name


def _refuse_foreign_dashboard(platform: str, name: str, body: Mapping[str, Any]) -> None:
    if dashboard_mark(platform) not in json.dumps(body):
        raise Refusal(
            f"Dashboard {name!r} exists already and does not belong to the platform {platform!r}: no text of it says "
            f"{dashboard_mark(platform)!r}. Choose another observability_dashboard, or, if it is yours, delete it with "
            f"`aws cloudwatch delete-dashboards --dashboard-names {name}` and run this playbook again."
        )


# -- The topic -------------------------------------------------------------------------------------------------------

CHATBOT = re.compile(r"https://global\.sns-api\.chatbot\.amazonaws\.com(/|$)")
"""Amazon Q Developer in chat applications subscribes itself to the topics that it is given."""


def topic_policy(region: str, account: str, platform: str, arn: str) -> dict[str, Any]:
    """Return who may publish to the topic: alarms of this platform and budgets of the account, and over TLS only."""
    alarms = f"arn:{partition(region)}:cloudwatch:{region}:{account}:alarm:{platform}-*"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "AlarmsOfThisPlatform",
                "Effect": "Allow",
                "Principal": {"Service": "cloudwatch.amazonaws.com"},
                "Action": "sns:Publish",
                "Resource": arn,
                "Condition": {"StringEquals": {"aws:SourceAccount": account}, "ArnLike": {"aws:SourceArn": alarms}},
            },
            {
                "Sid": "BudgetsOfThisAccount",
                "Effect": "Allow",
                "Principal": {"Service": "budgets.amazonaws.com"},
                "Action": "sns:Publish",
                "Resource": arn,
                "Condition": {
                    "StringEquals": {"aws:SourceAccount": account},
                    "ArnLike": {"aws:SourceArn": f"arn:{partition(region)}:budgets::{account}:*"},
                },
            },
            {
                "Sid": "NothingWithoutTls",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "sns:Publish",
                "Resource": arn,
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            },
        ],
    }


def topic_arn(region: str, account: str, name: str) -> str:
    """Return the ARN of a topic, which its name determines."""
    return f"arn:{partition(region)}:sns:{region}:{account}:{name}"


def ensure_topic(
    sns: Any,
    platform: str,
    arn: str,
    plan: Plan,
    *,
    policy: Mapping[str, Any],
    key: str,
    emails: Sequence[str],
    webhooks: Sequence[str],
    tags: Mapping[str, str],
) -> list[str]:
    """Bring the topic and its subscriptions to the wanted state; return those that nobody has confirmed yet."""
    name = arn.rpartition(":")[2]
    found = _attributes(sns, arn)
    all_tags = platform_tags(platform, name, tags)
    wanted = {"Policy": dict(policy), "KmsMasterKeyId": key}
    if found is None:
        plan.create("sns-topic", name, wanted, lambda: str(_create_topic(sns, name, policy, key, all_tags)["TopicArn"]))
    else:
        current_tags = {tag["Key"]: tag["Value"] for tag in sns.list_tags_for_resource(ResourceArn=arn)["Tags"]}
        refuse_foreign("SNS topic", name, platform, current_tags, "observability_topic")
        plan.ensure_tags(
            "sns-topic",
            name,
            current_tags,
            all_tags,
            lambda new: sns.tag_resource(ResourceArn=arn, Tags=tag_list(new)),
        )
        current = {
            "Policy": json.loads(found.get("Policy") or "{}"),
            "KmsMasterKeyId": found.get("KmsMasterKeyId", ""),
        }
        plan.update_if_different("sns-topic", name, current, wanted, partial(_set_attributes, sns, arn))
    wanted_subscriptions = [("email", address) for address in emails] + [("https", address) for address in webhooks]
    return _ensure_subscriptions(sns, arn, found is not None, wanted_subscriptions, plan)


def remove_topic(sns: Any, platform: str, arn: str, plan: Plan) -> None:
    """Remove the topic; its subscriptions go with it."""
    found = _attributes(sns, arn)
    if found is None:
        return
    name = arn.rpartition(":")[2]
    tags = {tag["Key"]: tag["Value"] for tag in sns.list_tags_for_resource(ResourceArn=arn)["Tags"]}
    refuse_foreign("SNS topic", name, platform, tags, "observability_topic")
    plan.remove("sns-topic", name, {}, partial(sns.delete_topic, TopicArn=arn))


def _ensure_subscriptions(sns: Any, arn: str, there: bool, wanted: Sequence[tuple[str, str]], plan: Plan) -> list[str]:
    """Subscribe who is missing and take out mail and web addresses that are not wanted; other kinds stay.

    A subscription that waits for its confirmation cannot be taken out. SNS forgets it by itself after two days.
    """
    known: dict[tuple[str, str], str] = {}
    if there:
        pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=arn)
        for item in (each for page in pages for each in page["Subscriptions"]):
            known[item["Protocol"], item["Endpoint"]] = item["SubscriptionArn"]
    for protocol, address in wanted:
        if (protocol, address) not in known:
            known[protocol, address] = plan.create(
                "sns-subscription",
                subscription_name(protocol, address),
                {"protocol": protocol},
                partial(_subscribe, sns, arn, protocol, address),
            )
    for (protocol, address), subscription in known.items():
        extra = protocol in ("email", "https") and (protocol, address) not in wanted and not CHATBOT.match(address)
        if extra and subscription.startswith("arn:"):
            plan.remove(
                "sns-subscription",
                subscription_name(protocol, address),
                {"protocol": protocol},
                partial(sns.unsubscribe, SubscriptionArn=subscription),
            )
    return [
        subscription_name(protocol, address)
        for (protocol, address), subscription in known.items()
        if (protocol, address) in wanted and subscription.lower().replace(" ", "") == "pendingconfirmation"
    ]


def subscription_name(protocol: str, address: str) -> str:
    """Return what to call a subscription; the path of a web address is often a secret."""
    if protocol != "https":
        return address
    return f"https://{urlsplit(address).hostname}/... ({hashlib.sha256(address.encode()).hexdigest()[:8]})"


def _subscribe(sns: Any, arn: str, protocol: str, address: str) -> str:
    return str(sns.subscribe(TopicArn=arn, Protocol=protocol, Endpoint=address)["SubscriptionArn"])


def _attributes(sns: Any, arn: str) -> dict[str, str] | None:
    try:
        return dict(sns.get_topic_attributes(TopicArn=arn)["Attributes"])
    except sns.exceptions.NotFoundException:
        return None


def _create_topic(sns: Any, name: str, policy: Mapping[str, Any], key: str, tags: Mapping[str, str]) -> Any:
    attributes = {"Policy": json.dumps(policy), **({"KmsMasterKeyId": key} if key else {})}
    return sns.create_topic(Name=name, Attributes=attributes, Tags=tag_list(tags))


def _set_attributes(sns: Any, arn: str, changed: Mapping[str, Any]) -> None:
    for name, value in changed.items():
        text = value if isinstance(value, str) else json.dumps(value)
        sns.set_topic_attributes(TopicArn=arn, AttributeName=name, AttributeValue=text)
