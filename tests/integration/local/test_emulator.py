"""The AWS emulator as a process: RDS that answers, ECS with reported tasks, an account that outlives it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from local import emulator_state, postgres, processes, services
from local.settings import HOST, Settings


@pytest.fixture(scope="module")
def aws(settings: Settings) -> Callable[[str], Any]:
    def client(service: Any) -> Any:
        return boto3.client(
            service,
            region_name="us-east-1",
            endpoint_url=settings.aws_url,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    return client


def query(settings: Settings, user: str, password: str, database: str, sql: str) -> subprocess.CompletedProcess[str]:
    """Run SQL as a user of the database, over TCP with a password, as the platform's tasks do."""
    program = postgres.program("psql")
    return subprocess.run(
        [str(program), "-XAtqw", "-c", sql],
        env={
            "PGHOST": HOST,
            "PGPORT": str(settings.postgres_port),
            "PGUSER": user,
            "PGPASSWORD": password,
            "PGDATABASE": database,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def create_database(rds: Any, name: str, password: str) -> dict[str, Any]:
    instance = rds.create_db_instance(
        DBInstanceIdentifier=name,
        DBInstanceClass="db.t4g.micro",
        Engine="postgres",
        AllocatedStorage=20,
        DBName=f"{name}_db",
        MasterUsername=f"{name}_user",
        MasterUserPassword=password,
    )["DBInstance"]
    return dict(instance)


def test_rds_instance_is_the_real_postgresql(settings: Settings, aws: Callable[[str], Any]) -> None:
    rds = aws("rds")
    instance = create_database(rds, "alpha", "first-'password\\")
    assert instance["Endpoint"]["Address"] == HOST
    assert instance["Endpoint"]["Port"] == settings.postgres_port
    done = query(settings, "alpha_user", "first-'password\\", "alpha_db", "CREATE TABLE t AS SELECT 7 AS n; TABLE t")
    assert done.stdout.strip() == "7", done.stderr

    rds.modify_db_instance(DBInstanceIdentifier="alpha", MasterUserPassword="second-password")
    assert query(settings, "alpha_user", "first-'password\\", "alpha_db", "TABLE t").returncode != 0
    assert query(settings, "alpha_user", "second-password", "alpha_db", "TABLE t").stdout.strip() == "7"

    rds.delete_db_instance(DBInstanceIdentifier="alpha", SkipFinalSnapshot=True)
    assert "does not exist" in query(settings, "postgres", postgres.superuser_password(settings), "alpha_db", "").stderr
    for log in settings.logs.iterdir():
        assert "password\\" not in log.read_text() and "second-password" not in log.read_text()


def test_rds_snapshot_holds_the_data_and_a_restored_instance_takes_the_place_of_the_other(
    settings: Settings, aws: Callable[[str], Any]
) -> None:
    """The data are those of the snapshot's time; who has the first one's identifier has its database and password."""
    rds = aws("rds")

    def table(password: str) -> str:
        done = query(settings, "beta_user", password, "beta_db", "TABLE t")
        return done.stdout.strip() or done.stderr

    create_database(rds, "beta", "first-password")
    query(settings, "beta_user", "first-password", "beta_db", "CREATE TABLE t AS SELECT 1 AS n")
    rds.create_db_snapshot(DBInstanceIdentifier="beta", DBSnapshotIdentifier="kept")
    query(settings, "beta_user", "first-password", "beta_db", "UPDATE t SET n = 2")
    rds.modify_db_instance(DBInstanceIdentifier="beta", MasterUserPassword="second-password")

    rds.restore_db_instance_from_db_snapshot(DBInstanceIdentifier="beta-new", DBSnapshotIdentifier="kept")
    assert table("second-password") == "2", "the one that is there is left alone"
    rds.modify_db_instance(DBInstanceIdentifier="beta", NewDBInstanceIdentifier="beta-old")
    assert "does not exist" in query(settings, "beta_user", "second-password", "beta_db", "TABLE t").stderr
    rds.modify_db_instance(DBInstanceIdentifier="beta-new", NewDBInstanceIdentifier="beta")
    assert "authentication failed" in table("second-password"), "the restored one has the password of its time"
    assert table("first-password") == "1"

    rds.stop_db_instance(DBInstanceIdentifier="beta-old")
    with pytest.raises(ClientError, match="InvalidDBInstanceState"):
        rds.modify_db_instance(DBInstanceIdentifier="beta-old", MasterUserPassword="third-password")
    rds.delete_db_instance(DBInstanceIdentifier="beta-old", SkipFinalSnapshot=True)
    assert table("first-password") == "1"
    with pytest.raises(ClientError, match="keeps no log of changes"):
        rds.restore_db_instance_to_point_in_time(
            SourceDBInstanceIdentifier="beta", TargetDBInstanceIdentifier="beta-then", UseLatestRestorableTime=True
        )
    rds.delete_db_snapshot(DBSnapshotIdentifier="kept")
    rds.delete_db_instance(DBInstanceIdentifier="beta", SkipFinalSnapshot=True)
    assert not list((settings.state / "snapshots").glob("kept*"))
    left = """
        SELECT datname FROM pg_database WHERE datname LIKE 'beta%'
        UNION SELECT rolname FROM pg_roles WHERE rolname LIKE 'beta%'
        """
    assert postgres.execute(settings, left).strip() == ""


def test_rds_creates_nothing_when_postgresql_refuses(aws: Callable[[str], Any]) -> None:
    with pytest.raises(ClientError, match="is no name for PostgreSQL"):
        create_database(aws("rds"), "x" * 60, "some-password")
    assert aws("rds").describe_db_instances()["DBInstances"] == []


def make_service(ecs: Any, ec2: Any, name: str, **settings: Any) -> dict[str, Any]:
    """Create a service, with a cluster and a revision of its own, and return its description."""
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    ecs.create_cluster(clusterName=name)
    return dict(
        ecs.create_service(
            cluster=name,
            serviceName=name,
            taskDefinition=revision(ecs, name),
            desiredCount=1,
            launchType="FARGATE",
            networkConfiguration={"awsvpcConfiguration": {"subnets": [subnet], "securityGroups": []}},
            deploymentConfiguration={
                "deploymentCircuitBreaker": {"enable": True, "rollback": True},
                "maximumPercent": 200,
                "minimumHealthyPercent": 100,
            },
            **settings,
        )["service"]
    )


def revision(ecs: Any, family: str) -> str:
    definition = ecs.register_task_definition(
        family=family,
        networkMode="awsvpc",
        cpu="256",
        memory="512",
        containerDefinitions=[
            {"name": "main", "image": "i", "healthCheck": {"command": ["CMD", "true"]}},
        ],
    )["taskDefinition"]
    return str(definition["taskDefinitionArn"])


def describe(ecs: Any, name: str) -> dict[str, Any]:
    return dict(ecs.describe_services(cluster=name, services=[name])["services"][0])


def run_task(ecs: Any, name: str) -> str:
    """Start a task as the runner does, for the PRIMARY deployment."""
    service = describe(ecs, name)
    (task,) = ecs.run_task(
        cluster=name,
        taskDefinition=service["deployments"][0]["taskDefinition"],
        launchType="FARGATE",
        startedBy=service["deployments"][0]["id"],
        group=f"service:{name}",
        networkConfiguration=service["networkConfiguration"],
    )["tasks"]
    return str(task["taskArn"])


def report(ecs: Any, name: str, task: str, status: str, health: str = "", *, reason: str = "") -> None:
    container = {"containerName": "main", "status": status}
    if health:
        container["reason"] = f"healthStatus={health}"
    ecs.submit_task_state_change(cluster=name, task=task, status=status, reason=reason, containers=[container])


def test_service_follows_the_tasks_that_an_agent_reports(aws: Callable[[str], Any]) -> None:
    ecs, ec2 = aws("ecs"), aws("ec2")
    service = make_service(ecs, ec2, "follow", enableECSManagedTags=True, availabilityZoneRebalancing="DISABLED")
    assert service["deploymentConfiguration"]["minimumHealthyPercent"] == 100
    assert service["enableECSManagedTags"] is True
    assert service["availabilityZoneRebalancing"] == "DISABLED"
    assert (service["runningCount"], service["pendingCount"]) == (0, 0)
    assert service["deployments"][0]["rolloutState"] == "IN_PROGRESS"

    task = run_task(ecs, "follow")
    for _ in range(10):  # described as often as anybody likes, a task keeps its state
        (described,) = ecs.describe_tasks(cluster="follow", tasks=[task])["tasks"]
    assert (described["lastStatus"], described["healthStatus"]) == ("PROVISIONING", "UNKNOWN")
    assert describe(ecs, "follow")["pendingCount"] == 1
    report(ecs, "follow", task, "RUNNING")
    assert describe(ecs, "follow")["deployments"][0]["rolloutState"] == "IN_PROGRESS", "running, but not yet healthy"
    report(ecs, "follow", task, "RUNNING", "HEALTHY")
    service = describe(ecs, "follow")
    assert (service["runningCount"], service["pendingCount"]) == (1, 0)
    assert service["deployments"][0]["rolloutState"] == "COMPLETED"
    assert "steady state" in service["events"][0]["message"]
    (described,) = ecs.describe_tasks(cluster="follow", tasks=[task])["tasks"]
    assert described["healthStatus"] == described["containers"][0]["healthStatus"] == "HEALTHY"
    assert described["startedAt"] >= described["createdAt"]

    # Another revision: a new deployment beside the old one, complete once the old task has gone.
    ecs.update_service(cluster="follow", service="follow", taskDefinition=revision(ecs, "follow"))
    service = describe(ecs, "follow")
    assert [each["status"] for each in service["deployments"]] == ["PRIMARY", "ACTIVE"]
    second = run_task(ecs, "follow")
    report(ecs, "follow", second, "RUNNING", "HEALTHY")
    assert describe(ecs, "follow")["deployments"][0]["rolloutState"] == "IN_PROGRESS"
    ecs.stop_task(cluster="follow", task=task, reason="Scaling activity initiated by (deployment ecs-svc/1)")
    (described,) = ecs.describe_tasks(cluster="follow", tasks=[task])["tasks"]
    assert (described["desiredStatus"], described["lastStatus"]) == ("STOPPED", "RUNNING")
    assert ecs.list_tasks(cluster="follow", serviceName="follow")["taskArns"] == [second]
    report(ecs, "follow", task, "STOPPED")
    service = describe(ecs, "follow")
    assert [each["rolloutState"] for each in service["deployments"]] == ["COMPLETED"]
    assert service["deployments"][0]["failedTasks"] == 0
    assert ecs.list_tasks(cluster="follow", desiredStatus="STOPPED")["taskArns"] == [task]

    ecs.update_service(cluster="follow", service="follow", desiredCount=0)
    ecs.delete_service(cluster="follow", service="follow")
    assert describe(ecs, "follow")["status"] == "DRAINING"
    report(ecs, "follow", second, "STOPPED", reason="Scaling activity initiated by (deployment ecs-svc/2)")
    assert describe(ecs, "follow")["status"] == "INACTIVE"
    assert ecs.list_services(cluster="follow")["serviceArns"] == []
    assert ec2.describe_network_interfaces()["NetworkInterfaces"] == []


def test_circuit_breaker_fails_a_deployment_whose_tasks_do_not_come_up(aws: Callable[[str], Any]) -> None:
    ecs = aws("ecs")
    make_service(ecs, aws("ec2"), "breaker")
    for _ in range(3):
        assert describe(ecs, "breaker")["deployments"][0]["rolloutState"] == "IN_PROGRESS"
        task = run_task(ecs, "breaker")
        report(ecs, "breaker", task, "RUNNING")
        report(ecs, "breaker", task, "STOPPED", reason="Essential container in task exited")
    (deployment,) = describe(ecs, "breaker")["deployments"]
    assert (deployment["rolloutState"], deployment["failedTasks"]) == ("FAILED", 3)
    (described,) = ecs.describe_tasks(cluster="breaker", tasks=[task])["tasks"]
    assert described["stopCode"] == "EssentialContainerExited"
    assert described["stoppedReason"] == "Essential container in task exited"


def test_wrong_reports_are_refused(aws: Callable[[str], Any]) -> None:
    ecs = aws("ecs")
    make_service(ecs, aws("ec2"), "wrong")
    task = run_task(ecs, "wrong")
    with pytest.raises(ClientError, match="not found"):
        report(ecs, "wrong", "no-such-task", "RUNNING")
    with pytest.raises(ClientError, match="PROVISIONING, PENDING"):
        report(ecs, "wrong", task, "SLEEPING")
    with pytest.raises(ClientError, match="HEALTHY, UNHEALTHY"):
        report(ecs, "wrong", task, "RUNNING", "FINE")
    with pytest.raises(ClientError, match="no container 'other', only main"):
        ecs.submit_container_state_change(cluster="wrong", task=task, containerName="other", status="RUNNING")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_account_outlives_the_emulator(settings: Settings, aws: Callable[[str], Any], how: signal.Signals) -> None:
    name = f"outlives-{how.name.lower()}"
    s3 = aws("s3")
    s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(Bucket=name, Key="k", Body=b"content")["VersionId"]
    aws("ecr").create_repository(repositoryName=name)
    aws("efs").create_file_system(CreationToken=name)
    secret = aws("secretsmanager").create_secret(Name=name, SecretString="hidden")["ARN"]
    aws("iam").create_role(RoleName=name, AssumeRolePolicyDocument="{}")
    # Every service that the platform or its tools ask is in the account from then on, and must not stop it being saved.
    aws("ssm").put_parameter(Name=name, Value="kept", Type="String")
    aws("elbv2").describe_load_balancers()
    certificate = aws("acm").request_certificate(DomainName=f"{name}.example")["CertificateArn"]
    aws("application-autoscaling").describe_scalable_targets(ServiceNamespace="ecs")
    aws("cloudwatch").describe_alarms()
    aws("sts").get_caller_identity()
    make_service(aws("ecs"), aws("ec2"), name)
    task = run_task(aws("ecs"), name)
    aws("logs").create_log_group(logGroupName=f"{name}-last")
    file = settings.state / emulator_state.FILE
    if how == signal.SIGKILL:
        # Saved by itself some moments after the last change.
        processes.wait_until(
            lambda: file.exists() and f"{name}-last" in repr(file.read_bytes()), settings, services.EMULATOR.name
        )
    pid = services.EMULATOR.running(settings)
    assert pid
    known = processes.identity(pid)
    os.kill(pid, how)
    while processes.identity(pid) == known:
        processes.reap(pid)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert services.EMULATOR.start(settings)

    assert aws("s3").get_object(Bucket=name, Key="k", VersionId=version)["Body"].read() == b"content"
    assert aws("secretsmanager").get_secret_value(SecretId=secret)["SecretString"] == "hidden"
    assert aws("ecr").describe_repositories(repositoryNames=[name])["repositories"]
    assert name in {each["CreationToken"] for each in aws("efs").describe_file_systems()["FileSystems"]}
    assert aws("ecs").describe_tasks(cluster=name, tasks=[task])["tasks"][0]["lastStatus"] == "PROVISIONING"
    report(aws("ecs"), name, task, "RUNNING", "HEALTHY")
    assert describe(aws("ecs"), name)["deployments"][0]["rolloutState"] == "COMPLETED"
    assert aws("ssm").get_parameter(Name=name)["Parameter"]["Value"] == "kept"
    assert aws("iam").get_role(RoleName=name)["Role"]["RoleName"] == name
    assert "BEGIN CERTIFICATE" in aws("acm").get_certificate(CertificateArn=certificate)["Certificate"]
    assert aws("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    # And it can be changed and saved on.
    aws("ecr").create_repository(repositoryName=f"{name}-after")


def test_account_was_always_saved(settings: Settings) -> None:
    assert "cannot be saved" not in (settings.logs / "emulator.log").read_text()


def test_damaged_account_is_moved_aside(settings: Settings, aws: Callable[[str], Any]) -> None:
    services.EMULATOR.stop(settings)
    file = settings.state / emulator_state.FILE
    file.write_bytes(file.read_bytes()[:1000])
    assert services.EMULATOR.start(settings)
    assert aws("ecs").list_clusters()["clusterArns"] == []
    assert file.with_suffix(".damaged").exists()
    assert "cannot be loaded" in processes.tail(settings.logs / "emulator.log", 5)
