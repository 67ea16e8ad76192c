"""What a platform that hibernates still costs: its resources that are charged by being there, with their settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .aws_alarms import alarm_sizes, has_dashboard
from .aws_database import database_settings, find_instance, find_replaced
from .aws_hibernation import DATABASE, NAT, Clients, Platform, nat_instances, nat_settings
from .aws_plan import PLATFORM_TAG, error_code, tag_dict

Resource = dict[str, Any]
"""kind, name and the settings that the price depends on (aws_prices.py)."""


def resting_resources(
    clients: Clients,
    platform: Platform,
    *,
    elbv2: Any,
    secretsmanager: Any,
    cloudwatch: Any,
    load_balancer: str,
    secrets: Iterable[str],
    dashboard: str,
) -> list[Resource]:
    """Return what still costs once everything that can be stopped was; the last three are names.

    `dashboard` is empty for a platform without alarms and dashboard.
    """
    return [
        *_of_load_balancer(elbv2, load_balancer),
        *_of_network(clients.ec2, platform.name),
        *_of_database(clients.rds, platform),
        *_of_secrets(secretsmanager, secrets),
        *_of_scaling(clients.scaling, f"service/{platform.cluster}/"),
        *(_of_alarms(cloudwatch, platform.name, dashboard) if dashboard else ()),
    ]


def _resource(kind: str, name: str, **settings: Any) -> Resource:
    return {"kind": kind, "name": name, "settings": settings}


def _of_network(ec2: Any, platform: str) -> Iterator[Resource]:
    filters = [{"Name": f"tag:{PLATFORM_TAG}", "Values": [platform]}]

    def ours(operation: str, result: str) -> list[dict[str, Any]]:
        return [item for page in ec2.get_paginator(operation).paginate(Filters=filters) for item in page[result]]

    for instance in nat_instances(ec2, platform):
        yield _resource(NAT, _name(instance, platform), state="stopped", **nat_settings(instance))
    for gateway in ours("describe_nat_gateways", "NatGateways"):
        if gateway["State"] in ("pending", "available"):
            yield _resource("nat-gateway", _name(gateway, platform))
    for address in ec2.describe_addresses(Filters=filters)["Addresses"]:
        yield _resource("elastic-ip", _name(address, platform))
    for endpoint in ours("describe_vpc_endpoints", "VpcEndpoints"):
        if endpoint["VpcEndpointType"] == "Interface" and endpoint["State"].lower() in ("pending", "available"):
            yield _resource("vpc-endpoint", _name(endpoint, platform), type="Interface", subnets=endpoint["SubnetIds"])


def _name(item: Mapping[str, Any], platform: str) -> str:
    return tag_dict(item.get("Tags")).get("Name", platform)


def _of_database(rds: Any, platform: Platform) -> Iterator[Resource]:
    if not platform.own_database:
        return
    found = find_instance(rds, platform.name)
    # Those that a restore has replaced are stopped already.
    for instance in [*([found] if found else []), *find_replaced(rds, platform.name)]:
        name = instance["DBInstanceIdentifier"]
        yield _resource(DATABASE, name, **{**database_settings(instance), "DBInstanceStatus": "stopped"})


def _of_load_balancer(elbv2: Any, name: str) -> Iterator[Resource]:
    try:
        found = elbv2.describe_load_balancers(Names=[name])["LoadBalancers"] if name else []
    except Exception as error:
        if error_code(error) != "LoadBalancerNotFound":
            raise
        found = []
    for item in found:
        subnets = [zone["SubnetId"] for zone in item["AvailabilityZones"]]
        yield _resource("load-balancer", name, Scheme=item["Scheme"], Subnets=subnets)


def _of_secrets(secretsmanager: Any, names: Iterable[str]) -> Iterator[Resource]:
    for name in names:
        try:
            found = secretsmanager.describe_secret(SecretId=name)
        except Exception as error:
            if error_code(error) != "ResourceNotFoundException":
                raise
            continue
        yield _resource("secret", name, scheduled_for_deletion="DeletedDate" in found)


def _of_scaling(scaling: Any, prefix: str) -> Iterator[Resource]:
    pages = scaling.get_paginator("describe_scaling_policies").paginate(ServiceNamespace="ecs")
    for policy in (policy for page in pages for policy in page["ScalingPolicies"]):
        if policy["ResourceId"].startswith(prefix):
            yield _resource("scaling-policy", policy["PolicyName"])


def _of_alarms(cloudwatch: Any, platform: str, dashboard: str) -> Iterator[Resource]:
    for name, metrics in alarm_sizes(cloudwatch, platform).items():
        yield _resource("alarm", name, metrics=metrics)
    if has_dashboard(cloudwatch, dashboard):
        yield _resource("dashboard", dashboard)
