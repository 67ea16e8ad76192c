"""The ways out of the private subnets: NAT instance, NAT gateway, endpoints of AWS services."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from .aws_network_base import Context
from .aws_plan import PLATFORM_TAG, Refusal, tag_dict, wait_with

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

NAT_VOLUME = {"Encrypted": True, "VolumeType": "gp3", "VolumeSize": 8, "DeleteOnTermination": True}
"""The root volume, in GiB as large as Amazon Linux asks for; it holds nothing but the system."""

NAT_CREDITS = "standard"
"""Without credits it slows down; the other choice, unlimited, is billed."""

NAT_METADATA = {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
"""Tokens only, and no hop further than the instance itself."""

INTERFACE_ENDPOINTS = ("ecr.api", "ecr.dkr", "logs", "secretsmanager")
"""What Fargate tasks of platform 1.4 call besides S3: image, log, secrets; Amazon ECS and ECR user guides."""


def _burstable(instance_type: str) -> bool:
    """Tell whether a type has CPU credits; for others EC2 refuses a word about them."""
    return instance_type.startswith("t")


def _settings_with_price(instance: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "instance_type": instance["InstanceType"],
        "state": instance["State"]["Name"],
        "volume_gib": NAT_VOLUME["VolumeSize"],
    }


class Nat:
    """NAT instance and NAT gateway of one platform."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def gateway(self, subnet_id: str) -> str:
        kind, name = "nat-gateway", self.context.name("nat")
        found = [gateway for gateway in self._gateways() if gateway["State"] in ("pending", "available")]
        if not found:
            address = self._address()

            def create() -> str:
                gateway = self.context.ec2.create_nat_gateway(
                    SubnetId=subnet_id,
                    AllocationId=address,
                    TagSpecifications=self.context.tag_specification("natgateway", name),
                )
                return str(gateway["NatGateway"]["NatGatewayId"])

            return self.context.plan.create(kind, name, {"subnet": subnet_id}, create)
        gateway = found[0]
        self.context.keep_tags(kind, name, gateway["NatGatewayId"], gateway)
        for found_address in self._addresses():
            self.context.keep_tags("elastic-ip", name, found_address["AllocationId"], found_address)
        return str(gateway["NatGatewayId"])

    def gateway_is_there(self, gateway_id: str) -> bool:
        """Tell whether a route may point at the gateway, or wait until one may."""

        def there() -> bool:
            (gateway,) = self.context.ec2.describe_nat_gateways(NatGatewayIds=[gateway_id])["NatGateways"]
            if gateway["State"] == "failed":
                raise Refusal(
                    f"The NAT gateway {gateway_id} failed to start: {gateway.get('FailureMessage', 'no reason given')} "
                    "Run this playbook again when the reason is gone: it makes another one."
                )
            return bool(gateway["State"] == "available")

        return self.context.plan.settled(f"the NAT gateway {gateway_id} to become available", there, seconds=600)

    def _gateways(self) -> list[dict[str, Any]]:
        return self.context.ours("describe_nat_gateways", "NatGateways")

    def _address(self) -> str:
        """Return the allocation id of the NAT gateway's address; one left by an interrupted run is used again."""
        name = self.context.name("nat")
        found = self._addresses()
        if found:
            return str(found[0]["AllocationId"])
        return self.context.plan.create(
            "elastic-ip",
            name,
            {},
            lambda: str(
                self.context.ec2.allocate_address(
                    Domain="vpc", TagSpecifications=self.context.tag_specification("elastic-ip", name)
                )["AllocationId"]
            ),
        )

    def _addresses(self) -> list[dict[str, Any]]:
        answer = self.context.ec2.describe_addresses(
            Filters=[{"Name": f"tag:{PLATFORM_TAG}", "Values": [self.context.spec.platform]}]
        )
        return list(answer["Addresses"])

    def instance(self, subnet_id: str, group_id: str) -> tuple[str, str]:
        """Return the ids of the NAT instance's network interface, which is what a route points at, and its own."""
        kind, name, spec = "nat-instance", self.context.name("nat"), self.context.spec
        found = self._instances()
        if not found:
            created: dict[str, Any] = {}

            def create() -> str:
                created.update(self._create_instance(name, subnet_id, group_id))
                return str(created["NetworkInterfaces"][0]["NetworkInterfaceId"])

            interface_id = self.context.plan.create(
                kind,
                name,
                {"instance_type": spec.nat_instance_type, "subnet": subnet_id},
                create,
                unchanged={"state": "running", "volume_gib": NAT_VOLUME["VolumeSize"]},
            )
            return interface_id, str(created.get("InstanceId", ""))
        instance = found[0]
        instance_id = str(instance["InstanceId"])
        interface = instance["NetworkInterfaces"][0]
        self.context.keep_tags(kind, name, instance_id, instance)
        self._keep_tags_of_parts(instance)
        metadata = instance.get("MetadataOptions", {})
        self.context.plan.update_if_different(
            kind,
            name,
            {
                "source_dest_check": instance.get("SourceDestCheck"),
                "security_groups": [group["GroupId"] for group in interface.get("Groups", [])],
                "metadata": {key: metadata.get(key) for key in NAT_METADATA},
                "cpu_credits": self._credits(instance),
            },
            {
                "source_dest_check": False,
                "security_groups": [group_id],
                "metadata": NAT_METADATA,
                **({"cpu_credits": NAT_CREDITS} if _burstable(instance["InstanceType"]) else {}),
            },
            lambda after: self._modify_instance(instance_id, after),
        )
        self.context.plan.update_if_different(
            kind,
            name,
            {"instance_type": instance["InstanceType"], "state": instance["State"]["Name"]},
            {"instance_type": spec.nat_instance_type, "state": "running"},
            lambda after: self._restart_instance(instance_id, after),
            unchanged=_settings_with_price(instance),
        )
        return str(interface["NetworkInterfaceId"]), instance_id

    def instance_is_there(self, instance_id: str) -> bool:
        """Tell whether the instance passes its status checks, or wait until it does.

        EC2 says nothing about its start script; that is done within the minutes that the checks take.
        """

        def healthy() -> bool:
            answer = self.context.ec2.describe_instance_status(InstanceIds=[instance_id])["InstanceStatuses"]
            states = [answer[0][key]["Status"] for key in ("InstanceStatus", "SystemStatus")] if answer else []
            if "impaired" in states:
                raise Refusal(
                    f"The NAT instance {instance_id} fails its status checks. Terminate it "
                    f"(aws ec2 terminate-instances --instance-ids {instance_id}) and run this playbook again: it makes "
                    "another one."
                )
            return bool(states) and set(states) <= {"ok", "not-applicable"}

        return self.context.plan.settled(
            f"the NAT instance {instance_id} to pass its status checks",
            healthy,
            seconds=600,
            advice=f"Look at its console: aws ec2 get-console-output --instance-id {instance_id}",
        )

    def _instances(self) -> list[dict[str, Any]]:
        living = ("pending", "running", "stopping", "stopped")
        return [
            instance
            for reservation in self.context.ours("describe_instances", "Reservations")
            for instance in reservation["Instances"]
            if instance["State"]["Name"] in living
        ]

    def _create_instance(self, name: str, subnet_id: str, group_id: str) -> dict[str, Any]:
        image = self.context.ssm.get_parameter(Name=self.context.spec.nat_image_parameter)["Parameter"]["Value"]
        credits_of_type = (
            {"CreditSpecification": {"CpuCredits": NAT_CREDITS}}
            if _burstable(self.context.spec.nat_instance_type)
            else {}
        )
        instance_id = self.context.ec2.run_instances(
            ImageId=image,
            InstanceType=self.context.spec.nat_instance_type,
            MinCount=1,
            MaxCount=1,
            UserData=NAT_USER_DATA,
            MetadataOptions=NAT_METADATA,
            **credits_of_type,
            BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": NAT_VOLUME}],
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
                *self.context.tag_specification("instance", name),
                *self.context.tag_specification("volume", name),
                *self.context.tag_specification("network-interface", name),
            ],
        )["Instances"][0]["InstanceId"]
        wait_with(
            self.context.ec2, "instance_running", f"the NAT instance {instance_id} to run", InstanceIds=[instance_id]
        )
        self._modify_instance(instance_id, {"source_dest_check": False})
        answer = self.context.ec2.describe_instances(InstanceIds=[instance_id])
        return dict(answer["Reservations"][0]["Instances"][0])

    def _modify_instance(self, instance_id: str, after: Mapping[str, Any]) -> None:
        if "source_dest_check" in after:
            self.context.ec2.modify_instance_attribute(InstanceId=instance_id, SourceDestCheck={"Value": False})
        if "security_groups" in after:
            self.context.ec2.modify_instance_attribute(InstanceId=instance_id, Groups=after["security_groups"])
        if "metadata" in after:
            self.context.ec2.modify_instance_metadata_options(InstanceId=instance_id, **after["metadata"])
        if "cpu_credits" in after:
            self._set_credits(instance_id)

    def _set_credits(self, instance_id: str) -> None:
        self.context.ec2.modify_instance_credit_specification(
            InstanceCreditSpecifications=[{"InstanceId": instance_id, "CpuCredits": NAT_CREDITS}]
        )

    def _credits(self, instance: Mapping[str, Any]) -> str | None:
        if not _burstable(instance["InstanceType"]):
            return None
        answer = self.context.ec2.describe_instance_credit_specifications(InstanceIds=[instance["InstanceId"]])
        return next((str(item["CpuCredits"]) for item in answer["InstanceCreditSpecifications"]), None)

    def _keep_tags_of_parts(self, instance: Mapping[str, Any]) -> None:
        """Keep the tags of the instance's volume and network interface, which have lines of their own in the bill."""
        name = self.context.name("nat")
        parts = {
            **{device["Ebs"]["VolumeId"]: "volume" for device in instance.get("BlockDeviceMappings", [])},
            **{interface["NetworkInterfaceId"]: "network-interface" for interface in instance["NetworkInterfaces"]},
        }
        found: dict[str, list[dict[str, str]]] = {part: [] for part in parts}
        for tag in self.context.look_up("describe_tags", "Tags", {"resource-id": list(parts)}):
            found[tag["ResourceId"]].append(tag)
        for part, kind in parts.items():
            self.context.keep_tags(kind, name, part, {"Tags": found[part]})

    def _restart_instance(self, instance_id: str, after: Mapping[str, Any]) -> None:
        """Change the type, which needs a stop, and see that the instance runs. Egress pauses for about a minute."""
        if "instance_type" in after:
            self.context.ec2.stop_instances(InstanceIds=[instance_id])
            wait_with(
                self.context.ec2,
                "instance_stopped",
                f"the NAT instance {instance_id} to stop",
                InstanceIds=[instance_id],
            )
            self.context.ec2.modify_instance_attribute(
                InstanceId=instance_id, InstanceType={"Value": after["instance_type"]}
            )
            if _burstable(after["instance_type"]):
                self._set_credits(instance_id)
        else:
            # An instance that is still stopping cannot be started yet.
            answer = self.context.ec2.describe_instances(InstanceIds=[instance_id])
            if answer["Reservations"][0]["Instances"][0]["State"]["Name"] == "stopping":
                wait_with(
                    self.context.ec2,
                    "instance_stopped",
                    f"the NAT instance {instance_id} to stop",
                    InstanceIds=[instance_id],
                )
        self.context.ec2.start_instances(InstanceIds=[instance_id])
        wait_with(
            self.context.ec2, "instance_running", f"the NAT instance {instance_id} to run", InstanceIds=[instance_id]
        )

    def remove_instances(self) -> None:
        for instance in self._instances():
            instance_id = instance["InstanceId"]

            def terminate(instance_id: str = instance_id) -> None:
                self.context.ec2.terminate_instances(InstanceIds=[instance_id])
                wait_with(
                    self.context.ec2,
                    "instance_terminated",
                    f"the NAT instance {instance_id} to end",
                    InstanceIds=[instance_id],
                )

            self.context.retire(
                "nat-instance",
                self.context.name("nat"),
                {"id": instance_id, "instance_type": instance["InstanceType"]},
                terminate,
                unchanged=_settings_with_price(instance),
            )

    def remove_gateways(self) -> None:
        for gateway in self._gateways():
            gateway_id = gateway["NatGatewayId"]
            if gateway["State"] == "deleted":
                continue

            def delete(gateway_id: str = gateway_id) -> None:
                self.context.ec2.delete_nat_gateway(NatGatewayId=gateway_id)
                wait_with(
                    self.context.ec2,
                    "nat_gateway_deleted",
                    f"the NAT gateway {gateway_id} to go",
                    NatGatewayIds=[gateway_id],
                )

            self.context.retire("nat-gateway", self.context.name("nat"), {"id": gateway_id}, delete)
        self.remove_addresses()

    def remove_addresses(self) -> None:
        for address in self._addresses():
            self.context.retire(
                "elastic-ip",
                self.context.name("nat"),
                {"address": address.get("PublicIp")},
                partial(self.context.ec2.release_address, AllocationId=address["AllocationId"]),
            )


