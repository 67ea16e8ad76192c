"""docs/security.md, as far as it is about what is asked of AWS and what is in the image: every topology keeps it.

Read from the recorded requests that the tests of the topologies compare with what site.yml really sends, and from the
rendered documents of a production inventory.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
RECORDED = {
    file.stem: json.loads(file.read_text(encoding="utf-8"))
    for file in sorted((ROOT / "tests" / "integration" / "topologies" / "golden").glob("*.json"))
}
RENDERED = {
    f"{file.parent.name}/{file.stem}": json.loads(file.read_text(encoding="utf-8"))
    for file in sorted((ROOT / "tests" / "unit" / "ecs" / "golden").glob("example*/*.json"))
}
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
ANYWHERE = "0.0.0.0/0"

topologies = pytest.mark.parametrize("topology", RECORDED)


def calls(topology: str, name: str) -> list[dict[str, Any]]:
    return [call for call in RECORDED[topology] if call["call"] == name]


def made(topology: str, name: str) -> list[dict[str, Any]]:
    """Return the calls that make something; at least one, unless the topology adopts what others have made."""
    found = calls(topology, name)
    assert found or topology == "adopted", f"{topology} asks for no {name}"
    return found


def policies(topology: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield whose and every statement of the roles and users."""
    for name in ("iam:PutRolePolicy", "iam:PutUserPolicy"):
        for call in calls(topology, name):
            for statement in call["PolicyDocument"]["Statement"]:
                yield str(call.get("RoleName") or call["UserName"]), statement


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# -- encryption at rest ------------------------------------------------------------------------------------------


@topologies
def test_everything_that_keeps_data_encrypts_it(topology: str) -> None:
    for bucket in made(topology, "s3:PutBucketEncryption"):
        (rule,) = bucket["ServerSideEncryptionConfiguration"]["Rules"]
        assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert [call["Encrypted"] for call in calls(topology, "efs:CreateFileSystem")] == [True]
    assert all(call["StorageEncrypted"] for call in made(topology, "rds:CreateDBInstance"))
    (repository,) = calls(topology, "ecr:CreateRepository")
    assert repository["encryptionConfiguration"] == {"encryptionType": "AES256"}
    for instance in calls(topology, "ec2:RunInstances"):
        assert [device["Ebs"]["Encrypted"] for device in instance["BlockDeviceMappings"]] == [True]
    # Log groups and secrets are always encrypted; a key named here would be a customer's.
    for name in ("logs:CreateLogGroup", "secretsmanager:CreateSecret"):
        assert not any("kms" in key.lower() for call in calls(topology, name) for key in call)


# -- encryption in transit ---------------------------------------------------------------------------------------


@topologies
def test_bucket_and_file_system_refuse_what_is_not_encrypted(topology: str) -> None:
    documents = [call["Policy"] for call in made(topology, "s3:PutBucketPolicy")]
    documents += [call["Policy"] for call in calls(topology, "efs:PutFileSystemPolicy")]
    assert documents
    for document in documents:
        (statement,) = document["Statement"]
        assert statement["Effect"] == "Deny"
        assert statement["Principal"] in ("*", {"AWS": "*"})
        assert statement["Action"] in ("*", "s3:*")
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


@topologies
def test_the_database_refuses_what_is_not_encrypted(topology: str) -> None:
    """RDS forces TLS by default from PostgreSQL 15 on; RDS user guide, "Requiring an SSL connection"."""
    for database in made(topology, "rds:CreateDBInstance"):
        assert int(database["EngineVersion"].split(".")[0]) >= 15
        assert "DBParameterGroupName" not in database, "another parameter group has to set rds.force_ssl"


@pytest.mark.parametrize("document", RENDERED)
def test_tasks_encrypt_what_they_say(document: str) -> None:
    task = RENDERED[document]
    (container,) = task["containerDefinitions"]
    environment = {each["name"]: each["value"] for each in container["environment"]}
    assert environment["DAGSTER_POSTGRES_SSLMODE"] in ("require", "verify-full")
    (storage,) = (volume["efsVolumeConfiguration"] for volume in task["volumes"] if "efsVolumeConfiguration" in volume)
    assert storage["transitEncryption"] == "ENABLED"
    assert storage["authorizationConfig"]["iam"] == "ENABLED"


@topologies
def test_the_ui_is_encrypted_where_there_is_a_certificate(topology: str) -> None:
    listeners = calls(topology, "elbv2:CreateListener")
    secure = [listener for listener in listeners if listener["Protocol"] == "HTTPS"]
    for listener in secure:
        assert listener["SslPolicy"].startswith("ELBSecurityPolicy-TLS13-1-2-")
    for listener in listeners:
        if secure and listener not in secure:
            assert [action["Type"] for action in listener["DefaultActions"]] == ["redirect"]


