"""Secrets of a container definition: `valueFrom` -> value, as the ECS agent resolves it with the execution role.

Source: "Pass sensitive data to an Amazon ECS container" in the ECS Developer Guide.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from local.runner.runtime import StartError

_ARN_PARTS = 7
"""arn:aws:secretsmanager:<region>:<account>:secret:<name>; JSON key, version stage and version id may follow."""


@dataclass(frozen=True)
class SecretReference:
    """A secret in Secrets Manager; empty fields mean: the whole value, the current version."""

    arn: str
    json_key: str = ""
    version_stage: str = ""
    version_id: str = ""


@dataclass(frozen=True)
class ParameterReference:
    """A parameter of Systems Manager, by its name."""

    name: str


def parse_reference(value_from: str) -> SecretReference | ParameterReference:
    """Return what a `valueFrom` refers to; whatever is no ARN of a secret is a parameter's ARN or name.

    Raises:
        StartError: an ARN of another service, or with too many or few parts.
    """
    parts = value_from.split(":")
    if parts[0] != "arn":
        return ParameterReference(value_from)
    service = parts[2] if len(parts) > 2 else ""
    if service == "secretsmanager" and len(parts) in {_ARN_PARTS, _ARN_PARTS + 3}:
        return SecretReference(":".join(parts[:_ARN_PARTS]), *parts[_ARN_PARTS:])
    if service == "ssm" and len(parts) == _ARN_PARTS - 1 and parts[5].startswith("parameter/"):
        name = parts[5].removeprefix("parameter/")
        # A hierarchy begins with a slash that its ARN does not repeat.
        return ParameterReference(f"/{name}" if "/" in name else name)
    raise StartError(
        f"ResourceInitializationError: valueFrom {value_from!r} is no reference to a secret; valid: "
        "<secret ARN>, <secret ARN>:<JSON key>:<version stage>:<version id>, <parameter ARN>, <parameter name>"
    )


def resolve(references: Mapping[str, str], secrets_manager: Any, ssm: Any) -> dict[str, str]:
    """Return variable -> value for variable -> `valueFrom`, with boto3 clients of both services.

    Raises:
        StartError: a secret, version or JSON key does not exist. The message holds names, never values.
    """
    values = {}
    for variable, value_from in references.items():
        reference = parse_reference(value_from)
        try:
            if isinstance(reference, SecretReference):
                values[variable] = _secret(reference, secrets_manager)
            else:
                answer = ssm.get_parameter(Name=reference.name, WithDecryption=True)
                values[variable] = str(answer["Parameter"]["Value"])
        except ClientError as error:
            raise StartError(
                f"ResourceInitializationError: unable to pull secret {variable} from {value_from}: "
                f"{error.response['Error'].get('Message') or error}"
            ) from error
    return values


def _secret(reference: SecretReference, secrets_manager: Any) -> str:
    version = {
        name: value
        for name, value in (("VersionStage", reference.version_stage), ("VersionId", reference.version_id))
        if value
    }
    text = str(secrets_manager.get_secret_value(SecretId=reference.arn, **version)["SecretString"])
    if not reference.json_key:
        return text
    try:
        document = json.loads(text)
        value = document[reference.json_key]
    except (ValueError, KeyError, TypeError):
        # `from None`: the parser's error would show the secret.
        raise StartError(
            f"ResourceInitializationError: secret {reference.arn} is no JSON object with the key {reference.json_key!r}"
        ) from None
    return value if isinstance(value, str) else json.dumps(value)
