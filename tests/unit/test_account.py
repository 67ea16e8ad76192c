"""The accounts of unit tests share a process: what one test leaves there, or does to a client, no other finds."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.core.base_backend import BackendDict
from moto.core.models import botocore_stubber

from tests.unit.account import Account, Kept, empty_account

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})


def services() -> set[str]:
    """Return the services of which the plug-ins make clients."""
    found: set[str] = set()
    for text in (path.read_text(encoding="utf-8") for path in PLUGINS.rglob("*.py")):
        found |= set(re.findall(r"\.client\(\s*\"([a-z0-9-]+)\"", text))
        for named in re.findall(r"^    services = \(([^)]*)\)", text, re.MULTILINE):
            found |= set(re.findall(r"\"([a-z0-9-]+)\"", named))
    return found


def alarm(aws: Any) -> None:
    of = {"Namespace": "x", "MetricName": "x", "Period": 60, "Statistic": "Sum", "EvaluationPeriods": 1}
    aws.cloudwatch.put_metric_alarm(AlarmName="x", Threshold=1, ComparisonOperator="GreaterThanThreshold", **of)


def budget(aws: Any) -> None:
    limit = {"Amount": "1", "Unit": "USD"}
    made = {"BudgetName": "x", "TimeUnit": "MONTHLY", "BudgetType": "COST", "BudgetLimit": limit}
    aws.budgets.create_budget(AccountId="123456789012", Budget=made)


def load_balancer(aws: Any) -> None:
    aws.elbv2.create_load_balancer(Name="x", Subnets=[aws.ec2.describe_subnets()["Subnets"][0]["SubnetId"]])


def objects(aws: Any) -> None:
    aws.s3.create_bucket(Bucket="bucket")
    aws.s3.put_object(Bucket="bucket", Key="x", Body=b"x")


def scaling(aws: Any) -> None:
    aws.ecs.create_cluster(clusterName="x")
    aws.ecs.register_task_definition(family="x", containerDefinitions=[{"name": "x", "image": "x", "memory": 64}])
    aws.ecs.create_service(cluster="x", serviceName="x", taskDefinition="x")
    of = {"ServiceNamespace": "ecs", "ResourceId": "service/x/x", "ScalableDimension": "ecs:service:DesiredCount"}
    aws.application_autoscaling.register_scalable_target(MinCapacity=1, MaxCapacity=2, **of)


def table(aws: Any) -> None:
    aws.dynamodb.create_table(
        TableName="table",
        AttributeDefinitions=[{"AttributeName": "x", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "x", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )


MADE: dict[str, tuple[Callable[[Any], object], Callable[[Any], list[Any]]]] = {
    "acm": (
        lambda aws: aws.acm.request_certificate(DomainName="x.example"),
        lambda aws: aws.acm.list_certificates()["CertificateSummaryList"],
    ),
    "application-autoscaling": (
        scaling,
        lambda aws: aws.application_autoscaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"],
    ),
    "budgets": (budget, lambda aws: aws.budgets.describe_budgets(AccountId="123456789012")["Budgets"]),
    "cloudwatch": (alarm, lambda aws: aws.cloudwatch.describe_alarms()["MetricAlarms"]),
    "dynamodb": (table, lambda aws: aws.dynamodb.list_tables()["TableNames"]),
    "ec2": (
        lambda aws: aws.ec2.run_instances(ImageId="ami-0123456789abcdef0", MinCount=1, MaxCount=1),
        lambda aws: aws.ec2.describe_instances()["Reservations"],
    ),
    "ecr": (
        lambda aws: aws.ecr.create_repository(repositoryName="repository"),
        lambda aws: aws.ecr.describe_repositories()["repositories"],
    ),
    "ecs": (lambda aws: aws.ecs.create_cluster(clusterName="x"), lambda aws: aws.ecs.list_clusters()["clusterArns"]),
    "efs": (
        lambda aws: aws.efs.create_file_system(CreationToken="x"),
        lambda aws: aws.efs.describe_file_systems()["FileSystems"],
    ),
    "elbv2": (load_balancer, lambda aws: aws.elbv2.describe_load_balancers()["LoadBalancers"]),
    "iam": (
        lambda aws: aws.iam.create_role(RoleName="x", AssumeRolePolicyDocument=TRUST),
        lambda aws: aws.iam.list_roles()["Roles"],
    ),
    "kms": (lambda aws: aws.kms.create_key(), lambda aws: aws.kms.list_keys()["Keys"]),
    "logs": (
        lambda aws: aws.logs.create_log_group(logGroupName="x"),
        lambda aws: aws.logs.describe_log_groups()["logGroups"],
    ),
    "rds": (
        lambda aws: aws.rds.create_db_instance(
            DBInstanceIdentifier="x", DBInstanceClass="db.t4g.micro", Engine="postgres"
        ),
        lambda aws: aws.rds.describe_db_instances()["DBInstances"],
    ),
    "s3": (objects, lambda aws: aws.s3.list_buckets()["Buckets"]),
    "scheduler": (
        lambda aws: aws.scheduler.create_schedule_group(Name="x"),
        lambda aws: aws.scheduler.list_schedule_groups(NamePrefix="x")["ScheduleGroups"],
    ),
    "secretsmanager": (
        lambda aws: aws.secretsmanager.create_secret(Name="x", SecretString="x"),
        lambda aws: aws.secretsmanager.list_secrets()["SecretList"],
    ),
    "sns": (lambda aws: aws.sns.create_topic(Name="x"), lambda aws: aws.sns.list_topics()["Topics"]),
    "ssm": (
        lambda aws: aws.ssm.put_parameter(Name="x", Value="x", Type="String"),
        lambda aws: aws.ssm.describe_parameters()["Parameters"],
    ),
}
"""How something is made in a service, and what there is."""
NOTHING_TO_MAKE = {"pricing", "service-quotas", "sts"}


def test_every_service_is_looked_at() -> None:
    assert services() - MADE.keys() == NOTHING_TO_MAKE


@pytest.mark.parametrize("service", MADE)
def test_the_next_account_is_empty(kept: Kept, service: str) -> None:
    make, found = MADE[service]
    with empty_account(kept) as before:
        assert found(before) == []
        make(before)
        assert len(found(before)) == 1
    assert BackendDict._instances == []
    with empty_account(kept) as after:
        assert found(after) == []


def test_a_bucket_s_name_is_free_in_another_account(kept: Kept) -> None:
    """Moto knows beside its accounts whose a bucket is."""
    with empty_account(kept) as account:
        objects(account)
    with empty_account(kept) as account:
        with pytest.raises(ClientError, match="NoSuchBucket"):
            account.s3.list_objects_v2(Bucket="bucket")
        objects(account)
        assert len(account.s3.list_objects_v2(Bucket="bucket")["Contents"]) == 1


def test_nothing_is_left_of_it(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the environment nor in clients: what is tested next may want to reach an emulator."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_PROFILE", "somebody's")
    before, session = dict(os.environ), boto3.DEFAULT_SESSION
    with empty_account(kept) as account:
        assert botocore_stubber.enabled
        assert "AWS_PROFILE" not in os.environ
        account.iam.create_role(RoleName="x", AssumeRolePolicyDocument=TRUST)
    assert dict(os.environ) == before
    assert boto3.DEFAULT_SESSION is session
    assert not botocore_stubber.enabled


def test_a_client_is_kept_without_what_was_done_to_it(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    with empty_account(kept) as account:
        first = account.iam
        first.meta.events.register("before-call.iam.ListRoles", lambda **_: asked.append("before-call"))
        first.meta.events.register("before-send.iam.ListRoles", lambda **_: asked.append("before-send"))
        first.list_users = lambda: asked.append("list_users")
        first.list_roles()
        first.list_users()
    assert asked == ["before-call", "before-send", "list_users"]
    with empty_account(kept) as account:
        assert account.iam is first
        account.iam.list_roles()
        assert account.iam.list_users()["Users"] == []
    assert len(asked) == 3


def buckets(aws: Account) -> list[str]:
    return [bucket["Name"] for bucket in aws.s3.list_buckets()["Buckets"]]


def test_what_many_begin_with_is_made_once(kept: Kept) -> None:
    calls: list[str] = []

    def make(aws: Account) -> dict[str, str]:
        calls.append("make")
        objects(aws)
        instance = aws.ec2.run_instances(ImageId="ami-0123456789abcdef0", MinCount=1, MaxCount=1)["Instances"][0]
        key = aws.kms.create_key()["KeyMetadata"]
        return {"instance": instance["InstanceId"], "key": key["KeyId"]}

    first: dict[str, str] = {}
    for _ in range(3):
        with empty_account(kept) as account:
            made = account.once("for the test of once", functools.partial(make, account))
            first = first or dict(made)
            assert made == first
            made["instance"] = "changed by a test"
            reservations = account.ec2.describe_instances()["Reservations"]
            assert [each["InstanceId"] for one in reservations for each in one["Instances"]] == [first["instance"]]
            assert [key["KeyId"] for key in account.kms.list_keys()["Keys"]] == [first["key"]]
            assert account.s3.get_object(Bucket="bucket", Key="x")["Body"].read() == b"x"
            account.s3.create_bucket(Bucket="another")
            account.ec2.terminate_instances(InstanceIds=[first["instance"]])
            assert buckets(account) == ["bucket", "another"]
    assert calls == ["make"]


def test_where_somebody_was_before_it_is_made_there(kept: Kept) -> None:
    with empty_account(kept) as account:
        account.once("a bucket", lambda: objects(account))
    with empty_account(kept) as account:
        account.s3.create_bucket(Bucket="before")
        account.once("a bucket", lambda: account.s3.create_bucket(Bucket="made")["Location"])
        assert buckets(account) == ["before", "made"]
