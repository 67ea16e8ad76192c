"""The PostgreSQL instance on RDS and its subnet group, or an adopted instance.

The password goes from the secret to RDS in this process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .aws_plan import (
    PLATFORM_TAG,
    Plan,
    Refusal,
    error_code,
    is_pending,
    platform_tags,
    refuse_foreign,
    retry_while,
    tag_dict,
    tag_list,
    wait_until,
)
from .aws_secrets import read_fields

CREATE_SECONDS = 1800
SERVICE_ROLE_SECONDS = 120
RESTORED, REPLACED = "-restored", "-before-"
"""What a restore appends to the platform's name: for the new instance as long as there is the old one, and for the old
one afterwards (aws_restore.py)."""
PENDING_ENDPOINT = "pending.invalid"
"""Host name reported in check mode; RFC 2606 reserves .invalid, so that nothing can ever connect to it."""


@dataclass(frozen=True)
class DatabaseSpec:
    """What the instance should look like; storage in GiB, periods in days."""

    platform: str
    database: str
    engine_version: str
    instance_class: str
    storage: int
    max_storage: int
    multi_az: bool
    backup_days: int
    deletion_protection: bool
    subnet_ids: tuple[str, ...]
    security_group_id: str
    secret_id: str
    apply_immediately: bool = True
    tags: Mapping[str, str] = field(default_factory=dict)


def ensure_database(rds: Any, secrets: Any, spec: DatabaseSpec, plan: Plan) -> tuple[str, int]:
    """Bring subnet group and instance to the state of `spec`; return address and port once it answers.

    While it is not there, and `plan` does not wait, the address is `PENDING_ENDPOINT`.
    """
    _ensure_subnet_group(rds, spec, plan)
    found = find_instance(rds, spec.platform)
    if found is None:
        plan.create("rds-instance", spec.platform, _settings(spec), lambda: _create(rds, secrets, spec))
    else:
        _keep_instance(rds, spec, found, plan)
    if plan.check_mode:
        endpoint = (found or {}).get("Endpoint") or {}
        return str(endpoint.get("Address", PENDING_ENDPOINT)), int(endpoint.get("Port", 5432))
    return _endpoint(rds, spec.platform, plan)


@dataclass(frozen=True)
class AdoptedDatabase:
    """An instance that is somebody else's: it is used, and never changed."""

    platform: str
    instance: str
    secret_id: str
    client_group_ids: tuple[str, ...]
    """Security groups of the tasks, which must be let in."""


def check_adopted_database(rds: Any, ec2: Any, secrets: Any, spec: AdoptedDatabase, plan: Plan) -> tuple[str, int]:
    """Check that the tasks could use the instance; return its address and port.

    Raise `Refusal` if there is none, if it is not PostgreSQL, if its secret does not hold the credentials, or if its
    security groups let nobody of the platform in.
    """
    name = spec.instance
    if name == spec.platform:
        raise Refusal(
            f"rds_existing_instance is {name!r}, which is what the platform calls an instance of its own, and would "
            'remove again. Set it to the identifier of another instance, or to "" to have one made.'
        )
    found = find_instance(rds, name)
    if found is None:
        raise Refusal(
            f"There is no RDS instance {name!r} in this account and region. Set rds_existing_instance to one of yours "
            '(aws rds describe-db-instances), or to "" to have one made; then run this playbook again.'
        )
    if found["Engine"] != "postgres":
        raise Refusal(
            f"The RDS instance {name!r} runs {found['Engine']}, and Dagster needs PostgreSQL. Set "
            'rds_existing_instance to another one, or to "" to have one made; then run this playbook again.'
        )
    read_fields(secrets, spec.secret_id, ("username", "password"))
    _refuse_closed_groups(ec2, found, spec)
    if plan.check_mode:
        endpoint = found.get("Endpoint") or {}
        return str(endpoint.get("Address", PENDING_ENDPOINT)), int(endpoint.get("Port", 5432))
    return _endpoint(rds, name, plan)


