"""Enforcement of IAM policies in the emulator, with resources and conditions.

moto knows users, roles, keys and policies, checks signatures, and can enforce policies; but it takes every action but
those of S3 for one on ``*``, denies whatever a statement with a Condition allows, and checks only the action that an
operation is called by. With a policy that names its resources nothing would work. So the question whether a request is
allowed is answered here, by `iam_reference` (what does it need?) and `iam_policy` (do the policies allow that?).

Like moto's, the enforcement is off at first: ``POST /moto-api/reset-auth`` with the body ``0`` switches it on, with
``inf`` off; see `enforce`.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from local.iam_policy import Document, Need, allows
from local.iam_reference import needs

OWNER_KEYS = frozenset({"dagster-local", "local", "test"})
"""Access keys that stand for the account's owner, who may do everything: of the profile of the inventory ``local``, of
the task runner, which plays parts of AWS, and of tests. AWS has such keys, too: those of the root user."""


def enforce(url: str, on: bool) -> None:
    """Switch the enforcement in the emulator at ``url`` on or off."""
    request = urllib.request.Request(
        f"{url}/moto-api/reset-auth",
        data=b"0" if on else b"inf",
        headers={"Content-Type": "text/plain"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()


def apply() -> None:
    """Let moto ask here whether a request is allowed. Call once, before the server starts."""
    from moto import settings
    from moto.core.authorization import ActionAuthenticatorMixin

    def authenticate(self: Any, iam_request_cls: Any, resource: str = "*") -> None:  # noqa: ARG001 - moto's signature
        if ActionAuthenticatorMixin.request_count < settings.INITIAL_NO_AUTH_ACTION_COUNT:
            ActionAuthenticatorMixin.request_count += 1
            return
        credential = self.headers.get("Authorization", "").partition("Credential=")[2]
        if credential.partition("/")[0] in OWNER_KEYS:
            return
        path = self.raw_path + (f"?{self.parsed_url.query}" if self.parsed_url.query else "")
        service, operation, params = _parsed(self)
        request = iam_request_cls(
            account_id=self.current_account,
            method=self.method,
            path=path,
            # What is signed is a form that was parsed already, or else the body. moto takes whatever it has parsed of a
            # request without a body for a form.
            data=self.data if self.form_data else {},
            body=self.raw_body,
            headers=self.headers,
            action=operation,
        )
        request.check_signature()
        if (service, operation) == ("sts", "GetCallerIdentity"):  # always allowed
            return
        account = MotoAccount(self.partition, self.region, self.current_account)
        missing = first_missing(request._access_key.collect_policies(), needs(service, operation, params, account))
        if missing and service == "s3":
            request._raise_access_denied()
        if missing:
            raise _refusal(service, request._access_key.arn, missing)

    ActionAuthenticatorMixin._authenticate_and_authorize_action = authenticate


def first_missing(policies: Iterable[Any], wanted: Iterable[Need]) -> Need | None:
    """Return the first need that the policies, as moto collects them, do not allow; None if they allow everything."""
    documents = [_document(policy) for policy in policies]
    return next((need for need in wanted if not allows(documents, need)), None)


def _refusal(service: str, caller: str, missing: Need) -> Exception:
    """Return the error that AWS answers with, in the form of the service's protocol."""
    from moto.core.exceptions import JsonRESTError, _RESTError
    from moto.core.utils import get_service_model

    text = f"User: {caller} is not authorized to perform: {missing.action} on resource: {missing.resource}"
    text += f" because no identity-based policy allows the {missing.action} action"
    error: Exception
    if service == "ec2":
        error = _RESTError("UnauthorizedOperation", f"You are not authorized to perform this operation. {text}")
    elif "json" in get_service_model(service).protocol:
        error = JsonRESTError("AccessDeniedException", text)
    else:
        error = _RESTError("AccessDenied", text)
    error.code = 403  # type: ignore[attr-defined] # of moto's HTTP errors
    return error


