"""The policies for whoever deploys hold what the modules call, and nothing else."""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml
from ansible.template import Templar, trust_as_template
from botocore import xform_name

from local.iam_policy import Need, allows
from local.iam_reference import action
from tests.unit.deployer.rendering import INVENTORIES, ROOT, render, variables

LIMIT = 6144
"""Characters of a managed policy, white space not counted; "IAM and AWS STS quotas"."""

CALLS: dict[str, tuple[str, ...]] = {
    "alarm_topic": ("sns",),
    "aws_alarms": ("cloudwatch", "sns"),
    "aws_autoscaling": ("application-autoscaling",),
    "aws_backup": ("rds",),
    "image_push": ("ecr",),
    "aws_bucket": ("s3",),
    "aws_budget": ("budgets",),
    "aws_database": ("rds", "ec2"),
    "aws_ecs_cluster": ("ecs",),
    "aws_ecs_service": ("ecs",),
    "aws_file_system": ("efs",),
    "aws_hibernation": ("ecs", "ec2", "rds"),
    "aws_identity": ("iam", "secretsmanager"),
    "aws_lock": ("dynamodb",),
    "aws_load_balancer": ("elbv2", "secretsmanager", "cognito-idp"),
    "aws_logs": ("logs",),
    "aws_network": ("ec2",),
    "aws_network_base": ("ec2",),
    "aws_network_egress": ("ec2", "ssm"),
    "aws_network_groups": ("ec2",),
    "aws_repository": ("ecr",),
    "aws_plan": (),  # waits for what its callers name
    "aws_price_list": ("pricing",),
    "aws_restore": ("rds", "secretsmanager"),
    "aws_resting": ("ec2", "elbv2", "secretsmanager", "application-autoscaling"),
    "aws_rotation": ("rds", "secretsmanager", "iam"),
    "aws_schedules": ("scheduler",),
    "aws_secrets": ("secretsmanager", "kms"),
    "aws_service_pause": ("ecs", "application-autoscaling"),
    "aws_task_definition": ("ecs",),
    "credential_rotation": ("sts",),
    "dag_publish": ("s3",),
    "ecs_autoscaling": ("application-autoscaling", "ecs"),
    "ecs_services": ("ecs",),
    "platform_lock": ("dynamodb",),
    "platform_hibernation": ("ecs", "application-autoscaling", "ec2", "rds", "elbv2", "secretsmanager"),
    "platform_preflight": ("sts", "ec2", "ecs", "application-autoscaling"),
    "aws_reading": ("sts",),
    "image_architecture": ("ecr",),
    "log_lines": ("logs",),
    "platform_doctor": ("ec2", "service-quotas"),
    "platform_status": ("ecs", "rds", "efs", "elbv2", "cloudwatch"),
    "ui_exposure": ("ecs", "ec2", "elbv2", "acm"),
    "task_states": ("ecs", "logs"),
}
"""Which services a file of plugins/ calls."""

OTHERWISE = {
    "ecs:ExecuteCommand": "execute_command is the name of an argument of ours; only a person calls that",
    "kms:TagResource": "tag_resource is called of Secrets Manager",
    "pricing:GetProducts": "for whoever maintains this repository and runs refresh_prices.yml; docs/cost.md names it",
    "sts:GetCallerIdentity": "needs no permission",
    "cognito-idp:DeleteUser": "delete_user is called of IAM",
    "application-autoscaling:UntagResource": "untag_resource is called of ECS",
    "cognito-idp:ListTagsForResource": "only IAM and ECS are asked for theirs",
}
"""What looks like a call that needs a permission, and is none."""

