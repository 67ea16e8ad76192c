"""The platform's network: VPC, subnets, routes, egress, S3 endpoint and security groups.

One function brings everything to the wanted state in a handful of requests, because the parts refer to each other
and each Ansible task costs most of a second. `remove_network` takes away what carries the platform's mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .aws_plan import (
    PLATFORM_TAG,
    Plan,
    Refusal,
    error_code,
    is_pending,
    platform_tags,
    retry_while,
    tag_dict,
    tag_list,
)

WEBSERVER_PORT = 3000
DATABASE_PORT = 5432
NFS_PORT = 2049
ANYWHERE = "0.0.0.0/0"

NAT_USER_DATA = """#!/bin/sh
# Source NAT for the private subnets, as in the VPC user guide, "NAT instances". No ports are opened by this script.
set -eu
# dnf needs more memory than the smallest machines have.
if [ ! -e /swapfile ]; then
  dd if=/dev/zero of=/swapfile bs=1M count=512
  chmod 600 /swapfile
  mkswap /swapfile
  echo '/swapfile none swap defaults 0 0' >> /etc/fstab
fi
swapon -a
for attempt in 1 2 3 4 5; do
  if dnf install -y iptables-services; then break; fi
  sleep 10
done
echo 'net.ipv4.ip_forward = 1' > /etc/sysctl.d/90-nat.conf
sysctl -p /etc/sysctl.d/90-nat.conf
systemctl enable --now iptables
interface=$(ip -o -4 route show default | awk '{print $5; exit}')
iptables -t nat -A POSTROUTING -o "$interface" -j MASQUERADE
iptables -F FORWARD
service iptables save
"""

# A dependency goes away some time after the call that removed it has returned (network interfaces above all).
STILL_IN_USE = frozenset({"DependencyViolation", "InvalidParameterValue", "InvalidIPAddress.InUse"})


# Operations that refer to something which may have been made a moment ago.
REFERRING = ("Associate", "Attach", "Authorize", "Create", "Describe", "Modify", "Replace", "Revoke", "Run")
NOT_YET_KNOWN_TRIES = 10
NOT_YET_KNOWN_PAUSE = 2.0


def retry_not_yet_known(response: Any, attempts: int, operation: Any, **_: Any) -> float | None:
    """Return the seconds after which botocore should repeat a call that named something EC2 does not know; or None.

    EC2 is eventually consistent: the id of a new group or table may be unknown to the next call. The id comes from EC2
    itself in every call here, so that waiting is right; what was really deleted meanwhile is reported a little later.
    This is a handler of botocore's event `needs-retry`; throttling and lost connections are left to botocore's own.
    """
    code = str(response[1].get("Error", {}).get("Code", "")) if response else ""
    if not code.endswith("NotFound") or not operation.name.startswith(REFERRING) or attempts >= NOT_YET_KNOWN_TRIES:
        return None
    return NOT_YET_KNOWN_PAUSE


@dataclass(frozen=True)
class NetworkSpec:
    """What the network should look like. CIDR lists have one entry per availability zone, in the same order."""

    platform: str
    cidr: str
    public_cidrs: tuple[str, ...]
    private_cidrs: tuple[str, ...]
    region: str
    egress: str
    nat_instance_type: str
    nat_image_parameter: str
    ui_ports: tuple[int, ...]
    ui_cidrs: tuple[str, ...]
    zones: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Network:
    """Ids of the network; in check mode some may be pending ids."""

    vpc_id: str
    public_subnet_ids: list[str]
    private_subnet_ids: list[str]
    security_group_ids: dict[str, str]


Rule = tuple[str, int, int, str, str]
"""protocol, first port, last port, peer (CIDR or security group id), description; -1, -1 means all ports."""


class NetworkClients:
    """The two API clients that the network needs; `ssm` only to find the NAT instance's image."""

    def __init__(self, ec2: Any, ssm: Any) -> None:
        self.ec2 = ec2
        self.ssm = ssm


def ensure_network(clients: NetworkClients, spec: NetworkSpec, plan: Plan) -> Network:
    """Bring the network to the state of `spec` and return its ids."""
    network = _Builder(clients, spec, plan)
    vpc_id = network.vpc()
    gateway_id = network.internet_gateway()
    public, private = network.subnets()
    groups = network.security_groups()
    public_table = network.route_table("public", public)
    private_table = network.route_table("private", private)
    network.default_route(public_table, "GatewayId", gateway_id)
    network.s3_endpoint([public_table.id, private_table.id])
    if spec.egress == "nat_gateway":
        gateway_id = network.nat_gateway(public[0])
        # Until it is there, private subnets keep the way out that they have.
        if network.nat_gateway_is_there(gateway_id):
            network.default_route(private_table, "NatGatewayId", gateway_id)
            network.remove_nat_instances()
            network.remove_nat_group()
    else:
        network.default_route(private_table, "NetworkInterfaceId", network.nat_instance(public[0], groups["nat"]))
        network.remove_nat_gateways()
    return Network(vpc_id, public, private, {name: groups[name] for name in OUTPUT_GROUPS})


