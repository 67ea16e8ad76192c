"""Snapshots of the platform's database: made, listed, and the oldest of ours removed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .aws_database import find_instance
from .aws_plan import (
    PLATFORM_TAG,
    Plan,
    Refusal,
    error_code,
    platform_tags,
    refuse_foreign,
    report_progress,
    tag_dict,
    tag_list,
    wait_until,
)

KIND = "rds-snapshot"
BACKUP_TAG = "dagster-backup"
"""Marks what playbooks/backup.yml has made: of these, and no others, only so many are kept."""

AGAIN = "Run this playbook again: it goes on where it was."
MAX_NAME = 255
"""Characters of a snapshot's identifier; Amazon RDS API Reference, CreateDBSnapshot."""


@dataclass(frozen=True)
class Backup:
    """A snapshot of a database of the platform."""

    name: str
    created: datetime | None
    """None while it is being made."""
    automatic: bool
    made_here: bool
    """Whether playbooks/backup.yml made it."""
    status: str
    gib: int
    """Storage of the database, not what is charged: that is less, and known to the bill only."""
    encrypted: bool
    engine_version: str
    username: str
    instance: str


def find_backups(rds: Any, platform: str) -> list[Backup]:
    """Return all snapshots of the platform's databases, manual and automatic ones, newest first.

    The tag tells whose they are: RDS copies the instance's tags to automatic snapshots and to the final one. Instances
    and their names come and go with every restore.
    """
    pages = rds.get_paginator("describe_db_snapshots").paginate()
    ours = [
        _backup(item)
        for page in pages
        for item in page["DBSnapshots"]
        if tag_dict(item.get("TagList")).get(PLATFORM_TAG) == platform
    ]
    future = datetime.max.replace(tzinfo=UTC)
    return sorted(ours, key=lambda backup: (backup.created or future, backup.name), reverse=True)


def find_backup(rds: Any, platform: str, name: str) -> Backup | None:
    """Return the platform's snapshot of this name, which may lack the platform's."""
    found = {backup.name: backup for backup in find_backups(rds, platform)}
    return found.get(name) or found.get(f"{platform}-{name}")


def backup_name(platform: str, name: str, now: datetime) -> str:
    """Return the identifier of a new snapshot: platform and `name`, or the time. Raise `Refusal` for a bad name."""
    text = name or f"{now:%Y-%m-%d-%H%M%S}"
    full = text if text.startswith(f"{platform}-") else f"{platform}-{text}"
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", text) or len(full) > MAX_NAME:
        raise Refusal(
            f"{name!r} cannot be the name of a backup. RDS takes lower-case letters, digits and single hyphens in "
            f"between, at most {MAX_NAME - len(platform) - 1} of them: make backup NAME=before-upgrade"
        )
    return full


def create_backup(rds: Any, platform: str, name: str, tags: Mapping[str, str], plan: Plan, *, seconds: float) -> None:
    """Take a snapshot of the platform's database, and wait until it can be restored.

    One of that name which is still being made is waited for: an interrupted run has begun it.
    """
    found = find_instance(rds, platform)
    if found is None:
        raise Refusal(
            f"There is no RDS instance {platform!r}, so there is nothing to back up. Run `ansible-playbook site.yml` "
            "first, or choose another inventory."
        )
    refuse_foreign("RDS instance", platform, platform, tag_dict(found.get("TagList")), "name_prefix")
    there = _describe(rds, name)
    if there is not None and (there.status != "creating" or there.instance != platform):
        raise Refusal(
            f"There is a snapshot {name!r} already ({there.status}, of {there.created or 'now'}), and it is not "
            "overwritten. Choose another NAME, or none: then the time is its name. `make backups` lists what there is."
        )
    if there is None and found["DBInstanceStatus"] in ("stopped", "stopping", "starting", "creating"):
        raise Refusal(
            f"The RDS instance {platform!r} is {found['DBInstanceStatus']}, and RDS takes snapshots of running ones. "
            f"Start it (aws rds start-db-instance --db-instance-identifier {platform}), and run this playbook again."
        )

    def create() -> str:
        marks = {**platform_tags(platform, name, tags), BACKUP_TAG: "manual"}
        rds.create_db_snapshot(DBInstanceIdentifier=platform, DBSnapshotIdentifier=name, Tags=tag_list(marks))
        return name

    if there is None:
        plan.create(KIND, name, {"of": platform}, create, unchanged={"gib": found["AllocatedStorage"]})
    if not plan.check_mode:
        _wait(rds, name, seconds)


def remove_old_backups(rds: Any, platform: str, keep: int, plan: Plan) -> None:
    """Remove all but the newest `keep` snapshots that playbooks/backup.yml has made; 0 keeps all."""
    made = [backup for backup in find_backups(rds, platform) if backup.made_here and backup.status == "available"]
    # In check mode the new one is not among them.
    new = any(change["kind"] == KIND and change["action"] == "create" for change in plan.changes) and plan.check_mode
    for backup in made[keep - new :] if keep else []:
        _remove(rds, backup, plan)


def remove_all_backups(rds: Any, platform: str, plan: Plan) -> None:
    """Remove every snapshot that playbooks/backup.yml has made. Automatic ones go with their instance."""
    for backup in find_backups(rds, platform):
        if backup.made_here:
            _remove(rds, backup, plan)


def _remove(rds: Any, backup: Backup, plan: Plan) -> None:
    plan.remove(
        KIND,
        backup.name,
        {"created": str(backup.created)},
        lambda: rds.delete_db_snapshot(DBSnapshotIdentifier=backup.name),
        unchanged={"gib": backup.gib},
    )


def _wait(rds: Any, name: str, seconds: float) -> None:
    told = ""

    def ready() -> bool:
        nonlocal told
        found = _described(rds, name)
        if found is None or found["Status"] in ("failed", "deleting"):
            raise Refusal(
                f"The snapshot {name!r} is {found['Status'] if found else 'gone'}, and will not become available. "
                "`aws rds describe-events --source-type db-snapshot` says why. Run this playbook again."
            )
        progress = f"{found.get('PercentProgress', 0)} %"
        if found["Status"] != "available" and progress != told:
            told = progress
            report_progress(f"the snapshot {name!r}: {progress}")
        return str(found["Status"]) == "available"

    wait_until(
        f"the snapshot {name!r} to become available",
        ready,
        seconds=seconds,
        advice=f"RDS goes on with it. {AGAIN} With NAME={name} it waits for this one.",
    )


def _describe(rds: Any, name: str) -> Backup | None:
    found = _described(rds, name)
    return _backup(found) if found else None


def _described(rds: Any, name: str) -> dict[str, Any] | None:
    try:
        return dict(rds.describe_db_snapshots(DBSnapshotIdentifier=name)["DBSnapshots"][0])
    except Exception as error:
        if error_code(error) in ("DBSnapshotNotFound", "DBSnapshotNotFoundFault"):
            return None
        raise


def _backup(found: Mapping[str, Any]) -> Backup:
    tags = tag_dict(found.get("TagList"))
    return Backup(
        name=found["DBSnapshotIdentifier"],
        created=found.get("SnapshotCreateTime"),
        automatic=found.get("SnapshotType") == "automated",
        made_here=BACKUP_TAG in tags and found.get("SnapshotType") == "manual",
        status=found["Status"],
        gib=int(found["AllocatedStorage"]),
        encrypted=bool(found.get("Encrypted")),
        engine_version=str(found["EngineVersion"]),
        username=found["MasterUsername"],
        instance=found["DBInstanceIdentifier"],
    )
