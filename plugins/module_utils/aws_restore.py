"""Restores the platform's database into a new instance, and puts that in the place of the old one.

How far it has come is written in AWS and nowhere else, so that a run that was interrupted is recognized from any
machine and finished: in the names of the instances, in a tag of the new one, and in tags of the paused services.

1. RDS makes the new instance under a name of its own, with the old one's settings.
2. The tasks are taken away, so that nothing writes to the old one any more.
3. The new one gets the password that is in the secret; the backup has that of its time.
4. The old one is renamed, then the new one gets its name, and with it the address that tasks know.
5. The tasks come back. The old one is stopped, and kept until somebody removes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .aws_backup import AGAIN, Backup, find_backup, find_backups
from .aws_database import CREATE_SECONDS, REPLACED, RESTORED, database_settings, find_instance
from .aws_plan import Plan, Refusal, refuse_foreign, retry_while, tag_dict, tag_list, wait_until
from .aws_secrets import PENDING, describe_secret, read_fields
from .aws_service_pause import Services

KIND = "rds-instance"
SOURCE_TAG = "dagster-restored-from"
"""What an instance was restored from: snapshot:NAME or time:ISO8601."""
OVER_TAG = "dagster-restore-keeps-old-as"
"""Tag of the new instance while a restore is under way: what the old one is called afterwards."""

_BUSY = frozenset({"InvalidDBInstanceState", "InvalidDBInstanceStateFault"})
_BROKEN = frozenset(
    {"failed", "incompatible-network", "incompatible-parameters", "incompatible-restore", "storage-full"}
)
RENAME_SECONDS = 1800


@dataclass(frozen=True)
class RestoreSpec:
    """What is restored: the name of a backup, or a time. `now` names what is kept."""

    platform: str
    secret_id: str
    backup: str
    time: str
    engine_version: str
    now: datetime

    @property
    def fresh(self) -> str:
        """Name of the new instance until it has the old one's."""
        return f"{self.platform}{RESTORED}"


@dataclass(frozen=True)
class _Situation:
    """What there is."""

    old: dict[str, Any] | None
    """The instance of the platform's name, if it is the one to be replaced."""
    new: dict[str, Any] | None
    """The one that is being restored, under whatever name."""
    kept_name: str
    """What the old one is called afterwards."""
    source: str
    switched: bool = False
    """Whether the new one has the old one's name already."""


def restore_database(
    rds: Any, secrets: Any, services: Services, spec: RestoreSpec, plan: Plan, *, seconds: float
) -> dict[str, Any]:
    """Restore as the module's documentation says; return what was restored, and what is kept under which name."""
    found = _look(rds, secrets, spec)
    if found.new is None and found.old is not None:
        _begin(rds, spec, found.old, found, plan)
    if not found.switched:
        services.pause(plan)
        if not plan.check_mode:
            services.wait_until_stopped(seconds, f"The database is as it was. {AGAIN}")
        _prepare(rds, secrets, spec, found, plan)
        _switch(rds, spec, found, plan)
    _stop(rds, found.kept_name, plan)
    services.resume(plan)
    if not plan.check_mode:
        services.wait_until_steady(seconds, AGAIN)
    _finish(rds, spec, plan)
    return {"restored": found.source, "kept": found.kept_name, "resumed": found.new is not None}


def _look(rds: Any, secrets: Any, spec: RestoreSpec) -> _Situation:
    """Find out how far an earlier run has come; raise `Refusal` for what cannot be restored."""
    platform = spec.platform
    current, fresh = find_instance(rds, platform), find_instance(rds, spec.fresh)
    for name, instance in ((platform, current), (spec.fresh, fresh)):
        if instance is not None:
            refuse_foreign("RDS instance", name, platform, tag_dict(instance.get("TagList")), "name_prefix")
    new = next((one for one in (fresh, current) if one and OVER_TAG in tag_dict(one.get("TagList"))), None)
    if new is None:
        if fresh is not None:
            raise Refusal(
                f"There is an RDS instance {spec.fresh!r}, which no restore has made. Remove or rename it, and run "
                "this playbook again."
            )
        if current is None:
            raise Refusal(
                f"There is no RDS instance {platform!r} to restore into the place of. Run `ansible-playbook site.yml`, "
                "which makes an empty one with the settings of the inventory, and then this playbook again."
            )
        source = _source(rds, secrets, spec, current)
        return _Situation(current, None, f"{platform}{REPLACED}{spec.now:%Y%m%dt%H%M%S}", source)
    tags = tag_dict(new.get("TagList"))
    source = tags[SOURCE_TAG]
    if (wanted := _words(rds, spec)) != source:
        raise Refusal(
            f"A restore from {source} is under way, begun by a run that was interrupted, and this one is for {wanted}. "
            f"Let that one be finished first: run this playbook with {_option(source)}."
        )
    switched = new is current
    return _Situation(None if switched else current, new, tags[OVER_TAG], source, switched)


