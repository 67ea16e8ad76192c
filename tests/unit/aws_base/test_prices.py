"""Prices: each kind has one or is free, amounts are right, and what the settings and documents say agrees with them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from module_utils.aws_network_egress import INTERFACE_ENDPOINTS
from module_utils.aws_prices import (
    BY_USE,
    FILE,
    FREE,
    PRICED,
    PriceList,
    UnknownPrice,
    load_prices,
    price_of,
    task_price,
    usage_of,
)

ROOT = Path(__file__).parents[3]
RECORDING = {"create", "update", "update_if_different", "ensure_tags", "replace", "remove", "retire", "keep_tags"}
"""Methods of `Plan`, and of `Context` on top of it, whose first argument is a kind."""

TASK: dict[str, Any] = {
    "size": {"cpu": 256, "memory": 512, "architecture": "ARM64", "ephemeral_storage": 20},
    "capacityProviderStrategy": [{"capacityProvider": "FARGATE", "weight": 1, "base": 0}],
    "networkConfiguration": {"awsvpcConfiguration": {"assignPublicIp": "DISABLED"}},
}
DATABASE = {
    "DBInstanceClass": "db.t4g.micro",
    "AllocatedStorage": 20,
    "MaxAllocatedStorage": 100,
    "MultiAZ": False,
    "StorageType": "gp3",
}


@pytest.fixture
def prices() -> PriceList:
    return load_prices("us-east-1")


# -- Every kind --------------------------------------------------------------------------------------------------


class _Kinds:
    """Reads out of the source which kinds of resources a module records."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.tree = ast.parse(file.read_text(encoding="utf-8"))
        self.parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    def found(self) -> Iterator[str]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in RECORDING:
                owner = ast.unparse(node.func.value).rpartition(".")[2]
                if owner in ("plan", "context"):
                    yield from self._kind(node.args[0], node)

    def _kind(self, expression: ast.expr, place: ast.AST) -> Iterator[str]:
        """Yield the values that an expression may have; fail where it is not plain enough to be read."""
        if isinstance(expression, ast.Constant):
            yield str(expression.value)
        elif isinstance(expression, ast.Starred) and isinstance(expression.value, ast.Call):
            yield from self._returned(ast.unparse(expression.value.func))
        elif isinstance(expression, ast.Name):
            yield from self._named(expression.id, place)
        else:
            pytest.fail(f"{self.file.name}: the kind {ast.unparse(expression)} cannot be read; write it as a text")

    def _named(self, name: str, place: ast.AST) -> Iterator[str]:
        scope = self.parents.get(place)
        while scope is not None:
            if isinstance(scope, ast.FunctionDef) and name in [argument.arg for argument in scope.args.args]:
                # Handed on: the callers of this function are looked at themselves.
                assert scope.name in RECORDING, f"{self.file.name}: {scope.name} records the kind of its caller"
                return
            if isinstance(scope, ast.For) and name in {
                item.id for item in ast.walk(scope.target) if isinstance(item, ast.Name)
            }:
                yield from self._looped(scope)
                return
            if isinstance(scope, ast.FunctionDef | ast.Module):
                values = [value for target, value in _assignments(scope) if target == name]
                if values:
                    yield from chain.from_iterable(self._kind(value, place) for value in values)
                    return
            scope = self.parents.get(scope)
        module = next(
            node.module
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]
        )
        assert module is not None
        other = _Kinds(self.file.with_name(f"{module.rpartition('.')[2]}.py"))
        yield from other._named(name, other.tree.body[-1])

    def _looped(self, loop: ast.For) -> Iterator[str]:
        """Yield the values of the mapping that a loop goes over, `for x, kind in things.items()`."""
        mapping = ast.unparse(loop.iter).removesuffix(".items()")
        function: ast.AST = loop
        while not isinstance(function, ast.FunctionDef):
            function = self.parents[function]
        for target, value in _assignments(function):
            if target == mapping:
                for node in ast.walk(value):
                    values = (
                        node.values
                        if isinstance(node, ast.Dict)
                        else [node.value]
                        if isinstance(node, ast.DictComp)
                        else []
                    )
                    yield from (str(item.value) for item in values if isinstance(item, ast.Constant))

    def _returned(self, function: str) -> Iterator[str]:
        """Yield the first element of what a function returns, which may be imported."""
        for file in [self.file, *self.file.parent.glob("aws_*.py")]:
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef) and node.name == function:
                    for inner in ast.walk(node):
                        if isinstance(inner, ast.Return) and isinstance(inner.value, ast.Tuple):
                            yield from self._kind(inner.value.elts[0], inner)
                    return
        pytest.fail(f"{self.file.name}: there is no function {function}")


