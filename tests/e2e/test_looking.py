"""status, logs, doctor and open on a running platform, as somebody who may look and change nothing: IAM is enforced."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.dagster_client import wait_for
from tests.e2e.platform_under_test import PLAYBOOK, REPOSITORY, Platform
from tests.integration.deployer.identity import as_profile, make_user

pytestmark = pytest.mark.e2e

Look = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def look(platform: Platform) -> Look:
    """Return a function that runs a playbook, as make does, with the policy `operator` only: exit code and outputs."""
    platform.deploy()
    policies, profile = platform.state.with_name("operator"), platform.state.with_name("operator.cfg")
    platform.run(str(PLAYBOOK), "playbooks/deployer_policy.yml", "-e", f"deployer_policy_directory={policies}")
    document = json.loads((policies / "operator.json").read_text(encoding="utf-8"))
    make_user(platform.aws("iam"), "operator", {"operator": document}, profile)
    identity = as_profile(profile, f"http://127.0.0.1:{platform.aws_port}")

    def run(verb: str, *arguments: str) -> tuple[int, str, str]:
        with start(platform, verb, *identity, *arguments) as process:
            output, errors = process.communicate(timeout=120)
        platform.outputs.append(output + errors)
        return process.returncode, output, errors

    return run


def start(platform: Platform, verb: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(PLAYBOOK), f"playbooks/{verb}.yml", *arguments],
        cwd=REPOSITORY,
        env={**platform.environment, "ANSIBLE_STDOUT_CALLBACK": "platform_report"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_status(platform: Platform, look: Look) -> None:
    """What the tasks and the webserver say of themselves is there within a minute or two, and all is well."""

    def asked() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(look("status", "-e", "status_format=json")[1])
        return found

    report = wait_for(
        "a healthy platform whose daemons are known",
        asked,
        until=lambda seen: seen["healthy"] and seen["daemons_and_runs"] is not None,
        seconds=180,
    )
    current = json.loads(
        platform.aws("s3").get_object(Bucket="dagster-local-dags-123456789012", Key="releases/current")["Body"].read()
    )["release"]
    assert {(task["service"], task["release"], task["state"]) for task in report["tasks"]} == {
        ("webserver", current, "serving"),
        ("daemon", current, "serving"),
    }
    assert [(each["name"], each["running"], each["rollout"]) for each in report["services"]] == [
        ("daemon", 1, "COMPLETED"),
        ("webserver", 1, "COMPLETED"),
    ]
    assert report["daemons_and_runs"]["daemon_heartbeats"]["SCHEDULER"] is not None
    assert report["database"]["status"] == "available"
    assert report["file_system"]["status"] == "available"
    assert report["deploys"][0]["release"] == current
    assert {each["health"] for each in report["processes"]} == {"answers"}
    assert report["unread"] == {}

    shown = platform.make("status").splitlines()
    assert shown[0].endswith("healthy")
    assert any(line.startswith("webserver ") and current in line and " serving " in line for line in shown)


def test_who_may_not_look_is_told_what_it_takes(platform: Platform) -> None:
    with start(platform, "status", *platform.publisher()) as process:
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "database: cannot be read. AWS refuses DescribeDBInstances" in output
    assert "operator.json" in output
    assert "The platform dagster-local is not healthy: " in errors


def test_logs(platform: Platform, look: Look) -> None:
    run = platform.ui.launch("main", assets=sorted(platform.ui.assets("main"))[:1])
    assert platform.ui.wait_run(run) == "SUCCESS"

    def lines(*arguments: str) -> list[str]:
        return look("logs", *arguments)[1].splitlines()

    about_the_run = wait_for("lines about the run", lambda: lines("-e", f"logs_run={run}"))
    assert all(line.startswith("daemon ") for line in about_the_run)
    assert any(f"run_started run_id={run}" in line for line in about_the_run)
    told = [json.loads(line) for line in lines("-e", "logs_service=web logs_grep=release_state logs_format=json")]
    assert {line["service"] for line in told} == {"webserver"}
    assert {line["line"]["event"] for line in told} == {"release_state"}


def test_following_logs_ends_with_an_interrupt(platform: Platform) -> None:
    with start(platform, "logs", "-e", "logs_follow=true logs_since=3d logs_grep=supervisor_started") as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        try:
            _, errors = interrupted(process)
        finally:
            process.kill()  # if it has not ended
    assert "Traceback" not in errors
    assert process.returncode in {99, -signal.SIGINT}, "which make logs takes for its end"


def interrupted(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Press Ctrl-C, again if it seems to be ignored, and return what was written.

    A terminal sends it to all processes of the foreground. ansible-core waits forever for a process that the first one
    has ended in the middle of a message to it; the second one ends it.
    """
    os.killpg(process.pid, signal.SIGINT)
    try:
        return process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGINT)
        return process.communicate(timeout=30)


def test_doctor(look: Look) -> None:
    code, output, errors = look("doctor", "-e", "doctor_format=json")
    checks = {check["name"]: check for check in json.loads(output)["checks"]}
    assert (code, errors) == (0, ""), output
    for name in ("Python", "Versions", "Settings", "Instance", "Account", "Memory", "UI exposure"):
        assert checks[name]["state"] == "ok", checks[name]
    assert sum(name.startswith("Port ") for name in checks) == 3
    assert checks["Image"]["state"] == "not checked"


def test_open(platform: Platform, look: Look) -> None:
    assert platform.make("open").splitlines() == [f"http://127.0.0.1:{platform.ui_port}"]
    # Where nobody knows the address, AWS does.
    code, output, _ = look("open", "-e", "dags_ui_url= open_browser=false open_format=json")
    found = json.loads(output)
    assert (code, found["internal"], found["opened"]) == (0, True, False)
    assert found["url"].startswith("http://")
    assert any("10.42.0.0/16" in hint for hint in found["hints"])
