"""The platform's network: VPC, subnets, routes, ways out, endpoints and security groups.

`ensure_network` brings everything to the wanted state in a handful of requests, because the parts refer to each other
and each Ansible task costs most of a second. `remove_network` takes away what carries the platform's mark; a VPC and
subnets that were adopted carry none.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .aws_network_base import ANYWHERE, STILL_IN_USE, Context, NetworkClients, NetworkSpec
from .aws_network_egress import Endpoints, Nat
from .aws_network_groups import Groups, flatten, group_removal, permission
from .aws_plan import PLATFORM_TAG, Plan, Refusal, error_code, is_pending, retry_while, tag_dict, wait_with

OUTPUT_GROUPS = ("alb", "webserver", "daemon", "database", "file_system")


@dataclass(frozen=True)
class Network:
    """Ids of the network; in check mode some may be pending ids."""

    vpc_id: str
    public_subnet_ids: list[str]
    private_subnet_ids: list[str]
    security_group_ids: dict[str, str]
    task_subnet_ids: list[str]
    assign_public_ip: bool
    leftover: list[str] = field(default_factory=list)
    """What `ensure_network` did not remove yet, because it was called without `clean_up`."""


def ensure_network(clients: NetworkClients, spec: NetworkSpec, plan: Plan, *, clean_up: bool = True) -> Network:
    """Bring the network to the state of `spec` and return its ids.

    Without `clean_up`, what is not wanted any more stays until a call with it: tasks and load balancers still use it.
    """
    context = Context(clients, spec, plan, clean_up=clean_up)
    parts = _Parts(context)
    parts.refuse_another_vpc()
    if spec.existing_vpc_id:
        parts.adopted_vpc()
    else:
        parts.vpc()
    groups = Groups(context)
    if spec.existing_subnets:
        public, private = parts.adopted_subnets()
        _with_adopted_subnets(parts, groups, public, private)
    else:
        gateway_id = parts.internet_gateway()
        public, private = parts.subnets()
        _with_own_subnets(parts, groups, public, private, gateway_id)
    groups.remove_unwanted()
    outside = spec.egress == "public_ip"
    return Network(
        context.vpc_id,
        public,
        private,
        {name: groups.ids[name] for name in OUTPUT_GROUPS if name in groups.ids},
        public if outside else private,
        outside,
        context.leftover,
    )


def _with_own_subnets(parts: _Parts, groups: Groups, public: list[str], private: list[str], gateway_id: str) -> None:
    """Groups, routes and the way out of subnets that the platform makes."""
    context, egress = parts.context, parts.context.spec.egress
    ids = groups.ensure()
    public_table = parts.route_table("public", public)
    private_table = parts.route_table("private", private)
    parts.default_route(public_table, "GatewayId", gateway_id)
    endpoints, nat = Endpoints(context), Nat(context)
    endpoints.gateway([public_table.id, private_table.id])
    # Until the new way out is there, private subnets keep the one that they have.
    if egress == "nat_gateway":
        nat_id = nat.gateway(public[0])
        if nat.gateway_is_there(nat_id):
            parts.default_route(private_table, "NatGatewayId", nat_id)
            nat.remove_instances()
            endpoints.remove_interfaces()
        return
    if egress == "nat_instance":
        interface_id, instance_id = nat.instance(public[0], ids["nat"])
        parts.default_route(private_table, "NetworkInterfaceId", interface_id)
        nat.instance_is_there(instance_id)
        nat.remove_gateways()
        endpoints.remove_interfaces()
        return
    if egress == "vpc_endpoints":
        endpoints.interfaces(private, ids["endpoints"])
        if not endpoints.are_there():
            return
    else:
        endpoints.remove_interfaces()
    parts.no_default_route(private_table)
    nat.remove_instances()
    nat.remove_gateways()


def _with_adopted_subnets(parts: _Parts, groups: Groups, public: list[str], private: list[str]) -> None:
    """Groups, and endpoints if wanted; routes are somebody else's."""
    context, egress = parts.context, parts.context.spec.egress
    ids = groups.ensure()
    endpoints = Endpoints(context)
    if egress == "vpc_endpoints":
        endpoints.require_gateway(private, parts.tables_of(private))
        endpoints.interfaces(private, ids["endpoints"])
        endpoints.are_there()
    else:
        endpoints.remove_interfaces()
    if egress == "public_ip":
        parts.require_internet(public)


@dataclass
class _RouteTable:
    id: str
    name: str
    routes: list[dict[str, Any]]