def _words(rds: Any, spec: RestoreSpec) -> str:
    """Return the source as the tag says it."""
    if spec.time:
        return f"time:{_time(spec).isoformat()}"
    backup = find_backup(rds, spec.platform, spec.backup)
    return f"snapshot:{backup.name if backup else spec.backup}"


def _option(source: str) -> str:
    kind, _, value = source.partition(":")
    return f"{'BACKUP' if kind == 'snapshot' else 'TIME'}={value}"


def _source(rds: Any, secrets: Any, spec: RestoreSpec, old: Mapping[str, Any]) -> str:
    """Return the source; raise `Refusal` if it cannot take the place of `old`."""
    status = old["DBInstanceStatus"]
    if status != "available":
        raise Refusal(
            f"The RDS instance {spec.platform!r} is {status}; it can be replaced when it is available. "
            + (
                f"Start it (aws rds start-db-instance --db-instance-identifier {spec.platform})"
                if status in ("stopped", "stopping")
                else "Wait for that"
            )
            + ", and run this playbook again."
        )
    username = read_fields(secrets, spec.secret_id, ("username", "password"))["username"]
    versions = (describe_secret(secrets, spec.secret_id) or {}).get("VersionIdsToStages", {})
    if any(PENDING in labels for labels in versions.values()):
        raise Refusal(
            f"The password in the secret {spec.secret_id!r} is being changed, by a run that was interrupted. Finish "
            "that (make rotate-credentials), and run this playbook again."
        )
    if spec.time:
        _check_time(spec, old)
    else:
        backup = find_backup(rds, spec.platform, spec.backup)
        if backup is None:
            raise Refusal(_no_such_backup(rds, spec))
        _check_backup(backup, username, spec)
    return _words(rds, spec)


def _no_such_backup(rds: Any, spec: RestoreSpec) -> str:
    there = [backup.name for backup in find_backups(rds, spec.platform)]
    shown = f"The newest are: {', '.join(there[:5])}" if there else "There are none"
    said = f"There is no backup {spec.backup!r} of this platform" if spec.backup else "No backup was named"
    return (
        f"{said}. {shown} (`make backups` lists all). Name one: make restore BACKUP=NAME, or a point in time: "
        "make restore TIME=2026-01-31T12:00:00Z"
    )


def _check_backup(backup: Backup, username: str, spec: RestoreSpec) -> None:
    problems = []
    if backup.status != "available":
        problems.append(f"it is {backup.status}, not available")
    if not backup.encrypted:
        problems.append("it is not encrypted, and the database would not be either")
    if backup.username != username:
        problems.append(f"its master user is {backup.username!r}, and the secret is for {username!r}")
    if backup.engine_version.split(".")[0] != spec.engine_version.split(".")[0]:
        problems.append(
            f"it is of PostgreSQL {backup.engine_version}, and rds_engine_version is {spec.engine_version}: site.yml "
            "would refuse the database"
        )
    if problems:
        raise Refusal(
            f"The backup {backup.name!r} cannot take the place of the database: {'; '.join(problems)}. Nothing was "
            "changed. `make backups` lists the others."
        )