def _assignments(scope: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield names and values of the assignments in a function or, outside of functions, in a module."""
    nodes: Iterable[ast.AST] = scope.body if isinstance(scope, ast.Module) else ast.walk(scope)
    for node in nodes:
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            yield ast.unparse(node.target), node.value
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                yield from zip(map(ast.unparse, target.elts), node.value.elts, strict=True)
            else:
                yield ast.unparse(target), node.value


def recorded_kinds() -> set[str]:
    files = [*(ROOT / "plugins/module_utils").glob("*.py"), *(ROOT / "plugins/action").glob("*.py")]
    return {kind for file in files if file.name != "aws_plan.py" for kind in _Kinds(file).found()}


def test_every_kind_that_modules_record_has_a_price_or_is_free() -> None:
    kinds = recorded_kinds()
    assert {"vpc", "nat-instance", "nat-gateway", "elastic-ip", "ecs-service", "task-definition", "secret"} <= kinds
    assert sorted(kinds - PRICED.keys() - FREE) == []
    # And nothing is listed that has gone since; a file is what Ansible's own modules write.
    assert sorted({*PRICED, *FREE, *BY_USE} - kinds - {"file"}) == []
    assert sorted(PRICED.keys() & FREE) == []


# -- Amounts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "settings", "monthly"),
    [
        # 730 h of 0.25 vCPU and 0.5 GB, worked out by hand from the price page.
        ("ecs-service", {**TASK, "desiredCount": 1}, 730 * (0.25 * 0.03238 + 0.5 * 0.00356)),
        ("ecs-service", {**TASK, "desiredCount": 3}, 3 * 7.20875),
        ("ecs-service", {**TASK, "desiredCount": 0}, 0),
        ("ecs-service", {**TASK, "desiredCount": 5, "MinCapacity": 1, "MaxCapacity": 2}, 7.20875),
        (
            "ecs-service",
            {**TASK, "desiredCount": 1, "size": {**TASK["size"], "architecture": "X86_64", "ephemeral_storage": 30}},
            730 * (0.25 * 0.04048 + 0.5 * 0.004445 + 10 * 0.000111),
        ),
        ("nat-gateway", {"subnet": "subnet-1"}, 32.85),
        ("elastic-ip", {}, 3.65),
        ("nat-instance", {"instance_type": "t4g.nano", "state": "running", "volume_gib": 8}, 3.066 + 3.65 + 0.64),
        ("nat-instance", {"instance_type": "t4g.nano", "state": "stopped", "volume_gib": 8}, 0.64),
        ("rds-instance", DATABASE, 11.68 + 2.3),
        ("rds-instance", {**DATABASE, "MultiAZ": True}, 2 * (11.68 + 2.3)),
        ("load-balancer", {"Scheme": "internal", "Subnets": ["a", "b"]}, 16.425),
        ("load-balancer", {"Scheme": "internet-facing", "Subnets": ["a", "b"]}, 16.425 + 7.3),
        ("vpc-endpoint", {"type": "Interface", "subnets": ["a", "b"]}, 14.6),
        ("vpc-endpoint", {"type": "Gateway"}, 0),
        ("secret", {}, 0.4),
        ("secret", {"scheduled_for_deletion": True}, 0),
        ("scaling-policy", {}, 0.2),
        ("vpc", {"cidr": "10.0.0.0/16"}, 0),
    ],
)
def test_amounts(prices: PriceList, kind: str, settings: dict[str, Any], monthly: float) -> None:
    assert price_of(kind, settings, prices).monthly == pytest.approx(monthly)


def test_a_public_address_and_spot_capacity_count_for_each_task(prices: PriceList) -> None:
    public = {**TASK, "networkConfiguration": {"awsvpcConfiguration": {"assignPublicIp": "ENABLED"}}}
    spot = {**TASK, "capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1, "base": 0}]}
    assert task_price(public, prices) == pytest.approx(task_price(TASK, prices) + 3.65)
    assert task_price(spot, prices) == pytest.approx(0.3 * task_price(TASK, prices))


def test_what_grows_by_itself_is_told_apart(prices: PriceList) -> None:
    database = price_of("rds-instance", {**DATABASE, "MultiAZ": True}, prices)
    assert database.growth == pytest.approx(2 * 80 * 0.115)
    assert database.grown == "100 GiB of storage"
    fixed = price_of("rds-instance", {**DATABASE, "MaxAllocatedStorage": 20}, prices)
    assert fixed.growth == 0
    service = price_of("ecs-service", {**TASK, "desiredCount": 1, "MinCapacity": 1, "MaxCapacity": 3}, prices)
    assert service.growth == pytest.approx(2 * 7.20875)
    assert service.grown == "3 tasks"


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("rds-instance", {**DATABASE, "DBInstanceClass": "db.x9.large"}, "aws_prices.yml has no price of db.x9.large"),
        ("rds-instance", {"DBInstanceClass": "db.t4g.micro"}, "its MultiAZ is not known"),
        ("ecs-service", {**TASK, "size": None, "desiredCount": 1}, "its cpu is not known"),
        ("blimp", {}, "aws_prices.yml has no price of blimp"),
    ],
)
def test_what_is_not_known_is_said_and_not_taken_for_free(
    prices: PriceList, kind: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnknownPrice, match=re.escape(message)):
        price_of(kind, settings, prices)


def test_usage_is_told_and_not_guessed(prices: PriceList) -> None:
    assert usage_of("nat-gateway", {}, prices) == "0.045 USD per GB through it"
    assert usage_of("vpc-endpoint", {"type": "Gateway"}, prices) == ""
    assert usage_of("vpc", {}, prices) == ""
    assert usage_of("ecs-cluster", {"containerInsights": "disabled"}, prices) == ""
    assert (
        usage_of("ecs-cluster", {"containerInsights": "enhanced"}, prices) == "0.07 USD and more per metric and month"
    )
    assert all(usage_of(kind, {"type": "Interface", "containerInsights": "enabled"}, prices) for kind in BY_USE)


# -- The file ----------------------------------------------------------------------------------------------------


def test_the_file_is_dated_sourced_and_complete() -> None:
    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", content["date"])
    assert (content["currency"], content["hours_per_month"]) == ("USD", 730)
    for prices in content["regions"].values():
        assert prices.keys() == content["sources"].keys()
    assert all(source.startswith("https://aws.amazon.com/") for source in content["sources"].values())


def test_a_region_without_prices_has_those_of_another_and_says_so(tmp_path: Path) -> None:
    assert load_prices("eu-central-1").region == "us-east-1"
    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    content["regions"]["eu-central-1"] = {**content["regions"]["us-east-1"], "public_ipv4": {"hour": 1}}
    file = tmp_path / "prices.yml"
    file.write_text(yaml.safe_dump(content))
    assert price_of("elastic-ip", {}, load_prices("eu-central-1", file)).monthly == 730


# -- What settings and documents say -----------------------------------------------------------------------------


def _text(path: str) -> str:
    """Return a file as one line, without the signs of comments."""
    return re.sub(r"[\s#]+", " ", (ROOT / path).read_text(encoding="utf-8"))


EXAMPLE = "inventories/example/group_vars/all"
SAID: list[tuple[str, str, tuple[str, ...] | float]] = [
    (f"{EXAMPLE}/access.yml", r"in front of the UI; about ([\d.]+) USD a month", 16.425),
    (f"{EXAMPLE}/access.yml", r"and ([\d.]+) USD for each of two public addresses", 3.65),
    (f"{EXAMPLE}/access.yml", r"create-secret; ([\d.]+) USD a month", ("secret", "month")),
    (f"{EXAMPLE}/alarms.yml", r"alarms cost ([\d.]+) USD a month", 24 * 0.10),
    (f"{EXAMPLE}/alarms.yml", r"the dashboard ([\d.]+) USD", ("cloudwatch", "dashboard_month")),
    (f"{EXAMPLE}/alarms.yml", r"cost ([\d.]+) USD a month each", ("cloudwatch", "metric_month")),
    (f"{EXAMPLE}/dags.yml", r"Storage costs ([\d.]+) USD per GB", ("s3", "gb_month")),
    # One request each 10 s.
    (f"{EXAMPLE}/dags.yml", r"one small request a poll, about ([\d.]+) USD a month and task", 730 * 0.36 * 0.0004),
    (f"{EXAMPLE}/dags.yml", r"A listing a poll: about ([\d.]+) USD a month", 730 * 0.36 * 0.005),
    ("README.md", r"about ([\d.]+) USD a month for each task, where the pointer", 730 * 0.36 * 0.005),
    ("README.md", r"where the pointer costs ([\d.]+) USD", 730 * 0.36 * 0.0004),
    (f"{EXAMPLE}/dags.yml", r"kept in Secrets Manager \(([\d.]+) USD a month\)", ("secret", "month")),
    (f"{EXAMPLE}/network.yml", r"nat_instance about ([\d.]+) USD a month", 3.066 + 3.65 + 0.64),
    (f"{EXAMPLE}/network.yml", r"nat_gateway about ([\d.]+) USD a month", 32.85 + 3.65),
    (f"{EXAMPLE}/network.yml", r"nat_gateway about .*?, and ([\d.]+) USD per GB", ("nat_gateway", "gb")),
    (f"{EXAMPLE}/network.yml", r"vpc_endpoints about ([\d.]+) USD a month for each", 7.3),
    (f"{EXAMPLE}/network.yml", r"and zone, ([\d.]+) USD for two zones", 2 * 7.3 * len(INTERFACE_ENDPOINTS)),
    (f"{EXAMPLE}/network.yml", r"public_ip ([\d.]+) USD a month for each task", 3.65),
    (f"{EXAMPLE}/storage.yml", r"db.t4g.micro costs about ([\d.]+) USD a month", 11.68),
    (f"{EXAMPLE}/storage.yml", r"20 GB of storage ([\d.]+) USD", 2.3),
    (f"{EXAMPLE}/storage.yml", r"final snapshot \(([\d.]+) USD per GB", ("rds", "backup_gb_month")),
    (f"{EXAMPLE}/storage.yml", r"EFS costs ([\d.]+) USD per GB", ("efs", "gb_month")),
    (f"{EXAMPLE}/storage.yml", r"EFS costs .*?, ([\d.]+) USD once a file", ("efs", "infrequent_gb_month")),
    (f"{EXAMPLE}/tasks.yml", r"256/512 costs about ([\d.]+) USD a month", 7.20875),
    (f"{EXAMPLE}/tasks.yml", r"([\d.]+) USD per GB taken in", ("cloudwatch", "logs_gb")),
    (f"{EXAMPLE}/tasks.yml", r"([\d.]+) USD per GB and month kept", ("cloudwatch", "logs_gb_month")),
    ("roles/autoscaling/defaults/main.yml", r"each costs about ([\d.]+) USD a month at 256/512", 7.20875),
    ("roles/cloudwatch_logs/defaults/main.yml", r"([\d.]+) USD per GB and month", ("cloudwatch", "logs_gb_month")),
    ("roles/ecr/defaults/main.yml", r"([\d.]+) USD per GB and month", ("ecr", "gb_month")),
    ("roles/ecs/defaults/main.yml", r"([\d.]+) USD and more per metric", ("cloudwatch", "insights_metric_month")),
    ("roles/observability/defaults/main.yml", r"([\d.]+) USD a month, beyond", ("cloudwatch", "dashboard_month")),
    ("roles/rds/defaults/main.yml", r"db.t4g.micro costs about ([\d.]+) USD a month", 11.68),
    ("roles/rds/defaults/main.yml", r"([\d.]+) USD per GiB and month", ("rds", "storage_gb_month", "gp3")),
]
"""File, where in it a figure stands, and the price that it must be or its path in the file of prices."""


@pytest.mark.parametrize(("file", "pattern", "price"), SAID)
def test_figures_in_comments_are_those_of_the_file(
    prices: PriceList, file: str, pattern: str, price: tuple[str, ...] | float
) -> None:
    found = re.findall(pattern, _text(file))
    assert len(found) == 1, f"{file}: {pattern}"
    decimals = len(found[0].partition(".")[2])
    amount = prices.of(*price) if isinstance(price, tuple) else price
    assert float(found[0]) == pytest.approx(round(amount, decimals))


def test_no_figure_in_the_example_is_left_out() -> None:
    for file in sorted((ROOT / EXAMPLE).glob("*.yml")):
        path = str(file.relative_to(ROOT))
        said = len(re.findall(r"\d USD", _text(path)))
        assert said == sum(entry[0] == path for entry in SAID), path
