"""Settings of the container program, read from the environment once, at the edge."""

from __future__ import annotations

import os
import re
import socket
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from json import loads
from pathlib import Path

from .manifest import MAX_LOCATION_NAME

SERVICES = ("webserver", "daemon")
DAG_SOURCES = ("release", "tree")

STATIC_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""Injected S3 credentials. They are for the poller: in a child's environment they would outrank the task role."""

RUN_DIR = "/run/dagster"
"""Where the sockets of a task are, unless DAGSTER_RUN_DIR names another place."""

OWNERS = "repositories.json"
"""In a release's directory, where several repositories publish: code location -> name of its repository."""

_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,61}[a-z0-9]?")
_LONGEST_SOCKET_PATH = 107
"""Bytes: unix(7)."""


class SettingsError(ValueError):
    """A variable is missing or wrong; the message says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the program takes from its environment. Times are in seconds, paths absolute."""

    service: str
    bucket: str
    prefix: str
    dag_source: str
    region: str | None
    endpoint_url: str | None
    s3_credentials_arn: str | None
    home: Path
    releases_dir: Path
    run_dir: Path
    storage_dir: Path
    image_dir: Path
    bind_host: str
    webserver_port: int
    health_port: int
    poll_seconds: float
    s3_timeout_seconds: float
    stale_seconds: float
    canary_seconds: float
    hang_seconds: float
    stop_seconds: float
    observe_seconds: float
    environment: str
    platform: str
    task_id: str


