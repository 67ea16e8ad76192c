"""The EFS file system with its mount targets, policy and access point.

The collection's module speaks a retired version of the API and knows no access points, so this is ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .aws_plan import (
    PLATFORM_TAG,
    Plan,
    Refusal,
    canonical_policy,
    error_code,
    is_pending,
    platform_tags,
    tag_dict,
    tag_list,
    wait_until,
)

WAIT_SECONDS = 600


@dataclass(frozen=True)
class FileSystemSpec:
    """What the file system should look like. `uid` and `gid` own everything behind the access point."""

    platform: str
    subnet_ids: tuple[str, ...]
    security_group_id: str
    root_directory: str
    uid: int
    gid: int
    permissions: str
    infrequent_access_days: int
    tags: Mapping[str, str] = field(default_factory=dict)


def file_system_policy(file_system_arn: str) -> dict[str, Any]:
    """Return the policy that refuses clients without TLS; who may mount is said in the clients' own roles."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "DenyInsecureTransport",
                "Effect": "Deny",
                "Principal": {"AWS": "*"},
                "Action": "*",
                "Resource": file_system_arn,
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        ],
    }


def ensure_file_system(efs: Any, spec: FileSystemSpec, plan: Plan) -> tuple[str, str]:
    """Bring the file system to the state of `spec`; return the ids of file system and access point."""
    name = spec.platform
    found = _file_system(efs, spec.platform)
    if found is not None and not plan.check_mode:
        found = _settled(efs, spec.platform)
    if found is None:
        file_system_id = plan.create(
            "efs-file-system",
            name,
            {"encrypted": True, "performance": "generalPurpose", "throughput": "bursting"},
            lambda: _create(efs, spec),
        )
        if not plan.check_mode:
            found = _file_system(efs, spec.platform)
    else:
        file_system_id = str(found["FileSystemId"])
        _keep_file_system(efs, spec, found, plan)
    _keep_policies(efs, spec, file_system_id, found, plan)
    _keep_mount_targets(efs, spec, file_system_id, plan)
    return file_system_id, _keep_access_point(efs, spec, file_system_id, plan)


def remove_file_system(efs: Any, platform: str, plan: Plan) -> None:
    """Remove access points, mount targets and the file system with everything in it."""
    found = _file_system(efs, platform)
    if found is None:
        return
    file_system_id = found["FileSystemId"]

    def remove() -> None:
        for point in efs.describe_access_points(FileSystemId=file_system_id)["AccessPoints"]:
            efs.delete_access_point(AccessPointId=point["AccessPointId"])
        for target in _mount_targets(efs, file_system_id):
            if target["LifeCycleState"] not in ("deleting", "deleted"):
                efs.delete_mount_target(MountTargetId=target["MountTargetId"])
        wait_until(
            f"the mount targets of {file_system_id} to go away",
            lambda: not _mount_targets(efs, file_system_id),
            seconds=WAIT_SECONDS,
        )
        efs.delete_file_system(FileSystemId=file_system_id)
        wait_until(
            f"the file system {file_system_id} to be deleted",
            lambda: _file_system(efs, platform) is None,
            seconds=WAIT_SECONDS,
        )

    plan.remove("efs-file-system", platform, {"id": file_system_id}, remove)


def _file_system(efs: Any, platform: str) -> dict[str, Any] | None:
    pages = efs.get_paginator("describe_file_systems").paginate()
    found = [
        system
        for page in pages
        for system in page["FileSystems"]
        if tag_dict(system.get("Tags")).get(PLATFORM_TAG) == platform and system["LifeCycleState"] != "deleted"
    ]
    if len(found) > 1:
        ids = ", ".join(sorted(system["FileSystemId"] for system in found))
        raise Refusal(
            f"{len(found)} EFS file systems carry the tag {PLATFORM_TAG}={platform}: {ids}. One platform has one. "
            "Remove the tag from those that are not in use and run this playbook again."
        )
    return found[0] if found else None


def _create(efs: Any, spec: FileSystemSpec) -> str:
    system = efs.create_file_system(
        CreationToken=spec.platform,
        PerformanceMode="generalPurpose",
        ThroughputMode="bursting",
        Encrypted=True,
        Tags=tag_list(platform_tags(spec.platform, spec.platform, spec.tags)),
    )["FileSystemId"]

    def available() -> bool:
        state = efs.describe_file_systems(FileSystemId=system)["FileSystems"][0]["LifeCycleState"]
        return bool(state == "available")

    wait_until(f"the file system {system} to become available", available, seconds=WAIT_SECONDS, interval=2)
    return str(system)


