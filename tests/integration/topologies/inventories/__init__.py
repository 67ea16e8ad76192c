"""Inventories of topologies, as variables on top of the local inventory, and what they need to be there before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.integration.emulated import Emulator

HERE = Path(__file__).parent
TOPOLOGIES = ("nat_instance", "nat_gateway", "vpc_endpoints", "public_tasks", "public_ui", "adopted")


def arguments(aws: Emulator, topology: str) -> tuple[str, ...]:
    """Make what the topology takes as given, and return the arguments of a playbook that choose the topology."""
    file = HERE / f"{topology}.yml"
    text = file.read_text(encoding="utf-8")
    given: dict[str, object] = {}
    if "ui_certificate_arn" in text:
        given["ui_certificate_arn"] = aws.client("acm").request_certificate(DomainName="ui.example.com")[
            "CertificateArn"
        ]
    if "client_secret_name" in text:
        aws.client("secretsmanager").create_secret(Name="oidc", SecretString='{"client_secret": "not-a-real-secret"}')
    if "existing" in text:
        given |= _network(aws.client("ec2"))
        _storage(aws, str(given["vpc_existing_id"]))
    return ("-e", f"@{file}", "-e", json.dumps(given))


def _network(ec2: Any) -> dict[str, object]:
    """Make the network of a team: two public and two private subnets, and a way to the internet."""
    vpc = ec2.create_vpc(CidrBlock="10.50.0.0/16")["Vpc"]["VpcId"]
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(VpcId=vpc, InternetGatewayId=gateway)
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.50.{number}.0/24", AvailabilityZone=f"us-east-1{zone}")["Subnet"][
            "SubnetId"
        ]
        for number, zone in enumerate("abab")
    ]
    return {
        "vpc_existing_id": vpc,
        "vpc_existing_public_subnet_ids": subnets[:2],
        "vpc_existing_private_subnet_ids": subnets[2:],
    }


def _storage(aws: Emulator, vpc: str) -> None:
    """Make the bucket and the database that adopted.yml names; whoever is in the VPC may connect to the database."""
    s3, ec2 = aws.client("s3"), aws.client("ec2")
    s3.create_bucket(Bucket="the-team-s-bucket")
    s3.put_bucket_versioning(Bucket="the-team-s-bucket", VersioningConfiguration={"Status": "Enabled"})
    group = ec2.create_security_group(GroupName="warehouse", Description="warehouse", VpcId=vpc)["GroupId"]
    permission = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "IpRanges": [{"CidrIp": "10.50.0.0/16"}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[permission])
    aws.client("rds").create_db_instance(
        DBInstanceIdentifier="warehouse",
        Engine="postgres",
        DBInstanceClass="db.m7g.large",
        AllocatedStorage=100,
        MasterUsername="admin",
        MasterUserPassword="not-a-real-password",
        VpcSecurityGroupIds=[group],
    )
    aws.client("secretsmanager").create_secret(
        Name="warehouse/dagster", SecretString='{"username": "dagster", "password": "not-a-real-password"}'
    )
