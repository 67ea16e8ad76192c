"""Reading task definitions, references to secrets, and batches of log events."""

from __future__ import annotations

from typing import Any

import pytest

from local.runner.definition import Limits, LogTarget, UnsupportedDefinitionError, Volume, parse_definition
from local.runner.docker_runtime import limit_options
from local.runner.logs import batch
from local.runner.runtime import StartError
from local.runner.secret_values import ParameterReference, SecretReference, parse_reference, resolve

SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:dagster/database-AbCdEf"


def document(**container: Any) -> dict[str, Any]:
    return {
        "taskDefinitionArn": "arn:aws:ecs:us-east-1:123456789012:task-definition/web:3",
        "family": "web",
        "revision": 3,
        "taskRoleArn": "arn:role",
        "containerDefinitions": [{"name": "web", "entryPoint": ["/opt/dagster/x"], "command": ["web"], **container}],
        "volumes": [
            {
                "name": "storage",
                "efsVolumeConfiguration": {"fileSystemId": "fs-1", "authorizationConfig": {"accessPointId": "fsap-1"}},
            },
            {"name": "tmp"},
        ],
    }


def test_definition() -> None:
    definition = parse_definition(
        document(
            environment=[{"name": "A", "value": "1"}],
            secrets=[{"name": "B", "valueFrom": SECRET}],
            portMappings=[{"containerPort": 3000}],
            mountPoints=[
                {"sourceVolume": "storage", "containerPath": "/mnt/dagster/"},
                {"sourceVolume": "tmp", "containerPath": "/tmp"},
            ],
            logConfiguration={
                "logDriver": "awslogs",
                "options": {"awslogs-group": "/ecs/web", "awslogs-stream-prefix": "p"},
            },
            stopTimeout=7,
        )
    )
    assert definition.command == ("/opt/dagster/x", "web")
    assert (definition.environment, definition.secrets) == ({"A": "1"}, {"B": SECRET})
    assert definition.ports == (3000,)
    assert definition.volumes == (Volume("storage", "/mnt/dagster", "fs-1", "fsap-1"), Volume("tmp", "/tmp"))
    assert definition.logs == LogTarget("/ecs/web", "p")
    assert (definition.stop_timeout, definition.task_role) == (7, "arn:role")


def test_what_a_container_may_use_and_do() -> None:
    asked = document(
        user="10001:10001",
        readonlyRootFilesystem=True,
        stopTimeout=40,
        workingDirectory="/srv",
        mountPoints=[{"sourceVolume": "tmp", "containerPath": "/data", "readOnly": True}],
        linuxParameters={
            "initProcessEnabled": True,
            "capabilities": {"drop": ["ALL"], "add": ["SYS_PTRACE"]},
            "tmpfs": [{"containerPath": "/scratch", "size": 64, "mountOptions": ["noexec"]}],
        },
        ulimits=[{"name": "nofile", "softLimit": 1024, "hardLimit": 4096}],
    )
    definition = parse_definition({**asked, "cpu": "256", "memory": "512"})
    assert definition.limits == Limits(
        cpu=0.25,
        memory=512,
        user="10001:10001",
        read_only=True,
        init=True,
        drop=("ALL",),
        add=("SYS_PTRACE",),
        tmpfs=("/scratch:size=64m,noexec",),
        ulimits=("nofile=1024:4096",),
    )
    assert definition.volumes[0].read_only
    assert " ".join(limit_options(definition)) == (
        "--security-opt no-new-privileges --stop-timeout 40 --cpus 0.25 --memory 512m --memory-swap 512m "
        "--user 10001:10001 --read-only --init --workdir /srv --entrypoint /opt/dagster/x "
        "--cap-drop ALL --cap-add SYS_PTRACE --tmpfs /scratch:size=64m,noexec --ulimit nofile=1024:4096"
    )


def test_a_container_has_its_own_limits_within_those_of_the_task() -> None:
    definition = parse_definition({**document(cpu=512, memory=1024), "cpu": "1024", "memory": "2048"})
    assert (definition.limits.cpu, definition.limits.memory) == (0.5, 1024)
    assert limit_options(parse_definition(document())) == [
        *("--security-opt", "no-new-privileges", "--stop-timeout", "30", "--entrypoint", "/opt/dagster/x")
    ]


def test_defaults() -> None:
    definition = parse_definition(document())
    assert (definition.stop_timeout, definition.logs, definition.health_check) == (30, None, None)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"containerDefinitions": [{"name": "a"}, {"name": "b"}]}, r"2 containers \(a, b\)"),
        ({"containerDefinitions": [{"name": "a"}]}, "neither entryPoint nor command"),
        (
            {"containerDefinitions": [{"name": "a", "command": ["x"], "healthCheck": {"command": ["curl"]}}]},
            "must begin with CMD",
        ),
    ],
)
def test_what_cannot_be_run_is_said(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedDefinitionError, match=message):
        parse_definition({**document(), **changed})


@pytest.mark.parametrize(
    ("value_from", "expected"),
    [
        (SECRET, SecretReference(SECRET)),
        (f"{SECRET}:password::", SecretReference(SECRET, "password")),
        (f"{SECRET}::AWSPREVIOUS:", SecretReference(SECRET, "", "AWSPREVIOUS")),
        (f"{SECRET}:k::v-1", SecretReference(SECRET, "k", "", "v-1")),
        ("name", ParameterReference("name")),
        ("/a/b", ParameterReference("/a/b")),
        ("arn:aws:ssm:us-east-1:123456789012:parameter/name", ParameterReference("name")),
        ("arn:aws:ssm:us-east-1:123456789012:parameter/a/b", ParameterReference("/a/b")),
    ],
)
def test_references(value_from: str, expected: object) -> None:
    assert parse_reference(value_from) == expected


@pytest.mark.parametrize("value_from", [f"{SECRET}:password", "arn:aws:s3:::bucket", "arn:"])
def test_wrong_references_are_named(value_from: str) -> None:
    with pytest.raises(StartError, match="is no reference to a secret; valid"):
        parse_reference(value_from)


class SecretsManager:
    """Knows one secret."""

    def __init__(self, text: str) -> None:
        self.text = text

    def get_secret_value(self, **_: str) -> dict[str, str]:
        return {"SecretString": self.text}


def test_resolve_takes_one_field() -> None:
    values = resolve({"P": f"{SECRET}:password::", "W": SECRET}, SecretsManager('{"password": "3000"}'), None)
    assert values == {"P": "3000", "W": '{"password": "3000"}'}


@pytest.mark.parametrize("text", ["hush", '{"other": "hush"}', '["hush"]'])
def test_an_error_never_shows_the_secret(text: str) -> None:
    with pytest.raises(StartError, match=r"no JSON object with the key 'password'") as raised:
        resolve({"P": f"{SECRET}:password::"}, SecretsManager(text), None)
    assert "hush" not in str(raised.value)
    assert raised.value.__suppress_context__


def test_batches_keep_the_quotas() -> None:
    assert batch([]) == []
    assert len(batch([(1, "x")] * 20_000)) == 10_000
    large = [(1, "ä" * 130_000)] * 5
    assert len(batch(large)) == 4
