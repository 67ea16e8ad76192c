"""`ansible-playbook deploy_dags.yml` as a user types it, against an emulator of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.integration.release.support import BUCKET, ROOT, aws_client, create_bucket, emulator, keys, write_tree

DEFS = "import dagster as dg\n\n\n@dg.asset\ndef {name}() -> None: ...\n\n\ndefs = dg.Definitions(assets=[{name}])\n"


@pytest.fixture
def endpoint() -> Iterator[str]:
    with emulator() as url:
        yield url


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree(
        tmp_path / "any directory",
        {"__init__.py": "", "sales/__init__.py": DEFS.format(name="revenue"), "sales/old.py": "", "README.md": "x"},
    )


def deploy(
    endpoint: str, *arguments: str, cwd: Path = ROOT, playbook: str = "deploy_dags.yml", **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run the playbook on the local inventory; a profile or region of the developer must not matter."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ANSIBLE_"))}
    return subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), str(ROOT / playbook), *arguments],
        cwd=cwd,
        env=environment
        | {
            "PWD": str(cwd),  # as a shell sets it
            "DAGSTER_LOCAL_AWS_PORT": str(urlsplit(endpoint).port),
            "ANSIBLE_NOCOLOR": "1",
            "AWS_PROFILE": "of-the-developer",
            "AWS_REGION": "eu-nowhere-1",
            **settings,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )


def succeed(endpoint: str, *arguments: str, **kwargs: Any) -> str:
    done = deploy(endpoint, *arguments, **kwargs)
    assert done.returncode == 0, done.stdout
    return done.stdout


STATS = {"ANSIBLE_SHOW_CUSTOM_STATS": "1", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}


def stats(output: str) -> dict[str, Any]:
    """Return what was handed on with set_stats: for the whole run, as AWX takes it, and not for a host."""
    found = re.search(r"^\s*RUN: (\{.*\})$", output, re.MULTILINE)
    assert found, output
    assert not re.search(r"^\s*localhost: \{", output, re.MULTILINE)
    handed: dict[str, Any] = json.loads(found[1])
    return handed


def fail(endpoint: str, *arguments: str, **kwargs: Any) -> str:
    done = deploy(endpoint, *arguments, **kwargs)
    assert done.returncode != 0, done.stdout
    assert "Traceback (most recent call last)" not in done.stdout.split("dag_release")[0]
    return done.stdout


def tree_keys(s3: Any) -> list[str]:
    return [key for key in keys(s3) if key.startswith("dags/")]


def test_default_tree_twice_and_with_stats(endpoint: str) -> None:
    s3 = create_bucket(endpoint)
    first = succeed(endpoint, **STATS)
    assert "changed=1 " in first
    assert "locations main" in first
    assert "No task of webserver, daemon is running" in first, "and how to start them"
    assert "make up" in first
    assert "dags/main/assets.py" in tree_keys(s3)
    second = succeed(endpoint)
    assert "changed=0 " in second
    assert "Already released" in second
    release = json.loads(s3.get_object(Bucket=BUCKET, Key="releases/current")["Body"].read())["release"]
    assert release in first
    assert release in second
    handed = stats(first)
    assert handed.pop("dag_release_summary")
    assert handed == {
        "dag_release_id": release,
        "dag_release_previous_id": None,
        "dag_release_repository": "",
        "dag_release_changed": True,
        "dag_release_converged": False,  # nobody is there to serve it
        "dag_release_tasks": [],
    }


def test_any_directory_check_mode_and_diff(endpoint: str, root: Path) -> None:
    s3 = create_bucket(endpoint)
    path = ("-e", json.dumps({"dags_path": str(root)}))
    checked = succeed(endpoint, "--check", "--diff", *path)
    for line in ("+ location sales", "+ sales/__init__.py (", "+ README.md (1 bytes)", "Would release"):
        assert line in checked
    assert keys(s3) == []

    succeed(endpoint, *path)
    assert tree_keys(s3) == ["dags/README.md", "dags/__init__.py", "dags/sales/__init__.py", "dags/sales/old.py"]

    write_tree(root, {"sales/__init__.py": DEFS.format(name="income"), "hr/__init__.py": DEFS.format(name="people")})
    (root / "sales/old.py").unlink()
    before = keys(s3)
    checked = succeed(endpoint, "--check", "--diff", *path)
    for line in ("+ location hr", "+ hr/__init__.py (", "~ sales/__init__.py (", "- sales/old.py"):
        assert line in checked
    assert keys(s3) == before

    succeed(endpoint, *path, "-e", '{"dags_locations": ["sales"]}')
    (manifest,) = [key for key in keys(s3, "releases/") if key not in before and "definitions" not in key]
    locations = json.loads(s3.get_object(Bucket=BUCKET, Key=manifest)["Body"].read())["locations"]
    assert locations == [{"name": "sales", "module": "dags.sales"}]


def test_check_mode_on_an_empty_account(endpoint: str, root: Path) -> None:
    output = succeed(endpoint, "--check", "--diff", "-e", json.dumps({"dags_path": str(root)}))
    assert "There is no bucket" in output
    assert "+ sales/__init__.py (" in output
    assert aws_client("s3", endpoint).list_buckets()["Buckets"] == []


def test_relative_path_is_relative_to_where_the_user_is(endpoint: str, root: Path) -> None:
    s3 = create_bucket(endpoint)
    succeed(endpoint, "-e", json.dumps({"dags_path": os.path.relpath(root, ROOT)}))
    assert "dags/sales/old.py" in tree_keys(s3)


def test_broken_code_is_refused_before_anything_is_uploaded(endpoint: str, root: Path) -> None:
    s3 = create_bucket(endpoint)
    write_tree(root, {"sales/assets.py": "x = 1\nraise RuntimeError('on purpose')\n"})
    write_tree(root, {"sales/__init__.py": "from . import assets\n"})
    path = ("-e", json.dumps({"dags_path": str(root)}))
    for arguments in (path, ("--check", *path)):
        output = fail(endpoint, *arguments)
        assert f"{root}/sales/assets.py:2: RuntimeError: on purpose" in output
        assert "nothing was uploaded" in output
        assert keys(s3) == []
    succeed(endpoint, *path, "-e", "dag_release_validate=false")
    assert "dags/sales/assets.py" in tree_keys(s3)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"dags_path": "/nowhere"}, ["dags_path '/nowhere' does not exist", "-e dags_path="]),
        ({"dags_locations": ["nowhere"]}, ["location 'nowhere' cannot be served", "The packages in", "main"]),
        ({"dags_bucket_name": "no-such-bucket"}, ["There is no bucket 'no-such-bucket'", "ansible-playbook site.yml"]),
        ({"dag_release_validate_python": "/nowhere/python"}, ["'/nowhere/python'", "dag_release_validate=false"]),
        ({"dag_release_validate_timeout": "soon"}, ["dag_release_validate_timeout"]),
    ],
)
def test_bad_input(endpoint: str, variables: dict[str, Any], expected: list[str]) -> None:
    s3 = create_bucket(endpoint)
    output = fail(endpoint, "-e", json.dumps(variables))
    for text in expected:
        assert text in output
    assert keys(s3) == []


def test_nothing_is_published_where_containers_follow_a_tree(endpoint: str) -> None:
    s3 = create_bucket(endpoint)
    tree = ("-e", "dag_source=tree")
    for output in (fail(endpoint, *tree), succeed(endpoint, *tree, "-e", "dag_release_tree_ok=true")):
        text = " ".join(output.split())
        assert "Nothing was uploaded: dag_source is" in text
        assert f"aws s3 sync {ROOT}/dags s3://{BUCKET}/dags/ --delete" in text
        assert f"AWS_ENDPOINT_URL={endpoint} " in text
    assert keys(s3) == []


def test_emulator_that_is_not_running() -> None:
    output = fail("http://127.0.0.1:9")
    assert "S3 cannot be reached" in output
    assert "make up" in output


class Agent:
    """Plays the ECS agent and one container: a task that reports ``report`` once there is a pointer."""

    def __init__(self, endpoint: str, report: dict[str, Any]) -> None:
        self._endpoint, self._report = endpoint, report
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.task = self._start_task()

    def _start_task(self) -> str:
        # The emulator would stop the task by itself after some looks at it.
        transition = {"model_name": "ecs::task", "transition": {"progression": "manual", "times": 1_000_000}}
        requests.post(f"{self._endpoint}/moto-api/state-manager/set-transition", json=transition, timeout=60)
        ec2, ecs, logs = (aws_client(name, self._endpoint) for name in ("ec2", "ecs", "logs"))
        subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
        group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
        ecs.create_cluster(clusterName="dagster-local")
        ecs.register_task_definition(
            family="dagster-local-webserver",
            networkMode="awsvpc",
            requiresCompatibilities=["FARGATE"],
            cpu="256",
            memory="512",
            containerDefinitions=[{"name": "webserver", "image": "x", "cpu": 256, "memory": 512}],
        )
        started = ecs.run_task(
            cluster="dagster-local",
            taskDefinition="dagster-local-webserver",
            launchType="FARGATE",
            group="service:webserver",
            startedBy="ecs-svc/1",
            networkConfiguration={"awsvpcConfiguration": {"subnets": [subnet], "securityGroups": [group]}},
        )
        logs.create_log_group(logGroupName="/ecs/dagster-local/webserver")
        task = str(started["tasks"][0]["taskArn"].rsplit("/", 1)[1])
        logs.create_log_stream(logGroupName="/ecs/dagster-local/webserver", logStreamName=f"ecs/webserver/{task}")
        return task

    def _run(self) -> None:
        s3, logs = aws_client("s3", self._endpoint), aws_client("logs", self._endpoint)
        while not self._stop.wait(0.2):
            if "releases/current" not in keys(s3, "releases/"):
                continue
            release = json.loads(s3.get_object(Bucket=BUCKET, Key="releases/current")["Body"].read())["release"]
            report = {name: release if value == "RELEASE" else value for name, value in self._report.items()}
            event = {"event": "release_state", "ts": time.time(), "service": "webserver", "task_id": self.task} | report
            logs.put_log_events(
                logGroupName="/ecs/dagster-local/webserver",
                logStreamName=f"ecs/webserver/{self.task}",
                logEvents=[{"timestamp": int(time.time() * 1000), "message": json.dumps(event)}],
            )
            return

    def __enter__(self) -> Agent:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)


def test_convergence_table(endpoint: str, root: Path) -> None:
    create_bucket(endpoint)
    with Agent(endpoint, {"status": "serving", "release": "RELEASE"}) as agent:
        output = succeed(endpoint, "-e", json.dumps({"dags_path": str(root)}), **STATS)
    handed = stats(output)
    assert handed["dag_release_converged"] is True
    (task,) = handed["dag_release_tasks"]
    assert (task["task"], task["status"], task["release"]) == (agent.task, "serving", handed["dag_release_id"])
    lines = [line.split() for line in output.splitlines()]
    row = next(line for line in lines if line[:2] == ["webserver", agent.task])
    assert row[3] == "serving"
    assert float(row[4]) >= 0
    assert any(line[:1] == ["daemon"] and "no running task" in " ".join(line) for line in lines)


def test_rejected_release_shows_the_tasks_traceback(endpoint: str, root: Path) -> None:
    create_bucket(endpoint)
    report = {"status": "rejected", "release": None, "rejected": "RELEASE", "error": "RuntimeError: says the canary"}
    with Agent(endpoint, report) as agent:
        output = fail(endpoint, "-e", json.dumps({"dags_path": str(root)}), **STATS)
    assert stats(output)["dag_release_converged"] is False
    assert f"was refused by webserver task {agent.task}" in output
    assert "RuntimeError: says the canary" in output


def test_not_waiting(endpoint: str, root: Path) -> None:
    create_bucket(endpoint)
    output = succeed(endpoint, "-e", json.dumps({"dags_path": str(root), "dag_release_wait": False}))
    assert "No task of" not in output
