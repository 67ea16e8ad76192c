"""A bucket and a database of yours: refused with the way out, used, left as they are, and given back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.emulated import Emulator, emulator, recap

INSTANCE, SECRET, BUCKET = "warehouse", "warehouse/dagster", "the-team-s-bucket"
ADOPT = (
    *("-e", f"rds_existing_instance={INSTANCE}", "-e", f"rds_existing_secret={SECRET}"),
    *("-e", "s3_existing_bucket=true", "-e", f"dags_bucket_name={BUCKET}"),
)


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An account with a bucket, a database and its secret."""
    with emulator(tmp_path_factory.mktemp("adoption")) as aws:
        s3, ec2, rds = (aws.client(service) for service in ("s3", "ec2", "rds"))
        s3.create_bucket(Bucket=BUCKET)
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        vpc = ec2.create_vpc(CidrBlock="10.99.0.0/16")["Vpc"]["VpcId"]
        group = ec2.create_security_group(GroupName="warehouse", Description="warehouse", VpcId=vpc)["GroupId"]
        rds.create_db_instance(
            DBInstanceIdentifier=INSTANCE,
            Engine="postgres",
            DBInstanceClass="db.m7g.large",
            AllocatedStorage=100,
            MasterUsername="admin",
            MasterUserPassword="not-a-real-password",
            VpcSecurityGroupIds=[group],
        )
        aws.client("secretsmanager").create_secret(
            Name=SECRET, SecretString=json.dumps({"username": "dagster", "password": "not-a-real-password"})
        )
        yield aws


def theirs(aws: Emulator) -> dict[str, Any]:
    """Return everything of what is adopted, as the account shows it."""
    s3, secrets = aws.client("s3"), aws.client("secretsmanager")
    (instance,) = aws.client("rds").describe_db_instances(DBInstanceIdentifier=INSTANCE)["DBInstances"]
    del instance["LatestRestorableTime"]  # moves by itself
    secret = secrets.describe_secret(SecretId=SECRET)
    secret.pop("LastAccessedDate", None)
    del secret["ResponseMetadata"]
    return {
        "instance": instance,
        "secret": secret,
        "objects": s3.list_object_versions(Bucket=BUCKET).get("Versions"),
        "versioning": s3.get_bucket_versioning(Bucket=BUCKET)["Status"],
        "bucket_settings": [
            answers(s3, name) for name in ("tagging", "policy", "lifecycle_configuration", "public_access_block")
        ],
    }


def answers(s3: Any, setting: str) -> str:
    """Return a setting of the bucket, or the code of the error that says there is none."""
    try:
        return str(getattr(s3, f"get_bucket_{setting}" if "block" not in setting else f"get_{setting}")(Bucket=BUCKET))
    except s3.exceptions.ClientError as error:
        return str(error.response["Error"]["Code"])


def instances(aws: Emulator) -> set[str]:
    return {item["DBInstanceIdentifier"] for item in aws.client("rds").describe_db_instances()["DBInstances"]}


def secrets(aws: Emulator) -> set[str]:
    return {item["Name"] for item in aws.client("secretsmanager").list_secrets()["SecretList"]}


def database_host(aws: Emulator) -> str:
    """Return where the daemon's current task definition looks for the database."""
    ecs = aws.client("ecs")
    (arn,) = (arn for arn in ecs.list_services(cluster="dagster-local")["serviceArns"] if arn.endswith("daemon"))
    (service,) = ecs.describe_services(cluster="dagster-local", services=[arn])["services"]
    definition = ecs.describe_task_definition(taskDefinition=service["taskDefinition"])["taskDefinition"]
    environment = {item["name"]: item["value"] for item in definition["containerDefinitions"][0]["environment"]}
    return str(environment["DAGSTER_POSTGRES_HOST"])


def let_tasks_in(aws: Emulator) -> None:
    """Do what the message says."""
    ec2 = aws.client("ec2")
    groups = {group["GroupName"]: group["GroupId"] for group in ec2.describe_security_groups()["SecurityGroups"]}
    ec2.authorize_security_group_ingress(
        GroupId=groups["warehouse"],
        IpPermissions=[
            {
                "IpProtocol": "tcp",
                "FromPort": 5432,
                "ToPort": 5432,
                "UserIdGroupPairs": [
                    {"GroupId": groups["dagster-local-webserver"]},
                    {"GroupId": groups["dagster-local-daemon"]},
                ],
            }
        ],
    )


def test_adopted_after_own_and_own_again(aws: Emulator) -> None:
    """The platform's own database goes once nothing uses it, and a new one comes when it is wanted again."""
    aws.succeed("site.yml")
    assert database_host(aws).startswith("dagster-local.")

    refused = aws.run("site.yml", *ADOPT)
    assert refused.returncode != 0
    assert "do not let the tasks in" in refused.stdout + refused.stderr
    assert "aws ec2 authorize-security-group-ingress --group-id sg-" in refused.stdout + refused.stderr
    assert database_host(aws).startswith("dagster-local.")
    assert instances(aws) == {INSTANCE, "dagster-local"}

    let_tasks_in(aws)
    before = theirs(aws)
    adopted = aws.succeed("site.yml", *ADOPT)
    assert database_host(aws).startswith("warehouse.")
    assert instances(aws) == {INSTANCE}
    assert secrets(aws) == {SECRET}
    assert "has no lifecycle" in adopted.stdout + adopted.stderr
    # A preview compares everything as a run does, and is faster.
    assert recap(aws.succeed("site.yml", "--check", *ADOPT))["changed"] == 0
    assert theirs(aws) == before

    aws.succeed("site.yml")
    assert database_host(aws).startswith("dagster-local.")
    assert instances(aws) == {INSTANCE, "dagster-local"}
    assert recap(aws.succeed("site.yml", "--check"))["changed"] == 0
    assert theirs(aws) == before


def test_what_is_not_there_is_said_in_the_preview(aws: Emulator) -> None:
    result = aws.run("site.yml", "--check", *ADOPT, "-e", "rds_existing_secret=nothing")
    assert result.returncode != 0
    assert "The secret 'nothing' does not exist in this account and region" in result.stdout + result.stderr
