"""The few calls to ECS that a service scheduler and an agent make, and what can go wrong with them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from local.settings import HOST, Settings

REGION = "us-east-1"
_SERVICES_PER_CALL = 10
_TASKS_PER_CALL = 100


class EmulatorError(Exception):
    """The emulator does not answer, or has refused a call."""


def ignore_user_settings(environ: MutableMapping[str, str]) -> None:
    """Keep a user's own AWS settings and proxies away from boto3, in the environment of this process.

    A profile could name another endpoint or, if it does not exist, make every call fail.
    """
    for name in [name for name in environ if name.startswith("AWS_") and name != "AWS_CA_BUNDLE"]:
        del environ[name]
    environ["AWS_CONFIG_FILE"] = environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    environ["NO_PROXY"] = environ["no_proxy"] = HOST


def client(settings: Settings, service: str) -> Any:
    """Return a boto3 client of the emulator; see also `ignore_user_settings`."""
    # Any: the overloads of boto3-stubs want literal names.
    session: Any = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name=REGION)  # noqa: S106, no secret
    # Few and short attempts: what fails now is tried again a second later.
    config = Config(connect_timeout=2, read_timeout=15, retries={"total_max_attempts": 1})
    return session.client(service, endpoint_url=settings.aws_url, config=config)


def _translated[F: Callable[..., Any]](function: F) -> F:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (BotoCoreError, ClientError) as error:
            raise EmulatorError(str(error)) from error

    return wrapper  # type: ignore[return-value] # same signature


class Cloud:
    """ECS as the runner sees it. Every method raises EmulatorError if the emulator does not answer or refuses."""

    def __init__(self, ecs: Any) -> None:
        self._ecs = ecs
        self._definitions: dict[str, dict[str, Any]] = {}

    @_translated
    def services(self, clusters: Iterable[str]) -> list[dict[str, Any]]:
        """Return all services of the clusters, as DescribeServices returns them, without those that are gone."""
        found = []
        for cluster in clusters:
            arns = list(self._pages("list_services", "serviceArns", cluster=cluster))
            for chunk in _chunks(arns, _SERVICES_PER_CALL):
                answer = self._ecs.describe_services(cluster=cluster, services=chunk)
                found += [each for each in answer["services"] if each["status"] != "INACTIVE"]
        return found

    @_translated
    def definition(self, arn: str) -> dict[str, Any]:
        """Return a revision of a task definition; revisions never change, so each is asked for once."""
        if arn not in self._definitions:
            self._definitions[arn] = self._ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]
        return self._definitions[arn]

    def forget_definitions(self) -> None:
        """Ask again for every revision: another account may have the same ARNs."""
        self._definitions.clear()

    @_translated
    def run_task(self, service: Mapping[str, Any], deployment: str) -> dict[str, Any]:
        """Make the record of a new task of a service and return it."""
        arguments: dict[str, Any] = {
            "cluster": service["clusterArn"],
            "taskDefinition": service["taskDefinition"],
            "startedBy": deployment,
            "group": f"service:{service['serviceName']}",
        }
        if service.get("networkConfiguration"):
            arguments["networkConfiguration"] = service["networkConfiguration"]
        if service.get("capacityProviderStrategy"):
            arguments["capacityProviderStrategy"] = service["capacityProviderStrategy"]
        else:
            arguments["launchType"] = "FARGATE"
        answer = self._ecs.run_task(**arguments)
        if not answer["tasks"]:
            raise EmulatorError(f"RunTask of {service['serviceName']} made no task: {answer.get('failures')}")
        task: dict[str, Any] = answer["tasks"][0]
        return task

    @_translated
    def tasks(self, cluster: str, arns: Iterable[str]) -> list[dict[str, Any]]:
        """Return the tasks, of these, that the cluster knows."""
        found = []
        for chunk in _chunks(list(arns), _TASKS_PER_CALL):
            found += self._ecs.describe_tasks(cluster=cluster, tasks=chunk)["tasks"]
        return found

    @_translated
    def task_arns(self, cluster: str, desired_status: str) -> list[str]:
        """Return the ARNs of all tasks of a cluster that should be RUNNING, or STOPPED."""
        return list(self._pages("list_tasks", "taskArns", cluster=cluster, desiredStatus=desired_status))

    @_translated
    def clusters(self) -> list[str]:
        """Return the ARNs of all clusters."""
        return list(self._pages("list_clusters", "clusterArns"))

    @_translated
    def submit(self, cluster: str, task: str, status: str, reason: str, container: Mapping[str, Any] | None) -> None:
        """Report the state of a task, as the ECS agent does, and of its one container."""
        self._ecs.submit_task_state_change(
            cluster=cluster, task=task, status=status, reason=reason, containers=[container] if container else []
        )

    @_translated
    def roll_back(self, service: Mapping[str, Any], task_definition: str) -> None:
        """Deploy an earlier revision."""
        self._ecs.update_service(
            cluster=service["clusterArn"], service=service["serviceName"], taskDefinition=task_definition
        )

    def _pages(self, operation: str, key: str, **arguments: Any) -> Iterator[str]:
        for page in self._ecs.get_paginator(operation).paginate(**arguments):
            yield from page[key]


def _chunks(items: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
