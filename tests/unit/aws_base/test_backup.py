"""Backups and restores: what is asked of RDS, each point at which a restore may be interrupted, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.validate import ParamValidator

from module_utils.aws_autoscaling import ScalingSpec, ensure_scaling
from module_utils.aws_backup import backup_name, create_backup, find_backups, remove_all_backups, remove_old_backups
from module_utils.aws_database import DatabaseSpec, find_replaced, remove_database
from module_utils.aws_plan import Plan, Refusal
from module_utils.aws_restore import OVER_TAG, RestoreSpec, restore_database
from module_utils.aws_service_pause import COUNT_TAG, Services
from tests.unit.aws_base.test_database_and_identities import SECRET, TAGS, database, make_spec

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
KEPT = "lab-before-20260131t120000"
READS = ("describe_", "list_", "get_")


class Killed(BaseException):
    """The run ends here, without a chance to tidy up."""


class Cloud:
    """Clients that note what is changed, and end the run after so many changes."""

    def __init__(self, aws: Any, lives: int | None = None) -> None:
        self._aws, self._lives = aws, lives
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, service: str) -> Any:
        return _Client(self, getattr(self._aws, service))

    def note(self, operation: str, arguments: dict[str, Any]) -> None:
        self.calls.append((operation, arguments))
        if len(self.calls) == self._lives:
            raise Killed


class _Client:
    def __init__(self, cloud: Cloud, client: Any) -> None:
        self._cloud, self._client = cloud, client

    def __getattr__(self, operation: str) -> Any:
        call = getattr(self._client, operation)
        if operation.startswith((*READS, "exceptions")):
            return call

        def write(**arguments: Any) -> Any:
            answer = call(**arguments)
            self._cloud.note(operation, arguments)
            return answer

        return write


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let time pass at once, and take services for steady: nothing runs their tasks here."""
    monkeypatch.setattr("module_utils.aws_service_pause.is_steady", lambda _service, _revision: True)
    clock = [0.0]
    monkeypatch.setattr("module_utils.aws_plan.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(
        "module_utils.aws_plan.time.sleep", lambda seconds: clock.__setitem__(0, clock[0] + max(seconds, 1))
    )


@pytest.fixture
def platform(aws: Any) -> Any:
    """A database, its backup, and services: two webservers that are scaled, one daemon."""
    aws.once("platform with a backup", lambda: make_platform(aws))
    return aws


def make_platform(aws: Any) -> None:
    database(aws, dataclasses.replace(make_spec(aws), deletion_protection=False), Plan())
    aws.ecs.create_cluster(clusterName="lab")
    tags = [{"key": "dagster-platform", "value": "lab"}]
    for name, count in (("webserver", 2), ("daemon", 1)):
        aws.ecs.register_task_definition(family=name, containerDefinitions=[{"name": name, "image": "x", "memory": 64}])
        aws.ecs.create_service(cluster="lab", serviceName=name, taskDefinition=name, desiredCount=count, tags=tags)
    scaling = ScalingSpec("lab", "lab", "webserver", 1, 3, {"cpu": 70}, 60, 300)
    ensure_scaling(aws.application_autoscaling, scaling, Plan())
    backup(aws, "good")


def backup(aws: Any, name: str, plan: Plan | None = None) -> None:
    create_backup(aws.rds, "lab", backup_name("lab", name, NOW), TAGS, plan or Plan(), seconds=60)


def restore(aws: Any, plan: Plan | None = None, **changes: Any) -> dict[str, Any]:
    spec = dataclasses.replace(RestoreSpec("lab", SECRET, "good", "", "17", NOW), **changes)
    services = Services(aws.ecs, aws.application_autoscaling, "lab", "lab", ("webserver", "daemon"))
    return restore_database(aws.rds, aws.secretsmanager, services, spec, plan or Plan(), seconds=60)


