"""What site.yml has made, read back with boto3: what must be there, and what must not.

Run by verify.yml; the client configuration comes from the environment.
"""

from __future__ import annotations

# ruff: noqa: S101
import json
from typing import Any

import boto3
import pytest

PLATFORM = "dagster-local"
MARK = [{"Name": "tag:dagster-platform", "Values": [PLATFORM]}]
ANYWHERE = {"0.0.0.0/0", "::/0"}


def client(service: str) -> Any:
    session: Any = boto3.Session()
    return session.client(service)


def ec2(operation: str, key: str) -> list[dict[str, Any]]:
    """Return what carries the platform's mark."""
    return list(getattr(client("ec2"), operation)(Filters=MARK)[key])


@pytest.fixture(scope="module")
def groups() -> dict[str, dict[str, Any]]:
    """The platform's security groups by the last part of their names."""
    found = ec2("describe_security_groups", "SecurityGroups")
    return {group["GroupName"].removeprefix(f"{PLATFORM}-"): group for group in found}


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found = client("ecs").describe_services(cluster=PLATFORM, services=["webserver", "daemon"], include=["TAGS"])
    return {service["serviceName"]: service for service in found["services"]}


def definition(services: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    found: dict[str, Any] = client("ecs").describe_task_definition(taskDefinition=services[name]["taskDefinition"])
    return dict(found["taskDefinition"])


def test_two_public_and_two_private_subnets_in_two_zones() -> None:
    subnets = ec2("describe_subnets", "Subnets")
    by_kind: dict[str, set[str]] = {}
    for subnet in subnets:
        name = next(tag["Value"] for tag in subnet["Tags"] if tag["Key"] == "Name")
        by_kind.setdefault("public" if "public" in name else "private", set()).add(subnet["AvailabilityZone"])
    assert len(subnets) == 4
    assert {kind: len(zones) for kind, zones in by_kind.items()} == {"public": 2, "private": 2}


def test_private_subnets_have_no_route_to_the_internet_gateway() -> None:
    for table in ec2("describe_route_tables", "RouteTables"):
        name = next(tag["Value"] for tag in table["Tags"] if tag["Key"] == "Name")
        to_gateway = [route for route in table["Routes"] if route.get("GatewayId", "").startswith("igw-")]
        assert bool(to_gateway) == ("public" in name), name


def test_s3_is_reached_through_a_gateway_endpoint() -> None:
    (endpoint,) = ec2("describe_vpc_endpoints", "VpcEndpoints")
    assert endpoint["VpcEndpointType"] == "Gateway"
    assert endpoint["ServiceName"].endswith(".s3")


def test_only_what_must_be_reached_is_open(groups: dict[str, dict[str, Any]]) -> None:
    by_id = {group["GroupId"]: name for name, group in groups.items()}
    opened = {
        (name, rule.get("FromPort"), by_id.get(pair["GroupId"], pair["GroupId"]))
        for name, group in groups.items()
        for rule in group["IpPermissions"]
        for pair in rule.get("UserIdGroupPairs", [])
    }
    between = {(port, peer) for name, port, peer in opened if "nat" not in name}
    assert {port for port, _ in between} == {3000, 5432, 2049}
    assert {peer for port, peer in between if port == 3000} == {
        name for name in groups if name.replace("-", "_").endswith("alb")
    }


def test_nothing_is_open_to_the_whole_internet(groups: dict[str, dict[str, Any]]) -> None:
    for name, group in groups.items():
        for rule in group["IpPermissions"]:
            ranges = {item["CidrIp"] for item in rule.get("IpRanges", [])}
            ranges |= {item["CidrIpv6"] for item in rule.get("Ipv6Ranges", [])}
            assert not ranges & ANYWHERE, name


def test_bucket_is_private_encrypted_and_versioned() -> None:
    s3, bucket = client("s3"), f"{PLATFORM}-dags-123456789012"
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    assert all(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
    rules = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] in {"AES256", "aws:kms"}
    statements = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
    assert any(
        statement["Effect"] == "Deny" and statement.get("Condition", {}).get("Bool", {}).get("aws:SecureTransport")
        for statement in statements
    )
    assert not [statement for statement in statements if statement["Effect"] == "Allow"]
    lifecycle = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert any("NoncurrentVersionExpiration" in rule for rule in lifecycle)


def test_database_is_private_encrypted_and_backed_up() -> None:
    (database,) = client("rds").describe_db_instances(DBInstanceIdentifier=PLATFORM)["DBInstances"]
    assert database["Engine"] == "postgres"
    assert database["DBInstanceClass"] == "db.t4g.micro"
    assert database["StorageEncrypted"] is True
    assert database["PubliclyAccessible"] is False
    assert database["BackupRetentionPeriod"] == 7


def test_file_system_is_encrypted_bursting_and_has_one_access_point() -> None:
    efs = client("efs")
    (found,) = [
        item
        for item in efs.describe_file_systems()["FileSystems"]
        if {"Key": "dagster-platform", "Value": PLATFORM} in item["Tags"]
    ]
    assert found["Encrypted"] is True
    assert found["ThroughputMode"] == "bursting"
    (point,) = efs.describe_access_points(FileSystemId=found["FileSystemId"])["AccessPoints"]
    assert point["PosixUser"]["Uid"] == 10001
    assert len(efs.describe_mount_targets(FileSystemId=found["FileSystemId"])["MountTargets"]) == 2


def test_roles_have_no_wildcard_over_data() -> None:
    iam = client("iam")
    for role in ("execution", "task"):
        name = f"{PLATFORM}-{role}"
        policies = [
            iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
            for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]
        ]
        assert policies
        for statement in (statement for policy in policies for statement in policy["Statement"]):
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            assert not [action for action in actions if "*" in action]
            if statement["Resource"] == "*":
                assert actions == ["ecr:GetAuthorizationToken"]  # it knows no resource
        assert iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"] == []


