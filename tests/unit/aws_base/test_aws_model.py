"""What botocore's own validation lets through: enumerations, patterns and upper limits."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.session import get_session

from module_utils.aws_model import request_problems


@pytest.mark.parametrize(
    ("service", "operation", "request_", "problem"),
    [
        ("logs", "CreateLogGroup", {"logGroupName": "x" * 513}, "logGroupName has a length of 513; at most 512"),
        ("logs", "CreateLogGroup", {"logGroupName": "a b"}, "logGroupName is 'a b', which does not match"),
        (
            "iam",
            "TagRole",
            {"RoleName": "x", "Tags": [{"Key": "k", "Value": "v"}] * 51},
            "Tags has a length of 51; at most 50",
        ),
        (
            "iam",
            "TagRole",
            {"RoleName": "x", "Tags": [{"Key": "k" * 129, "Value": "v"}]},
            "Tags[0].Key has a length of 129",
        ),
        (
            "elbv2",
            "CreateTargetGroup",
            {"Name": "x", "HealthCheckIntervalSeconds": 301},
            "HealthCheckIntervalSeconds is 301; at most 300",
        ),
        ("elbv2", "CreateTargetGroup", {"Name": "x", "TargetType": "ipv4"}, "TargetType is 'ipv4'; choices: instance"),
        ("ecs", "UpdateService", {"service": "x", "propagateTags": "YES"}, "propagateTags is 'YES'; choices:"),
    ],
)
def test_what_the_model_forbids(service: str, operation: str, request_: dict[str, Any], problem: str) -> None:
    (found,) = request_problems(get_session().get_service_model(service), operation, request_)
    assert found.startswith(problem)


def test_what_it_allows() -> None:
    model = get_session().get_service_model("elbv2")
    request = {"Name": "x", "TargetType": "ip", "HealthCheckIntervalSeconds": 300, "Matcher": {"HttpCode": "200"}}
    assert request_problems(model, "CreateTargetGroup", request) == []
