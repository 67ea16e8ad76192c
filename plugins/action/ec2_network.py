"""Ansible action: the network of a platform."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_network import ensure_network, remove_network  # noqa: E402
from ansible.module_utils.aws_network_base import NetworkClients, NetworkSpec  # noqa: E402
from ansible.module_utils.aws_plan import Plan  # noqa: E402
from ansible.module_utils.platform_action import Call, ResourceAction  # noqa: E402

_STRINGS = {"type": "list", "elements": "str"}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "cidr": {"type": "str"},
    "public_cidrs": dict(_STRINGS),
    "private_cidrs": dict(_STRINGS),
    "zones": {**_STRINGS, "default": []},
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
    "existing_public_subnet_ids": {**_STRINGS, "default": []},
    "existing_private_subnet_ids": {**_STRINGS, "default": []},
    "clean_up": {"type": "bool", "default": True},
    "ui_ports": {"type": "list", "elements": "int", "default": []},
    "ui_cidrs": {**_STRINGS, "default": []},
}


class ActionModule(ResourceAction):  # type: ignore[misc]
    """The action ``ec2_network``."""

    arguments = ARGUMENTS
    rules = {"required_if": [("state", "present", ["cidr", "public_cidrs", "private_cidrs", "egress"])]}
    services = ("ec2", "ssm")

    def work(self, call: Call, plan: Plan) -> dict[str, Any]:
        """Bring the network to the wanted state."""
        arguments = call.params
        clients = NetworkClients(call.client("ec2"), call.client("ssm"))
        if arguments["state"] == "absent":
            remove_network(clients, arguments["platform"], call.region, plan)
            return {}
        spec = NetworkSpec(
            platform=arguments["platform"],
            region=call.region,
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
