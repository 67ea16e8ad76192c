#!/usr/bin/python
"""Ansible module: an ECS cluster and the services in it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ecs_services
short_description: Keep an ECS cluster and its Fargate services as described, and wait for their rollout
description:
  - Makes the cluster and its services and corrects drift in task definition, network, deployment configuration,
    circuit breaker, capacity provider, health check grace period, load balancer, tags and their propagation.
  - All services are changed first and waited for together, so that their rollouts overlap.
  - When a rollout fails, the reason is reported from the service's events and from the tasks that stopped.
  - M(community.aws.ecs_service) neither waits nor notices drift in network, deployment and capacity settings.
  - The deployment circuit breaker with rollback on, tags are propagated to tasks.
options:
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  container_insights:
    description: Container Insights of the cluster. Both C(enabled) and C(enhanced) cost per metric.
    type: str
    choices: [disabled, enabled, enhanced]
    default: disabled
  services:
    description: The services. With an empty list only the cluster is made.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the service.
        type: str
        required: true
      task_definition:
        description: ARN of the revision to run.
        type: str
        required: true
      desired_count:
        description: Number of tasks.
        type: int
        default: 1
      autoscaled:
        description: If true, I(desired_count) counts only at creation; then it belongs to the autoscaler.
        type: bool
        default: false
      subnet_ids:
        description: Subnets of the tasks.
        type: list
        elements: str
        required: true
      security_group_ids:
        description: Security groups of the tasks.
        type: list
        elements: str
        required: true
      assign_public_ip:
        description: Whether tasks get public addresses.
        type: bool
        default: false
      capacity_provider:
        description: On-demand or spot capacity. Spot tasks are cheaper and can be stopped with two minutes' notice.
        type: str
        choices: [FARGATE, FARGATE_SPOT]
        default: FARGATE
      platform_version:
        description: Fargate platform version. Not C(LATEST), which AWS reports as the version it stands for.
        type: str
        default: 1.4.0
      execute_command:
        description: Whether ECS Exec may open a shell, or a port, in the tasks.
        type: bool
        default: false
      minimum_healthy_percent:
        description: Lower bound of running tasks during a deployment, in percent of the desired count.
        type: int
        default: 100
      maximum_percent:
        description: Upper bound of running tasks during a deployment, in percent of the desired count.
        type: int
        default: 200
      load_balancer:
        description: Where tasks are registered.
        type: dict
        suboptions:
          target_group_arn:
            description: ARN of the target group.
            type: str
            required: true
          container_name:
            description: Container that is registered.
            type: str
            required: true
          container_port:
            description: Port of that container.
            type: int
            required: true
      health_check_grace_seconds:
        description: Period after the start of a task in which the load balancer's verdict is ignored.
        type: int
        default: 0
      size:
        description:
          - What one task of I(task_definition) asks for, which may not be registered yet in check mode.
          - Changes nothing; without it, the plan cannot say what the service costs.
        type: dict
        suboptions:
          cpu:
            description: CPU units; 1024 are one vCPU.
            type: int
            required: true
          memory:
            description: Memory in MiB.
            type: int
            required: true
          architecture:
            description: Processor architecture.
            type: str
            choices: [ARM64, X86_64]
            required: true
          ephemeral_storage:
            description: Disk in GiB.
            type: int
            default: 20
  steady_seconds:
    description:
      - Deadline for all services together to reach a steady state; 0 does not wait.
      - With I(state=absent), deadline for their tasks to stop.
    type: int
    default: 900
  force_new_deployment:
    description:
      - Replace the tasks of all services, also where nothing differs; a tag of an image is looked up again.
      - Cluster and services have to be there, and the cluster is left as it is.
    type: bool
    default: false
extends_documentation_fragment:
  - platform
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure exactly one daemon, never two at once
  ecs_services:
    platform: dagster-production
    cluster: dagster-production
    services:
      - name: daemon
        task_definition: "{{ registered.task_definition_arn }}"
        subnet_ids: "{{ vpc_private_subnet_ids }}"
        security_group_ids: ["{{ vpc_security_group_ids.daemon }}"]
        minimum_healthy_percent: 0
        maximum_percent: 100

- name: Remove the cluster with its services
  ecs_services:
    platform: dagster-production
    cluster: dagster-production
    state: absent
"""

RETURN = r"""
cluster_arn:
  description: ARN of the cluster; a C(pending) id in check mode when it does not exist yet.
  returned: when state is present
  type: str
changes:
  description: One entry per changed resource, with action, kind, name, before and after.
  returned: always
  type: list
"""

from typing import Any

from ansible.module_utils.aws_autoscaling import capacity_limits
from ansible.module_utils.aws_ecs_cluster import ensure_cluster, find_cluster, remove_cluster
from ansible.module_utils.aws_ecs_service import ensure_services, remove_services, service_spec
from ansible.module_utils.aws_plan import Plan
from ansible.module_utils.aws_run import run
from ansible.module_utils.log_lines import last_lines

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


def work(module: Any, plan: Plan) -> dict[str, Any]:
    """Bring the cluster and its services to the wanted state."""
    arguments = module.params
    ecs = module.client("ecs")
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
        limits=lambda name: capacity_limits(module.client("application-autoscaling"), cluster, name),
        printed=lambda service, task: last_lines(module.client("logs"), platform, service, task),
        force=force,
    )
    return {"cluster_arn": cluster_arn}


def main() -> None:
    """Entry point of Ansible."""
    run(
        {
            "cluster": {"type": "str", "required": True},
            "container_insights": {
                "type": "str",
                "choices": ["disabled", "enabled", "enhanced"],
                "default": "disabled",
            },
            "services": {"type": "list", "elements": "dict", "default": [], "options": SERVICE_OPTIONS},
            "steady_seconds": {"type": "int", "default": 900},
            "force_new_deployment": {"type": "bool", "default": False},
        },
        work,
    )


if __name__ == "__main__":
    main()