def _refuse_closed_groups(ec2: Any, found: Mapping[str, Any], spec: AdoptedDatabase) -> None:
    """Raise `Refusal` if no rule of the instance's security groups could let the tasks in.

    Rules with addresses or prefix lists are taken for right: the tasks may come through a peering or a gateway.
    """
    port = int((found.get("Endpoint") or {}).get("Port", 5432))
    groups = [group["VpcSecurityGroupId"] for group in found.get("VpcSecurityGroups", [])]
    clients = [group for group in spec.client_group_ids if not is_pending(group)]
    if not groups or len(clients) < len(spec.client_group_ids):
        return
    rules = [
        rule
        for group in ec2.describe_security_groups(GroupIds=groups)["SecurityGroups"]
        for rule in group["IpPermissions"]
        if rule["IpProtocol"] == "-1" or int(rule["FromPort"]) <= port <= int(rule["ToPort"])
    ]
    if any(rule.get(kind) for rule in rules for kind in ("IpRanges", "PrefixListIds")):
        return
    let_in = {pair["GroupId"] for rule in rules for pair in rule.get("UserIdGroupPairs", [])}
    if missing := [group for group in clients if group not in let_in]:
        commands = "; ".join(
            f"aws ec2 authorize-security-group-ingress --group-id {groups[0]} --protocol tcp --port {port} "
            f"--source-group {group}"
            for group in missing
        )
        raise Refusal(
            f"The security groups of the RDS instance {spec.instance!r} ({', '.join(groups)}) do not let the tasks in "
            f"(groups {', '.join(missing)}), and what is yours is not changed. Allow it ({commands}) and run this "
            "playbook again."
        )


def find_replaced(rds: Any, platform: str) -> list[dict[str, Any]]:
    """Return the instances that restores have replaced, and the new one of a restore that was interrupted."""
    pages = rds.get_paginator("describe_db_instances").paginate()
    return [
        instance
        for page in pages
        for instance in page["DBInstances"]
        if instance["DBInstanceIdentifier"].startswith((f"{platform}{REPLACED}", f"{platform}{RESTORED}"))
        and tag_dict(instance.get("TagList")).get(PLATFORM_TAG) == platform
    ]


def removal_commands(instance: Mapping[str, Any]) -> str:
    """Return what to type to remove an instance that a restore has replaced."""
    name = instance["DBInstanceIdentifier"]
    unlock = (
        f"aws rds modify-db-instance --db-instance-identifier {name} --no-deletion-protection --apply-immediately; "
        if instance.get("DeletionProtection")
        else ""
    )
    return f"{unlock}aws rds delete-db-instance --db-instance-identifier {name} --skip-final-snapshot"


def _remove_replaced(rds: Any, platform: str, plan: Plan, *, wanted: bool) -> None:
    """Remove what restores have left behind if that is wanted; else raise `Refusal`: it is somebody's data."""
    left = find_replaced(rds, platform)
    kept = [one for one in left if one.get("DeletionProtection") or not wanted]
    if kept:
        names = ", ".join(f"{one['DBInstanceIdentifier']} ({one['DBInstanceStatus']})" for one in kept)
        way_out = (
            "They are protected against deletion"
            if wanted
            else "Set rds_remove_replaced: true, and they are removed without a snapshot"
        )
        commands = "; ".join(removal_commands(one) for one in kept)
        plan.obstacle(
            f"Restores have left RDS instances behind that hold data and use the platform's network: {names}. "
            f"{way_out}. Or remove them yourself: {commands}; then run this playbook again."
        )
        return

    def remove(name: str) -> None:
        if (find_instance(rds, name) or {}).get("DBInstanceStatus") != "deleting":
            rds.delete_db_instance(DBInstanceIdentifier=name, SkipFinalSnapshot=True)
        wait_until(
            f"the RDS instance {name!r} to be deleted",
            lambda: find_instance(rds, name) is None,
            seconds=CREATE_SECONDS,
            interval=10,
        )

    for instance in left:
        name = instance["DBInstanceIdentifier"]
        plan.remove("rds-instance", name, {}, partial(remove, name), unchanged=database_settings(instance))


