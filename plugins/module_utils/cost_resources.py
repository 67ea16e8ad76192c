"""Which resources that cost money a platform with given settings has, without asking AWS.

They are described as the modules record them in their plan of changes, so that they have the same prices; a test
compares them with what site.yml makes in each topology. For the controller only, like the prices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .aws_alarms import alarm_metrics
from .aws_autoscaling import METRICS
from .aws_network_egress import INTERFACE_ENDPOINTS, NAT_VOLUME

ACCESS = ("none", "internal", "public")
"""Ways to the UI: without a load balancer, with one in the private subnets, with one on the internet."""
EGRESS = ("nat_instance", "nat_gateway", "vpc_endpoints", "public_ip")
ADOPTED_EGRESS = ("existing", "vpc_endpoints", "public_ip")
"""What network_egress may be in subnets of one's own."""

SETTINGS = (
    *("name_prefix", "deployment_environment", "resource_tags", "aws_region", "dags_locations", "dags_path"),
    *("vpc_egress", "vpc_nat_instance_type", "vpc_public_subnet_cidrs", "vpc_private_subnet_cidrs"),
    *("vpc_existing_public_subnet_ids", "vpc_existing_private_subnet_ids"),
    *("load_balancer", "alb_public", "alb_name", "alb_subnet_ids"),
    *("rds_existing_instance", "rds_instance_class", "rds_storage", "rds_max_storage", "rds_multi_az"),
    *("secrets_manager_existing_database_secret", "secrets_manager_database_secret"),
    *("secrets_manager_with_s3_user", "secrets_manager_s3_user_secret"),
    *("ecs_cluster_name", "ecs_cpu_architecture", "ecs_task_cpu", "ecs_task_memory", "ecs_ephemeral_storage"),
    *("ecs_capacity_provider", "ecs_exec", "ecs_poll_seconds"),
    *("autoscaling_minimum", "autoscaling_maximum", "autoscaling_service"),
    *("cloudwatch_logs_retention_days", "dag_source", "image_max_concurrent_runs"),
    *("observability_enabled", "observability_dashboard_enabled", "observability_dashboard"),
)
"""Variables of inventory and roles that are read."""


@dataclass(frozen=True)
class Topology:
    """How tasks reach AWS and the internet, and how people reach the UI."""

    egress: str
    access: str


@dataclass(frozen=True)
class Resource:
    """One resource, under the kind, the name and the settings that its module records."""

    kind: str
    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Platform:
    """What the price of a platform depends on, of the right types."""

    prefix: str
    topology: Topology
    public_subnets: int
    private_subnets: int
    balancer_subnets: int
    """How many alb_subnet_ids names; 0: those of the topology."""
    nat_instance_type: str
    ecs_exec: bool
    balancer: str
    database: Mapping[str, Any] | None
    """Settings of the instance, None if it is one of the user's."""
    secrets: tuple[str, ...]
    cluster: str
    task: Mapping[str, Any]
    capacity_provider: str
    webserver: str
    webservers: tuple[int, int]
    """Least and greatest number."""
    alarms: bool
    dashboard: str
    """Its name; empty if there is none."""


def platform_of(settings: Mapping[str, Any]) -> Platform:
    """Return the platform that the variables of `SETTINGS` describe; they may be strings, as -e gives them."""
    access = (
        "none" if not truth(settings["load_balancer"]) else "public" if truth(settings["alb_public"]) else "internal"
    )
    storage = int(settings["rds_storage"])
    database = {
        "DBInstanceClass": str(settings["rds_instance_class"]),
        "AllocatedStorage": storage,
        "MaxAllocatedStorage": max(storage, int(settings["rds_max_storage"])),
        "MultiAZ": truth(settings["rds_multi_az"]),
        "StorageType": "gp3",
    }
    secrets = []
    if not settings["secrets_manager_existing_database_secret"]:
        secrets.append(str(settings["secrets_manager_database_secret"]))
    if truth(settings["secrets_manager_with_s3_user"]):
        secrets.append(str(settings["secrets_manager_s3_user_secret"]))
    return Platform(
        prefix=str(settings["name_prefix"]),
        topology=Topology(str(settings["vpc_egress"]), access),
        public_subnets=len(settings["vpc_existing_public_subnet_ids"] or settings["vpc_public_subnet_cidrs"]),
        private_subnets=len(settings["vpc_existing_private_subnet_ids"] or settings["vpc_private_subnet_cidrs"]),
        balancer_subnets=len(settings["alb_subnet_ids"]),
        nat_instance_type=str(settings["vpc_nat_instance_type"]),
        ecs_exec=truth(settings["ecs_exec"]),
        balancer=str(settings["alb_name"]),
        database=None if settings["rds_existing_instance"] else database,
        secrets=tuple(secrets),
        cluster=str(settings["ecs_cluster_name"]),
        task={
            "cpu": int(settings["ecs_task_cpu"]),
            "memory": int(settings["ecs_task_memory"]),
            "architecture": str(settings["ecs_cpu_architecture"]),
            "ephemeral_storage": int(settings["ecs_ephemeral_storage"]),
        },
        capacity_provider=str(settings["ecs_capacity_provider"]),
        webserver=str(settings["autoscaling_service"]),
        webservers=(int(settings["autoscaling_minimum"]), int(settings["autoscaling_maximum"])),
        alarms=truth(settings["observability_enabled"]),
        dashboard=str(settings["observability_dashboard"])
        if truth(settings["observability_enabled"]) and truth(settings["observability_dashboard_enabled"])
        else "",
    )


