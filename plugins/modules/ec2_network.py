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
    description: How the private subnets reach the internet.
    type: str
    choices: [nat_instance, nat_gateway]
  nat_instance_type:
    description: Instance type of the NAT instance (ARM64).
    type: str
    default: t4g.nano
  nat_image_parameter:
    description: Public SSM parameter that names the image for a new NAT instance.
    type: str
    default: /aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64
  ui_ports:
    description: Ports on which the load balancer listens.
    type: list
    elements: int
    default: []
  ui_cidrs:
    description: Address ranges that may reach the load balancer.
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
  description: Ids by role, with the keys alb, webserver, daemon, database and file_system.
  returned: when state is present
  type: dict
changes:
  description: One entry per changed resource, with action, kind, name, before and after.
  returned: always
  type: list
"""

from typing import Any

from ansible.module_utils.aws_network import NetworkClients, NetworkSpec, ensure_network, remove_network
from ansible.module_utils.aws_plan import Plan
from ansible.module_utils.aws_run import run


def work(module: Any, plan: Plan) -> dict[str, Any]:
    """Bring the network to the wanted state."""
    arguments = module.params
    clients = NetworkClients(module.client("ec2"), module.client("ssm"))
    if arguments["state"] == "absent":
        remove_network(clients, arguments["platform"], module.region, plan)
        return {}
    network = ensure_network(
        clients,
        NetworkSpec(
            platform=arguments["platform"],
            cidr=arguments["cidr"],
            public_cidrs=tuple(arguments["public_cidrs"]),
            private_cidrs=tuple(arguments["private_cidrs"]),
            region=module.region,
            egress=arguments["egress"],
            nat_instance_type=arguments["nat_instance_type"],
            nat_image_parameter=arguments["nat_image_parameter"],
            ui_ports=tuple(arguments["ui_ports"]),
            ui_cidrs=tuple(arguments["ui_cidrs"]),
            zones=tuple(arguments["zones"]),
            tags=arguments["resource_tags"],
        ),
        plan,
    )
    return {
        "vpc_id": network.vpc_id,
        "public_subnet_ids": network.public_subnet_ids,
        "private_subnet_ids": network.private_subnet_ids,
        "security_group_ids": network.security_group_ids,
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
            "egress": {"type": "str", "choices": ["nat_instance", "nat_gateway"]},
            "nat_instance_type": {"type": "str", "default": "t4g.nano"},
            "nat_image_parameter": {
                "type": "str",
                "default": "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64",
            },
            "ui_ports": {"type": "list", "elements": "int", "default": []},
            "ui_cidrs": {**strings, "default": []},
        },
        work,
        required_if=[("state", "present", ["cidr", "public_cidrs", "private_cidrs", "egress"])],
    )


if __name__ == "__main__":
    main()
