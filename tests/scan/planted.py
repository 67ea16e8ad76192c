"""A platform that is weaker than ours in many ways: a scanner that finds nothing in it does not look."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

from tests.scan.cloudformation import Call

ANYBODY = {"FromPort": 22, "ToPort": 22, "IpProtocol": "tcp", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}

WEAKER: tuple[tuple[str, str, Any, str], ...] = (
    ("rds:CreateDBInstance", "StorageEncrypted", False, "CKV_AWS_16"),
    ("rds:CreateDBInstance", "PubliclyAccessible", True, "CKV_AWS_17"),
    ("efs:CreateFileSystem", "Encrypted", False, "CKV_AWS_42"),
    ("s3:PutPublicAccessBlock", "PublicAccessBlockConfiguration.BlockPublicPolicy", False, "CKV_AWS_54"),
    ("s3:PutBucketVersioning", "VersioningConfiguration.Status", "Suspended", "CKV_AWS_21"),
    ("ecr:CreateRepository", "imageScanningConfiguration.scanOnPush", False, "CKV_AWS_163"),
    ("ecr:CreateRepository", "imageTagMutability", "MUTABLE", "CKV_AWS_51"),
    ("elbv2:ModifyLoadBalancerAttributes", "Attributes", [], "CKV_AWS_131"),
    ("elbv2:CreateListener", "SslPolicy", "ELBSecurityPolicy-2016-08", "CKV_AWS_103"),
    ("ec2:AuthorizeSecurityGroupIngress", "IpPermissions", [ANYBODY], "CKV_AWS_24"),
    ("ec2:RunInstances", "MetadataOptions.HttpTokens", "optional", "CKV_AWS_79"),
    ("iam:PutRolePolicy", "PolicyDocument", EVERYTHING, "CKV_AWS_62"),
    ("logs:PutRetentionPolicy", "retentionInDays", None, "CKV_AWS_66"),
    ("ecs:RegisterTaskDefinition", "volumes.2.efsVolumeConfiguration.transitEncryption", "DISABLED", "CKV_AWS_97"),
)
"""Call, parameter, weaker value (None: left out), check that must fail."""

PLANTED_FILE = "planted.py"
# In two parts, so that nobody finds it in this file.
PLANTED_TEXT = f'key = "AKIA{"Z7QTN4XWEYPLM2BD"}"\n'

EXPECTED = {check for *_, check in WEAKER} | {"CKV_SECRET_2"}


def weakened(calls: Iterable[Call]) -> Iterator[Call]:
    """Yield one call of each kind, that with the most settings, weaker where WEAKER says so."""
    fullest: dict[str, dict[str, Any]] = {}
    for call in calls:
        if len(str(call)) > len(str(fullest.get(call["call"], ""))):
            fullest[call["call"]] = copy.deepcopy(dict(call))
    for name, path, value, _ in WEAKER:
        target: Any = fullest[name]
        *parents, last = path.split(".")
        for key in parents:
            target = target[int(key) if isinstance(target, list) else key]
        assert last in target, f"{name} has no {path}"
        if value is None:
            del target[last]
        else:
            target[last] = value
    yield from fullest.values()
