"""From an upload to the moment that web UI and daemon have it, beside an `aws s3 sync` loop."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

import requests

from bench.limits import Group, UnavailableError
from bench.report import Result, Table, Target
from bench.tasks import CPU, POLL_SECONDS, Example, baseline, task
from bench.world import World, median
from module_utils.dag_publish import create_store, make_plan, publish, read_current, read_origin
from module_utils.dag_tree import read_tree
from tests.e2e.dagster_client import DagsterClient, wait_for
from tests.integration.runtime.conftest import Task

_BASELINE_SECONDS = 60
_SETTLE_SECONDS = 2
_LONGEST = 240
_START_SECONDS = 300
_ASSET = "query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { __typename } }"


@dataclass
class Seen:
    """What was seen of one system: seconds until a service had the new code, round by round; None: it did not come."""

    web: list[float | None] = field(default_factory=list)
    daemon: list[float | None] = field(default_factory=list)
    swaps: list[float] = field(default_factory=list)
    """What the container programs say of their part: from the news to the switch."""
    failed_requests: int = 0
    """Questions to the web UI that were not answered."""
    killed: int = 0
    """Processes that the kernel ended for want of memory."""
    unavailable: str = ""

    def where(self, place: str) -> list[float]:
        """Return the seconds of the rounds in which it came, at "web", "daemon" or "both"."""
        if place == "both":
            return [max(w, d) for w, d in zip(self.web, self.daemon, strict=True) if w is not None and d is not None]
        return [seconds for seconds in getattr(self, place) if seconds is not None]

    @property
    def missed(self) -> int:
        """Rounds in which it did not come."""
        return len(self.web) - len(self.where("both"))


def measure(world: World) -> Result:
    """Run both systems at once, each with a bucket of its own, and upload again and again."""
    result = Result("From upload to visible, default settings, each task at 0.25 CPU and 512 MB")
    rounds, baseline_rounds = (2, 1) if world.quick else (30, 8)
    ours, theirs, stop = Seen(), Seen(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(_baseline, world, baseline_rounds, theirs, stop)
        try:
            _ours(world, rounds, ours)
        finally:
            stop.set()
        other.result()
    table = Table(["system", "uploads", "visible in", "p50, s", "worst, s"])
    for name, seen in (("this project", ours), (f"aws s3 sync every {_BASELINE_SECONDS} s, reload", theirs)):
        for place in ("web", "daemon", "both"):
            if seconds := seen.where(place):
                table.add(name, len(seconds), place, *_two(seconds))
        if seen.swaps:
            table.add(name, len(seen.swaps), "of which fetch, import, switch", *_two(seen.swaps))
        if seen.unavailable:
            result.notes.append(f"{name}: not measured, {seen.unavailable}.")
        else:
            result.notes.append(
                f"{name}: {seen.missed} uploads not seen within {_LONGEST} s, {seen.failed_requests} requests to the "
                f"web UI failed, {seen.killed} processes killed for want of memory."
            )
    result.tables.append(table)
    both = ours.where("both")
    for kind, wanted, value in (("p50", 15, median(both) if both else None), ("worst", 30, max(both, default=None))):
        result.targets.append(
            Target(
                f"upload to visible in web and daemon, default settings, {CPU} CPU / 512 MB: {kind} of {len(both)}",
                f"≤ {wanted} s",
                "-" if value is None else f"{value:.1f} s",
                None if value is None else value <= wanted and not ours.missed,
            )
        )
    result.values = {"ours": vars(ours), "baseline": vars(theirs)}
    result.notes.append(
        "Uploads come at random moments (seeded) and are timed from just before their first byte is sent, until the "
        "web UI shows the new asset by GraphQL, and until the daemon's health says that the release is served; for the "
        "baseline, which says nothing, until a process of its daemon has imported the new code. Nobody else asks the "
        f"web UI meanwhile. Both systems run at the same time, four tasks with {CPU} CPU; they look for news every "
        f"{POLL_SECONDS} and {_BASELINE_SECONDS} s. SQLite takes the place of PostgreSQL."
    )
    return result


def _ours(world: World, rounds: int, seen: Seen) -> None:
    """Publish again and again while webserver and daemon run."""
    chance = random.Random(1)  # noqa: S311, it chooses moments
    example = Example(world, "ours")
    example.edit("probe_start")
    first = example.bucket.publish()
    store = create_store(example.bucket.name)
    with ExitStack() as stack:
        try:
            web, web_group = stack.enter_context(task(example, "webserver"))
            daemon, daemon_group = stack.enter_context(task(example, "daemon"))
        except UnavailableError as error:
            seen.unavailable = str(error)
            return
        for each in (web, daemon):
            _wait_start(each.service, lambda each=each: each.health()[1].get("release") == first)  # type: ignore[misc]
        _wait_start("web UI", lambda: _has_asset(web.ui, "probe_start", None))
        for number in range(rounds):
            time.sleep(_SETTLE_SECONDS + chance.uniform(0, POLL_SECONDS))
            probe = f"probe_{number}"
            example.edit(probe)
            plan = make_plan(store, read_tree(str(example.tree)), read_current(store))
            origin = read_origin(example.tree)
            began = time.monotonic()
            publish(store, plan, origin)
            _watch(
                began,
                seen,
                web=lambda probe=probe, release=plan.release: (  # type: ignore[misc]
                    _serves(web, release) and _has_asset(web.ui, probe, seen)
                ),
                daemon=lambda release=plan.release: _serves(daemon, release),  # type: ignore[misc]
            )
            seen.swaps += [each.health()[1]["swap_seconds"] for each in (web, daemon)]
        seen.killed = _killed(web_group, daemon_group)


def _serves(running: Task, release: str) -> bool:
    health = running.health()[1]
    return health.get("release") == release and health.get("status") == "serving"


def _baseline(world: World, rounds: int, seen: Seen, stop: threading.Event) -> None:
    """Upload again and again while the baseline's webserver and daemon run; end early when ``stop`` is set."""
    chance = random.Random(3)  # noqa: S311, it chooses moments
    example = Example(world, "baseline")
    example.edit("probe_start")
    s3, name = example.bucket.s3, example.bucket.name
    for path in example.tree.rglob("*.py"):
        s3.put_object(Bucket=name, Key=f"dags/{path.relative_to(example.tree)}", Body=path.read_bytes())
    with ExitStack() as stack:
        try:
            web, web_group = stack.enter_context(baseline(example, "webserver"))
            daemon, daemon_group = stack.enter_context(baseline(example, "daemon"))
        except UnavailableError as error:
            seen.unavailable = str(error)
            return
        _wait_start("the baseline's web UI", lambda: _has_asset(web.ui, "probe_start", None))
        _wait_start("the baseline's daemon", lambda: daemon.has_imported("probe_start"))
        for number in range(rounds):
            if stop.wait(_SETTLE_SECONDS + chance.uniform(0, _BASELINE_SECONDS)) and number:
                break
            probe = f"probe_{number}"
            example.edit(probe)
            body = (example.tree / "main/assets.py").read_bytes()
            began = time.monotonic()
            s3.put_object(Bucket=name, Key="dags/main/assets.py", Body=body)
            _watch(
                began,
                seen,
                web=lambda probe=probe: web.has_imported(probe) and _has_asset(web.ui, probe, seen),  # type: ignore[misc]
                daemon=lambda probe=probe: daemon.has_imported(probe),  # type: ignore[misc]
            )
        seen.killed = _killed(web_group, daemon_group)