def wanted(aws: Any) -> DatabaseSpec:
    """Return what site.yml keeps the database like."""
    groups = aws.ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["db"]}])["SecurityGroups"]
    subnets = aws.rds.describe_db_subnet_groups()["DBSubnetGroups"][0]["Subnets"]
    return DatabaseSpec(
        *("lab", "dagster", "17", "db.t4g.micro", 20, 100),
        multi_az=False,
        backup_days=7,
        deletion_protection=False,
        subnet_ids=tuple(subnet["SubnetIdentifier"] for subnet in subnets),
        security_group_id=groups[0]["GroupId"],
        secret_id=SECRET,
        tags=TAGS,
    )


def forget_automatic_backups(aws: Any) -> None:
    """Let moto make the next one: it calls them after the minute."""
    for one in aws.rds.describe_db_snapshots(SnapshotType="automated")["DBSnapshots"]:
        aws.rds.delete_db_snapshot(DBSnapshotIdentifier=one["DBSnapshotIdentifier"])


def described(aws: Any) -> dict[str, dict[str, Any]]:
    return {one["DBInstanceIdentifier"]: one for one in aws.rds.describe_db_instances()["DBInstances"]}


def services(aws: Any) -> dict[str, tuple[int, dict[str, str]]]:
    found = aws.ecs.describe_services(cluster="lab", services=["webserver", "daemon"], include=["TAGS"])["services"]
    return {
        one["serviceName"]: (one["desiredCount"], {tag["key"]: tag["value"] for tag in one["tags"]}) for one in found
    }


def assert_restored(aws: Any, settings: dict[str, Any], kept: str = KEPT) -> None:
    """Hold what there is against what should be after a restore."""
    found = described(aws)
    assert sorted(found) == ["lab", kept]
    new, old = found["lab"], found[kept]
    assert old["DBInstanceStatus"] == "stopped"
    assert {key: new.get(key) for key in settings} == settings
    tags = {tag["Key"]: tag["Value"] for tag in new["TagList"]}
    assert tags["dagster-restored-from"] == "snapshot:lab-good"
    assert OVER_TAG not in tags
    assert {"owner": "me", "Name": "lab", "dagster-platform": "lab"}.items() <= tags.items()
    counts = services(aws)
    assert {name: count for name, (count, _) in counts.items()} == {"webserver": 2, "daemon": 1}
    assert not any(COUNT_TAG in tags for _, tags in counts.values())
    (target,) = aws.application_autoscaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"]
    assert not any(target["SuspendedState"].values())
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 3)


SETTINGS = (
    *("DBInstanceClass", "AllocatedStorage", "MaxAllocatedStorage", "MultiAZ", "BackupRetentionPeriod", "StorageType"),
    *("DeletionProtection", "VpcSecurityGroups", "PubliclyAccessible", "AutoMinorVersionUpgrade", "CopyTagsToSnapshot"),
    *("StorageEncrypted", "PreferredBackupWindow", "DBName", "MasterUsername"),
)


def test_restored_one_takes_the_place_of_the_old(platform: Any) -> None:
    before = {key: described(platform)["lab"].get(key) for key in SETTINGS}
    cloud = Cloud(platform)
    result = restore(cloud)
    assert result == {"restored": "snapshot:lab-good", "kept": KEPT, "resumed": False}
    assert_restored(platform, before)
    password = json.loads(platform.secretsmanager.get_secret_value(SecretId=SECRET)["SecretString"])["password"]
    given = [call["MasterUserPassword"] for _, call in cloud.calls if "MasterUserPassword" in call]
    assert given == [password]
    operations = [operation for operation, _ in cloud.calls]
    # Nobody writes to the old one from the moment when its name is about to go.
    assert operations.index("update_service") < operations.index("modify_db_instance")
    plan = Plan()
    database(platform, wanted(platform), plan)
    assert plan.changes == [], "site.yml finds it as it should be"