def remove_database(rds: Any, platform: str, plan: Plan, *, final_snapshot: str, remove_replaced: bool = False) -> None:
    """Remove the instance and its subnet group. A non-empty `final_snapshot` names a snapshot to take first.

    With `remove_replaced`, instances that restores have left behind go too, without a snapshot; else they are an
    obstacle.
    """
    _remove_replaced(rds, platform, plan, wanted=remove_replaced)
    found = find_instance(rds, platform)
    if found is not None:
        refuse_foreign("RDS instance", platform, platform, tag_dict(found.get("TagList")), "name_prefix")
        if found.get("DeletionProtection"):
            raise Refusal(
                f"The RDS instance {platform!r} is protected against deletion. Set rds_deletion_protection: false, "
                "run `ansible-playbook site.yml --tags preflight,vpc,secrets_manager,rds`, and then this again."
            )
        if final_snapshot and found["DBInstanceStatus"] != "deleting" and _snapshot_exists(rds, final_snapshot):
            raise Refusal(
                f"The RDS snapshot {final_snapshot!r} exists already, from a database that was removed earlier, and is "
                "not overwritten. Set rds_final_snapshot_name to another name, or, if you need it no longer, remove it "
                f"(aws rds delete-db-snapshot --db-snapshot-identifier {final_snapshot}); then run this playbook again."
            )
        how: dict[str, Any] = (
            {"FinalDBSnapshotIdentifier": final_snapshot} if final_snapshot else {"SkipFinalSnapshot": True}
        )

        def remove() -> None:
            if found["DBInstanceStatus"] != "deleting":
                rds.delete_db_instance(DBInstanceIdentifier=platform, **how)
            wait_until(
                f"the RDS instance {platform!r} to be deleted",
                lambda: find_instance(rds, platform) is None,
                seconds=CREATE_SECONDS,
                interval=10,
            )

        plan.remove(
            "rds-instance",
            platform,
            {"final_snapshot": final_snapshot or "none"},
            remove,
            unchanged=database_settings(found),
        )
    if _subnet_group(rds, platform) is not None:
        plan.remove(
            "rds-subnet-group",
            platform,
            {},
            lambda: rds.delete_db_subnet_group(DBSubnetGroupName=platform),
        )