OUTPUT_GROUPS = ("alb", "webserver", "daemon", "database", "file_system")


@dataclass
class _RouteTable:
    id: str
    name: str
    routes: list[dict[str, Any]]


class _Builder:
    """One pass over the network. Methods build on each other in the order in which `ensure_network` calls them."""

    def __init__(self, clients: NetworkClients, spec: NetworkSpec, plan: Plan) -> None:
        self.ec2 = clients.ec2
        self.ec2.meta.events.register("needs-retry.ec2", retry_not_yet_known, unique_id="retry-not-yet-known")
        self.ssm = clients.ssm
        self.spec = spec
        self.plan = plan
        self.vpc_id = ""

    def name(self, suffix: str) -> str:
        return f"{self.spec.platform}-{suffix}"

    def tags(self, name: str) -> dict[str, str]:
        return platform_tags(self.spec.platform, name, self.spec.tags)

    def tag_specification(self, resource: str, name: str) -> list[dict[str, Any]]:
        return [{"ResourceType": resource, "Tags": tag_list(self.tags(name))}]

    def keep_tags(self, kind: str, name: str, resource_id: str, found: Mapping[str, Any]) -> None:
        self.plan.ensure_tags(
            kind,
            name,
            tag_dict(found.get("Tags")),
            self.tags(name),
            lambda tags: self.ec2.create_tags(Resources=[resource_id], Tags=tag_list(tags)),
        )

    def find(
        self, operation: str, result: str, vpc_filter: str | None = "vpc-id", **filters: str
    ) -> list[dict[str, Any]]:
        """Return what carries the platform's mark (in this VPC). Nothing can be in a VPC that is only planned."""
        if vpc_filter:
            if is_pending(self.vpc_id):
                return []
            filters[vpc_filter] = self.vpc_id
        filters[f"tag:{PLATFORM_TAG}"] = self.spec.platform
        pages = self.ec2.get_paginator(operation).paginate(
            Filters=[{"Name": key.replace("_", "-"), "Values": [value]} for key, value in filters.items()]
        )
        return [item for page in pages for item in page[result]]

    # -- VPC, gateway, subnets ---------------------------------------------------------------------------------

    def vpc(self) -> str:
        spec, name = self.spec, self.spec.platform
        found = self.find("describe_vpcs", "Vpcs", vpc_filter=None)
        if len(found) > 1:
            ids = ", ".join(sorted(vpc["VpcId"] for vpc in found))
            raise Refusal(
                f"{len(found)} VPCs carry the tag {PLATFORM_TAG}={name}: {ids}. One platform has one VPC. "
                "Remove the tag from those that are not in use and run this playbook again."
            )
        if not found:
            self.vpc_id = self.plan.create("vpc", name, {"cidr": spec.cidr}, self._create_vpc)
            self._vpc_attributes({} if is_pending(self.vpc_id) else {"dns_support": True, "dns_hostnames": False})
            return self.vpc_id
        vpc = found[0]
        self.vpc_id = vpc["VpcId"]
        if vpc["CidrBlock"] != spec.cidr:
            raise Refusal(
                f"vpc_cidr is {spec.cidr}, but the VPC {self.vpc_id} of {name!r} has {vpc['CidrBlock']}, and AWS "
                f"cannot change the address range of an existing VPC. Set vpc_cidr to {vpc['CidrBlock']}, or "
                "choose another name_prefix for a second platform."
            )
        self.keep_tags("vpc", name, self.vpc_id, vpc)
        self._vpc_attributes(
            {
                "dns_support": self._vpc_attribute("enableDnsSupport", "EnableDnsSupport"),
                "dns_hostnames": self._vpc_attribute("enableDnsHostnames", "EnableDnsHostnames"),
            }
        )
        return self.vpc_id

    def _create_vpc(self) -> str:
        vpc = self.ec2.create_vpc(
            CidrBlock=self.spec.cidr, TagSpecifications=self.tag_specification("vpc", self.spec.platform)
        )["Vpc"]
        self.ec2.get_waiter("vpc_available").wait(VpcIds=[vpc["VpcId"]])
        return str(vpc["VpcId"])

    def _vpc_attribute(self, attribute: str, result: str) -> bool:
        answer = self.ec2.describe_vpc_attribute(VpcId=self.vpc_id, Attribute=attribute)
        return bool(answer[result]["Value"])

    def _vpc_attributes(self, current: Mapping[str, bool]) -> None:
        """EFS mount targets are found by DNS name, which needs both DNS attributes."""
        parameters = {"dns_support": "EnableDnsSupport", "dns_hostnames": "EnableDnsHostnames"}

        def set_attributes(changed: Mapping[str, bool]) -> None:
            for key, value in changed.items():
                self.ec2.modify_vpc_attribute(VpcId=self.vpc_id, **{parameters[key]: {"Value": value}})

        if not is_pending(self.vpc_id):
            self.plan.update_if_different(
                "vpc", self.spec.platform, current, dict.fromkeys(parameters, True), set_attributes
            )

    def internet_gateway(self) -> str:
        kind, name = "internet-gateway", self.name("internet")
        # Found by its mark only: a gateway that lost its attachment is attached again, not doubled.
        found = self.find("describe_internet_gateways", "InternetGateways", vpc_filter=None)
        if not found:

            def create() -> str:
                gateway = self.ec2.create_internet_gateway(
                    TagSpecifications=self.tag_specification("internet-gateway", name)
                )["InternetGateway"]["InternetGatewayId"]
                self.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=self.vpc_id)
                return str(gateway)

            return self.plan.create(kind, name, {"vpc": self.vpc_id}, create)
        gateway = found[0]
        gateway_id = str(gateway["InternetGatewayId"])
        self.keep_tags(kind, name, gateway_id, gateway)
        attached = [attachment["VpcId"] for attachment in gateway.get("Attachments", [])]
        self.plan.update_if_different(
            kind,
            name,
            {"attached_to": attached},
            {"attached_to": [self.vpc_id]},
            lambda _: self.ec2.attach_internet_gateway(InternetGatewayId=gateway_id, VpcId=self.vpc_id),
        )
        return gateway_id

    def subnets(self) -> tuple[list[str], list[str]]:
        existing = {
            tag_dict(subnet.get("Tags")).get("Name", ""): subnet for subnet in self.find("describe_subnets", "Subnets")
        }
        zones = self._zones()
        lists: list[list[str]] = []
        for tier, cidrs in (("public", self.spec.public_cidrs), ("private", self.spec.private_cidrs)):
            lists.append(
                [self._subnet(f"{tier}-{index + 1}", cidr, zones[index], existing) for index, cidr in enumerate(cidrs)]
            )
        return lists[0], lists[1]

    def _zones(self) -> tuple[str, ...]:
        """Return one availability zone per subnet of a tier: the configured ones or the region's first."""
        available = sorted(
            zone["ZoneName"]
            for zone in self.ec2.describe_availability_zones(
                Filters=[
                    {"Name": "state", "Values": ["available"]},
                    {"Name": "zone-type", "Values": ["availability-zone"]},
                ]
            )["AvailabilityZones"]
        )
        unknown = [zone for zone in self.spec.zones if zone not in available]
        needed = len(self.spec.private_cidrs)
        if unknown or len(available) < needed:
            raise Refusal(
                f"vpc_availability_zones is {list(self.spec.zones)}: {needed} zones are needed and "
                f"{unknown or 'too few'} cannot be used in {self.spec.region}. "
                f"Choices: {', '.join(available)}; or [] for the first {needed}."
            )
        return self.spec.zones or tuple(available[:needed])

    def _subnet(self, suffix: str, cidr: str, zone: str, existing: Mapping[str, dict[str, Any]]) -> str:
        name = self.name(suffix)
        found = existing.get(name)
        if found is None:
            return self.plan.create(
                "subnet", name, {"cidr": cidr, "zone": zone}, lambda: self._create_subnet(name, cidr, zone)
            )
        subnet_id = str(found["SubnetId"])
        actual = (found["CidrBlock"], found["AvailabilityZone"])
        if found["CidrBlock"] != cidr or (self.spec.zones and found["AvailabilityZone"] != zone):
            raise Refusal(
                f"Subnet {name!r} ({subnet_id}) should be {cidr} in {zone} but is {actual[0]} in {actual[1]}, and "
                "AWS cannot move a subnet. Set vpc_public_subnet_cidrs, vpc_private_subnet_cidrs and "
                "vpc_availability_zones to what is there, or choose another name_prefix for a second platform."
            )
        self.keep_tags("subnet", name, subnet_id, found)
        self.plan.update_if_different(
            "subnet",
            name,
            {"map_public_ip_on_launch": found.get("MapPublicIpOnLaunch", False)},
            {"map_public_ip_on_launch": False},
            lambda _: self.ec2.modify_subnet_attribute(SubnetId=subnet_id, MapPublicIpOnLaunch={"Value": False}),
        )
        return subnet_id

    def _create_subnet(self, name: str, cidr: str, zone: str) -> str:
        subnet = self.ec2.create_subnet(
            VpcId=self.vpc_id,
            CidrBlock=cidr,
            AvailabilityZone=zone,
            TagSpecifications=self.tag_specification("subnet", name),
        )["Subnet"]["SubnetId"]
        self.ec2.get_waiter("subnet_available").wait(SubnetIds=[subnet])
        return str(subnet)

    # -- Routes ------------------------------------------------------------------------------------------------

    def route_table(self, suffix: str, subnet_ids: list[str]) -> _RouteTable:
        kind, name = "route-table", self.name(suffix)
        # All tables of the VPC: a subnet may have been tied to some other one behind our back.
        tables = self._route_tables_of_vpc()
        found = [
            table
            for table in tables
            if {"Name": name, PLATFORM_TAG: self.spec.platform}.items() <= tag_dict(table.get("Tags")).items()
        ]
        if found:
            table = _RouteTable(found[0]["RouteTableId"], name, found[0].get("Routes", []))
            self.keep_tags(kind, name, table.id, found[0])
        else:
            table = _RouteTable(self.plan.create(kind, name, {}, lambda: self._create_table(name)), name, [])
        current = {
            association["SubnetId"]: (association["RouteTableAssociationId"], other["RouteTableId"])
            for other in tables
            for association in other["Associations"]
            if association.get("SubnetId") in subnet_ids
        }
        wrong = [subnet for subnet in subnet_ids if current.get(subnet, ("", ""))[1] != table.id]
        if wrong:

            def associate() -> None:
                for subnet in wrong:
                    if subnet in current:
                        self.ec2.replace_route_table_association(
                            AssociationId=current[subnet][0], RouteTableId=table.id
                        )
                    else:
                        self.ec2.associate_route_table(RouteTableId=table.id, SubnetId=subnet)

            before = [subnet for subnet in subnet_ids if subnet not in wrong]
            self.plan.update(kind, name, {"subnets": before}, {"subnets": subnet_ids}, associate)
        return table

    def _route_tables_of_vpc(self) -> list[dict[str, Any]]:
        if is_pending(self.vpc_id):
            return []
        pages = self.ec2.get_paginator("describe_route_tables").paginate(
            Filters=[{"Name": "vpc-id", "Values": [self.vpc_id]}]
        )
        return [table for page in pages for table in page["RouteTables"]]

    def _create_table(self, name: str) -> str:
        return str(
            self.ec2.create_route_table(
                VpcId=self.vpc_id, TagSpecifications=self.tag_specification("route-table", name)
            )["RouteTable"]["RouteTableId"]
        )

    def default_route(self, table: _RouteTable, target: str, target_id: str) -> None:
        """Point 0.0.0.0/0 of a table at `target_id`; a black hole left by a lost target is replaced."""
        found = next((route for route in table.routes if route.get("DestinationCidrBlock") == ANYWHERE), None)
        current = {} if found is None else {"default_route": found.get(target), "state": found.get("State")}
        wanted = {"default_route": target_id, "state": "active"}

        def set_route(_: Mapping[str, Any]) -> None:
            change = self.ec2.replace_route if found else self.ec2.create_route
            change(RouteTableId=table.id, DestinationCidrBlock=ANYWHERE, **{target: target_id})

        self.plan.update_if_different("route-table", table.name, current, wanted, set_route)

    def s3_endpoint(self, table_ids: list[str]) -> None:
        kind, name = "vpc-endpoint", self.name("s3")
        service = f"com.amazonaws.{self.spec.region}.s3"
        found = [
            endpoint
            for endpoint in self.find("describe_vpc_endpoints", "VpcEndpoints")
            if endpoint["ServiceName"] == service and endpoint["State"].lower() in ("pending", "available")
        ]
        if not found:

            def create() -> str:
                return str(
                    self.ec2.create_vpc_endpoint(
                        VpcId=self.vpc_id,
                        VpcEndpointType="Gateway",
                        ServiceName=service,
                        RouteTableIds=table_ids,
                        TagSpecifications=self.tag_specification("vpc-endpoint", name),
                    )["VpcEndpoint"]["VpcEndpointId"]
                )

            self.plan.create(kind, name, {"service": service, "route_tables": table_ids}, create)
            return
        endpoint = found[0]
        self.keep_tags(kind, name, endpoint["VpcEndpointId"], endpoint)
        current = set(endpoint.get("RouteTableIds", []))
        missing, extra = set(table_ids) - current, current - set(table_ids)
        if missing or extra:
            changes = {
                key: sorted(ids) for key, ids in (("AddRouteTableIds", missing), ("RemoveRouteTableIds", extra)) if ids
            }
            self.plan.update(
                kind,
                name,
                {"route_tables": sorted(current)},
                {"route_tables": sorted(table_ids)},
                lambda: self.ec2.modify_vpc_endpoint(VpcEndpointId=endpoint["VpcEndpointId"], **changes),
            )

    # -- Egress ------------------------------------------------------------------------------------------------

    def nat_gateway(self, subnet_id: str) -> str:
        kind, name = "nat-gateway", self.name("nat")
        found = [gateway for gateway in self._nat_gateways() if gateway["State"] in ("pending", "available")]
        if not found:
            address = self._nat_address()

            def create() -> str:
                gateway = self.ec2.create_nat_gateway(
                    SubnetId=subnet_id,
                    AllocationId=address,
                    TagSpecifications=self.tag_specification("natgateway", name),
                )
                return str(gateway["NatGateway"]["NatGatewayId"])

            return self.plan.create(kind, name, {"subnet": subnet_id}, create)
        gateway = found[0]
        self.keep_tags(kind, name, gateway["NatGatewayId"], gateway)
        return str(gateway["NatGatewayId"])

    def nat_gateway_is_there(self, gateway_id: str) -> bool:
        """Tell whether a route may point at the gateway, or wait until one may."""

        def there() -> bool:
            (gateway,) = self.ec2.describe_nat_gateways(NatGatewayIds=[gateway_id])["NatGateways"]
            if gateway["State"] == "failed":
                raise Refusal(
                    f"The NAT gateway {gateway_id} failed to start: {gateway.get('FailureMessage', 'no reason given')} "
                    "Run this playbook again when the reason is gone: it makes another one."
                )
            return bool(gateway["State"] == "available")

        return self.plan.settled(f"the NAT gateway {gateway_id} to become available", there, seconds=600)

    def _nat_gateways(self) -> list[dict[str, Any]]:
        return self.find("describe_nat_gateways", "NatGateways")

    def _nat_address(self) -> str:
        """Return the allocation id of the NAT gateway's address; one left by an interrupted run is used again."""
        name = self.name("nat")
        found = self._addresses()
        if found:
            return str(found[0]["AllocationId"])
        return self.plan.create(
            "elastic-ip",
            name,
            {},
            lambda: str(
                self.ec2.allocate_address(Domain="vpc", TagSpecifications=self.tag_specification("elastic-ip", name))[
                    "AllocationId"
                ]
            ),
        )

    def _addresses(self) -> list[dict[str, Any]]:
        answer = self.ec2.describe_addresses(Filters=[{"Name": f"tag:{PLATFORM_TAG}", "Values": [self.spec.platform]}])
        return list(answer["Addresses"])

    def nat_instance(self, subnet_id: str, group_id: str) -> str:
        """Return the id of the NAT instance's network interface, which is what a route points at."""
        kind, name, spec = "nat-instance", self.name("nat"), self.spec
        found = self._nat_instances()
        if not found:
            created: dict[str, Any] = {}

            def create() -> str:
                created.update(self._create_nat_instance(name, subnet_id, group_id))
                return str(created["NetworkInterfaces"][0]["NetworkInterfaceId"])

            return self.plan.create(kind, name, {"instance_type": spec.nat_instance_type, "subnet": subnet_id}, create)
        instance = found[0]
        instance_id = str(instance["InstanceId"])
        interface = instance["NetworkInterfaces"][0]
        self.keep_tags(kind, name, instance_id, instance)
        self.plan.update_if_different(
            kind,
            name,
            {
                "source_dest_check": instance.get("SourceDestCheck"),
                "security_groups": [group["GroupId"] for group in interface.get("Groups", [])],
            },
            {"source_dest_check": False, "security_groups": [group_id]},
            lambda after: self._modify_nat_instance(instance_id, after),
        )
        self.plan.update_if_different(
            kind,
            name,
            {"instance_type": instance["InstanceType"], "state": instance["State"]["Name"]},
            {"instance_type": spec.nat_instance_type, "state": "running"},
            lambda after: self._restart_nat_instance(instance_id, after),
        )
        return str(interface["NetworkInterfaceId"])

    def _nat_instances(self) -> list[dict[str, Any]]:
        living = ("pending", "running", "stopping", "stopped")
        return [
            instance
            for reservation in self.find("describe_instances", "Reservations")
            for instance in reservation["Instances"]
            if instance["State"]["Name"] in living
        ]

    def _create_nat_instance(self, name: str, subnet_id: str, group_id: str) -> dict[str, Any]:
        image = self.ssm.get_parameter(Name=self.spec.nat_image_parameter)["Parameter"]["Value"]
        # Only burstable types have CPU credits; others are refused with this setting.
        burstable = self.spec.nat_instance_type.startswith("t")
        credits_of_type = {"CreditSpecification": {"CpuCredits": "standard"}} if burstable else {}
        instance_id = self.ec2.run_instances(
            ImageId=image,
            InstanceType=self.spec.nat_instance_type,
            MinCount=1,
            MaxCount=1,
            UserData=NAT_USER_DATA,
            # Tokens only, and no hop further than the instance itself.
            MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
            **credits_of_type,
            NetworkInterfaces=[
                {
                    "DeviceIndex": 0,
                    "SubnetId": subnet_id,
                    "Groups": [group_id],
                    "AssociatePublicIpAddress": True,
                    "DeleteOnTermination": True,
                }
            ],
            TagSpecifications=[
                *self.tag_specification("instance", name),
                *self.tag_specification("volume", name),
                *self.tag_specification("network-interface", name),
            ],
        )["Instances"][0]["InstanceId"]
        self.ec2.get_waiter("instance_running").wait(InstanceIds=[instance_id])
        self._modify_nat_instance(instance_id, {"source_dest_check": False})
        answer = self.ec2.describe_instances(InstanceIds=[instance_id])
        return dict(answer["Reservations"][0]["Instances"][0])

    def _modify_nat_instance(self, instance_id: str, after: Mapping[str, Any]) -> None:
        if "source_dest_check" in after:
            self.ec2.modify_instance_attribute(InstanceId=instance_id, SourceDestCheck={"Value": False})
        if "security_groups" in after:
            self.ec2.modify_instance_attribute(InstanceId=instance_id, Groups=after["security_groups"])

    def _restart_nat_instance(self, instance_id: str, after: Mapping[str, Any]) -> None:
        """Change the type, which needs a stop, and see that the instance runs. Egress pauses for about a minute."""
        if "instance_type" in after:
            self.ec2.stop_instances(InstanceIds=[instance_id])
            self.ec2.get_waiter("instance_stopped").wait(InstanceIds=[instance_id])
            self.ec2.modify_instance_attribute(InstanceId=instance_id, InstanceType={"Value": after["instance_type"]})
        else:
            # An instance that is still stopping cannot be started yet.
            answer = self.ec2.describe_instances(InstanceIds=[instance_id])
            if answer["Reservations"][0]["Instances"][0]["State"]["Name"] == "stopping":
                self.ec2.get_waiter("instance_stopped").wait(InstanceIds=[instance_id])
        self.ec2.start_instances(InstanceIds=[instance_id])
        self.ec2.get_waiter("instance_running").wait(InstanceIds=[instance_id])

    def remove_nat_instances(self) -> None:
        for instance in self._nat_instances():
            instance_id = instance["InstanceId"]

            def terminate(instance_id: str = instance_id) -> None:
                self.ec2.terminate_instances(InstanceIds=[instance_id])
                self.ec2.get_waiter("instance_terminated").wait(InstanceIds=[instance_id])

            self.plan.remove(
                "nat-instance",
                self.name("nat"),
                {"id": instance_id, "instance_type": instance["InstanceType"]},
                terminate,
            )

    def remove_nat_group(self) -> None:
        for group in self._groups_of_vpc():
            if (
                group["GroupName"] == self._group_name("nat")
                and tag_dict(group.get("Tags")).get(PLATFORM_TAG) == self.spec.platform
            ):
                self.plan.remove(
                    "security-group",
                    group["GroupName"],
                    {"id": group["GroupId"]},
                    partial(self.ec2.delete_security_group, GroupId=group["GroupId"]),
                )

    def remove_nat_gateways(self) -> None:
        for gateway in self._nat_gateways():
            gateway_id = gateway["NatGatewayId"]
            if gateway["State"] == "deleted":
                continue

            def delete(gateway_id: str = gateway_id) -> None:
                self.ec2.delete_nat_gateway(NatGatewayId=gateway_id)
                self.ec2.get_waiter("nat_gateway_deleted").wait(NatGatewayIds=[gateway_id])

            self.plan.remove("nat-gateway", self.name("nat"), {"id": gateway_id}, delete)
        self.remove_addresses()

    def remove_addresses(self) -> None:
        for address in self._addresses():
            self.plan.remove(
                "elastic-ip",
                self.name("nat"),
                {"address": address.get("PublicIp")},
                partial(self.ec2.release_address, AllocationId=address["AllocationId"]),
            )

    # -- Security groups ---------------------------------------------------------------------------------------

    def security_groups(self) -> dict[str, str]:
        descriptions = {
            "alb": "Load balancer: browsers in, webserver out",
            "webserver": "Dagster webserver: only the load balancer may connect",
            "daemon": "Dagster daemon: nobody may connect",
            "database": "PostgreSQL: only the tasks may connect",
            "file_system": "EFS mount targets: only the tasks may connect",
        }
        if self.spec.egress == "nat_instance":
            descriptions["nat"] = "NAT instance: only the tasks may connect"
        existing = {group["GroupName"]: group for group in self._groups_of_vpc()}
        ids = {key: self._group_id(key, text, existing) for key, text in descriptions.items()}
        inbound, outbound = self._rules(ids)
        for key, group_id in ids.items():
            group = existing.get(self._group_name(key))
            # AWS gives each new group a rule that lets everything out.
            found = group or {"IpPermissionsEgress": [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": ANYWHERE}]}]}
            self._keep_rules(key, group_id, found, "IpPermissions", inbound.get(key, []))
            self._keep_rules(key, group_id, found, "IpPermissionsEgress", outbound.get(key, []))
        # Nobody should land in the VPC's default group by forgetting to name one: it lets nothing in or out.
        if default := existing.get("default"):
            self._keep_rules("default", default["GroupId"], default, "IpPermissions", [])
            self._keep_rules("default", default["GroupId"], default, "IpPermissionsEgress", [])
        return ids

    def _group_name(self, key: str) -> str:
        return self.name(key.replace("_", "-"))

    def _groups_of_vpc(self) -> list[dict[str, Any]]:
        if is_pending(self.vpc_id):
            return []
        pages = self.ec2.get_paginator("describe_security_groups").paginate(
            Filters=[{"Name": "vpc-id", "Values": [self.vpc_id]}]
        )
        return [group for page in pages for group in page["SecurityGroups"]]

    def _group_id(self, key: str, description: str, existing: Mapping[str, dict[str, Any]]) -> str:
        name = self._group_name(key)
        if found := existing.get(name):
            self.keep_tags("security-group", name, found["GroupId"], found)
            return str(found["GroupId"])
        return self.plan.create(
            "security-group",
            name,
            {"description": description},
            lambda: str(
                self.ec2.create_security_group(
                    GroupName=name,
                    Description=description,
                    VpcId=self.vpc_id,
                    TagSpecifications=self.tag_specification("security-group", name),
                )["GroupId"]
            ),
        )

    def _rules(self, ids: Mapping[str, str]) -> tuple[dict[str, list[Rule]], dict[str, list[Rule]]]:
        """Return inbound and outbound rules by group. Only what is listed here may connect."""
        tasks = [(key, ids[key]) for key in ("webserver", "daemon")]
        inbound: dict[str, list[Rule]] = {
            "alb": [
                ("tcp", port, port, cidr, "Browsers") for port in self.spec.ui_ports for cidr in self.spec.ui_cidrs
            ],
            "webserver": [("tcp", WEBSERVER_PORT, WEBSERVER_PORT, ids["alb"], "Load balancer")],
            "database": [("tcp", DATABASE_PORT, DATABASE_PORT, peer, f"Dagster {key}") for key, peer in tasks],
            "file_system": [("tcp", NFS_PORT, NFS_PORT, peer, f"Dagster {key}") for key, peer in tasks],
        }
        everything: Rule = ("-1", -1, -1, ANYWHERE, "Everything")
        outbound: dict[str, list[Rule]] = {
            "alb": [("tcp", WEBSERVER_PORT, WEBSERVER_PORT, ids["webserver"], "Dagster webserver")],
            "webserver": [everything],
            "daemon": [everything],
        }
        if "nat" in ids:
            inbound["nat"] = [("-1", -1, -1, peer, f"Dagster {key}") for key, peer in tasks]
            outbound["nat"] = [everything]
        return inbound, outbound

    def _keep_rules(
        self, key: str, group_id: str, group: Mapping[str, Any], direction: str, wanted: list[Rule]
    ) -> None:
        current = _flatten(group.get(direction, []))
        # The text of the rule that AWS makes by itself is empty; texts of foreign rules don't matter either.
        missing = [rule for rule in wanted if rule not in current]
        extra = [rule for rule in current if rule not in wanted]
        if not missing and not extra:
            return
        egress = direction == "IpPermissionsEgress"

        def apply() -> None:
            revoke = self.ec2.revoke_security_group_egress if egress else self.ec2.revoke_security_group_ingress
            authorize = (
                self.ec2.authorize_security_group_egress if egress else self.ec2.authorize_security_group_ingress
            )
            # A rule that differs only in its text must go first: AWS takes it for a duplicate.
            if extra:
                revoke(GroupId=group_id, IpPermissions=[_permission(rule) for rule in extra])
            if missing:
                authorize(GroupId=group_id, IpPermissions=[_permission(rule) for rule in missing])

        side = "outbound" if egress else "inbound"
        self.plan.update(
            "security-group",
            self._group_name(key) if key != "default" else f"default of {self.vpc_id}",
            {side: [_rule_text(rule) for rule in sorted(current)]},
            {side: [_rule_text(rule) for rule in sorted(wanted)]},
            apply,
        )


def _flatten(permissions: Iterable[Mapping[str, Any]]) -> list[Rule]:
    """Return one entry per peer. Peers that are never wanted here (IPv6, prefix lists) appear too, to be revoked."""
    rules: list[Rule] = []
    peers = (
        ("IpRanges", "CidrIp"),
        ("UserIdGroupPairs", "GroupId"),
        ("Ipv6Ranges", "CidrIpv6"),
        ("PrefixListIds", "PrefixListId"),
    )
    for permission in permissions:
        first, last = permission.get("FromPort", -1), permission.get("ToPort", -1)
        for group, field_name in peers:
            rules.extend(
                (permission["IpProtocol"], first, last, peer[field_name], peer.get("Description", ""))
                for peer in permission.get(group, [])
            )
    return rules


def _permission(rule: Rule) -> dict[str, Any]:
    """Return a rule in the form of the API."""
    protocol, first, last, peer, description = rule
    if peer.startswith("sg-"):
        entry = {"UserIdGroupPairs": [{"GroupId": peer}]}
    elif peer.startswith("pl-"):
        entry = {"PrefixListIds": [{"PrefixListId": peer}]}
    elif ":" in peer:
        entry = {"Ipv6Ranges": [{"CidrIpv6": peer}]}
    else:
        entry = {"IpRanges": [{"CidrIp": peer}]}
    if description:
        next(iter(entry.values()))[0]["Description"] = description
    ports = {} if protocol == "-1" else {"FromPort": first, "ToPort": last}
    return {"IpProtocol": protocol, **ports, **entry}


def _rule_text(rule: Rule) -> str:
    protocol, first, last, peer, description = rule
    ports = "all" if protocol == "-1" else f"{protocol} {first}" + (f"-{last}" if last != first else "")
    return f"{ports} {peer} ({description})"


def remove_network(clients: NetworkClients, platform: str, region: str, plan: Plan) -> None:
    """Remove everything that `ensure_network` made, in an order that AWS accepts. Safe to repeat at any point."""
    spec = NetworkSpec(platform, "", (), (), region, "", "", "", (), ())
    builder = _Builder(clients, spec, plan)
    ec2 = clients.ec2
    vpcs = builder.find("describe_vpcs", "Vpcs", vpc_filter=None)
    for vpc in vpcs:
        builder.vpc_id = vpc["VpcId"]
        builder.remove_nat_instances()
        builder.remove_nat_gateways()
        _remove_endpoints(builder)
        _remove_groups(builder)
        _remove_subnets_and_tables(builder)
        _remove_gateways(builder)
        plan.remove(
            "vpc",
            platform,
            {"id": builder.vpc_id, "cidr": vpc["CidrBlock"]},
            partial(
                retry_while,
                STILL_IN_USE,
                f"the VPC {builder.vpc_id} to become empty",
                partial(ec2.delete_vpc, VpcId=builder.vpc_id),
                seconds=300,
            ),
        )
    if not vpcs:
        # What an interrupted run may have left behind when the VPC was gone already.
        _remove_gateways(builder)
        builder.remove_addresses()


def _remove_endpoints(builder: _Builder) -> None:
    found = [
        endpoint["VpcEndpointId"]
        for endpoint in builder.find("describe_vpc_endpoints", "VpcEndpoints")
        if endpoint["State"].lower() not in ("deleting", "deleted")
    ]
    if found:
        builder.plan.remove(
            "vpc-endpoint",
            builder.name("s3"),
            {"ids": found},
            lambda: builder.ec2.delete_vpc_endpoints(VpcEndpointIds=found),
        )


def _remove_groups(builder: _Builder) -> None:
    ec2, plan = builder.ec2, builder.plan
    groups = builder.find("describe_security_groups", "SecurityGroups")
    # Groups name each other in their rules and could not be deleted otherwise.
    for group in groups:
        for direction, revoke in (
            ("IpPermissions", ec2.revoke_security_group_ingress),
            ("IpPermissionsEgress", ec2.revoke_security_group_egress),
        ):
            if group.get(direction) and not plan.check_mode:
                revoke(
                    GroupId=group["GroupId"],
                    IpPermissions=[_permission(rule) for rule in _flatten(group[direction])],
                )
    for group in groups:
        plan.remove(
            "security-group",
            group["GroupName"],
            {"id": group["GroupId"]},
            partial(
                retry_while,
                STILL_IN_USE,
                f"network interfaces of the security group {group['GroupId']} to go away",
                partial(ec2.delete_security_group, GroupId=group["GroupId"]),
                seconds=600,
            ),
        )


def _remove_subnets_and_tables(builder: _Builder) -> None:
    ec2, plan = builder.ec2, builder.plan
    for subnet in builder.find("describe_subnets", "Subnets"):
        plan.remove(
            "subnet",
            tag_dict(subnet.get("Tags")).get("Name", subnet["SubnetId"]),
            {"cidr": subnet["CidrBlock"]},
            partial(
                retry_while,
                STILL_IN_USE,
                f"network interfaces in the subnet {subnet['SubnetId']} to go away",
                partial(ec2.delete_subnet, SubnetId=subnet["SubnetId"]),
                seconds=600,
            ),
        )
    for table in builder.find("describe_route_tables", "RouteTables"):

        def delete(table: dict[str, Any] = table) -> None:
            for association in table.get("Associations", []):
                try:
                    ec2.disassociate_route_table(AssociationId=association["RouteTableAssociationId"])
                except Exception as error:
                    # The association went together with its subnet.
                    if error_code(error) != "InvalidAssociationID.NotFound":
                        raise
            # The S3 endpoint may still be going away from the table.
            retry_while(
                STILL_IN_USE,
                f"the route table {table['RouteTableId']} to come out of use",
                partial(ec2.delete_route_table, RouteTableId=table["RouteTableId"]),
                seconds=300,
            )

        plan.remove(
            "route-table",
            tag_dict(table.get("Tags")).get("Name", table["RouteTableId"]),
            {"id": table["RouteTableId"]},
            delete,
        )


def _remove_gateways(builder: _Builder) -> None:
    ec2 = builder.ec2
    for gateway in builder.find("describe_internet_gateways", "InternetGateways", vpc_filter=None):

        def delete(gateway: dict[str, Any] = gateway) -> None:
            for attachment in gateway.get("Attachments", []):
                ec2.detach_internet_gateway(InternetGatewayId=gateway["InternetGatewayId"], VpcId=attachment["VpcId"])
            ec2.delete_internet_gateway(InternetGatewayId=gateway["InternetGatewayId"])

        builder.plan.remove("internet-gateway", builder.name("internet"), {"id": gateway["InternetGatewayId"]}, delete)
