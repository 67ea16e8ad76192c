"""Load balancer, target group, listeners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.integration.drift.tables.common import (
    NAME,
    STRANGE_TAG,
    Clients,
    Drift,
    tag_dict,
)
from tests.integration.drift.tables.network import group, subnet


def _balancer(aws: Clients) -> dict[str, Any]:
    return dict(aws("elbv2").describe_load_balancers(Names=[NAME])["LoadBalancers"][0])


def _target_group(aws: Clients) -> dict[str, Any]:
    return dict(aws("elbv2").describe_target_groups(Names=[f"{NAME}-web"])["TargetGroups"][0])


def _listeners(aws: Clients) -> list[dict[str, Any]]:
    return list(aws("elbv2").describe_listeners(LoadBalancerArn=_balancer(aws)["LoadBalancerArn"])["Listeners"])


def _listener_arn(aws: Clients) -> str:
    return str(next(item["ListenerArn"] for item in _listeners(aws) if item["Port"] == 80))


def _elb_tags(aws: Clients, arn: str) -> dict[str, str]:
    return tag_dict(aws("elbv2").describe_tags(ResourceArns=[arn])["TagDescriptions"][0]["Tags"])


def _tag_elb(aws: Clients, arn: str) -> object:
    return aws("elbv2").add_tags(ResourceArns=[arn], Tags=[STRANGE_TAG])


def _balancer_attribute(aws: Clients, key: str) -> str:
    arn = _balancer(aws)["LoadBalancerArn"]
    attributes = aws("elbv2").describe_load_balancer_attributes(LoadBalancerArn=arn)["Attributes"]
    return str({item["Key"]: item["Value"] for item in attributes}[key])


def _set_balancer_attribute(key: str, value: str) -> Callable[[Clients], object]:
    return lambda aws: aws("elbv2").modify_load_balancer_attributes(
        LoadBalancerArn=_balancer(aws)["LoadBalancerArn"], Attributes=[{"Key": key, "Value": value}]
    )


def _target_attribute(aws: Clients, key: str) -> str:
    arn = _target_group(aws)["TargetGroupArn"]
    attributes = aws("elbv2").describe_target_group_attributes(TargetGroupArn=arn)["Attributes"]
    return str({item["Key"]: item["Value"] for item in attributes}[key])


def _change_default_action(aws: Clients) -> object:
    answer = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "503"}}
    return aws("elbv2").modify_listener(ListenerArn=_listeners(aws)[0]["ListenerArn"], DefaultActions=[answer])


def _listener_rules(aws: Clients) -> list[Any]:
    rules = aws("elbv2").describe_rules(ListenerArn=_listener_arn(aws))["Rules"]
    return [rule["Priority"] for rule in rules]


def _add_listener_rule(aws: Clients) -> object:
    return aws("elbv2").create_rule(
        ListenerArn=_listener_arn(aws),
        Priority=5,
        Conditions=[{"Field": "path-pattern", "Values": ["/open/*"]}],
        Actions=[{"Type": "forward", "TargetGroupArn": _target_group(aws)["TargetGroupArn"]}],
    )


def _add_listener(aws: Clients) -> object:
    return aws("elbv2").create_listener(
        LoadBalancerArn=_balancer(aws)["LoadBalancerArn"],
        Protocol="HTTP",
        Port=8080,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": _target_group(aws)["TargetGroupArn"]}],
    )


def _health_check(setting: str, value: object) -> Drift:
    return Drift(
        "target-group",
        setting,
        lambda aws: aws("elbv2").modify_target_group(
            TargetGroupArn=_target_group(aws)["TargetGroupArn"], **{setting: value}
        ),
        lambda aws: _target_group(aws)[setting],
    )


TABLE: tuple[Drift, ...] = (
    Drift(
        "load-balancer",
        "tags",
        lambda aws: _tag_elb(aws, _balancer(aws)["LoadBalancerArn"]),
        lambda aws: _elb_tags(aws, _balancer(aws)["LoadBalancerArn"]),
    ),
    Drift(
        "load-balancer",
        "idle_timeout.timeout_seconds",
        _set_balancer_attribute("idle_timeout.timeout_seconds", "60"),
        lambda aws: _balancer_attribute(aws, "idle_timeout.timeout_seconds"),
    ),
    Drift(
        "load-balancer",
        "routing.http.drop_invalid_header_fields.enabled",
        _set_balancer_attribute("routing.http.drop_invalid_header_fields.enabled", "false"),
        lambda aws: _balancer_attribute(aws, "routing.http.drop_invalid_header_fields.enabled"),
    ),
    Drift(
        "load-balancer",
        "SecurityGroups",
        lambda aws: aws("elbv2").set_security_groups(
            LoadBalancerArn=_balancer(aws)["LoadBalancerArn"], SecurityGroups=[group(aws, "daemon")["GroupId"]]
        ),
        lambda aws: _balancer(aws)["SecurityGroups"],
    ),
    Drift(
        "load-balancer",
        "Subnets",
        lambda aws: aws("elbv2").set_subnets(
            LoadBalancerArn=_balancer(aws)["LoadBalancerArn"],
            Subnets=[subnet(aws, f"public-{number}")["SubnetId"] for number in (1, 2)],
        ),
        lambda aws: sorted(zone["SubnetId"] for zone in _balancer(aws)["AvailabilityZones"]),
    ),
    Drift(
        "load-balancer",
        "IpAddressType",
        lambda aws: aws("elbv2").set_ip_address_type(
            LoadBalancerArn=_balancer(aws)["LoadBalancerArn"], IpAddressType="dualstack"
        ),
        lambda aws: _balancer(aws)["IpAddressType"],
    ),
    Drift(
        "load-balancer",
        "deletion_protection.enabled",
        _set_balancer_attribute("deletion_protection.enabled", "true"),
        lambda aws: _balancer_attribute(aws, "deletion_protection.enabled"),
    ),
    _health_check("HealthCheckPath", "/elsewhere"),
    _health_check("HealthCheckPort", "1"),
    _health_check("HealthCheckProtocol", "HTTPS"),
    _health_check("HealthCheckIntervalSeconds", 299),
    _health_check("HealthCheckTimeoutSeconds", 119),
    _health_check("HealthyThresholdCount", 9),
    _health_check("UnhealthyThresholdCount", 9),
    _health_check("Matcher", {"HttpCode": "200-499"}),
    Drift(
        "target-group",
        "stickiness.enabled",
        lambda aws: aws("elbv2").modify_target_group_attributes(
            TargetGroupArn=_target_group(aws)["TargetGroupArn"],
            Attributes=[{"Key": "stickiness.enabled", "Value": "true"}],
        ),
        lambda aws: _target_attribute(aws, "stickiness.enabled"),
    ),
    Drift(
        "target-group",
        "deregistration_delay.timeout_seconds",
        lambda aws: aws("elbv2").modify_target_group_attributes(
            TargetGroupArn=_target_group(aws)["TargetGroupArn"],
            Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "300"}],
        ),
        lambda aws: _target_attribute(aws, "deregistration_delay.timeout_seconds"),
    ),
    Drift(
        "target-group",
        "tags",
        lambda aws: _tag_elb(aws, _target_group(aws)["TargetGroupArn"]),
        lambda aws: _elb_tags(aws, _target_group(aws)["TargetGroupArn"]),
    ),
    Drift(
        "listener",
        "DefaultActions",
        _change_default_action,
        lambda aws: [item["DefaultActions"] for item in _listeners(aws) if item["Port"] == 80],
    ),
    Drift(
        "listener",
        "tags",
        lambda aws: _tag_elb(aws, _listener_arn(aws)),
        lambda aws: _elb_tags(aws, _listener_arn(aws)),
    ),
    Drift("listener", "Protocol", _add_listener, lambda aws: sorted(item["Port"] for item in _listeners(aws))),
    Drift("listener-rule", "Actions", _add_listener_rule, _listener_rules),
)
