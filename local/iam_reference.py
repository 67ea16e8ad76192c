"""What each request has to be allowed: operation -> actions, resources and condition keys.

Source: the Service Authorization Reference ("Actions, resources, and condition keys for AWS services"), for the
operations that playbooks, tasks and their agent call, and what AWS asks for besides: tagging what is made (each
service's "tagging on creation"), passing roles, and what a service does in the name of the caller. An operation that is
not in the tables is an action of the same name that knows no resource; so a policy has to allow it on ``*``.

`make scan` compares the actions, resource types and condition keys of the policies that are printed with the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from local.iam_policy import Need

Parameters = Mapping[str, Any]

PREFIXES = {"efs": "elasticfilesystem", "elbv2": "elasticloadbalancing", "service-quotas": "servicequotas"}
"""Services that actions call otherwise than botocore does."""

ACTIONS = {
    # "Actions, resources, and condition keys for AWS Budget Service".
    "budgets:CreateBudget": "budgets:ModifyBudget",
    "budgets:CreateNotification": "budgets:ModifyBudget",
    "budgets:CreateSubscriber": "budgets:ModifyBudget",
    "budgets:DeleteBudget": "budgets:ModifyBudget",
    "budgets:DeleteNotification": "budgets:ModifyBudget",
    "budgets:DeleteSubscriber": "budgets:ModifyBudget",
    "budgets:DescribeBudget": "budgets:ViewBudget",
    "budgets:DescribeNotificationsForBudget": "budgets:ViewBudget",
    "budgets:DescribeSubscribersForNotification": "budgets:ViewBudget",
    "budgets:UpdateBudget": "budgets:ModifyBudget",
    # "Amazon S3 API operations and required permissions" in the Amazon S3 User Guide.
    "s3:CopyObject": "s3:PutObject",
    "s3:DeleteObjects": "s3:DeleteObject",
    "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "s3:GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "s3:GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    "s3:ListBuckets": "s3:ListAllMyBuckets",
    "s3:ListObjects": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "s3:PutBucketEncryption": "s3:PutEncryptionConfiguration",
    "s3:PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
}
"""Operations whose action has another name."""

VERSIONED = {"s3:GetObject": "s3:GetObjectVersion", "s3:DeleteObject": "s3:DeleteObjectVersion"}
"""What a request with a VersionId needs instead."""


class Account(Protocol):
    """Where the request is made, and what is there already."""

    @property
    def partition(self) -> str: ...
    @property
    def region(self) -> str: ...
    @property
    def id(self) -> str: ...

    def tags(self, arn: str) -> Mapping[str, str]:
        """Return the tags of a resource; none if it does not exist."""

    def owner(self, kind: str, resource_id: str) -> str:
        """Return what something belongs to, by its id, or "": ``association`` (a route table), ``mount-target`` (a file
        system), ``image`` (the account that made it, or ``amazon``), ``scalable-target`` and ``secret`` (the ARN)."""


def action(service: str, operation: str) -> str:
    """Return the action that an operation is named by in policies; ``service`` as botocore spells it."""
    name = f"{PREFIXES.get(service, service)}:{operation}"
    return ACTIONS.get(name, name)


def needs(service: str, operation: str, params: Parameters, account: Account) -> list[Need]:
    """Return everything that the request has to be allowed; a single missing one refuses it."""
    request = _Request(service, operation, params, account)
    return list((_OF_SERVICE.get(service) or _named)(request))


@dataclass(frozen=True)
class _Request:
    service: str
    operation: str
    params: Parameters
    account: Account

    @property
    def action(self) -> str:
        return action(self.service, self.operation)

    def arn(self, rest: str, service: str = "") -> str:
        """Return an ARN of this account; ``rest`` is what comes after the account's id."""
        account, service = self.account, service or PREFIXES.get(self.service, self.service)
        where = ":" if service == "iam" else f"{account.region}:"
        return f"arn:{account.partition}:{service}:{where}{account.id}:{rest}"

    def need(
        self,
        resource: str = "*",
        keys: Mapping[str, str] | None = None,
        *,
        action: str = "",
        old: bool = True,
        new: bool = False,
    ) -> Need:
        """Return a need in a context of `keys`; `old` adds the tags that the resource has, `new` those it will have."""
        context: dict[str, str | tuple[str, ...]] = {"aws:RequestedRegion": self.account.region, **(keys or {})}
        if old and resource != "*":
            context |= {f"aws:ResourceTag/{key}": value for key, value in self.account.tags(resource).items()}
        if new:
            tags = self.tags()
            context |= {f"aws:RequestTag/{key}": value for key, value in tags.items()} | {"aws:TagKeys": tuple(tags)}
        return Need(action or self.action, resource, context)

    def tags(self, resource_type: str = "") -> dict[str, str]:
        """Return the tags that the request gives; EC2's may be for some types of resources only."""
        found = self.params.get("Tags", self.params.get("tags", self.params.get("resourceTags", [])))
        for specification in self.params.get("TagSpecifications") or ():
            if resource_type in ("", specification["ResourceType"]):
                found = specification["Tags"]
        if isinstance(found, Mapping):
            return dict(found)
        return {tag.get("Key", tag.get("key", "")): tag.get("Value", tag.get("value", "")) for tag in found}

    def values(self, path: str) -> list[Any]:
        """Return the values at a path of parameters: ``A.B`` of a structure or of each item of a list."""
        found: list[Any] = [self.params]
        for name in path.split("."):
            found = [item[name] for item in found if isinstance(item, Mapping) and item.get(name) is not None]
            found = [part for item in found for part in (item if isinstance(item, list | tuple) else [item])]
        return found