def _settled(efs: Any, platform: str) -> dict[str, Any] | None:
    """Wait while the file system is being created or deleted, e.g. by a run that was interrupted, and return it."""
    found: list[dict[str, Any] | None] = []

    def settled() -> bool:
        found[:] = [_file_system(efs, platform)]
        return found[0] is None or found[0]["LifeCycleState"] not in ("creating", "deleting")

    wait_until(f"the file system of {platform} to be created or deleted", settled, seconds=WAIT_SECONDS, interval=2)
    return found[0]


def _keep_file_system(efs: Any, spec: FileSystemSpec, found: Mapping[str, Any], plan: Plan) -> None:
    kind, name, file_system_id = "efs-file-system", spec.platform, found["FileSystemId"]
    if not found.get("Encrypted"):
        raise Refusal(
            f"The EFS file system {file_system_id} is not encrypted, and AWS cannot change that afterwards. Copy its "
            f"contents away, remove it or its tag {PLATFORM_TAG}, and run this playbook again."
        )
    plan.ensure_tags(
        kind,
        name,
        tag_dict(found.get("Tags")),
        platform_tags(spec.platform, name, spec.tags),
        lambda new: efs.tag_resource(ResourceId=file_system_id, Tags=tag_list(new)),
    )
    plan.update_if_different(
        kind,
        name,
        {"throughput": found.get("ThroughputMode")},
        {"throughput": "bursting"},
        lambda _: efs.update_file_system(FileSystemId=file_system_id, ThroughputMode="bursting"),
    )


def _keep_policies(
    efs: Any, spec: FileSystemSpec, file_system_id: str, found: Mapping[str, Any] | None, plan: Plan
) -> None:
    arn = found["FileSystemArn"] if found else f"arn:aws:elasticfilesystem:::file-system/{file_system_id}"
    current: dict[str, Any] = {}
    if not is_pending(file_system_id):
        current = {"policy": _policy(efs, file_system_id), "lifecycle": _lifecycle(efs, file_system_id)}
    wanted: dict[str, Any] = {"policy": file_system_policy(arn), "lifecycle": []}
    if canonical_policy(current.get("policy")) == canonical_policy(wanted["policy"]):
        current["policy"] = wanted["policy"]
    if spec.infrequent_access_days:
        days = spec.infrequent_access_days
        wanted["lifecycle"] = [
            {"TransitionToIA": f"AFTER_{days}_DAYS" if days > 1 else "AFTER_1_DAY"},
            {"TransitionToPrimaryStorageClass": "AFTER_1_ACCESS"},
        ]

    def write(changed: Mapping[str, Any]) -> None:
        if "policy" in changed:
            efs.put_file_system_policy(FileSystemId=file_system_id, Policy=json.dumps(changed["policy"]))
        if "lifecycle" in changed:
            efs.put_lifecycle_configuration(FileSystemId=file_system_id, LifecyclePolicies=changed["lifecycle"])

    plan.update_if_different("efs-file-system", spec.platform, current, wanted, write)


def _policy(efs: Any, file_system_id: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(efs.describe_file_system_policy(FileSystemId=file_system_id)["Policy"]))
    except Exception as error:
        if error_code(error) == "PolicyNotFound":
            return None
        raise


def _lifecycle(efs: Any, file_system_id: str) -> list[dict[str, str]]:
    answer = efs.describe_lifecycle_configuration(FileSystemId=file_system_id)["LifecyclePolicies"]
    return sorted((dict(rule) for rule in answer), key=lambda rule: "TransitionToIA" not in rule)


def _mount_targets(efs: Any, file_system_id: str) -> list[dict[str, Any]]:
    pages = efs.get_paginator("describe_mount_targets").paginate(FileSystemId=file_system_id)
    return [target for page in pages for target in page["MountTargets"]]


