"""Comparing a document with a revision: nothing that AWS fills in or reorders is a difference, all else is."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.session import get_session

from module_utils.aws_task_definition import differences, document_problems, flatten
from tests.unit.ecs.rendering import GOLDEN

Document = dict[str, Any]


@pytest.fixture
def document() -> Document:
    """A document that uses everything ours do."""
    loaded: Document = json.loads((GOLDEN / "example-iam-user" / "webserver.json").read_text())
    return loaded


def as_described(document: Document) -> Document:
    """Return a revision as DescribeTaskDefinition of AWS returns it after `document` was registered."""
    revision = copy.deepcopy(document)
    revision |= {
        "taskDefinitionArn": f"arn:aws:ecs:us-east-1:123456789012:task-definition/{document['family']}:7",
        "revision": 7,
        "status": "ACTIVE",
        "requiresAttributes": [{"name": "com.amazonaws.ecs.capability.logging-driver.awslogs"}],
        "compatibilities": ["EC2", "FARGATE"],
        "registeredAt": "2026-11-23T12:00:00Z",
        "registeredBy": "arn:aws:iam::123456789012:user/somebody",
        "placementConstraints": [],
        "enableFaultInjection": False,
    }
    for container in revision["containerDefinitions"]:
        for key in ("cpu", "environment", "mountPoints", "volumesFrom", "systemControls", "portMappings"):
            container.setdefault(key, 0 if key == "cpu" else [])
        container["logConfiguration"]["secretOptions"] = []
        container["linuxParameters"]["capabilities"].setdefault("add", [])
        container["linuxParameters"].setdefault("devices", [])
        for mapping in container["portMappings"]:
            mapping["hostPort"] = mapping["containerPort"]
        for mount in container["mountPoints"]:
            if not mount["readOnly"]:
                del mount["readOnly"]
    for volume in revision["volumes"]:
        if "efsVolumeConfiguration" not in volume:
            volume["host"] = {}
    return revision


def shuffled(value: Any, generator: random.Random) -> Any:
    """Shuffle every list of named things, and the sets of strings, at any depth."""
    if isinstance(value, dict):
        return {
            key: shuffled(item, generator) if key not in ("command", "entryPoint") else item
            for key, item in generator.sample(sorted(value.items()), len(value))
        }
    if isinstance(value, list):
        return [shuffled(item, generator) for item in generator.sample(value, len(value))]
    return value


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every scalar."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], (*path, key))
    else:
        yield path


def with_leaf(document: Document, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Document:
    changed = copy.deepcopy(document)
    place: Any = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = change(place[path[-1]])
    return changed


def other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return str(int(value) + 1) if value.isdigit() else f"{value}-changed"


def test_a_revision_as_aws_describes_it_is_no_difference(document: Document) -> None:
    assert differences(flatten(as_described(document)), flatten(document)) == ({}, {})


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_what_has_no_order_is_no_difference(document: Document, seed: int) -> None:
    revision = shuffled(as_described(document), random.Random(seed))  # noqa: S311, a shuffle
    assert differences(flatten(revision), flatten(document)) == ({}, {})


def test_every_single_changed_value_is_a_difference(document: Document) -> None:
    unnoticed = [
        path
        for path in leaves(document)
        if differences(flatten(as_described(document)), flatten(with_leaf(document, path, other))) == ({}, {})
    ]
    assert unnoticed == []


def test_every_single_removed_setting_is_a_difference(document: Document) -> None:
    """Removing a setting that has its default anyway is none; everything else is."""
    defaults = {("essential",), ("readOnly",), ("protocol",), ("rootDirectory",), ("retries",), ("timeout",)}
    defaults |= {("operatingSystemFamily",)}
    if document["containerDefinitions"][0]["readonlyRootFilesystem"] is False:
        defaults |= {("readonlyRootFilesystem",)}
    unnoticed = set()
    for path in leaves(document):
        if not isinstance(path[-1], str):
            continue
        changed = copy.deepcopy(document)
        place: Any = changed
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]
        try:
            same = differences(flatten(as_described(document)), flatten(changed)) == ({}, {})
        except KeyError:
            continue
        # A variable without a value is one with an empty value; so it was in the document.
        if same and path[-1] != "value":
            unnoticed.add(path[-1:])
    assert unnoticed <= defaults


@pytest.mark.parametrize("key", ["command", "entryPoint"])
def test_the_order_of_a_command_line_is_a_difference(document: Document, key: str) -> None:
    document["containerDefinitions"][0][key] = ["a", "b"]
    changed = copy.deepcopy(document)
    changed["containerDefinitions"][0][key] = ["b", "a"]
    assert differences(flatten(document), flatten(changed))[1] == {f"containerDefinitions.webserver.{key}": ["b", "a"]}


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ({"cpu": "256"}, {"cpu": ".25 vCPU"}),
        ({"cpu": "1024"}, {"cpu": "1 vCPU"}),
        ({"memory": "512"}, {"memory": "0.5 GB"}),
        ({"memory": "2048"}, {"memory": "2GB"}),
        ({}, {"ephemeralStorage": {"sizeInGiB": 20}}),
        ({}, {"runtimePlatform": {"cpuArchitecture": "X86_64"}}),
        ({"volumes": [{"name": "a"}]}, {"volumes": [{"name": "a", "host": {}}]}),
        ({"requiresCompatibilities": ["EC2", "FARGATE"]}, {"requiresCompatibilities": ["FARGATE", "EC2"]}),
        ({"volumes": []}, {"placementConstraints": []}),
        ({"pidMode": None}, {}),
    ],
)
def test_two_ways_to_say_the_same(one: Document, another: Document) -> None:
    assert flatten(one) == flatten(another)


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ({"cpu": "256"}, {"cpu": "512"}),
        ({"memory": "1 GB"}, {"memory": "1000"}),
        ({"ephemeralStorage": {"sizeInGiB": 21}}, {}),
        ({"runtimePlatform": {"cpuArchitecture": "ARM64"}}, {}),
        ({"volumes": [{"name": "a"}]}, {"volumes": []}),
        ({"volumes": [{"name": "a"}]}, {"volumes": [{"name": "a", "host": {"sourcePath": "/x"}}]}),
        ({"taskRoleArn": "arn:a"}, {}),
        (
            {"containerDefinitions": [{"name": "a", "environment": [{"name": "X", "value": ""}]}]},
            {"containerDefinitions": [{"name": "a", "environment": []}]},
        ),
        (
            {"containerDefinitions": [{"name": "a", "essential": True}]},
            {"containerDefinitions": [{"name": "a", "essential": False}]},
        ),
        (
            {"containerDefinitions": [{"name": "a", "secrets": [{"name": "X", "valueFrom": "arn:1"}]}]},
            {"containerDefinitions": [{"name": "a", "environment": [{"name": "X", "value": "arn:1"}]}]},
        ),
    ],
)
def test_two_documents_that_differ(one: Document, another: Document) -> None:
    assert flatten(one) != flatten(another)


def test_differences_name_the_path_with_both_values(document: Document) -> None:
    changed = copy.deepcopy(document)
    (variable,) = (item for item in changed["containerDefinitions"][0]["environment"] if item["name"] == "QUOTE")
    variable["value"] = "new"
    path = "containerDefinitions.webserver.environment.QUOTE"
    before, after = differences(flatten(document), flatten(changed))
    assert list(before) == list(after) == [path]
    assert after[path] == "new"


@pytest.fixture(scope="module")
def ecs_model() -> Any:
    return get_session().get_service_model("ecs")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(runtimePlatform={"cpuArchitecture": "ARM"}), "choices: X86_64, ARM64"),
        (lambda d: d.update(cpuu="256"), 'Unknown parameter in input: "cpuu"'),
        (lambda d: d.pop("family"), 'Missing required parameter in input: "family"'),
        (lambda d: d.update(cpu=256), "Invalid type for parameter cpu"),
        (lambda d: d["containerDefinitions"][0]["environment"].append({"name": "QUOTE", "value": ""}), "'QUOTE' is"),
        (lambda d: d["containerDefinitions"][0]["environment"].append({"name": "AWS_ACCESS_KEY_ID"}), "2 times"),
        (lambda d: d["volumes"].pop(), "volume 'tmp' is not among the volumes"),
        (lambda d: d["containerDefinitions"][0]["secrets"][0].update(valueFrom="hunter2"), "must be the ARN"),
        (lambda d: d["containerDefinitions"].append(d["containerDefinitions"][0]), "'webserver' is there 2 times"),
    ],
)
def test_an_invalid_document_is_explained(
    document: Document, ecs_model: Any, change: Callable[[Document], object], message: str
) -> None:
    change(document)
    problems = document_problems(ecs_model, document)
    assert message in "\n".join(problems)
    assert "hunter2" not in "\n".join(problems)