# -- EC2 -------------------------------------------------------------------------------------------------------

_NEW = {
    "AllocateAddress": "elastic-ip",
    "CreateInternetGateway": "internet-gateway",
    "CreateNatGateway": "natgateway",
    "CreateRouteTable": "route-table",
    "CreateSecurityGroup": "security-group",
    "CreateSubnet": "subnet",
    "CreateVpc": "vpc",
    "CreateVpcEndpoint": "vpc-endpoint",
}
"""What an operation makes."""

_USED: dict[str, dict[str, tuple[str, ...]]] = {
    "AssociateRouteTable": {"route-table": ("RouteTableId",), "subnet": ("SubnetId",)},
    "AttachInternetGateway": {"internet-gateway": ("InternetGatewayId",), "vpc": ("VpcId",)},
    "AuthorizeSecurityGroupEgress": {"security-group": ("GroupId",)},
    "AuthorizeSecurityGroupIngress": {"security-group": ("GroupId",)},
    "CreateNatGateway": {"subnet": ("SubnetId",), "elastic-ip": ("AllocationId",)},
    "CreateRoute": {"route-table": ("RouteTableId",)},
    "CreateRouteTable": {"vpc": ("VpcId",)},
    "CreateSecurityGroup": {"vpc": ("VpcId",)},
    "CreateSubnet": {"vpc": ("VpcId",)},
    "CreateVpcEndpoint": {
        "vpc": ("VpcId",),
        "route-table": ("RouteTableIds",),
        "subnet": ("SubnetIds",),
        "security-group": ("SecurityGroupIds",),
    },
    "DeleteInternetGateway": {"internet-gateway": ("InternetGatewayId",)},
    "DeleteNatGateway": {"natgateway": ("NatGatewayId",)},
    "DeleteRoute": {"route-table": ("RouteTableId",)},
    "DeleteRouteTable": {"route-table": ("RouteTableId",)},
    "DeleteSecurityGroup": {"security-group": ("GroupId",)},
    "DeleteSubnet": {"subnet": ("SubnetId",)},
    "DeleteVpc": {"vpc": ("VpcId",)},
    "DeleteVpcEndpoints": {"vpc-endpoint": ("VpcEndpointIds",)},
    "DescribeVpcAttribute": {"vpc": ("VpcId",)},
    "DetachInternetGateway": {"internet-gateway": ("InternetGatewayId",), "vpc": ("VpcId",)},
    "ModifyInstanceAttribute": {"instance": ("InstanceId",), "security-group": ("Groups",)},
    "ModifyInstanceCreditSpecification": {"instance": ("InstanceCreditSpecifications.InstanceId",)},
    "ModifyInstanceMetadataOptions": {"instance": ("InstanceId",)},
    "ModifySubnetAttribute": {"subnet": ("SubnetId",)},
    "ModifyVpcAttribute": {"vpc": ("VpcId",)},
    "ModifyVpcEndpoint": {
        "vpc-endpoint": ("VpcEndpointId",),
        "route-table": ("AddRouteTableIds", "RemoveRouteTableIds"),
        "subnet": ("AddSubnetIds", "RemoveSubnetIds"),
        "security-group": ("AddSecurityGroupIds", "RemoveSecurityGroupIds"),
    },
    "ReleaseAddress": {"elastic-ip": ("AllocationId",)},
    "ReplaceRoute": {"route-table": ("RouteTableId",)},
    "ReplaceRouteTableAssociation": {"route-table": ("RouteTableId",)},
    "RevokeSecurityGroupEgress": {"security-group": ("GroupId",)},
    "RevokeSecurityGroupIngress": {"security-group": ("GroupId",)},
    "RunInstances": {
        "subnet": ("SubnetId", "NetworkInterfaces.SubnetId"),
        "security-group": ("SecurityGroupIds", "NetworkInterfaces.Groups"),
    },
    "StartInstances": {"instance": ("InstanceIds",)},
    "StopInstances": {"instance": ("InstanceIds",)},
    "TerminateInstances": {"instance": ("InstanceIds",)},
}
"""What exists already and is used, changed or removed: type -> parameters with its ids."""

