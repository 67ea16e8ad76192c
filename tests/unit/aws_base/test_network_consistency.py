"""What only real EC2 does: it may not know yet what was made a moment ago."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ClientError

from module_utils.aws_network import ensure_network
from module_utils.aws_network_base import NOT_YET_KNOWN_TRIES, NetworkClients, NetworkSpec
from module_utils.aws_network_egress import NAT_USER_DATA
from module_utils.aws_plan import Plan

SPEC = NetworkSpec(
    platform="lab",
    cidr="10.42.0.0/16",
    public_cidrs=("10.42.0.0/24", "10.42.1.0/24"),
    private_cidrs=("10.42.16.0/24", "10.42.17.0/24"),
    region="us-east-1",
    egress="nat_instance",
    nat_instance_type="t4g.nano",
    nat_image_parameter="/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64",
    ui_ports=(80,),
    ui_cidrs=("10.42.0.0/16",),
)


class Empty(BytesIO):
    """The body of an HTTP response without one."""

    def stream(self) -> Iterator[bytes]:
        yield b""


class Outdated:
    """Answers the first calls of an operation in the account's place: what they name is not known."""

    def __init__(self, ec2: Any, operation: str, times: int, code: str = "InvalidGroup.NotFound") -> None:
        self.operation, self.left, self.code = operation, times, code
        self.send = ec2._endpoint._do_get_response
        ec2._endpoint._do_get_response = self.answer

    def answer(self, request: Any, operation: Any, context: Any) -> Any:
        if operation.name != self.operation or self.left == 0:
            return self.send(request, operation, context)
        self.left -= 1
        parsed = {
            "Error": {"Code": self.code, "Message": "It does not exist"},
            "ResponseMetadata": {"HTTPStatusCode": 400},
        }
        return (AWSResponse(request.url, 400, HTTPHeaders(), Empty()), parsed), None


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)


def converge(aws: Any) -> list[dict[str, Any]]:
    plan = Plan()
    ensure_network(NetworkClients(aws.ec2, aws.ssm), SPEC, plan)
    return plan.changes


@pytest.mark.parametrize(
    "operation",
    ["AuthorizeSecurityGroupIngress", "AttachInternetGateway", "AssociateRouteTable", "CreateRoute", "RunInstances"],
)
def test_what_is_not_known_yet_is_asked_for_again(aws: Any, operation: str) -> None:
    outdated = Outdated(aws.ec2, operation, 3)
    assert converge(aws)
    assert outdated.left == 0
    assert converge(aws) == []


def test_what_stays_unknown_is_reported(aws: Any) -> None:
    outdated = Outdated(aws.ec2, "CreateRoute", 100)
    with pytest.raises(ClientError, match="It does not exist"):
        converge(aws)
    assert outdated.left == 100 - NOT_YET_KNOWN_TRIES


def test_other_errors_are_reported_at_once(aws: Any) -> None:
    outdated = Outdated(aws.ec2, "CreateRoute", 100, code="RouteAlreadyExists")
    with pytest.raises(ClientError):
        converge(aws)
    assert outdated.left == 99


def test_the_start_script_of_the_nat_instance_is_a_script() -> None:
    subprocess.run(["sh", "-n"], input=NAT_USER_DATA, text=True, check=True)