# -- network ------------------------------------------------------------------------------------------------------


@topologies
def test_a_public_ui_asks_for_a_log_in(topology: str) -> None:
    for balancer in calls(topology, "elbv2:CreateLoadBalancer"):
        secure = [call for call in calls(topology, "elbv2:CreateListener") if call["Protocol"] == "HTTPS"]
        if balancer["Scheme"] == "internet-facing":
            (listener,) = secure
            first = min(listener["DefaultActions"], key=lambda action: int(action["Order"]))
            assert first["Type"].startswith("authenticate-")
        (attributes,) = calls(topology, "elbv2:ModifyLoadBalancerAttributes")
        drop = {"Key": "routing.http.drop_invalid_header_fields.enabled", "Value": "true"}
        assert drop in attributes["Attributes"]


@topologies
def test_nobody_comes_in_but_browsers_to_the_ui(topology: str) -> None:
    public = any(call["Scheme"] == "internet-facing" for call in calls(topology, "elbv2:CreateLoadBalancer"))
    opened = set()
    for call in made(topology, "ec2:AuthorizeSecurityGroupIngress"):
        for permission in call["IpPermissions"]:
            assert not permission.get("Ipv6Ranges")
            for peer in permission.get("IpRanges", []):
                opened.add((permission["FromPort"], permission["ToPort"], peer["CidrIp"]))
    for first, last, cidr in opened:
        assert first == last
        if ipaddress.IPv4Network(cidr).is_private:
            assert first in (80, 443, 3000)
        else:
            assert public and first in (80, 443), f"{topology} opens {first} to {cidr}"


@topologies
def test_the_default_security_group_of_the_vpc_lets_nothing_through(topology: str) -> None:
    groups = len(calls(topology, "ec2:CreateSecurityGroup"))
    emptied = {call["GroupId"] for call in calls(topology, "ec2:RevokeSecurityGroupEgress")}
    # A VPC of somebody else keeps its own.
    assert len(emptied) == groups + len(calls(topology, "ec2:CreateVpc"))


@topologies
def test_tasks_and_database_are_private(topology: str) -> None:
    assert all(not call["PubliclyAccessible"] for call in made(topology, "rds:CreateDBInstance"))
    given = {
        call["networkConfiguration"]["awsvpcConfiguration"]["assignPublicIp"]
        for call in calls(topology, "ecs:CreateService")
    }
    assert given == ({"ENABLED"} if topology == "public_tasks" else {"DISABLED"})
    for call in calls(topology, "ec2:CreateSubnet"):
        assert not call.get("MapPublicIpOnLaunch")


