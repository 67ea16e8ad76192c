"""What site.yml asks of AWS in each topology: valid by the service models, within the limits, tagged, and as reviewed.

And what it costs: `make cost`, which asks AWS nothing, and the plan's sum of what would be made have to agree.

The emulator checks neither enumerations nor patterns. Every request is held against the model that botocore ships and
the limits that only AWS's documentation holds; what makes or changes something is compared with a file in golden/, so
that a review sees each change. Write the files anew with UPDATE_GOLDEN=1.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import botocore.session
import pytest

from module_utils.aws_model import request_problems
from module_utils.aws_prices import PRICED, load_prices
from module_utils.plan_summary import difference, merge, with_scaling
from tests.integration.deployer.identity import deployer, enforced
from tests.integration.emulated import Emulator, emulator
from tests.integration.topologies.inventories import TOPOLOGIES, arguments
from tests.integration.topologies.limits import INLINE_POLICY_LIMITS, inline_policy_sizes, limit_problems, tags_of
from tests.integration.whole_account import account_of

HERE = Path(__file__).parent
READING = re.compile("Describe|Get|List|Head")
TOKENS = {"SecretString", "MasterUserPassword", "ClientSecret", "ClientRequestToken", "CreationToken", "ClientToken"}
"""What is random or secret."""

MAKING = re.compile("Create|Run|Allocate|Register|Authorize")
TAGS = {"project", "environment", "repository", "owner", "dagster-platform", "Name"}
UNTAGGED = {
    "CreateRoute": "part of a route table",
    "CreateAccessKey": "part of a user",
    "CreateMountTarget": "part of a file system",
    "CreateBucket": "tagged by PutBucketTagging, which the test looks for",
    "AuthorizeSecurityGroupIngress": "part of a security group, which carries the tags; rules cost nothing",
    "AuthorizeSecurityGroupEgress": "part of a security group, which carries the tags; rules cost nothing",
}


@pytest.fixture(scope="module", params=TOPOLOGIES)
def topology(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@dataclass
class Platform:
    """A platform in an account with others' resources in it."""

    aws: Emulator
    arguments: tuple[str, ...]
    """Of the topology."""
    account: ModuleType
    """molecule/shared/account.py, looking at the emulator."""
    before: dict[str, list[str]]
    """All that was in the account before the platform."""
    estimate: dict[str, Any]
    """What `make cost` had said."""
    requests: list[dict[str, Any]]
    """Everything that the first site.yml sent."""
    changes: list[dict[str, Any]]
    """Everything that it changed."""


