"""What only real ECS does: the role that it makes for itself is late, clusters take time, answers may be outdated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from module_utils.aws_ecs_cluster import ensure_cluster, with_service_role
from module_utils.aws_ecs_service import ServiceSpec, wait_for_steady_state
from module_utils.aws_plan import Plan, Refusal

OLD, NEW = "arn:aws:ecs:us-east-1:123456789012:task-definition/daemon:1", "daemon:2"


class AwsError(Exception):
    """An error as botocore raises it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.response = {"Error": {"Code": code, "Message": message}}


def script(*answers: Any) -> Callable[..., Any]:
    """Return a function that gives one answer after the other and then the last again; exceptions are raised."""
    left = list(answers)

    def answer(**_: Any) -> Any:
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, Exception):
            raise found
        return found

    return answer


class Ecs:
    """A client whose operations are given."""

    def __init__(self, **operations: Callable[..., Any]) -> None:
        for name, operation in operations.items():
            setattr(self, name, operation)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)


ROLE_MISSING = AwsError(
    "InvalidParameterException",
    "Unable to assume the service linked role. Please verify that the ECS service linked role exists.",
)


def test_the_service_linked_role_is_waited_for() -> None:
    assert with_service_role(script(ROLE_MISSING, ROLE_MISSING, "made")) == "made"


def test_other_errors_are_not_waited_for() -> None:
    with pytest.raises(AwsError, match="no such subnet"):
        with_service_role(script(AwsError("InvalidParameterException", "no such subnet"), "made"))


def cluster(status: str) -> dict[str, Any]:
    found = {"clusterName": "lab", "clusterArn": "arn", "status": status, "capacityProviders": []}
    return {"clusters": [found]}


def test_the_first_cluster_is_created_and_becomes_active() -> None:
    ecs = Ecs(
        describe_clusters=script({"clusters": []}, cluster("PROVISIONING"), cluster("ACTIVE")),
        create_cluster=script(ROLE_MISSING, {"cluster": {"clusterArn": "arn"}}),
    )
    plan = Plan()
    assert ensure_cluster(ecs, "lab", "lab", plan, container_insights="disabled", tags={}) == "arn"
    assert [change["action"] for change in plan.changes] == ["create"]
    assert ecs.describe_clusters()["clusters"][0]["status"] == "ACTIVE"  # type: ignore[attr-defined]


def test_a_cluster_that_is_being_deleted_is_made_anew() -> None:
    going = cluster("DEPROVISIONING")
    ecs = Ecs(
        describe_clusters=script(going, going, cluster("INACTIVE"), cluster("ACTIVE")),
        create_cluster=script({"cluster": {"clusterArn": "new"}}),
    )
    assert ensure_cluster(ecs, "lab", "lab", Plan(), container_insights="disabled", tags={}) == "new"


def test_a_cluster_that_failed_is_reported() -> None:
    ecs = Ecs(
        describe_clusters=script({"clusters": []}, cluster("FAILED")),
        create_cluster=script({"cluster": {"clusterArn": "arn"}}),
    )
    with pytest.raises(Refusal, match="could not be provisioned"):
        ensure_cluster(ecs, "lab", "lab", Plan(), container_insights="disabled", tags={})


def service(task_definition: str, state: str = "COMPLETED") -> dict[str, Any]:
    deployment = {"status": "PRIMARY", "taskDefinition": task_definition, "rolloutState": state}
    found = {"serviceName": "daemon", "taskDefinition": task_definition, "deployments": [deployment]}
    return {"services": [{**found, "runningCount": 1, "pendingCount": 0, "desiredCount": 1}]}


SPEC = ServiceSpec("daemon", NEW, 1, ("subnet-1",), ("sg-1",))


@pytest.mark.parametrize(
    "outdated", [{"services": []}, service(OLD), service(NEW, "FAILED")], ids=["missing", "before", "failed"]
)
def test_an_outdated_answer_is_no_failure(outdated: dict[str, Any]) -> None:
    ecs = Ecs(describe_services=script(outdated, service(NEW)))
    wait_for_steady_state(ecs, "lab", [SPEC], seconds=60)


@pytest.mark.parametrize(
    ("answer", "message"),
    [({"services": []}, "disappeared from the cluster 'lab'"), (service(OLD), "it was rolled back to daemon:1")],
)
def test_what_is_said_twice_is_a_failure(answer: dict[str, Any], message: str) -> None:
    ecs = Ecs(describe_services=script(answer), list_tasks=script({"taskArns": []}))
    with pytest.raises(Refusal, match=message):
        wait_for_steady_state(ecs, "lab", [SPEC], seconds=60)
