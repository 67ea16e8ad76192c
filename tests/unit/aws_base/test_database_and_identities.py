"""Database, secrets, roles and the S3 user: drift, least privilege, and secrets that nobody sees."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from module_utils.aws_database import (
    AdoptedDatabase,
    DatabaseSpec,
    check_adopted_database,
    ensure_database,
    remove_database,
)
from module_utils.aws_identity import ensure_access_key, ensure_role, ensure_user, remove_role, remove_user
from module_utils.aws_plan import Plan, Refusal
from module_utils.aws_secrets import (
    PASSWORD_ALPHABET,
    database_credentials,
    ensure_secret,
    find_adopted_secret,
    remove_secret,
)

TAGS = {"project": "lab", "owner": "me"}
SECRET = "lab/database"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::lab/*"}],
}


def secret(aws: Any, plan: Plan) -> str:
    return ensure_secret(
        aws.secretsmanager,
        "lab",
        SECRET,
        plan,
        description="Database of lab",
        tags=TAGS,
        generate=lambda: database_credentials("dagster"),
    )


def value(aws: Any, name: str = SECRET) -> dict[str, str]:
    return dict(json.loads(aws.secretsmanager.get_secret_value(SecretId=name)["SecretString"]))


def make_spec(aws: Any) -> DatabaseSpec:
    """Make what a database needs."""
    return aws.once("database's surroundings", lambda: _make_spec(aws))  # type: ignore[no-any-return]


def _make_spec(aws: Any) -> DatabaseSpec:
    secret(aws, Plan())
    vpc = aws.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = tuple(
        aws.ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{index}.0/24", AvailabilityZone=f"us-east-1{'ab'[index]}")[
            "Subnet"
        ]["SubnetId"]
        for index in range(2)
    )
    group = aws.ec2.create_security_group(GroupName="db", Description="db", VpcId=vpc)["GroupId"]
    return DatabaseSpec(
        platform="lab",
        database="dagster",
        engine_version="17",
        instance_class="db.t4g.micro",
        storage=20,
        max_storage=100,
        multi_az=False,
        backup_days=7,
        deletion_protection=True,
        subnet_ids=subnets,
        security_group_id=group,
        secret_id=SECRET,
        tags=TAGS,
    )


def database(aws: Any, spec: DatabaseSpec, plan: Plan) -> tuple[str, int]:
    return ensure_database(aws.rds, aws.secretsmanager, spec, plan)


def make_database(aws: Any) -> DatabaseSpec:
    """Make a database and what it needs."""

    def make() -> DatabaseSpec:
        spec = _make_spec(aws)
        database(aws, spec, Plan())
        return spec

    return aws.once("database", make)  # type: ignore[no-any-return]


def instance(aws: Any) -> dict[str, Any]:
    return dict(aws.rds.describe_db_instances(DBInstanceIdentifier="lab")["DBInstances"][0])


def test_database_is_private_encrypted_and_backed_up(aws: Any) -> None:
    spec = make_spec(aws)
    address, port = database(aws, spec, Plan())
    found = instance(aws)
    assert (found["Endpoint"]["Address"], found["Endpoint"]["Port"]) == (address, port)
    assert found["PubliclyAccessible"] is False
    assert found["StorageEncrypted"] is True
    assert found["BackupRetentionPeriod"] == 7
    assert found["DeletionProtection"] is True
    assert found["MasterUsername"] == "dagster"
    assert [group["VpcSecurityGroupId"] for group in found["VpcSecurityGroups"]] == [spec.security_group_id]
    again = Plan()
    database(aws, spec, again)
    assert again.changes == []


def test_database_preview_connects_to_nothing(aws: Any) -> None:
    plan = Plan(check_mode=True)
    assert database(aws, make_spec(aws), plan) == ("pending.invalid", 5432)
    assert [change["kind"] for change in plan.changes] == ["rds-subnet-group", "rds-instance"]
    assert aws.rds.describe_db_instances()["DBInstances"] == []


def test_the_password_is_in_no_plan(aws: Any) -> None:
    plan = Plan()
    secret(aws, plan)
    spec = make_spec(aws)
    database(aws, spec, plan)
    assert value(aws)["password"] not in json.dumps(plan.results())


@pytest.mark.parametrize(
    "changes",
    [
        {"BackupRetentionPeriod": 1},
        {"DeletionProtection": False},
        {"PubliclyAccessible": True},
        {"DBInstanceClass": "db.t4g.large"},
        {"AutoMinorVersionUpgrade": False},
        {"CopyTagsToSnapshot": False},
        {"MultiAZ": True},
        {"MaxAllocatedStorage": 500},
        {"VpcSecurityGroupIds": ["other"]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_database_drift_is_previewed_repaired_and_gone(aws: Any, changes: dict[str, Any]) -> None:
    spec = make_database(aws)
    if "VpcSecurityGroupIds" in changes:
        vpc = aws.ec2.describe_subnets(SubnetIds=[spec.subnet_ids[0]])["Subnets"][0]["VpcId"]
        group = aws.ec2.create_security_group(GroupName="other", Description="other", VpcId=vpc)
        changes = {"VpcSecurityGroupIds": [group["GroupId"]]}
    aws.rds.modify_db_instance(DBInstanceIdentifier="lab", ApplyImmediately=True, **changes)
    preview, repair, after = Plan(check_mode=True), Plan(), Plan()
    for plan in (preview, repair, after):
        database(aws, spec, plan)
    assert preview.changes == repair.changes
    assert list(repair.changes[0]["after"]) == list(changes)
    assert after.changes == []


def test_database_tags_and_subnets_are_repaired(aws: Any) -> None:
    spec = make_database(aws)
    aws.rds.remove_tags_from_resource(ResourceName=instance(aws)["DBInstanceArn"], TagKeys=["owner"])
    aws.rds.modify_db_subnet_group(DBSubnetGroupName="lab", SubnetIds=[spec.subnet_ids[0]])
    repair, after = Plan(), Plan()
    database(aws, spec, repair)
    database(aws, spec, after)
    assert [change["kind"] for change in repair.changes] == ["rds-subnet-group", "rds-instance"]
    assert after.changes == []


def test_storage_that_rds_has_grown_is_no_drift(aws: Any) -> None:
    spec = make_database(aws)
    aws.rds.modify_db_instance(DBInstanceIdentifier="lab", AllocatedStorage=40, ApplyImmediately=True)
    plan = Plan()
    database(aws, spec, plan)
    assert plan.changes == []


def move_to_group(aws: Any, spec: DatabaseSpec, name: str) -> None:
    """Make the same instance in another subnet group."""
    aws.rds.modify_db_instance(DBInstanceIdentifier="lab", DeletionProtection=False)
    aws.rds.delete_db_instance(DBInstanceIdentifier="lab", SkipFinalSnapshot=True)
    aws.rds.create_db_subnet_group(DBSubnetGroupName=name, DBSubnetGroupDescription=name, SubnetIds=spec.subnet_ids)
    aws.rds.create_db_instance(
        DBInstanceIdentifier="lab",
        DBName=spec.database,
        Engine="postgres",
        EngineVersion="17",
        StorageEncrypted=True,
        DBInstanceClass=spec.instance_class,
        AllocatedStorage=spec.storage,
        MasterUsername="dagster",
        MasterUserPassword="not-a-real-password",
        DBSubnetGroupName=name,
        Tags=[{"Key": "dagster-platform", "Value": "lab"}],
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine_version": "18"}, r"it runs PostgreSQL 17.*rds_engine_version is 18"),
        ({"platform_of_group": "other"}, r"it is in the subnet group 'other', not 'lab'"),
        ({"database": "other"}, r"its first database is 'dagster', not rds_database 'other'"),
    ],
)
def test_what_rds_cannot_change_is_refused(aws: Any, changes: dict[str, Any], message: str) -> None:
    spec = make_database(aws)
    if group := changes.pop("platform_of_group", None):
        move_to_group(aws, spec, group)
    with pytest.raises(Refusal, match=message):
        database(aws, dataclasses.replace(spec, **changes), Plan())


def test_database_is_removed_only_without_protection(aws: Any) -> None:
    spec = make_database(aws)
    with pytest.raises(Refusal, match=r"is protected against deletion\. Set rds_deletion_protection: false"):
        remove_database(aws.rds, "lab", Plan(), final_snapshot="")
    database(aws, dataclasses.replace(spec, deletion_protection=False), Plan())
    remove_database(aws.rds, "lab", Plan(), final_snapshot="lab-final")
    assert aws.rds.describe_db_instances()["DBInstances"] == []
    assert aws.rds.describe_db_subnet_groups()["DBSubnetGroups"] == []
    snapshots = aws.rds.describe_db_snapshots()["DBSnapshots"]
    assert "lab-final" in {snapshot["DBSnapshotIdentifier"] for snapshot in snapshots}
    again = Plan()
    remove_database(aws.rds, "lab", again, final_snapshot="lab-final")
    assert again.changes == []


def test_an_earlier_final_snapshot_is_found_before_anything_is_removed(aws: Any) -> None:
    spec = dataclasses.replace(make_spec(aws), deletion_protection=False)
    database(aws, spec, Plan())
    aws.rds.create_db_snapshot(DBInstanceIdentifier="lab", DBSnapshotIdentifier="lab-final")
    for check_mode in (True, False):
        with pytest.raises(Refusal, match=r"'lab-final' exists already.*rds_final_snapshot_name"):
            remove_database(aws.rds, "lab", Plan(check_mode), final_snapshot="lab-final")
    remove_database(aws.rds, "lab", Plan(), final_snapshot="lab-final-2")
    assert aws.rds.describe_db_instances()["DBInstances"] == []


def test_storage_autoscaling_can_be_off(aws: Any) -> None:
    """RDS leaves MaxAllocatedStorage out of its answers then."""
    spec = dataclasses.replace(make_spec(aws), max_storage=20)
    created: list[dict[str, Any]] = []
    aws.rds.meta.events.register(
        "provide-client-params.rds.CreateDBInstance", lambda params, **_: created.append(params)
    )
    database(aws, spec, Plan())
    assert "MaxAllocatedStorage" not in created[0]

    def without_limit(parsed: dict[str, Any], **_: Any) -> None:
        for instance in parsed["DBInstances"]:
            instance.pop("MaxAllocatedStorage", None)

    aws.rds.meta.events.register("after-call.rds.DescribeDBInstances", without_limit)
    again = Plan()
    database(aws, spec, again)
    assert again.changes == []


def test_database_of_somebody_else_is_left_alone(aws: Any) -> None:
    spec = make_spec(aws)
    aws.rds.create_db_instance(DBInstanceIdentifier="lab", DBInstanceClass="db.t3.micro", Engine="postgres")
    with pytest.raises(Refusal, match="RDS instance 'lab' exists already"):
        database(aws, spec, Plan())


def test_secret_without_a_password_is_refused_without_showing_it(aws: Any) -> None:
    spec = make_spec(aws)
    aws.secretsmanager.put_secret_value(SecretId=SECRET, SecretString='{"username": "planted"}')
    with pytest.raises(Refusal, match=r"lacks password") as refusal:
        database(aws, spec, Plan())
    assert "planted" not in str(refusal.value)


# -- Secrets ---------------------------------------------------------------------------------------------------


def test_secret_is_generated_once(aws: Any) -> None:
    arn = secret(aws, Plan())
    first = value(aws)
    assert first["username"] == "dagster"
    assert len(first["password"]) == 32
    assert set(first["password"]) <= set(PASSWORD_ALPHABET)
    again = Plan()
    assert secret(aws, again) == arn
    assert again.changes == []
    assert value(aws) == first


def test_secret_preview_generates_nothing(aws: Any) -> None:
    assert secret(aws, Plan(check_mode=True)) == "pending:secret/lab/database"
    assert aws.secretsmanager.list_secrets()["SecretList"] == []


def test_secret_that_waits_for_deletion_comes_back_with_its_value(aws: Any) -> None:
    secret(aws, Plan())
    before = value(aws)
    remove_secret(aws.secretsmanager, "lab", SECRET, Plan(), recovery_days=7)
    again = Plan()
    remove_secret(aws.secretsmanager, "lab", SECRET, again, recovery_days=7)
    assert again.changes == []
    secret(aws, Plan())
    assert value(aws) == before


def test_secret_can_be_removed_for_good(aws: Any) -> None:
    secret(aws, Plan())
    remove_secret(aws.secretsmanager, "lab", SECRET, Plan(), recovery_days=0)
    assert aws.secretsmanager.list_secrets(IncludePlannedDeletion=True)["SecretList"] == []


def test_secret_drift(aws: Any) -> None:
    secret(aws, Plan())
    aws.secretsmanager.untag_resource(SecretId=SECRET, TagKeys=["owner"])
    aws.secretsmanager.update_secret(SecretId=SECRET, Description="?")
    repair, after = Plan(), Plan()
    secret(aws, repair)
    secret(aws, after)
    assert len(repair.changes) == 2
    assert after.changes == []


def test_secret_of_somebody_else_is_left_alone(aws: Any) -> None:
    aws.secretsmanager.create_secret(Name=SECRET, SecretString="theirs")
    with pytest.raises(Refusal, match="Secret 'lab/database' exists already"):
        secret(aws, Plan())
    with pytest.raises(Refusal):
        remove_secret(aws.secretsmanager, "lab", SECRET, Plan(), recovery_days=0)


# -- Roles and the user ----------------------------------------------------------------------------------------


def role(aws: Any, plan: Plan) -> str:
    return ensure_role(
        aws.iam,
        "lab",
        "lab-task",
        plan,
        description="Tasks of lab",
        trust=TRUST,
        policy=POLICY,
        tags=TAGS,
    )


def test_role_preview_then_create_then_nothing(aws: Any) -> None:
    preview, first, second = Plan(check_mode=True), Plan(), Plan()
    assert role(aws, preview) == "pending:iam-role/lab-task"
    arn = role(aws, first)
    assert preview.changes == first.changes
    assert role(aws, second) == arn
    assert second.changes == []


def more_rights(aws: Any) -> None:
    allowed = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    aws.iam.put_role_policy(RoleName="lab-task", PolicyName="dagster", PolicyDocument=document)


def second_policy(aws: Any) -> None:
    aws.iam.put_role_policy(RoleName="lab-task", PolicyName="extra", PolicyDocument=json.dumps(POLICY))


def attached_policy(aws: Any) -> None:
    arn = aws.iam.create_policy(PolicyName="admin", PolicyDocument=json.dumps(POLICY))["Policy"]["Arn"]
    aws.iam.attach_role_policy(RoleName="lab-task", PolicyArn=arn)


def policy_gone(aws: Any) -> None:
    aws.iam.delete_role_policy(RoleName="lab-task", PolicyName="dagster")


def trusts_everybody(aws: Any) -> None:
    statement = {**TRUST["Statement"][0], "Principal": {"AWS": "*"}}  # type: ignore[dict-item]
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    aws.iam.update_assume_role_policy(RoleName="lab-task", PolicyDocument=document)


def role_untagged(aws: Any) -> None:
    aws.iam.untag_role(RoleName="lab-task", TagKeys=["owner"])


def role_description(aws: Any) -> None:
    aws.iam.update_role(RoleName="lab-task", Description="?")


@pytest.mark.parametrize(
    "drift",
    [more_rights, second_policy, attached_policy, policy_gone, trusts_everybody, role_untagged, role_description],
)
def test_role_drift_is_previewed_repaired_and_gone(aws: Any, drift: Callable[[Any], None]) -> None:
    role(aws, Plan())
    drift(aws)
    preview, repair, after = Plan(check_mode=True), Plan(), Plan()
    for plan in (preview, repair, after):
        role(aws, plan)
    assert preview.changes == repair.changes
    assert len(repair.changes) == 1
    assert after.changes == []
    assert aws.iam.list_role_policies(RoleName="lab-task")["PolicyNames"] == ["dagster"]


def test_role_of_somebody_else_is_left_alone(aws: Any) -> None:
    aws.iam.create_role(RoleName="lab-task", AssumeRolePolicyDocument=json.dumps(TRUST))
    with pytest.raises(Refusal, match="IAM role 'lab-task' exists already"):
        role(aws, Plan())
    with pytest.raises(Refusal):
        remove_role(aws.iam, "lab", "lab-task", Plan())


def test_role_is_removed_with_whatever_was_attached(aws: Any) -> None:
    role(aws, Plan())
    attached_policy(aws)
    remove_role(aws.iam, "lab", "lab-task", Plan())
    assert aws.iam.list_roles()["Roles"] == []
    again = Plan()
    remove_role(aws.iam, "lab", "lab-task", again)
    assert again.changes == []


def user(aws: Any, plan: Plan) -> None:
    ensure_secret(aws.secretsmanager, "lab", "lab/s3-user", plan, description="Keys", tags=TAGS, generate=None)
    ensure_user(aws.iam, "lab", "lab-s3", plan, policy=POLICY, tags=TAGS)
    ensure_access_key(aws.iam, aws.secretsmanager, "lab-s3", "lab/s3-user", plan)


def keys(aws: Any) -> list[str]:
    return [key["AccessKeyId"] for key in aws.iam.list_access_keys(UserName="lab-s3")["AccessKeyMetadata"]]


def test_user_gets_one_key_and_keeps_it(aws: Any) -> None:
    preview, first, second = Plan(check_mode=True), Plan(), Plan()
    user(aws, preview)
    user(aws, first)
    made = keys(aws)
    user(aws, second)
    assert [change["kind"] for change in preview.changes] == [change["kind"] for change in first.changes]
    assert second.changes == []
    assert keys(aws) == made
    stored = value(aws, "lab/s3-user")
    assert [stored["AWS_ACCESS_KEY_ID"]] == made
    assert stored["AWS_SECRET_ACCESS_KEY"] not in json.dumps(first.results())


def test_lost_or_disabled_key_is_replaced(aws: Any) -> None:
    user(aws, Plan())
    first = keys(aws)
    aws.iam.update_access_key(UserName="lab-s3", AccessKeyId=first[0], Status="Inactive")
    user(aws, Plan())
    second = keys(aws)
    assert len(second) == 1
    assert second != first
    aws.secretsmanager.put_secret_value(SecretId="lab/s3-user", SecretString="overwritten")
    user(aws, Plan())
    assert [value(aws, "lab/s3-user")["AWS_ACCESS_KEY_ID"]] == keys(aws)
    assert keys(aws) != second


def in_a_group(aws: Any) -> None:
    aws.iam.create_group(GroupName="admins")
    aws.iam.add_user_to_group(GroupName="admins", UserName="lab-s3")


def with_a_password(aws: Any) -> None:
    aws.iam.create_login_profile(UserName="lab-s3", Password="not-a-real-password")


@pytest.mark.parametrize("drift", [in_a_group, with_a_password])
def test_other_ways_for_the_user_to_more_rights_are_closed(aws: Any, drift: Callable[[Any], None]) -> None:
    user(aws, Plan())
    drift(aws)
    preview, repair, after = Plan(check_mode=True), Plan(), Plan()
    for plan in (preview, repair, after):
        user(aws, plan)
    assert preview.changes == repair.changes
    assert len(repair.changes) == 1
    assert after.changes == []
    assert aws.iam.list_groups_for_user(UserName="lab-s3")["Groups"] == []
    with pytest.raises(aws.iam.exceptions.NoSuchEntityException):
        aws.iam.get_login_profile(UserName="lab-s3")


def test_user_is_removed_with_its_keys(aws: Any) -> None:
    user(aws, Plan())
    in_a_group(aws)
    with_a_password(aws)
    remove_user(aws.iam, "lab", "lab-s3", Plan())
    assert aws.iam.list_users()["Users"] == []
    again = Plan()
    remove_user(aws.iam, "lab", "lab-s3", again)
    assert again.changes == []


@pytest.fixture
def theirs(aws: Any) -> AdoptedDatabase:
    """Somebody's database, its secret, and two groups of the platform's tasks that may not connect yet."""
    vpc = aws.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    groups = [
        aws.ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"]
        for name in ("their-database", "lab-webserver", "lab-daemon")
    ]
    aws.rds.create_db_instance(
        DBInstanceIdentifier="theirs",
        Engine="postgres",
        DBInstanceClass="db.m7g.large",
        AllocatedStorage=100,
        MasterUsername="admin",
        MasterUserPassword="not-a-real-password",
        VpcSecurityGroupIds=groups[:1],
    )
    aws.secretsmanager.create_secret(Name="theirs", SecretString=json.dumps({"username": "admin", "password": "x"}))
    return AdoptedDatabase("lab", "theirs", "theirs", tuple(groups[1:]))


def let_in(aws: Any, spec: AdoptedDatabase, **source: Any) -> None:
    found = aws.rds.describe_db_instances(DBInstanceIdentifier=spec.instance)["DBInstances"][0]
    aws.ec2.authorize_security_group_ingress(
        GroupId=found["VpcSecurityGroups"][0]["VpcSecurityGroupId"],
        IpPermissions=[{"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, **source}],
    )


def adopt(aws: Any, spec: AdoptedDatabase, plan: Plan) -> tuple[str, int]:
    return check_adopted_database(aws.rds, aws.ec2, aws.secretsmanager, spec, plan)


@pytest.mark.parametrize("check_mode", [True, False])
def test_adopted_database_is_used_and_left_as_it_is(aws: Any, theirs: AdoptedDatabase, check_mode: bool) -> None:
    let_in(aws, theirs, UserIdGroupPairs=[{"GroupId": group} for group in theirs.client_group_ids])
    before = aws.rds.describe_db_instances()["DBInstances"]
    plan = Plan(check_mode)
    address, port = adopt(aws, theirs, plan)
    assert (address, port) == (before[0]["Endpoint"]["Address"], before[0]["Endpoint"]["Port"])
    assert plan.changes == []
    moves_by_itself = {"LatestRestorableTime": before[0]["LatestRestorableTime"]}
    after = aws.rds.describe_db_instances()["DBInstances"]
    assert [instance | moves_by_itself for instance in after] == before


def test_adopted_database_that_lets_nobody_in_is_refused_with_the_commands(aws: Any, theirs: AdoptedDatabase) -> None:
    webserver, daemon = theirs.client_group_ids
    let_in(aws, theirs, UserIdGroupPairs=[{"GroupId": webserver}])
    with pytest.raises(Refusal, match=rf"do not let the tasks in \(groups {daemon}\).*--source-group {daemon}\)"):
        adopt(aws, theirs, Plan())
    let_in(aws, theirs, IpRanges=[{"CidrIp": "10.0.0.0/16"}])
    assert adopt(aws, theirs, Plan())[1] == 5432


def test_adopted_database_in_a_preview_of_a_new_platform(aws: Any, theirs: AdoptedDatabase) -> None:
    groups = ("pending:security-group/lab-webserver", "pending:security-group/lab-daemon")
    assert adopt(aws, dataclasses.replace(theirs, client_group_ids=groups), Plan(check_mode=True))[1] == 5432


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"instance": "nothing"}, "There is no RDS instance 'nothing' in this account and region"),
        ({"platform": "theirs"}, "which is what the platform calls an instance of its own"),
        ({"secret_id": "broken"}, "The secret 'broken' should be a JSON object with username, password"),
    ],
)
def test_adopted_database_that_cannot_be_used_is_refused(
    aws: Any, theirs: AdoptedDatabase, changes: dict[str, Any], message: str
) -> None:
    aws.secretsmanager.create_secret(Name="broken", SecretString="admin:x")
    with pytest.raises(Refusal, match=message):
        adopt(aws, dataclasses.replace(theirs, **changes), Plan())


def test_adopted_database_must_be_postgresql(aws: Any, theirs: AdoptedDatabase) -> None:
    aws.rds.create_db_instance(
        DBInstanceIdentifier="mysql",
        Engine="mysql",
        DBInstanceClass="db.t4g.micro",
        AllocatedStorage=20,
        MasterUsername="admin",
        MasterUserPassword="not-a-real-password",
    )
    with pytest.raises(Refusal, match="'mysql' runs mysql, and Dagster needs PostgreSQL"):
        adopt(aws, dataclasses.replace(theirs, instance="mysql"), Plan())


@pytest.mark.parametrize("named_by", ["Arn", "KeyId", "alias"])
def test_adopted_secret_tells_the_key_that_encrypts_it(aws: Any, named_by: str) -> None:
    key = aws.kms.create_key()["KeyMetadata"]
    aws.kms.create_alias(AliasName="alias/theirs", TargetKeyId=key["KeyId"])
    name = {**key, "alias": "alias/theirs"}[named_by]
    arn = aws.secretsmanager.create_secret(Name="theirs", SecretString="{}", KmsKeyId=name)["ARN"]
    assert find_adopted_secret(aws.secretsmanager, lambda: aws.kms, "theirs") == (arn, key["Arn"])


def test_adopted_secret_with_the_key_of_aws(aws: Any) -> None:
    arn = aws.secretsmanager.create_secret(Name="theirs", SecretString="{}")["ARN"]
    assert find_adopted_secret(aws.secretsmanager, lambda: aws.kms, "theirs") == (arn, "")


def test_adopted_secret_must_be_there(aws: Any) -> None:
    with pytest.raises(Refusal, match="The secret 'theirs' does not exist in this account and region"):
        find_adopted_secret(aws.secretsmanager, lambda: aws.kms, "theirs")
    aws.secretsmanager.create_secret(Name="theirs", SecretString="{}")
    aws.secretsmanager.delete_secret(SecretId="theirs")
    with pytest.raises(Refusal, match="The secret 'theirs' is scheduled for deletion"):
        find_adopted_secret(aws.secretsmanager, lambda: aws.kms, "theirs")


def fails_once(call: Callable[..., Any], error: Exception) -> Callable[..., Any]:
    """Return a stand-in for an operation that answers with `error` first, and then as the emulator does."""
    errors = [error]

    def answer(**arguments: Any) -> Any:
        if errors:
            raise errors.pop()
        return call(**arguments)

    return answer


def refused(operation: str, code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("module_utils.aws_plan.time.sleep", lambda _: None)


@pytest.mark.usefixtures("no_pauses")
def test_first_database_of_an_account_waits_for_the_service_linked_role(
    aws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(aws)
    late = refused(
        "CreateDBInstance",
        "InvalidParameterValue",
        "Unable to create the resource. Verify that you have permission to create service linked role. Otherwise wait "
        "and try again later",
    )
    monkeypatch.setattr(aws.rds, "create_db_instance", fails_once(aws.rds.create_db_instance, late))
    database(aws, spec, Plan())
    assert instance(aws)["DBInstanceStatus"] == "available"


@pytest.mark.usefixtures("no_pauses")
def test_secret_that_was_removed_a_moment_ago_is_made_again(aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    late = refused(
        "CreateSecret",
        "InvalidRequestException",
        "You can't create this secret because a secret with this name is already scheduled for deletion.",
    )
    monkeypatch.setattr(aws.secretsmanager, "create_secret", fails_once(aws.secretsmanager.create_secret, late))
    secret(aws, Plan())
    assert value(aws)["username"] == "dagster"
