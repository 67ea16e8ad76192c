"""A platform that is rolled, put to sleep and woken, with exactly the printed policies and IAM enforced."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest

from module_utils.aws_ecs_cluster import HIBERNATION_TAG
from module_utils.aws_model import request_problems
from tests.integration.deployer.identity import deployer, enforced
from tests.integration.emulated import Emulator, emulator, recap
from tests.integration.whole_account import account_of

NAME = "dagster-local"
HOURS = {"start": "cron(0 7 ? * MON-FRI *)", "stop": "cron(0 20 ? * MON-FRI *)", "timezone": "Europe/Berlin"}
AT_ONCE = ("-e", "hibernation_steady_seconds=0")
"""Nothing runs tasks here."""


class Platform:
    """A platform of site.yml in an emulator that enforces IAM."""

    def __init__(self, aws: Emulator, allowed: tuple[str, ...]) -> None:
        self.aws = aws
        self.given = ("-e", json.dumps({"office_hours": HOURS}), *allowed)
        self.seen = 0

    def play(self, playbook: str, *arguments: str) -> dict[str, int]:
        """Run a playbook that succeeds; return its recap."""
        return recap(self.aws.succeed(f"playbooks/{playbook}.yml", *self.given, *arguments))

    def refused(self, playbook: str, *arguments: str) -> str:
        """Run a playbook that fails; return what it says."""
        self.look()
        result = self.aws.run(f"playbooks/{playbook}.yml", *self.given, *arguments)
        assert result.returncode != 0, result.stdout
        return result.stdout + result.stderr

    def look(self) -> None:
        """Look at what is requested from now on."""
        self.seen = len(self.aws.requests)

    def changing(self) -> set[str]:
        """Return the operations since the last look that change something."""
        made = {request["operation"] for request in self.aws.requests[self.seen :]}
        return {name for name in made if not re.match("Describe|Get|List|Head", name)}

    def cluster_tags(self) -> dict[str, str]:
        (cluster,) = self.aws.client("ecs").describe_clusters(clusters=[NAME], include=["TAGS"])["clusters"]
        return {tag["key"]: tag["value"] for tag in cluster["tags"]}

    def state(self) -> dict[str, Any]:
        """Return what says whether the platform sleeps."""
        ecs, scheduler = self.aws.client("ecs"), self.aws.client("scheduler")
        services = ecs.describe_services(cluster=NAME, services=["webserver", "daemon"])["services"]
        (target,) = self.aws.client("application-autoscaling").describe_scalable_targets(ServiceNamespace="ecs")[
            "ScalableTargets"
        ]
        reservations = self.aws.client("ec2").describe_instances()["Reservations"]
        return {
            "tasks": {service["serviceName"]: service["desiredCount"] for service in services},
            "limits": (target["MinCapacity"], target["MaxCapacity"]),
            "nat": [item["State"]["Name"] for each in reservations for item in each["Instances"]],
            "database": self.database()["DBInstanceStatus"],
            "schedules": {
                f"{item['GroupName'].removeprefix(NAME)}/{item['Name']}"
                for item in scheduler.list_schedules()["Schedules"]
            },
        }

    def database(self) -> dict[str, Any]:
        (instance,) = self.aws.client("rds").describe_db_instances(DBInstanceIdentifier=NAME)["DBInstances"]
        return dict(instance)


AWAKE = {
    "tasks": {"webserver": 1, "daemon": 1},
    "limits": (1, 2),
    "nat": ["running"],
    "database": "available",
    "schedules": {
        f"-office-hours/{verb}-{what}"
        for verb in ("start", "stop")
        for what in ("autoscaling", "webserver", "daemon", "database", "nat-instance")
    },
}
ASLEEP = {
    "tasks": {"webserver": 0, "daemon": 0},
    "limits": (0, 0),
    "nat": ["stopped"],
    "database": "stopped",
    "schedules": {"-hibernation/stop-database"},
}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with emulator(tmp_path_factory.mktemp("account")) as aws:
        allowed = deployer(aws)
        with enforced(aws.url):
            yield Platform(aws, allowed)


def test_nothing_is_made_where_there_is_no_platform(platform: Platform) -> None:
    before = account_of(platform.aws).snapshot()
    said = platform.refused("deploy")
    assert "The platform 'dagster-local' is not there as the inventory describes it: vpc dagster-local" in said
    assert "Run site.yml first" in said
    said = platform.refused("hibernate")
    assert "There is no platform 'dagster-local' in this account and region" in said
    assert "site.yml makes a platform" in said
    assert account_of(platform.aws).snapshot() == before


def test_the_platform_is_awake_with_its_office_hours(platform: Platform) -> None:
    platform.play("site")
    assert platform.state() == AWAKE
    group = f"{NAME}-office-hours"
    scheduler = platform.aws.client("scheduler")
    found = scheduler.get_schedule(GroupName=group, Name="stop-database")
    assert found["ScheduleExpression"] == "cron(15 20 ? * MON-FRI *)"
    assert found["ScheduleExpressionTimezone"] == "Europe/Berlin"
    assert found["Target"]["Arn"] == "arn:aws:scheduler:::aws-sdk:rds:stopDBInstance"
    assert json.loads(found["Target"]["Input"]) == {"DbInstanceIdentifier": NAME}
    # Drift in a schedule, and one that nobody asked for.
    target = {**found["Target"], "Input": "{}"}
    common = {"FlexibleTimeWindow": {"Mode": "OFF"}, "GroupName": group, "Target": target}
    scheduler.update_schedule(Name="stop-database", ScheduleExpression="rate(1 day)", State="DISABLED", **common)
    scheduler.create_schedule(Name="strange", ScheduleExpression="rate(1 day)", **common)
    assert platform.play("site", "--tags", "office_hours")["changed"] == 1
    again = scheduler.get_schedule(GroupName=group, Name="stop-database")
    assert {key: again[key] for key in ("ScheduleExpression", "State", "Target")} == {
        key: found[key] for key in ("ScheduleExpression", "State", "Target")
    }
    assert platform.state() == AWAKE


def test_deploy_replaces_all_tasks_and_changes_nothing_else(platform: Platform) -> None:
    ecs, ec2 = platform.aws.client("ecs"), platform.aws.client("ec2")

    def deployments() -> list[str]:
        services = ecs.describe_services(cluster=NAME, services=["webserver", "daemon"])["services"]
        return [service["deployments"][0]["id"] for service in services]

    (group,) = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [f"{NAME}-webserver"]}])[
        "SecurityGroups"
    ]
    ec2.create_tags(Resources=[group["GroupId"]], Tags=[{"Key": "owner", "Value": "nobody"}])
    before = deployments()
    platform.look()
    platform.play("deploy", "--check")
    assert (platform.changing(), deployments()) == (set(), before)
    platform.look()
    assert platform.play("deploy", "-e", "deploy_steady_seconds=0")["changed"] == 1
    assert platform.changing() == {"UpdateService"}
    assert not {*deployments()} & {*before}
    # Nothing runs tasks here, so that it is late.
    said = platform.refused("deploy", "-e", "deploy_steady_seconds=1")
    assert "waiting for the ECS services (0 s of at most 1 s): webserver has 0 of 1 tasks running" in said
    assert "The ECS service 'daemon' failed: it is not steady after 1 s (running 0, pending 0, desired 1)" in said
    assert platform.changing() == {"UpdateService"}


def test_hibernation_stops_what_costs_and_says_what_still_does(platform: Platform) -> None:
    platform.look()
    preview = platform.aws.succeed("playbooks/hibernate.yml", *platform.given, "--check", "--diff")
    assert "The platform dagster-local would hibernate; all data is kept." in preview.stdout
    assert (platform.changing(), platform.state()) == (set(), AWAKE)
    result = platform.aws.succeed("playbooks/hibernate.yml", *platform.given)
    assert platform.state() == ASLEEP
    since = platform.cluster_tags()[HIBERNATION_TAG]
    assert f"The platform dagster-local hibernates since {since}; all data is kept." in result.stdout
    again = "AWS starts a stopped database again after seven days"
    for text in ("load-balancer", "2.30", "19 alarm", "dashboard", again, "playbooks/wake.yml"):
        assert text in result.stdout
    assert platform.play("hibernate")["changed"] == 0
    assert platform.cluster_tags()[HIBERNATION_TAG] == since


def test_what_hibernates_is_not_woken_by_half(platform: Platform) -> None:
    said = platform.refused("site")
    assert "The platform 'dagster-local' hibernates since 20" in said
    assert "playbooks/wake.yml" in said
    assert (platform.changing(), platform.state()) == (set(), ASLEEP)
    for setting in ("hibernation_steady_seconds", "hibernation_webservers"):
        said = platform.refused("wake", "-e", f"{setting}=soon")
        assert f"argument '{setting}' is of type str" in said
        # The lock is given back; nothing else was asked for.
        assert (platform.changing() - {"PutItem", "UpdateItem", "DeleteItem"}, platform.state()) == (set(), ASLEEP)


def test_what_aws_starts_again_is_stopped_again(platform: Platform) -> None:
    found = platform.aws.client("scheduler").get_schedule(GroupName=f"{NAME}-hibernation", Name="stop-database")
    assert found["ScheduleExpression"] == "rate(1 hour)"
    assert found["Target"]["RetryPolicy"]["MaximumRetryAttempts"] == 0
    role = platform.aws.client("iam").get_role_policy(RoleName=f"{NAME}-hibernation", PolicyName="dagster")
    (statement,) = role["PolicyDocument"]["Statement"]
    assert (statement["Action"], statement["Resource"]) == (
        "rds:StopDBInstance",
        f"arn:aws:rds:us-east-1:123456789012:db:{NAME}",
    )
    platform.aws.client("rds").start_db_instance(DBInstanceIdentifier=NAME)
    assert platform.play("hibernate")["changed"] == 1
    assert platform.state() == ASLEEP


def test_waking_brings_everything_back(platform: Platform) -> None:
    assert platform.play("wake", "--check")["changed"] > 0
    assert platform.state() == ASLEEP
    platform.aws.take_changes()
    platform.play("wake", *AT_ONCE)
    assert platform.state() == AWAKE
    assert HIBERNATION_TAG not in platform.cluster_tags()
    platform.aws.take_changes()
    platform.play("site")
    # The tag that deploy.yml has left wrong, and nothing else.
    assert [change["kind"] for change in platform.aws.take_changes()] == ["security-group"]


def test_every_request_was_valid(platform: Platform) -> None:
    session = botocore.session.get_session()
    platform.play("hibernate")
    for request in platform.aws.requests:
        model = session.get_service_model(request["service"])
        assert request_problems(model, request["operation"], request["params"]) == []


def test_what_hibernates_can_be_destroyed(platform: Platform) -> None:
    platform.play("destroy", "-e", f"confirm_destroy={NAME}")
    left = account_of(platform.aws).snapshot()
    assert [name for name in left["schedule-group"] if NAME in name] == []
    assert [name for name in left["role"] if NAME in name] == []
    assert (left["cluster"], left["database"], left["schedule"]) == ([], [], [])