BESIDES = {
    "ecr:BatchCheckLayerAvailability": "docker push",
    "ecr:CompleteLayerUpload": "docker push",
    "ecr:InitiateLayerUpload": "docker push",
    "ecr:PutImage": "docker push, and the index of all platforms over the registry's own API",
    "ecr:UploadLayerPart": "docker push",
    "cognito-idp:DescribeUserPoolClient": "the load balancer looks at the user pool in the caller's name",
    "ec2:CreateNetworkInterface": "EFS makes those of mount targets in the caller's name",
    "ec2:DeleteNetworkInterface": "EFS removes those of mount targets in the caller's name",
    "ec2:ModifyNetworkInterfaceAttribute": "EFS changes those of mount targets in the caller's name",
    "iam:CreateServiceLinkedRole": "once in an account, for each service that was never used there",
    "iam:PassRole": "RegisterTaskDefinition names the roles of tasks, CreateSchedule that of a schedule",
    "route53:AssociateVPCWithHostedZone": "CreateVpcEndpoint with names inside of the VPC",
    "s3:DeleteObjectVersion": "DeleteObjects and DeleteObject with a VersionId",
    "s3:GetObjectVersion": "GetObject, HeadObject and CopyObject with a VersionId",
}
"""Actions that are allowed although no module calls an operation of that name."""


def statements(**changes: Any) -> list[dict[str, Any]]:
    return [statement for policy in render(**changes).values() for statement in policy]


def actions(found: list[dict[str, Any]]) -> set[str]:
    lists = [item["Action"] if isinstance(item["Action"], list) else [item["Action"]] for item in found]
    return {name for names in lists for name in names}


@functools.cache
def called() -> frozenset[str]:
    """Return the actions of every operation whose name stands in the code of the plug-ins."""
    session = botocore.session.get_session()
    found = set[str]()
    for file in sorted((ROOT / "plugins").rglob("*.py")):
        names = set(words(file))
        for service in CALLS.get(file.stem, ()):
            model = session.get_service_model(service)
            found |= {action(service, name) for name in model.operation_names if xform_name(name) in names}
            try:
                waiters = session.get_waiter_model(service)
            except botocore.exceptions.UnknownServiceError:
                continue
            known = {xform_name(name): name for name in waiters.waiter_names}
            found |= {action(service, waiters.get_waiter(known[name]).operation) for name in names & known.keys()}
    return frozenset(found - OTHERWISE.keys())


