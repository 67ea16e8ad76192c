"""Policies are evaluated as AWS documents it, and requests need what the reference says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from local.iam_policy import Need, allows
from local.iam_reference import needs


def policy(condition: Mapping[str, Any] | None = None, **elements: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::lab/*", **elements}
    return {"Statement": [{**statement, **({"Condition": condition} if condition else {})}]}


READ = Need("s3:GetObject", "arn:aws:s3:::lab/dags/x.py", {"aws:ResourceTag/owner": "lab", "aws:TagKeys": ("a", "b")})


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (policy(), True),
        (policy(Action="S3:getobject"), True),
        (policy(Action=["s3:Put*", "s3:Get*"]), True),
        (policy(Action="s3:GetObjectVersion"), False),
        (policy(Resource="arn:aws:s3:::lab"), False),
        (policy(Resource="arn:aws:s3:::lab/dags/?.py"), True),
        (policy(Resource="arn:aws:s3:::lab/dags/??.py"), False),
        (policy(Resource="arn:aws:s3:::LAB/*"), False),
        (policy({"StringEquals": {"aws:ResourceTag/owner": ["other", "lab"]}}), True),
        (policy({"StringEquals": {"AWS:resourcetag/owner": "lab"}}), True),
        (policy({"StringEquals": {"aws:ResourceTag/owner": "LAB"}}), False),
        (policy({"StringEquals": {"aws:ResourceTag/project": "lab"}}), False),
        (policy({"StringEqualsIfExists": {"aws:ResourceTag/project": "lab"}}), True),
        (policy({"StringNotEquals": {"aws:ResourceTag/project": "lab"}}), True),
        (policy({"StringLike": {"aws:ResourceTag/owner": "l*"}}), True),
        (policy({"Null": {"aws:ResourceTag/project": "true"}}), True),
        (policy({"Null": {"aws:ResourceTag/owner": "true"}}), False),
        (policy({"ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b", "c"]}}), True),
        (policy({"ForAllValues:StringEquals": {"aws:TagKeys": ["a"]}}), False),
        (policy({"ForAnyValue:StringEquals": {"aws:TagKeys": ["a"]}}), True),
        # All operators, and all keys of each, have to be met.
        (policy({"StringEquals": {"aws:ResourceTag/owner": "lab"}, "Null": {"aws:ResourceTag/owner": "true"}}), False),
    ],
)
def test_a_statement_applies_or_not(document: dict[str, Any], expected: bool) -> None:
    assert allows([document], READ) is expected


def test_a_denial_outweighs() -> None:
    assert not allows([policy(), policy(Effect="Deny", Action="s3:*")], READ)
    assert not allows([policy(Effect="Deny", Action="s3:*")], READ)
    assert not allows([], READ)
    assert allows([policy(Action="s3:PutObject"), policy()], READ)


def test_an_operator_that_is_not_known_is_an_error() -> None:
    with pytest.raises(KeyError, match="DateLessThan"):
        allows([policy({"DateLessThan": {"aws:ResourceTag/owner": "2026-01-01"}})], READ)


class Lab:
    """An account with one VPC, file system and secret."""

    partition, region, id = "aws", "eu-central-1", "123456789012"

    def tags(self, arn: str) -> dict[str, str]:
        return {"owner": "lab"} if arn.endswith("vpc/vpc-1") else {}

    def owner(self, kind: str, resource_id: str) -> str:  # noqa: ARG002 - there is one of each
        return {"mount-target": "fs-1", "image": "amazon", "association": "rtb-1"}.get(kind, "")


EC2, EFS = "arn:aws:ec2:eu-central-1:123456789012", "arn:aws:elasticfilesystem:eu-central-1:123456789012"
SPECIFICATION = [{"ResourceType": "subnet", "Tags": [{"Key": "owner", "Value": "lab"}]}]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (("ec2", "DescribeVpcs", {}), ["ec2:DescribeVpcs on *"]),
        (
            ("ec2", "CreateSubnet", {"VpcId": "vpc-1", "TagSpecifications": SPECIFICATION}),
            [
                f"ec2:CreateSubnet on {EC2}:subnet/*",
                f"ec2:CreateTags on {EC2}:subnet/*",
                f"ec2:CreateSubnet on {EC2}:vpc/vpc-1",
            ],
        ),
        (
            ("ec2", "DisassociateRouteTable", {"AssociationId": "rtbassoc-1"}),
            [f"ec2:DisassociateRouteTable on {EC2}:route-table/rtb-1"],
        ),
        (
            ("efs", "DeleteMountTarget", {"MountTargetId": "fsmt-1"}),
            [
                f"elasticfilesystem:DeleteMountTarget on {EFS}:file-system/fs-1",
                f"ec2:DeleteNetworkInterface on {EC2}:network-interface/*",
            ],
        ),
        (
            ("s3", "GetObject", {"Bucket": "lab", "Key": "x", "VersionId": "1"}),
            ["s3:GetObjectVersion on arn:aws:s3:::lab/x"],
        ),
        (
            ("s3", "CopyObject", {"Bucket": "lab", "Key": "x", "CopySource": "lab/y?versionId=1"}),
            ["s3:PutObject on arn:aws:s3:::lab/x", "s3:GetObjectVersion on arn:aws:s3:::lab/y"],
        ),
        (
            (
                "s3",
                "DeleteObjects",
                {"Bucket": "lab", "Delete": {"Objects": [{"Key": "x"}, {"Key": "y", "VersionId": "1"}]}},
            ),
            ["s3:DeleteObject on arn:aws:s3:::lab/x", "s3:DeleteObjectVersion on arn:aws:s3:::lab/y"],
        ),
        (
            ("ecs", "RegisterTaskDefinition", {"family": "lab", "taskRoleArn": "arn:aws:iam::123456789012:role/lab"}),
            ["ecs:RegisterTaskDefinition on *", "iam:PassRole on arn:aws:iam::123456789012:role/lab"],
        ),
        (
            ("secretsmanager", "GetSecretValue", {"SecretId": "lab"}),
            ["secretsmanager:GetSecretValue on arn:aws:secretsmanager:eu-central-1:123456789012:secret:lab-??????"],
        ),
        (("sqs", "SendMessage", {"QueueUrl": "x"}), ["sqs:SendMessage on *"]),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_what_a_request_needs(request_: tuple[str, str, dict[str, Any]], expected: list[str]) -> None:
    assert [str(need) for need in needs(*request_, Lab())] == expected


def test_the_context_of_a_need() -> None:
    made, tagged, used = needs("ec2", "CreateSubnet", {"VpcId": "vpc-1", "TagSpecifications": SPECIFICATION}, Lab())
    region = {"aws:RequestedRegion": "eu-central-1"}
    new = {"aws:RequestTag/owner": "lab", "aws:TagKeys": ("owner",)}
    assert made.context == region | new
    assert tagged.context == region | new | {"ec2:CreateAction": "CreateSubnet"}
    assert used.context == region | {"aws:ResourceTag/owner": "lab"}