def test_goes_on_wherever_it_was_interrupted(platform: Any) -> None:
    """One restore after the other, each interrupted one change later than the one before."""
    before = {key: described(platform)["lab"].get(key) for key in SETTINGS}
    for lives in range(1, 100):
        now = NOW.replace(minute=lives)
        try:
            restore(Cloud(platform, lives), now=now)
        except Killed:
            begun = OVER_TAG in json.dumps([one["TagList"] for one in described(platform).values()])
            if begun:
                with pytest.raises(Refusal, match=r"A restore from snapshot:lab-good is under way.*BACKUP=lab-good"):
                    restore(platform, backup="another")
                # The old one is called after the time at which it began.
                assert restore(platform, now=NOW)["resumed"]
            kept = f"lab-before-{now:%Y%m%dt%H%M%S}"
            assert_restored(platform, before, kept)
            platform.rds.delete_db_instance(DBInstanceIdentifier=kept, SkipFinalSnapshot=True)
            forget_automatic_backups(platform)
            if not begun:
                # The last change takes the mark away.
                break
    assert lives > 10


def test_preview_changes_nothing_and_names_every_step(platform: Any) -> None:
    cloud, plan = Cloud(platform), Plan(check_mode=True)
    restore(cloud, plan)
    assert cloud.calls == []
    steps = [(change["action"], change["kind"], change["name"]) for change in plan.changes]
    scaling = ("update", "scalable-target", "service/lab/webserver")
    web, daemon = ("update", "ecs-service", "webserver"), ("update", "ecs-service", "daemon")
    assert steps == [
        ("create", "rds-instance", "lab-restored"),
        scaling,
        web,
        daemon,
        ("update", "rds-instance", "lab-restored"),
        ("update", "rds-instance", "lab"),
        ("update", "rds-instance", "lab-restored"),
        ("update", "rds-instance", KEPT),
        web,
        scaling,
        daemon,
    ]


def test_point_in_time_is_asked_for_with_the_same_settings(platform: Any) -> None:
    asked: dict[str, Any] = {}

    class Rds:
        def __getattr__(self, name: str) -> Any:
            return getattr(platform.rds, name)

        def restore_db_instance_to_point_in_time(self, **arguments: Any) -> None:
            asked.update(arguments)
            raise Killed

    class Aws:
        rds = Rds()

        def __getattr__(self, name: str) -> Any:
            return getattr(platform, name)

    with pytest.raises(Killed):
        restore(Aws(), backup="", time="2026-01-31T11:00:00")
    assert asked["RestoreTime"] == datetime(2026, 1, 31, 11, tzinfo=UTC)
    assert (asked["SourceDBInstanceIdentifier"], asked["TargetDBInstanceIdentifier"]) == ("lab", "lab-restored")
    assert asked["PubliclyAccessible"] is False and asked["DBSubnetGroupName"] == "lab"
    model = platform.rds.meta.service_model
    for operation, arguments in (
        ("RestoreDBInstanceToPointInTime", asked),
        (
            "RestoreDBInstanceFromDBSnapshot",
            {
                **{key: value for key, value in asked.items() if not key.startswith(("Source", "Target", "Restore"))},
                "DBInstanceIdentifier": "x",
                "DBSnapshotIdentifier": "y",
            },
        ),
    ):
        shape = model.operation_model(operation).input_shape
        assert not ParamValidator().validate(arguments, shape).has_errors()
        assert set(arguments) <= set(shape.members)