class Endpoints:
    """The endpoints of AWS services in the VPC of one platform."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._all = [
            endpoint
            for endpoint in context.in_vpc("describe_vpc_endpoints", "VpcEndpoints")
            if endpoint["State"].lower() not in ("deleting", "deleted", "failed", "rejected", "expired")
        ]
        self._ours = {endpoint["ServiceName"]: endpoint for endpoint in self._all if context.marked(endpoint)}

    def _service(self, suffix: str) -> str:
        return f"com.amazonaws.{self.context.spec.region}.{suffix}"

    def gateway(self, table_ids: list[str]) -> None:
        """Keep the endpoint of S3, which costs nothing, in the route tables."""
        context, service = self.context, self._service("s3")
        kind, name = "vpc-endpoint", context.name("s3")
        found = self._ours.get(service)
        if found is None:

            def create() -> str:
                return str(
                    context.ec2.create_vpc_endpoint(
                        VpcId=context.vpc_id,
                        VpcEndpointType="Gateway",
                        ServiceName=service,
                        RouteTableIds=table_ids,
                        TagSpecifications=context.tag_specification("vpc-endpoint", name),
                    )["VpcEndpoint"]["VpcEndpointId"]
                )

            context.plan.create(kind, name, {"type": "Gateway", "service": service, "route_tables": table_ids}, create)
            return
        context.keep_tags(kind, name, found["VpcEndpointId"], found)
        self._modify(found, name, {"route_tables": ("RouteTableIds", found.get("RouteTableIds", []), table_ids)})

    def require_gateway(self, subnet_ids: list[str], table_ids: list[str]) -> None:
        """Refuse subnets of somebody else's whose tasks would not reach S3, where the layers of images lie too."""
        service = self._service("s3")
        reaching = {
            table
            for endpoint in self._all
            if endpoint["ServiceName"] == service
            for table in endpoint.get("RouteTableIds", [])
        }
        if missing := sorted(set(table_ids) - reaching):
            self.context.plan.obstacle(
                f"network_egress is vpc_endpoints, but no route leads from the subnets {', '.join(subnet_ids)} to S3, "
                "and this playbook does not change route tables that are not its own. Make the gateway endpoint, which "
                f"costs nothing: aws ec2 create-vpc-endpoint --vpc-id {self.context.vpc_id} --service-name {service} "
                f"--route-table-ids {' '.join(missing)}; then run this playbook again. Or choose network_egress "
                "existing."
            )

    def interfaces(self, subnet_ids: list[str], group_id: str) -> None:
        """Keep an endpoint of each service that tasks call, under its usual name, in the private subnets.

        An endpoint of somebody else's with the same private name is used as it is: AWS allows one a VPC.
        """
        foreign = {
            endpoint["ServiceName"]
            for endpoint in self._all
            if endpoint.get("PrivateDnsEnabled") and not self.context.marked(endpoint)
        }
        suffixes = (*INTERFACE_ENDPOINTS, *(("ssmmessages",) if self.context.spec.ecs_exec else ()))
        for suffix in suffixes:
            if self._service(suffix) not in foreign:
                self._interface(suffix, subnet_ids, group_id)
        self._remove_interfaces(keep=suffixes)

    def _interface(self, suffix: str, subnet_ids: list[str], group_id: str) -> None:
        context, service = self.context, self._service(suffix)
        kind, name = "vpc-endpoint", context.name(suffix.replace(".", "-"))
        found = self._ours.get(service)
        if found is None:

            def create() -> str:
                return str(
                    context.ec2.create_vpc_endpoint(
                        VpcId=context.vpc_id,
                        VpcEndpointType="Interface",
                        ServiceName=service,
                        SubnetIds=subnet_ids,
                        SecurityGroupIds=[group_id],
                        PrivateDnsEnabled=True,
                        TagSpecifications=context.tag_specification("vpc-endpoint", name),
                    )["VpcEndpoint"]["VpcEndpointId"]
                )

            settings = {"type": "Interface", "service": service, "subnets": subnet_ids}
            context.plan.create(kind, name, settings, create)
            return
        context.keep_tags(kind, name, found["VpcEndpointId"], found)
        groups = [group["GroupId"] for group in found.get("Groups", [])]
        self._modify(
            found,
            name,
            {
                "subnets": ("SubnetIds", found.get("SubnetIds", []), subnet_ids),
                "security_groups": ("SecurityGroupIds", groups, [group_id]),
            },
        )
        context.plan.update_if_different(
            kind,
            name,
            {"private_dns": found.get("PrivateDnsEnabled")},
            {"private_dns": True},
            lambda _: context.ec2.modify_vpc_endpoint(VpcEndpointId=found["VpcEndpointId"], PrivateDnsEnabled=True),
        )

    def _modify(
        self, found: Mapping[str, Any], name: str, lists: Mapping[str, tuple[str, list[str], list[str]]]
    ) -> None:
        """Add and remove what differs; `lists`: setting -> (parameter's name after Add and Remove, present, wanted)."""
        for setting, (parameter, present, wanted) in lists.items():
            parts = {f"Add{parameter}": set(wanted) - set(present), f"Remove{parameter}": set(present) - set(wanted)}
            changes = {key: sorted(ids) for key, ids in parts.items() if ids}
            if changes:
                self.context.plan.update(
                    "vpc-endpoint",
                    name,
                    {setting: sorted(present)},
                    {setting: sorted(wanted)},
                    partial(self.context.ec2.modify_vpc_endpoint, VpcEndpointId=found["VpcEndpointId"], **changes),
                    unchanged={"type": found["VpcEndpointType"]},
                )

    def are_there(self) -> bool:
        """Tell whether the platform's endpoints can be used, or wait until they can."""

        def available() -> bool:
            states = {
                endpoint["State"].lower()
                for endpoint in self.context.ours("describe_vpc_endpoints", "VpcEndpoints")
                if endpoint["State"].lower() not in ("deleting", "deleted")
            }
            return states <= {"available"}

        return self.context.plan.settled(
            f"the VPC endpoints of {self.context.spec.platform} to become available", available, seconds=600
        )

    def remove_interfaces(self) -> None:
        """Remove all endpoints but the one of S3."""
        self._remove_interfaces(keep=())

    def _remove_interfaces(self, keep: tuple[str, ...]) -> None:
        kept = {self._service(suffix) for suffix in (*keep, "s3")}
        for service, endpoint in self._ours.items():
            if service not in kept:
                self.context.retire(
                    "vpc-endpoint",
                    tag_dict(endpoint.get("Tags")).get("Name", service),
                    {
                        "type": endpoint["VpcEndpointType"],
                        "service": service,
                        "subnets": endpoint.get("SubnetIds", []),
                    },
                    partial(self.context.ec2.delete_vpc_endpoints, VpcEndpointIds=[endpoint["VpcEndpointId"]]),
                )

    def remove(self) -> None:
        """Remove all of them."""
        self.remove_interfaces()
        if found := self._ours.get(self._service("s3")):
            self.context.plan.remove(
                "vpc-endpoint",
                self.context.name("s3"),
                {"type": "Gateway", "service": found["ServiceName"]},
                partial(self.context.ec2.delete_vpc_endpoints, VpcEndpointIds=[found["VpcEndpointId"]]),
            )