_TYPES_BY_ID = {
    "eipalloc": "elastic-ip",
    "eni": "network-interface",
    "i": "instance",
    "igw": "internet-gateway",
    "nat": "natgateway",
    "rtb": "route-table",
    "sg": "security-group",
    "subnet": "subnet",
    "vol": "volume",
    "vpc": "vpc",
    "vpce": "vpc-endpoint",
}


def _ec2(request: _Request) -> Iterator[Need]:
    operation = request.operation
    if operation == "CreateTags":
        for resource_id in request.values("Resources"):
            kind = _TYPES_BY_ID[resource_id.rpartition("-")[0]]
            yield request.need(request.arn(f"{kind}/{resource_id}"), new=True)
        return
    if operation == "DisassociateRouteTable":
        table = request.account.owner("association", request.params["AssociationId"])
        yield request.need(request.arn(f"route-table/{table}"))
        return
    made = [_NEW[operation]] if operation in _NEW else []
    if operation == "RunInstances":
        made = ["instance", "volume", "network-interface"]
        image = request.params["ImageId"]
        yield request.need(
            f"arn:{request.account.partition}:ec2:{request.account.region}::image/{image}",
            {"ec2:Owner": request.account.owner("image", image)},
        )
    for kind in made:
        # The id is not known yet.
        arn = request.arn(f"{kind}/*")
        yield request.need(arn, old=False, new=True)
        if request.params.get("TagSpecifications"):
            yield request.need(arn, {"ec2:CreateAction": operation}, action="ec2:CreateTags", old=False, new=True)
    used = _USED.get(operation, {})
    for kind, paths in used.items():
        for path in paths:
            for resource_id in request.values(path):
                yield request.need(request.arn(f"{kind}/{resource_id}"))
    if operation == "CreateVpcEndpoint" and request.params.get("PrivateDnsEnabled"):
        arn = f"arn:{request.account.partition}:route53:::hostedzone/*"
        yield request.need(arn, action="route53:AssociateVPCWithHostedZone", old=False)
    if not made and not used:
        yield request.need()


# -- S3 --------------------------------------------------------------------------------------------------------


def _s3(request: _Request) -> Iterator[Need]:
    params = request.params
    bucket = f"arn:{request.account.partition}:s3:::{params['Bucket']}" if "Bucket" in params else "*"
    if request.operation == "DeleteObjects":
        for item in params["Delete"]["Objects"]:
            name = VERSIONED["s3:DeleteObject"] if item.get("VersionId") else "s3:DeleteObject"
            yield request.need(f"{bucket}/{item['Key']}", action=name)
    elif "Key" in params:
        name = VERSIONED.get(request.action, request.action) if params.get("VersionId") else request.action
        yield request.need(f"{bucket}/{params['Key']}", action=name)
        if request.operation == "CopyObject":
            path, _, version = str(params["CopySource"]).lstrip("/").partition("?versionId=")
            arn = f"arn:{request.account.partition}:s3:::{path}"
            yield request.need(arn, action="s3:GetObjectVersion" if version else "s3:GetObject")
    else:
        yield request.need(bucket, {"s3:prefix": str(params["Prefix"])} if params.get("Prefix") else None)


