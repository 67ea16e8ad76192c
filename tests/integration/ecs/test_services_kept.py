"""Cluster and services against the emulator: creation, drift in every setting, rollouts, removal."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from module_utils.aws_ecs_cluster import ensure_cluster, remove_cluster
from module_utils.aws_ecs_service import (
    LoadBalancerTarget,
    ServiceSpec,
    ensure_services,
    remove_services,
    wait_for_steady_state,
)
from module_utils.aws_plan import Plan, Refusal
from module_utils.aws_task_definition import ensure_task_definition
from tests.integration.ecs.conftest import Clients
from tests.unit.ecs.rendering import GOLDEN

TAGS = {"project": "one"}
TARGET_GROUP = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/dagster-web/0123456789abcdef"


@pytest.fixture
def ecs(aws: Clients) -> Any:
    return aws("ecs")


@pytest.fixture
def cluster(ecs: Any, request: pytest.FixtureRequest) -> str:
    """A cluster of its own for each test."""
    name = "".join(char if char.isalnum() else "-" for char in request.node.name)[:100]
    ensure_cluster(ecs, "platform", name, Plan(), container_insights="disabled", tags=TAGS)
    return name


def register(ecs: Any, memory: int = 1024) -> str:
    document = json.loads((GOLDEN / "example" / "daemon.json").read_text()) | {"memory": str(memory)}
    document["family"] = "service-test"
    return ensure_task_definition(ecs, "platform", document, TAGS, Plan())


@pytest.fixture
def daemon(ecs: Any, network: dict[str, Any]) -> ServiceSpec:
    return ServiceSpec(
        name="daemon",
        task_definition=register(ecs),
        desired_count=1,
        subnet_ids=tuple(network["subnets"][:2]),
        security_group_ids=(network["groups"][0],),
        minimum_healthy_percent=0,
        maximum_percent=100,
        tags=TAGS,
    )


@pytest.fixture
def webserver(daemon: ServiceSpec) -> ServiceSpec:
    return replace(
        daemon,
        name="webserver",
        autoscaled=True,
        minimum_healthy_percent=100,
        maximum_percent=200,
        health_check_grace_seconds=180,
        load_balancer=LoadBalancerTarget(TARGET_GROUP, "daemon", 3000),
    )


def apply(ecs: Any, cluster: str, *specs: ServiceSpec, check: bool = False, seconds: float = 0) -> Plan:
    plan = Plan(check)
    ensure_services(ecs, "platform", cluster, specs, plan, steady_seconds=seconds, poll_seconds=0.05)
    return plan


def describe(ecs: Any, cluster: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = ecs.describe_services(cluster=cluster, services=[name], include=["TAGS"])["services"][0]
    return found


def run_tasks(ecs: Any, cluster: str, name: str, *, status: str = "RUNNING", **container: Any) -> list[str]:
    """Do what the agent does: start the tasks of the primary deployment and report their state."""
    service = describe(ecs, cluster, name)
    tasks = ecs.run_task(
        cluster=cluster,
        taskDefinition=service["taskDefinition"],
        count=service["desiredCount"],
        launchType="FARGATE",
        group=f"service:{name}",
        startedBy=service["deployments"][0]["id"],
        networkConfiguration=service["networkConfiguration"],
    )["tasks"]
    for task in tasks:
        ecs.submit_task_state_change(
            cluster=cluster,
            task=task["taskArn"],
            status=status,
            reason="Essential container in task exited" if status == "STOPPED" else "",
            containers=[{"containerName": "daemon", "status": status, "reason": "healthStatus=HEALTHY", **container}],
        )
    return [task["taskArn"] for task in tasks]


def test_services_are_created_as_described_and_then_left_alone(
    ecs: Any, cluster: str, daemon: ServiceSpec, webserver: ServiceSpec
) -> None:
    plan = apply(ecs, cluster, webserver, daemon)
    assert [(change["action"], change["name"]) for change in plan.changes] == [
        ("create", "webserver"),
        ("create", "daemon"),
    ]
    assert apply(ecs, cluster, webserver, daemon).changes == []
    service = describe(ecs, cluster, "daemon")
    assert service["deploymentConfiguration"]["maximumPercent"] == 100
    assert service["deploymentConfiguration"]["minimumHealthyPercent"] == 0
    assert service["deploymentConfiguration"]["deploymentCircuitBreaker"] == {"enable": True, "rollback": True}
    assert service["networkConfiguration"]["awsvpcConfiguration"]["assignPublicIp"] == "DISABLED"
    assert service["enableExecuteCommand"] is False
    assert service["propagateTags"] == "SERVICE"
    assert {"key": "dagster-platform", "value": "platform"} in service["tags"]
    assert "loadBalancers" not in service or service["loadBalancers"] == []
    assert describe(ecs, cluster, "webserver")["healthCheckGracePeriodSeconds"] == 180


DRIFT: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "network: subnets": lambda n: {"networkConfiguration": {"awsvpcConfiguration": _network(n, subnets=n["subnets"])}},
    "network: security groups": lambda n: {
        "networkConfiguration": {"awsvpcConfiguration": _network(n, securityGroups=n["groups"])}
    },
    "network: public address": lambda n: {
        "networkConfiguration": {"awsvpcConfiguration": _network(n, assignPublicIp="ENABLED")}
    },
    "two daemons at once": lambda _: {
        "deploymentConfiguration": {
            "maximumPercent": 200,
            "minimumHealthyPercent": 0,
            "deploymentCircuitBreaker": {"enable": True, "rollback": True},
        }
    },
    "no circuit breaker": lambda _: {
        "deploymentConfiguration": {
            "maximumPercent": 100,
            "minimumHealthyPercent": 0,
            "deploymentCircuitBreaker": {"enable": False, "rollback": False},
        }
    },
    "ECS Exec": lambda _: {"enableExecuteCommand": True},
    "tag propagation": lambda _: {"propagateTags": "TASK_DEFINITION"},
    "managed tags": lambda _: {"enableECSManagedTags": False},
    "capacity provider": lambda _: {
        "capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1, "base": 0}]
    },
    "platform version": lambda _: {"platformVersion": "1.3.0"},
    "rebalancing": lambda _: {"availabilityZoneRebalancing": "ENABLED"},
    "desired count": lambda _: {"desiredCount": 2},
    "load balancer": lambda _: {
        "loadBalancers": [{"targetGroupArn": TARGET_GROUP, "containerName": "daemon", "containerPort": 3000}]
    },
}


def _network(network: dict[str, Any], **changed: Any) -> dict[str, Any]:
    same = {"subnets": network["subnets"][:2], "securityGroups": network["groups"][:1], "assignPublicIp": "DISABLED"}
    return {**same, **changed}


@pytest.mark.parametrize("setting", DRIFT)
def test_drift_is_corrected(ecs: Any, cluster: str, daemon: ServiceSpec, network: dict[str, Any], setting: str) -> None:
    apply(ecs, cluster, daemon)
    ecs.update_service(cluster=cluster, service="daemon", **DRIFT[setting](network))

    planned = apply(ecs, cluster, daemon, check=True)
    assert len(planned.changes) == 1
    assert len(apply(ecs, cluster, daemon, check=True).changes) == 1  # nothing was changed by looking

    plan = apply(ecs, cluster, daemon)
    assert plan.changes == planned.changes
    (key,) = plan.changes[0]["after"]
    assert plan.changes[0]["before"][key] != plan.changes[0]["after"][key]
    assert apply(ecs, cluster, daemon).changes == []


def test_a_new_revision_is_rolled_out(ecs: Any, cluster: str, daemon: ServiceSpec) -> None:
    apply(ecs, cluster, daemon)
    revision = register(ecs, memory=2048)
    plan = apply(ecs, cluster, replace(daemon, task_definition=revision))
    assert plan.changes[0]["after"] == {"taskDefinition": revision}
    assert describe(ecs, cluster, "daemon")["taskDefinition"] == revision


def test_the_desired_count_belongs_to_the_autoscaler(ecs: Any, cluster: str, webserver: ServiceSpec) -> None:
    apply(ecs, cluster, webserver)
    ecs.update_service(cluster=cluster, service="webserver", desiredCount=2)
    assert apply(ecs, cluster, webserver).changes == []
    assert describe(ecs, cluster, "webserver")["desiredCount"] == 2


def test_tags_are_set_and_those_of_others_kept(ecs: Any, cluster: str, daemon: ServiceSpec) -> None:
    apply(ecs, cluster, daemon)
    arn = describe(ecs, cluster, "daemon")["serviceArn"]
    ecs.tag_resource(resourceArn=arn, tags=[{"key": "project", "value": "drift"}, {"key": "theirs", "value": "kept"}])
    assert len(apply(ecs, cluster, daemon).changes) == 1
    tags = {tag["key"]: tag["value"] for tag in describe(ecs, cluster, "daemon")["tags"]}
    assert (tags["project"], tags["theirs"]) == ("one", "kept")


def test_check_mode_without_a_cluster(ecs: Any, daemon: ServiceSpec) -> None:
    specs = replace(daemon, task_definition="pending:task-definition/x", subnet_ids=("pending:subnet/x",))
    plan = Plan(check_mode=True)
    arn = ensure_cluster(ecs, "platform", "no-such-cluster", plan, container_insights="disabled", tags=TAGS)
    ensure_services(ecs, "platform", "no-such-cluster", [specs], plan, steady_seconds=60)
    assert arn == "pending:ecs-cluster/no-such-cluster"
    assert [change["action"] for change in plan.changes] == ["create", "create"]
    assert ecs.describe_clusters(clusters=["no-such-cluster"])["clusters"] == []


def test_cluster_drift_is_corrected(ecs: Any, cluster: str) -> None:
    ecs.update_cluster(cluster=cluster, settings=[{"name": "containerInsights", "value": "enabled"}])
    ecs.put_cluster_capacity_providers(
        cluster=cluster, capacityProviders=["FARGATE"], defaultCapacityProviderStrategy=[]
    )
    plan = Plan()
    ensure_cluster(ecs, "platform", cluster, plan, container_insights="disabled", tags={"project": "two"})
    assert [list(change["after"]) for change in plan.changes] == [
        ["tags"],
        ["containerInsights"],
        ["capacityProviders"],
    ]
    again = Plan()
    ensure_cluster(ecs, "platform", cluster, again, container_insights="disabled", tags={"project": "two"})
    assert again.changes == []


def test_it_waits_until_the_tasks_run(ecs: Any, cluster: str, daemon: ServiceSpec, webserver: ServiceSpec) -> None:
    apply(ecs, cluster, daemon, webserver)
    run_tasks(ecs, cluster, "daemon")
    with pytest.raises(
        Refusal, match=r"'webserver' failed: it is not steady after .* \(running 0, pending 0, desired 1"
    ):
        apply(ecs, cluster, daemon, webserver, seconds=0.2)
    run_tasks(ecs, cluster, "webserver")
    assert apply(ecs, cluster, daemon, webserver, seconds=5).changes == []


def test_a_failed_rollout_is_explained(ecs: Any, cluster: str, daemon: ServiceSpec) -> None:
    apply(ecs, cluster, daemon)
    for _ in range(3):  # the least number of failures for the circuit breaker
        run_tasks(ecs, cluster, "daemon", status="STOPPED", exitCode=2)
    with pytest.raises(Refusal) as refusal:
        wait_for_steady_state(
            ecs, cluster, [daemon], seconds=5, poll_seconds=0.05, printed=lambda service, task: [f"{service}, {task}?"]
        )
    message = str(refusal.value)
    assert "tasks failed to start" in message
    (newest,) = re.findall(r"The last lines of (\S+):\n", message)
    assert f"  | daemon, {newest}?\n" in message
    assert "Essential container in task exited" in message
    assert "exit code 2" in message
    assert "make logs SERVICE=daemon" in message


def test_a_failed_rollout_is_tried_again(ecs: Any, cluster: str, daemon: ServiceSpec) -> None:
    apply(ecs, cluster, daemon)
    for _ in range(3):
        run_tasks(ecs, cluster, "daemon", status="STOPPED", exitCode=2)
    plan = apply(ecs, cluster, daemon)
    assert plan.changes[0]["after"] == {"forceNewDeployment": True}
    run_tasks(ecs, cluster, "daemon")
    assert apply(ecs, cluster, daemon, seconds=5).changes == []


def test_a_rollback_is_a_failure(ecs: Any, cluster: str, daemon: ServiceSpec) -> None:
    apply(ecs, cluster, daemon)
    run_tasks(ecs, cluster, "daemon")
    broken = replace(daemon, task_definition=register(ecs, memory=4096))
    apply(ecs, cluster, broken)
    # What ECS does when the circuit breaker has opened.
    ecs.update_service(cluster=cluster, service="daemon", taskDefinition=daemon.task_definition)
    with pytest.raises(Refusal, match=r"it was rolled back to service-test:\d+, because service-test:\d+ did not come"):
        wait_for_steady_state(ecs, cluster, [broken], seconds=5, poll_seconds=0.05)


def test_absent_removes_ours_and_waits_for_the_tasks(ecs: Any, cluster: str, daemon: ServiceSpec) -> None:
    apply(ecs, cluster, daemon)
    foreign = replace(daemon, name="theirs").settings() | {"desiredCount": 0}
    ecs.create_service(cluster=cluster, serviceName="theirs", **foreign)
    (task,) = run_tasks(ecs, cluster, "daemon")

    planned = Plan(check_mode=True)
    remove_services(ecs, "platform", cluster, planned)
    assert describe(ecs, cluster, "daemon")["status"] == "ACTIVE"
    with pytest.raises(Refusal, match="Waited 0 s for the tasks of the ECS services daemon to stop"):
        remove_services(ecs, "platform", cluster, Plan(), seconds=0.2, poll_seconds=0.05)
    assert describe(ecs, cluster, "daemon")["status"] == "DRAINING"

    ecs.submit_task_state_change(cluster=cluster, task=task, status="STOPPED", reason="stopped")
    remove_services(ecs, "platform", cluster, Plan(), seconds=5, poll_seconds=0.05)
    assert [change["name"] for change in planned.changes] == ["daemon"]
    assert describe(ecs, cluster, "theirs")["status"] == "ACTIVE"
    again = Plan()
    remove_services(ecs, "platform", cluster, again)
    assert again.changes == []


def test_absent_removes_the_cluster(ecs: Any, cluster: str) -> None:
    plan = Plan()
    remove_cluster(ecs, "platform", cluster, plan)
    assert len(plan.changes) == 1
    again = Plan()
    remove_cluster(ecs, "platform", cluster, again)
    assert again.changes == []


def test_what_belongs_to_others_is_left_alone(ecs: Any, daemon: ServiceSpec, cluster: str) -> None:
    ecs.create_cluster(clusterName="foreign")
    for attempt in (
        lambda: ensure_cluster(ecs, "platform", "foreign", Plan(), container_insights="disabled", tags=TAGS),
        lambda: remove_cluster(ecs, "platform", "foreign", Plan()),
    ):
        with pytest.raises(Refusal, match="does not belong to the platform"):
            attempt()
    settings = copy.deepcopy(daemon.settings())
    ecs.create_service(cluster=cluster, serviceName="daemon", desiredCount=0, **settings)
    with pytest.raises(Refusal, match="does not belong to the platform"):
        apply(ecs, cluster, daemon)