class _Parts:
    """VPC, subnets and routes. Methods build on each other in the order in which `ensure_network` calls them."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.ec2 = context.ec2
        self.spec = context.spec
        self.plan = context.plan

    # -- What is somebody else's ---------------------------------------------------------------------------------

    def refuse_another_vpc(self) -> None:
        """Refuse to move a platform: database, file system and load balancer cannot change their VPC."""
        homes = sorted(
            {group["VpcId"] for group in self.context.everywhere("describe_security_groups", "SecurityGroups")}
        )
        own = {vpc["VpcId"] for vpc in self.context.everywhere("describe_vpcs", "Vpcs")}
        wanted = {self.spec.existing_vpc_id} if self.spec.existing_vpc_id else own
        if others := [vpc for vpc in homes if vpc not in wanted]:
            raise Refusal(
                f"vpc_existing_id is {self.spec.existing_vpc_id!r}, but the platform {self.spec.platform!r} is in the "
                f"VPC {', '.join(others)} already, and AWS cannot move its database and file system to another one. "
                f"Set vpc_existing_id to {'nothing' if set(others) <= own else others[0]}, or choose another "
                "name_prefix for a second platform."
            )

    def adopted_vpc(self) -> None:
        """Check the VPC of `existing_vpc_id`; nothing of it is changed."""
        vpc_id = self.spec.existing_vpc_id
        found = self.context.look_up("describe_vpcs", "Vpcs", {"vpc-id": [vpc_id]})
        if not found:
            raise Refusal(
                f"vpc_existing_id is {vpc_id!r}: there is no such VPC in {self.spec.region}. "
                "Choices: aws ec2 describe-vpcs --query 'Vpcs[].VpcId'; or nothing for a VPC of the platform's own."
            )
        self._refuse_impossible_ranges(found[0])
        off = [
            name
            for name, result in (("enableDnsSupport", "EnableDnsSupport"), ("enableDnsHostnames", "EnableDnsHostnames"))
            if not self.ec2.describe_vpc_attribute(VpcId=vpc_id, Attribute=name)[result]["Value"]
        ]
        for name in off:
            option = {"enableDnsSupport": "--enable-dns-support", "enableDnsHostnames": "--enable-dns-hostnames"}[name]
            self.plan.obstacle(
                f"The VPC {vpc_id} (vpc_existing_id) has {name} off; without it tasks cannot find the file system, "
                "and this playbook does not change a VPC of yours. Switch it on (aws ec2 modify-vpc-attribute "
                f"--vpc-id {vpc_id} {option}) and run this playbook again."
            )

    def _refuse_impossible_ranges(self, vpc: Mapping[str, Any]) -> None:
        """Refuse subnets of the platform's own that do not fit into a VPC of somebody else's."""
        if self.spec.existing_subnets:
            return
        blocks = [
            ipaddress.ip_network(item["CidrBlock"])
            for item in vpc.get("CidrBlockAssociationSet", [])
            if item.get("CidrBlockState", {}).get("State", "associated") == "associated"
        ]
        taken = {
            ipaddress.ip_network(subnet["CidrBlock"]): subnet["SubnetId"]
            for subnet in self.context.in_vpc("describe_subnets", "Subnets")
            if not self.context.marked(subnet)
        }
        for setting, ranges in (
            ("vpc_public_subnet_cidrs", self.spec.public_cidrs),
            ("vpc_private_subnet_cidrs", self.spec.private_cidrs),
        ):
            for wanted in map(ipaddress.ip_network, ranges):
                if not any(block.supernet_of(wanted) for block in blocks):  # type: ignore[arg-type]
                    reason = f"lies outside of what the VPC has ({', '.join(map(str, blocks))})"
                elif other := next((taken[each] for each in taken if each.overlaps(wanted)), None):
                    reason = f"overlaps the subnet {other} in it"
                else:
                    continue
                self.plan.obstacle(
                    f"{setting} holds {wanted}, which {reason}. Choose a free range of the VPC {vpc['VpcId']} "
                    "(vpc_existing_id), or name subnets of yours in vpc_existing_private_subnet_ids."
                )

    def adopted_subnets(self) -> tuple[list[str], list[str]]:
        """Check the subnets of the inventory; nothing of them is changed."""
        public, private = list(self.spec.existing_public_subnet_ids), list(self.spec.existing_private_subnet_ids)
        if self.context.ours("describe_subnets", "Subnets"):
            raise Refusal(
                f"vpc_existing_private_subnet_ids is {private}, but the platform {self.spec.platform!r} has subnets of "
                "its own in this VPC already, and AWS cannot move its database and file system out of them. Set "
                "vpc_existing_public_subnet_ids and vpc_existing_private_subnet_ids to [], or choose another "
                "name_prefix."
            )
        found = {
            subnet["SubnetId"]: subnet
            for subnet in self.context.look_up("describe_subnets", "Subnets", {"subnet-id": [*public, *private]})
        }
        for setting, ids in (("vpc_existing_public_subnet_ids", public), ("vpc_existing_private_subnet_ids", private)):
            strange = [each for each in ids if each not in found or found[each]["VpcId"] != self.context.vpc_id]
            if strange:
                self.plan.obstacle(
                    f"{setting} is {ids}: {', '.join(strange)} not found in the VPC {self.context.vpc_id}. Choices: "
                    f"aws ec2 describe-subnets --filters Name=vpc-id,Values={self.context.vpc_id} "
                    "--query 'Subnets[].[SubnetId,AvailabilityZone,CidrBlock]'."
                )
                continue
            zones = {found[each]["AvailabilityZone"] for each in ids}
            if ids and len(zones) < len(ids):
                self.plan.obstacle(
                    f"{setting} is {ids}: {len(ids)} subnets in {len(zones)} availability zone(s) "
                    f"({', '.join(sorted(zones))}). Load balancers and file systems take one subnet a zone."
                )
        return public, private

    def _table_of(self, subnet_id: str, tables: list[dict[str, Any]]) -> dict[str, Any] | None:
        """Return the route table that a subnet uses: its own or the VPC's main one."""
        main = None
        for table in tables:
            for association in table.get("Associations", []):
                if association.get("SubnetId") == subnet_id:
                    return table
                if association.get("Main"):
                    main = table
        return main

    def tables_of(self, subnet_ids: list[str]) -> list[str]:
        """Return the ids of the route tables that subnets use."""
        tables = self.context.in_vpc("describe_route_tables", "RouteTables")
        found = [self._table_of(subnet, tables) for subnet in subnet_ids]
        return sorted({table["RouteTableId"] for table in found if table})

    def require_internet(self, subnet_ids: list[str]) -> None:
        """Refuse public subnets that are none: a public address is of no use without an internet gateway."""
        tables = self.context.in_vpc("describe_route_tables", "RouteTables")
        for subnet in subnet_ids:
            table = self._table_of(subnet, tables) or {}
            if not any(
                route.get("DestinationCidrBlock") == ANYWHERE and str(route.get("GatewayId", "")).startswith("igw-")
                for route in table.get("Routes", [])
            ):
                self.plan.obstacle(
                    f"vpc_existing_public_subnet_ids holds {subnet}, whose route table "
                    f"{table.get('RouteTableId', '(none)')} has no route for {ANYWHERE} to an internet gateway, and "
                    "network_egress is public_ip. Name public subnets, or choose network_egress existing."
                )

    # -- VPC, gateway, subnets ---------------------------------------------------------------------------------

    def vpc(self) -> str:
        spec, name = self.spec, self.spec.platform
        found = self.context.everywhere("describe_vpcs", "Vpcs")
        if len(found) > 1:
            ids = ", ".join(sorted(vpc["VpcId"] for vpc in found))
            raise Refusal(
                f"{len(found)} VPCs carry the tag {PLATFORM_TAG}={name}: {ids}. One platform has one VPC. "
                "Remove the tag from those that are not in use and run this playbook again."
            )
        if not found:
            self.context.vpc_id = self.plan.create("vpc", name, {"cidr": spec.cidr}, self._create_vpc)
            self._vpc_attributes(
                {} if is_pending(self.context.vpc_id) else {"dns_support": True, "dns_hostnames": False}
            )
            return self.context.vpc_id
        vpc = found[0]
        self.context.vpc_id = vpc["VpcId"]
        if vpc["CidrBlock"] != spec.cidr:
            raise Refusal(
                f"vpc_cidr is {spec.cidr}, but the VPC {self.context.vpc_id} of {name!r} has {vpc['CidrBlock']}, and "
                f"AWS cannot change the address range of an existing VPC. Set vpc_cidr to {vpc['CidrBlock']}, or "
                "choose another name_prefix for a second platform."
            )
        self.context.keep_tags("vpc", name, self.context.vpc_id, vpc)
        self._vpc_attributes(
            {
                "dns_support": self._vpc_attribute("enableDnsSupport", "EnableDnsSupport"),
                "dns_hostnames": self._vpc_attribute("enableDnsHostnames", "EnableDnsHostnames"),
            }
        )
        return self.context.vpc_id

    def _create_vpc(self) -> str:
        vpc = self.ec2.create_vpc(
            CidrBlock=self.spec.cidr, TagSpecifications=self.context.tag_specification("vpc", self.spec.platform)
        )["Vpc"]
        wait_with(self.ec2, "vpc_available", f"the VPC {vpc['VpcId']} to be there", VpcIds=[vpc["VpcId"]])
        return str(vpc["VpcId"])

    def _vpc_attribute(self, attribute: str, result: str) -> bool:
        answer = self.ec2.describe_vpc_attribute(VpcId=self.context.vpc_id, Attribute=attribute)
        return bool(answer[result]["Value"])

    def _vpc_attributes(self, current: Mapping[str, bool]) -> None:
        """EFS mount targets are found by DNS name, which needs both DNS attributes."""
        parameters = {"dns_support": "EnableDnsSupport", "dns_hostnames": "EnableDnsHostnames"}

        def set_attributes(changed: Mapping[str, bool]) -> None:
            for key, value in changed.items():
                self.ec2.modify_vpc_attribute(VpcId=self.context.vpc_id, **{parameters[key]: {"Value": value}})

        if not is_pending(self.context.vpc_id):
            self.plan.update_if_different(
                "vpc", self.spec.platform, current, dict.fromkeys(parameters, True), set_attributes
            )

    def internet_gateway(self) -> str:
        kind, name = "internet-gateway", self.context.name("internet")
        if self.spec.existing_vpc_id:
            others = self.context.look_up(
                "describe_internet_gateways", "InternetGateways", {"attachment.vpc-id": [self.context.vpc_id]}
            )
            # A VPC has one at most.
            if others and not self.context.marked(others[0]):
                return str(others[0]["InternetGatewayId"])
        # Found by its mark only: a gateway that lost its attachment is attached again, not doubled.
        found = self.context.everywhere("describe_internet_gateways", "InternetGateways")
        if not found:

            def create() -> str:
                gateway = self.ec2.create_internet_gateway(
                    TagSpecifications=self.context.tag_specification("internet-gateway", name)
                )["InternetGateway"]["InternetGatewayId"]
                self.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=self.context.vpc_id)
                return str(gateway)

            return self.plan.create(kind, name, {"vpc": self.context.vpc_id}, create)
        gateway = found[0]
        gateway_id = str(gateway["InternetGatewayId"])
        self.context.keep_tags(kind, name, gateway_id, gateway)
        attached = [attachment["VpcId"] for attachment in gateway.get("Attachments", [])]
        self.plan.update_if_different(
            kind,
            name,
            {"attached_to": attached},
            {"attached_to": [self.context.vpc_id]},
            lambda _: self.ec2.attach_internet_gateway(InternetGatewayId=gateway_id, VpcId=self.context.vpc_id),
        )
        return gateway_id

    def subnets(self) -> tuple[list[str], list[str]]:
        existing = {
            tag_dict(subnet.get("Tags")).get("Name", ""): subnet
            for subnet in self.context.ours("describe_subnets", "Subnets")
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
        name = self.context.name(suffix)
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
        self.context.keep_tags("subnet", name, subnet_id, found)
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
            VpcId=self.context.vpc_id,
            CidrBlock=cidr,
            AvailabilityZone=zone,
            TagSpecifications=self.context.tag_specification("subnet", name),
        )["Subnet"]["SubnetId"]
        wait_with(self.ec2, "subnet_available", f"the subnet {subnet} to be there", SubnetIds=[subnet])
        return str(subnet)

    # -- Routes ------------------------------------------------------------------------------------------------

    def route_table(self, suffix: str, subnet_ids: list[str]) -> _RouteTable:
        kind, name = "route-table", self.context.name(suffix)
        # All tables of the VPC: a subnet may have been tied to some other one behind our back.
        tables = self.context.in_vpc("describe_route_tables", "RouteTables")
        found = [
            table
            for table in tables
            if {"Name": name, PLATFORM_TAG: self.spec.platform}.items() <= tag_dict(table.get("Tags")).items()
        ]
        if found:
            table = _RouteTable(found[0]["RouteTableId"], name, found[0].get("Routes", []))
            self.context.keep_tags(kind, name, table.id, found[0])
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

    def _create_table(self, name: str) -> str:
        return str(
            self.ec2.create_route_table(
                VpcId=self.context.vpc_id, TagSpecifications=self.context.tag_specification("route-table", name)
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

    def no_default_route(self, table: _RouteTable) -> None:
        """Take away the way out through a NAT, once nothing uses it any more."""
        found = next((route for route in table.routes if route.get("DestinationCidrBlock") == ANYWHERE), None)
        if found:
            target = next(
                (found[key] for key in ("NatGatewayId", "NetworkInterfaceId", "GatewayId") if found.get(key)), ""
            )
            self.context.retire(
                "route",
                f"{table.name} {ANYWHERE}",
                {"target": target},
                partial(self.ec2.delete_route, RouteTableId=table.id, DestinationCidrBlock=ANYWHERE),
            )


def remove_network(clients: NetworkClients, platform: str, region: str, plan: Plan) -> None:
    """Remove everything that `ensure_network` made, in an order that AWS accepts. Safe to repeat at any point."""
    context = Context(clients, NetworkSpec(platform, region), plan)
    own = {vpc["VpcId"]: vpc for vpc in context.everywhere("describe_vpcs", "Vpcs")}
    homes = {group["VpcId"] for group in context.everywhere("describe_security_groups", "SecurityGroups")}
    homes |= {subnet["VpcId"] for subnet in context.everywhere("describe_subnets", "Subnets")}
    for vpc_id in sorted({*own, *homes}):
        context.vpc_id = vpc_id
        nat = Nat(context)
        nat.remove_instances()
        nat.remove_gateways()
        Endpoints(context).remove()
        _remove_groups(context)
        _remove_subnets_and_tables(context)
        if vpc_id in own:
            _remove_gateways(context)
            plan.remove(
                "vpc",
                platform,
                {"id": vpc_id, "cidr": own[vpc_id]["CidrBlock"]},
                partial(
                    retry_while,
                    STILL_IN_USE,
                    f"the VPC {vpc_id} to become empty",
                    partial(context.ec2.delete_vpc, VpcId=vpc_id),
                    seconds=300,
                    advice=(
                        "Somebody else's resources may be in it: aws ec2 describe-network-interfaces --filters "
                        f"Name=vpc-id,Values={vpc_id}; remove them and run this again."
                    ),
                ),
            )
    if not own:
        # Of an adopted VPC, or what an interrupted run left behind when the VPC was gone already.
        _remove_gateways(context)
        Nat(context).remove_addresses()


def _remove_groups(context: Context) -> None:
    ec2, plan = context.ec2, context.plan
    groups = context.ours("describe_security_groups", "SecurityGroups")
    _refuse_references(context, groups)
    # Groups name each other in their rules and could not be deleted otherwise.
    for group in groups:
        for direction, revoke in (
            ("IpPermissions", ec2.revoke_security_group_ingress),
            ("IpPermissionsEgress", ec2.revoke_security_group_egress),
        ):
            if group.get(direction) and not plan.check_mode:
                revoke(GroupId=group["GroupId"], IpPermissions=[permission(rule) for rule in flatten(group[direction])])
    for group in groups:
        plan.remove(*group_removal(context, group))


def _refuse_references(context: Context, groups: list[dict[str, Any]]) -> None:
    """Name somebody else's groups whose rules keep ours from being deleted."""
    ids = [group["GroupId"] for group in groups]
    for name in ("ip-permission.group-id", "egress.ip-permission.group-id"):
        for other in context.look_up("describe_security_groups", "SecurityGroups", {name: ids}):
            if not context.marked(other):
                context.plan.obstacle(
                    f"The security group {other['GroupName']!r} ({other['GroupId']}) is not of this platform and names "
                    f"groups of it in its rules ({name}); AWS keeps what is named from being deleted. Remove these "
                    "rules (aws ec2 revoke-security-group-ingress, revoke-security-group-egress) and run this again."
                )


def _remove_subnets_and_tables(context: Context) -> None:
    ec2, plan = context.ec2, context.plan
    for subnet in context.ours("describe_subnets", "Subnets"):
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
    for table in context.ours("describe_route_tables", "RouteTables"):

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


def _remove_gateways(context: Context) -> None:
    ec2 = context.ec2
    for gateway in context.everywhere("describe_internet_gateways", "InternetGateways"):

        def delete(gateway: dict[str, Any] = gateway) -> None:
            for attachment in gateway.get("Attachments", []):
                ec2.detach_internet_gateway(InternetGatewayId=gateway["InternetGatewayId"], VpcId=attachment["VpcId"])
            ec2.delete_internet_gateway(InternetGatewayId=gateway["InternetGatewayId"])

        context.plan.remove("internet-gateway", context.name("internet"), {"id": gateway["InternetGatewayId"]}, delete)
