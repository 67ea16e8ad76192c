"""The execution environment of AWX, built from its definition, and jobs of AWX in containers of it.

The platform is the one of this directory: the jobs run beside it, and reach the emulator by the network of the machine.
"""

from __future__ import annotations

import os
import shlex
import subprocess

import pytest

from tests.awx.jobs import Controller, stats
from tests.e2e.dagster_client import wait_for
from tests.e2e.platform_under_test import Platform
from tests.image.engine import ROOT, Engine

IMAGE = "dagster-ecs-ee:test"
ASSET = """

@dg.asset
def from_awx() -> None: ...
"""


@pytest.fixture(scope="module")
def image(engine: Engine, settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The execution environment, built as docs/awx.md says."""
    base = settings["DAGSTER_IMAGE_BASE"]
    arguments = []
    if base:
        # The official image has Python with pip below /usr/local; the stand-in has Debian's.
        subprocess.run(
            [engine.program, "build", "--tag", f"{base}-ee", "-"],
            input=f"FROM {base}\nRUN python3 -m venv /usr/local\n".encode(),
            capture_output=True,
            check=True,
        )
        arguments = ["--build-arg", f"EE_BASE_IMAGE={base}-ee"]
    bundle = os.environ.get("SSL_CERT_FILE", "")
    more = "--network host" + (f" --secret id=ca,src={bundle}" if bundle else "")
    # The client that has an engine comes first, whatever others there are.
    clients = tmp_path_factory.mktemp("bin")
    (clients / "docker").symlink_to(engine.program)
    done = subprocess.run(
        ["make", "--no-print-directory", "awx-image", f"NAME={IMAGE}"],
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
    return IMAGE


@pytest.fixture(scope="module")
def controller(engine: Engine, image: str, platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Controller:
    """AWX, with a project, and with containers for jobs as its container groups make them: nobody in particular."""
    mine = {name: value for name, value in platform.environment.items() if name.startswith("DAGSTER_LOCAL_")}
    controller = Controller(
        tmp_path_factory.mktemp("controller"),
        {**mine, "DAGSTER_LOCAL_STATE": "/runner/state"},
        (engine.program, "run", "--rm", "--interactive", "--network", "host", image),
    )
    controller.check_out()
    return controller


def test_site_and_deploy_dags_run_in_it(controller: Controller, platform: Platform) -> None:
    """Site finds the platform as `make up` has made it; the tasks serve what the project's DAGs have become."""
    site = controller.launch("playbooks/site.yml", "site")
    changed = {event["event_data"]["role"] for event in site if event["event_data"].get("res", {}).get("changed")}
    assert changed == {"image"}, "files that go with the job's container"
    file = controller.directory / "project" / "dags" / "main" / "assets.py"
    file.write_text(file.read_text(encoding="utf-8") + ASSET, encoding="utf-8")
    deployed = controller.launch(
        "playbooks/deploy_dags.yml",
        "deploy",
        awx_job_id=17,
        awx_user_name="somebody of AWX",
        dag_release_validate_python="/opt/dagster/bin/python",
        dag_release_wait_timeout="600",
    )
    handed_on = stats(deployed)["artifact_data"]
    assert handed_on["dag_release_converged"] is True
    assert "+ asset main: from_awx" in handed_on["dag_release_summary"]
    wait_for("the asset in the UI", lambda: "from_awx" in platform.ui.assets("main"))
    again = controller.launch(
        "playbooks/deploy_dags.yml", "again", dag_release_validate_python="/opt/dagster/bin/python"
    )
    assert stats(again)["changed"] == {}
    assert stats(again)["artifact_data"]["dag_release_id"] == handed_on["dag_release_id"]
    assert "somebody of AWX" in platform.make("dags-history")


def test_it_has_no_key_and_runs_as_nobody_in_particular(engine: Engine, image: str) -> None:
    ran = engine.run("run", "--rm", image, "sh", "-c", "id -u; ls -a /tmp /root 2>&1; env")
    assert ran.startswith("1000\n")
    assert "AWS_" not in ran
    assert "locks" not in ran