# -- IAM, ECS and what runs on it ------------------------------------------------------------------------------


def _iam(request: _Request) -> Iterator[Need]:
    params = request.params
    # Adding to a group and taking out of it is a matter of the group; whatever else names a user or a role is of that.
    kinds = (("GroupName", "group"), ("UserName", "user"), ("RoleName", "role"))
    names = [request.arn(f"{kind}/{params[key]}") for key, kind in kinds if params.get(key)]
    making = request.operation in ("CreateRole", "CreateUser")
    keys = {"iam:PolicyARN": str(params["PolicyArn"])} if "PolicyArn" in params else None
    yield request.need(names[0] if names else "*", keys, old=not making, new=making)
    if making and request.tags():
        kind = request.operation.removeprefix("Create")
        yield request.need(names[0], action=f"iam:Tag{kind}", old=False, new=True)


_OF_CLUSTER = {
    "CreateService": ("service", "serviceName"),
    "DeleteService": ("service", "service"),
    "DescribeServices": ("service", "services"),
    "DescribeTasks": ("task", "tasks"),
    "ExecuteCommand": ("task", "task"),
    "StopTask": ("task", "task"),
    "UpdateService": ("service", "service"),
}
"""What is in a cluster: type, and the parameter with names or ARNs."""

_BY_NAME = {
    "CreateCluster": ("cluster", "clusterName"),
    "DeleteCluster": ("cluster", "cluster"),
    "DeleteTaskDefinitions": ("task-definition", "taskDefinitions"),
    "DescribeClusters": ("cluster", "clusters"),
    "PutClusterCapacityProviders": ("cluster", "cluster"),
    "RunTask": ("task-definition", "taskDefinition"),
    "UpdateCluster": ("cluster", "cluster"),
}


def _ecs(request: _Request) -> Iterator[Need]:
    params, operation = request.params, request.operation
    cluster = str(params.get("cluster", "default")).rpartition("/")[2]
    keys = {"ecs:cluster": request.arn(f"cluster/{cluster}")}
    making = operation in ("CreateCluster", "CreateService", "RegisterTaskDefinition")
    if operation in _OF_CLUSTER:
        kind, parameter = _OF_CLUSTER[operation]
        resources = _arns(request, f"{kind}/{cluster}/", parameter)
    elif operation in _BY_NAME:
        kind, parameter = _BY_NAME[operation]
        resources = _arns(request, f"{kind}/", parameter)
    elif operation == "ListTasks":
        # Without a container instance, the pattern of all of them.
        resources = [request.arn(f"container-instance/{cluster}/*")]
    elif operation in ("TagResource", "UntagResource"):
        resources = [params["resourceArn"]]
    else:
        resources = ["*"]
    for resource in resources:
        yield request.need(resource, keys, old=not making, new=making or operation == "TagResource")
    if making and params.get("tags"):
        family = params.get("family")
        tagged = request.arn(f"task-definition/{family}:*") if family else resources[0]
        yield request.need(tagged, {"ecs:CreateAction": operation}, action="ecs:TagResource", old=False, new=True)
    if operation == "RegisterTaskDefinition":
        for role in dict.fromkeys(request.values("executionRoleArn") + request.values("taskRoleArn")):
            yield request.need(role, {"iam:PassedToService": "ecs-tasks.amazonaws.com"}, action="iam:PassRole")


def _arns(request: _Request, begin: str, parameter: str) -> list[str]:
    """Return the ARNs that a parameter has, or the names in it mean."""
    return [name if name.startswith("arn:") else request.arn(begin + name) for name in request.values(parameter)]


