"""An AWS emulator for the tests of this directory, and a network in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from local.settings import free_ports

REPOSITORY = Path(__file__).resolve().parents[3]
Clients = Callable[[str], Any]


@pytest.fixture(scope="session")
def ecs_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Endpoint of an emulator of its own, as `make up` starts it."""
    aws, ui, postgres = free_ports(3)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")} | {
        "DAGSTER_LOCAL_STATE": str(tmp_path_factory.mktemp("emulator")),
        "DAGSTER_LOCAL_AWS_PORT": str(aws),
        "DAGSTER_LOCAL_UI_PORT": str(ui),
        "DAGSTER_LOCAL_POSTGRES_PORT": str(postgres),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "local.emulator"], cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "listens on" in line:
                break
        else:
            raise AssertionError(f"The emulator ended with {process.wait()}.")
        yield f"http://127.0.0.1:{aws}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def aws(ecs_emulator: str) -> Clients:
    """Make clients of the emulator."""
    session: Any = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")

    def client(service: str) -> Any:
        return session.client(service, endpoint_url=ecs_emulator, config=Config(proxies={}))

    return client


@pytest.fixture(scope="session")
def network(aws: Clients) -> dict[str, Any]:
    """A VPC with two subnets in two zones and two security groups."""
    ec2 = aws("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.9.{index}.0/24", AvailabilityZone=f"us-east-1{zone}")["Subnet"][
            "SubnetId"
        ]
        for index, zone in enumerate("abc")
    ]
    groups = [
        ec2.create_security_group(VpcId=vpc, GroupName=name, Description=name)["GroupId"] for name in ("one", "two")
    ]
    return {"vpc": vpc, "subnets": subnets, "groups": groups}
