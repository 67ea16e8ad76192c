"""Sleep and waking against an account in memory: what is stopped and started, what is left alone, what is refused."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest

from module_utils import aws_hibernation, aws_schedules
from module_utils.aws_ecs_cluster import HIBERNATION_TAG
from module_utils.aws_hibernation import Clients, Platform, hibernate, start_resources, start_services, why_asleep
from module_utils.aws_plan import Plan, Refusal
from module_utils.aws_resting import resting_resources

NAME = "lab"
TAGS = [{"Key": "dagster-platform", "Value": NAME}]
ECS_TAGS = [{"key": "dagster-platform", "value": NAME}]
PLATFORM = Platform(NAME, NAME, own_database=True)
COUNTS = {"webserver": 1, "daemon": 1}


@pytest.fixture
def clients(aws: Any) -> Clients:
    """A platform that is awake: two services, one scaled; NAT instance, database."""
    made = Clients(aws.ecs, aws.application_autoscaling, aws.ec2, aws.rds)
    aws.once("platform that is awake", lambda: make_platform(made))
    return made


def make_platform(made: Clients) -> None:
    made.ecs.create_cluster(clusterName=NAME, tags=ECS_TAGS)
    made.ecs.register_task_definition(
        family="task", cpu="256", memory="512", containerDefinitions=[{"name": "x", "image": "x", "memory": 128}]
    )
    for name in COUNTS:
        made.ecs.create_service(cluster=NAME, serviceName=name, taskDefinition="task", desiredCount=1, tags=ECS_TAGS)
    made.scaling.register_scalable_target(
        ServiceNamespace="ecs",
        ResourceId=f"service/{NAME}/webserver",
        ScalableDimension="ecs:service:DesiredCount",
        MinCapacity=1,
        MaxCapacity=2,
    )
    made.ec2.run_instances(
        ImageId="ami-0123456789abcdef0",
        InstanceType="t4g.nano",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": TAGS}],
    )
    made.rds.create_db_instance(
        DBInstanceIdentifier=NAME,
        Engine="postgres",
        DBInstanceClass="db.t4g.micro",
        AllocatedStorage=20,
        StorageType="gp3",
        MasterUsername="dagster",
        MasterUserPassword="not-a-secret",
        Tags=TAGS,
    )


def state(clients: Clients) -> tuple[Any, ...]:
    services = clients.ecs.describe_services(cluster=NAME, services=[*COUNTS])["services"]
    (target,) = clients.scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"]
    (reservation,) = clients.ec2.describe_instances()["Reservations"]
    (database,) = clients.rds.describe_db_instances()["DBInstances"]
    return (
        [service["desiredCount"] for service in services],
        target["MaxCapacity"],
        reservation["Instances"][0]["State"]["Name"],
        database["DBInstanceStatus"],
        bool(why_asleep(clients.ecs, clients.scaling, NAME)),
    )


AWAKE = ([1, 1], 2, "running", "available", False)
ASLEEP = ([0, 0], 0, "stopped", "stopped", True)


def wake(clients: Clients, plan: Plan) -> None:
    """Wake as playbooks/wake.yml does; the limits are what the role autoscaling would set."""
    start_resources(clients, PLATFORM, plan)
    clients.scaling.register_scalable_target(
        ServiceNamespace="ecs",
        ResourceId=f"service/{NAME}/webserver",
        ScalableDimension="ecs:service:DesiredCount",
        MinCapacity=1,
        MaxCapacity=2,
    )
    start_services(clients, PLATFORM, COUNTS, plan, seconds=0)


def kinds(plan: Plan) -> list[str]:
    return [change["kind"] for change in plan.changes]


def test_everything_stops_and_comes_back_and_each_is_done_once(clients: Clients) -> None:
    preview = Plan(check_mode=True)
    hibernate(clients, PLATFORM, preview)
    assert state(clients) == AWAKE
    plan = Plan()
    since = hibernate(clients, PLATFORM, plan)
    assert state(clients) == ASLEEP
    assert kinds(plan) == kinds(preview)
    # The tag comes first: a run that is interrupted after it is known for what it is.
    assert plan.changes[0]["after"] == {"tags": {HIBERNATION_TAG: since}}
    again = Plan()
    assert hibernate(clients, PLATFORM, again) == since
    assert again.changes == []
    woken = Plan()
    wake(clients, woken)
    assert state(clients) == AWAKE
    assert kinds(woken)[:2] == ["nat-instance", "rds-instance"]
    assert woken.changes[-1]["before"] == {"tags": {HIBERNATION_TAG: since}}
    once_more = Plan()
    wake(clients, once_more)
    assert once_more.changes == []


@pytest.mark.parametrize("step", ["update_service", "stop_instances", "stop_db_instance"])
def test_an_interrupted_run_can_be_repeated(clients: Clients, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Cut(Exception):
        pass

    def cut(**_: Any) -> None:
        raise Cut

    api = next(each for each in (clients.ecs, clients.ec2, clients.rds) if hasattr(each, step))
    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(api, step, cut)
        hibernate(clients, PLATFORM, Plan())
    assert why_asleep(clients.ecs, clients.scaling, NAME).startswith("hibernates since 20")
    hibernate(clients, PLATFORM, Plan())
    assert state(clients) == ASLEEP
    wake(clients, Plan())
    assert state(clients) == AWAKE


def test_outside_of_office_hours_it_is_known_to_sleep_and_is_woken(clients: Clients) -> None:
    for service in COUNTS:
        clients.ecs.update_service(cluster=NAME, service=service, desiredCount=0)
    clients.scaling.register_scalable_target(
        ServiceNamespace="ecs",
        ResourceId=f"service/{NAME}/webserver",
        ScalableDimension="ecs:service:DesiredCount",
        MinCapacity=0,
        MaxCapacity=0,
    )
    clients.rds.stop_db_instance(DBInstanceIdentifier=NAME)
    assert why_asleep(clients.ecs, clients.scaling, NAME) == "sleeps outside of its office hours"
    wake(clients, Plan())
    assert state(clients) == AWAKE


def test_an_adopted_database_is_left_alone(clients: Clients) -> None:
    adopted = Platform(NAME, NAME, own_database=False)
    hibernate(clients, adopted, Plan())
    assert state(clients) == ([0, 0], 0, "stopped", "available", True)


def test_what_cannot_be_stopped_is_refused_before_anything_is(clients: Clients) -> None:
    clients.rds.create_db_instance_read_replica(DBInstanceIdentifier="copy", SourceDBInstanceIdentifier=NAME)
    with pytest.raises(Refusal, match=r"read replicas .*copy.*Nothing was changed"):
        hibernate(clients, PLATFORM, Plan())
    assert not why_asleep(clients.ecs, clients.scaling, NAME)
    with pytest.raises(Refusal, match=r"There is no platform 'other'.*site\.yml makes a platform"):
        hibernate(clients, Platform("other", "other", own_database=True), Plan())


def test_what_still_costs_is_listed_as_if_all_had_stopped(aws: Any, clients: Clients) -> None:
    cloudwatch = aws.cloudwatch
    for name, platform in ((f"{NAME}-queue", NAME), (f"{NAME}-2-queue", f"{NAME}-2")):
        cloudwatch.put_metric_alarm(
            AlarmName=name,
            Namespace="Dagster",
            MetricName="queue",
            Statistic="Maximum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="GreaterThanThreshold",
            Tags=[{"Key": "dagster-platform", "Value": platform}],
        )
    cloudwatch.put_dashboard(DashboardName=NAME, DashboardBody='{"widgets": []}')
    clients.rds.create_db_instance(
        DBInstanceIdentifier=f"{NAME}-before-20260131t120000",
        Engine="postgres",
        DBInstanceClass="db.t4g.micro",
        AllocatedStorage=20,
        MasterUsername="dagster",
        MasterUserPassword="not-a-secret",
        Tags=TAGS,
    )

    def resting(dashboard: str) -> dict[tuple[str, str], str]:
        found = resting_resources(
            clients,
            PLATFORM,
            elbv2=aws.elbv2,
            secretsmanager=aws.secretsmanager,
            cloudwatch=cloudwatch,
            load_balancer="missing",
            secrets=["missing"],
            dashboard=dashboard,
        )
        return {
            (item["kind"], item["name"]): item["settings"].get("state", item["settings"].get("DBInstanceStatus", ""))
            for item in found
        }

    stopped = {
        ("nat-instance", NAME): "stopped",
        ("rds-instance", NAME): "stopped",
        ("rds-instance", f"{NAME}-before-20260131t120000"): "stopped",
    }
    # Not the alarm of a platform whose name begins alike.
    assert resting(NAME) == {**stopped, ("alarm", f"{NAME}-queue"): "", ("dashboard", NAME): ""}
    assert resting("missing") == {**stopped, ("alarm", f"{NAME}-queue"): ""}
    assert resting("") == stopped, "without alarms and dashboard nobody asks for them"


def test_schedules_are_kept_and_removed(aws: Any) -> None:
    scheduler, iam = aws.scheduler, aws.iam
    statement = {"Effect": "Allow", "Action": "rds:StopDBInstance", "Resource": "*"}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    assumed = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "scheduler.amazonaws.com"}}
    trust = {"Version": "2012-10-17", "Statement": [assumed]}
    group = aws_schedules.GroupSpec(NAME, "lab-hours", "aws", "lab-hours", "", trust, policy)
    stop = aws_schedules.ScheduleSpec(
        "stop", "", "rate(1 hour)", "UTC", "rds:stopDBInstance", {"DbInstanceIdentifier": NAME}, 0
    )

    def ensure(*specs: aws_schedules.ScheduleSpec, check: bool = False) -> list[tuple[str, str]]:
        plan = Plan(check)
        aws_schedules.ensure_schedules(scheduler, iam, group, specs, plan)
        return [(change["action"], change["kind"]) for change in plan.changes]

    made = [("create", "schedule-group"), ("create", "iam-role"), ("update", "iam-role"), ("create", "schedule")]
    assert ensure(stop, check=True) == made
    assert ensure(stop) == made
    assert ensure(stop) == []
    # Drift: another input, switched off, a schedule that nobody asked for, lost tags.
    found = scheduler.get_schedule(GroupName="lab-hours", Name="stop")
    given = {key: found[key] for key in ("ScheduleExpression", "FlexibleTimeWindow")}
    wrong = {**found["Target"], "Input": "{}"}
    scheduler.update_schedule(GroupName="lab-hours", Name="stop", State="DISABLED", Target=wrong, **given)
    scheduler.create_schedule(GroupName="lab-hours", Name="strange", Target=found["Target"], **given)
    scheduler.untag_resource(ResourceArn=scheduler.get_schedule_group(Name="lab-hours")["Arn"], TagKeys=["Name"])
    assert ensure(stop) == [("update", "schedule-group"), ("update", "schedule"), ("remove", "schedule")]
    assert scheduler.get_schedule(GroupName="lab-hours", Name="stop")["Target"] == found["Target"]
    plan = Plan()
    aws_schedules.remove_schedules(scheduler, iam, NAME, plan, group="lab-hours", role="lab-hours")
    assert kinds(plan) == ["schedule", "schedule-group", "iam-role"]
    with contextlib.suppress(scheduler.exceptions.ResourceNotFoundException):
        scheduler.get_schedule_group(Name="lab-hours")
        raise AssertionError("it is still there")
    scheduler.create_schedule_group(Name="theirs")
    with pytest.raises(Refusal, match="does not belong to the platform"):
        aws_schedules.ensure_schedules(scheduler, iam, replace(group, name="theirs"), [stop], Plan())


def test_waiting_is_told(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every wait names what it waits for; here each takes a moment."""
    waited: list[str] = []

    def wait(what: str, probe: Any, **_: Any) -> None:
        waited.append(what)
        assert probe(), what

    monkeypatch.setattr(aws_hibernation, "wait_until", wait)
    hibernate(clients, PLATFORM, Plan())
    start_resources(clients, PLATFORM, Plan())
    for text in (
        "the tasks of daemon, webserver to stop",
        "'lab' to stop",
        "status checks",
        "'lab' to become available",
    ):
        assert any(text in what for what in waited), (text, waited)