@pytest.fixture(scope="module")
def platform(topology: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Run site.yml for the first time, with the printed policies and IAM enforced."""
    with emulator(tmp_path_factory.mktemp(topology)) as aws:
        given = arguments(aws, topology)
        account = account_of(aws)
        account.make_foreign_resources()
        cost = aws.succeed(
            "playbooks/cost.yml", *given, "-e", "cost_format=json", ANSIBLE_STDOUT_CALLBACK="platform_report"
        )
        assert aws.requests == []
        allowed = deployer(aws, *given)
        before = account.snapshot()
        aws.take_changes()
        with enforced(aws.url):
            aws.succeed("site.yml", *given, *allowed)
        yield Platform(aws, given, account, before, json.loads(cost.stdout), aws.requests, aws.take_changes())


@pytest.fixture(scope="module")
def requests(platform: Platform) -> list[dict[str, Any]]:
    """Everything that one run of site.yml in a new account sends."""
    return platform.requests


def test_every_request_is_valid(requests: list[dict[str, Any]]) -> None:
    session = botocore.session.get_session()
    models = {name: session.get_service_model(name) for name in {request["service"] for request in requests}}
    problems = [
        (request["service"], request["operation"], problem)
        for request in requests
        for problem in request_problems(models[request["service"]], request["operation"], request["params"])
    ]
    assert problems == []


def test_every_request_is_within_the_limits(requests: list[dict[str, Any]]) -> None:
    problems = [
        problem
        for request in requests
        for problem in limit_problems(request["service"], request["operation"], request["params"])
    ]
    assert problems == []
    sizes = inline_policy_sizes(requests)
    assert len(sizes) >= 2
    assert [key for key, size in sizes.items() if size > INLINE_POLICY_LIMITS[key[0]]] == []


def test_everything_is_tagged(requests: list[dict[str, Any]]) -> None:
    made = [request for request in requests if MAKING.match(request["operation"])]
    untagged = [
        (request["operation"], request["params"])
        for request in made
        if request["operation"] not in UNTAGGED and request["operation"] != "CreateTags"
        if not (sets := tags_of(request["params"]))
        or not all({key for key in tags if tags[key]} >= TAGS for tags in sets)
    ]
    assert untagged == []
    buckets = {request["params"]["Bucket"] for request in made if request["operation"] == "CreateBucket"}
    assert buckets == {
        request["params"]["Bucket"]
        for request in requests
        if request["operation"] == "PutBucketTagging"
        if all(tags.keys() >= TAGS for tags in tags_of(request["params"]))
    }


def test_tasks_inherit_the_tags_of_their_service(requests: list[dict[str, Any]]) -> None:
    services = [request["params"] for request in requests if request["operation"] == "CreateService"]
    assert [service["propagateTags"] for service in services] == ["SERVICE", "SERVICE"]


def test_the_estimate_is_the_sum_of_the_plan(platform: Platform) -> None:
    """Resource by resource: a kind that costs something and that `make cost` does not know of would be missing."""
    prices = load_prices("us-east-1")
    made = [(entry, difference(entry, prices)) for entry in with_scaling(merge(platform.changes))]
    assert [amount.unknown for _, amount in made if amount.unknown] == []
    planned = {
        (entry.kind, entry.name): (round(amount.monthly, 6), round(amount.growth, 6))
        for entry, amount in made
        if entry.kind in PRICED and amount.monthly
    }
    estimated = {
        (resource["kind"], resource["name"]): (round(resource["monthly"], 6), round(resource["growth"], 6))
        for resource in platform.estimate["resources"]
    }
    assert estimated == planned
    total = sum(amount.monthly for _, amount in made)
    assert platform.estimate["totals"]["resources"] == pytest.approx(total)
    assert platform.estimate["topologies"]


def test_what_is_made_is_what_was_reviewed(topology: str, requests: list[dict[str, Any]]) -> None:
    file = HERE / "golden" / f"{topology}.json"
    made = json.dumps(readable(requests), indent=1) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(made, encoding="utf-8")
    assert made == file.read_text(encoding="utf-8"), f"run again with UPDATE_GOLDEN=1 and review {file}"


def test_destroy_removes_all_of_it_and_nothing_else(platform: Platform) -> None:
    """The last test of each topology."""
    aws = platform.aws
    aws.take_changes()
    aws.succeed("playbooks/destroy.yml", "-e", "confirm_destroy=dagster-local", *platform.arguments)
    assert platform.account.differences(platform.before, platform.account.snapshot()) == []
    assert "create" not in {change["action"] for change in aws.take_changes()}


def readable(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the requests that make or change something, with ids that are the same in every run and no secrets."""
    numbers: dict[str, int] = {}
    names: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        found, kind = match[0], match[1]
        if found not in names:
            numbers[kind] = numbers.get(kind, 0) + 1
            names[found] = f"{kind}{numbers[kind]}"
        return names[found]

    def clean(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: clean(item, name) for name, item in sorted(value.items())}
        if isinstance(value, list):
            items = [clean(item) for item in value]
            # The plan sorts ids, whose order is another one in every run.
            ids = all(isinstance(item, str) and item in names.values() for item in items)
            return sorted(items) if ids else items
        if not isinstance(value, str):
            return value
        if key in TOKENS:
            return f"({key})"
        if value.startswith("{"):
            return clean(json.loads(value))
        # The version of the log-in's client secret, which is a tag of its listener.
        value = re.sub(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", "(version)", value)
        # Ids (vpc-0a…, eipalloc-…, AKIA…), and the random parts of ARNs.
        # First, because a part of it may look like the end of another id.
        value = re.sub(r"(certificate/)[0-9a-f-]{36}", number, value)
        value = re.sub(r"\b([a-z]+-)[0-9a-f]{8,17}\b", number, value)
        arns = r"(targetgroup/[\w-]+/|loadbalancer/app/[\w-]+/|listener/app/[\w-]+/|\bapp/[\w-]+/)[0-9a-f]+"
        value = re.sub(arns, number, value)
        return re.sub(r"(secret:[\w/-]+-)[A-Za-z0-9]{6}\b", number, value)

    calls = [
        {"call": f"{request['service']}:{request['operation']}", **clean(request["params"])}
        for request in requests
        if not READING.match(request["operation"])
    ]
    # The same holds for the order of what is done with each of them, one after the other.
    groups = itertools.groupby(calls, key=lambda call: call["call"])
    return [call for _, group in groups for call in sorted(group, key=json.dumps)]