def test_what_cannot_be_restored_is_refused_before_anything_changes(platform: Any) -> None:
    cloud = Cloud(platform)
    refusals: tuple[tuple[dict[str, Any], str], ...] = (
        (
            {"backup": "missing"},
            "There is no backup 'missing' of this platform. The newest are: .*make restore B",
        ),
        ({"backup": ""}, "No backup was named. The newest are: .*lab-good.*TIME="),
        ({"engine_version": "16"}, "it is of PostgreSQL 17.*rds_engine_version is 16.*Nothing was changed"),
        ({"backup": "", "time": "yesterday"}, "'yesterday' is no time. Write it as ISO 8601 does"),
        ({"backup": "", "time": "2999-01-01T00:00:00Z"}, "is too late"),
        ({"time": "2026-01-31T11:00:00Z"}, r"Both a backup \('good'\) and a time"),
    )
    for changes, text in refusals:
        with pytest.raises(Refusal, match=text):
            restore(cloud, **changes)
    value = platform.secretsmanager.get_secret_value(SecretId=SECRET)["SecretString"]
    platform.secretsmanager.put_secret_value(SecretId=SECRET, SecretString=value, VersionStages=["AWSPENDING"])
    with pytest.raises(Refusal, match=r"is being changed.*make rotate-credentials"):
        restore(cloud)
    assert cloud.calls == []


def test_database_that_does_not_run_is_neither_backed_up_nor_replaced(platform: Any) -> None:
    platform.rds.stop_db_instance(DBInstanceIdentifier="lab")
    for work in (lambda: backup(platform, "later"), lambda: restore(platform)):
        with pytest.raises(Refusal, match=r"is stopped.*aws rds start-db-instance --db-instance-identifier lab"):
            work()


def test_backups_carry_platform_and_tags_and_only_ours_are_removed(platform: Any) -> None:
    platform.rds.create_db_snapshot(DBInstanceIdentifier="lab", DBSnapshotIdentifier="by-hand")
    theirs = [{"Key": "dagster-platform", "Value": "another"}]
    platform.rds.create_db_snapshot(DBInstanceIdentifier="lab", DBSnapshotIdentifier="theirs", Tags=theirs)
    backup(platform, "second")
    backup(platform, "")
    names = {one.name: one for one in find_backups(platform.rds, "lab")}
    assert {"lab-good", "lab-second", "lab-2026-01-31-120000", "by-hand"} <= set(names)
    assert "theirs" not in names
    assert [name for name, one in names.items() if one.automatic] == [name for name in names if name[:4] == "rds:"]
    with pytest.raises(Refusal, match=r"There is a snapshot 'lab-good' already.*Choose another NAME"):
        backup(platform, "good")
    plan = Plan(check_mode=True)
    backup(platform, "fourth", plan)
    remove_old_backups(platform.rds, "lab", 2, plan)
    assert [change["action"] for change in plan.changes] == ["create", "remove", "remove"]
    remove_old_backups(platform.rds, "lab", 0, Plan())
    assert len(find_backups(platform.rds, "lab")) == len(names), "0 keeps all"
    remove_old_backups(platform.rds, "lab", 1, Plan())
    left = {one.name for one in find_backups(platform.rds, "lab")}
    assert len(left & {"lab-good", "lab-second", "lab-2026-01-31-120000"}) == 1
    remove_all_backups(platform.rds, "lab", Plan())
    assert {one.name for one in find_backups(platform.rds, "lab")} == {n for n in names if n[:4] == "rds:"} | {
        "by-hand"
    }


@pytest.mark.parametrize("name", ["Before", "a--b", "-a", "a_b", "a b", "x" * 300])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(Refusal, match=r"cannot be the name of a backup.*NAME=before-upgrade"):
        backup_name("lab", name, NOW)


def test_replaced_database_is_removed_only_if_asked(platform: Any) -> None:
    restore(platform)
    with pytest.raises(Refusal, match=rf"{KEPT} \(stopped\).*rds_remove_replaced: true.*delete-db-instance"):
        remove_database(platform.rds, "lab", Plan(), final_snapshot="")
    assert sorted(described(platform)) == ["lab", KEPT]
    looked = Plan(check_mode=True)
    remove_database(platform.rds, "lab", looked, final_snapshot="")
    assert len(looked.obstacles) == 1
    remove_database(platform.rds, "lab", Plan(), final_snapshot="", remove_replaced=True)
    assert described(platform) == {} and find_replaced(platform.rds, "lab") == []