def test_no_iam_user_without_the_setting_for_it() -> None:
    users = {user["UserName"] for user in client("iam").list_users()["Users"]}
    assert users == {"dagster-local-somebody-else"}  # molecule/shared/account.py has made that one


def test_images_are_scanned() -> None:
    (repository,) = client("ecr").describe_repositories(repositoryNames=[PLATFORM])["repositories"]
    assert repository["imageScanningConfiguration"]["scanOnPush"] is True


@pytest.mark.parametrize("service", ["webserver", "daemon"])
def test_log_groups_have_a_retention(service: str) -> None:
    name = f"/ecs/{PLATFORM}/{service}"
    (group,) = client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    assert group["retentionInDays"] > 0


def test_the_load_balancer_is_internal() -> None:
    elb = client("elbv2")
    (balancer,) = elb.describe_load_balancers(Names=[PLATFORM])["LoadBalancers"]
    assert balancer["Scheme"] == "internal"
    (listener,) = elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    assert (listener["Port"], listener["Protocol"]) == (80, "HTTP")
    (group,) = elb.describe_target_groups(LoadBalancerArn=balancer["LoadBalancerArn"])["TargetGroups"]
    assert (group["TargetType"], group["Port"], group["HealthCheckPath"]) == ("ip", 3000, "/server_info")


def test_webserver_is_behind_the_load_balancer_and_daemon_is_alone(services: dict[str, dict[str, Any]]) -> None:
    (target,) = services["webserver"]["loadBalancers"]
    assert (target["containerName"], target["containerPort"]) == ("webserver", 3000)
    assert not services["daemon"].get("loadBalancers")
    assert services["daemon"]["desiredCount"] == 1
    deployment = services["daemon"]["deploymentConfiguration"]
    assert (deployment["minimumHealthyPercent"], deployment["maximumPercent"]) == (0, 100)  # never two at once
    for service in services.values():
        assert service["deploymentConfiguration"]["deploymentCircuitBreaker"] == {"enable": True, "rollback": True}
        assert service["networkConfiguration"]["awsvpcConfiguration"]["assignPublicIp"] == "DISABLED"
        assert service["enableExecuteCommand"] is False
        assert service["propagateTags"] == "SERVICE"


@pytest.mark.parametrize("name", ["webserver", "daemon"])
def test_task_definitions(services: dict[str, dict[str, Any]], name: str) -> None:
    task = definition(services, name)
    assert (task["cpu"], task["memory"]) == ("256", "512")
    assert task["runtimePlatform"]["cpuArchitecture"] == "ARM64"
    (container,) = task["containerDefinitions"]
    assert container["readonlyRootFilesystem"] is True
    assert container["healthCheck"]["startPeriod"] > 0
    assert {item["name"] for item in container["secrets"]} == {"DAGSTER_POSTGRES_USER", "DAGSTER_POSTGRES_PASSWORD"}


def test_no_secret_is_in_a_task_definition(services: dict[str, dict[str, Any]]) -> None:
    secret = client("secretsmanager").get_secret_value(SecretId=f"{PLATFORM}/database")["SecretString"]
    password = json.loads(secret)["password"]
    assert len(password) >= 16
    for name in services:
        assert password not in json.dumps(definition(services, name), default=str)


def test_webserver_is_scaled_between_one_and_two_by_cpu_and_memory() -> None:
    scaling = client("application-autoscaling")
    (target,) = scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"]
    assert target["ResourceId"] == f"service/{PLATFORM}/webserver"
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 2)
    goals = {
        configuration["PredefinedMetricSpecification"]["PredefinedMetricType"]: configuration["TargetValue"]
        for policy in scaling.describe_scaling_policies(ServiceNamespace="ecs")["ScalingPolicies"]
        for configuration in [policy["TargetTrackingScalingPolicyConfiguration"]]
    }
    assert goals == {"ECSServiceAverageCPUUtilization": 70.0, "ECSServiceAverageMemoryUtilization": 80.0}