def _autoscaling(request: _Request) -> Iterator[Need]:
    params, operation = request.params, request.operation
    if operation.startswith("Describe"):
        yield request.need()
        return
    if operation in ("ListTagsForResource", "TagResource"):
        yield request.need(params["ResourceARN"], new=operation == "TagResource")
        return
    resource = request.account.owner("scalable-target", str(params["ResourceId"])) or request.arn("scalable-target/*")
    about = {
        "application-autoscaling:service-namespace": str(params["ServiceNamespace"]),
        "application-autoscaling:scalable-dimension": str(params["ScalableDimension"]),
    }
    yield request.need(resource, about, new=operation == "RegisterScalableTarget")
    service = request.arn(params["ResourceId"], "ecs")
    if operation == "RegisterScalableTarget":
        if params.get("Tags"):
            yield request.need(resource, action="application-autoscaling:TagResource", new=True)
        # "Application Auto Scaling identity-based policy examples": what it does is done in the caller's name.
        yield request.need(service, action="ecs:DescribeServices")
        yield request.need(service, action="ecs:UpdateService")
    else:
        alarm = request.arn(f"alarm:TargetTracking-{params['ResourceId']}-*", "cloudwatch")
        for name in ("DeleteAlarms",) if operation != "PutScalingPolicy" else ("DescribeAlarms", "PutMetricAlarm"):
            yield request.need(alarm, action=f"cloudwatch:{name}", old=False)


# -- Load balancer, file system, database ----------------------------------------------------------------------


def _load_balancer(request: _Request) -> Iterator[Need]:
    params, operation = request.params, request.operation
    if operation.startswith("Describe"):
        yield request.need()
        return
    new = operation.startswith("Create") or operation == "AddTags"
    if operation == "CreateLoadBalancer":
        resources = [request.arn(f"loadbalancer/app/{params['Name']}/*")]
    elif operation == "CreateTargetGroup":
        resources = [request.arn(f"targetgroup/{params['Name']}/*")]
    elif operation == "CreateListener":
        resources = [params["LoadBalancerArn"]]
    else:
        names = ("RuleArn", "ListenerArn", "TargetGroupArn", "LoadBalancerArn", "ResourceArns")
        resources = next(found for name in names if (found := request.values(name)))
    for resource in resources:
        yield request.need(resource, new=new)
    if operation.startswith("Create") and params.get("Tags"):
        made = resources[0].replace(":loadbalancer/", ":listener/") + "/*" if operation == "CreateListener" else ""
        keys = {"elasticloadbalancing:CreateAction": operation}
        yield request.need(made or resources[0], keys, action="elasticloadbalancing:AddTags", old=False, new=True)
    if operation == "CreateLoadBalancer":
        # "Identity-based policies for Elastic Load Balancing": it looks at the network in the caller's name.
        for name in ("InternetGateways", "SecurityGroups", "Subnets", "Vpcs"):
            yield request.need(action=f"ec2:Describe{name}")


def _file_system(request: _Request) -> Iterator[Need]:
    params, operation = request.params, request.operation
    system, point = params.get("FileSystemId"), params.get("AccessPointId")
    if operation == "CreateFileSystem":
        yield request.need(new=True)
        made = request.arn("file-system/*")
    elif operation == "TagResource":
        identifier = str(params["ResourceId"])
        kind = "access-point" if identifier.startswith("fsap-") else "file-system"
        yield request.need(request.arn(f"{kind}/{identifier}"), new=True)
        return
    elif operation == "DeleteAccessPoint" or (operation == "DescribeAccessPoints" and point):
        yield request.need(request.arn(f"access-point/{point}"))
        return
    else:
        if "MountTargetId" in params:
            system = request.account.owner("mount-target", params["MountTargetId"])
        yield request.need(request.arn(f"file-system/{system or '*'}"))
        made = request.arn("access-point/*")
    if params.get("Tags"):
        keys = {"elasticfilesystem:CreateAction": operation}
        yield request.need(made, keys, action="elasticfilesystem:TagResource", old=False, new=True)
    # "How Amazon EFS works with IAM": network interfaces are made and removed in the caller's name.
    interface = request.arn("network-interface/*", "ec2")
    if operation == "CreateMountTarget":
        yield request.need(action="ec2:DescribeSubnets")
        yield request.need(action="ec2:DescribeNetworkInterfaces")
        used = [request.arn(f"subnet/{params['SubnetId']}", "ec2")]
        used += [request.arn(f"security-group/{group}", "ec2") for group in params.get("SecurityGroups", [])]
        for arn in [interface, *used]:
            yield request.need(arn, action="ec2:CreateNetworkInterface", old=arn != interface)
    elif operation == "ModifyMountTargetSecurityGroups":
        yield request.need(interface, action="ec2:ModifyNetworkInterfaceAttribute", old=False)
        for group in params["SecurityGroups"]:
            yield request.need(
                request.arn(f"security-group/{group}", "ec2"), action="ec2:ModifyNetworkInterfaceAttribute"
            )
    elif operation == "DeleteMountTarget":
        yield request.need(interface, action="ec2:DeleteNetworkInterface", old=False)


