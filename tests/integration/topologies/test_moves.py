"""From one topology to the next on one platform: what comes first, what goes last, that nothing stays or is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.emulated import Emulator, emulator, recap
from tests.integration.topologies.inventories import arguments
from tests.integration.whole_account import account_of, without_ids

WAYS_OUT = {
    "nat_instance": {"nat-instance"},
    "nat_gateway": {"nat-gateway"},
    "vpc_endpoints": {"vpc-endpoint"},
    "public_tasks": set(),
    "public_ui": {"nat-gateway"},
}
DATA = ("bucket", "database", "file-system", "access-point", "secret", "repository", "log-group")
"""Kinds whose contents would be gone if they were made anew."""
PATH = ("nat_instance", "public_tasks", "vpc_endpoints", "public_ui", "nat_instance")


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("moves")) as aws:
        yield aws


def ways_out(aws: Emulator) -> set[str]:
    """Return what private subnets have besides the S3 endpoint, which costs nothing."""
    ec2 = aws.client("ec2")
    instances = [
        instance["State"]["Name"]
        for reservation in ec2.describe_instances()["Reservations"]
        for instance in reservation["Instances"]
    ]
    gateways = [item["State"] for item in ec2.describe_nat_gateways()["NatGateways"]]
    endpoints = [
        item["VpcEndpointType"]
        for item in ec2.describe_vpc_endpoints()["VpcEndpoints"]
        if item["State"].lower() == "available"
    ]
    found = {"nat-instance": "running" in instances, "nat-gateway": "available" in gateways}
    return {name for name, there in {**found, "vpc-endpoint": "Interface" in endpoints}.items() if there}


def services(aws: Emulator) -> dict[str, dict[str, Any]]:
    found = aws.client("ecs").describe_services(cluster="dagster-local", services=["webserver", "daemon"])["services"]
    return {service["serviceName"]: service for service in found}


def test_every_move_converges_and_leaves_nothing_behind(aws: Emulator, tmp_path: Path) -> None:
    account = account_of(aws)
    seen: list[str] = []
    snapshots = []
    for topology in PATH:
        chosen = arguments(aws, topology)
        aws.take_changes()
        aws.succeed("site.yml", *chosen)
        changes = aws.take_changes()
        if seen:
            # A preview compares everything as a run does, and is faster.
            again = aws.succeed("site.yml", "--check", *chosen)
            assert recap(again)["changed"] == 0, (topology, aws.take_changes())
        assert ways_out(aws) == WAYS_OUT[topology], topology
        public = topology == "public_tasks"
        for service in services(aws).values():
            network = service["networkConfiguration"]["awsvpcConfiguration"]
            assert network["assignPublicIp"] == ("ENABLED" if public else "DISABLED"), topology
            assert service["enableExecuteCommand"] is public
        balancers = aws.client("elbv2").describe_load_balancers()["LoadBalancers"]
        assert [item["Scheme"] for item in balancers] == {
            "public_tasks": [],
            "public_ui": ["internet-facing"],
        }.get(topology, ["internal"])
        assert bool(services(aws)["webserver"].get("loadBalancers")) is not public
        order = [(change["action"], change["kind"]) for change in changes]
        if seen and ("update", "ecs-service") in order:
            # Tasks move to the new way out before the old one goes; the load balancer goes after its service let go.
            moved = len(order) - order[::-1].index(("update", "ecs-service"))
            gone = [
                index
                for index, entry in enumerate(order)
                if entry in {("remove", kind) for kind in ("nat-instance", "nat-gateway", "vpc-endpoint", "route")}
            ]
            assert all(index >= moved for index in gone), (topology, order)
        seen.append(topology)
        snapshots.append(account.snapshot())
    for kind in DATA:
        names = [[name for name in snapshot[kind] if "secret:oidc" not in name] for snapshot in snapshots]
        assert names[0], kind
        assert names == [names[0]] * len(PATH), kind
    # The first one was made in an empty account. The client secret of the log-in is the test's.
    first, last = (without_ids(snapshot) for snapshot in (snapshots[0], snapshots[-1]))
    last["secret"] = [name for name in last["secret"] if "secret:oidc" not in name]
    assert last == first
    assert not aws.client("ec2").describe_addresses()["Addresses"]


def test_a_protected_load_balancer_is_noticed_before_the_service_lets_go(aws: Emulator) -> None:
    aws.succeed("site.yml", "-e", '{"alb_deletion_protection": true}')
    aws.take_changes()
    result = aws.run("site.yml", "-e", '{"load_balancer": false, "ui_allowed_cidrs": ["10.0.0.0/8"]}')
    assert result.returncode != 0
    assert "alb_deletion_protection: false (and leave load_balancer true for the moment)" in " ".join(
        result.stdout.split()
    )
    assert services(aws)["webserver"]["loadBalancers"]
    assert "ecs-service" not in {change["kind"] for change in aws.take_changes()}
