"""Bucket, file system, image repository and log groups: settings, drift, removal."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from module_utils.aws_bucket import BucketSpec, bucket_policy, check_adopted_bucket, ensure_bucket, remove_bucket
from module_utils.aws_file_system import FileSystemSpec, ensure_file_system, remove_file_system
from module_utils.aws_logs import ensure_log_group, remove_log_groups
from module_utils.aws_plan import Plan, Refusal
from module_utils.aws_repository import ensure_repository, remove_repository

TAGS = {"project": "lab", "owner": "me"}
BUCKET = BucketSpec("lab", "lab-dags", "us-east-1", 30, 40, {"compute-logs/": 30}, TAGS)
LOG_GROUP = "/ecs/lab/daemon"


def network(aws: Any) -> tuple[tuple[str, ...], str]:
    """Two subnets and a security group."""
    vpc = aws.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = tuple(
        aws.ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{index}.0/24", AvailabilityZone=f"us-east-1{'ab'[index]}")[
            "Subnet"
        ]["SubnetId"]
        for index in range(2)
    )
    group = aws.ec2.create_security_group(GroupName="efs", Description="efs", VpcId=vpc)["GroupId"]
    return subnets, group


def file_system_spec(subnets: tuple[str, ...], group: str, **changes: Any) -> FileSystemSpec:
    settings: dict[str, Any] = {
        "platform": "lab",
        "subnet_ids": subnets,
        "security_group_id": group,
        "root_directory": "/dagster",
        "uid": 10001,
        "gid": 10001,
        "permissions": "0750",
        "infrequent_access_days": 30,
        "tags": TAGS,
    }
    return FileSystemSpec(**settings | changes)


Converge = Callable[[Plan], object]


def bucket(aws: Any) -> Converge:
    return lambda plan: ensure_bucket(aws.s3, BUCKET, plan)


def file_system(aws: Any) -> Converge:
    found = aws.ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["efs"]}])
    if not found["SecurityGroups"]:
        network(aws)
    group = aws.ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["efs"]}])["SecurityGroups"][0]
    subnets = aws.ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [group["VpcId"]]}])["Subnets"]
    ids = tuple(sorted(subnet["SubnetId"] for subnet in subnets))
    return lambda plan: ensure_file_system(aws.efs, file_system_spec(ids, group["GroupId"]), plan)


def repository(aws: Any) -> Converge:
    return lambda plan: ensure_repository(
        aws.ecr, "lab", "lab", TAGS, plan, immutable_tags=True, untagged_days=7, kept_images=20
    )


def log_group(aws: Any) -> Converge:
    return lambda plan: ensure_log_group(aws.logs, "lab", LOG_GROUP, plan, retention_days=30, tags=TAGS)


RESOURCES = {"bucket": bucket, "file system": file_system, "repository": repository, "log group": log_group}


@pytest.mark.parametrize("resource", RESOURCES)
def test_preview_then_create_then_nothing(aws: Any, resource: str) -> None:
    converge = RESOURCES[resource](aws)
    preview, first, second = Plan(check_mode=True), Plan(), Plan()
    converge(preview)
    converge(first)
    converge(second)
    assert preview.changes
    created = [[change["kind"] for change in plan.changes if change["action"] == "create"] for plan in (preview, first)]
    assert created[0] == created[1]
    assert second.changes == []


def lifecycle_off(aws: Any) -> None:
    aws.s3.delete_bucket_lifecycle(Bucket="lab-dags")


def versioning_off(aws: Any) -> None:
    aws.s3.put_bucket_versioning(Bucket="lab-dags", VersioningConfiguration={"Status": "Suspended"})


def public_access_allowed(aws: Any) -> None:
    aws.s3.delete_public_access_block(Bucket="lab-dags")


def one_block_missing(aws: Any) -> None:
    aws.s3.put_public_access_block(
        Bucket="lab-dags",
        PublicAccessBlockConfiguration={
            "BlockPublicAcls": True,
            "IgnorePublicAcls": True,
            "BlockPublicPolicy": False,
            "RestrictPublicBuckets": True,
        },
    )


def bucket_policy_gone(aws: Any) -> None:
    aws.s3.delete_bucket_policy(Bucket="lab-dags")


def bucket_policy_other(aws: Any) -> None:
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::999999999999:root"},
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::lab-dags/*",
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    aws.s3.put_bucket_policy(Bucket="lab-dags", Policy=json.dumps(policy))


def acls_on(aws: Any) -> None:
    aws.s3.put_bucket_ownership_controls(
        Bucket="lab-dags", OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
    )


def encryption_off(aws: Any) -> None:
    aws.s3.delete_bucket_encryption(Bucket="lab-dags")


def bucket_tags_changed(aws: Any) -> None:
    aws.s3.put_bucket_tagging(
        Bucket="lab-dags",
        Tagging={"TagSet": [{"Key": "dagster-platform", "Value": "lab"}, {"Key": "cost-centre", "Value": "17"}]},
    )


def system_id(aws: Any) -> str:
    return str(aws.efs.describe_file_systems()["FileSystems"][0]["FileSystemId"])


def mount_target_gone(aws: Any) -> None:
    target = aws.efs.describe_mount_targets(FileSystemId=system_id(aws))["MountTargets"][0]
    aws.efs.delete_mount_target(MountTargetId=target["MountTargetId"])


def mount_target_open(aws: Any) -> None:
    target = aws.efs.describe_mount_targets(FileSystemId=system_id(aws))["MountTargets"][0]
    subnet = aws.ec2.describe_subnets(SubnetIds=[target["SubnetId"]])["Subnets"][0]
    group = aws.ec2.create_security_group(GroupName="wide", Description="wide", VpcId=subnet["VpcId"])
    aws.efs.modify_mount_target_security_groups(
        MountTargetId=target["MountTargetId"], SecurityGroups=[group["GroupId"]]
    )


def access_point_gone(aws: Any) -> None:
    point = aws.efs.describe_access_points(FileSystemId=system_id(aws))["AccessPoints"][0]
    aws.efs.delete_access_point(AccessPointId=point["AccessPointId"])


def file_system_policy_changed(aws: Any) -> None:
    policy = {"Version": "2012-10-17", "Statement": []}
    aws.efs.put_file_system_policy(FileSystemId=system_id(aws), Policy=json.dumps(policy))


def file_system_lifecycle_off(aws: Any) -> None:
    aws.efs.put_lifecycle_configuration(FileSystemId=system_id(aws), LifecyclePolicies=[])


def file_system_untagged(aws: Any) -> None:
    aws.efs.untag_resource(ResourceId=system_id(aws), TagKeys=["owner"])


def scanning_off(aws: Any) -> None:
    aws.ecr.put_image_scanning_configuration(repositoryName="lab", imageScanningConfiguration={"scanOnPush": False})


def tags_mutable(aws: Any) -> None:
    aws.ecr.put_image_tag_mutability(repositoryName="lab", imageTagMutability="MUTABLE")


def images_kept_forever(aws: Any) -> None:
    aws.ecr.delete_lifecycle_policy(repositoryName="lab")


def repository_untagged(aws: Any) -> None:
    arn = aws.ecr.describe_repositories()["repositories"][0]["repositoryArn"]
    aws.ecr.untag_resource(resourceArn=arn, tagKeys=["owner"])


def logs_kept_forever(aws: Any) -> None:
    aws.logs.delete_retention_policy(logGroupName=LOG_GROUP)


def log_group_retagged(aws: Any) -> None:
    aws.logs.tag_log_group(logGroupName=LOG_GROUP, tags={"owner": "thief"})


def log_group_gone(aws: Any) -> None:
    aws.logs.delete_log_group(logGroupName=LOG_GROUP)


DRIFT: list[tuple[str, Callable[[Any], None]]] = [
    ("bucket", lifecycle_off),
    ("bucket", versioning_off),
    ("bucket", public_access_allowed),
    ("bucket", one_block_missing),
    ("bucket", bucket_policy_gone),
    ("bucket", bucket_policy_other),
    ("bucket", acls_on),
    ("bucket", encryption_off),
    ("bucket", bucket_tags_changed),
    ("file system", mount_target_gone),
    ("file system", mount_target_open),
    ("file system", access_point_gone),
    ("file system", file_system_policy_changed),
    ("file system", file_system_lifecycle_off),
    ("file system", file_system_untagged),
    ("repository", scanning_off),
    ("repository", tags_mutable),
    ("repository", images_kept_forever),
    ("repository", repository_untagged),
    ("log group", logs_kept_forever),
    ("log group", log_group_retagged),
    ("log group", log_group_gone),
]


@pytest.mark.parametrize(("resource", "drift"), DRIFT, ids=[drift.__name__ for _, drift in DRIFT])
def test_drift_is_previewed_repaired_and_gone(aws: Any, resource: str, drift: Callable[[Any], None]) -> None:
    aws.once(("storage", resource), lambda: RESOURCES[resource](aws)(Plan()))
    converge = RESOURCES[resource](aws)
    drift(aws)
    preview, repair, after = Plan(check_mode=True), Plan(), Plan()
    converge(preview)
    converge(repair)
    converge(after)
    kinds = [[change["kind"] for change in plan.changes] for plan in (preview, repair)]
    assert kinds[0] == kinds[1]
    assert len(set(kinds[1])) == 1
    assert after.changes == []


def test_tags_of_others_survive(aws: Any) -> None:
    bucket(aws)(Plan())
    bucket_tags_changed(aws)
    bucket(aws)(Plan())
    tags = {tag["Key"]: tag["Value"] for tag in aws.s3.get_bucket_tagging(Bucket="lab-dags")["TagSet"]}
    assert tags == {
        "project": "lab",
        "owner": "me",
        "Name": "lab-dags",
        "dagster-platform": "lab",
        "cost-centre": "17",
    }


def test_bucket_refuses_requests_without_tls(aws: Any) -> None:
    bucket(aws)(Plan())
    (statement,) = json.loads(aws.s3.get_bucket_policy(Bucket="lab-dags")["Policy"])["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statement["Resource"] == ["arn:aws:s3:::lab-dags", "arn:aws:s3:::lab-dags/*"]


def test_bucket_of_somebody_else_is_left_alone(aws: Any) -> None:
    aws.s3.create_bucket(Bucket="lab-dags")
    aws.s3.put_object(Bucket="lab-dags", Key="precious", Body=b"1")
    with pytest.raises(Refusal, match=r"S3 bucket 'lab-dags' exists already.*Choose another dags_bucket_name"):
        bucket(aws)(Plan())
    with pytest.raises(Refusal):
        remove_bucket(aws.s3, "lab", "lab-dags", Plan(), with_contents=True)
    assert aws.s3.get_object(Bucket="lab-dags", Key="precious")["Body"].read() == b"1"


def test_empty_bucket_of_an_interrupted_run_is_completed(aws: Any) -> None:
    aws.s3.create_bucket(Bucket="lab-dags")
    bucket(aws)(Plan())
    assert aws.s3.get_bucket_versioning(Bucket="lab-dags")["Status"] == "Enabled"


def test_bucket_with_releases_is_not_removed_unasked(aws: Any) -> None:
    bucket(aws)(Plan())
    aws.s3.delete_bucket_policy(Bucket="lab-dags")  # moto takes the policy for a ban on everything
    for body in (b"1", b"2"):
        aws.s3.put_object(Bucket="lab-dags", Key="dags/a.py", Body=body)
    aws.s3.delete_object(Bucket="lab-dags", Key="dags/a.py")
    with pytest.raises(Refusal, match=r"still holds objects or versions.*s3_destroy_contents: true"):
        remove_bucket(aws.s3, "lab", "lab-dags", Plan(), with_contents=False)
    remove_bucket(aws.s3, "lab", "lab-dags", Plan(), with_contents=True)
    assert aws.s3.list_buckets()["Buckets"] == []
    again = Plan()
    remove_bucket(aws.s3, "lab", "lab-dags", again, with_contents=True)
    assert again.changes == []


def test_other_owner_of_files_gets_a_new_access_point(aws: Any) -> None:
    subnets, group = network(aws)
    _, first = ensure_file_system(aws.efs, file_system_spec(subnets, group), Plan())
    changed = file_system_spec(subnets, group, uid=20002)
    _, second = ensure_file_system(aws.efs, changed, Plan())
    assert first != second
    points = {
        point["AccessPointId"]: point["PosixUser"]["Uid"] for point in aws.efs.describe_access_points()["AccessPoints"]
    }
    assert points == {first: 10001, second: 20002}
    after = Plan()
    assert ensure_file_system(aws.efs, changed, after)[1] == second
    assert after.changes == []


def test_what_aws_spells_differently_is_no_drift(aws: Any) -> None:
    """AWS may add an Id to a policy, empty lists to an access point, and leave out a prefix that is empty."""

    def access_points(parsed: dict[str, Any], **_: Any) -> None:
        for point in parsed["AccessPoints"]:
            point["PosixUser"]["SecondaryGids"] = []

    def policy(parsed: dict[str, Any], **_: Any) -> None:
        if "Policy" in parsed:
            parsed["Policy"] = json.dumps({"Id": "policy-1", **json.loads(parsed["Policy"])})

    def lifecycle(parsed: dict[str, Any], **_: Any) -> None:
        for rule in parsed.get("Rules", []):
            if rule["ID"] == "old-versions":
                rule["Filter"] = {}

    aws.efs.meta.events.register("after-call.efs.DescribeAccessPoints", access_points)
    aws.efs.meta.events.register("after-call.efs.DescribeFileSystemPolicy", policy)
    aws.s3.meta.events.register("after-call.s3.GetBucketPolicy", policy)
    aws.s3.meta.events.register("after-call.s3.GetBucketLifecycleConfiguration", lifecycle)
    for resource in (bucket(aws), file_system(aws)):
        resource(Plan())
        again = Plan()
        resource(again)
        assert again.changes == []


def test_file_system_is_encrypted_and_bursting(aws: Any) -> None:
    file_system(aws)(Plan())
    (system,) = aws.efs.describe_file_systems()["FileSystems"]
    assert (system["Encrypted"], system["ThroughputMode"]) == (True, "bursting")
    (point,) = aws.efs.describe_access_points()["AccessPoints"]
    assert point["RootDirectory"] == {
        "Path": "/dagster",
        "CreationInfo": {"OwnerUid": 10001, "OwnerGid": 10001, "Permissions": "0750"},
    }


@pytest.mark.parametrize("state", ["creating", "deleting"])
def test_a_file_system_on_its_way_is_waited_for(aws: Any, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    file_system(aws)(Plan())
    left = [state, state]

    def on_its_way(parsed: dict[str, Any], **_: Any) -> None:
        if left:
            parsed["FileSystems"][0]["LifeCycleState"] = left.pop()

    aws.efs.meta.events.register("after-call.efs.DescribeFileSystems", on_its_way)
    again = Plan()
    file_system(aws)(again)
    assert (left, again.changes) == ([], [])


def test_file_system_without_encryption_is_refused(aws: Any) -> None:
    subnets, group = network(aws)
    aws.efs.create_file_system(CreationToken="x", Encrypted=False, Tags=[{"Key": "dagster-platform", "Value": "lab"}])
    with pytest.raises(Refusal, match=r"is not encrypted, and AWS cannot change that"):
        ensure_file_system(aws.efs, file_system_spec(subnets, group), Plan())


def test_removal_leaves_what_is_not_ours(aws: Any) -> None:
    aws.efs.create_file_system(CreationToken="foreign")
    aws.logs.create_log_group(logGroupName="/ecs/lab/daemon-of-others")
    aws.ecr.create_repository(repositoryName="foreign")
    for make in (file_system, repository, log_group):
        make(aws)(Plan())
    for check_mode in (True, False, False):
        plan = Plan(check_mode=check_mode)
        remove_file_system(aws.efs, "lab", plan)
        remove_repository(aws.ecr, "lab", "lab", plan, with_images=False)
        remove_log_groups(aws.logs, "lab", [LOG_GROUP], plan)
    assert plan.changes == []
    assert [system["CreationToken"] for system in aws.efs.describe_file_systems()["FileSystems"]] == ["foreign"]
    assert [group["logGroupName"] for group in aws.logs.describe_log_groups()["logGroups"]] == [
        "/ecs/lab/daemon-of-others"
    ]
    assert [item["repositoryName"] for item in aws.ecr.describe_repositories()["repositories"]] == ["foreign"]


def test_log_group_and_repository_of_somebody_else_are_left_alone(aws: Any) -> None:
    aws.logs.create_log_group(logGroupName=LOG_GROUP)
    aws.ecr.create_repository(repositoryName="lab")
    with pytest.raises(Refusal, match="Log group '/ecs/lab/daemon' exists already"):
        log_group(aws)(Plan())
    with pytest.raises(Refusal, match="ECR repository 'lab' exists already"):
        repository(aws)(Plan())


def adopted_bucket(aws: Any, *, versioning: bool = True, region: str = "us-east-1") -> str:
    location = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    aws.s3.create_bucket(Bucket="theirs", **location)
    if versioning:
        aws.s3.put_bucket_versioning(Bucket="theirs", VersioningConfiguration={"Status": "Enabled"})
    return "theirs"


def test_adopted_bucket_is_taken_as_it_is_with_warnings(aws: Any) -> None:
    warnings = check_adopted_bucket(aws.s3, adopted_bucket(aws), "us-east-1")
    assert len(warnings) == 2
    assert "does not block public access" in warnings[0]
    assert "has no lifecycle" in warnings[1]
    with pytest.raises(aws.s3.exceptions.ClientError, match="NoSuchTagSet"):
        aws.s3.get_bucket_tagging(Bucket="theirs")


def test_adopted_bucket_with_all_settings_gives_no_warning(aws: Any) -> None:
    ensure_bucket(aws.s3, BUCKET, Plan())
    assert check_adopted_bucket(aws.s3, BUCKET.name, "us-east-1") == []


def test_adopted_bucket_that_cannot_hold_releases_is_refused(aws: Any) -> None:
    with pytest.raises(Refusal, match="There is no S3 bucket 'theirs', and s3_existing_bucket is true"):
        check_adopted_bucket(aws.s3, "theirs", "us-east-1")
    adopted_bucket(aws, versioning=False, region="eu-west-1")
    with pytest.raises(Refusal, match="lies in eu-west-1, the platform in us-east-1"):
        check_adopted_bucket(aws.s3, "theirs", "us-east-1")
    with pytest.raises(Refusal, match=r"keeps no versions .versioning is off.*put-bucket-versioning --bucket theirs"):
        check_adopted_bucket(aws.s3, "theirs", "eu-west-1")


def test_bucket_policy_names_the_partition_of_the_region() -> None:
    (statement,) = bucket_policy("lab-dags", "cn-north-1")["Statement"]
    assert statement["Resource"] == ["arn:aws-cn:s3:::lab-dags", "arn:aws-cn:s3:::lab-dags/*"]


def test_bucket_that_was_removed_a_moment_ago_is_made_again(aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    create, errors = aws.s3.create_bucket, ["OperationAborted"]

    def late(**arguments: Any) -> Any:
        if errors:
            raise ClientError({"Error": {"Code": errors.pop(), "Message": "A conflicting operation"}}, "CreateBucket")
        return create(**arguments)

    monkeypatch.setattr(aws.s3, "create_bucket", late)
    monkeypatch.setattr("module_utils.aws_plan.time.sleep", lambda _: None)
    ensure_bucket(aws.s3, BUCKET, Plan())
    assert aws.s3.get_bucket_versioning(Bucket=BUCKET.name)["Status"] == "Enabled"
