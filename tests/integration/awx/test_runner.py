"""Jobs as AWX runs them, on this machine; tests/image has them in a container of the execution environment."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.awx.jobs import ROOT, RUNNER, Controller, stats
from tests.integration.emulated import Emulator, emulator

CONTAINER_PYTHON = ROOT / ".venv" / "container" / "bin" / "python"

pytestmark = pytest.mark.skipif(
    not CONTAINER_PYTHON.exists(), reason="needs the environment container: local/bootstrap.sh container"
)


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("account")) as account:
        yield account


@pytest.fixture(scope="module")
def controller(aws: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Controller:
    environment = {"DAGSTER_LOCAL_AWS_PORT": str(aws.port), "DAGSTER_LOCAL_STATE": str(aws.state)}
    controller = Controller(tmp_path_factory.mktemp("controller"), environment)
    controller.check_out()
    return controller


def test_site_and_deploy_dags_run_from_an_imported_inventory(controller: Controller, aws: Emulator) -> None:
    made = stats(controller.launch("playbooks/site.yml", "site", tags="s3"))
    assert made["changed"]["localhost"] > 0
    assert made["failures"] == {}
    deployed = controller.launch(
        "playbooks/deploy_dags.yml",
        "deploy",
        dag_release_wait="false",
        awx_user_name="somebody of AWX",
        awx_job_id=17,
        dag_release_validate_python=str(CONTAINER_PYTHON),
    )
    handed_on = stats(deployed)["artifact_data"]
    release = handed_on["dag_release_id"]
    assert {"dag_release_previous_id", "dag_release_changed", "dag_release_tasks"} <= set(handed_on)
    assert handed_on["dag_release_converged"] is False
    s3 = aws.client("s3")
    (bucket,) = s3.list_buckets()["Buckets"]
    pointer = json.loads(s3.get_object(Bucket=bucket["Name"], Key="releases/current")["Body"].read())
    assert pointer["release"] == release
    assert "somebody of AWX" in json.dumps(pointer)
    # What AWX shows, line by line: every event with text tells where it belongs.
    text = "".join(event["stdout"] for event in deployed)
    assert f"Released {release}: locations main" in text
    assert all(event["start_line"] <= event["end_line"] for event in deployed)


def test_the_execution_environment_has_what_the_locks_say(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            str(RUNNER.with_name("ansible-builder")),
            *(
                "create",
                "-f",
                "execution-environment.yml",
                "--context",
                str(tmp_path),
                "--output-filename",
                "Dockerfile",
            ),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    built = (tmp_path / "Dockerfile").read_text(encoding="utf-8")
    for name in ("requirements.txt", "requirements/execution.txt", "docker/requirements.txt"):
        assert (ROOT / name).read_text("utf-8") in [file.read_text("utf-8") for file in tmp_path.rglob("*.txt")]
    definition = yaml.safe_load((ROOT / "execution-environment.yml").read_text(encoding="utf-8"))
    locked = {
        line.split(" ")[0]
        for name in ("requirements.txt", "requirements/execution.txt")
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
    }
    for package in ("ansible_core", "ansible_runner"):
        assert definition["dependencies"][package]["package_pip"] in locked
    assert "@sha256:" in definition["images"]["base_image"]["name"]
    # Where job templates look for what DAGs are checked with.
    templates = (ROOT / "awx" / "job_templates.yml").read_text(encoding="utf-8")
    assert "dag_release_validate_python: /opt/dagster/bin/python" in templates
    assert "python3 -m venv /opt/dagster" in built