def _database(request: _Request) -> Iterator[Need]:
    params, operation = request.params, request.operation
    instance = request.arn(f"db:{params.get('DBInstanceIdentifier') or '*'}")
    snapshot = params.get("FinalDBSnapshotIdentifier") or params.get("DBSnapshotIdentifier")
    group = params.get("DBSubnetGroupName")
    groups = [request.arn(f"subgrp:{group}")] if group else []
    if operation in ("AddTagsToResource", "ListTagsForResource", "RemoveTagsFromResource"):
        resources = [params["ResourceName"]]
    elif operation == "CreateDBSnapshot":
        resources = [instance, request.arn(f"snapshot:{snapshot}")]
    elif operation == "RestoreDBInstanceToPointInTime":
        names = (params["TargetDBInstanceIdentifier"], params["SourceDBInstanceIdentifier"])
        resources = [*(request.arn(f"db:{name}") for name in names), *groups]
    elif operation == "RestoreDBInstanceFromDBSnapshot":
        resources = [instance, request.arn(f"snapshot:{snapshot}"), *groups]
    elif operation in ("DescribeDBSnapshots", "DeleteDBSnapshot"):
        resources = [request.arn(f"snapshot:{snapshot or '*'}")]
    elif "SubnetGroup" in operation:
        resources = groups or [request.arn("subgrp:*")]
    else:
        resources = [instance, *groups]
    if operation in ("CreateDBInstance", "ModifyDBInstance") or operation.startswith("RestoreDBInstance"):
        # The example of CreateDBInstance in "Identity-based policy examples for Amazon RDS" names these, too.
        resources += [request.arn("og:default:postgres"), request.arn("pg:default.postgres")]
    making = operation in ("CreateDBInstance", "CreateDBSubnetGroup", "CreateDBSnapshot") or "Restore" in operation
    for resource in resources:
        yield request.need(resource, new=making or operation == "AddTagsToResource")
    if making and params.get("Tags"):
        made = request.arn(f"snapshot:{snapshot}") if operation == "CreateDBSnapshot" else resources[0]
        yield request.need(made, action="rds:AddTagsToResource", old=False, new=True)
    if operation == "DeleteDBInstance" and snapshot:
        for resource in (instance, request.arn(f"snapshot:{snapshot}")):
            yield request.need(resource, action="rds:CreateDBSnapshot")
        yield request.need(request.arn(f"snapshot:{snapshot}"), action="rds:AddTagsToResource")


# -- Schedules -------------------------------------------------------------------------------------------------


def _scheduler(request: _Request) -> Iterator[Need]:
    params, operation = request.params, request.operation
    if operation in ("ListScheduleGroups", "ListSchedules"):
        yield request.need()
    elif "ResourceArn" in params:
        yield request.need(params["ResourceArn"], new=operation == "TagResource")
    elif operation.endswith("ScheduleGroup"):
        group = request.arn(f"schedule-group/{params['Name']}")
        yield request.need(group, new=operation == "CreateScheduleGroup")
        if params.get("Tags"):
            yield request.need(group, action="scheduler:TagResource", new=True)
        if operation == "DeleteScheduleGroup":
            yield request.need(request.arn(f"schedule/{params['Name']}/*"), action="scheduler:DeleteSchedule")
    else:
        yield request.need(request.arn(f"schedule/{params.get('GroupName', 'default')}/{params['Name']}"))
        if "Target" in params:
            keys = {"iam:PassedToService": "scheduler.amazonaws.com"}
            yield request.need(params["Target"]["RoleArn"], keys, action="iam:PassRole")