def _keep_mount_targets(efs: Any, spec: FileSystemSpec, file_system_id: str, plan: Plan) -> None:
    """One mount target in each private subnet, so that a task finds one in its own availability zone."""
    kind = "efs-mount-target"
    targets = {} if is_pending(file_system_id) else _targets_by_subnet(efs, file_system_id)
    for subnet in spec.subnet_ids:
        if subnet in targets:
            _keep_target_groups(efs, spec, targets[subnet], plan)
        else:
            plan.create(
                kind,
                subnet,
                {"security_groups": [spec.security_group_id]},
                partial(_create_target, efs, spec, file_system_id, subnet),
            )
    for subnet in sorted(set(targets) - set(spec.subnet_ids)):
        plan.remove(
            kind,
            subnet,
            {},
            partial(efs.delete_mount_target, MountTargetId=targets[subnet]["MountTargetId"]),
        )
    # A task that starts before its zone's target is available fails to mount.
    plan.settled(
        f"the mount targets of {file_system_id} to become available",
        lambda: all(
            target["LifeCycleState"] == "available"
            for subnet, target in _targets_by_subnet(efs, file_system_id).items()
            if subnet in spec.subnet_ids
        ),
        seconds=WAIT_SECONDS,
    )


def _create_target(efs: Any, spec: FileSystemSpec, file_system_id: str, subnet: str) -> str:
    target = efs.create_mount_target(
        FileSystemId=file_system_id, SubnetId=subnet, SecurityGroups=[spec.security_group_id]
    )
    return str(target["MountTargetId"])


def _keep_target_groups(efs: Any, spec: FileSystemSpec, target: Mapping[str, Any], plan: Plan) -> None:
    target_id = target["MountTargetId"]
    plan.update_if_different(
        "efs-mount-target",
        target["SubnetId"],
        {"security_groups": efs.describe_mount_target_security_groups(MountTargetId=target_id)["SecurityGroups"]},
        {"security_groups": [spec.security_group_id]},
        lambda changed: efs.modify_mount_target_security_groups(
            MountTargetId=target_id, SecurityGroups=changed["security_groups"]
        ),
    )


def _targets_by_subnet(efs: Any, file_system_id: str) -> dict[str, dict[str, Any]]:
    return {target["SubnetId"]: target for target in _mount_targets(efs, file_system_id)}


def _keep_access_point(efs: Any, spec: FileSystemSpec, file_system_id: str, plan: Plan) -> str:
    """Return the id of the access point. Its settings cannot be changed, so a wrong one gets a successor."""
    kind, name = "efs-access-point", f"{spec.platform}-storage"
    wanted = {
        "PosixUser": {"Uid": spec.uid, "Gid": spec.gid},
        "RootDirectory": {
            "Path": spec.root_directory,
            "CreationInfo": {"OwnerUid": spec.uid, "OwnerGid": spec.gid, "Permissions": spec.permissions},
        },
    }
    points: list[dict[str, Any]] = []
    if not is_pending(file_system_id):
        points = [
            point
            for point in efs.describe_access_points(FileSystemId=file_system_id)["AccessPoints"]
            if point["LifeCycleState"] in ("creating", "available") and tag_dict(point.get("Tags")).get("Name") == name
        ]
    right = [point for point in points if all(_without_empty(point.get(key)) == wanted[key] for key in wanted)]
    if right:
        point = right[0]
        plan.ensure_tags(
            kind,
            name,
            tag_dict(point.get("Tags")),
            platform_tags(spec.platform, name, spec.tags),
            lambda new: efs.tag_resource(ResourceId=point["AccessPointId"], Tags=tag_list(new)),
        )
        return str(point["AccessPointId"])

    def create() -> str:
        made = efs.create_access_point(
            FileSystemId=file_system_id,
            Tags=tag_list(platform_tags(spec.platform, name, spec.tags)),
            **wanted,
        )["AccessPointId"]
        wait_until(
            f"the access point {made} to become available",
            lambda: efs.describe_access_points(AccessPointId=made)["AccessPoints"][0]["LifeCycleState"] == "available",
            seconds=WAIT_SECONDS,
            interval=2,
        )
        return str(made)

    # The outdated access point stays: running tasks still have it mounted. Destroy removes it with the rest.
    return plan.create(kind, name, wanted, create)


def _without_empty(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return settings without the members that AWS may return empty, such as secondary groups of which there are none.

    It matters here: an access point that does not look right gets a successor, and the tasks with it.
    """
    return {key: value for key, value in (settings or {}).items() if value not in ([], {}, None, "")}
