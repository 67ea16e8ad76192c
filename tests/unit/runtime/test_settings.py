"""Settings: defaults, and messages for what is wrong."""

from __future__ import annotations

import pytest

from dagster_ecs_runtime import settings

GOOD = {"DAGSTER_S3_BUCKET": "my-dags"}


def test_defaults_are_those_of_the_task_definition() -> None:
    found = settings.read("webserver", GOOD)
    assert (found.poll_seconds, found.health_port, found.webserver_port) == (10, 8080, 3000)
    assert str(found.releases_dir) == "/var/lib/dagster/releases"
    assert found.prefix == ""


def test_prefix_ends_in_a_slash() -> None:
    assert settings.read("daemon", GOOD | {"DAGSTER_S3_PREFIX": "team-a"}).prefix == "team-a/"


@pytest.mark.parametrize(
    ("service", "variables", "parts"),
    [
        ("webserver", {}, ["DAGSTER_S3_BUCKET is not set", "task definition"]),
        ("scheduler", GOOD, ["'scheduler' is not a service", "webserver, daemon"]),
        ("daemon", GOOD | {"DAGSTER_POLL_SECONDS": "often"}, ["DAGSTER_POLL_SECONDS='often'", "at least 0.1", "=10"]),
        ("daemon", GOOD | {"DAGSTER_POLL_SECONDS": "nan"}, ["DAGSTER_POLL_SECONDS='nan'"]),
        ("daemon", GOOD | {"DAGSTER_HEALTH_PORT": "0"}, ["DAGSTER_HEALTH_PORT='0'", "1 to 65535", "=8080"]),
        ("daemon", GOOD | {"DAGSTER_WEBSERVER_PORT": "70000"}, ["DAGSTER_WEBSERVER_PORT='70000'", "=3000"]),
        ("daemon", GOOD | {"DAGSTER_WEBSERVER_PORT": "inf"}, ["DAGSTER_WEBSERVER_PORT='inf'"]),
        ("daemon", GOOD | {"DAGSTER_STALE_SECONDS": "inf"}, ["DAGSTER_STALE_SECONDS='inf'"]),
        ("daemon", {"DAGSTER_S3_BUCKET": "s3://my-dags"}, ["DAGSTER_S3_BUCKET='s3://my-dags'", "without s3://"]),
        ("daemon", GOOD | {"DAGSTER_DAG_SOURCE": "sync"}, ["DAGSTER_DAG_SOURCE='sync'", "release (", "tree ("]),
        ("daemon", GOOD | {"DAGSTER_S3_PREFIX": "/a"}, ["DAGSTER_S3_PREFIX='/a'", "leave it out"]),
        ("daemon", GOOD | {"DAGSTER_RUN_DIR": "/" + "r" * 61}, ["DAGSTER_RUN_DIR=", "longer than 61 bytes", "107"]),
        (
            "daemon",
            GOOD | {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1/"},
            ["AWS_CONTAINER_CREDENTIALS_FULL_URI is set without AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"],
        ),
        ("daemon", GOOD | {"DAGSTER_RUN_DIR": "run"}, ["DAGSTER_RUN_DIR='run'", "absolute path", "/run/dagster"]),
    ],
)
def test_wrong_values_are_named(service: str, variables: dict[str, str], parts: list[str]) -> None:
    with pytest.raises(settings.SettingsError) as caught:
        settings.read(service, variables)
    for part in parts:
        assert part in str(caught.value)


def test_injected_keys_are_not_handed_to_children() -> None:
    env = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "c", "PATH": "/bin"}
    assert settings.child_environment(env) == {"PATH": "/bin"}
