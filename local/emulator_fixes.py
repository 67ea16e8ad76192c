"""Repairs of defects of moto 5.2.5, so that the emulator answers what AWS documents.

Each function patches one defect; its docstring names the defect and what AWS does instead.
`tests/integration/local/test_emulator_fixes.py` shows each defect on an unpatched moto, so that it fails, and the fix
can go, once upstream has repaired it. Nothing here makes the emulator more lenient than AWS.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable
from typing import Any


def honour_secure_transport_in_bucket_policies() -> None:
    """Make bucket policies tell requests over TLS from others.

    Defect: moto ignores the Condition of a bucket policy's statement, so that the usual policy "deny everything that
    does not come over TLS" denies everything.
    AWS: a statement applies only if its Condition is met ("IAM JSON policy elements: Condition");
    `aws:SecureTransport` is true for requests over TLS.
    The emulator's endpoint on the loopback interface stands for the TLS endpoint of AWS, so here it is always true.
    """
    from moto.s3.models import FakeBucket

    original = FakeBucket.get_permission

    @functools.wraps(original)
    def get_permission(self: Any, action: str, resource: str) -> Any:
        if self.policy is None:
            return original(self, action, resource)
        document = json.loads(self.policy.decode())
        statements = document["Statement"]
        applying = [
            statement
            for statement in (statements if isinstance(statements, list) else [statements])
            if _secure_transport_wanted(statement) != "false"
        ]
        # The policy that is stored and returned stays as it was written.
        return original(_PolicyView(json.dumps({**document, "Statement": applying}).encode()), action, resource)

    FakeBucket.get_permission = get_permission


class _PolicyView:
    """The one attribute of a bucket that `FakeBucket.get_permission` reads."""

    def __init__(self, policy: bytes) -> None:
        self.policy = policy


def _secure_transport_wanted(statement: dict[str, Any]) -> str | None:
    """Return the value of aws:SecureTransport that a statement asks for, or None if it does not."""
    for operator, keys in statement.get("Condition", {}).items():
        for key, value in keys.items():
            if operator.lower() == "bool" and key.lower() == "aws:securetransport":
                return str(value[0] if isinstance(value, list) else value).lower()
    return None


def make_conditional_writes_atomic() -> None:
    """Make PutObject with If-Match or If-None-Match atomic.

    Defect: moto checks the condition and stores the object in two steps; of two requests at the same time both can
    pass the check, and both get 200.
    AWS: "Conditional writes ... if there are several, the first to finish succeeds, and the others fail with
    412 Precondition Failed" (Amazon S3 user guide).
    """
    from moto.s3.responses import S3Response

    original = S3Response.put_object
    lock = threading.Lock()

    @functools.wraps(original)
    def put_object(self: Any) -> Any:
        # One lock for all keys: storing is a matter of microseconds, and the table of locks would never shrink.
        with lock:
            return original(self)

    S3Response.put_object = put_object


def keep_newer_noncurrent_versions() -> None:
    """Return NewerNoncurrentVersions of a lifecycle rule as it was put.

    Defect: moto drops NewerNoncurrentVersions of NoncurrentVersionExpiration.
    AWS: GetBucketLifecycleConfiguration returns it (LifecycleRule in the Amazon S3 API Reference).
    """
    from moto.s3.models import FakeBucket
    from moto.s3.responses import S3Response

    put, get = FakeBucket.set_lifecycle, S3Response.get_bucket_lifecycle

    @functools.wraps(put)
    def set_lifecycle(self: Any, rules: list[dict[str, Any]]) -> None:
        put(self, rules)
        for stored, rule in zip(self.rules, rules, strict=True):
            expiration = rule.get("NoncurrentVersionExpiration") or {}
            stored.newer_noncurrent_versions = expiration.get("NewerNoncurrentVersions")

    @functools.wraps(get)
    def get_bucket_lifecycle(self: Any) -> Any:
        def serialized(answer: Any) -> Any:
            for stored, shown in zip(rules, answer.result["Rules"], strict=True):
                # An account that was saved before has rules without it.
                if newer := getattr(stored, "newer_noncurrent_versions", None):
                    shown["NoncurrentVersionExpiration"]["NewerNoncurrentVersions"] = int(newer)
            return serialize(answer)

        rules, serialize = self.backend.get_bucket_lifecycle(self.bucket_name), self.serialized
        self.serialized = serialized
        try:
            return get(self)
        finally:
            del self.serialized

    FakeBucket.set_lifecycle = set_lifecycle
    S3Response.get_bucket_lifecycle = get_bucket_lifecycle


def move_labels_of_secret_versions() -> None:
    """Attach each label to one version of a secret, and return the version that is AWSCURRENT unless another is wanted.

    Defect: after UpdateSecretVersionStage has moved AWSCURRENT, GetSecretValue goes on returning the version that had
    it before, and PutSecretValue leaves it with two. PutSecretValue replaces the value of a version that is AWSPENDING.
    AWS: a label is attached to one version at a time; without a version, GetSecretValue returns AWSCURRENT; the value
    of a version never changes, PutSecretValue answers ResourceExistsException (AWS Secrets Manager API Reference).
    """
    from moto.secretsmanager.exceptions import ResourceExistsException
    from moto.secretsmanager.models import SecretsManagerBackend

    update, check = (
        SecretsManagerBackend.update_secret_version_stage,
        SecretsManagerBackend._check_with_existing_secrets_and_versions,
    )

    @functools.wraps(update)
    def update_secret_version_stage(self: Any, secret_id: str, version_stage: str, *others: Any, **named: Any) -> Any:
        answer = update(self, secret_id, version_stage, *others, **named)
        secret = self.secrets[secret_id]
        for version_id, version in secret.versions.items():
            version["version_stages"] = list(dict.fromkeys(version["version_stages"]))
            if "AWSCURRENT" in version["version_stages"]:
                secret.set_default_version_id(version_id)
        return answer

    @functools.wraps(check)
    def _check_with_existing_secrets_and_versions(  # noqa: PLR0917 - moto's signature
        self: Any, name: str, token: str | None, text: str | None, binary: str | None, on_create: bool = False
    ) -> Any:
        found = self.secrets[name].versions.get(token) if name in self.secrets else None
        if found and "secret_string" in found and found["secret_string"] != text:
            raise ResourceExistsException(f"The version {token} of the secret {name} has another value already.")
        return check(self, name, token, text, binary, on_create)

    SecretsManagerBackend.update_secret_version_stage = update_secret_version_stage
    SecretsManagerBackend._check_with_existing_secrets_and_versions = _check_with_existing_secrets_and_versions


def refuse_revoked_keys() -> None:
    """Refuse access keys of IAM users that are inactive or were deleted.

    Defect: moto accepts every key as long as it does not enforce policies, and an inactive one even then.
    AWS: neither is accepted; S3 answers InvalidAccessKeyId, most others InvalidClientTokenId.
    """
    from moto.core.authorization import ActionAuthenticatorMixin
    from moto.iam.models import iam_backends

    original = ActionAuthenticatorMixin._authenticate_and_authorize_action

    @functools.wraps(original)
    def authenticate(self: Any, iam_request_cls: Any, *others: Any, **named: Any) -> None:
        scope = self.headers.get("Authorization", "").partition("Credential=")[2].split("/")
        # Keys of users begin like this; those of roles, and the names that clients of the emulator use, do not.
        if scope[0].startswith("AKIA"):
            users = iam_backends[self.current_account]["aws"].users.values()
            keys = [key for user in users for key in user.access_keys if key.access_key_id == scope[0]]
            if not any(key.status == "Active" for key in keys):
                request = iam_request_cls.__new__(iam_request_cls)
                request._data, request._service = self.data, scope[3]
                request._raise_invalid_access_key("InvalidId")
        original(self, iam_request_cls, *others, **named)

    ActionAuthenticatorMixin._authenticate_and_authorize_action = authenticate


FIXES: tuple[Callable[[], None], ...] = (
    honour_secure_transport_in_bucket_policies,
    make_conditional_writes_atomic,
    keep_newer_noncurrent_versions,
    move_labels_of_secret_versions,
    refuse_revoked_keys,
)


def apply_all() -> None:
    """Apply every fix to the moto of this process. Call once, before the server starts."""
    for fix in FIXES:
        fix()
