"""Lists a whole AWS account, and puts resources of somebody else into it.

`account.py prepare FILE` makes foreign resources and writes the list; `account.py compare FILE` fails if the account
differs from it. The client configuration (endpoint, profile) comes from the environment.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import boto3

Account = dict[str, list[str]]
"""Kind of resource -> names or ids, sorted."""

FOREIGN = "somebody-else"


def client(service: str) -> Any:
    """Return a client by what the environment says. Proxies are for the internet, not for the loopback interface."""
    session: Any = boto3.Session()
    return session.client(service)


def _pages(service: str, operation: str, key: str, **arguments: Any) -> Iterable[dict[str, Any]]:
    return [item for page in client(service).get_paginator(operation).paginate(**arguments) for item in page[key]]


def _ec2(operation: str, key: str, name: str) -> Callable[[], list[str]]:
    return lambda: [str(item[name]) for item in getattr(client("ec2"), operation)()[key]]


def _living_instances() -> list[str]:
    reservations = client("ec2").describe_instances()["Reservations"]
    instances = [instance for reservation in reservations for instance in reservation["Instances"]]
    return [instance["InstanceId"] for instance in instances if instance["State"]["Name"] != "terminated"]


def _living_gateways() -> list[str]:
    gateways = client("ec2").describe_nat_gateways()["NatGateways"]
    return [gateway["NatGatewayId"] for gateway in gateways if gateway["State"] != "deleted"]


def _living_endpoints() -> list[str]:
    endpoints = client("ec2").describe_vpc_endpoints()["VpcEndpoints"]
    return [endpoint["VpcEndpointId"] for endpoint in endpoints if endpoint["State"] != "deleted"]


def _living_clusters() -> list[str]:
    ecs = client("ecs")
    clusters = ecs.describe_clusters(clusters=ecs.list_clusters()["clusterArns"])["clusters"]
    return [cluster["clusterName"] for cluster in clusters if cluster["status"] != "INACTIVE"]


def _living_services() -> list[str]:
    ecs = client("ecs")
    found = []
    for cluster in _living_clusters():
        arns = ecs.list_services(cluster=cluster)["serviceArns"]
        services = ecs.describe_services(cluster=cluster, services=arns)["services"] if arns else []
        found += [service["serviceArn"] for service in services if service["status"] != "INACTIVE"]
    return found


def _policies_of_our_own() -> list[str]:
    return [policy["Arn"] for policy in _pages("iam", "list_policies", "Policies", Scope="Local")]


KINDS: dict[str, Callable[[], list[str]]] = {
    "vpc": _ec2("describe_vpcs", "Vpcs", "VpcId"),
    "subnet": _ec2("describe_subnets", "Subnets", "SubnetId"),
    "route-table": _ec2("describe_route_tables", "RouteTables", "RouteTableId"),
    "internet-gateway": _ec2("describe_internet_gateways", "InternetGateways", "InternetGatewayId"),
    "nat-gateway": _living_gateways,
    "elastic-ip": _ec2("describe_addresses", "Addresses", "AllocationId"),
    "instance": _living_instances,
    "volume": _ec2("describe_volumes", "Volumes", "VolumeId"),
    "network-interface": _ec2("describe_network_interfaces", "NetworkInterfaces", "NetworkInterfaceId"),
    "security-group": _ec2("describe_security_groups", "SecurityGroups", "GroupId"),
    "vpc-endpoint": _living_endpoints,
    "bucket": lambda: [bucket["Name"] for bucket in client("s3").list_buckets()["Buckets"]],
    "secret": lambda: [item["ARN"] for item in _pages("secretsmanager", "list_secrets", "SecretList")],
    "database": lambda: [item["DBInstanceArn"] for item in _pages("rds", "describe_db_instances", "DBInstances")],
    "database-subnets": lambda: [
        item["DBSubnetGroupName"] for item in _pages("rds", "describe_db_subnet_groups", "DBSubnetGroups")
    ],
    "file-system": lambda: [item["FileSystemId"] for item in client("efs").describe_file_systems()["FileSystems"]],
    "access-point": lambda: [item["AccessPointId"] for item in client("efs").describe_access_points()["AccessPoints"]],
    "repository": lambda: [item["repositoryArn"] for item in client("ecr").describe_repositories()["repositories"]],
    "role": lambda: [item["Arn"] for item in _pages("iam", "list_roles", "Roles")],
    "user": lambda: [item["Arn"] for item in _pages("iam", "list_users", "Users")],
    "policy": _policies_of_our_own,
    "instance-profile": lambda: [item["Arn"] for item in _pages("iam", "list_instance_profiles", "InstanceProfiles")],
    "log-group": lambda: [item["arn"] for item in _pages("logs", "describe_log_groups", "logGroups")],
    "load-balancer": lambda: [
        item["LoadBalancerArn"] for item in _pages("elbv2", "describe_load_balancers", "LoadBalancers")
    ],
    "target-group": lambda: [
        item["TargetGroupArn"] for item in _pages("elbv2", "describe_target_groups", "TargetGroups")
    ],
    "cluster": _living_clusters,
    "service": _living_services,
    "task-definition": lambda: [arn for status in ("ACTIVE", "INACTIVE") for arn in _pages_of_arns(status)],
    "scalable-target": lambda: [
        item["ResourceId"]
        for item in _pages(
            "application-autoscaling", "describe_scalable_targets", "ScalableTargets", ServiceNamespace="ecs"
        )
    ],
    "scaling-policy": lambda: [
        item["PolicyName"]
        for item in _pages(
            "application-autoscaling", "describe_scaling_policies", "ScalingPolicies", ServiceNamespace="ecs"
        )
    ],
    "schedule-group": lambda: [item["Arn"] for item in _pages("scheduler", "list_schedule_groups", "ScheduleGroups")],
    "schedule": lambda: [item["Arn"] for item in _pages("scheduler", "list_schedules", "Schedules")],
    "topic": lambda: [item["TopicArn"] for item in client("sns").list_topics()["Topics"]],
    "table": lambda: list(client("dynamodb").list_tables()["TableNames"]),
    "dashboard": lambda: [item["DashboardName"] for item in client("cloudwatch").list_dashboards()["DashboardEntries"]],
    "alarm": lambda: [item["AlarmName"] for item in client("cloudwatch").describe_alarms()["MetricAlarms"]],
}


def _pages_of_arns(status: str) -> list[str]:
    pages = client("ecs").get_paginator("list_task_definitions").paginate(status=status)
    return [str(arn) for page in pages for arn in page["taskDefinitionArns"]]


def snapshot() -> Account:
    """Return everything in the account that the project could touch."""
    return {kind: sorted(names()) for kind, names in KINDS.items()}


def make_foreign_resources() -> None:
    """Make resources of another owner, some with names like those of the platform."""
    ec2, ecs, iam = client("ec2"), client("ecs"), client("iam")
    vpc = ec2.create_vpc(CidrBlock="10.99.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.99.{index}.0/24", AvailabilityZone=f"us-east-1{zone}")["Subnet"][
            "SubnetId"
        ]
        for index, zone in enumerate("ab")
    ]
    group = ec2.create_security_group(VpcId=vpc, GroupName=FOREIGN, Description=FOREIGN)["GroupId"]
    client("s3").create_bucket(Bucket=f"{FOREIGN}-dags")
    client("secretsmanager").create_secret(Name=f"{FOREIGN}/database", SecretString="foreign")
    client("ecr").create_repository(repositoryName=FOREIGN)
    client("logs").create_log_group(logGroupName=f"/ecs/dagster-local-{FOREIGN}/webserver")
    client("efs").create_file_system(CreationToken=FOREIGN)
    client("sns").create_topic(Name=f"dagster-local-{FOREIGN}")
    client("cloudwatch").put_dashboard(DashboardName=f"dagster-local-{FOREIGN}", DashboardBody='{"widgets": []}')
    client("cloudwatch").put_metric_alarm(
        AlarmName=f"dagster-local-{FOREIGN}",
        Namespace="AWS/RDS",
        MetricName="CPUUtilization",
        Statistic="Average",
        Period=60,
        EvaluationPeriods=1,
        Threshold=90,
        ComparisonOperator="GreaterThanThreshold",
    )
    trust = {"Version": "2012-10-17", "Statement": []}
    iam.create_role(RoleName=f"dagster-local-{FOREIGN}", AssumeRolePolicyDocument=json.dumps(trust))
    iam.create_user(UserName=f"dagster-local-{FOREIGN}")
    client("elbv2").create_load_balancer(Name=FOREIGN, Subnets=subnets, SecurityGroups=[group])
    ecs.create_cluster(clusterName=f"dagster-local-{FOREIGN}")
    container = {"name": "daemon", "image": "busybox", "memory": 128}
    definition = ecs.register_task_definition(
        family=f"dagster-local-daemon-{FOREIGN}", containerDefinitions=[container]
    )
    ecs.create_service(
        cluster=f"dagster-local-{FOREIGN}",
        serviceName="daemon",
        taskDefinition=definition["taskDefinition"]["taskDefinitionArn"],
        desiredCount=0,
    )
    client("rds").create_db_subnet_group(DBSubnetGroupName=FOREIGN, DBSubnetGroupDescription=FOREIGN, SubnetIds=subnets)


def differences(before: Account, after: Account) -> list[str]:
    """Return one line for each resource that appeared or disappeared."""
    lines = []
    for kind in KINDS:
        lines += [f"left over: {kind} {name}" for name in after[kind] if name not in before[kind]]
        lines += [f"wrongly removed: {kind} {name}" for name in before[kind] if name not in after[kind]]
    return lines


def main(action: str, file: Path) -> int:
    """Prepare or compare the account."""
    if action == "prepare":
        make_foreign_resources()
        file.write_text(json.dumps(snapshot(), indent=1))
        return 0
    lines = differences(json.loads(file.read_text()), snapshot())
    print("\n".join(lines) or "The account is as it was.")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
