"""What `site.yml` refuses, as a user sees it.

Molecule previews and converges an empty account; tests/integration/secrets looks for secrets in what is printed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

ROOT = Path(__file__).parents[3]
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
SERVER = """
from local import emulator_ecs, emulator_fixes
emulator_fixes.apply_all()
emulator_ecs.apply()
from werkzeug.serving import make_server
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(f"port {server.server_address[1]}", flush=True)
server.serve_forever()
"""

Site = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Run an emulator without PostgreSQL and without tasks."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = re.fullmatch(r"port (\d+)\n", line)
            assert match, f"the emulator did not start: {line!r}"
            yield int(match[1])
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def site(port: int, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Return a function that runs site.yml with the given arguments."""
    state = tmp_path_factory.mktemp("state")

    def run(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "AWS_"))},
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "COLUMNS": "10000",
            "DAGSTER_LOCAL_AWS_PORT": str(port),
            "DAGSTER_LOCAL_STATE": str(state),
            # Whoever has a real account must not reach it from here.
            "AWS_PROFILE": "a-real-account",
            "AWS_ACCESS_KEY_ID": "a-real-key",
            "AWS_SECRET_ACCESS_KEY": "a-real-secret",
            **changes,
        }
        return subprocess.run(
            [str(PLAYBOOK), "site.yml", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def client(port: int, service: str) -> Any:
    session: Any = boto3
    return session.client(
        service,
        region_name="us-east-1",
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def recap(result: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Return the counters of the play's recap."""
    found = re.search(r"^localhost +: (.*)$", result.stdout, re.MULTILINE)
    assert found, result.stdout + result.stderr
    return {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", found[1])}


def test_unknown_inventory_is_an_error_with_the_choices(site: Site) -> None:
    result = site("-i", "inventories/unknown")
    assert result.returncode != 0
    output = result.stdout + result.stderr
    assert "inventories/unknown has 0 hosts in its group dagster_platform" in output
    assert "inventories/local/hosts.yml" in output


def test_all_bad_settings_are_reported_before_anything_is_created(site: Site, port: int, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "inventories" / "local", tmp_path / "mine")
    (tmp_path / "mine" / "group_vars" / "all" / "network.yml").write_text("---\n{}\n")
    before = client(port, "ec2").describe_vpcs()["Vpcs"]
    result = site(
        *("-i", str(tmp_path / "mine" / "hosts.yml")),
        *("-e", "aws_account_id=999999999999", "-e", "ecs_task_memory=700"),
    )
    assert result.returncode != 0
    output = result.stdout + result.stderr
    assert "6 settings cannot be used. Nothing was created or changed." in output
    assert "network_egress = (not set): it is missing." in output
    assert "ecs_task_memory = '700'" in output
    assert "belong to the account 123456789012" in output
    assert client(port, "ec2").describe_vpcs()["Vpcs"] == before


def test_emulator_that_does_not_run(site: Site) -> None:
    result = site(DAGSTER_LOCAL_AWS_PORT="9")
    assert result.returncode != 0
    output = result.stdout + result.stderr
    assert "AWS_ENDPOINT_URL in aws_environment = 'http://127.0.0.1:9': nothing answers there." in output
    assert "`make up`" in output


def test_profile_that_does_not_exist(site: Site) -> None:
    environment = json.dumps({"aws_environment": {"AWS_REGION": "us-east-1", "AWS_PROFILE": "unknown"}})
    result = site("-e", environment)
    assert result.returncode != 0
    output = result.stdout + result.stderr
    assert "The config profile (unknown) could not be found" in output
    assert "aws sts get-caller-identity" in output
