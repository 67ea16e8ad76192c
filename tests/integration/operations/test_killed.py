"""hibernate, wake, deploy and restore, killed after some of their steps and run again: nothing is left half-done.

AWS has done what was asked for, and the playbook is killed before it knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from module_utils.aws_ecs_cluster import HIBERNATION_TAG
from module_utils.aws_plan import tag_dict
from module_utils.aws_restore import OVER_TAG, SOURCE_TAG
from module_utils.aws_service_pause import COUNT_TAG
from tests.e2e.dagster_client import wait_for
from tests.integration.emulated import Emulator, emulator, kill
from tests.integration.operations.test_hibernation import ASLEEP, AWAKE, NAME, Platform

_WRAP = """
import pathlib
from tests.integration import slow_aws
from tests.integration.rotation import held
slow_aws.apply(lambda _kind, _age: True)
application = held.holding(application, pathlib.Path({directory!r}))
"""
RESTORE = ("restore", "-e", "backup_restore=good", "-e", f"confirm_restore={NAME}")

Step = tuple[str, str]
"""An operation, and a text that is in its request."""


class Killing(Platform):
    """A platform whose playbooks are killed."""

    def __init__(self, aws: Emulator, held: Path) -> None:
        super().__init__(aws, ())
        self.held = held

    def kill_after(self, step: Step, playbook: str, *arguments: str) -> None:
        """Start a playbook, and kill all of it when AWS has done this and before it knows."""
        operation, text = step
        wish = self.held / f"{operation}@wish"
        struck = self.held / f"held {wish.name}"
        wish.write_text(text, encoding="utf-8")
        with self.aws.start_playbook(f"playbooks/{playbook}.yml", *self.given, *arguments) as process:
            try:
                wait_for(operation, lambda: struck.exists() or process.poll() is not None)
                assert process.poll() is None, (step, *process.communicate())
            finally:
                kill(process)
                wish.unlink()
                struck.unlink(missing_ok=True)

    def killed_and_finished(self, steps: Sequence[Step], playbook: str, *arguments: str) -> dict[str, int]:
        """Kill a playbook after each of some steps, in their order; then let it come to its end; return its recap."""
        for step in steps:
            self.kill_after(step, playbook, *arguments)
        recap = self.play(playbook, *arguments)
        assert self.aws.client("dynamodb").scan(TableName=f"{NAME}-lock")["Items"] == []
        return recap

    def services(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.aws.client("ecs").describe_services(
            cluster=NAME, services=["webserver", "daemon"], include=["TAGS"]
        )["services"]
        return found

    def databases(self) -> dict[str, dict[str, Any]]:
        found = self.aws.client("rds").describe_db_instances()["DBInstances"]
        return {instance["DBInstanceIdentifier"]: instance for instance in found}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killing]:
    held = tmp_path_factory.mktemp("held")
    with emulator(tmp_path_factory.mktemp("account"), wrap=_WRAP.format(directory=str(held))) as aws:
        platform = Killing(aws, held)
        platform.play("site")
        assert platform.state() == AWAKE
        yield platform


def test_hibernate(platform: Killing) -> None:
    steps = [("UpdateService", "daemon"), ("RegisterScalableTarget", ""), ("StopDBInstance", "")]
    platform.killed_and_finished(steps, "hibernate")
    assert platform.state() == ASLEEP
    assert platform.play("hibernate")["changed"] == 0


def test_wake(platform: Killing) -> None:
    steps = [("StartInstances", ""), ("StartDBInstance", ""), ("UpdateService", "")]
    platform.killed_and_finished(steps, "wake")
    assert platform.state() == AWAKE
    assert HIBERNATION_TAG not in platform.cluster_tags()
    assert platform.play("wake")["changed"] == 0


def test_deploy(platform: Killing) -> None:
    before = {service["deployments"][0]["id"] for service in platform.services()}
    platform.killed_and_finished([("UpdateService", "")], "deploy")
    assert not before & {service["deployments"][0]["id"] for service in platform.services()}
    assert platform.state() == AWAKE


def test_restore(platform: Killing) -> None:
    platform.play("backup", "-e", "backup_name=good")
    steps = [
        ("RestoreDBInstanceFromDBSnapshot", ""),
        ("UpdateService", "daemon"),
        ("ModifyDBInstance", "MasterUserPassword"),
        ("ModifyDBInstance", f"NewDBInstanceIdentifier={NAME}-before-"),
        ("ModifyDBInstance", f"NewDBInstanceIdentifier={NAME}"),
        ("StopDBInstance", ""),
        ("UpdateService", ""),
    ]
    platform.killed_and_finished(steps, *RESTORE)
    databases = platform.databases()
    (kept,) = databases.keys() - {NAME}
    assert kept.startswith(f"{NAME}-before-")
    assert {name: one["DBInstanceStatus"] for name, one in databases.items()} == {NAME: "available", kept: "stopped"}
    tags = tag_dict(databases[NAME]["TagList"])
    assert tags[SOURCE_TAG] == f"snapshot:{NAME}-good"
    assert OVER_TAG not in tags
    assert [COUNT_TAG in tag_dict(service["tags"]) for service in platform.services()] == [False, False]
    assert platform.state() == AWAKE


def test_the_platform_is_as_the_inventory_says(platform: Killing) -> None:
    assert platform.play("site")["changed"] == 0