def _document(policy: Any) -> Document:
    """Return the document of a managed policy, of an inline policy of a user, or of one of a role."""
    if isinstance(policy, Mapping):
        policy = policy["policy_document"]
    elif not isinstance(policy, str):
        policy = next(version.document for version in policy.versions if version.is_default)
    document: Document = json.loads(policy) if isinstance(policy, str) else policy
    return document


def _parsed(response: Any) -> tuple[str, str, dict[str, Any]]:
    """Return service, operation and parameters of a request, in botocore's words."""
    from moto.core.parse import PROTOCOL_PARSERS
    from moto.core.request import determine_request_protocol
    from moto.core.routing import get_service_router
    from moto.core.utils import get_service_model

    request = response.normalized_request
    model = get_service_model(response.boto3_service_name)
    url_params: Mapping[str, Any] = {}
    name = response.querystring.get("Action", [None])[0] if model.service_name != "s3" else None
    target = request.headers.get("X-Amz-Target")
    if isinstance(name, str):
        operation = model.operation_model(name)
    elif target:
        operation = model.operation_model(target.rpartition(".")[2])
    else:
        found, url_params = get_service_router(response.boto3_service_name).match(request)
        operation = model.operation_model(found.name)
    parser = PROTOCOL_PARSERS[determine_request_protocol(model, request.content_type)](operation)
    parts = {
        "method": request.method,
        "values": request.values,
        "headers": request.headers,
        "body": request.data,
        "url_path": request.path,
        "url_params": url_params,
    }
    return str(model.service_name), str(operation.name), dict(parser.parse(parts))


@dataclass(frozen=True)
class MotoAccount:
    """What moto knows of the account; see `iam_reference.Account`."""

    partition: str
    region: str
    id: str

    def tags(self, arn: str) -> Mapping[str, str]:
        """Return the tags of a resource of those services whose policies ask for them."""
        _, _, service, _, _, rest = arn.split(":", 5)
        identifier = rest.rpartition("/")[2]
        found: Mapping[str, str] = {}
        if service == "ec2":
            found = self._backend("ec2").tags.get(identifier, {})
        elif service == "elasticfilesystem":
            found = self._backend("efs").tagging_service.get_tag_dict_for_resource(identifier)
        elif service == "application-autoscaling":
            found = next((getattr(target, "tags", {}) for target in self._targets() if target.arn == arn), {})
        elif service == "rds" and rest.startswith("snapshot:"):
            snapshot = self._backend("rds").database_snapshots.get(rest.removeprefix("snapshot:"))
            found = {tag["Key"]: tag["Value"] for tag in snapshot.tags} if snapshot else {}
        return found

    def owner(self, kind: str, resource_id: str) -> str:
        """Return what something belongs to; "" if it does not exist."""
        match kind:
            case "association":
                tables = self._backend("ec2").route_tables.values()
                return next((str(table.id) for table in tables if resource_id in table.all_associations_ids), "")
            case "image":
                # What the public parameters name does not exist in moto. On AWS it is Amazon's.
                found = self._backend("ec2").amis.get(resource_id)
                return str(found.owner_id) if found and found.owner_id == self.id else "amazon"
            case "mount-target":
                target = self._backend("efs").mount_targets_by_id.get(resource_id)
                return str(target.file_system_id) if target else ""
            case "secret":
                known = self._backend("secretsmanager").secrets
                return str(known[resource_id].arn) if resource_id in known else ""
            case "scalable-target":
                return next((str(target.arn) for target in self._targets() if target.resource_id == resource_id), "")
        raise ValueError(kind)

    def _targets(self) -> Iterable[Any]:
        return [
            target for group in self._backend("applicationautoscaling").targets.values() for target in group.values()
        ]

    def _backend(self, name: str) -> Any:
        from moto.backends import get_backend

        return get_backend(name)[self.id][self.region]