def read(service: str, env: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings of ``service`` or raise SettingsError."""
    if service not in SERVICES:
        raise SettingsError(f"{service!r} is not a service; valid choices: {', '.join(SERVICES)}")
    _check_credentials(env)
    return Settings(
        service=service,
        bucket=_bucket(env),
        prefix=_prefix(env),
        dag_source=_dag_source(env),
        region=env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION"),
        endpoint_url=env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or None,
        s3_credentials_arn=env.get("DAGSTER_S3_CREDENTIALS_ARN") or None,
        home=_path(env, "DAGSTER_HOME", "/var/lib/dagster/home"),
        releases_dir=_path(env, "DAGSTER_RELEASES_DIR", "/var/lib/dagster/releases"),
        run_dir=_run_dir(env),
        storage_dir=_path(env, "DAGSTER_STORAGE_DIR", "/mnt/dagster"),
        image_dir=_path(env, "DAGSTER_IMAGE_DIR", "/opt/dagster"),
        bind_host=env.get("DAGSTER_BIND_HOST", "0.0.0.0"),  # noqa: S104, a task has a network of its own
        webserver_port=_port(env, "DAGSTER_WEBSERVER_PORT", 3000),
        health_port=_port(env, "DAGSTER_HEALTH_PORT", 8080),
        poll_seconds=_number(env, "DAGSTER_POLL_SECONDS", 10, 0.1),
        s3_timeout_seconds=_number(env, "DAGSTER_S3_TIMEOUT_SECONDS", 30, 1),
        stale_seconds=_number(env, "DAGSTER_STALE_SECONDS", 900, 1),
        canary_seconds=_number(env, "DAGSTER_CANARY_SECONDS", 180, 1),
        hang_seconds=_number(env, "DAGSTER_HANG_SECONDS", 20, 1),
        stop_seconds=_number(env, "DAGSTER_STOP_SECONDS", 25, 1),
        observe_seconds=_number(env, "DAGSTER_OBSERVE_SECONDS", 60, 0.1),
        environment=env.get("DAGSTER_ENVIRONMENT", ""),
        platform=env.get("DAGSTER_PLATFORM") or env.get("DAGSTER_ENVIRONMENT") or "dagster",
        task_id=_task_id(env),
    )


def child_environment(env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment for Dagster's processes: ours without the injected S3 keys."""
    return {name: value for name, value in env.items() if name not in STATIC_KEYS}


def runs_socket(run_dir: Path | None = None) -> Path:
    """Return the socket at which the supervisor starts runs; Dagster's processes find it by their environment.

    No code location's socket ends like it.
    """
    return (run_dir or Path(os.environ.get("DAGSTER_RUN_DIR") or RUN_DIR)) / "runs.socket"


def _bucket(env: Mapping[str, str]) -> str:
    name = env.get("DAGSTER_S3_BUCKET", "")
    if not name:
        raise SettingsError(
            "DAGSTER_S3_BUCKET is not set: it names the S3 bucket that holds the DAG releases. "
            "Set it in the task definition (the Ansible role `ecs` does), for example DAGSTER_S3_BUCKET=my-dags."
        )
    if not _BUCKET_NAME.fullmatch(name):
        raise SettingsError(
            f"DAGSTER_S3_BUCKET={name!r} is not the name of an S3 bucket: lower-case letters, digits, "
            "dots and hyphens, without s3:// and path, as in DAGSTER_S3_BUCKET=my-dags"
        )
    return name


def _prefix(env: Mapping[str, str]) -> str:
    prefix = env.get("DAGSTER_S3_PREFIX", "")
    if prefix.startswith("/"):
        raise SettingsError(f"DAGSTER_S3_PREFIX={prefix!r} starts with a slash; S3 keys do not: leave it out")
    return prefix if not prefix or prefix.endswith("/") else f"{prefix}/"


def _dag_source(env: Mapping[str, str]) -> str:
    source = env.get("DAGSTER_DAG_SOURCE") or DAG_SOURCES[0]
    if source not in DAG_SOURCES:
        raise SettingsError(
            f"DAGSTER_DAG_SOURCE={source!r} is not known; valid choices: release (deploy_dags.yml publishes), "
            "tree (others run `aws s3 sync`)"
        )
    return source


def _check_credentials(env: Mapping[str, str]) -> None:
    """Refuse the one way of AWS to hand out credentials that object_store ignores, silently, for the instance's."""
    name, needed = "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
    if env.get(name) and not env.get(needed) and not env.get("AWS_ACCESS_KEY_ID"):
        raise SettingsError(f"{name} is set without {needed}: S3 can only be read with both. Set {needed} too")


def _run_dir(env: Mapping[str, str]) -> Path:
    path = _path(env, "DAGSTER_RUN_DIR", RUN_DIR)
    longest = _LONGEST_SOCKET_PATH - len(f"/{'x' * MAX_LOCATION_NAME}.sock")
    if len(os.fsencode(path)) > longest:
        raise SettingsError(
            f"DAGSTER_RUN_DIR={str(path)!r} is longer than {longest} bytes: the paths of the Unix sockets in it would "
            f"exceed {_LONGEST_SOCKET_PATH} bytes. Choose a shorter one, as in DAGSTER_RUN_DIR={RUN_DIR}"
        )
    return path


def _path(env: Mapping[str, str], name: str, default: str) -> Path:
    path = Path(env.get(name) or default)
    if not path.is_absolute():
        raise SettingsError(f"{name}={str(path)!r} is not an absolute path, as in {name}={default}")
    return path


def _port(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise SettingsError(f"{name}={text!r} is not a port from 1 to 65535, as in {name}={default}")
    return int(text)


def _number(env: Mapping[str, str], name: str, default: float, least: float) -> float:
    text = env.get(name) or str(default)
    try:
        number = float(text)
    except ValueError:
        number = least - 1
    if not least <= number < float("inf"):
        raise SettingsError(f"{name}={text!r} is not a number of at least {least:g}, as in {name}={default:g}")
    return number


def _task_id(env: Mapping[str, str]) -> str:
    """Return the ECS task id, or the host name where there is no task metadata endpoint.

    The endpoint is that of "Amazon ECS task metadata endpoint version 4" in the ECS Developer Guide.
    """
    base = env.get("ECS_CONTAINER_METADATA_URI_V4")
    if base:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(f"{base}/task", timeout=5) as answer:
                return str(loads(answer.read())["TaskARN"]).rsplit("/", 1)[-1]
        except (OSError, ValueError, KeyError):
            pass  # an id for the log lines is not worth a failed start
    return socket.gethostname()
