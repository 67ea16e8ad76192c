"""Every deployed document, rendered by Ansible's Templar, equals its golden file and what AWS accepts.

After an intended change: `python -m tests.unit.ecs.rendering`, then read the diff of the golden files.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from botocore.session import get_session

from module_utils.aws_ecs_service import service_spec
from module_utils.aws_model import request_problems
from module_utils.aws_task_definition import document_problems
from tests.unit.ecs.rendering import DOCUMENTS, GOLDEN, REPOSITORY, TOPOLOGIES, rendered, renderer

TASK_DEFINITIONS = ["webserver.json", "daemon.json"]


@cache
def model(service: str) -> Any:
    return get_session().get_service_model(service)


def task_definition(topology: str, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(rendered(topology, name))
    return document


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_rendered_document_equals_its_golden_file(topology: str, name: str) -> None:
    assert rendered(topology, name) == (GOLDEN / topology / name).read_text()


@pytest.mark.parametrize("role", sorted(path.name for path in (REPOSITORY / "roles").iterdir()))
def test_settings_of_a_role_need_no_facts_of_other_roles(role: str) -> None:
    """Ansible checks the arguments of every role, also of those that `--tags` leaves out, which hand on no facts."""
    facts_free = renderer("example", with_facts=False)
    specification = REPOSITORY / "roles" / role / "meta" / "argument_specs.yml"
    options = facts_free.loader.load_from_file(str(specification))["argument_specs"]["main"].get("options", {})
    for name in options.keys() & facts_free.variables.keys():
        facts_free.evaluate(name)


def test_every_template_has_a_golden_file_and_no_golden_file_is_left_over() -> None:
    templates = {str(path.relative_to(REPOSITORY / "templates")) for path in (REPOSITORY / "templates").rglob("*.j2")}
    macros = {name for name in templates if name.rpartition("/")[2].startswith("_")}
    # What these become is in the requests of tests/integration/topologies/golden.
    requested = {"alarms.yml.j2", "dashboard.json.j2"}
    assert {template for template, _ in DOCUMENTS.values()} == templates - macros - requested
    assert {str(path.relative_to(GOLDEN)) for path in GOLDEN.rglob("*") if path.is_file()} == {
        f"{topology}/{name}" for topology in TOPOLOGIES for name in DOCUMENTS
    }


@pytest.mark.parametrize("name", TASK_DEFINITIONS)
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_task_definition_is_valid_for_the_service_model(topology: str, name: str) -> None:
    assert document_problems(model("ecs"), task_definition(topology, name)) == []


# From the API reference of RegisterTaskDefinition and the developer guide, "Task definition parameters for Fargate".
@pytest.mark.parametrize("name", TASK_DEFINITIONS)
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_task_definition_keeps_the_documented_limits_of_fargate(topology: str, name: str) -> None:
    document = task_definition(topology, name)
    (container,) = document["containerDefinitions"]
    assert document["requiresCompatibilities"] == ["FARGATE"]
    assert document["networkMode"] == "awsvpc"
    assert int(document["memory"]) in {256: (512, 1024, 2048), 512: range(1024, 4097, 1024)}[int(document["cpu"])]
    assert 21 <= document.get("ephemeralStorage", {"sizeInGiB": 21})["sizeInGiB"] <= 200
    check = container["healthCheck"]
    assert 5 <= check["interval"] <= 300
    assert 2 <= check["timeout"] <= 60
    assert 1 <= check["retries"] <= 10
    assert 0 <= check["startPeriod"] <= 300
    assert container["stopTimeout"] <= 120
    assert not {"links", "privileged", "devices", "sharedMemorySize", "tmpfs"} & container.keys()
    assert set(container["linuxParameters"]) <= {"initProcessEnabled", "capabilities"}
    assert "add" not in container["linuxParameters"]["capabilities"]
    # At most 64 KiB for a whole document.
    assert len(json.dumps(document)) < 64 * 1024


@pytest.mark.parametrize("name", TASK_DEFINITIONS)
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_container_is_hardened_and_holds_no_secret(topology: str, name: str) -> None:
    (container,) = task_definition(topology, name)["containerDefinitions"]
    # The agent of ECS Exec writes into the root file system.
    assert container["readonlyRootFilesystem"] is (topology != "example-ecs-exec")
    assert container["user"] == "10001:10001"
    assert container["linuxParameters"]["capabilities"] == {"drop": ["ALL"]}
    names = {item["name"] for item in container["environment"]}
    assert not {name for name in names if any(word in name for word in ("PASSWORD", "SECRET", "KEY", "TOKEN"))}
    assert all(item["valueFrom"].startswith("arn:aws:secretsmanager:") for item in container["secrets"])
    injected = {item["name"] for item in container["secrets"]} - {"DAGSTER_POSTGRES_PASSWORD", "DAGSTER_POSTGRES_USER"}
    wanted = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} if topology == "example-iam-user" else set()
    assert injected == wanted


def test_file_system_is_mounted_with_tls_and_iam() -> None:
    volumes = {volume["name"]: volume for volume in task_definition("example", "daemon.json")["volumes"]}
    configuration = volumes["storage"]["efsVolumeConfiguration"]
    assert configuration["transitEncryption"] == "ENABLED"
    assert configuration["authorizationConfig"]["iam"] == "ENABLED"
    assert configuration["rootDirectory"] == "/"  # AWS allows nothing else with an access point


def test_web_port_is_the_one_of_target_group_and_service() -> None:
    document = task_definition("example", "webserver.json")
    ports = {mapping["containerPort"] for mapping in document["containerDefinitions"][0]["portMappings"]}
    assert ports == {3000, 8080}
    assert renderer("example").evaluate("alb_target_port") == renderer("example").evaluate("ecs_webserver_port") == 3000


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_services_are_valid_for_the_service_model(topology: str) -> None:
    registered = {
        "results": [
            {"item": name, "task_definition_arn": f"arn:aws:ecs:us-east-1:123456789012:task-definition/{name}:1"}
            for name in ("webserver", "daemon")
        ]
    }
    services = renderer(topology).evaluate("__ecs_services", __ecs_task_definitions=registered)
    defaults = {"assign_public_ip": False, "platform_version": "1.4.0", "autoscaled": False, "load_balancer": None}
    defaults |= {"minimum_healthy_percent": 100, "maximum_percent": 200, "health_check_grace_seconds": 0}
    specs = {service["name"]: service_spec({**defaults, **service}, {}) for service in services}
    for spec in specs.values():
        request = {"serviceName": spec.name, "desiredCount": spec.desired_count, **spec.settings()}
        assert request_problems(model("ecs"), "CreateService", request) == []
        assert request_problems(model("ecs"), "UpdateService", {"service": spec.name, **spec.settings()}) == []
    # Two daemons at once would launch every run twice.
    daemon = specs["daemon"]
    assert (daemon.desired_count, daemon.minimum_healthy_percent, daemon.maximum_percent) == (1, 0, 100)
    assert not daemon.autoscaled
    assert specs["webserver"].autoscaled
    assert specs["webserver"].minimum_healthy_percent == 100  # a new one is healthy before the old one goes
