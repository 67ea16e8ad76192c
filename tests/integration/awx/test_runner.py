"""Jobs as AWX runs them: a project and an imported inventory, sent to a worker by ansible-runner, events sent back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.awx.discovery import project_files
from tests.awx.inventory import clean_environment, import_inventory, write_script
from tests.integration.emulated import Emulator, emulator

ROOT = Path(__file__).parents[3]
RUNNER = Path(sys.executable).with_name("ansible-runner")
CONTAINER_PYTHON = ROOT / ".venv" / "container" / "bin" / "python"

pytestmark = pytest.mark.skipif(
    not CONTAINER_PYTHON.exists(), reason="needs the environment container: local/bootstrap.sh container"
)


@dataclass
class Controller:
    """Where AWX keeps a job: a checkout of the project, an inventory, and what came back."""

    aws: Emulator
    directory: Path

    def launch(self, playbook: str, job: str, tags: str = "", **extra_vars: Any) -> list[dict[str, Any]]:
        """Run a playbook by transmit, worker and process; return its events. Tags are passed as AWX does."""
        data = self.directory / job
        (data / "inventory").mkdir(parents=True)
        (data / "env").mkdir()
        shutil.copytree(self.directory / "project", data / "project")
        imported = import_inventory(data / "project", "inventories/local/hosts.yml", data / "env" / "inventory.json")
        write_script(imported, data / "inventory")
        environment = {"DAGSTER_LOCAL_AWS_PORT": str(self.aws.port), "DAGSTER_LOCAL_STATE": str(self.aws.state)}
        (data / "env" / "envvars").write_text(json.dumps(environment), encoding="utf-8")
        (data / "env" / "extravars").write_text(json.dumps(extra_vars), encoding="utf-8")
        if tags:
            (data / "env" / "cmdline").write_text(f"-t {tags}", encoding="utf-8")
        bin_first = {"PATH": f"{RUNNER.parent}:{clean_environment()['PATH']}"}
        # Each reads what the one before has written, as over AWX's mesh.
        stream = b""
        for step in (
            ["transmit", str(data), "-p", playbook, "-i", job],
            ["worker", "--private-data-dir", str(self.directory / f"{job}-worker")],
            ["process", str(data), "-i", job],
        ):
            done = subprocess.run(
                [str(RUNNER), *step],
                input=stream,
                cwd=self.directory,
                env=clean_environment() | bin_first,
                capture_output=True,
                check=False,
            )
            stream = done.stdout
        artifacts = data / "artifacts" / job
        said = (artifacts / "stdout").read_text(encoding="utf-8")
        assert (artifacts / "rc").read_text(encoding="utf-8") == "0", said
        files = sorted((artifacts / "job_events").glob("*.json"), key=lambda file: int(file.name.partition("-")[0]))
        return [json.loads(file.read_text(encoding="utf-8")) for file in files]


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    directory = tmp_path_factory.mktemp("controller")
    for name in project_files(ROOT):
        target = directory / "project" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    with emulator(directory) as aws:
        yield Controller(aws, directory)


def stats(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what AWX takes from the end of a job: counters, and what it hands to the next node of a workflow."""
    (last,) = [event for event in events if event["event"] == "playbook_on_stats"]
    return dict(last["event_data"])


def test_site_and_deploy_dags_run_from_an_imported_inventory(controller: Controller) -> None:
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
    s3 = controller.aws.client("s3")
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
