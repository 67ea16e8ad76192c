"""The emulator and the task runner as the tests drive them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from botocore.exceptions import BotoCoreError

from local.settings import REPOSITORY

CLUSTER = "test"
APP = Path(__file__).with_name("app.py")


def wait_for[T](condition: Callable[[], T], what: str | Callable[[], str], seconds: float = 90) -> T:
    """Return the first true value of ``condition``; fail, naming ``what``, if there is none for a long time."""
    deadline = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:.0f} s for {what() if callable(what) else what}")
        time.sleep(0.05)


class Emulator:
    """The AWS emulator of the tests."""

    def __init__(self, base: Path, port: int, ui_port: int, postgres_port: int) -> None:
        self.port = port
        self.role = ""
        self.network: dict[str, Any] = {}
        self._log = base / "emulator.log"
        self._environment = {
            **os.environ,
            "DAGSTER_LOCAL_STATE": str(base / "state"),
            "DAGSTER_LOCAL_AWS_PORT": str(port),
            "DAGSTER_LOCAL_UI_PORT": str(ui_port),
            "DAGSTER_LOCAL_POSTGRES_PORT": str(postgres_port),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "local.emulator"],
                cwd=REPOSITORY,
                env=self._environment,
                stdout=output,
                stderr=output,
            )
        self._process = process
        wait_for(lambda: process.poll() is not None or self.answers(), "the emulator")
        assert process.poll() is None, self._log.read_text()

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()

    def client(self, service: str) -> Any:
        session: Any = boto3.Session("test", "test", region_name="us-east-1")
        return session.client(service, endpoint_url=f"http://127.0.0.1:{self.port}")

    def answers(self) -> bool:
        try:
            self.client("sts").get_caller_identity()
        except BotoCoreError:
            return False
        return True

    def prepare(self) -> None:
        """Make what every service needs."""
        ec2 = self.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
        group = ec2.create_security_group(VpcId=vpc, GroupName="tasks", Description="tasks")["GroupId"]
        self.network = {"awsvpcConfiguration": {"subnets": [subnet], "securityGroups": [group]}}
        trust = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "ecs-tasks.amazonaws.com"},
                    "Action": "sts:AssumeRole",
                }
            ],
        }
        self.role = self.client("iam").create_role(RoleName="task", AssumeRolePolicyDocument=json.dumps(trust))["Role"][
            "Arn"
        ]
        self.client("ecs").create_cluster(clusterName=CLUSTER)
        self.client("logs").create_log_group(logGroupName="/ecs/test")

    def reset(self) -> None:
        """Forget everything, as an emulator does whose state is lost, and prepare again."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/moto-api/reset", method="POST")
        with urllib.request.urlopen(request):
            pass

    def delete_services(self) -> None:
        ecs = self.client("ecs")
        for arn in ecs.list_services(cluster=CLUSTER)["serviceArns"]:
            ecs.delete_service(cluster=CLUSTER, service=arn, force=True)


