"""VPC, subnets, routes, security groups, NAT instance, endpoint of S3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.integration.drift.tables.common import NAME, STRANGE_TAG, Clients, Drift, tag_dict

ANYWHERE = "0.0.0.0/0"


def named(aws: Clients, operation: str, result: str, name: str) -> dict[str, Any]:
    """Return the one resource of EC2 of a name."""
    answer = getattr(aws("ec2"), operation)(Filters=[{"Name": "tag:Name", "Values": [f"{NAME}{name}"]}])
    return dict(answer[result][0])


def vpc(aws: Clients) -> dict[str, Any]:
    return named(aws, "describe_vpcs", "Vpcs", "")


def subnet(aws: Clients, name: str) -> dict[str, Any]:
    return named(aws, "describe_subnets", "Subnets", f"-{name}")


def group(aws: Clients, name: str) -> dict[str, Any]:
    return named(aws, "describe_security_groups", "SecurityGroups", f"-{name}")


def _default_group(aws: Clients) -> dict[str, Any]:
    filters = [{"Name": "vpc-id", "Values": [vpc(aws)["VpcId"]]}, {"Name": "group-name", "Values": ["default"]}]
    return dict(aws("ec2").describe_security_groups(Filters=filters)["SecurityGroups"][0])


def _table(aws: Clients, name: str) -> dict[str, Any]:
    return named(aws, "describe_route_tables", "RouteTables", f"-{name}")


def _gateway(aws: Clients) -> dict[str, Any]:
    return named(aws, "describe_internet_gateways", "InternetGateways", "-internet")


def _default_route(aws: Clients, name: str) -> dict[str, Any] | None:
    routes = [item for item in _table(aws, name)["Routes"] if item.get("DestinationCidrBlock") == ANYWHERE]
    return dict(routes[0]) if routes else None


def _forget_default_route(name: str) -> Callable[[Clients], object]:
    return lambda aws: aws("ec2").delete_route(
        RouteTableId=_table(aws, name)["RouteTableId"], DestinationCidrBlock=ANYWHERE
    )


def _subnets_of(aws: Clients, table: str) -> list[str]:
    return sorted(item["SubnetId"] for item in _table(aws, table)["Associations"] if "SubnetId" in item)


def _move_subnet(aws: Clients) -> object:
    (association,) = (
        item["RouteTableAssociationId"]
        for item in _table(aws, "private")["Associations"]
        if item.get("SubnetId") == subnet(aws, "private-1")["SubnetId"]
    )
    return aws("ec2").replace_route_table_association(
        AssociationId=association, RouteTableId=_table(aws, "public")["RouteTableId"]
    )


def _nat(aws: Clients) -> dict[str, Any]:
    reservations = aws("ec2").describe_instances(
        Filters=[
            {"Name": "tag:Name", "Values": [f"{NAME}-nat"]},
            {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
        ]
    )["Reservations"]
    return dict(reservations[0]["Instances"][0])


def _volume(aws: Clients) -> str:
    return str(_nat(aws)["BlockDeviceMappings"][0]["Ebs"]["VolumeId"])


def _interface(aws: Clients) -> str:
    return str(_nat(aws)["NetworkInterfaces"][0]["NetworkInterfaceId"])


def _credits(aws: Clients) -> list[dict[str, str]]:
    answer = aws("ec2").describe_instance_credit_specifications(InstanceIds=[_nat(aws)["InstanceId"]])
    return list(answer["InstanceCreditSpecifications"])


def _spend_credits(aws: Clients) -> object:
    specification = {"InstanceId": _nat(aws)["InstanceId"], "CpuCredits": "unlimited"}
    return aws("ec2").modify_instance_credit_specification(InstanceCreditSpecifications=[specification])


def _modify_nat(**settings: Any) -> Callable[[Clients], object]:
    return lambda aws: aws("ec2").modify_instance_attribute(InstanceId=_nat(aws)["InstanceId"], **settings)


def _resize_nat(aws: Clients) -> object:
    instance = _nat(aws)["InstanceId"]
    aws("ec2").stop_instances(InstanceIds=[instance])
    aws("ec2").modify_instance_attribute(InstanceId=instance, InstanceType={"Value": "t4g.2xlarge"})
    return aws("ec2").start_instances(InstanceIds=[instance])


def _tags_of(aws: Clients, resource: str) -> dict[str, str]:
    return tag_dict(aws("ec2").describe_tags(Filters=[{"Name": "resource-id", "Values": [resource]}])["Tags"])


def _tags(kind: str, resource: Callable[[Clients], str]) -> Drift:
    return Drift(
        kind,
        "tags",
        lambda aws: aws("ec2").create_tags(Resources=[resource(aws)], Tags=[STRANGE_TAG]),
        lambda aws: _tags_of(aws, resource(aws)),
    )


def _allow_everybody(aws: Clients, group_id: str) -> object:
    return aws("ec2").authorize_security_group_ingress(
        GroupId=group_id,
        IpPermissions=[{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": ANYWHERE}]}],
    )


def _rules(group: dict[str, Any], direction: str) -> list[Any]:
    return sorted(
        (item["IpProtocol"], item.get("FromPort"), peer.get("CidrIp", peer.get("GroupId")))
        for item in group[direction]
        for peer in (*item["IpRanges"], *item["UserIdGroupPairs"])
    )


def _forget_outbound(aws: Clients, name: str) -> object:
    found = group(aws, name)
    permissions = [{key: item for key, item in rule.items() if item != []} for rule in found["IpPermissionsEgress"]]
    return aws("ec2").revoke_security_group_egress(GroupId=found["GroupId"], IpPermissions=permissions)


def _attribute(name: str) -> Drift:
    attribute, result = f"enable{name}", f"Enable{name}"
    return Drift(
        "vpc",
        {"DnsSupport": "dns_support", "DnsHostnames": "dns_hostnames"}[name],
        lambda aws: aws("ec2").modify_vpc_attribute(VpcId=vpc(aws)["VpcId"], **{result: {"Value": False}}),
        lambda aws: aws("ec2").describe_vpc_attribute(VpcId=vpc(aws)["VpcId"], Attribute=attribute)[result],
    )


def _endpoint(aws: Clients) -> dict[str, Any]:
    return named(aws, "describe_vpc_endpoints", "VpcEndpoints", "-s3")


TABLE: tuple[Drift, ...] = (
    _tags("vpc", lambda aws: str(vpc(aws)["VpcId"])),
    _attribute("DnsSupport"),
    _attribute("DnsHostnames"),
    _tags("subnet", lambda aws: str(subnet(aws, "public-2")["SubnetId"])),
    Drift(
        "subnet",
        "map_public_ip_on_launch",
        lambda aws: aws("ec2").modify_subnet_attribute(
            SubnetId=subnet(aws, "private-1")["SubnetId"], MapPublicIpOnLaunch={"Value": True}
        ),
        lambda aws: subnet(aws, "private-1")["MapPublicIpOnLaunch"],
    ),
    _tags("internet-gateway", lambda aws: str(_gateway(aws)["InternetGatewayId"])),
    Drift(
        "internet-gateway",
        "attached_to",
        lambda aws: aws("ec2").detach_internet_gateway(
            InternetGatewayId=_gateway(aws)["InternetGatewayId"], VpcId=vpc(aws)["VpcId"]
        ),
        lambda aws: [item["VpcId"] for item in _gateway(aws)["Attachments"]],
    ),
    _tags("security-group", lambda aws: str(group(aws, "webserver")["GroupId"])),
    Drift(
        "security-group",
        "inbound",
        lambda aws: _allow_everybody(aws, group(aws, "database")["GroupId"]),
        lambda aws: _rules(group(aws, "database"), "IpPermissions"),
    ),
    Drift(
        "security-group",
        "outbound",
        lambda aws: _forget_outbound(aws, "daemon"),
        lambda aws: _rules(group(aws, "daemon"), "IpPermissionsEgress"),
    ),
    Drift(
        "security-group",
        "outbound",
        lambda aws: aws("ec2").authorize_security_group_egress(
            GroupId=_default_group(aws)["GroupId"],
            IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": ANYWHERE}]}],
        ),
        lambda aws: _rules(_default_group(aws), "IpPermissionsEgress"),
    ),
    _tags("route-table", lambda aws: str(_table(aws, "private")["RouteTableId"])),
    Drift(
        "route-table",
        "subnets",
        _move_subnet,
        lambda aws: [_subnets_of(aws, table) for table in ("public", "private")],
    ),
    Drift(
        "route-table",
        "default_route",
        _forget_default_route("public"),
        lambda aws: _default_route(aws, "public"),
    ),
    Drift(
        "route-table",
        "state",
        _forget_default_route("private"),
        lambda aws: _default_route(aws, "private"),
    ),
    _tags("nat-instance", lambda aws: str(_nat(aws)["InstanceId"])),
    _tags("volume", _volume),
    _tags("network-interface", _interface),
    Drift(
        "nat-instance",
        "source_dest_check",
        _modify_nat(SourceDestCheck={"Value": True}),
        lambda aws: _nat(aws)["SourceDestCheck"],
    ),
    Drift(
        "nat-instance",
        "security_groups",
        lambda aws: _modify_nat(Groups=[group(aws, "alb")["GroupId"]])(aws),
        lambda aws: [item["GroupId"] for item in _nat(aws)["NetworkInterfaces"][0]["Groups"]],
    ),
    Drift(
        "nat-instance",
        "metadata",
        lambda aws: aws("ec2").modify_instance_metadata_options(
            InstanceId=_nat(aws)["InstanceId"], HttpTokens="optional", HttpPutResponseHopLimit=2
        ),
        lambda aws: [_nat(aws)["MetadataOptions"][key] for key in ("HttpTokens", "HttpPutResponseHopLimit")],
    ),
    Drift("nat-instance", "cpu_credits", _spend_credits, _credits),
    Drift(
        "nat-instance",
        "instance_type",
        _resize_nat,
        lambda aws: _nat(aws)["InstanceType"],
    ),
    Drift(
        "nat-instance",
        "state",
        lambda aws: aws("ec2").stop_instances(InstanceIds=[_nat(aws)["InstanceId"]]),
        lambda aws: _nat(aws)["State"]["Name"],
    ),
    _tags("vpc-endpoint", lambda aws: str(_endpoint(aws)["VpcEndpointId"])),
    Drift(
        "vpc-endpoint",
        "route_tables",
        lambda aws: aws("ec2").modify_vpc_endpoint(
            VpcEndpointId=_endpoint(aws)["VpcEndpointId"], RemoveRouteTableIds=[_table(aws, "private")["RouteTableId"]]
        ),
        lambda aws: sorted(_endpoint(aws)["RouteTableIds"]),
    ),
)
