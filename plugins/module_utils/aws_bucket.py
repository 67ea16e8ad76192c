"""The bucket that holds DAG releases: versioned, encrypted, private, TLS only, with a retention period."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .aws_plan import (
    Plan,
    Refusal,
    canonical_policy,
    error_code,
    partition,
    platform_tags,
    refuse_foreign,
    retry_while,
    tag_dict,
    tag_list,
    wait_with,
)

PUBLIC_ACCESS_BLOCK = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}
ENCRYPTION = {"SSEAlgorithm": "AES256"}
OWNERSHIP = "BucketOwnerEnforced"
NAME_SECONDS = 600


@dataclass(frozen=True)
class BucketSpec:
    """What the bucket should look like. Periods in days; `expiring_prefixes` maps a key prefix to its period.

    A version that was replaced expires when `noncurrent_days` are over and `noncurrent_versions` newer ones of its key
    were replaced too.
    """

    platform: str
    name: str
    region: str
    noncurrent_days: int
    noncurrent_versions: int
    expiring_prefixes: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def bucket_policy(name: str, region: str) -> dict[str, Any]:
    """Return the policy that refuses every request that does not come over TLS."""
    arn = f"arn:{partition(region)}:s3:::{name}"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "DenyInsecureTransport",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [arn, f"{arn}/*"],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        ],
    }


def lifecycle_rules(spec: BucketSpec) -> list[dict[str, Any]]:
    """Return the lifecycle: old versions go after the retention period, forgotten uploads after a week."""
    rules: list[dict[str, Any]] = [
        {
            "ID": "old-versions",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "NoncurrentVersionExpiration": {
                "NoncurrentDays": spec.noncurrent_days,
                "NewerNoncurrentVersions": spec.noncurrent_versions,
            },
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
        }
    ]
    rules.extend(
        {
            "ID": f"expire-{prefix.strip('/').replace('/', '-')}",
            "Status": "Enabled",
            "Filter": {"Prefix": prefix},
            "Expiration": {"Days": days},
        }
        for prefix, days in sorted(spec.expiring_prefixes.items())
    )
    return rules


def ensure_bucket(s3: Any, spec: BucketSpec, plan: Plan) -> None:
    """Bring the bucket and each of its settings to the state of `spec`."""
    if not _exists(s3, spec.name):
        plan.create("s3-bucket", spec.name, {"region": spec.region}, lambda: _create(s3, spec))
        current: dict[str, Any] = {}
        tags: dict[str, str] = {}
        if not plan.check_mode:
            current = _read(s3, spec.name)
    else:
        tags = _tags(s3, spec.name)
        # An interrupted first run leaves an empty bucket without tags; that one may be taken over.
        if tags or not _is_empty(s3, spec.name):
            refuse_foreign("S3 bucket", spec.name, spec.platform, tags, "dags_bucket_name")
        current = _read(s3, spec.name)
    plan.ensure_tags(
        "s3-bucket",
        spec.name,
        tags,
        platform_tags(spec.platform, spec.name, spec.tags),
        lambda new: s3.put_bucket_tagging(Bucket=spec.name, Tagging={"TagSet": tag_list({**tags, **new})}),
    )
    wanted = {
        "versioning": "Enabled",
        "encryption": ENCRYPTION,
        "public_access_block": PUBLIC_ACCESS_BLOCK,
        "object_ownership": OWNERSHIP,
        "policy": bucket_policy(spec.name, spec.region),
        "lifecycle": lifecycle_rules(spec),
    }
    if canonical_policy(current.get("policy")) == canonical_policy(bucket_policy(spec.name, spec.region)):
        current["policy"] = wanted["policy"]
    plan.update_if_different("s3-bucket", spec.name, current, wanted, lambda changed: _write(s3, spec.name, changed))


def check_adopted_bucket(s3: Any, name: str, region: str) -> list[str]:
    """Check a bucket that is somebody else's and never changed; return warnings about what may surprise.

    Raise `Refusal` if releases cannot be kept in it.
    """
    if not _exists(s3, name):
        raise Refusal(
            f"There is no S3 bucket {name!r}, and s3_existing_bucket is true. Set dags_bucket_name to a bucket of "
            "yours (aws s3 ls), or s3_existing_bucket: false to have it made; then run this playbook again."
        )
    # us-east-1 is spelled as no location at all.
    location = s3.get_bucket_location(Bucket=name).get("LocationConstraint") or "us-east-1"
    if location != region:
        raise Refusal(
            f"The S3 bucket {name!r} lies in {location}, the platform in {region}: tasks read through the gateway "
            "endpoint of their region. Set dags_bucket_name to a bucket there, and run this playbook again."
        )
    current = _read(s3, name)
    if current["versioning"] != "Enabled":
        raise Refusal(
            f"The S3 bucket {name!r} keeps no versions (versioning is {current['versioning'] or 'off'}), and a release "
            "names versions of files. Turn it on (aws s3api put-bucket-versioning "
            f"--bucket {name} --versioning-configuration Status=Enabled) and run this playbook again."
        )
    warnings = []
    if current["public_access_block"] != PUBLIC_ACCESS_BLOCK:
        warnings.append(
            f"The S3 bucket {name!r} does not block public access in every way; it will hold your DAG code."
        )
    if not current["lifecycle"]:
        warnings.append(
            f"The S3 bucket {name!r} has no lifecycle: replaced versions of DAG files and the output of runs stay in "
            "it for ever."
        )
    return warnings


def remove_bucket(s3: Any, platform: str, name: str, plan: Plan, *, with_contents: bool) -> None:
    """Remove the bucket. With objects or versions in it, only if `with_contents` says so."""
    if not _exists(s3, name):
        return
    tags = _tags(s3, name)
    refuse_foreign("S3 bucket", name, platform, tags, "dags_bucket_name")
    if not with_contents and not _is_empty(s3, name):
        raise Refusal(
            f"The S3 bucket {name!r} still holds objects or versions: DAG releases that could be restored. "
            "Set s3_destroy_contents: true to delete them for good, or remove the bucket from this run with "
            "--skip-tags s3."
        )

    def remove() -> None:
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
            keys = [
                {"Key": item["Key"], "VersionId": item["VersionId"]}
                for group in ("Versions", "DeleteMarkers")
                for item in page.get(group, [])
            ]
            if keys:
                answer = s3.delete_objects(Bucket=name, Delete={"Objects": keys, "Quiet": True})
                if errors := answer.get("Errors"):
                    raise Refusal(f"S3 did not delete {errors[0]['Key']!r} from {name!r}: {errors[0]}")
        s3.delete_bucket(Bucket=name)

    plan.remove("s3-bucket", name, {"with_contents": with_contents}, remove)


def _exists(s3: Any, name: str) -> bool:
    try:
        s3.head_bucket(Bucket=name)
    except Exception as error:
        code = error_code(error)
        if code in ("404", "NoSuchBucket"):
            return False
        if code in ("403", "301"):
            raise Refusal(
                f"The S3 bucket name {name!r} is taken: it belongs to another account or lies in another region "
                f"(AWS answered {code}). Names are unique in the whole world. Set dags_bucket_name to a name of "
                "your own, e.g. with your account id at its end."
            ) from error
        raise
    return True


def _create(s3: Any, spec: BucketSpec) -> str:
    # us-east-1 is the only region that must not be named.
    location = {} if spec.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": spec.region}}
    # The name of a bucket that was removed a moment ago is free again only after a while.
    retry_while(
        frozenset({"OperationAborted"}),
        f"the name {spec.name!r} to be free again",
        lambda: s3.create_bucket(Bucket=spec.name, ObjectOwnership=OWNERSHIP, **location),
        seconds=NAME_SECONDS,
    )
    wait_with(s3, "bucket_exists", f"the bucket {spec.name} to be there", Bucket=spec.name)
    return spec.name


def _is_empty(s3: Any, name: str) -> bool:
    page = s3.list_object_versions(Bucket=name, MaxKeys=1)
    return not page.get("Versions") and not page.get("DeleteMarkers")


def _tags(s3: Any, name: str) -> dict[str, str]:
    found = _optional(lambda: s3.get_bucket_tagging(Bucket=name), "NoSuchTagSet")
    return tag_dict(found.get("TagSet"))


def _read(s3: Any, name: str) -> dict[str, Any]:
    """Return the bucket's settings in the shape that `ensure_bucket` compares."""
    encryption = _optional(
        lambda: s3.get_bucket_encryption(Bucket=name), "ServerSideEncryptionConfigurationNotFoundError"
    )
    rules = encryption.get("ServerSideEncryptionConfiguration", {}).get("Rules", [{}])
    access = _optional(lambda: s3.get_public_access_block(Bucket=name), "NoSuchPublicAccessBlockConfiguration")
    ownership = _optional(lambda: s3.get_bucket_ownership_controls(Bucket=name), "OwnershipControlsNotFoundError")
    policy = _optional(lambda: s3.get_bucket_policy(Bucket=name), "NoSuchBucketPolicy")
    lifecycle = _optional(lambda: s3.get_bucket_lifecycle_configuration(Bucket=name), "NoSuchLifecycleConfiguration")
    controls = ownership.get("OwnershipControls", {}).get("Rules", [{}])
    return {
        "versioning": s3.get_bucket_versioning(Bucket=name).get("Status"),
        "encryption": rules[0].get("ApplyServerSideEncryptionByDefault"),
        "public_access_block": access.get("PublicAccessBlockConfiguration"),
        "object_ownership": controls[0].get("ObjectOwnership"),
        "policy": json.loads(policy["Policy"]) if "Policy" in policy else None,
        "lifecycle": sorted((_rule(rule) for rule in lifecycle.get("Rules", [])), key=_rule_order),
    }


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a lifecycle rule with the filter for all objects spelled as `lifecycle_rules` does."""
    return {**rule, "Filter": rule["Filter"] or {"Prefix": ""}} if "Filter" in rule else dict(rule)


def _rule_order(rule: Mapping[str, Any]) -> tuple[bool, str]:
    """Order rules as `lifecycle_rules` does, whatever order AWS returns them in."""
    return (rule.get("ID") != "old-versions", rule.get("Filter", {}).get("Prefix", ""))


def _write(s3: Any, name: str, changed: Mapping[str, Any]) -> None:
    if "versioning" in changed:
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": changed["versioning"]})
    if "encryption" in changed:
        s3.put_bucket_encryption(
            Bucket=name,
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": changed["encryption"]}]
            },
        )
    if "public_access_block" in changed:
        s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=changed["public_access_block"])
    if "object_ownership" in changed:
        s3.put_bucket_ownership_controls(
            Bucket=name, OwnershipControls={"Rules": [{"ObjectOwnership": changed["object_ownership"]}]}
        )
    if "policy" in changed:
        s3.put_bucket_policy(Bucket=name, Policy=json.dumps(changed["policy"]))
    if "lifecycle" in changed:
        s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": changed["lifecycle"]})


def _optional(call: Any, absent_code: str) -> dict[str, Any]:
    """Return the answer of `call`, or an empty dict where AWS answers that the setting does not exist."""
    try:
        return dict(call())
    except Exception as error:
        if error_code(error) == absent_code:
            return {}
        raise
