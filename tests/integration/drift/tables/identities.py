"""Roles and the user of IAM, secrets, image repository, log groups."""

from __future__ import annotations

import json
from typing import Any

from tests.integration.drift.tables.common import (
    ADMIN,
    ADMIN_ARN,
    NAME,
    STRANGE_TAG,
    Clients,
    Drift,
    tag_dict,
)


def _role_policies(aws: Clients, role: str) -> dict[str, Any]:
    iam = aws("iam")
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    return {name: iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names}


_TASK, _EXECUTION, _USER = f"{NAME}-task", f"{NAME}-execution", f"{NAME}-s3"


def _repository(aws: Clients) -> dict[str, Any]:
    return dict(aws("ecr").describe_repositories(repositoryNames=[NAME])["repositories"][0])


def _log_group(aws: Clients) -> dict[str, Any]:
    return dict(aws("logs").describe_log_groups(logGroupNamePrefix=f"/ecs/{NAME}/webserver")["logGroups"][0])


def _secret(aws: Clients) -> dict[str, Any]:
    return dict(aws("secretsmanager").describe_secret(SecretId=f"{NAME}/database"))


def _has_lifecycle(aws: Clients) -> bool:
    ecr = aws("ecr")
    try:
        ecr.get_lifecycle_policy(repositoryName=NAME)
    except ecr.exceptions.LifecyclePolicyNotFoundException:
        return False
    return True


def _join_group(aws: Clients) -> object:
    aws("iam").create_group(GroupName="administrators")
    return aws("iam").add_user_to_group(GroupName="administrators", UserName=_USER)


def _has_password(aws: Clients) -> bool:
    iam = aws("iam")
    try:
        iam.get_login_profile(UserName=_USER)
    except iam.exceptions.NoSuchEntityException:
        return False
    return True


def _keys(aws: Clients) -> list[dict[str, Any]]:
    return list(aws("iam").list_access_keys(UserName=_USER)["AccessKeyMetadata"])


TABLE: tuple[Drift, ...] = (
    Drift(
        "iam-role",
        "policies",
        lambda aws: aws("iam").put_role_policy(RoleName=_TASK, PolicyName="extra", PolicyDocument=json.dumps(ADMIN)),
        lambda aws: _role_policies(aws, _TASK),
    ),
    Drift(
        "iam-role",
        "attached",
        lambda aws: aws("iam").attach_role_policy(RoleName=_EXECUTION, PolicyArn=ADMIN_ARN),
        lambda aws: aws("iam").list_attached_role_policies(RoleName=_EXECUTION)["AttachedPolicies"],
    ),
    Drift(
        "iam-role",
        "trust",
        lambda aws: aws("iam").update_assume_role_policy(
            RoleName=_EXECUTION,
            PolicyDocument=json.dumps(
                {
                    "Version": "2012-10-17",
                    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
                }
            ),
        ),
        lambda aws: aws("iam").get_role(RoleName=_EXECUTION)["Role"]["AssumeRolePolicyDocument"],
    ),
    Drift(
        "iam-role",
        "description",
        lambda aws: aws("iam").update_role(RoleName=_TASK, Description="mine"),
        lambda aws: aws("iam").get_role(RoleName=_TASK)["Role"].get("Description"),
    ),
    Drift(
        "iam-role",
        "tags",
        lambda aws: aws("iam").tag_role(RoleName=_TASK, Tags=[STRANGE_TAG]),
        lambda aws: tag_dict(aws("iam").list_role_tags(RoleName=_TASK)["Tags"]),
    ),
    Drift(
        "iam-user",
        "attached",
        lambda aws: aws("iam").attach_user_policy(UserName=_USER, PolicyArn=ADMIN_ARN),
        lambda aws: aws("iam").list_attached_user_policies(UserName=_USER)["AttachedPolicies"],
    ),
    Drift(
        "iam-user",
        "policies",
        lambda aws: aws("iam").put_user_policy(UserName=_USER, PolicyName="extra", PolicyDocument=json.dumps(ADMIN)),
        lambda aws: aws("iam").list_user_policies(UserName=_USER)["PolicyNames"],
    ),
    Drift(
        "iam-user",
        "tags",
        lambda aws: aws("iam").tag_user(UserName=_USER, Tags=[STRANGE_TAG]),
        lambda aws: tag_dict(aws("iam").list_user_tags(UserName=_USER)["Tags"]),
    ),
    Drift(
        "iam-user",
        "groups",
        _join_group,
        lambda aws: aws("iam").list_groups_for_user(UserName=_USER)["Groups"],
    ),
    Drift(
        "iam-user",
        "console_password",
        lambda aws: aws("iam").create_login_profile(UserName=_USER, Password="not-a-real-password"),
        _has_password,
    ),
    Drift(
        "iam-access-key",
        "secret",
        lambda aws: aws("iam").update_access_key(
            UserName=_USER, AccessKeyId=_keys(aws)[0]["AccessKeyId"], Status="Inactive"
        ),
        lambda aws: [key["Status"] for key in _keys(aws)],
    ),
    Drift(
        "secret",
        "description",
        lambda aws: aws("secretsmanager").update_secret(SecretId=f"{NAME}/database", Description="mine"),
        lambda aws: _secret(aws)["Description"],
    ),
    Drift(
        "secret",
        "tags",
        lambda aws: aws("secretsmanager").tag_resource(SecretId=f"{NAME}/database", Tags=[STRANGE_TAG]),
        lambda aws: tag_dict(_secret(aws)["Tags"]),
    ),
    Drift(
        "ecr-repository",
        "tag_mutability",
        lambda aws: aws("ecr").put_image_tag_mutability(repositoryName=NAME, imageTagMutability="MUTABLE"),
        lambda aws: _repository(aws)["imageTagMutability"],
    ),
    Drift(
        "ecr-repository",
        "scan_on_push",
        lambda aws: aws("ecr").put_image_scanning_configuration(
            repositoryName=NAME, imageScanningConfiguration={"scanOnPush": False}
        ),
        lambda aws: _repository(aws)["imageScanningConfiguration"],
    ),
    Drift(
        "ecr-repository",
        "lifecycle",
        lambda aws: aws("ecr").delete_lifecycle_policy(repositoryName=NAME),
        lambda aws: [
            item["lifecyclePolicyText"]
            for item in ([aws("ecr").get_lifecycle_policy(repositoryName=NAME)] if _has_lifecycle(aws) else [])
        ],
    ),
    Drift(
        "ecr-repository",
        "tags",
        lambda aws: aws("ecr").tag_resource(resourceArn=_repository(aws)["repositoryArn"], tags=[STRANGE_TAG]),
        lambda aws: tag_dict(aws("ecr").list_tags_for_resource(resourceArn=_repository(aws)["repositoryArn"])["tags"]),
    ),
    Drift(
        "log-group",
        "retention_days",
        lambda aws: aws("logs").put_retention_policy(logGroupName=f"/ecs/{NAME}/webserver", retentionInDays=1),
        lambda aws: _log_group(aws)["retentionInDays"],
    ),
    Drift(
        "log-group",
        "tags",
        lambda aws: aws("logs").tag_resource(
            resourceArn=_log_group(aws)["arn"].removesuffix(":*"), tags={"owner": "somebody"}
        ),
        lambda aws: aws("logs").list_tags_for_resource(resourceArn=_log_group(aws)["arn"].removesuffix(":*"))["tags"],
    ),
)
