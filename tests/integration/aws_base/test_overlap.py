"""Slow resources come up side by side: the whole takes as long as the longest chain, not as the sum."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.emulated import Emulator, emulator, recap

WRAP = "from tests.integration import slow_aws; slow_aws.apply(slow_aws.Together(looks=5))"


@pytest.fixture
def aws(tmp_path: Path) -> Iterator[Emulator]:
    """An account in which nothing slow is there before everything slow has been asked for."""
    with emulator(tmp_path, wrap=WRAP) as aws:
        yield aws


def test_everything_slow_is_asked_for_before_anything_is_waited_for(aws: Emulator) -> None:
    """Database, NAT gateway, load balancer and mount targets: one that was waited for alone would never come."""
    arguments = ("-e", "network_egress=nat_gateway")
    first = aws.succeed("site.yml", *arguments)
    assert "waiting for the RDS instance 'dagster-local' to become available (0 s of at most 1800 s)" in first.stdout
    routes = aws.client("ec2").describe_route_tables()["RouteTables"]
    assert any(route.get("NatGatewayId") for table in routes for route in table["Routes"])
    again = aws.succeed("site.yml", "--check", *arguments)
    assert recap(again)["changed"] == 0
