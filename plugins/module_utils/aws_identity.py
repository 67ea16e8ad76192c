"""IAM roles with one inline policy each, and the optional user whose keys live in a secret."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from .aws_plan import Plan, Refusal, error_code, platform_tags, refuse_foreign, tag_dict, tag_list
from .aws_secrets import CURRENT, read_value

POLICY_NAME = "dagster"
KEY_KIND = "iam-access-key"
KEY_ID, SECRET_KEY = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
"""Fields of the secret that holds an access key; ECS injects them as variables of the same names."""

Document = Mapping[str, Any]


def ensure_role(
    iam: Any,
    platform: str,
    name: str,
    plan: Plan,
    *,
    description: str,
    trust: Document,
    policy: Document,
    tags: Mapping[str, str],
) -> str:
    """Bring a role to the wanted state and return its ARN.

    The role has exactly the one inline policy: others, inline or attached, are permissions that nobody reviewed, and
    are taken away.
    """
    kind = "iam-role"
    all_tags = platform_tags(platform, name, tags)
    found = _get(lambda: iam.get_role(RoleName=name)["Role"])
    current: dict[str, Any] = {"policies": {}, "attached": []}
    if found is None:
        arn = plan.create(
            kind,
            name,
            {"description": description, "trust": trust},
            lambda: str(
                iam.create_role(
                    RoleName=name,
                    Description=description,
                    AssumeRolePolicyDocument=json.dumps(trust),
                    Tags=tag_list(all_tags),
                )["Role"]["Arn"]
            ),
        )
    else:
        arn = str(found["Arn"])
        current_tags = tag_dict(found.get("Tags"))
        refuse_foreign("IAM role", name, platform, current_tags, "name_prefix")
        plan.ensure_tags(
            kind,
            name,
            current_tags,
            all_tags,
            lambda new: iam.tag_role(RoleName=name, Tags=tag_list(new)),
        )
        plan.update_if_different(
            kind,
            name,
            {"trust": found["AssumeRolePolicyDocument"]},
            {"trust": trust},
            lambda _: iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust)),
        )
        plan.update_if_different(
            kind,
            name,
            {"description": found.get("Description", "")},
            {"description": description},
            lambda _: iam.update_role(RoleName=name, Description=description),
        )
        current = {
            "policies": {
                policy_name: iam.get_role_policy(RoleName=name, PolicyName=policy_name)["PolicyDocument"]
                for policy_name in _all(iam, "list_role_policies", "PolicyNames", RoleName=name)
            },
            "attached": [
                attached["PolicyArn"]
                for attached in _all(iam, "list_attached_role_policies", "AttachedPolicies", RoleName=name)
            ],
        }

    def write(changed: Mapping[str, Any]) -> None:
        if "policies" in changed:
            if current["policies"].get(POLICY_NAME) != policy:
                iam.put_role_policy(RoleName=name, PolicyName=POLICY_NAME, PolicyDocument=json.dumps(policy))
            for extra in sorted(set(current["policies"]) - {POLICY_NAME}):
                iam.delete_role_policy(RoleName=name, PolicyName=extra)
        if "attached" in changed:
            for attached in current["attached"]:
                iam.detach_role_policy(RoleName=name, PolicyArn=attached)

    plan.update_if_different(kind, name, current, {"policies": {POLICY_NAME: policy}, "attached": []}, write)
    return arn


def remove_role(iam: Any, platform: str, name: str, plan: Plan) -> None:
    """Remove a role with its policies."""
    found = _get(lambda: iam.get_role(RoleName=name)["Role"])
    if found is None:
        return
    refuse_foreign("IAM role", name, platform, tag_dict(found.get("Tags")), "name_prefix")

    def remove() -> None:
        for policy_name in _all(iam, "list_role_policies", "PolicyNames", RoleName=name):
            iam.delete_role_policy(RoleName=name, PolicyName=policy_name)
        for attached in _all(iam, "list_attached_role_policies", "AttachedPolicies", RoleName=name):
            iam.detach_role_policy(RoleName=name, PolicyArn=attached["PolicyArn"])
        iam.delete_role(RoleName=name)

    plan.remove("iam-role", name, {"arn": found["Arn"]}, remove)


def ensure_user(iam: Any, platform: str, name: str, plan: Plan, *, policy: Document, tags: Mapping[str, str]) -> None:
    """Bring the user to the wanted state: one inline policy, no console password, no other permissions."""
    kind = "iam-user"
    all_tags = platform_tags(platform, name, tags)
    found = _get(lambda: iam.get_user(UserName=name)["User"])
    current: dict[str, Any] = {"policies": {}, "attached": [], "groups": [], "console_password": False}
    if found is None:
        plan.create(
            kind,
            name,
            {},
            lambda: str(iam.create_user(UserName=name, Tags=tag_list(all_tags))["User"]["Arn"]),
        )
    else:
        current_tags = tag_dict(_all(iam, "list_user_tags", "Tags", UserName=name))
        refuse_foreign("IAM user", name, platform, current_tags, "name_prefix")
        plan.ensure_tags(
            kind,
            name,
            current_tags,
            all_tags,
            lambda new: iam.tag_user(UserName=name, Tags=tag_list(new)),
        )
        current = {
            "policies": {
                policy_name: iam.get_user_policy(UserName=name, PolicyName=policy_name)["PolicyDocument"]
                for policy_name in _all(iam, "list_user_policies", "PolicyNames", UserName=name)
            },
            "attached": [
                attached["PolicyArn"]
                for attached in _all(iam, "list_attached_user_policies", "AttachedPolicies", UserName=name)
            ],
            "groups": _groups(iam, name),
            "console_password": _has_console_password(iam, name),
        }

    def write(changed: Mapping[str, Any]) -> None:
        if "policies" in changed:
            if current["policies"].get(POLICY_NAME) != policy:
                iam.put_user_policy(UserName=name, PolicyName=POLICY_NAME, PolicyDocument=json.dumps(policy))
            for extra in sorted(set(current["policies"]) - {POLICY_NAME}):
                iam.delete_user_policy(UserName=name, PolicyName=extra)
        if "attached" in changed:
            for attached in current["attached"]:
                iam.detach_user_policy(UserName=name, PolicyArn=attached)
        if "groups" in changed:
            _leave_groups(iam, name, current["groups"])
        if "console_password" in changed:
            iam.delete_login_profile(UserName=name)

    wanted = {"policies": {POLICY_NAME: policy}, "attached": [], "groups": [], "console_password": False}
    plan.update_if_different(kind, name, current, wanted, write)


def ensure_access_key(iam: Any, secrets: Any, user: str, secret_id: str, plan: Plan) -> None:
    """Make sure that the secret holds an active access key of the user; make one only if it does not.

    The key goes from IAM to Secrets Manager in this process and is returned to nobody.
    """
    keys = access_keys(iam, user) or {}
    stored = stored_key(secrets, secret_id)
    if keys.get(stored or "") == "Active":
        return
    # A key that no secret holds is of no use to anybody: left by an interrupted run, or its secret was overwritten.
    for key in keys:
        remove_access_key(iam, user, key, plan)
    create_access_key(iam, secrets, user, secret_id, plan)


def refuse_foreign_user(iam: Any, platform: str, name: str) -> None:
    """Raise `Refusal` if the user was not made for this platform."""
    tags = tag_dict(_all(iam, "list_user_tags", "Tags", UserName=name))
    refuse_foreign("IAM user", name, platform, tags, "name_prefix")


def access_keys(iam: Any, user: str) -> dict[str, str] | None:
    """Return the status, Active or Inactive, of each access key of the user by its id; None if there is no user."""
    if _get(lambda: iam.get_user(UserName=user)["User"]) is None:
        return None
    found = _all(iam, "list_access_keys", "AccessKeyMetadata", UserName=user)
    return {str(key["AccessKeyId"]): str(key["Status"]) for key in found}


def create_access_key(iam: Any, secrets: Any, user: str, secret_id: str, plan: Plan) -> str:
    """Make an access key, store it in the secret as its current version, and return its id."""

    def create() -> str:
        made = iam.create_access_key(UserName=user)["AccessKey"]
        value = {
            KEY_ID: made["AccessKeyId"],
            SECRET_KEY: made["SecretAccessKey"],
        }
        secrets.put_secret_value(SecretId=secret_id, SecretString=json.dumps(value))
        return str(made["AccessKeyId"])

    return plan.create(KEY_KIND, user, {"secret": secret_id}, create)


def remove_access_key(iam: Any, user: str, key: str, plan: Plan) -> None:
    """Delete an access key."""
    plan.remove(KEY_KIND, user, {"id": key}, partial(iam.delete_access_key, UserName=user, AccessKeyId=key))


def remove_user(iam: Any, platform: str, name: str, plan: Plan) -> None:
    """Remove the user with its keys and policies."""
    found = _get(lambda: iam.get_user(UserName=name)["User"])
    if found is None:
        return
    refuse_foreign_user(iam, platform, name)

    def remove() -> None:
        for key in _all(iam, "list_access_keys", "AccessKeyMetadata", UserName=name):
            iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
        for policy_name in _all(iam, "list_user_policies", "PolicyNames", UserName=name):
            iam.delete_user_policy(UserName=name, PolicyName=policy_name)
        for attached in _all(iam, "list_attached_user_policies", "AttachedPolicies", UserName=name):
            iam.detach_user_policy(UserName=name, PolicyArn=attached["PolicyArn"])
        _leave_groups(iam, name, _groups(iam, name))
        if _has_console_password(iam, name):
            iam.delete_login_profile(UserName=name)
        iam.delete_user(UserName=name)

    plan.remove("iam-user", name, {"arn": found["Arn"]}, remove)


def stored_key(secrets: Any, secret_id: str, stage: str = CURRENT) -> str | None:
    """Return the id (not the key) that the secret's version with the label `stage` holds, or None."""
    try:
        return str(read_value(secrets, secret_id, stage)[KEY_ID])
    except KeyError:
        return None
    except Exception as error:
        if error_code(error) == "ResourceNotFoundException":
            return None
        if error_code(error) == "InvalidRequestException":
            raise Refusal(
                f"The secret {secret_id!r} is scheduled for deletion. Run the role secrets_manager first: "
                "`ansible-playbook site.yml --tags preflight,secrets_manager,iam`."
            ) from error
        raise


def _groups(iam: Any, user: str) -> list[str]:
    return [str(group["GroupName"]) for group in _all(iam, "list_groups_for_user", "Groups", UserName=user)]


def _leave_groups(iam: Any, user: str, groups: Iterable[str]) -> None:
    for group in groups:
        iam.remove_user_from_group(UserName=user, GroupName=group)


def _has_console_password(iam: Any, user: str) -> bool:
    return _get(lambda: iam.get_login_profile(UserName=user)["LoginProfile"]) is not None


def _get(call: Any) -> dict[str, Any] | None:
    try:
        return dict(call())
    except Exception as error:
        if error_code(error) == "NoSuchEntity":
            return None
        raise


def _all(iam: Any, operation: str, result: str, **arguments: str) -> list[Any]:
    pages = iam.get_paginator(operation).paginate(**arguments)
    return [item for page in pages for item in page[result]]