def database_settings(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the price of a described instance depends on."""
    names = ("DBInstanceClass", "AllocatedStorage", "MultiAZ", "StorageType")
    # RDS names no limit where storage autoscaling is off.
    most = found.get("MaxAllocatedStorage", found["AllocatedStorage"])
    return {**{name: found.get(name) for name in names}, "MaxAllocatedStorage": most}


def _settings(spec: DatabaseSpec) -> dict[str, Any]:
    """Return what can be changed in place, under the names of ModifyDBInstance."""
    return {
        "DBInstanceClass": spec.instance_class,
        "AllocatedStorage": spec.storage,
        # A limit that is no more than what is there turns storage autoscaling off.
        "MaxAllocatedStorage": spec.max_storage,
        "MultiAZ": spec.multi_az,
        "BackupRetentionPeriod": spec.backup_days,
        "DeletionProtection": spec.deletion_protection,
        "VpcSecurityGroupIds": [spec.security_group_id],
        "PubliclyAccessible": False,
        "AutoMinorVersionUpgrade": True,
        "CopyTagsToSnapshot": True,
        "StorageType": "gp3",
    }


def _create(rds: Any, secrets: Any, spec: DatabaseSpec) -> str:
    credentials = read_fields(secrets, spec.secret_id, ("username", "password"))
    settings = _settings(spec)
    if spec.max_storage <= spec.storage:
        del settings["MaxAllocatedStorage"]
    # The first instance of an account makes a service-linked role, which takes IAM some seconds to know everywhere.
    instance = retry_while(
        frozenset({"InvalidParameterValue"}),
        "the service-linked role AWSServiceRoleForRDS to become usable",
        lambda: rds.create_db_instance(
            DBInstanceIdentifier=spec.platform,
            Engine="postgres",
            EngineVersion=spec.engine_version,
            DBName=spec.database,
            MasterUsername=credentials["username"],
            MasterUserPassword=credentials["password"],
            DBSubnetGroupName=spec.platform,
            StorageEncrypted=True,
            Port=5432,
            Tags=tag_list(platform_tags(spec.platform, spec.platform, spec.tags)),
            **settings,
        ),
        saying="service linked role",
        seconds=SERVICE_ROLE_SECONDS,
        advice="Make it with `aws iam create-service-linked-role --aws-service-name rds.amazonaws.com`.",
    )["DBInstance"]
    return str(instance["DBInstanceIdentifier"])


def _keep_instance(rds: Any, spec: DatabaseSpec, found: Mapping[str, Any], plan: Plan) -> None:
    kind, name = "rds-instance", spec.platform
    refuse_foreign("RDS instance", name, spec.platform, tag_dict(found.get("TagList")), "name_prefix")
    _refuse_impossible(spec, found)
    plan.ensure_tags(
        kind,
        name,
        tag_dict(found.get("TagList")),
        platform_tags(spec.platform, name, spec.tags),
        lambda new: rds.add_tags_to_resource(ResourceName=found["DBInstanceArn"], Tags=tag_list(new)),
    )
    # A change that waits for the maintenance window has been asked for already.
    # RDS names no limit where storage autoscaling is off.
    current = {"MaxAllocatedStorage": found["AllocatedStorage"], **found, **found.get("PendingModifiedValues", {})}
    current["VpcSecurityGroupIds"] = [group["VpcSecurityGroupId"] for group in found.get("VpcSecurityGroups", [])]
    wanted = _settings(spec)
    # Storage autoscaling grows the volume; that is no drift, and it could not shrink anyway.
    if found["AllocatedStorage"] > spec.storage and found["AllocatedStorage"] <= spec.max_storage:
        wanted["AllocatedStorage"] = found["AllocatedStorage"]

    def modify(changed: dict[str, Any]) -> None:
        rds.modify_db_instance(DBInstanceIdentifier=name, ApplyImmediately=spec.apply_immediately, **changed)

    plan.update_if_different(kind, name, current, wanted, modify, unchanged=database_settings(current))


def _refuse_impossible(spec: DatabaseSpec, found: Mapping[str, Any]) -> None:
    """Raise `Refusal` for differences that RDS cannot change in place."""
    problems = []
    if found["Engine"] != "postgres":
        problems.append(f"its engine is {found['Engine']}, not postgres")
    if not found.get("StorageEncrypted"):
        problems.append("it is not encrypted")
    group = found.get("DBSubnetGroup", {}).get("DBSubnetGroupName", spec.platform)
    if group != spec.platform:
        problems.append(f"it is in the subnet group {group!r}, not {spec.platform!r}")
    if found.get("DBName") != spec.database:
        problems.append(f"its first database is {found.get('DBName')!r}, not rds_database {spec.database!r}")
    if found["AllocatedStorage"] > max(spec.storage, spec.max_storage):
        problems.append(
            f"it has {found['AllocatedStorage']} GiB, more than rds_storage {spec.storage} and "
            f"rds_max_storage {spec.max_storage}; storage cannot shrink"
        )
    major = spec.engine_version.split(".")[0]
    if found["EngineVersion"].split(".")[0] != major:
        problems.append(
            f"it runs PostgreSQL {found['EngineVersion']}, rds_engine_version is {spec.engine_version}; a major "
            "upgrade needs an outage and is not done by this playbook"
        )
    if problems:
        raise Refusal(
            f"The RDS instance {spec.platform!r} cannot be brought to the wanted state in place: "
            f"{'; '.join(problems)}. Set the variables to what is there, or take a snapshot, restore it under the "
            "right settings and run this playbook again."
        )


def _ensure_subnet_group(rds: Any, spec: DatabaseSpec, plan: Plan) -> None:
    kind, name = "rds-subnet-group", spec.platform
    tags = platform_tags(spec.platform, name, spec.tags)
    description = f"Private subnets of {spec.platform}"
    found = _subnet_group(rds, name)
    if found is None:
        plan.create(
            kind,
            name,
            {"subnets": list(spec.subnet_ids)},
            lambda: str(
                rds.create_db_subnet_group(
                    DBSubnetGroupName=name,
                    DBSubnetGroupDescription=description,
                    SubnetIds=list(spec.subnet_ids),
                    Tags=tag_list(tags),
                )["DBSubnetGroup"]["DBSubnetGroupName"]
            ),
        )
        return
    arn = found["DBSubnetGroupArn"]
    current_tags = tag_dict(rds.list_tags_for_resource(ResourceName=arn)["TagList"])
    refuse_foreign("RDS subnet group", name, spec.platform, current_tags, "name_prefix")
    plan.ensure_tags(
        kind,
        name,
        current_tags,
        tags,
        lambda new: rds.add_tags_to_resource(ResourceName=arn, Tags=tag_list(new)),
    )
    plan.update_if_different(
        kind,
        name,
        {
            "subnets": sorted(subnet["SubnetIdentifier"] for subnet in found["Subnets"]),
            "description": found["DBSubnetGroupDescription"],
        },
        {"subnets": sorted(spec.subnet_ids), "description": description},
        lambda _: rds.modify_db_subnet_group(
            DBSubnetGroupName=name,
            DBSubnetGroupDescription=description,
            SubnetIds=list(spec.subnet_ids),
        ),
    )


def _endpoint(rds: Any, name: str, plan: Plan) -> tuple[str, int]:
    endpoint: dict[str, Any] = {}

    def ready() -> bool:
        found = find_instance(rds, name)
        if found is None:
            raise Refusal(f"The RDS instance {name!r} disappeared while it was waited for. Run this playbook again.")
        if found["DBInstanceStatus"] in ("failed", "incompatible-network", "incompatible-parameters", "storage-full"):
            raise Refusal(
                f"The RDS instance {name!r} is in state {found['DBInstanceStatus']!r} and will not become available "
                "by waiting. See `aws rds describe-events --source-type db-instance` for the reason."
            )
        endpoint.update(found.get("Endpoint") or {})
        # Once it has an endpoint it can be used; backups and small modifications come and go afterwards.
        return found["DBInstanceStatus"] not in ("creating", "starting", "stopped", "stopping") and bool(endpoint)

    plan.settled(
        f"the RDS instance {name!r} to become available",
        ready,
        seconds=CREATE_SECONDS,
        advice="Start it if it was stopped (aws rds start-db-instance), then run this playbook again.",
    )
    return str(endpoint.get("Address", PENDING_ENDPOINT)), int(endpoint.get("Port", 5432))


def find_instance(rds: Any, name: str) -> dict[str, Any] | None:
    """Return the instance as RDS describes it, or None if there is none of that name."""
    try:
        return dict(rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0])
    except Exception as error:
        if error_code(error) in ("DBInstanceNotFound", "DBInstanceNotFoundFault"):
            return None
        raise


def _subnet_group(rds: Any, name: str) -> dict[str, Any] | None:
    try:
        return dict(rds.describe_db_subnet_groups(DBSubnetGroupName=name)["DBSubnetGroups"][0])
    except Exception as error:
        if error_code(error) == "DBSubnetGroupNotFoundFault":
            return None
        raise


def _snapshot_exists(rds: Any, name: str) -> bool:
    try:
        return bool(rds.describe_db_snapshots(DBSnapshotIdentifier=name)["DBSnapshots"])
    except Exception as error:
        if error_code(error) in ("DBSnapshotNotFound", "DBSnapshotNotFoundFault"):
            return False
        raise