def words(file: Path) -> Iterator[str]:
    """Yield attributes and texts of a file: `client.describe_x` and `get_paginator("describe_x")` alike."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_call_is_allowed_and_nothing_else() -> None:
    allowed = actions([statement for changes in INVENTORIES.values() for statement in statements(**changes)])
    assert sorted(called() - allowed) == []
    assert sorted(allowed - called() - BESIDES.keys()) == []
    assert sorted(BESIDES.keys() - allowed) == []
    assert sorted(BESIDES.keys() & called()) == [], "it is called: no reason is needed"


def test_no_file_calls_a_service_unseen() -> None:
    """Whatever asks for a client, or is given one, is in the table."""
    services = "|".join(sorted({re.escape(name) for names in CALLS.values() for name in names}))
    for file in sorted((ROOT / "plugins").rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        if file.parent.name == "module_utils" and re.search(
            r"\b(client|ec2|ecs|efs|elb|iam|rds|s3)\.[a-z]+_[a-z_]+\(", text
        ):
            assert file.stem in CALLS, f"{file.name} calls AWS: say in CALLS which services"
        for service in re.findall(r"\.client\(\"([\w-]+)\"", text):
            assert re.fullmatch(services, service), f"{file.name} makes a client of {service}"


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_every_policy_fits(inventory: str) -> None:
    sizes = {
        name: len(re.sub(r"\s", "", json.dumps({"Version": "2012-10-17", "Statement": policy})))
        for name, policy in render(**INVENTORIES[inventory]).items()
    }
    assert {name: size for name, size in sizes.items() if size > LIMIT} == {}
    assert len(sizes) <= 10, "as many can be attached"


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_whatever_knows_no_resource_is_bound_by_a_condition(inventory: str) -> None:
    found = statements(**INVENTORIES[inventory])
    assert [
        item["Sid"]
        for item in found
        if "*" in item["Resource"] and item["Resource"] == "*" and not item.get("Condition")
    ] == []
    names = [item["Sid"] for item in found]
    assert len(names) == len(set(names))
    assert {item["Effect"] for item in found} == {"Allow"}
    assert [name for name in actions(found) if "*" in name] == []


def test_who_deploys_dags_may_do_nothing_else() -> None:
    policy = {"Statement": render()["dags"]}
    bucket = "arn:aws:s3:::dagster-production-dags-123456789012"
    assert allows([policy], Need("s3:PutObject", f"{bucket}/dags/main/assets.py"))
    assert allows([policy], Need("s3:PutObject", f"{bucket}/releases/current"))
    for refused in (
        Need("s3:PutObject", f"{bucket}/data/table.csv"),
        Need("s3:GetObject", f"{bucket}/compute-logs/x"),
        Need("s3:PutObject", "arn:aws:s3:::another/dags/main/assets.py"),
        Need("s3:DeleteBucket", bucket),
        Need("s3:PutBucketPolicy", bucket),
        Need("ecs:UpdateService", "arn:aws:ecs:us-east-1:123456789012:service/dagster-production/webserver"),
        Need("logs:FilterLogEvents", "arn:aws:logs:us-east-1:123456789012:log-group:/ecs/another/webserver"),
        Need("ecs:DescribeTasks", "arn:aws:ecs:us-east-1:123456789012:task/another/1"),
        Need("iam:PassRole", "arn:aws:iam::123456789012:role/dagster-production-task"),
    ):
        assert not allows([policy], refused), refused


def test_names_are_those_of_the_roles() -> None:
    """What a role chooses by default is chosen here, too."""
    loader, found = variables()
    defaults: dict[str, Any] = {}
    for file in sorted((ROOT / "roles").glob("*/defaults/main.yml")):
        defaults |= loader.load_from_file(str(file), trusted_as_template=True)
    text = (ROOT / "policies" / "names.yml").read_text(encoding="utf-8")
    chosen = dict(re.findall(r"\b(\w+) \| default\(([^()]+)\)", text))
    assert {"iam_task_role", "alb_name", "rds_final_snapshot_name"} <= chosen.keys()
    templar = Templar(loader=loader, variables={**defaults, **found})
    for name, default in chosen.items():
        if name in defaults:
            assert templar.template(defaults[name]) == templar.evaluate_expression(trust_as_template(default)), name


def test_roles_tell_of_every_action() -> None:
    """What the roles' READMEs say of permissions and the policies agree."""
    told = set[str]()
    for file in sorted((ROOT / "roles").glob("*/README.md")):
        section = re.split(r"\n## (?:IAM actions|Permissions)\n", file.read_text(encoding="utf-8"))[1].partition(
            "\n## "
        )[0]
        service = ""
        for words in re.findall(r"`([^`]+)`", section):
            # A service stands before the first of its actions: `s3:GetBucketPolicy`, `Get/PutBucketTagging`.
            if found := re.fullmatch(r"(?:([a-z0-9-]+):)?((?:Get/Put)?[A-Z]\w+)", words):
                service, name = found[1] or service, found[2].removeprefix("Get/Put")
                verbs = ("Get", "Put") if name != found[2] else ("",)
                told |= {f"{service}:{verb}{name}" for verb in verbs}
    allowed = actions([statement for changes in INVENTORIES.values() for statement in statements(**changes)])
    assert sorted(told - allowed) == ["sts:GetCallerIdentity"], "always allowed"
    assert sorted(allowed - told) == []


def test_the_playbook_reads_what_is_tested_here() -> None:
    plays = yaml.safe_load((ROOT / "playbooks" / "deployer_policy.yml").read_text(encoding="utf-8"))
    assert [Path(file).stem for file in plays[1]["vars_files"]] == [
        "names",
        "deployer",
        "hibernation",
        "dags",
        "operator",
        "backup",
        "budget",
        "image",
        "trust",
        "repositories",
    ]
    assert plays[1]["vars"]["deployer_policy_limit"] == LIMIT
