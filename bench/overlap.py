"""`ansible-playbook site.yml` into an empty account whose resources take their time, as those of AWS do."""

from __future__ import annotations

import re
import time

from bench.report import Result, Table, Target
from bench.world import World
from tests.integration.emulated import emulator
from tests.integration.slow_aws import ROLLOUT

MINUTES = {
    "rds-instance": 300.0,
    "nat-gateway": 100.0,
    "load-balancer": 150.0,
    "mount-target": 80.0,
    ROLLOUT: 120.0,
}
"""Seconds that such a resource takes on AWS, roughly. Only their proportion matters here."""
CHAIN = ("rds-instance", ROLLOUT)
"""The longest chain: the services need the database, and nothing that takes longer."""
WANTED = 1.3
FIRST, AGAIN = 60.0, 30.0
"""Seconds for the requests alone, on two cores."""


def measure(world: World) -> Result:
    """Create a platform with and without the latencies, and compare with the longest chain and with the sum."""
    scale = 8 if world.quick else 4
    latencies = {kind: seconds / scale for kind, seconds in MINUTES.items()}
    result = Result(f"`ansible-playbook site.yml`, latencies of AWS scaled down by {scale}")
    at_once, unchanged, _ = _create(world, dict.fromkeys(MINUTES, 0.0))
    total, _, waits = _create(world, latencies)
    chain = sum(latencies[kind] for kind in CHAIN)
    table = Table(["what", "s"])
    for kind, seconds in latencies.items():
        table.add(f"latency of {kind}", f"{seconds:.1f}")
    table.add("longest chain: " + ", then ".join(CHAIN), f"{chain:.1f}")
    table.add("all latencies one after the other", f"{sum(latencies.values()):.1f}")
    table.add("site.yml without latencies", f"{at_once:.1f}")
    table.add("site.yml again, nothing to change", f"{unchanged:.1f}")
    table.add("site.yml with latencies", f"{total:.1f}")
    result.tables.append(table)
    result.notes.append(
        "Waited for, in this order: " + "; ".join(waits) + ". What came up meanwhile is not waited for any more. The "
        "requests themselves are not scaled down, so that the ratio is better the slower AWS is."
    )
    ratio = total / chain
    result.targets.append(
        Target("site.yml ÷ longest chain of slow resources", f"≤ {WANTED}", f"{ratio:.2f}", ratio <= WANTED)
    )
    result.targets.append(
        Target("site.yml, empty account, no latencies", f"≤ {FIRST:.0f} s", f"{at_once:.0f} s", at_once <= FIRST)
    )
    result.targets.append(
        Target("site.yml, nothing to change", f"≤ {AGAIN:.0f} s", f"{unchanged:.0f} s", unchanged <= AGAIN)
    )
    result.values = {"latencies": latencies, "chain": chain, "total": total, "at_once": at_once}
    return result


def _create(world: World, latencies: dict[str, float]) -> tuple[float, float, list[str]]:
    """Run site.yml in an empty account and again; return the seconds of both, and what it said to wait for."""
    state = world.base / f"overlap-{len(list(world.base.iterdir()))}"
    state.mkdir()
    wrap = f"from tests.integration import slow_aws; slow_aws.apply(slow_aws.after({latencies!r}))"
    with emulator(state, wrap=wrap) as aws:
        arguments = ("-e", "network_egress=nat_gateway", "-e", "ecs_steady_seconds=900")
        begin = time.monotonic()
        output = aws.succeed("site.yml", *arguments).stdout
        created = time.monotonic()
        aws.succeed("site.yml", *arguments)
        again = time.monotonic()
    return created - begin, again - created, list(dict.fromkeys(re.findall(r"waiting for (.+?) \(0 s of", output)))
