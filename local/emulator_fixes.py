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

from local import emulator_iam


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


def keep_tags_of_scalable_targets() -> None:
    """Keep the tags of scalable targets, and answer the requests about them.

    Defect: moto drops Tags of RegisterScalableTarget, and knows neither ListTagsForResource nor TagResource.
    AWS: they are set when the target is new, kept, and returned (Application Auto Scaling API Reference).
    """
    from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse

    register = ApplicationAutoScalingResponse.register_scalable_target

    @functools.wraps(register)
    def register_scalable_target(self: Any) -> str:
        answer: str = register(self)
        target = _scalable_target(self, json.loads(answer)["ScalableTargetARN"])
        if not hasattr(target, "tags"):
            target.tags = dict(self._get_param("Tags") or {})
        return answer

    def list_tags_for_resource(self: Any) -> str:
        target = _scalable_target(self, self._get_param("ResourceARN"))
        return json.dumps({"Tags": getattr(target, "tags", {})})

    def tag_resource(self: Any) -> str:
        target = _scalable_target(self, self._get_param("ResourceARN"))
        target.tags = {**getattr(target, "tags", {}), **self._get_param("Tags")}
        return json.dumps({})

    ApplicationAutoScalingResponse.register_scalable_target = register_scalable_target
    ApplicationAutoScalingResponse.list_tags_for_resource = list_tags_for_resource
    ApplicationAutoScalingResponse.tag_resource = tag_resource


def _scalable_target(response: Any, arn: str) -> Any:
    """Return the target of an ARN; raise the error of AWS if there is none."""
    from moto.core.exceptions import JsonRESTError

    for targets in response.applicationautoscaling_backend.targets.values():
        for target in targets.values():
            if target.arn == arn:
                return target
    raise JsonRESTError("ResourceNotFoundException", f"No scalable target found for {arn}")


def tag_interfaces_of_new_instances() -> None:
    """Tag the network interfaces that RunInstances makes, where it says so.

    Defect: moto looks at tags for "instance" and "volume" only.
    AWS: TagSpecifications may name "network-interface" too (Amazon EC2 API Reference, RunInstances).
    """
    from moto.ec2.models.instances import InstanceBackend

    original = InstanceBackend.run_instances

    @functools.wraps(original)
    def run_instances(self: Any, *arguments: Any, **named: Any) -> Any:
        reservation = original(self, *arguments, **named)
        for instance in reservation.instances:
            for interface in instance.nics.values():
                interface.add_tags(named.get("tags", {}).get("network-interface", {}))
        return reservation

    InstanceBackend.run_instances = run_instances


def remove_interfaces_of_deleted_gateways() -> None:
    """Remove the network interface of a NAT gateway with it.

    Defect: moto leaves it, for good.
    AWS: it goes with the gateway, and nobody else can remove it (Amazon VPC user guide, "NAT gateway basics").
    """
    from moto.ec2.models.nat_gateways import NatGatewayBackend

    original = NatGatewayBackend.delete_nat_gateway

    @functools.wraps(original)
    def delete_nat_gateway(self: Any, nat_gateway_id: str) -> Any:
        gateway = original(self, nat_gateway_id)
        self.enis.pop(gateway._eni.id, None)
        return gateway

    NatGatewayBackend.delete_nat_gateway = delete_nat_gateway


def keep_cpu_credits() -> None:
    """Let CPU credits of instances be changed, and return what they were changed to.

    Defect: moto knows no ModifyInstanceCreditSpecification, and every instance has "standard".
    AWS: the choice is kept (Amazon EC2 API Reference). What RunInstances asks for is not looked at here, as in moto.
    """
    from moto.core.responses import ActionResult
    from moto.ec2.responses.instances import InstanceResponse

    def describe_instance_credit_specifications(self: Any) -> ActionResult:
        instances = self.ec2_backend.describe_instance_credit_specifications(self._get_param("InstanceIds", []))
        found = [
            {"InstanceId": instance.id, "CpuCredits": getattr(instance, "cpu_credits", "standard")}
            for instance in instances
        ]
        return ActionResult({"InstanceCreditSpecifications": found})

    def modify_instance_credit_specification(self: Any) -> ActionResult:
        changed = []
        for wanted in self._get_param("InstanceCreditSpecifications"):
            self.ec2_backend.get_instance(wanted["InstanceId"]).cpu_credits = wanted["CpuCredits"]
            changed.append({"InstanceId": wanted["InstanceId"]})
        return ActionResult({"SuccessfulInstanceCreditSpecifications": changed})

    InstanceResponse.describe_instance_credit_specifications = describe_instance_credit_specifications
    InstanceResponse.modify_instance_credit_specification = modify_instance_credit_specification


def change_throughput_of_file_systems() -> None:
    """Answer UpdateFileSystem of EFS.

    Defect: moto does not know it.
    AWS: it changes the throughput mode (Amazon EFS API Reference).
    """
    from moto.efs.responses import EFSResponse

    def update_file_system(self: Any) -> tuple[int, dict[str, Any], str]:
        system = self.efs_backend.file_systems_by_id[self._get_param("FileSystemId")]
        system.throughput_mode = self._get_param("ThroughputMode") or system.throughput_mode
        return 202, {"status": 202, "Content-Type": "application/json"}, json.dumps(system.info_json())

    EFSResponse.update_file_system = update_file_system


def keep_changed_subnet_groups() -> None:
    """Keep a subnet group of RDS that was changed.

    Defect: moto takes it out to change it and does not put it back.
    AWS: ModifyDBSubnetGroup changes it in place (Amazon RDS API Reference).
    """
    from moto.rds.models import RDSBackend

    original = RDSBackend.modify_db_subnet_group

    @functools.wraps(original)
    def modify_db_subnet_group(self: Any, subnet_name: str, *arguments: Any) -> Any:
        group = original(self, subnet_name, *arguments)
        self.subnet_groups[subnet_name] = group
        return group

    RDSBackend.modify_db_subnet_group = modify_db_subnet_group


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


def enforce_resources_and_conditions() -> None:
    """Where policies are enforced, look at their resources and conditions, and at all that a request needs.

    Defect: moto takes every action but those of S3 for one on "*", so that statements with a resource allow nothing;
    statements with a condition deny what they should allow; a signed GET request without a query is refused.
    AWS: "Policy evaluation logic" (IAM User Guide). `emulator_iam` does what it says.
    """
    emulator_iam.apply()


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


def complete_budgets() -> None:
    """Change budgets, and keep their subscribers and tags.

    Defect: moto makes and removes budgets and notifications, and knows no other operation; tags it drops.
    AWS: UpdateBudget, CreateSubscriber, DescribeSubscribersForNotification, DeleteSubscriber, TagResource,
    ListTagsForResource; see local/emulator_budgets.py.
    """
    from local import emulator_budgets

    emulator_budgets.apply()


FIXES: tuple[Callable[[], None], ...] = (
    honour_secure_transport_in_bucket_policies,
    make_conditional_writes_atomic,
    keep_newer_noncurrent_versions,
    move_labels_of_secret_versions,
    # In this order: the second wraps what the first puts in.
    enforce_resources_and_conditions,
    refuse_revoked_keys,
    keep_tags_of_scalable_targets,
    tag_interfaces_of_new_instances,
    remove_interfaces_of_deleted_gateways,
    keep_cpu_credits,
    change_throughput_of_file_systems,
    keep_changed_subnet_groups,
    complete_budgets,
)


def apply_all() -> None:
    """Apply every fix to the moto of this process. Call once, before the server starts."""
    for fix in FIXES:
        fix()
