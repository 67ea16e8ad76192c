"""Secrets that are generated once and whose value never leaves this process.

Ansible sees names and ARNs only, so nothing of a secret can reach a log, a diff, a fact or a process list.
"""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Callable, Mapping
from typing import Any

from .aws_plan import Plan, Refusal, error_code, platform_tags, refuse_foreign, retry_while, tag_dict, tag_list

# RDS refuses '/', '@', '"' and spaces in a master password; letters and digits also survive every URL.
PASSWORD_ALPHABET = string.ascii_letters + string.digits
PASSWORD_LENGTH = 32
NAME_SECONDS = 120

CURRENT, PENDING, PREVIOUS = "AWSCURRENT", "AWSPENDING", "AWSPREVIOUS"
"""Labels of a secret's versions; AWS Secrets Manager user guide, "Secret versions"."""


def database_credentials(username: str) -> dict[str, str]:
    """Return the user name and a new random password."""
    return {"username": username, "password": new_password()}


def new_password() -> str:
    """Return a random password."""
    return "".join(secrets.choice(PASSWORD_ALPHABET) for _ in range(PASSWORD_LENGTH))


def ensure_secret(
    client: Any,
    platform: str,
    name: str,
    plan: Plan,
    *,
    description: str,
    tags: Mapping[str, str],
    generate: Callable[[], Mapping[str, str]] | None,
) -> str:
    """Make sure that the secret exists and return its ARN; an existing value is never changed.

    Args:
        generate: returns the first value; None leaves the new secret without one, for somebody else to fill.
    """
    found = describe_secret(client, name)
    if found is None:
        value = {"SecretString": json.dumps(generate())} if generate and not plan.check_mode else {}
        return plan.create(
            "secret",
            name,
            {"description": description},
            # A secret that was removed at once keeps its name for some seconds.
            lambda: str(
                retry_while(
                    frozenset({"InvalidRequestException"}),
                    f"the name of the secret {name!r} to be free again",
                    lambda: client.create_secret(
                        Name=name,
                        Description=description,
                        Tags=tag_list(platform_tags(platform, name, tags)),
                        **value,
                    ),
                    saying="scheduled for deletion",
                    seconds=NAME_SECONDS,
                )["ARN"]
            ),
        )
    refuse_foreign("Secret", name, platform, tag_dict(found.get("Tags")), "name_prefix")
    plan.update_if_different(
        "secret",
        name,
        {"scheduled_for_deletion": "DeletedDate" in found},
        {"scheduled_for_deletion": False},
        lambda _: client.restore_secret(SecretId=name),
    )
    plan.update_if_different(
        "secret",
        name,
        {"description": found.get("Description")},
        {"description": description},
        lambda _: client.update_secret(SecretId=name, Description=description),
    )
    plan.ensure_tags(
        "secret",
        name,
        tag_dict(found.get("Tags")),
        platform_tags(platform, name, tags),
        lambda new: client.tag_resource(SecretId=name, Tags=tag_list(new)),
    )
    if generate is not None and not found.get("VersionIdsToStages"):
        # Somebody, or an interrupted run, left the secret without a value.
        plan.update(
            "secret",
            name,
            {"value": "none"},
            {"value": "generated"},
            lambda: client.put_secret_value(SecretId=name, SecretString=json.dumps(generate())),
        )
    return str(found["ARN"])


def remove_secret(client: Any, platform: str, name: str, plan: Plan, *, recovery_days: int) -> None:
    """Delete the secret: at once if `recovery_days` is 0, else restorable for that many days (7 to 30)."""
    found = describe_secret(client, name)
    if found is None or "DeletedDate" in found:
        return
    refuse_foreign("Secret", name, platform, tag_dict(found.get("Tags")), "name_prefix")
    how: dict[str, Any] = (
        {"RecoveryWindowInDays": recovery_days} if recovery_days else {"ForceDeleteWithoutRecovery": True}
    )
    plan.remove(
        "secret",
        name,
        {"recovery_days": recovery_days},
        lambda: client.delete_secret(SecretId=name, **how),
    )


def find_adopted_secret(client: Any, kms: Callable[[], Any], name: str) -> tuple[str, str]:
    """Return the ARN of somebody else's secret and of the customer managed key that encrypts it, or an empty string.

    Args:
        kms: returns a client of KMS; called only if there is such a key, whose name may be an id or an alias.
    """
    found = describe_secret(client, name)
    if found is None or "DeletedDate" in found:
        state = "is scheduled for deletion" if found else "does not exist in this account and region"
        raise Refusal(
            f"The secret {name!r} {state}. Set rds_existing_secret to the secret with username and password for "
            "rds_existing_instance (aws secretsmanager list-secrets) and run this playbook again."
        )
    key = str(found.get("KmsKeyId") or "")
    if key.endswith("alias/aws/secretsmanager"):
        key = ""
    elif key and ":key/" not in key:
        key = str(kms().describe_key(KeyId=key)["KeyMetadata"]["Arn"])
    return str(found["ARN"]), key


def read_value(client: Any, secret_id: str, stage: str = CURRENT) -> dict[str, Any]:
    """Return the JSON object in the version of a secret that has the label `stage`; an empty one if it holds none."""
    try:
        value = json.loads(client.get_secret_value(SecretId=secret_id, VersionStage=stage)["SecretString"])
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def read_fields(client: Any, secret_id: str, fields: tuple[str, ...], stage: str = CURRENT) -> dict[str, str]:
    """Return the named fields of a JSON secret. Messages name fields, never values."""
    value = read_value(client, secret_id, stage)
    missing = [name for name in fields if not value.get(name)]
    if missing:
        raise Refusal(
            f"The secret {secret_id!r} should be a JSON object with {', '.join(fields)}, but lacks "
            f"{', '.join(missing)}. Put the right value in (aws secretsmanager put-secret-value) and run this "
            "playbook again."
        )
    return {name: str(value[name]) for name in fields}


def describe_secret(client: Any, name: str) -> dict[str, Any] | None:
    """Return the secret as Secrets Manager describes it, without its value, or None if there is none."""
    try:
        return dict(client.describe_secret(SecretId=name))
    except Exception as error:
        if error_code(error) == "ResourceNotFoundException":
            return None
        raise
