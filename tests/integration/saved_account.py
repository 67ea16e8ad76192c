"""Accounts with a platform in them, made once and loaded by whoever needs one.

`platform(tmp_path_factory, "nat_instance")` runs an emulator with a platform of that topology (the name of a file in
topologies/inventories); it takes a second, where site.yml takes ten. The first test of a session that asks for a
topology makes it, with `site.yml` in an account with resources of others, IAM enforced and nothing allowed but the
printed policies; all processes of pytest-xdist share what it has saved. What that run sent and changed is told by
`first_run`; tests/integration/topologies looks at it.

In the account, beside the platform, are: molecule/shared/account.py's resources of somebody else (one load balancer
and one cluster among them), the user `deployer` with the printed policies (`as_deployer` runs playbooks with its keys),
and what the topology takes as given. A playbook needs `first_run(...).arguments` to mean the same topology; those of
`nat_instance` may be left out, it is what the inventory says.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.deployer.identity import as_profile, deployer, enforced
from tests.integration.emulated import Emulator, emulator
from tests.integration.topologies.inventories import arguments
from tests.integration.whole_account import account_of

ACCOUNT, STATE, RUN, FAILURE = "account.pickle", "state", "run.json", "failure.txt"


@dataclass(frozen=True)
class FirstRun:
    """What made a saved account."""

    directory: Path
    arguments: tuple[str, ...]
    """Of playbooks, to mean this topology."""
    before: dict[str, list[str]]
    """All that was in the account before the platform: the `snapshot()` of molecule/shared/account.py."""
    requests: list[dict[str, Any]]
    """Everything that it sent, as `Emulator.requests`."""
    changes: list[dict[str, Any]]
    """Everything that it changed, as `Emulator.take_changes()`."""


def first_run(factory: pytest.TempPathFactory, topology: str) -> FirstRun:
    """Return how the account of a topology was made; make it if this is the first to ask."""
    base = factory.getbasetemp()
    # Processes of pytest-xdist have a directory each, side by side.
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "saved-accounts"
    shared.mkdir(exist_ok=True)
    directory = shared / topology
    with (shared / f"{topology}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            making = shared / f"{topology}.making"
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            try:
                _make(making, topology)
            except Exception as error:
                # Whoever asks next would wait for the same.
                (making / FAILURE).write_text("".join(traceback.format_exception(error)), encoding="utf-8")
            making.rename(directory)
    if (directory / FAILURE).exists():
        pytest.fail(f"site.yml for {topology}: {(directory / FAILURE).read_text(encoding='utf-8')}", pytrace=False)
    told = json.loads((directory / RUN).read_text(encoding="utf-8"))
    return FirstRun(directory, **{**told, "arguments": tuple(told["arguments"])})


def _make(directory: Path, topology: str) -> None:
    state = directory / STATE
    state.mkdir()
    with emulator(state, save=directory / ACCOUNT) as aws:
        given = arguments(aws, topology)
        account = account_of(aws)
        account.make_foreign_resources()
        allowed = deployer(aws, *given)
        before = account.snapshot()
        aws.take_changes()
        with enforced(aws.url):
            aws.succeed("site.yml", *given, *allowed)
        told = {"arguments": given, "before": before, "requests": aws.requests, "changes": aws.take_changes()}
        aws.forget_requests()
    (directory / RUN).write_text(json.dumps(told), encoding="utf-8")


@contextmanager
def platform(factory: pytest.TempPathFactory, topology: str = "nat_instance", *, wrap: str = "") -> Iterator[Emulator]:
    """Run an emulator whose account has a platform of this topology; `wrap` as for `emulator`."""
    made = first_run(factory, topology).directory
    state = factory.mktemp(topology) / "state"
    shutil.copytree(made / STATE, state)
    with emulator(state, wrap=wrap, load=made / ACCOUNT) as aws:
        yield aws


def as_deployer(aws: Emulator) -> tuple[str, ...]:
    """Return the arguments with which playbooks run as the user with the policies that are printed for the topology."""
    return as_profile(aws.state / "deployer.cfg", aws.url)