def variants(platform: Platform) -> list[Platform]:
    """Return the same platform in every topology, its own among them."""
    ways = ADOPTED_EGRESS if platform.topology.egress == "existing" else EGRESS
    return [replace(platform, topology=Topology(egress, access)) for egress in ways for access in ACCESS]


def resources_of(platform: Platform) -> list[Resource]:
    """Return every resource that costs something by being there."""
    return [
        *(*_tasks(platform), *_data(platform), *_way_out(platform), *_balancer(platform)),
        *_observability(platform),
    ]


def service_settings(platform: Platform) -> dict[str, Any]:
    """Return the settings of a service that the price of one of its tasks depends on."""
    address = "ENABLED" if platform.topology.egress == "public_ip" else "DISABLED"
    return {
        "size": platform.task,
        "capacityProviderStrategy": [{"capacityProvider": platform.capacity_provider}],
        "networkConfiguration": {"awsvpcConfiguration": {"assignPublicIp": address}},
        "desiredCount": 1,
    }


def _tasks(platform: Platform) -> Iterator[Resource]:
    least, most = platform.webservers
    settings = service_settings(platform)
    yield Resource("ecs-service", platform.webserver, {**settings, "MinCapacity": least, "MaxCapacity": most})
    yield Resource("ecs-service", "daemon", settings)
    for metric in METRICS:
        yield Resource("scaling-policy", f"{platform.cluster}-{platform.webserver}-{metric}", {})


def _data(platform: Platform) -> Iterator[Resource]:
    if platform.database is not None:
        yield Resource("rds-instance", platform.prefix, platform.database)
    for name in platform.secrets:
        yield Resource("secret", name, {})


def _way_out(platform: Platform) -> Iterator[Resource]:
    egress, prefix = platform.topology.egress, platform.prefix
    if egress == "nat_instance":
        settings = {
            "instance_type": platform.nat_instance_type,
            "state": "running",
            "volume_gib": NAT_VOLUME["VolumeSize"],
        }
        yield Resource("nat-instance", f"{prefix}-nat", settings)
    elif egress == "nat_gateway":
        yield Resource("elastic-ip", f"{prefix}-nat", {})
        yield Resource("nat-gateway", f"{prefix}-nat", {})
    elif egress == "vpc_endpoints":
        for service in (*INTERFACE_ENDPOINTS, *(("ssmmessages",) if platform.ecs_exec else ())):
            name = f"{prefix}-{service.replace('.', '-')}"
            yield Resource("vpc-endpoint", name, {"type": "Interface", "subnets": range(platform.private_subnets)})


def _balancer(platform: Platform) -> Iterator[Resource]:
    access = platform.topology.access
    if access == "none":
        return
    public = access == "public"
    subnets = platform.balancer_subnets or (platform.public_subnets if public else platform.private_subnets)
    scheme = "internet-facing" if public else "internal"
    yield Resource("load-balancer", platform.balancer, {"Scheme": scheme, "Subnets": range(subnets)})


def _observability(platform: Platform) -> Iterator[Resource]:
    if platform.alarms:
        balancer, database = platform.topology.access != "none", platform.database is not None
        for name, metrics in alarm_metrics(balancer=balancer, database=database).items():
            yield Resource("alarm", f"{platform.prefix}-{name}", {"metrics": metrics})
    if platform.dashboard:
        yield Resource("dashboard", platform.dashboard, {})


def public_addresses(platform: Platform) -> int:
    """Return how many public IPv4 addresses there are, each of which costs something; they are in the prices."""
    tasks = platform.webservers[0] + 1 if platform.topology.egress == "public_ip" else 0
    nat = int(platform.topology.egress in ("nat_instance", "nat_gateway"))
    balancer = sum(
        len(resource.settings["Subnets"])
        for resource in _balancer(platform)
        if resource.settings["Scheme"] == "internet-facing"
    )
    return tasks + nat + balancer


def truth(value: object) -> bool:
    """Return a truth value, also from a string as -e gives it."""
    return value if isinstance(value, bool) else str(value).lower() in ("true", "yes", "1", "on")