@topologies
def test_the_instance_s_credentials_stay_in_it(topology: str) -> None:
    """Tokens, and answers that travel no further than one hop. Fargate tasks have no such service at all."""
    instances = calls(topology, "ec2:RunInstances")
    assert bool(instances) == (topology == "nat_instance")
    for instance in instances:
        assert instance["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
        assert not {"IamInstanceProfile", "KeyName"} & set(instance), "nothing to log in with, nothing to take"


@topologies
def test_the_bucket_is_private_and_keeps_versions(topology: str) -> None:
    for call in made(topology, "s3:PutPublicAccessBlock"):
        assert set(call["PublicAccessBlockConfiguration"].values()) == {True}
        assert len(call["PublicAccessBlockConfiguration"]) == 4
    assert all(call["ObjectOwnership"] == "BucketOwnerEnforced" for call in made(topology, "s3:CreateBucket"))
    assert all(
        call["VersioningConfiguration"] == {"Status": "Enabled"} for call in made(topology, "s3:PutBucketVersioning")
    )


# -- who may do what ----------------------------------------------------------------------------------------------


@topologies
def test_permissions_name_actions_and_resources(topology: str) -> None:
    assert list(policies(topology))
    for whose, statement in policies(topology):
        assert statement["Effect"] == "Allow"
        assert not any("*" in action for action in listed(statement["Action"])), f"{whose}: {statement['Sid']}"
        # These actions know no resource.
        if statement["Sid"] not in ("LogInToEcr", "OpenEcsExecChannels"):
            assert "*" not in listed(statement["Resource"]), f"{whose}: {statement['Sid']}"


@topologies
def test_no_role_may_change_permissions_or_read_other_secrets(topology: str) -> None:
    owner = "warehouse" if topology == "adopted" else "dagster-local"
    prefix = f"arn:aws:secretsmanager:us-east-1:123456789012:secret:{owner}/"
    for _, statement in policies(topology):
        for action in listed(statement["Action"]):
            assert not action.startswith(("iam:", "sts:", "ecs:", "rds:", "ec2:"))
            if action.startswith("secretsmanager:"):
                assert action == "secretsmanager:GetSecretValue"
                assert all(resource.startswith(prefix) for resource in listed(statement["Resource"]))


@topologies
def test_only_tasks_of_this_account_take_the_roles(topology: str) -> None:
    roles = calls(topology, "iam:CreateRole")
    assert len(roles) == 2
    for role in roles:
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
        assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": "123456789012"}


@topologies
def test_keys_exist_only_where_they_are_asked_for(topology: str) -> None:
    assert len(calls(topology, "iam:CreateUser")) == (topology == "nat_gateway")
    assert len(calls(topology, "iam:CreateAccessKey")) == (topology == "nat_gateway")


@topologies
def test_only_alarms_and_budgets_of_this_account_publish_to_the_topic_over_tls(topology: str) -> None:
    (topic,) = calls(topology, "sns:CreateTopic")
    *allowed, denied = topic["Attributes"]["Policy"]["Statement"]
    assert {statement["Principal"]["Service"] for statement in allowed} == {
        "cloudwatch.amazonaws.com",
        "budgets.amazonaws.com",
    }
    for statement in allowed:
        assert statement["Action"] == "sns:Publish"
        assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": "123456789012"}
        assert ":123456789012:" in statement["Condition"]["ArnLike"]["aws:SourceArn"]
    assert denied["Effect"] == "Deny"
    assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


# -- tasks and image ----------------------------------------------------------------------------------------------

TASKS = {
    **RENDERED,
    **{
        f"{topology}/{task['family']}": task
        for topology in RECORDED
        for task in calls(topology, "ecs:RegisterTaskDefinition")
    },
}


@pytest.mark.parametrize("task", TASKS)
def test_tasks_are_confined(task: str) -> None:
    definition = TASKS[task]
    assert definition["networkMode"] == "awsvpc"
    assert definition["requiresCompatibilities"] == ["FARGATE"]
    (container,) = definition["containerDefinitions"]
    # The agent of ECS Exec writes to the root file system.
    with_exec = task.startswith(("example-ecs-exec/", "public_tasks/"))
    assert container["readonlyRootFilesystem"] is not with_exec
    assert container["user"] == "10001:10001"
    assert not container.get("privileged")
    assert container["linuxParameters"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("task", TASKS)
def test_secrets_are_references(task: str) -> None:
    (container,) = TASKS[task]["containerDefinitions"]
    for secret in container["secrets"]:
        assert re.fullmatch(r"arn:aws:secretsmanager:[\w:/-]+:\w+::", secret["valueFrom"]), secret
    plain = {each["name"] for each in container["environment"]}
    assert not any(re.search("PASSWORD|SECRET|TOKEN|ACCESS_KEY", name) for name in plain)


@topologies
def test_images_are_scanned_and_do_not_change_under_a_tag(topology: str) -> None:
    (repository,) = calls(topology, "ecr:CreateRepository")
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
    assert repository["imageTagMutability"] == "IMMUTABLE"


@topologies
def test_logs_are_kept_for_a_while(topology: str) -> None:
    groups = {call["logGroupName"] for call in calls(topology, "logs:CreateLogGroup")}
    kept = {call["logGroupName"]: call["retentionInDays"] for call in calls(topology, "logs:PutRetentionPolicy")}
    assert groups
    assert groups == set(kept)


@topologies
def test_recorded_values_of_secrets_are_left_out(topology: str) -> None:
    """The golden files are in the repository."""
    names = {"SecretString", "MasterUserPassword", "ClientSecret"}

    def values(value: Any) -> Iterator[tuple[str, Any]]:
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
            yield from values(item)
        if isinstance(value, dict):
            yield from ((name, value[name]) for name in names & set(value))

    found = list(values(RECORDED[topology]))
    assert found or topology == "adopted"
    assert all(text == f"({name})" for name, text in found)


def test_the_image_runs_as_nobody_special() -> None:
    final = DOCKERFILE.rsplit("FROM ", 1)[1]
    assert re.findall(r"^USER (.*)$", final, re.MULTILINE) == ["10001:10001"]
    # What is copied belongs to root and cannot be written, also where the root file system can.
    modes = re.findall(r"^COPY --chmod=(\d+) ", final, re.MULTILINE)
    assert modes == ["0555", "0444"]
    assert not re.search(r"^(ADD|ARG|ENV) .*(SECRET|PASSWORD|TOKEN|KEY)", DOCKERFILE, re.MULTILINE | re.IGNORECASE)
    # Everything that is downloaded is checked against a hash.
    installs = re.findall(r"pip install (.*)", DOCKERFILE)
    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-index" in line for line in installs)