class Runner:
    """A `python -m local.runner` and the services that the tests give it."""

    def __init__(self, emulator: Emulator, base: Path, ui_port: int) -> None:
        self.emulator = emulator
        self.ecs = emulator.client("ecs")
        self.state = base / "state"
        self.image = base / "image"
        self.log_file = base / "runner.log"
        self.ui_port = ui_port
        self.mark = f"runner@{self.state}"
        self.process: subprocess.Popen[bytes] | None = None
        digest = hashlib.sha256(str(self.state).encode()).hexdigest()[:6]
        self.short_directory = Path(f"/tmp/dagster-{os.getuid()}-{digest}")
        self.render_image()

    def render_image(self) -> None:
        self.image.mkdir()
        app = self.image / "app"
        app.write_text(f"#!{sys.executable}\n{APP.read_text()}")
        app.chmod(0o755)

    def remove_image(self) -> None:
        shutil.rmtree(self.image)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "DAGSTER_LOCAL_STATE": str(self.state),
            "DAGSTER_LOCAL_AWS_PORT": str(self.emulator.port),
            "DAGSTER_LOCAL_UI_PORT": str(self.ui_port),
            "DAGSTER_LOCAL_IMAGE_DIR": str(self.image),
            "DAGSTER_LOCAL_PROCESS": self.mark,
            # Nothing of these may reach a task or be used.
            "AWS_PROFILE": "production",
            "UNRELATED": "secret",
        }
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "local.runner", *arguments],
                cwd=REPOSITORY,
                env=environment,
                stdout=log,
                stderr=log,
            )
        return self.process

    def terminate(self) -> None:
        """Stop the runner as `make down` does."""
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait() == 0, self.log()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def log(self) -> str:
        return self.log_file.read_text()

    def session_members(self) -> list[psutil.Process]:
        """Return the processes that tasks of this runner have started, without health checks under way."""
        found = []
        for process in psutil.process_iter():
            try:
                environment, command = process.environ(), process.cmdline()
            except (psutil.Error, OSError):
                continue
            if (
                environment.get("DAGSTER_LOCAL_PROCESS") == self.mark
                and "ECS_CONTAINER_METADATA_URI_V4" in environment
                and command  # a zombie has none
                and command[-1] != "healthcheck"
            ):
                found.append(process)
        return found

    def register(self, environment: dict[str, str] | None = None, **changes: Any) -> str:
        """Register a task definition of the app and return its ARN."""
        values = {"APP_HOST": "0.0.0.0", "APP_PORT": "3000", **(environment or {})}  # noqa: S104, in the container
        container = {
            "name": "app",
            "image": "app",
            "essential": True,
            "entryPoint": ["/opt/dagster/app"],
            "command": ["serve"],
            "environment": [{"name": name, "value": value} for name, value in values.items()],
            "portMappings": [{"containerPort": 3000, "protocol": "tcp"}],
            "healthCheck": {
                "command": ["CMD", "/opt/dagster/app", "healthcheck"],
                "interval": 1,
                "timeout": 20,
                "retries": 2,
                "startPeriod": 60,
            },
            "logConfiguration": {
                "logDriver": "awslogs",
                "options": {
                    "awslogs-group": "/ecs/test",
                    "awslogs-region": "us-east-1",
                    "awslogs-stream-prefix": "ecs",
                },
            },
            "stopTimeout": 30,
            **changes,
        }
        answer = self.ecs.register_task_definition(
            family="app",
            networkMode="awsvpc",
            requiresCompatibilities=["FARGATE"],
            cpu="256",
            memory="512",
            taskRoleArn=self.emulator.role,
            containerDefinitions=[container],
            volumes=[{"name": "run"}, {"name": "releases"}],
        )
        return str(answer["taskDefinition"]["taskDefinitionArn"])

    def create_service(
        self, definition: str, *, desired: int = 1, limits: tuple[int, int] = (100, 200), balanced: bool = True
    ) -> str:
        """Create a service with a name of its own and return the name."""
        name = f"app-{uuid.uuid4().hex[:8]}"
        target = {
            "targetGroupArn": "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/app/0123456789abcdef",
            "containerName": "app",
            "containerPort": 3000,
        }
        self.ecs.create_service(
            cluster=CLUSTER,
            serviceName=name,
            taskDefinition=definition,
            desiredCount=desired,
            launchType="FARGATE",
            networkConfiguration=self.emulator.network,
            loadBalancers=[target] if balanced else [],
            deploymentConfiguration={
                "minimumHealthyPercent": limits[0],
                "maximumPercent": limits[1],
                "deploymentCircuitBreaker": {"enable": True, "rollback": True},
            },
        )
        return name

    def update(self, service: str, **changes: Any) -> None:
        self.ecs.update_service(cluster=CLUSTER, service=service, **changes)

    def service(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ecs.describe_services(cluster=CLUSTER, services=[name])["services"][0]
        return found

    def tasks(self, service: str, desired_status: str = "RUNNING") -> list[dict[str, Any]]:
        arns = self.ecs.list_tasks(cluster=CLUSTER, serviceName=service, desiredStatus=desired_status)["taskArns"]
        found: list[dict[str, Any]] = self.ecs.describe_tasks(cluster=CLUSTER, tasks=arns)["tasks"] if arns else []
        return found

    def healthy(self, service: str) -> list[dict[str, Any]]:
        return [
            each
            for each in self.tasks(service)
            if each["lastStatus"] == "RUNNING" and each["healthStatus"] == "HEALTHY"
        ]

    def wait_healthy(self, service: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until exactly ``count`` tasks should run, and all are healthy."""

        def settled() -> list[dict[str, Any]] | None:
            healthy = self.healthy(service)
            return healthy if len(healthy) == count == len(self.tasks(service)) else None

        return wait_for(settled, lambda: f"{count} healthy tasks; the runner's log:\n{self.log()}") or []

    def wait_complete(self, service: str, definition: str) -> None:
        def complete() -> bool:
            found = self.service(service)
            first = found["deployments"][0]
            return (
                len(found["deployments"]) == 1
                and first["rolloutState"] == "COMPLETED"
                and first["taskDefinition"] == definition
            )

        wait_for(complete, f"the deployment of {definition}")

    def request(self, path: str = "/", *, method: str = "GET", port: int | None = None) -> str:
        """Send a request through the load balancer, or to a port, and return the body of the answer."""
        request = urllib.request.Request(f"http://127.0.0.1:{port or self.ui_port}{path}", method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.read().decode())

    def info(self, task: dict[str, Any]) -> dict[str, Any]:
        """Return what the app of a task tells about itself."""
        found: dict[str, Any] = json.loads(self.request(port=self.port(task)))
        return found

    @staticmethod
    def port(task: dict[str, Any]) -> int:
        return int(task["containers"][0]["networkBindings"][0]["hostPort"])
