#!/usr/bin/python
"""Ansible module: the platform's VPC with subnets, routes, egress, S3 endpoint and security groups."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ec2_network
short_description: Keep the whole network of a Dagster platform as described
description:
  - Makes a VPC with public and private subnets, route tables, an internet gateway, egress for the private subnets,
    a gateway endpoint for S3 and the security groups, and brings each of their settings back when it has drifted.
  - The parts name each other. The collection's modules fail in check mode as soon as one of them does not exist yet,
    and cost twenty tasks; this module makes about ten read requests when nothing is to change.
  - Everything it makes carries the tag C(dagster-platform); nothing without this tag is changed or removed.
options:
  cidr:
    description: Address range of the VPC, e.g. 10.42.0.0/16.
    type: str
  public_cidrs:
    description: Address ranges of the public subnets, one per availability zone.
    type: list
    elements: str
  private_cidrs:
    description: Address ranges of the private subnets, one per availability zone.
    type: list
    elements: str
  zones:
    description: Availability zones, in the order of the address ranges; empty for the first of the region.
    type: list
    elements: str
    default: []
  egress:
    description:
      - How tasks reach AWS and the internet. With C(vpc_endpoints) they reach the services of AWS that they need and
        nothing else; with C(public_ip) they are in the public subnets; C(existing) is whatever the routes of
        I(existing_private_subnet_ids) lead to.
    type: str
    choices: [nat_instance, nat_gateway, vpc_endpoints, public_ip, existing]
  nat_instance_type:
    description: Instance type of the NAT instance (ARM64).
    type: str
    default: t4g.nano
  nat_image_parameter:
    description: Public SSM parameter that names the image for a new NAT instance.
    type: str
    default: /aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64
  load_balancer:
    description: Whether browsers reach the webserver through a load balancer.
    type: bool
    default: true
  ui_authentication:
    description: Whether the load balancer asks for a log-in, for which it must reach the identity provider.
    type: bool
    default: false
  ecs_exec:
    description: Whether tasks can be entered with ECS Exec; with C(vpc_endpoints) that needs one more endpoint.
    type: bool
    default: false
  existing_vpc_id:
    description: Id of a VPC of yours to use instead of making one. It is never changed.
    type: str
    default: ""
  existing_public_subnet_ids:
    description: Public subnets of yours in that VPC. They, their routes and what these lead to are never changed.
    type: list
    elements: str
    default: []
  existing_private_subnet_ids:
    description: Private subnets of yours in that VPC.
    type: list
    elements: str
    default: []
  clean_up:
    description:
      - Whether to remove what is not wanted any more, such as the NAT of another I(egress). Without it this is left to
        a later call and named in RV(leftover), because tasks and load balancer still use it.
    type: bool
    default: true
  ui_ports:
    description: Ports on which the load balancer listens.
    type: list
    elements: int
    default: []
  ui_cidrs:
    description: Address ranges that may reach the load balancer or, without one, the webserver.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - platform
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the network
  ec2_network:
    platform: dagster-production
    cidr: 10.42.0.0/16
    public_cidrs: [10.42.0.0/24, 10.42.1.0/24]
    private_cidrs: [10.42.16.0/24, 10.42.17.0/24]
    egress: nat_instance
    ui_ports: [443]
    ui_cidrs: [198.51.100.0/24]
"""

RETURN = r"""
vpc_id:
  description: Id of the VPC; C(pending:vpc/NAME) in check mode when it does not exist yet.
  returned: when state is present
  type: str
public_subnet_ids:
  description: Ids of the public subnets, in the order of I(public_cidrs).
  returned: when state is present
  type: list
private_subnet_ids:
  description: Ids of the private subnets, in the order of I(private_cidrs).
  returned: when state is present
  type: list
security_group_ids:
  description: Ids by role, with the keys alb (with a load balancer), webserver, daemon, database and file_system.
  returned: when state is present
  type: dict
task_subnet_ids:
  description: Ids of the subnets for tasks.
  returned: when state is present
  type: list
assign_public_ip:
  description: Whether tasks need a public address to reach anything.
  returned: when state is present
  type: bool
leftover:
  description: What a call with I(clean_up) has to remove.
  returned: when state is present
  type: list
changes:
  description: One entry per changed resource, with action, kind, name, before and after.
  returned: always
  type: list
"""

from typing import Any

from ansible.module_utils.aws_network import ensure_network, remove_network
from ansible.module_utils.aws_network_base import NetworkClients, NetworkSpec
from ansible.module_utils.aws_plan import Plan
from ansible.module_utils.aws_run import run


def work(module: Any, plan: Plan) -> dict[str, Any]:
    """Bring the network to the wanted state."""
    arguments = module.params
    clients = NetworkClients(module.client("ec2"), module.client("ssm"))
    if arguments["state"] == "absent":
        remove_network(clients, arguments["platform"], module.region, plan)
        return {}
    spec = NetworkSpec(
        platform=arguments["platform"],
        region=module.region,
        cidr=arguments["cidr"],
        public_cidrs=tuple(arguments["public_cidrs"]),
        private_cidrs=tuple(arguments["private_cidrs"]),
        zones=tuple(arguments["zones"]),
        egress=arguments["egress"],
        nat_instance_type=arguments["nat_instance_type"],
        nat_image_parameter=arguments["nat_image_parameter"],
        load_balancer=arguments["load_balancer"],
        ui_ports=tuple(arguments["ui_ports"]),
        ui_cidrs=tuple(arguments["ui_cidrs"]),
        ui_authentication=arguments["ui_authentication"],
        ecs_exec=arguments["ecs_exec"],
        existing_vpc_id=arguments["existing_vpc_id"],
        existing_public_subnet_ids=tuple(arguments["existing_public_subnet_ids"]),
        existing_private_subnet_ids=tuple(arguments["existing_private_subnet_ids"]),
        tags=arguments["resource_tags"],
    )
    network = ensure_network(clients, spec, plan, clean_up=arguments["clean_up"])
    return {
        "vpc_id": network.vpc_id,
        "public_subnet_ids": network.public_subnet_ids,
        "private_subnet_ids": network.private_subnet_ids,
        "security_group_ids": network.security_group_ids,
        "task_subnet_ids": network.task_subnet_ids,
        "assign_public_ip": network.assign_public_ip,
        "leftover": network.leftover,
    }


def main() -> None:
    """Entry point of Ansible."""
    strings = {"type": "list", "elements": "str"}
    run(
        {
            "cidr": {"type": "str"},
            "public_cidrs": dict(strings),
            "private_cidrs": dict(strings),
            "zones": {**strings, "default": []},
            "egress": {
                "type": "str",
                "choices": ["nat_instance", "nat_gateway", "vpc_endpoints", "public_ip", "existing"],
            },
            "nat_instance_type": {"type": "str", "default": "t4g.nano"},
            "nat_image_parameter": {
                "type": "str",
                "default": "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64",
            },
            "load_balancer": {"type": "bool", "default": True},
            "ui_authentication": {"type": "bool", "default": False},
            "ecs_exec": {"type": "bool", "default": False},
            "existing_vpc_id": {"type": "str", "default": ""},
            "existing_public_subnet_ids": {**strings, "default": []},
            "existing_private_subnet_ids": {**strings, "default": []},
            "clean_up": {"type": "bool", "default": True},
            "ui_ports": {"type": "list", "elements": "int", "default": []},
            "ui_cidrs": {**strings, "default": []},
        },
        work,
        required_if=[("state", "present", ["cidr", "public_cidrs", "private_cidrs", "egress"])],
    )


if __name__ == "__main__":
    main()
