"""What somebody may change behind Ansible's back, one entry a setting: how to change it, and how to see it.

`kind` and `setting` are the words of the plan, so that the preview can be held to saying each of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

NAME = "dagster-local"
BUCKET = f"{NAME}-dags-123456789012"
Clients = Callable[[str], Any]


@dataclass(frozen=True)
class Drift:
    """One setting of one resource."""

    kind: str
    setting: str
    change: Callable[[Clients], object]
    read: Callable[[Clients], Any]

    def __str__(self) -> str:
        return f"{self.kind} {self.setting}"


def _named(aws: Clients, operation: str, result: str, name: str) -> dict[str, Any]:
    answer = getattr(aws("ec2"), operation)(Filters=[{"Name": "tag:Name", "Values": [f"{NAME}{name}"]}])
    return dict(answer[result][0])


def _vpc(aws: Clients) -> dict[str, Any]:
    return _named(aws, "describe_vpcs", "Vpcs", "")


def _group(aws: Clients, name: str) -> dict[str, Any]:
    return _named(aws, "describe_security_groups", "SecurityGroups", f"-{name}")


def _table(aws: Clients, name: str) -> dict[str, Any]:
    return _named(aws, "describe_route_tables", "RouteTables", f"-{name}")


def _default_route(aws: Clients, name: str) -> dict[str, Any] | None:
    routes = [item for item in _table(aws, name)["Routes"] if item.get("DestinationCidrBlock") == "0.0.0.0/0"]
    return dict(routes[0]) if routes else None


def _nat(aws: Clients) -> dict[str, Any]:
    reservations = aws("ec2").describe_instances(
        Filters=[
            {"Name": "tag:Name", "Values": [f"{NAME}-nat"]},
            {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
        ]
    )["Reservations"]
    return dict(reservations[0]["Instances"][0])


def _tag_ec2(aws: Clients, resource: str) -> object:
    return aws("ec2").create_tags(Resources=[resource], Tags=[{"Key": "owner", "Value": "somebody"}])


def _tags(items: list[dict[str, str]]) -> dict[str, str]:
    """Return tags without order, whatever an API calls their parts."""
    return {item.get("Key", item.get("key", "")): item.get("Value", item.get("value", "")) for item in items}


def _allow_everybody(aws: Clients, group: str) -> object:
    return aws("ec2").authorize_security_group_ingress(
        GroupId=_group(aws, group)["GroupId"],
        IpPermissions=[{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}],
    )


def _rules(group: dict[str, Any], direction: str) -> list[Any]:
    return sorted(
        (item["IpProtocol"], item.get("FromPort"), peer.get("CidrIp", peer.get("GroupId")))
        for item in group[direction]
        for peer in (*item["IpRanges"], *item["UserIdGroupPairs"])
    )


def _forget_outbound(aws: Clients, name: str) -> object:
    group = _group(aws, name)
    permissions = [{key: item for key, item in rule.items() if item != []} for rule in group["IpPermissionsEgress"]]
    return aws("ec2").revoke_security_group_egress(GroupId=group["GroupId"], IpPermissions=permissions)


def _balancer(aws: Clients) -> dict[str, Any]:
    return dict(aws("elbv2").describe_load_balancers(Names=[NAME])["LoadBalancers"][0])


def _target_group(aws: Clients) -> dict[str, Any]:
    return dict(aws("elbv2").describe_target_groups(Names=[f"{NAME}-web"])["TargetGroups"][0])


def _listeners(aws: Clients) -> list[dict[str, Any]]:
    return list(aws("elbv2").describe_listeners(LoadBalancerArn=_balancer(aws)["LoadBalancerArn"])["Listeners"])


def _elb_tags(aws: Clients, arn: str) -> dict[str, str]:
    return _tags(aws("elbv2").describe_tags(ResourceArns=[arn])["TagDescriptions"][0]["Tags"])


def _tag_elb(aws: Clients, arn: str) -> object:
    return aws("elbv2").add_tags(ResourceArns=[arn], Tags=[{"Key": "owner", "Value": "somebody"}])


def _balancer_attribute(aws: Clients, key: str) -> str:
    arn = _balancer(aws)["LoadBalancerArn"]
    attributes = aws("elbv2").describe_load_balancer_attributes(LoadBalancerArn=arn)["Attributes"]
    return str({item["Key"]: item["Value"] for item in attributes}[key])


def _set_balancer_attribute(key: str, value: str) -> Callable[[Clients], object]:
    return lambda aws: aws("elbv2").modify_load_balancer_attributes(
        LoadBalancerArn=_balancer(aws)["LoadBalancerArn"], Attributes=[{"Key": key, "Value": value}]
    )


def _target_attribute(aws: Clients, key: str) -> str:
    arn = _target_group(aws)["TargetGroupArn"]
    attributes = aws("elbv2").describe_target_group_attributes(TargetGroupArn=arn)["Attributes"]
    return str({item["Key"]: item["Value"] for item in attributes}[key])


def _file_system(aws: Clients) -> dict[str, Any]:
    return next(
        system
        for system in aws("efs").describe_file_systems()["FileSystems"]
        if _tags(system["Tags"]).get("dagster-platform") == NAME
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
        MountTargetId=target["MountTargetId"], SecurityGroups=[_group(aws, "alb")["GroupId"]]
    )


def _database(aws: Clients) -> dict[str, Any]:
    return dict(aws("rds").describe_db_instances(DBInstanceIdentifier=NAME)["DBInstances"][0])


def _set_database(**settings: Any) -> Callable[[Clients], object]:
    return lambda aws: aws("rds").modify_db_instance(DBInstanceIdentifier=NAME, ApplyImmediately=True, **settings)


def _service(aws: Clients, name: str) -> dict[str, Any]:
    return dict(aws("ecs").describe_services(cluster=NAME, services=[name], include=["TAGS"])["services"][0])


def _set_service(name: str, **settings: Any) -> Callable[[Clients], object]:
    return lambda aws: aws("ecs").update_service(cluster=NAME, service=name, **settings)


def _network(aws: Clients, **changes: Any) -> dict[str, Any]:
    vpc = _service(aws, "daemon")["networkConfiguration"]["awsvpcConfiguration"]
    return {"awsvpcConfiguration": {**vpc, **changes}}


def _definition(aws: Clients, family: str) -> dict[str, Any]:
    return dict(aws("ecs").describe_task_definition(taskDefinition=f"{NAME}-{family}")["taskDefinition"])


_REGISTERED = (
    *("family", "taskRoleArn", "executionRoleArn", "networkMode", "containerDefinitions", "volumes"),
    *("requiresCompatibilities", "cpu", "memory", "runtimePlatform"),
)


def _register(family: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Clients], object]:
    """Register a revision that differs; it becomes the newest one of its family."""

    def act(aws: Clients) -> object:
        document = {key: value for key, value in _definition(aws, family).items() if key in _REGISTERED}
        change(document)
        tags = aws("ecs").describe_task_definition(taskDefinition=f"{NAME}-{family}", include=["TAGS"])["tags"]
        return aws("ecs").register_task_definition(**document, tags=tags)

    return act


def _essence(aws: Clients, family: str) -> dict[str, Any]:
    return {key: value for key, value in _definition(aws, family).items() if key in _REGISTERED}


def _role_policies(aws: Clients, role: str) -> dict[str, Any]:
    iam = aws("iam")
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    return {name: iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names}


_ADMIN = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
_ADMIN_ARN = "arn:aws:iam::aws:policy/AdministratorAccess"
_TASK, _EXECUTION, _USER = f"{NAME}-task", f"{NAME}-execution", f"{NAME}-s3"


def _scaling_policy(aws: Clients, metric: str) -> dict[str, Any]:
    policies = aws("application-autoscaling").describe_scaling_policies(ServiceNamespace="ecs")["ScalingPolicies"]
    return next(dict(item) for item in policies if item["PolicyName"].endswith(metric))


def _scaling_target(aws: Clients) -> dict[str, Any]:
    targets = aws("application-autoscaling").describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"]
    return dict(targets[0])


def _change_scaling_policy(aws: Clients) -> object:
    policy = _scaling_policy(aws, "cpu")
    return aws("application-autoscaling").put_scaling_policy(
        PolicyName=policy["PolicyName"],
        PolicyType="TargetTrackingScaling",
        ServiceNamespace="ecs",
        ResourceId=policy["ResourceId"],
        ScalableDimension=policy["ScalableDimension"],
        TargetTrackingScalingPolicyConfiguration={
            **policy["TargetTrackingScalingPolicyConfiguration"],
            "TargetValue": 5.0,
        },
    )


def _repository(aws: Clients) -> dict[str, Any]:
    return dict(aws("ecr").describe_repositories(repositoryNames=[NAME])["repositories"][0])


def _log_group(aws: Clients) -> dict[str, Any]:
    return dict(aws("logs").describe_log_groups(logGroupNamePrefix=f"/ecs/{NAME}/webserver")["logGroups"][0])


def _secret(aws: Clients) -> dict[str, Any]:
    return dict(aws("secretsmanager").describe_secret(SecretId=f"{NAME}/database"))


def _retag(tags: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{**item, "Value": "somebody"} if item["Key"] == "owner" else item for item in tags]


def _public_access(aws: Clients) -> dict[str, bool]:
    return dict(aws("s3").get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"])


def _change_default_action(aws: Clients) -> object:
    answer = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "503"}}
    return aws("elbv2").modify_listener(ListenerArn=_listeners(aws)[0]["ListenerArn"], DefaultActions=[answer])


def _listener_rules(aws: Clients) -> list[Any]:
    arn = next(item["ListenerArn"] for item in _listeners(aws) if item["Port"] == 80)
    return [rule["Priority"] for rule in aws("elbv2").describe_rules(ListenerArn=arn)["Rules"]]


def _add_listener_rule(aws: Clients) -> object:
    arn = next(item["ListenerArn"] for item in _listeners(aws) if item["Port"] == 80)
    return aws("elbv2").create_rule(
        ListenerArn=arn,
        Priority=5,
        Conditions=[{"Field": "path-pattern", "Values": ["/open/*"]}],
        Actions=[{"Type": "forward", "TargetGroupArn": _target_group(aws)["TargetGroupArn"]}],
    )


def _add_listener(aws: Clients) -> object:
    return aws("elbv2").create_listener(
        LoadBalancerArn=_balancer(aws)["LoadBalancerArn"],
        Protocol="HTTP",
        Port=8080,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": _target_group(aws)["TargetGroupArn"]}],
    )


def _endpoint(aws: Clients) -> dict[str, Any]:
    return _named(aws, "describe_vpc_endpoints", "VpcEndpoints", "-s3")


def _image(definition: dict[str, Any]) -> object:
    return definition["containerDefinitions"][0].update(image="example.com/other:1")


def _environment(definition: dict[str, Any]) -> object:
    return definition["containerDefinitions"][0]["environment"][0].update(value="changed")


_BREAKER = {
    "maximumPercent": 150,
    "minimumHealthyPercent": 50,
    "deploymentCircuitBreaker": {"enable": False, "rollback": False},
}

TABLE: tuple[Drift, ...] = (
    # -- network
    Drift("vpc", "tags", lambda aws: _tag_ec2(aws, _vpc(aws)["VpcId"]), lambda aws: _tags(_vpc(aws)["Tags"])),
    Drift(
        "vpc",
        "dns_hostnames",
        lambda aws: aws("ec2").modify_vpc_attribute(VpcId=_vpc(aws)["VpcId"], EnableDnsHostnames={"Value": False}),
        lambda aws: aws("ec2").describe_vpc_attribute(VpcId=_vpc(aws)["VpcId"], Attribute="enableDnsHostnames")[
            "EnableDnsHostnames"
        ],
    ),
    Drift(
        "subnet",
        "map_public_ip_on_launch",
        lambda aws: aws("ec2").modify_subnet_attribute(
            SubnetId=_named(aws, "describe_subnets", "Subnets", "-private-1")["SubnetId"],
            MapPublicIpOnLaunch={"Value": True},
        ),
        lambda aws: _named(aws, "describe_subnets", "Subnets", "-private-1")["MapPublicIpOnLaunch"],
    ),
    Drift(
        "security-group",
        "inbound",
        lambda aws: _allow_everybody(aws, "database"),
        lambda aws: _rules(_group(aws, "database"), "IpPermissions"),
    ),
    Drift(
        "security-group",
        "outbound",
        lambda aws: _forget_outbound(aws, "daemon"),
        lambda aws: _rules(_group(aws, "daemon"), "IpPermissionsEgress"),
    ),
    Drift(
        "security-group",
        "tags",
        lambda aws: _tag_ec2(aws, _group(aws, "webserver")["GroupId"]),
        lambda aws: _tags(_group(aws, "webserver")["Tags"]),
    ),
    Drift(
        "route-table",
        "default_route",
        lambda aws: aws("ec2").delete_route(
            RouteTableId=_table(aws, "public")["RouteTableId"], DestinationCidrBlock="0.0.0.0/0"
        ),
        lambda aws: _default_route(aws, "public"),
    ),
    Drift(
        "nat-instance",
        "source_dest_check",
        lambda aws: aws("ec2").modify_instance_attribute(
            InstanceId=_nat(aws)["InstanceId"], SourceDestCheck={"Value": True}
        ),
        lambda aws: _nat(aws)["SourceDestCheck"],
    ),
    Drift(
        "nat-instance",
        "security_groups",
        lambda aws: aws("ec2").modify_instance_attribute(
            InstanceId=_nat(aws)["InstanceId"], Groups=[_group(aws, "alb")["GroupId"]]
        ),
        lambda aws: [item["GroupId"] for item in _nat(aws)["NetworkInterfaces"][0]["Groups"]],
    ),
    Drift(
        "nat-instance",
        "state",
        lambda aws: aws("ec2").stop_instances(InstanceIds=[_nat(aws)["InstanceId"]]),
        lambda aws: _nat(aws)["State"]["Name"],
    ),
    Drift(
        "vpc-endpoint",
        "route_tables",
        lambda aws: aws("ec2").modify_vpc_endpoint(
            VpcEndpointId=_endpoint(aws)["VpcEndpointId"], RemoveRouteTableIds=[_table(aws, "private")["RouteTableId"]]
        ),
        lambda aws: sorted(_endpoint(aws)["RouteTableIds"]),
    ),
    # -- load balancer
    Drift(
        "load-balancer",
        "tags",
        lambda aws: _tag_elb(aws, _balancer(aws)["LoadBalancerArn"]),
        lambda aws: _elb_tags(aws, _balancer(aws)["LoadBalancerArn"]),
    ),
    Drift(
        "load-balancer",
        "idle_timeout.timeout_seconds",
        _set_balancer_attribute("idle_timeout.timeout_seconds", "60"),
        lambda aws: _balancer_attribute(aws, "idle_timeout.timeout_seconds"),
    ),
    Drift(
        "load-balancer",
        "routing.http.drop_invalid_header_fields.enabled",
        _set_balancer_attribute("routing.http.drop_invalid_header_fields.enabled", "false"),
        lambda aws: _balancer_attribute(aws, "routing.http.drop_invalid_header_fields.enabled"),
    ),
    Drift(
        "load-balancer",
        "SecurityGroups",
        lambda aws: aws("elbv2").set_security_groups(
            LoadBalancerArn=_balancer(aws)["LoadBalancerArn"], SecurityGroups=[_group(aws, "daemon")["GroupId"]]
        ),
        lambda aws: _balancer(aws)["SecurityGroups"],
    ),
    Drift(
        "target-group",
        "HealthCheckPath",
        lambda aws: aws("elbv2").modify_target_group(
            TargetGroupArn=_target_group(aws)["TargetGroupArn"], HealthCheckPath="/elsewhere"
        ),
        lambda aws: _target_group(aws)["HealthCheckPath"],
    ),
    Drift(
        "target-group",
        "deregistration_delay.timeout_seconds",
        lambda aws: aws("elbv2").modify_target_group_attributes(
            TargetGroupArn=_target_group(aws)["TargetGroupArn"],
            Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "300"}],
        ),
        lambda aws: _target_attribute(aws, "deregistration_delay.timeout_seconds"),
    ),
    Drift(
        "target-group",
        "tags",
        lambda aws: _tag_elb(aws, _target_group(aws)["TargetGroupArn"]),
        lambda aws: _elb_tags(aws, _target_group(aws)["TargetGroupArn"]),
    ),
    Drift(
        "listener",
        "DefaultActions",
        _change_default_action,
        lambda aws: [item["DefaultActions"] for item in _listeners(aws) if item["Port"] == 80],
    ),
    Drift("listener", "Protocol", _add_listener, lambda aws: sorted(item["Port"] for item in _listeners(aws))),
    Drift("listener-rule", "Actions", _add_listener_rule, _listener_rules),
    # -- file system
    Drift(
        "efs-file-system",
        "lifecycle",
        lambda aws: aws("efs").put_lifecycle_configuration(FileSystemId=_efs(aws), LifecyclePolicies=[]),
        lambda aws: aws("efs").describe_lifecycle_configuration(FileSystemId=_efs(aws))["LifecyclePolicies"],
    ),
    Drift(
        "efs-file-system",
        "policy",
        lambda aws: aws("efs").put_file_system_policy(FileSystemId=_efs(aws), Policy=json.dumps(_ADMIN)),
        lambda aws: json.loads(aws("efs").describe_file_system_policy(FileSystemId=_efs(aws))["Policy"])["Statement"],
    ),
    Drift(
        "efs-file-system",
        "tags",
        lambda aws: aws("efs").tag_resource(ResourceId=_efs(aws), Tags=[{"Key": "owner", "Value": "somebody"}]),
        lambda aws: _tags(_file_system(aws)["Tags"]),
    ),
    Drift("efs-mount-target", "security_groups", _change_mount_target, _mount_target_groups),
    # -- database
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
        lambda aws: _set_database(VpcSecurityGroupIds=[_group(aws, "alb")["GroupId"]])(aws),
        lambda aws: [item["VpcSecurityGroupId"] for item in _database(aws)["VpcSecurityGroups"]],
    ),
    Drift(
        "rds-instance",
        "tags",
        lambda aws: aws("rds").add_tags_to_resource(
            ResourceName=_database(aws)["DBInstanceArn"], Tags=[{"Key": "owner", "Value": "somebody"}]
        ),
        lambda aws: _tags(_database(aws)["TagList"]),
    ),
    # -- bucket
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
        "tags",
        lambda aws: aws("s3").put_bucket_tagging(
            Bucket=BUCKET, Tagging={"TagSet": _retag(aws("s3").get_bucket_tagging(Bucket=BUCKET)["TagSet"])}
        ),
        lambda aws: _tags(aws("s3").get_bucket_tagging(Bucket=BUCKET)["TagSet"]),
    ),
    # -- identities
    Drift(
        "iam-role",
        "policies",
        lambda aws: aws("iam").put_role_policy(RoleName=_TASK, PolicyName="extra", PolicyDocument=json.dumps(_ADMIN)),
        lambda aws: _role_policies(aws, _TASK),
    ),
    Drift(
        "iam-role",
        "attached",
        lambda aws: aws("iam").attach_role_policy(RoleName=_EXECUTION, PolicyArn=_ADMIN_ARN),
        lambda aws: aws("iam").list_attached_role_policies(RoleName=_EXECUTION)["AttachedPolicies"],
    ),
    Drift(
        "iam-role",
        "trust",
        lambda aws: aws("iam").update_assume_role_policy(
            RoleName=_EXECUTION,
            PolicyDocument=json.dumps(
                {
                    "Version": "2012-10-17",
                    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
                }
            ),
        ),
        lambda aws: aws("iam").get_role(RoleName=_EXECUTION)["Role"]["AssumeRolePolicyDocument"],
    ),
    Drift(
        "iam-role",
        "description",
        lambda aws: aws("iam").update_role(RoleName=_TASK, Description="mine"),
        lambda aws: aws("iam").get_role(RoleName=_TASK)["Role"].get("Description"),
    ),
    Drift(
        "iam-role",
        "tags",
        lambda aws: aws("iam").tag_role(RoleName=_TASK, Tags=[{"Key": "owner", "Value": "somebody"}]),
        lambda aws: _tags(aws("iam").list_role_tags(RoleName=_TASK)["Tags"]),
    ),
    Drift(
        "iam-user",
        "attached",
        lambda aws: aws("iam").attach_user_policy(UserName=_USER, PolicyArn=_ADMIN_ARN),
        lambda aws: aws("iam").list_attached_user_policies(UserName=_USER)["AttachedPolicies"],
    ),
    Drift(
        "iam-user",
        "policies",
        lambda aws: aws("iam").put_user_policy(UserName=_USER, PolicyName="extra", PolicyDocument=json.dumps(_ADMIN)),
        lambda aws: aws("iam").list_user_policies(UserName=_USER)["PolicyNames"],
    ),
    # -- secrets, image repository, logs
    Drift(
        "secret",
        "description",
        lambda aws: aws("secretsmanager").update_secret(SecretId=f"{NAME}/database", Description="mine"),
        lambda aws: _secret(aws)["Description"],
    ),
    Drift(
        "secret",
        "tags",
        lambda aws: aws("secretsmanager").tag_resource(
            SecretId=f"{NAME}/database", Tags=[{"Key": "owner", "Value": "somebody"}]
        ),
        lambda aws: _tags(_secret(aws)["Tags"]),
    ),
    Drift(
        "ecr-repository",
        "tag_mutability",
        lambda aws: aws("ecr").put_image_tag_mutability(repositoryName=NAME, imageTagMutability="MUTABLE"),
        lambda aws: _repository(aws)["imageTagMutability"],
    ),
    Drift(
        "ecr-repository",
        "scan_on_push",
        lambda aws: aws("ecr").put_image_scanning_configuration(
            repositoryName=NAME, imageScanningConfiguration={"scanOnPush": False}
        ),
        lambda aws: _repository(aws)["imageScanningConfiguration"],
    ),
    Drift(
        "ecr-repository",
        "lifecycle",
        lambda aws: aws("ecr").delete_lifecycle_policy(repositoryName=NAME),
        lambda aws: [
            item["lifecyclePolicyText"]
            for item in ([aws("ecr").get_lifecycle_policy(repositoryName=NAME)] if _has_lifecycle(aws) else [])
        ],
    ),
    Drift(
        "log-group",
        "retention_days",
        lambda aws: aws("logs").put_retention_policy(logGroupName=f"/ecs/{NAME}/webserver", retentionInDays=1),
        lambda aws: _log_group(aws)["retentionInDays"],
    ),
    Drift(
        "log-group",
        "tags",
        lambda aws: aws("logs").tag_resource(
            resourceArn=_log_group(aws)["arn"].removesuffix(":*"), tags={"owner": "somebody"}
        ),
        lambda aws: aws("logs").list_tags_for_resource(resourceArn=_log_group(aws)["arn"].removesuffix(":*"))["tags"],
    ),
    # -- ECS
    Drift(
        "task-definition",
        "memory",
        _register("webserver", lambda document: document.update(memory="1024")),
        lambda aws: _essence(aws, "webserver"),
    ),
    Drift(
        "task-definition",
        "containerDefinitions.daemon.image",
        _register("daemon", _image),
        lambda aws: _essence(aws, "daemon"),
    ),
    Drift(
        "task-definition",
        "containerDefinitions.webserver.environment.AWS_DEFAULT_REGION",
        _register("webserver", _environment),
        lambda aws: _essence(aws, "webserver"),
    ),
    Drift(
        "ecs-service",
        "desiredCount",
        _set_service("daemon", desiredCount=2),
        lambda aws: _service(aws, "daemon")["desiredCount"],
    ),
    Drift(
        "ecs-service",
        "deploymentConfiguration",
        _set_service("daemon", deploymentConfiguration=_BREAKER),
        lambda aws: _service(aws, "daemon")["deploymentConfiguration"],
    ),
    Drift(
        "ecs-service",
        "networkConfiguration",
        lambda aws: _set_service("daemon", networkConfiguration=_network(aws, assignPublicIp="ENABLED"))(aws),
        lambda aws: _service(aws, "daemon")["networkConfiguration"],
    ),
    Drift(
        "ecs-service",
        "propagateTags",
        _set_service("daemon", propagateTags="NONE"),
        lambda aws: _service(aws, "daemon")["propagateTags"],
    ),
    Drift(
        "ecs-service",
        "enableExecuteCommand",
        _set_service("webserver", enableExecuteCommand=True),
        lambda aws: _service(aws, "webserver")["enableExecuteCommand"],
    ),
    Drift(
        "ecs-service",
        "healthCheckGracePeriodSeconds",
        _set_service("webserver", healthCheckGracePeriodSeconds=1),
        lambda aws: _service(aws, "webserver")["healthCheckGracePeriodSeconds"],
    ),
    Drift(
        "ecs-service",
        "tags",
        lambda aws: aws("ecs").tag_resource(
            resourceArn=_service(aws, "daemon")["serviceArn"], tags=[{"key": "owner", "value": "somebody"}]
        ),
        lambda aws: _tags(_service(aws, "daemon")["tags"]),
    ),
    Drift(
        "scaling-policy",
        "TargetValue",
        _change_scaling_policy,
        lambda aws: _scaling_policy(aws, "cpu")["TargetTrackingScalingPolicyConfiguration"]["TargetValue"],
    ),
    Drift(
        "scalable-target",
        "MaxCapacity",
        lambda aws: aws("application-autoscaling").register_scalable_target(
            ServiceNamespace="ecs",
            ResourceId=_scaling_target(aws)["ResourceId"],
            ScalableDimension=_scaling_target(aws)["ScalableDimension"],
            MaxCapacity=9,
        ),
        lambda aws: _scaling_target(aws)["MaxCapacity"],
    ),
)
"""Everything above at once; the entries do not disturb each other."""


def _has_lifecycle(aws: Clients) -> bool:
    ecr = aws("ecr")
    try:
        ecr.get_lifecycle_policy(repositoryName=NAME)
    except ecr.exceptions.LifecyclePolicyNotFoundException:
        return False
    return True