def _cloudwatch(request: _Request) -> Iterator[Need]:
    account = request.account
    dashboards = [*request.values("DashboardName"), *request.values("DashboardNames")]
    for name in dashboards:
        # Dashboards belong to no region.
        arn = f"arn:{account.partition}:cloudwatch::{account.id}:dashboard/{name}"
        yield request.need(arn, new=True)
        if request.tags():
            yield request.need(arn, action="cloudwatch:TagResource", new=True)
    if dashboards:
        return
    alarms = [request.arn(f"alarm:{name}") for name in [*request.values("AlarmName"), *request.values("AlarmNames")]]
    for arn in [*alarms, *request.values("ResourceARN")] or [request.arn("alarm:*")]:
        yield request.need(arn, new=True)
        if request.operation == "PutMetricAlarm" and request.tags():
            yield request.need(arn, action="cloudwatch:TagResource", new=True)


# -- Others: a resource that one parameter names ---------------------------------------------------------------

_NAMED: dict[str, tuple[str, tuple[str, ...]]] = {
    "acm": ("certificate/", ("CertificateArn",)),
    "cognito-idp": ("userpool/", ("UserPoolId",)),
    "dynamodb": ("table/", ("TableName", "ResourceArn")),
    "ecr": ("repository/", ("repositoryName", "repositoryNames", "resourceArn")),
    "kms": ("key/", ("KeyId",)),
    "logs": ("log-group:", ("logGroupName", "resourceArn")),
    "secretsmanager": ("secret:", ("SecretId", "Name")),
    "sns": ("", ("Name", "TopicArn", "ResourceArn")),
    "ssm": ("parameter/", ("Name", "Names")),
    "sts": ("role/", ("RoleArn",)),
}
"""Service -> begin of the ARN's last part, and parameters that name the resource, or are its ARN."""

_TAGGING = {
    "dynamodb:CreateTable": "dynamodb:TagResource",
    "ecr:CreateRepository": "ecr:TagResource",
    "logs:CreateLogGroup": "logs:TagResource",
    "secretsmanager:CreateSecret": "secretsmanager:TagResource",
    "sns:CreateTopic": "sns:TagResource",
}


def _named(request: _Request) -> Iterator[Need]:
    part, parameters = _NAMED.get(request.service, ("", ()))
    names = [str(name) for parameter in parameters for name in request.values(parameter)]
    tagging = _TAGGING.get(request.action)
    new = tagging is not None or request.operation == "TagResource"
    for name in names:
        arn = name if name.startswith("arn:") else request.arn(part + name)
        if request.service == "ssm":
            # A hierarchy begins with a slash that its ARN does not repeat; public parameters belong to no account.
            owner = "" if name.startswith("/aws/service/") else request.account.id
            arn = f"arn:{request.account.partition}:ssm:{request.account.region}:{owner}:parameter/{name.lstrip('/')}"
        if request.service == "secretsmanager" and not name.startswith("arn:"):
            # The ARN of one that is not there yet ends in nobody knows what; "Policy examples for Secrets Manager".
            arn = request.account.owner("secret", name) or f"{arn}-??????"
        yield request.need(arn, new=new)
        if tagging and request.tags():
            yield request.need(arn, action=tagging, new=True)
    if not names:
        yield request.need()


def _budgets(request: _Request) -> Iterator[Need]:
    """Budgets belong to no region."""
    params = request.params
    budget = params.get("Budget") or params.get("NewBudget") or params
    named = f"arn:{request.account.partition}:budgets::{request.account.id}:budget/{budget.get('BudgetName', '*')}"
    arn = str(params.get("ResourceARN", named))
    yield request.need(arn)
    if params.get("ResourceTags") and request.operation == "CreateBudget":
        yield request.need(arn, action="budgets:TagResource")


_OF_SERVICE: dict[str, Callable[[_Request], Iterator[Need]]] = {
    "application-autoscaling": _autoscaling,
    "budgets": _budgets,
    "cloudwatch": _cloudwatch,
    "ec2": _ec2,
    "ecs": _ecs,
    "efs": _file_system,
    "elbv2": _load_balancer,
    "iam": _iam,
    "rds": _database,
    "s3": _s3,
    "scheduler": _scheduler,
}
