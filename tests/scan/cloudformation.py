"""CloudFormation templates made from recorded requests, for scanners that read nothing nearer to what is sent.

Properties of CloudFormation are named nearly as the parameters of the API; what differs is in the tables here. A
request that no table knows is an error, so that nothing escapes the scanner by being new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Call = Mapping[str, Any]
"""A request as in tests/integration/topologies/golden: `call` is <service>:<operation>, the rest its parameters."""

MAKING = {
    "ec2:CreateVpc": "EC2::VPC",
    "ec2:CreateSubnet": "EC2::Subnet",
    "ec2:CreateSecurityGroup": "EC2::SecurityGroup",
    "ec2:CreateVpcEndpoint": "EC2::VPCEndpoint",
    "ec2:CreateRoute": "EC2::Route",
    "ec2:CreateNatGateway": "EC2::NatGateway",
    "ec2:AllocateAddress": "EC2::EIP",
    "ec2:RunInstances": "EC2::Instance",
    "secretsmanager:CreateSecret": "SecretsManager::Secret",
    "rds:CreateDBSubnetGroup": "RDS::DBSubnetGroup",
    "rds:CreateDBInstance": "RDS::DBInstance",
    "elbv2:CreateTargetGroup": "ElasticLoadBalancingV2::TargetGroup",
    "elbv2:CreateLoadBalancer": "ElasticLoadBalancingV2::LoadBalancer",
    "elbv2:CreateListener": "ElasticLoadBalancingV2::Listener",
    "efs:CreateFileSystem": "EFS::FileSystem",
    "efs:CreateMountTarget": "EFS::MountTarget",
    "efs:CreateAccessPoint": "EFS::AccessPoint",
    "s3:CreateBucket": "S3::Bucket",
    "s3:PutBucketPolicy": "S3::BucketPolicy",
    "ecr:CreateRepository": "ECR::Repository",
    "logs:CreateLogGroup": "Logs::LogGroup",
    "iam:CreateRole": "IAM::Role",
    "iam:CreateUser": "IAM::User",
    "iam:PutRolePolicy": "IAM::Policy",
    "iam:PutUserPolicy": "IAM::Policy",
    "iam:CreateAccessKey": "IAM::AccessKey",
    "ecs:RegisterTaskDefinition": "ECS::TaskDefinition",
    "ecs:CreateCluster": "ECS::Cluster",
    "ecs:CreateService": "ECS::Service",
    "sns:CreateTopic": "SNS::Topic",
    "cloudwatch:PutMetricAlarm": "CloudWatch::Alarm",
    "dynamodb:CreateTable": "DynamoDB::Table",
}
"""What a call makes."""

COMPLETING = {
    "ec2:ModifyVpcAttribute": ("EC2::VPC", ""),
    "elbv2:ModifyTargetGroupAttributes": ("ElasticLoadBalancingV2::TargetGroup", ""),
    "elbv2:ModifyLoadBalancerAttributes": ("ElasticLoadBalancingV2::LoadBalancer", ""),
    "efs:PutFileSystemPolicy": ("EFS::FileSystem", ""),
    "efs:PutLifecycleConfiguration": ("EFS::FileSystem", ""),
    "s3:PutBucketVersioning": ("S3::Bucket", "Bucket"),
    "s3:PutBucketEncryption": ("S3::Bucket", "Bucket"),
    "s3:PutPublicAccessBlock": ("S3::Bucket", "Bucket"),
    "s3:PutBucketLifecycleConfiguration": ("S3::Bucket", "Bucket"),
    "ecr:PutLifecyclePolicy": ("ECR::Repository", "repositoryName"),
    "logs:PutRetentionPolicy": ("Logs::LogGroup", "logGroupName"),
}
"""What a call completes, and the parameter that says which one; without, there is only one."""

RULES = {
    "ec2:AuthorizeSecurityGroupIngress": ("EC2::SecurityGroupIngress", "Source"),
    "ec2:AuthorizeSecurityGroupEgress": ("EC2::SecurityGroupEgress", "Destination"),
}

LEFT_OUT = {
    "ec2:AssociateRouteTable": "connects",
    "ec2:AttachInternetGateway": "connects",
    "ec2:CreateInternetGateway": "has no settings",
    "ec2:CreateRouteTable": "has no settings; its routes are in",
    "ec2:ModifyInstanceAttribute": "the NAT instance forwards what is not addressed to it; no check looks at that",
    "ec2:RevokeSecurityGroupEgress": "takes the rule away that a template never has",
    "s3:PutBucketTagging": "costs, not security",
    "secretsmanager:PutSecretValue": "a template holds no values",
    "application-autoscaling:RegisterScalableTarget": "numbers of tasks",
    "application-autoscaling:PutScalingPolicy": "numbers of tasks",
    "cloudwatch:PutDashboard": "shows metrics",
    "sns:Subscribe": "who is told is the inventory's",
    "budgets:CreateBudget": "costs, not security",
}
"""Calls that say nothing about security, and why."""

NAMES = {
    "VpcSecurityGroupIds": "VPCSecurityGroups",
    "EfsVolumeConfiguration": "EFSVolumeConfiguration",
    "Iam": "IAM",
    "ApplyServerSideEncryptionByDefault": "ServerSideEncryptionByDefault",
    "ID": "Id",
}
"""Parameters that CloudFormation spells in another way."""

DROPPED = {
    *("call", "Tags", "TagSpecifications", "TagSet", "ClientToken", "ClientRequestToken", "CreationToken"),
    *("MinCount", "MaxCount", "Tagging"),
}


Properties = dict[str, Any]

ANOTHER_FORM: dict[str, Callable[[Properties], Properties]] = {
    "ec2:ModifyVpcAttribute": lambda given: {"EnableDnsHostnames": given["EnableDnsHostnames"]["Value"]},
    "ec2:CreateSecurityGroup": lambda given: {**given, "GroupDescription": given["Description"]},
    "elbv2:ModifyLoadBalancerAttributes": lambda given: {"LoadBalancerAttributes": given["Attributes"]},
    "elbv2:ModifyTargetGroupAttributes": lambda given: {"TargetGroupAttributes": given["Attributes"]},
    "efs:PutFileSystemPolicy": lambda given: {"FileSystemPolicy": given["Policy"]},
    "s3:CreateBucket": lambda given: {"Bucket": given["Bucket"], "BucketName": given["Bucket"]},
    "s3:PutBucketPolicy": lambda given: {"Bucket": given["Bucket"], "PolicyDocument": given["Policy"]},
    "s3:PutBucketEncryption": lambda given: {
        "BucketEncryption": {
            "ServerSideEncryptionConfiguration": given["ServerSideEncryptionConfiguration"]["Rules"],
        }
    },
    "iam:PutRolePolicy": lambda given: {**given, "Roles": [given["RoleName"]]},
    "iam:PutUserPolicy": lambda given: {**given, "Users": [given["UserName"]]},
    "sns:CreateTopic": lambda given: {
        "TopicName": given["Name"],
        **{name: value for name, value in given["Attributes"].items() if name != "Policy"},
    },
}
"""Calls whose parameters are properties of more than another spelling."""


def _same(given: Properties) -> Properties:
    return given


def template(calls: Iterable[Call]) -> dict[str, Any]:
    """Return the template of everything that the calls make. Raise KeyError for a call that no table knows."""
    resources: dict[str, dict[str, Any]] = {}

    def add(kind: str, properties: Any) -> None:
        number = 1 + sum(resource["Type"] == f"AWS::{kind}" for resource in resources.values())
        resources[f"{kind.replace('::', '')}{number}"] = {"Type": f"AWS::{kind}", "Properties": properties}

    for call in calls:
        name = call["call"]
        if name in RULES:
            for rule in _rules(call, RULES[name][1]):
                add(RULES[name][0], rule)
        elif name in COMPLETING:
            kind, key = COMPLETING[name]
            (found,) = (
                resource["Properties"]
                for resource in resources.values()
                if resource["Type"] == f"AWS::{kind}"
                if not key or resource["Properties"][_capital(key)] == call[key]
            )
            found.update(ANOTHER_FORM.get(name, _same)(_properties(call)))
        elif name not in LEFT_OUT:
            if name not in MAKING:
                raise KeyError(
                    f"{name} is in no table: add it to MAKING, COMPLETING or LEFT_OUT, tests/scan/cloudformation.py"
                )
            add(MAKING[name], ANOTHER_FORM.get(name, _same)(_properties(call)))
        if name == "ec2:RunInstances":
            # Checks of the metadata service look at launch templates only, which hold the same parameters.
            add("EC2::LaunchTemplate", {"LaunchTemplateData": _properties(call)})
        if name == "sns:CreateTopic":
            add("SNS::TopicPolicy", {"Topics": [call["Name"]], "PolicyDocument": call["Attributes"]["Policy"]})
    return {"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}


def _capital(name: str) -> str:
    capital = name[:1].upper() + name[1:]
    return NAMES.get(capital, capital)


def _properties(value: Any, *, policy: bool = False) -> Any:
    """Return parameters in CloudFormation's spelling; policy documents stay as they are."""
    if isinstance(value, list):
        return [_properties(item, policy=policy) for item in value]
    if not isinstance(value, Mapping):
        return value
    if policy or "Statement" in value:
        return {name: _properties(item, policy=True) for name, item in value.items()}
    return {_capital(name): _properties(item) for name, item in value.items() if _capital(name) not in DROPPED}


def _rules(call: Call, peer: str) -> Iterable[dict[str, Any]]:
    """Yield the rules of a security group one by one; `peer` is Source or Destination."""
    for permission in call["IpPermissions"]:
        ports = {name: permission[name] for name in ("IpProtocol", "FromPort", "ToPort") if name in permission}
        peers = [
            *permission.get("IpRanges", []),
            *(
                {f"{peer}SecurityGroupId": each["GroupId"], "Description": each.get("Description", "")}
                for each in permission.get("UserIdGroupPairs", [])
            ),
        ]
        for each in peers:
            yield {"GroupId": call["GroupId"], **ports, **each}
