"""The network: what is made, that drift is repaired, that nothing foreign is touched."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from module_utils.aws_network import Network, ensure_network, remove_network
from module_utils.aws_network_base import NetworkClients, NetworkSpec
from module_utils.aws_plan import Plan, Refusal

SPEC = NetworkSpec(
    platform="lab",
    cidr="10.42.0.0/16",
    public_cidrs=("10.42.0.0/24", "10.42.1.0/24"),
    private_cidrs=("10.42.16.0/24", "10.42.17.0/24"),
    region="us-east-1",
    egress="nat_instance",
    nat_instance_type="t4g.nano",
    nat_image_parameter="/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64",
    ui_ports=(443,),
    ui_cidrs=("198.51.100.0/24",),
    tags={"project": "lab", "owner": "me"},
)
ANYWHERE = "0.0.0.0/0"


def clients(aws: Any) -> NetworkClients:
    return NetworkClients(aws.ec2, aws.ssm)


def converge(aws: Any, spec: NetworkSpec = SPEC) -> tuple[Network, list[dict[str, Any]]]:
    def make() -> tuple[Network, list[dict[str, Any]]]:
        plan = Plan()
        return ensure_network(clients(aws), spec, plan), plan.changes

    return aws.once(("network", repr(spec)), make)  # type: ignore[no-any-return]


def by_name(items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {next((tag["Value"] for tag in item.get("Tags", []) if tag["Key"] == "Name"), ""): item for item in items}


@pytest.mark.parametrize("egress", ["nat_instance", "nat_gateway", "vpc_endpoints", "public_ip"])
def test_second_run_changes_nothing(aws: Any, egress: str) -> None:
    spec = dataclasses.replace(SPEC, egress=egress)
    first, changes = converge(aws, spec)
    assert changes
    second, changes = converge(aws, spec)
    assert changes == []
    assert second == first


@pytest.mark.parametrize("egress", ["nat_instance", "nat_gateway", "vpc_endpoints", "public_ip"])
def test_preview_of_an_empty_account_names_what_is_made(aws: Any, egress: str) -> None:
    spec = dataclasses.replace(SPEC, egress=egress)
    preview = Plan(check_mode=True)
    network = ensure_network(clients(aws), spec, preview)
    assert network.vpc_id == "pending:vpc/lab"
    assert aws.ec2.describe_vpcs(Filters=[{"Name": "tag:dagster-platform", "Values": ["lab"]}])["Vpcs"] == []
    _, changes = converge(aws, spec)

    def created(entries: list[dict[str, Any]]) -> list[tuple[str, str]]:
        return sorted((entry["kind"], entry["name"]) for entry in entries if entry["action"] == "create")

    assert created(preview.changes) == created(changes)


def test_subnets_lie_in_two_zones_and_give_no_public_addresses(aws: Any) -> None:
    network, _ = converge(aws)
    subnets = aws.ec2.describe_subnets(SubnetIds=[*network.public_subnet_ids, *network.private_subnet_ids])
    found = by_name(subnets["Subnets"])
    assert {name: (subnet["CidrBlock"], subnet["AvailabilityZone"]) for name, subnet in found.items()} == {
        "lab-public-1": ("10.42.0.0/24", "us-east-1a"),
        "lab-public-2": ("10.42.1.0/24", "us-east-1b"),
        "lab-private-1": ("10.42.16.0/24", "us-east-1a"),
        "lab-private-2": ("10.42.17.0/24", "us-east-1b"),
    }
    assert not any(subnet["MapPublicIpOnLaunch"] for subnet in found.values())


def test_routes(aws: Any) -> None:
    network, _ = converge(aws)
    tables = by_name(aws.ec2.describe_route_tables()["RouteTables"])
    public = {route.get("DestinationCidrBlock"): route for route in tables["lab-public"]["Routes"]}
    private = {route.get("DestinationCidrBlock"): route for route in tables["lab-private"]["Routes"]}
    assert public[ANYWHERE]["GatewayId"].startswith("igw-")
    instance = aws.ec2.describe_instances()["Reservations"][0]["Instances"][0]
    assert private[ANYWHERE]["NetworkInterfaceId"] == instance["NetworkInterfaces"][0]["NetworkInterfaceId"]
    endpoint = aws.ec2.describe_vpc_endpoints()["VpcEndpoints"][0]
    assert endpoint["ServiceName"] == "com.amazonaws.us-east-1.s3"
    assert sorted(endpoint["RouteTableIds"]) == sorted(
        tables[name]["RouteTableId"] for name in ("lab-public", "lab-private")
    )
    associated = {
        name: sorted(link["SubnetId"] for link in tables[f"lab-{name}"]["Associations"])
        for name in ("public", "private")
    }
    assert associated == {
        "public": sorted(network.public_subnet_ids),
        "private": sorted(network.private_subnet_ids),
    }


def test_nothing_else_comes_in(aws: Any) -> None:
    """Every inbound rule in the whole VPC, read back from AWS."""
    network, _ = converge(aws)
    groups = aws.ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [network.vpc_id]}])
    names = {group["GroupId"]: group["GroupName"] for group in groups["SecurityGroups"]}
    inbound = {
        (
            group["GroupName"],
            permission["IpProtocol"],
            permission.get("FromPort"),
            permission.get("ToPort"),
            names.get(peer.get("GroupId"), peer.get("CidrIp")),
        )
        for group in groups["SecurityGroups"]
        for permission in group["IpPermissions"]
        for key in ("IpRanges", "Ipv6Ranges", "PrefixListIds", "UserIdGroupPairs")
        for peer in permission.get(key, [])
    }
    assert inbound == {
        ("lab-alb", "tcp", 443, 443, "198.51.100.0/24"),
        ("lab-webserver", "tcp", 3000, 3000, "lab-alb"),
        ("lab-database", "tcp", 5432, 5432, "lab-webserver"),
        ("lab-database", "tcp", 5432, 5432, "lab-daemon"),
        ("lab-file-system", "tcp", 2049, 2049, "lab-webserver"),
        ("lab-file-system", "tcp", 2049, 2049, "lab-daemon"),
        ("lab-nat", "-1", None, None, "lab-webserver"),
        ("lab-nat", "-1", None, None, "lab-daemon"),
    }
    silent = {group["GroupName"] for group in groups["SecurityGroups"] if not group["IpPermissionsEgress"]}
    assert silent == {"default", "lab-database", "lab-file-system"}


def test_everything_is_tagged(aws: Any) -> None:
    converge(aws, dataclasses.replace(SPEC, egress="nat_gateway"))
    wanted = {"project": "lab", "owner": "me", "dagster-platform": "lab"}
    for operation, key in (
        ("describe_vpcs", "Vpcs"),
        ("describe_subnets", "Subnets"),
        ("describe_route_tables", "RouteTables"),
        ("describe_internet_gateways", "InternetGateways"),
        ("describe_vpc_endpoints", "VpcEndpoints"),
        ("describe_security_groups", "SecurityGroups"),
        ("describe_nat_gateways", "NatGateways"),
        ("describe_addresses", "Addresses"),
    ):
        tagged = [
            {tag["Key"]: tag["Value"] for tag in item.get("Tags", [])} for item in getattr(aws.ec2, operation)()[key]
        ]
        ours = [tags for tags in tagged if tags.get("Name", "").startswith("lab")]
        assert ours, operation
        assert all(wanted.items() <= tags.items() for tags in ours), operation


def group_id(aws: Any, name: str) -> str:
    answer = aws.ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [name]}])
    return str(answer["SecurityGroups"][0]["GroupId"])


def open_ssh(aws: Any, _: Network) -> None:
    aws.ec2.authorize_security_group_ingress(
        GroupId=group_id(aws, "lab-webserver"),
        IpPermissions=[{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": ANYWHERE}]}],
    )


def open_ipv6(aws: Any, _: Network) -> None:
    aws.ec2.authorize_security_group_ingress(
        GroupId=group_id(aws, "lab-database"),
        IpPermissions=[{"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}],
    )


def close_database(aws: Any, network: Network) -> None:
    group = aws.ec2.describe_security_groups(GroupIds=[network.security_group_ids["database"]])
    aws.ec2.revoke_security_group_ingress(
        GroupId=network.security_group_ids["database"],
        IpPermissions=group["SecurityGroups"][0]["IpPermissions"],
    )


def let_file_system_out(aws: Any, network: Network) -> None:
    aws.ec2.authorize_security_group_egress(
        GroupId=network.security_group_ids["file_system"],
        IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": ANYWHERE}]}],
    )


def untag_subnet(aws: Any, network: Network) -> None:
    aws.ec2.delete_tags(Resources=[network.public_subnet_ids[0]], Tags=[{"Key": "owner"}])


def retag_vpc(aws: Any, network: Network) -> None:
    aws.ec2.create_tags(Resources=[network.vpc_id], Tags=[{"Key": "owner", "Value": "thief"}])


def dns_off(aws: Any, network: Network) -> None:
    aws.ec2.modify_vpc_attribute(VpcId=network.vpc_id, EnableDnsHostnames={"Value": False})


def public_addresses_on(aws: Any, network: Network) -> None:
    aws.ec2.modify_subnet_attribute(SubnetId=network.private_subnet_ids[0], MapPublicIpOnLaunch={"Value": True})


def tables(aws: Any) -> dict[str, dict[str, Any]]:
    return by_name(aws.ec2.describe_route_tables()["RouteTables"])


def private_route_to_internet(aws: Any, _: Network) -> None:
    gateway = aws.ec2.describe_internet_gateways()["InternetGateways"][0]["InternetGatewayId"]
    aws.ec2.replace_route(
        RouteTableId=tables(aws)["lab-private"]["RouteTableId"],
        DestinationCidrBlock=ANYWHERE,
        GatewayId=gateway,
    )


def public_route_gone(aws: Any, _: Network) -> None:
    aws.ec2.delete_route(RouteTableId=tables(aws)["lab-public"]["RouteTableId"], DestinationCidrBlock=ANYWHERE)


def subnet_in_wrong_table(aws: Any, network: Network) -> None:
    association = next(
        link["RouteTableAssociationId"]
        for link in tables(aws)["lab-private"]["Associations"]
        if link["SubnetId"] == network.private_subnet_ids[1]
    )
    aws.ec2.replace_route_table_association(
        AssociationId=association, RouteTableId=tables(aws)["lab-public"]["RouteTableId"]
    )


def gateway_detached(aws: Any, network: Network) -> None:
    gateway = aws.ec2.describe_internet_gateways()["InternetGateways"][0]["InternetGatewayId"]
    aws.ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=network.vpc_id)


def endpoint_gone(aws: Any, _: Network) -> None:
    endpoint = aws.ec2.describe_vpc_endpoints()["VpcEndpoints"][0]["VpcEndpointId"]
    aws.ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint])


def endpoint_lost_a_table(aws: Any, _: Network) -> None:
    aws.ec2.modify_vpc_endpoint(
        VpcEndpointId=aws.ec2.describe_vpc_endpoints()["VpcEndpoints"][0]["VpcEndpointId"],
        RemoveRouteTableIds=[tables(aws)["lab-private"]["RouteTableId"]],
    )


def instance_id(aws: Any) -> str:
    return str(aws.ec2.describe_instances()["Reservations"][0]["Instances"][0]["InstanceId"])


def nat_stopped(aws: Any, _: Network) -> None:
    aws.ec2.stop_instances(InstanceIds=[instance_id(aws)])


def nat_checks_sources(aws: Any, _: Network) -> None:
    aws.ec2.modify_instance_attribute(InstanceId=instance_id(aws), SourceDestCheck={"Value": True})


def nat_terminated(aws: Any, _: Network) -> None:
    aws.ec2.terminate_instances(InstanceIds=[instance_id(aws)])


DRIFT: dict[str, tuple[Callable[[Any, Network], None], str]] = {
    "inbound rule added": (open_ssh, "security-group"),
    "inbound IPv6 rule added": (open_ipv6, "security-group"),
    "inbound rules removed": (close_database, "security-group"),
    "outbound rule added": (let_file_system_out, "security-group"),
    "tag removed": (untag_subnet, "subnet"),
    "tag changed": (retag_vpc, "vpc"),
    "DNS host names off": (dns_off, "vpc"),
    "public addresses in a private subnet": (public_addresses_on, "subnet"),
    "private route to the internet": (private_route_to_internet, "route-table"),
    "public route removed": (public_route_gone, "route-table"),
    "subnet in the wrong table": (subnet_in_wrong_table, "route-table"),
    "internet gateway detached": (gateway_detached, "internet-gateway"),
    "S3 endpoint removed": (endpoint_gone, "vpc-endpoint"),
    "S3 endpoint lost a table": (endpoint_lost_a_table, "vpc-endpoint"),
    "NAT instance stopped": (nat_stopped, "nat-instance"),
    "NAT instance checks sources": (nat_checks_sources, "nat-instance"),
    "NAT instance terminated": (nat_terminated, "nat-instance"),
}


@pytest.mark.parametrize("case", DRIFT)
def test_drift_is_previewed_repaired_and_gone(aws: Any, case: str) -> None:
    drift, kind = DRIFT[case]
    network, _ = converge(aws)
    drift(aws, network)
    preview = Plan(check_mode=True)
    ensure_network(clients(aws), SPEC, preview)
    assert kind in {change["kind"] for change in preview.changes}
    repaired, changes = converge(aws)
    assert kind in {change["kind"] for change in changes}
    assert repaired == network
    assert converge(aws)[1] == []


def retag(operation: str, result: str, key: str, **choice: str) -> Callable[[Any], None]:
    """Change a tag of the first resource that a Describe operation returns and that has these members."""

    def act(aws: Any) -> None:
        items = getattr(aws.ec2, operation)()[result]
        found = next(item for item in items if choice.items() <= item.items())
        aws.ec2.create_tags(Resources=[found[key]], Tags=[{"Key": "owner", "Value": "thief"}])

    return act


def blackhole(aws: Any) -> None:
    table = tables(aws)["lab-private"]["RouteTableId"]
    aws.ec2.delete_route(RouteTableId=table, DestinationCidrBlock=ANYWHERE)


def interface(aws: Any) -> dict[str, Any]:
    return next(item for item in endpoints_of(aws) if item["ServiceName"].endswith(".logs"))


def endpoint_lost_a_subnet(aws: Any) -> None:
    found = interface(aws)
    aws.ec2.modify_vpc_endpoint(VpcEndpointId=found["VpcEndpointId"], RemoveSubnetIds=found["SubnetIds"][:1])


def endpoint_in_another_group(aws: Any) -> None:
    aws.ec2.modify_vpc_endpoint(
        VpcEndpointId=interface(aws)["VpcEndpointId"],
        AddSecurityGroupIds=[group_id(aws, "lab-daemon")],
        RemoveSecurityGroupIds=[group_id(aws, "lab-endpoints")],
    )


def interface_gone(aws: Any) -> None:
    aws.ec2.delete_vpc_endpoints(VpcEndpointIds=[interface(aws)["VpcEndpointId"]])


OTHER_DRIFT: dict[str, tuple[str, Callable[[Any], None], str]] = {
    "gateway's tags": ("nat_gateway", retag("describe_nat_gateways", "NatGateways", "NatGatewayId"), "nat-gateway"),
    "address's tags": ("nat_gateway", retag("describe_addresses", "Addresses", "AllocationId"), "elastic-ip"),
    "route to the gateway": ("nat_gateway", blackhole, "route-table"),
    "endpoint's subnets": ("vpc_endpoints", endpoint_lost_a_subnet, "vpc-endpoint"),
    "endpoint's groups": ("vpc_endpoints", endpoint_in_another_group, "vpc-endpoint"),
    "endpoint's tags": (
        "vpc_endpoints",
        retag("describe_vpc_endpoints", "VpcEndpoints", "VpcEndpointId", VpcEndpointType="Interface"),
        "vpc-endpoint",
    ),
    "missing endpoint": ("vpc_endpoints", interface_gone, "vpc-endpoint"),
}
"""What the default topology does not have, and tests/integration/drift therefore does not change."""


@pytest.mark.parametrize("case", OTHER_DRIFT)
def test_drift_of_other_ways_out_is_repaired(aws: Any, case: str) -> None:
    egress, drift, kind = OTHER_DRIFT[case]
    spec = dataclasses.replace(SPEC, egress=egress)
    converge(aws, spec)
    drift(aws)
    preview = Plan(check_mode=True)
    ensure_network(clients(aws), spec, preview)
    _, changes = converge(aws, spec)
    assert [change["kind"] for change in preview.changes] == [change["kind"] for change in changes] == [kind]
    assert converge(aws, spec)[1] == []


def test_another_type_of_nat_instance_gets_its_credits_at_once(aws: Any) -> None:
    converge(aws, dataclasses.replace(SPEC, nat_instance_type="m7g.medium"))
    aws.ec2.modify_instance_credit_specification(
        InstanceCreditSpecifications=[{"InstanceId": instance_id(aws), "CpuCredits": "unlimited"}]
    )
    converge(aws)
    assert converge(aws)[1] == []


EGRESS = ("nat_instance", "nat_gateway", "vpc_endpoints", "public_ip")
WAY_OUT = {"nat_instance": "nat-instance", "nat_gateway": "nat-gateway", "vpc_endpoints": "vpc-endpoint"}


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(EGRESS, 2)))
def test_egress_can_be_changed(aws: Any, before: str, after: str) -> None:
    """The new way out comes first; the old one stays until the clean-up, when the tasks have moved."""
    converge(aws, dataclasses.replace(SPEC, egress=before))
    wanted = dataclasses.replace(SPEC, egress=after)
    preview = Plan(check_mode=True)
    ensure_network(clients(aws), wanted, preview, clean_up=False)
    plan = Plan()
    network = ensure_network(clients(aws), wanted, plan, clean_up=False)
    assert not [change for change in plan.changes if change["action"] == "remove"]
    assert bool(network.leftover) == (before != "public_ip")
    assert [kind for kind in WAY_OUT.values() if any(text.startswith(kind) for text in network.leftover)] == [
        WAY_OUT[before] for _ in [0] if before in WAY_OUT
    ]
    finished = Plan()
    assert ensure_network(clients(aws), wanted, finished).leftover == []

    def summary(changes: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
        return sorted((change["action"], change["kind"], change["name"]) for change in changes)

    # What the preview has shown is what the two calls did.
    assert summary(preview.changes) == summary([*plan.changes, *finished.changes])
    assert converge(aws, wanted)[1] == []
    if after != "nat_gateway":
        assert aws.ec2.describe_addresses()["Addresses"] == []
    if after in ("vpc_endpoints", "public_ip"):
        assert not any(route.get("DestinationCidrBlock") == ANYWHERE for route in tables(aws)["lab-private"]["Routes"])


def test_tasks_with_public_addresses_are_in_public_subnets(aws: Any) -> None:
    network, _ = converge(aws, dataclasses.replace(SPEC, egress="public_ip"))
    assert (network.task_subnet_ids, network.assign_public_ip) == (network.public_subnet_ids, True)
    network, _ = converge(aws)
    assert (network.task_subnet_ids, network.assign_public_ip) == (network.private_subnet_ids, False)


def test_endpoints_of_what_tasks_call(aws: Any) -> None:
    network, _ = converge(aws, dataclasses.replace(SPEC, egress="vpc_endpoints", ecs_exec=True))
    endpoints = {item["ServiceName"].split("us-east-1.")[1]: item for item in endpoints_of(aws)}
    assert set(endpoints) == {"s3", "ecr.api", "ecr.dkr", "logs", "secretsmanager", "ssmmessages"}
    assert endpoints.pop("s3")["VpcEndpointType"] == "Gateway"
    for endpoint in endpoints.values():
        assert endpoint["PrivateDnsEnabled"] is True
        assert sorted(endpoint["SubnetIds"]) == sorted(network.private_subnet_ids)
        assert [group["GroupId"] for group in endpoint["Groups"]] == [group_id(aws, "lab-endpoints")]
    (permission,) = group(aws, "lab-endpoints")["IpPermissions"]
    assert (permission["FromPort"], permission["ToPort"]) == (443, 443)
    peers = {pair["GroupId"] for pair in permission["UserIdGroupPairs"]}
    assert peers == {network.security_group_ids[key] for key in ("webserver", "daemon")}
    _, changes = converge(aws, dataclasses.replace(SPEC, egress="vpc_endpoints"))
    assert [(change["action"], change["name"]) for change in changes] == [("remove", "lab-ssmmessages")]


def endpoints_of(aws: Any) -> list[dict[str, Any]]:
    found = aws.ec2.describe_vpc_endpoints()["VpcEndpoints"]
    return [item for item in found if item["State"].lower() not in ("deleting", "deleted")]


def group(aws: Any, name: str) -> dict[str, Any]:
    (found,) = aws.ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [name]}])["SecurityGroups"]
    return dict(found)


def test_without_a_load_balancer_only_named_ranges_reach_the_webserver(aws: Any) -> None:
    converge(aws)
    spec = dataclasses.replace(SPEC, load_balancer=False, ui_ports=(), ui_cidrs=("10.0.0.0/8",))
    network, _ = converge(aws, spec)
    assert set(network.security_group_ids) == {"webserver", "daemon", "database", "file_system"}
    assert "lab-alb" not in {item["GroupName"] for item in aws.ec2.describe_security_groups()["SecurityGroups"]}
    (permission,) = group(aws, "lab-webserver")["IpPermissions"]
    assert (permission["FromPort"], [peer["CidrIp"] for peer in permission["IpRanges"]]) == (3000, ["10.0.0.0/8"])
    assert permission["UserIdGroupPairs"] == []
    assert converge(aws, spec)[1] == []
    assert "alb" in converge(aws)[0].security_group_ids


def test_a_load_balancer_that_asks_for_a_log_in_reaches_the_identity_provider(aws: Any) -> None:
    converge(aws, dataclasses.replace(SPEC, ui_authentication=True))
    ports = {item["FromPort"]: item for item in group(aws, "lab-alb")["IpPermissionsEgress"]}
    assert set(ports) == {3000, 443}
    assert [peer["CidrIp"] for peer in ports[443]["IpRanges"]] == [ANYWHERE]


@dataclasses.dataclass
class Theirs:
    """A VPC that somebody else has made."""

    vpc: str
    public: tuple[str, ...]
    private: tuple[str, ...]
    public_table: str
    private_table: str

    def spec(self, **settings: Any) -> NetworkSpec:
        given = {"existing_public_subnet_ids": self.public, "existing_private_subnet_ids": self.private}
        return dataclasses.replace(SPEC, **{"existing_vpc_id": self.vpc, **given, "egress": "existing", **settings})


@pytest.fixture
def theirs(aws: Any) -> Theirs:
    return aws.once("their VPC", lambda: make_theirs(aws.ec2))  # type: ignore[no-any-return]


def make_theirs(ec2: Any) -> Theirs:
    vpc = ec2.create_vpc(CidrBlock="10.80.0.0/16")["Vpc"]["VpcId"]
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.80.{number}.0/24", AvailabilityZone=f"us-east-1{zone}")
        for number, zone in enumerate("abab")
    ]
    ids = [subnet["Subnet"]["SubnetId"] for subnet in subnets]
    found = [ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"] for _ in range(2)]
    for index, subnet in enumerate(ids):
        ec2.associate_route_table(RouteTableId=found[index // 2], SubnetId=subnet)
    ec2.create_route(RouteTableId=found[0], DestinationCidrBlock=ANYWHERE, GatewayId=gateway)
    return Theirs(vpc, tuple(ids[:2]), tuple(ids[2:]), found[0], found[1])


@pytest.mark.parametrize("egress", ["existing", "public_ip", "vpc_endpoints"])
def test_subnets_of_yours_are_used_and_left_as_they_are(aws: Any, theirs: Theirs, egress: str) -> None:
    if egress == "vpc_endpoints":
        aws.ec2.create_vpc_endpoint(
            VpcId=theirs.vpc, ServiceName="com.amazonaws.us-east-1.s3", RouteTableIds=[theirs.private_table]
        )
    before = snapshot(aws)
    network, changes = converge(aws, theirs.spec(egress=egress))
    assert network.vpc_id == theirs.vpc
    assert network.private_subnet_ids == list(theirs.private)
    assert network.task_subnet_ids == list(theirs.public if egress == "public_ip" else theirs.private)
    kinds = {change["kind"] for change in changes}
    assert kinds == {"security-group"} | ({"vpc-endpoint"} if egress == "vpc_endpoints" else set())
    assert converge(aws, theirs.spec(egress=egress))[1] == []
    plan = Plan()
    remove_network(clients(aws), "lab", "us-east-1", plan)
    assert snapshot(aws) == before


@pytest.mark.parametrize("egress", EGRESS)
def test_subnets_of_the_platform_in_a_vpc_of_yours(aws: Any, theirs: Theirs, egress: str) -> None:
    before = snapshot(aws)
    spec = theirs.spec(
        egress=egress,
        existing_public_subnet_ids=(),
        existing_private_subnet_ids=(),
        public_cidrs=("10.80.10.0/24", "10.80.11.0/24"),
        private_cidrs=("10.80.12.0/24", "10.80.13.0/24"),
    )
    _, changes = converge(aws, spec)
    assert not {"vpc", "internet-gateway"} & {change["kind"] for change in changes}
    assert converge(aws, spec)[1] == []
    remove_network(clients(aws), "lab", "us-east-1", Plan())
    assert snapshot(aws) == before


def _other_zone(theirs: Theirs) -> dict[str, Any]:
    return {"existing_private_subnet_ids": (theirs.private[0], theirs.public[0])}


WRONG: dict[str, tuple[Callable[[Theirs], dict[str, Any]], str]] = {
    "no such VPC": (lambda _: {"existing_vpc_id": "vpc-0123456789abcdef0"}, "there is no such VPC in us-east-1"),
    "no such subnet": (
        lambda theirs: {"existing_private_subnet_ids": (theirs.private[0], "subnet-0123456789abcdef0")},
        "subnet-0123456789abcdef0 not found in the VPC vpc-",
    ),
    "one zone": (_other_zone, r"2 subnets in 1 availability zone\(s\) \(us-east-1a\)"),
    "public subnets without an internet gateway": (
        lambda theirs: {"egress": "public_ip", "existing_public_subnet_ids": theirs.private},
        "has no route for 0.0.0.0/0 to an internet gateway",
    ),
    "no way to S3": (
        lambda _: {"egress": "vpc_endpoints"},
        "no route leads from the subnets .* to S3.*create-vpc-endpoint.*--route-table-ids rtb-",
    ),
    "range outside of the VPC": (
        lambda _: {"existing_public_subnet_ids": (), "existing_private_subnet_ids": ()},
        r"vpc_public_subnet_cidrs holds 10.42.0.0/24, which lies outside of what the VPC has \(10.80.0.0/16\)",
    ),
    "range that is taken": (
        lambda _: {
            "existing_public_subnet_ids": (),
            "existing_private_subnet_ids": (),
            "public_cidrs": ("10.80.0.0/24", "10.80.21.0/24"),
            "private_cidrs": ("10.80.22.0/24", "10.80.23.0/24"),
        },
        "vpc_public_subnet_cidrs holds 10.80.0.0/24, which overlaps the subnet subnet-",
    ),
}


@pytest.mark.parametrize(("wrong", "text"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_adopted_is_refused(
    aws: Any, theirs: Theirs, wrong: Callable[[Theirs], dict[str, Any]], text: str
) -> None:
    before = snapshot(aws)
    with pytest.raises(Refusal, match=text):
        converge(aws, theirs.spec(**wrong(theirs)))
    if "S3" not in text:
        assert snapshot(aws) == before or "internet gateway" in text
    preview = Plan(check_mode=True)
    try:
        ensure_network(clients(aws), theirs.spec(**wrong(theirs)), preview)
    except Refusal:
        return
    assert preview.obstacles


def test_dns_of_a_vpc_of_yours_is_not_changed(aws: Any, theirs: Theirs) -> None:
    aws.ec2.modify_vpc_attribute(VpcId=theirs.vpc, EnableDnsHostnames={"Value": False})
    with pytest.raises(Refusal, match=r"has enableDnsHostnames off.*modify-vpc-attribute --vpc-id vpc-"):
        converge(aws, theirs.spec())


def test_a_platform_does_not_move_to_another_vpc(aws: Any, theirs: Theirs) -> None:
    network, _ = converge(aws)
    with pytest.raises(Refusal, match=rf"is in the VPC {network.vpc_id} already.*Set vpc_existing_id to nothing"):
        converge(aws, theirs.spec())


def test_a_platform_does_not_leave_a_vpc_of_yours(aws: Any, theirs: Theirs) -> None:
    converge(aws, theirs.spec())
    with pytest.raises(Refusal, match=rf"is in the VPC {theirs.vpc} already.*Set vpc_existing_id to {theirs.vpc}"):
        converge(aws)


def test_a_group_of_somebody_else_is_not_taken(aws: Any, theirs: Theirs) -> None:
    aws.ec2.create_security_group(GroupName="lab-daemon", Description="theirs", VpcId=theirs.vpc)
    with pytest.raises(Refusal, match=r"'lab-daemon' \(sg-.*was not made for this platform"):
        converge(aws, theirs.spec())


def test_a_rule_of_somebody_else_that_names_our_groups_is_reported(aws: Any) -> None:
    network, _ = converge(aws)
    other = aws.ec2.create_security_group(GroupName="theirs", Description="theirs", VpcId=network.vpc_id)["GroupId"]
    aws.ec2.authorize_security_group_ingress(
        GroupId=other,
        IpPermissions=[
            {
                "IpProtocol": "tcp",
                "FromPort": 1,
                "ToPort": 1,
                "UserIdGroupPairs": [{"GroupId": network.security_group_ids["daemon"]}],
            }
        ],
    )
    preview = Plan(check_mode=True)
    remove_network(clients(aws), "lab", "us-east-1", preview)
    assert len(preview.obstacles) == 1
    assert "'theirs'" in preview.obstacles[0]


def test_changed_instance_type_restarts_the_nat_instance(aws: Any) -> None:
    converge(aws)
    bigger = dataclasses.replace(SPEC, nat_instance_type="t4g.micro")
    converge(aws, bigger)
    instance = aws.ec2.describe_instances()["Reservations"][0]["Instances"][0]
    assert (instance["InstanceType"], instance["State"]["Name"]) == ("t4g.micro", "running")
    assert converge(aws, bigger)[1] == []


def test_other_address_range_is_refused(aws: Any) -> None:
    converge(aws)
    with pytest.raises(
        Refusal, match=r"vpc_cidr is 10.99.0.0/16, but the VPC vpc-.* has 10.42.0.0/16.*Set vpc_cidr to"
    ):
        converge(aws, dataclasses.replace(SPEC, cidr="10.99.0.0/16"))


def test_unknown_zone_is_refused_with_the_choices(aws: Any) -> None:
    with pytest.raises(Refusal, match=r"us-east-1q.*Choices: us-east-1a, us-east-1b"):
        converge(aws, dataclasses.replace(SPEC, zones=("us-east-1a", "us-east-1q")))


def test_two_vpcs_of_one_platform_are_refused(aws: Any) -> None:
    converge(aws)
    other = aws.ec2.create_vpc(CidrBlock="10.50.0.0/16")["Vpc"]["VpcId"]
    aws.ec2.create_tags(Resources=[other], Tags=[{"Key": "dagster-platform", "Value": "lab"}])
    with pytest.raises(Refusal, match=r"2 VPCs carry the tag dagster-platform=lab"):
        converge(aws)


def snapshot(aws: Any) -> dict[str, list[Any]]:
    """Everything of EC2 that exists, by id."""
    reservations = aws.ec2.describe_instances()["Reservations"]
    return {
        "instances": sorted(
            instance["InstanceId"]
            for reservation in reservations
            for instance in reservation["Instances"]
            if instance["State"]["Name"] != "terminated"
        ),
        "vpcs": sorted(vpc["VpcId"] for vpc in aws.ec2.describe_vpcs()["Vpcs"]),
        "subnets": sorted(subnet["SubnetId"] for subnet in aws.ec2.describe_subnets()["Subnets"]),
        "tables": sorted(table["RouteTableId"] for table in aws.ec2.describe_route_tables()["RouteTables"]),
        "groups": sorted(group["GroupId"] for group in aws.ec2.describe_security_groups()["SecurityGroups"]),
        "gateways": sorted(
            gateway["InternetGatewayId"] for gateway in aws.ec2.describe_internet_gateways()["InternetGateways"]
        ),
        "addresses": sorted(address["PublicIp"] for address in aws.ec2.describe_addresses()["Addresses"]),
        "nat gateways": sorted(
            gateway["NatGatewayId"]
            for gateway in aws.ec2.describe_nat_gateways()["NatGateways"]
            if gateway["State"] != "deleted"
        ),
        "endpoints": sorted(
            endpoint["VpcEndpointId"]
            for endpoint in aws.ec2.describe_vpc_endpoints()["VpcEndpoints"]
            if endpoint["State"] != "deleted"
        ),
    }


@pytest.mark.parametrize("egress", ["nat_instance", "nat_gateway", "vpc_endpoints", "public_ip"])
def test_remove_leaves_exactly_what_was_there_before(aws: Any, egress: str) -> None:
    other = dataclasses.replace(SPEC, platform="other", cidr="10.50.0.0/16", egress="nat_gateway")
    converge(
        aws,
        dataclasses.replace(
            other,
            public_cidrs=("10.50.0.0/24", "10.50.1.0/24"),
            private_cidrs=("10.50.16.0/24", "10.50.17.0/24"),
        ),
    )
    before = snapshot(aws)
    converge(aws, dataclasses.replace(SPEC, egress=egress))
    preview = Plan(check_mode=True)
    remove_network(clients(aws), "lab", "us-east-1", preview)
    removal = Plan()
    remove_network(clients(aws), "lab", "us-east-1", removal)
    assert snapshot(aws) == before
    assert preview.changes == removal.changes
    again = Plan()
    remove_network(clients(aws), "lab", "us-east-1", again)
    assert again.changes == []


class Interrupted(Exception):
    """Stands for a lost connection or a pressed Ctrl-C."""


def test_an_interrupted_run_is_completed_by_the_next(aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop after each single change in turn, then run again: nothing may be doubled."""
    reference = Plan(check_mode=True)
    ensure_network(clients(aws), SPEC, reference)
    for steps in range(1, len(reference.changes), 4):
        plan = Plan()
        act = plan._record

        def record(*args: Any, plan: Plan = plan, act: Any = act, steps: int = steps, **options: Any) -> None:
            if len(plan.changes) == steps:
                raise Interrupted
            act(*args, **options)

        monkeypatch.setattr(plan, "_record", record)
        with pytest.raises(Interrupted):
            ensure_network(clients(aws), SPEC, plan)
        converge(aws)
        assert converge(aws)[1] == []
        assert len(aws.ec2.describe_internet_gateways()["InternetGateways"]) == 1
        remove_network(clients(aws), "lab", "us-east-1", Plan())
