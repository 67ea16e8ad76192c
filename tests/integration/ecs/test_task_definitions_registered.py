"""ensure_task_definition and remove_task_definition against the emulator, read back independently."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from module_utils.aws_plan import Plan, Refusal
from module_utils.aws_task_definition import ensure_task_definition, remove_task_definition
from tests.integration.ecs.conftest import Clients
from tests.unit.ecs.rendering import GOLDEN

Document = dict[str, Any]
TAGS = {"project": "one"}


@pytest.fixture
def ecs(aws: Clients) -> Any:
    return aws("ecs")


@pytest.fixture
def document(request: pytest.FixtureRequest) -> Document:
    """A document with a family of its own."""
    loaded: Document = json.loads((GOLDEN / "example" / "webserver.json").read_text())
    name = "".join(char if char.isalnum() else "-" for char in request.node.name)
    return {**loaded, "family": name[:100]}


def apply(ecs: Any, document: Document, tags: dict[str, str] = TAGS, *, check: bool = False) -> tuple[Plan, str]:
    plan = Plan(check)
    return plan, ensure_task_definition(ecs, "platform", document, tags, plan)


def revisions(ecs: Any, family: str) -> list[str]:
    return list(ecs.list_task_definitions(familyPrefix=family)["taskDefinitionArns"])


def test_the_second_registration_of_the_same_document_does_nothing(ecs: Any, document: Document) -> None:
    plan, arn = apply(ecs, document)
    assert [change["action"] for change in plan.changes] == ["create"]
    again, same = apply(ecs, document)
    assert again.changes == []
    assert same == arn
    assert revisions(ecs, document["family"]) == [arn]
    tags = ecs.list_tags_for_resource(resourceArn=arn)["tags"]
    assert {"key": "dagster-platform", "value": "platform"} in tags


CHANGES: dict[str, Callable[[Document], object]] = {
    "environment": lambda d: d["containerDefinitions"][0]["environment"][0].update(value="new"),
    "image": lambda d: d["containerDefinitions"][0].update(image="repository@sha256:0"),
    "secret": lambda d: d["containerDefinitions"][0]["secrets"][0].update(valueFrom="arn:aws:secretsmanager:::x"),
    "cpu": lambda d: d.update(cpu="512", memory="1024"),
    "memory": lambda d: d.update(memory="1024"),
    "execution-role": lambda d: d.update(executionRoleArn="arn:aws:iam::123456789012:role/other"),
    "task-role": lambda d: d.update(taskRoleArn="arn:aws:iam::123456789012:role/other"),
    "architecture": lambda d: d["runtimePlatform"].update(cpuArchitecture="X86_64"),
    "ephemeral-storage": lambda d: d.update(ephemeralStorage={"sizeInGiB": 21}),
    "volume": lambda d: d["volumes"].append({"name": "more"}),
    "access-point": lambda d: [
        volume["efsVolumeConfiguration"]["authorizationConfig"].update(accessPointId="fsap-00000000000000001")
        for volume in d["volumes"]
        if "efsVolumeConfiguration" in volume
    ],
    "mount-point": lambda d: d["containerDefinitions"][0]["mountPoints"][0].update(readOnly=True),
    "command": lambda d: d["containerDefinitions"][0].update(command=["daemon"]),
    "stop-timeout": lambda d: d["containerDefinitions"][0].update(stopTimeout=60),
    "health-check": lambda d: d["containerDefinitions"][0]["healthCheck"].update(retries=5),
    "log-option": lambda d: d["containerDefinitions"][0]["logConfiguration"]["options"].update(mode="blocking"),
    "read-only-root": lambda d: d["containerDefinitions"][0].update(readonlyRootFilesystem=False),
    "user": lambda d: d["containerDefinitions"][0].update(user="0"),
}


@pytest.mark.parametrize("setting", CHANGES)
def test_a_changed_setting_is_registered_and_so_is_its_way_back(ecs: Any, document: Document, setting: str) -> None:
    _, first = apply(ecs, document)
    changed = copy.deepcopy(document)
    CHANGES[setting](changed)

    planned, pending = apply(ecs, changed, check=True)
    assert [change["action"] for change in planned.changes] == ["update"]
    assert pending.startswith("pending:")
    assert revisions(ecs, document["family"]) == [first]

    plan, second = apply(ecs, changed)
    assert second != first
    assert plan.changes == planned.changes
    assert apply(ecs, changed)[0].changes == []
    # The old revision is still ACTIVE and means the same, but it is not the newest.
    plan, third = apply(ecs, document)
    assert third not in {first, second}
    assert len(plan.changes) == 1


def test_a_changed_tag_is_set_in_place(ecs: Any, document: Document) -> None:
    _, arn = apply(ecs, document)
    ecs.tag_resource(resourceArn=arn, tags=[{"key": "theirs", "value": "kept"}, {"key": "project", "value": "drift"}])
    plan, same = apply(ecs, document, {"project": "two"})
    assert same == arn
    assert plan.changes[0]["before"] == {"tags": {"project": "drift"}}
    tags = {tag["key"]: tag["value"] for tag in ecs.list_tags_for_resource(resourceArn=arn)["tags"]}
    assert tags["project"] == "two"
    assert tags["theirs"] == "kept"
    assert apply(ecs, document, {"project": "two"})[0].changes == []


def test_a_deregistered_revision_does_not_count(ecs: Any, document: Document) -> None:
    _, first = apply(ecs, document)
    changed = copy.deepcopy(document)
    CHANGES["image"](changed)
    _, second = apply(ecs, changed)
    ecs.deregister_task_definition(taskDefinition=second)
    plan, arn = apply(ecs, document)
    assert (plan.changes, arn) == ([], first)
    assert apply(ecs, changed)[0].changes != []


def test_check_mode_on_an_empty_account_registers_nothing(ecs: Any, document: Document) -> None:
    document["taskRoleArn"] = "pending:iam-role/platform-task"
    plan, arn = apply(ecs, document, check=True)
    assert plan.changes[0]["action"] == "create"
    assert arn == f"pending:task-definition/{document['family']}"
    assert revisions(ecs, document["family"]) == []


def test_a_family_of_somebody_else_is_left_alone(ecs: Any, document: Document) -> None:
    ecs.register_task_definition(**document)
    with pytest.raises(Refusal, match="does not belong to the platform 'platform'"):
        apply(ecs, document)
    with pytest.raises(Refusal, match="does not belong"):
        remove_task_definition(ecs, "platform", document["family"], Plan())
    assert len(revisions(ecs, document["family"])) == 1


def test_an_invalid_document_is_refused_before_anything_is_sent(ecs: Any, document: Document) -> None:
    document["runtimePlatform"]["cpuArchitecture"] = "ARM"
    with pytest.raises(Refusal, match=r"runtimePlatform\.cpuArchitecture is 'ARM'; choices: X86_64, ARM64"):
        apply(ecs, document)
    assert revisions(ecs, document["family"]) == []


def test_absent_removes_all_revisions_of_the_family_and_no_other(ecs: Any, document: Document) -> None:
    neighbour = {**document, "family": f"{document['family']}-2"}
    apply(ecs, neighbour)
    for number in range(12):  # more than DeleteTaskDefinitions takes at a time
        apply(ecs, {**document, "memory": str(1024 + number)})
    planned = Plan(check_mode=True)
    remove_task_definition(ecs, "platform", document["family"], planned)
    assert len(revisions(ecs, document["family"])) == 12
    plan = Plan()
    remove_task_definition(ecs, "platform", document["family"], plan)
    assert plan.changes == planned.changes
    assert revisions(ecs, document["family"]) == []
    inactive = ecs.list_task_definitions(familyPrefix=document["family"], status="INACTIVE")
    assert inactive["taskDefinitionArns"] == []
    again = Plan()
    remove_task_definition(ecs, "platform", document["family"], again)
    assert again.changes == []
    assert len(revisions(ecs, neighbour["family"])) == 1
