"""Ansible action: an ECS cluster and the services in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))

from ansible.module_utils.aws_autoscaling import capacity_limits  # noqa: E402
from ansible.module_utils.aws_ecs_cluster import ensure_cluster, find_cluster, remove_cluster  # noqa: E402
from ansible.module_utils.aws_ecs_service import ensure_services, remove_services, service_spec  # noqa: E402
from ansible.module_utils.aws_plan import Plan  # noqa: E402
from ansible.module_utils.log_lines import last_lines  # noqa: E402
from ansible.module_utils.platform_action import Call, ResourceAction  # noqa: E402

LOAD_BALANCER_OPTIONS: dict[str, dict[str, Any]] = {
    "target_group_arn": {"type": "str", "required": True},
    "container_name": {"type": "str", "required": True},
    "container_port": {"type": "int", "required": True},
}

SIZE_OPTIONS: dict[str, dict[str, Any]] = {
    "cpu": {"type": "int", "required": True},
    "memory": {"type": "int", "required": True},
    "architecture": {"type": "str", "choices": ["ARM64", "X86_64"], "required": True},
    "ephemeral_storage": {"type": "int", "default": 20},
}

SERVICE_OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "task_definition": {"type": "str", "required": True},
    "desired_count": {"type": "int", "default": 1},
    "autoscaled": {"type": "bool", "default": False},
    "subnet_ids": {"type": "list", "elements": "str", "required": True},
    "security_group_ids": {"type": "list", "elements": "str", "required": True},
    "assign_public_ip": {"type": "bool", "default": False},
    "capacity_provider": {"type": "str", "choices": ["FARGATE", "FARGATE_SPOT"], "default": "FARGATE"},
    "platform_version": {"type": "str", "default": "1.4.0"},
    "execute_command": {"type": "bool", "default": False},
    "minimum_healthy_percent": {"type": "int", "default": 100},
    "maximum_percent": {"type": "int", "default": 200},
    "load_balancer": {"type": "dict", "options": LOAD_BALANCER_OPTIONS},
    "health_check_grace_seconds": {"type": "int", "default": 0},
    "size": {"type": "dict", "options": SIZE_OPTIONS},
}


ARGUMENTS: dict[str, dict[str, Any]] = {
    "cluster": {"type": "str", "required": True},
    "container_insights": {
        "type": "str",
        "choices": ["disabled", "enabled", "enhanced"],
        "default": "disabled",
    },
    "services": {"type": "list", "elements": "dict", "default": [], "options": SERVICE_OPTIONS},
    "steady_seconds": {"type": "int", "default": 900},
    "force_new_deployment": {"type": "bool", "default": False},
}


class ActionModule(ResourceAction):  # type: ignore[misc]
    """The action ``ecs_services``."""

    arguments = ARGUMENTS
    services = ("application-autoscaling", "ecs", "logs")

    def work(self, call: Call, plan: Plan) -> dict[str, Any]:
        """Bring the cluster and its services to the wanted state."""
        arguments = call.params
        ecs = call.client("ecs")
        platform, cluster = arguments["platform"], arguments["cluster"]
        if arguments["state"] == "absent":
            remove_services(ecs, platform, cluster, plan, seconds=arguments["steady_seconds"])
            remove_cluster(ecs, platform, cluster, plan, seconds=arguments["steady_seconds"])
            return {}
        tags, force = arguments["resource_tags"], arguments["force_new_deployment"]
        if force:
            cluster_arn = str((find_cluster(ecs, cluster) or {}).get("clusterArn", ""))
        else:
            cluster_arn = ensure_cluster(
                ecs, platform, cluster, plan, container_insights=arguments["container_insights"], tags=tags
            )
        ensure_services(
            ecs,
            platform,
            cluster,
            [service_spec(options, tags) for options in arguments["services"]],
            plan,
            steady_seconds=arguments["steady_seconds"],
            limits=lambda name: capacity_limits(call.client("application-autoscaling"), cluster, name),
            printed=lambda service, task: last_lines(call.client("logs"), platform, service, task),
            force=force,
        )
        return {"cluster_arn": cluster_arn}