def _two(seconds: list[float]) -> tuple[str, str]:
    return f"{median(seconds):.1f}", f"{max(seconds):.1f}"


def _wait_start(what: str, condition: Callable[[], bool]) -> None:
    wait_for(f"{what} to start", condition, seconds=_START_SECONDS)


def _killed(*groups: Group) -> int:
    return sum(group.out_of_memory_kills() for group in groups)


def _has_asset(ui: DagsterClient, name: str, seen: Seen | None) -> bool:
    """Return whether the web UI shows the asset; a request that fails is noted."""
    try:
        return bool(ui.query(_ASSET, key={"path": [name]})["assetNodeOrError"]["__typename"] == "AssetNode")
    except (requests.RequestException, AssertionError):
        if seen is not None:
            seen.failed_requests += 1
        return False


def _watch(began: float, seen: Seen, *, web: Callable[[], bool], daemon: Callable[[], bool]) -> None:
    """Wait until both have the new code, and note when."""
    with ThreadPoolExecutor(2) as pool:
        both = pool.submit(_until, web, began), pool.submit(_until, daemon, began)
    seen.web.append(both[0].result())
    seen.daemon.append(both[1].result())


def _until(condition: Callable[[], bool], began: float) -> float | None:
    while not condition():
        if time.monotonic() - began > _LONGEST:
            return None
        time.sleep(0.3)
    return round(time.monotonic() - began, 2)
