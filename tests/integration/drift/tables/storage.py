"""File system, database, bucket."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.integration.drift.tables.common import (
    ADMIN,
    BUCKET,
    NAME,
    STRANGE_TAG,
    Clients,
    Drift,
    retagged,
    tag_dict,
)
from tests.integration.drift.tables.network import group, subnet


def _file_system(aws: Clients) -> dict[str, Any]:
    return next(
        system
        for system in aws("efs").describe_file_systems()["FileSystems"]
        if tag_dict(system["Tags"]).get("dagster-platform") == NAME
    )


def _efs(aws: Clients) -> str:
    return str(_file_system(aws)["FileSystemId"])


def _mount_target_groups(aws: Clients) -> list[list[str]]:
    targets = aws("efs").describe_mount_targets(FileSystemId=_efs(aws))["MountTargets"]
    return [
        aws("efs").describe_mount_target_security_groups(MountTargetId=target["MountTargetId"])["SecurityGroups"]
        for target in targets
    ]


def _change_mount_target(aws: Clients) -> object:
    target = aws("efs").describe_mount_targets(FileSystemId=_efs(aws))["MountTargets"][0]
    return aws("efs").modify_mount_target_security_groups(
        MountTargetId=target["MountTargetId"], SecurityGroups=[group(aws, "alb")["GroupId"]]
    )


def _database(aws: Clients) -> dict[str, Any]:
    return dict(aws("rds").describe_db_instances(DBInstanceIdentifier=NAME)["DBInstances"][0])


def _set_database(**settings: Any) -> Callable[[Clients], object]:
    return lambda aws: aws("rds").modify_db_instance(DBInstanceIdentifier=NAME, ApplyImmediately=True, **settings)


def _public_access(aws: Clients) -> dict[str, bool]:
    return dict(aws("s3").get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"])


def _mount_targets(aws: Clients) -> list[dict[str, Any]]:
    return list(aws("efs").describe_mount_targets(FileSystemId=_efs(aws))["MountTargets"])


def _access_point(aws: Clients) -> dict[str, Any]:
    return dict(aws("efs").describe_access_points(FileSystemId=_efs(aws))["AccessPoints"][0])


def _subnet_group(aws: Clients) -> dict[str, Any]:
    return dict(aws("rds").describe_db_subnet_groups(DBSubnetGroupName=NAME)["DBSubnetGroups"][0])


def _subnets_of_group(aws: Clients) -> list[str]:
    return sorted(item["SubnetIdentifier"] for item in _subnet_group(aws)["Subnets"])


def _set_subnet_group(aws: Clients, subnets: list[str], **settings: str) -> object:
    return aws("rds").modify_db_subnet_group(DBSubnetGroupName=NAME, SubnetIds=subnets, **settings)


TABLE: tuple[Drift, ...] = (
    Drift(
        "efs-file-system",
        "lifecycle",
        lambda aws: aws("efs").put_lifecycle_configuration(FileSystemId=_efs(aws), LifecyclePolicies=[]),
        lambda aws: aws("efs").describe_lifecycle_configuration(FileSystemId=_efs(aws))["LifecyclePolicies"],
    ),
    Drift(
        "efs-file-system",
        "policy",
        lambda aws: aws("efs").put_file_system_policy(FileSystemId=_efs(aws), Policy=json.dumps(ADMIN)),
        lambda aws: json.loads(aws("efs").describe_file_system_policy(FileSystemId=_efs(aws))["Policy"])["Statement"],
    ),
    Drift(
        "efs-file-system",
        "tags",
        lambda aws: aws("efs").tag_resource(ResourceId=_efs(aws), Tags=[STRANGE_TAG]),
        lambda aws: tag_dict(_file_system(aws)["Tags"]),
    ),
    Drift(
        "efs-file-system",
        "throughput",
        lambda aws: aws("efs").update_file_system(FileSystemId=_efs(aws), ThroughputMode="elastic"),
        lambda aws: _file_system(aws)["ThroughputMode"],
    ),
    Drift(
        "efs-access-point",
        "tags",
        lambda aws: aws("efs").tag_resource(ResourceId=_access_point(aws)["AccessPointId"], Tags=[STRANGE_TAG]),
        lambda aws: tag_dict(_access_point(aws)["Tags"]),
    ),
    Drift("efs-mount-target", "security_groups", _change_mount_target, _mount_target_groups),
    Drift(
        "efs-mount-target",
        "security_groups",
        lambda aws: aws("efs").delete_mount_target(MountTargetId=_mount_targets(aws)[1]["MountTargetId"]),
        lambda aws: sorted(item["SubnetId"] for item in _mount_targets(aws)),
    ),
    Drift(
        "rds-subnet-group",
        "description",
        lambda aws: _set_subnet_group(aws, _subnets_of_group(aws), DBSubnetGroupDescription="mine"),
        lambda aws: _subnet_group(aws)["DBSubnetGroupDescription"],
    ),
    Drift(
        "rds-subnet-group",
        "subnets",
        lambda aws: _set_subnet_group(aws, [*_subnets_of_group(aws), subnet(aws, "public-1")["SubnetId"]]),
        _subnets_of_group,
    ),
    Drift(
        "rds-subnet-group",
        "tags",
        lambda aws: aws("rds").add_tags_to_resource(
            ResourceName=_subnet_group(aws)["DBSubnetGroupArn"], Tags=[STRANGE_TAG]
        ),
        lambda aws: tag_dict(
            aws("rds").list_tags_for_resource(ResourceName=_subnet_group(aws)["DBSubnetGroupArn"])["TagList"]
        ),
    ),
    Drift(
        "rds-instance",
        "MaxAllocatedStorage",
        _set_database(MaxAllocatedStorage=1000),
        lambda aws: _database(aws)["MaxAllocatedStorage"],
    ),
    Drift("rds-instance", "StorageType", _set_database(StorageType="gp2"), lambda aws: _database(aws)["StorageType"]),
    Drift(
        "rds-instance",
        "DBInstanceClass",
        _set_database(DBInstanceClass="db.m7g.large"),
        lambda aws: _database(aws)["DBInstanceClass"],
    ),
    Drift("rds-instance", "MultiAZ", _set_database(MultiAZ=True), lambda aws: _database(aws)["MultiAZ"]),
    Drift(
        "rds-instance",
        "BackupRetentionPeriod",
        _set_database(BackupRetentionPeriod=1),
        lambda aws: _database(aws)["BackupRetentionPeriod"],
    ),
    Drift(
        "rds-instance",
        "DeletionProtection",
        _set_database(DeletionProtection=True),
        lambda aws: _database(aws)["DeletionProtection"],
    ),
    Drift(
        "rds-instance",
        "PubliclyAccessible",
        _set_database(PubliclyAccessible=True),
        lambda aws: _database(aws)["PubliclyAccessible"],
    ),
    Drift(
        "rds-instance",
        "CopyTagsToSnapshot",
        _set_database(CopyTagsToSnapshot=False),
        lambda aws: _database(aws)["CopyTagsToSnapshot"],
    ),
    Drift(
        "rds-instance",
        "AutoMinorVersionUpgrade",
        _set_database(AutoMinorVersionUpgrade=False),
        lambda aws: _database(aws)["AutoMinorVersionUpgrade"],
    ),
    Drift(
        "rds-instance",
        "VpcSecurityGroupIds",
        lambda aws: _set_database(VpcSecurityGroupIds=[group(aws, "alb")["GroupId"]])(aws),
        lambda aws: [item["VpcSecurityGroupId"] for item in _database(aws)["VpcSecurityGroups"]],
    ),
    Drift(
        "rds-instance",
        "tags",
        lambda aws: aws("rds").add_tags_to_resource(ResourceName=_database(aws)["DBInstanceArn"], Tags=[STRANGE_TAG]),
        lambda aws: tag_dict(_database(aws)["TagList"]),
    ),
    Drift(
        "s3-bucket",
        "versioning",
        lambda aws: aws("s3").put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"}),
        lambda aws: aws("s3").get_bucket_versioning(Bucket=BUCKET)["Status"],
    ),
    Drift(
        "s3-bucket",
        "public_access_block",
        lambda aws: aws("s3").put_public_access_block(
            Bucket=BUCKET, PublicAccessBlockConfiguration=dict.fromkeys(_public_access(aws), False)
        ),
        _public_access,
    ),
    Drift(
        "s3-bucket",
        "policy",
        lambda aws: aws("s3").put_bucket_policy(
            Bucket=BUCKET,
            Policy=json.dumps(
                {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Principal": {"AWS": "arn:aws:iam::999999999999:root"},
                            "Action": "s3:GetObject",
                            "Resource": f"arn:aws:s3:::{BUCKET}/*",
                        }
                    ],
                }
            ),
        ),
        lambda aws: json.loads(aws("s3").get_bucket_policy(Bucket=BUCKET)["Policy"])["Statement"],
    ),
    Drift(
        "s3-bucket",
        "lifecycle",
        lambda aws: aws("s3").put_bucket_lifecycle_configuration(
            Bucket=BUCKET,
            LifecycleConfiguration={
                "Rules": [{"ID": "all", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}]
            },
        ),
        lambda aws: [
            (item["ID"], item["Status"])
            for item in aws("s3").get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
        ],
    ),
    Drift(
        "s3-bucket",
        "encryption",
        lambda aws: aws("s3").put_bucket_encryption(
            Bucket=BUCKET,
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]
            },
        ),
        lambda aws: aws("s3").get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"],
    ),
    Drift(
        "s3-bucket",
        "object_ownership",
        lambda aws: aws("s3").put_bucket_ownership_controls(
            Bucket=BUCKET, OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
        ),
        lambda aws: aws("s3").get_bucket_ownership_controls(Bucket=BUCKET)["OwnershipControls"]["Rules"],
    ),
    Drift(
        "s3-bucket",
        "tags",
        lambda aws: aws("s3").put_bucket_tagging(
            Bucket=BUCKET, Tagging={"TagSet": retagged(aws("s3").get_bucket_tagging(Bucket=BUCKET)["TagSet"])}
        ),
        lambda aws: tag_dict(aws("s3").get_bucket_tagging(Bucket=BUCKET)["TagSet"]),
    ),
)