def _time(spec: RestoreSpec) -> datetime:
    try:
        moment = datetime.fromisoformat(spec.time)
    except ValueError:
        raise Refusal(
            f"{spec.time!r} is no time. Write it as ISO 8601 does, e.g. 2026-01-31T12:00:00Z; without a zone it is UTC."
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _check_time(spec: RestoreSpec, old: Mapping[str, Any]) -> None:
    if spec.backup:
        raise Refusal(f"Both a backup ({spec.backup!r}) and a time ({spec.time!r}) were given. Give one of them.")
    moment, latest = _time(spec), old.get("LatestRestorableTime")
    if not old.get("BackupRetentionPeriod"):
        raise Refusal(
            "RDS keeps no automatic backups of this database (rds_backup_days is 0), so there is no point in time to "
            "go back to. Name a backup: make restore BACKUP=NAME"
        )
    if moment > (latest or spec.now):
        until = f"{latest:%Y-%m-%dT%H:%M:%SZ}" if latest else "now"
        raise Refusal(
            f"{spec.time!r} is too late: the latest point in time is {until}, which follows some five minutes behind. "
            "Choose an earlier one."
        )


def _begin(rds: Any, spec: RestoreSpec, old: Mapping[str, Any], found: _Situation, plan: Plan) -> None:
    settings = _settings(old)
    tags = {
        **{key: value for key, value in tag_dict(old.get("TagList")).items() if not key.startswith("aws:")},
        SOURCE_TAG: found.source,
        OVER_TAG: found.kept_name,
    }
    kind, _, value = found.source.partition(":")

    def create() -> str:
        if kind == "snapshot":
            rds.restore_db_instance_from_db_snapshot(
                DBInstanceIdentifier=spec.fresh, DBSnapshotIdentifier=value, Tags=tag_list(tags), **settings
            )
        else:
            rds.restore_db_instance_to_point_in_time(
                SourceDBInstanceIdentifier=spec.platform,
                TargetDBInstanceIdentifier=spec.fresh,
                RestoreTime=_time(spec),
                Tags=tag_list(tags),
                **settings,
            )
        return spec.fresh

    plan.create(KIND, spec.fresh, {"restored_from": found.source, **settings}, create, unchanged=database_settings(old))


def _settings(old: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the new instance shall have of the old one, and a restore takes."""
    port = int((old.get("Endpoint") or {}).get("Port", 5432))
    wanted = {
        "DBInstanceClass": old["DBInstanceClass"],
        "AllocatedStorage": old["AllocatedStorage"],
        "StorageType": old["StorageType"],
        "DBSubnetGroupName": old["DBSubnetGroup"]["DBSubnetGroupName"],
        "VpcSecurityGroupIds": [group["VpcSecurityGroupId"] for group in old["VpcSecurityGroups"]],
        "DBParameterGroupName": _own_group(old.get("DBParameterGroups", []), "DBParameterGroupName"),
        "OptionGroupName": _own_group(old.get("OptionGroupMemberships", []), "OptionGroupName"),
        "CACertificateIdentifier": old.get("CACertificateIdentifier"),
        "EnableCloudwatchLogsExports": old.get("EnabledCloudwatchLogsExports") or None,
    }
    return {
        **{key: value for key, value in wanted.items() if value is not None},
        "MultiAZ": bool(old.get("MultiAZ")),
        "PubliclyAccessible": False,
        "AutoMinorVersionUpgrade": bool(old.get("AutoMinorVersionUpgrade")),
        "CopyTagsToSnapshot": bool(old.get("CopyTagsToSnapshot")),
        "DeletionProtection": bool(old.get("DeletionProtection")),
        "Port": port,
    }


def _own_group(groups: Sequence[Mapping[str, Any]], key: str) -> str | None:
    """Return the name of a parameter or option group, if it is not RDS's default, which every instance gets."""
    return next((group[key] for group in groups if not group[key].startswith("default")), None)


def _later_settings(old: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the new instance shall have of the old one, and takes when it is there."""
    settings = {
        "BackupRetentionPeriod": old.get("BackupRetentionPeriod"),
        "PreferredBackupWindow": old.get("PreferredBackupWindow"),
        "PreferredMaintenanceWindow": old.get("PreferredMaintenanceWindow"),
    }
    if old.get("MaxAllocatedStorage", 0) > old["AllocatedStorage"]:
        settings["MaxAllocatedStorage"] = old["MaxAllocatedStorage"]
    return {key: value for key, value in settings.items() if value is not None}


def _prepare(rds: Any, secrets: Any, spec: RestoreSpec, found: _Situation, plan: Plan) -> None:
    """Give the new instance the password in the secret, and the settings that a restore does not take."""
    old = found.old or find_instance(rds, found.kept_name)
    if old is None:
        raise Refusal(
            f"The instance that should be replaced is gone: there is neither {spec.platform!r} nor "
            f"{found.kept_name!r}, so the settings of the new one ({spec.fresh!r}) are not known. Rename it yourself "
            f"(aws rds modify-db-instance --db-instance-identifier {spec.fresh} --new-db-instance-identifier "
            f"{spec.platform} --apply-immediately), and run this playbook again."
        )
    later = _later_settings(old)

    def prepare() -> None:
        _wait_available(rds, spec.fresh)
        password = read_fields(secrets, spec.secret_id, ("password",))["password"]
        _modify(rds, spec.fresh, MasterUserPassword=password, **later)
        _wait_available(rds, spec.fresh)

    plan.update(
        KIND,
        spec.fresh,
        {"password": "that of the backup"},
        {"password": f"that of the secret {spec.secret_id}", **later},
        prepare,
    )


def _switch(rds: Any, spec: RestoreSpec, found: _Situation, plan: Plan) -> None:
    """Give the old instance another name, and the new one that of the old."""
    if found.old is not None:
        plan.update(
            KIND,
            spec.platform,
            {"name": spec.platform},
            {"name": found.kept_name},
            lambda: _rename(rds, spec.platform, found.kept_name, found.old or {}),
        )
    if not plan.check_mode:
        kept = _wait_available(rds, found.kept_name, but=("stopped", "stopping"))
        rds.add_tags_to_resource(ResourceName=kept["DBInstanceArn"], Tags=tag_list({"Name": found.kept_name}))
    plan.update(
        KIND,
        spec.fresh,
        {"name": spec.fresh},
        {"name": spec.platform},
        lambda: _rename(rds, spec.fresh, spec.platform, found.new or {}),
    )
    if not plan.check_mode:
        _wait_available(rds, spec.platform)


def _rename(rds: Any, name: str, new: str, described: Mapping[str, Any]) -> None:
    if described.get("DBInstanceStatus") != "renaming":
        _modify(rds, name, NewDBInstanceIdentifier=new)
    wait_until(
        f"the RDS instance {name!r} to be called {new!r}",
        lambda: find_instance(rds, new) is not None and find_instance(rds, name) is None,
        seconds=RENAME_SECONDS,
        advice=AGAIN,
    )


def _stop(rds: Any, name: str, plan: Plan) -> None:
    """Stop the old instance, so that it costs its storage only."""
    found = None if plan.check_mode else find_instance(rds, name)
    if plan.check_mode or (found is not None and found["DBInstanceStatus"] == "available"):
        plan.update(
            KIND,
            name,
            {"status": "available"},
            {"status": "stopped"},
            lambda: rds.stop_db_instance(DBInstanceIdentifier=name),
        )


def _finish(rds: Any, spec: RestoreSpec, plan: Plan) -> None:
    """Take the mark away by which a run knows that it has to go on."""
    new = None if plan.check_mode else find_instance(rds, spec.platform)
    if new is not None:
        rds.remove_tags_from_resource(ResourceName=new["DBInstanceArn"], TagKeys=[OVER_TAG])


def _modify(rds: Any, name: str, **settings: Any) -> None:
    retry_while(
        _BUSY,
        f"the RDS instance {name!r} to accept a change",
        lambda: rds.modify_db_instance(DBInstanceIdentifier=name, ApplyImmediately=True, **settings),
        seconds=RENAME_SECONDS,
        advice=AGAIN,
    )


def _wait_available(rds: Any, name: str, but: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the instance when it answers and no change is on its way, or it is in one of the states `but`."""
    last: dict[str, Any] = {}

    def ready() -> bool:
        found = find_instance(rds, name)
        if found is None:
            return False
        if found["DBInstanceStatus"] in _BROKEN:
            raise Refusal(
                f"The RDS instance {name!r} is in state {found['DBInstanceStatus']!r} and will not become available by "
                "waiting. `aws rds describe-events --source-type db-instance` says why. The old database is untouched."
            )
        last.clear()
        last.update(found)
        pending = found.get("PendingModifiedValues") or {}
        done = found["DBInstanceStatus"] == "available" and "MasterUserPassword" not in pending
        return (done and bool(found.get("Endpoint"))) or found["DBInstanceStatus"] in but

    wait_until(f"the RDS instance {name!r} to become available", ready, seconds=CREATE_SECONDS * 2, advice=AGAIN)
    return last
