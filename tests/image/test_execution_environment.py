"""The execution environment of AWX, built from its definition, and jobs of AWX in containers of it.

One account is empty before the first job, and nothing runs in it; the other is that of this directory's platform, whose
tasks have to serve what a job deploys. Jobs reach the emulator by the network of the machine.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.awx.jobs import Controller, changed_roles, stats
from tests.e2e.dagster_client import wait_for
from tests.e2e.platform_under_test import Platform
from tests.image.engine import ROOT, Engine
from tests.image.test_containers import definition
from tests.integration.emulated import Emulator, emulator

pytestmark = pytest.mark.e2e

PYTHON = "/opt/dagster/bin/python"
"""What DAGs are checked with; it is in the container only."""
ASSET = """

@dg.asset
def from_awx() -> None: ...
"""


@pytest.fixture(scope="module")
def image(engine: Engine, settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The execution environment, built as docs/awx.md says; its layers stay for the next time, its name does not."""
    name = f"dagster-ecs-ee:test-{uuid.uuid4().hex[:12]}"
    base = settings["DAGSTER_IMAGE_BASE"]
    arguments = []
    if base:
        # The official image has Python with pip below /usr/local; the stand-in has Debian's.
        made = subprocess.run(
            [engine.program, "build", "--tag", f"{base}-ee", "-"],
            input=f"FROM {base}\nRUN python3 -m venv /usr/local\n",
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        arguments = ["--build-arg", f"EE_BASE_IMAGE={base}-ee"]
    bundle = os.environ.get("SSL_CERT_FILE", "")
    more = "--network host" + (f" --secret id=ca,src={bundle}" if bundle else "")
    # The client that has an engine comes first, whatever others there are.
    clients = tmp_path_factory.mktemp("bin")
    (clients / "docker").symlink_to(engine.program)
    done = subprocess.run(
        ["make", "--no-print-directory", "awx-image", f"NAME={name}"],
        cwd=ROOT,
        env={
            **os.environ,
            "ARGS": shlex.join([*arguments, "--verbosity", "2", "--extra-build-cli-args", more]),
            "PATH": f"{clients}:{os.environ['PATH']}",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    yield name
    engine.run("image", "rm", name)


def awx(engine: Engine, image: str, directory: Path, environment: Mapping[str, str]) -> Controller:
    """Return AWX with a project, and with containers for jobs as its container groups make them: nobody in particular.

    What jobs write goes with the container, what they would keep below the state directory too.
    """
    controller = Controller(
        directory,
        {**environment, "DAGSTER_LOCAL_STATE": "/runner/state"},
        (engine.program, "run", "--rm", "--interactive", "--network", "host", image),
    )
    controller.check_out()
    return controller


def current(s3: Any, bucket: str) -> str:
    """Return the release that the pointer in the bucket names."""
    pointer = json.loads(s3.get_object(Bucket=bucket, Key="releases/current")["Body"].read())
    return str(pointer["release"])


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("account")) as found:
        yield found


def test_an_empty_account_gets_the_platform_and_a_release(
    engine: Engine, image: str, account: Emulator, tmp_path: Path
) -> None:
    controller = awx(engine, image, tmp_path, {"DAGSTER_LOCAL_AWS_PORT": str(account.port)})
    made = stats(controller.launch("playbooks/site.yml", "site"))
    assert made["failures"] == made["dark"] == {}
    services = account.client("ecs").list_services(cluster="dagster-local")["serviceArns"]
    assert {arn.rpartition("/")[2] for arn in services} == {"webserver", "daemon"}
    # What is rendered for the image of the tasks has gone with the job's container; nothing else is done again.
    assert stats(controller.launch("playbooks/site.yml", "again", skip_tags="image"))["changed"] == {}

    deployed = controller.launch(
        "playbooks/deploy_dags.yml", "deploy", dag_release_validate_python=PYTHON, dag_release_wait="false"
    )
    assert stats(deployed)["failures"] == {}
    # Checked in the container, with the packages that the tasks have.
    assert "+ asset main: orders" in stats(deployed)["artifact_data"]["dag_release_summary"]
    s3 = account.client("s3")
    (bucket,) = s3.list_buckets()["Buckets"]
    assert stats(deployed)["artifact_data"]["dag_release_id"] == current(s3, bucket["Name"])


def test_the_tasks_serve_what_a_job_deploys(engine: Engine, image: str, platform: Platform, tmp_path: Path) -> None:
    """Site finds the platform as it is; the tasks serve what the project's DAGs have become."""
    mine = {name: value for name, value in platform.environment.items() if name.startswith("DAGSTER_LOCAL_")}
    controller = awx(engine, image, tmp_path, mine)
    # Other tests have made the tasks look for releases more often.
    (container,) = definition(platform, "webserver")["containerDefinitions"]
    variables = {each["name"]: each["value"] for each in container["environment"]}
    often = {"ecs_poll_seconds": variables["DAGSTER_POLL_SECONDS"]}
    changed = changed_roles(controller.launch("playbooks/site.yml", "site", **often))
    assert changed == {"image"}, "files that go with the job's container"
    file = controller.directory / "project" / "dags" / "main" / "assets.py"
    file.write_text(file.read_text(encoding="utf-8") + ASSET, encoding="utf-8")
    deployed = controller.launch(
        "playbooks/deploy_dags.yml",
        "deploy",
        awx_job_id=17,
        awx_user_name="somebody of AWX",
        dag_release_validate_python=PYTHON,
        dag_release_wait_timeout="600",
    )
    handed_on = stats(deployed)["artifact_data"]
    assert handed_on["dag_release_converged"] is True
    assert current(platform.aws("s3"), "dagster-local-dags-123456789012") == handed_on["dag_release_id"]
    wait_for("the asset in the UI", lambda: "from_awx" in platform.ui.assets("main"))
    again = controller.launch("playbooks/deploy_dags.yml", "again", dag_release_validate_python=PYTHON)
    assert stats(again)["changed"] == {}
    assert stats(again)["artifact_data"]["dag_release_id"] == handed_on["dag_release_id"]
    assert "somebody of AWX" in platform.make("dags-history")


def test_it_has_no_key_and_runs_as_nobody_in_particular(engine: Engine, image: str) -> None:
    ran = engine.run("run", "--rm", image, "sh", "-c", "id -u; ls -a /tmp /root 2>&1; env")
    assert ran.startswith("1000\n")
    assert "AWS_" not in ran
    assert "locks" not in ran
