"""What site.yml has made and no module of the collections can read, read back with boto3; verify/ has all the rest.

Run by verify.yml; the client configuration comes from the environment.
"""

from __future__ import annotations

# ruff: noqa: S101
import json
from typing import Any

import boto3

PLATFORM = "dagster-local"


def client(service: str) -> Any:
    session: Any = boto3.Session()
    return session.client(service)


# No module reads access points. community.aws.efs_info, which reads file systems, asks for their tags by DescribeTags:
# AWS still answers that deprecated call, the emulator (moto) does not know it.
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


# Neither collection has a module that reads repositories: community.aws.ecs_ecr only makes them.
def test_images_are_scanned() -> None:
    (repository,) = client("ecr").describe_repositories(repositoryNames=[PLATFORM])["repositories"]
    assert repository["imageScanningConfiguration"]["scanOnPush"] is True


# amazon.aws.secretsmanager_secret, a lookup, runs where the environment of tasks does not reach, and so neither the
# emulator's profile: it would look for credentials of yours.
def test_no_secret_is_in_a_task_definition() -> None:
    secret = client("secretsmanager").get_secret_value(SecretId=f"{PLATFORM}/database")["SecretString"]
    password = json.loads(secret)["password"]
    assert len(password) >= 16
    ecs = client("ecs")
    services = ecs.describe_services(cluster=PLATFORM, services=["webserver", "daemon"])["services"]
    assert len(services) == 2
    for service in services:
        definition = ecs.describe_task_definition(taskDefinition=service["taskDefinition"])["taskDefinition"]
        assert password not in json.dumps(definition, default=str)


# Neither collection has a module that reads application autoscaling: community.aws.application_autoscaling_policy
# only makes policies.
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
