"""The task runner against the emulator, with real processes."""

from __future__ import annotations

import json
import os
import threading
import urllib.error
from pathlib import Path
from typing import Any

import pytest

from tests.integration.local_runner.platform import CLUSTER, Emulator, Runner, wait_for


def task_id(task: dict[str, Any]) -> str:
    return str(task["taskArn"]).rsplit("/", 1)[-1]


def test_a_task_gets_what_its_definition_says_and_nothing_else(runner: Runner, emulator: Emulator) -> None:
    secrets, ssm = emulator.client("secretsmanager"), emulator.client("ssm")
    secret = secrets.create_secret(Name=f"db-{runner.ui_port}", SecretString='{"password": "3000", "user": "u"}')["ARN"]
    ssm.put_parameter(Name=f"/p/{runner.ui_port}", Value="hush", Type="SecureString")
    definition = runner.register(
        {"DATA": "/var/lib/dagster/x", "SOCKETS": "/run/dagster", "IMAGE": "/opt/dagster", "KEY": "s3://b/run/dagster"},
        secrets=[
            {"name": "PASSWORD", "valueFrom": f"{secret}:password::"},
            {"name": "WHOLE", "valueFrom": secret},
            {"name": "PARAMETER", "valueFrom": f"/p/{runner.ui_port}"},
        ],
        mountPoints=[
            {"sourceVolume": "releases", "containerPath": "/var/lib/dagster"},
            {"sourceVolume": "run", "containerPath": "/run/dagster"},
        ],
    )
    service = runner.create_service(definition)
    (task,) = runner.wait_healthy(service)
    info = runner.info(task)
    environment = info["environment"]

    # A password is not a port, whatever it looks like.
    assert environment["PASSWORD"] == "3000"
    assert json.loads(environment["WHOLE"]) == {"password": "3000", "user": "u"}
    assert environment["PARAMETER"] == "hush"
    assert environment["APP_HOST"] == "127.0.0.1"
    assert environment["APP_PORT"] == str(runner.port(task)) != "3000"
    assert Path(environment["DATA"]).parent.is_dir()
    assert Path(environment["DATA"]).is_relative_to(runner.state)
    assert len(os.fsencode(f"{environment['SOCKETS']}/0123456789abcdef.sock")) <= 100
    assert Path(environment["SOCKETS"]).stat().st_mode & 0o777 == 0o700
    assert environment["IMAGE"] == str(runner.image)
    assert environment["KEY"] == "s3://b/run/dagster"
    assert environment["AWS_ENDPOINT_URL"] == f"http://127.0.0.1:{emulator.port}"
    assert environment["HOME"] == str(runner.state / "tasks" / task_id(task))
    assert not {"UNRELATED", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "PYTHONPATH"} & environment.keys()
    assert info["metadata"]["TaskARN"] == task["taskArn"]
    assert info["metadata"]["Cluster"].endswith(f"cluster/{CLUSTER}")
    assert Path(environment["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]).stat().st_mode & 0o777 == 0o600
    assert "hush" not in runner.log()


def test_credentials_come_from_the_task_role_and_need_the_token(runner: Runner) -> None:
    service = runner.create_service(runner.register())
    (task,) = runner.wait_healthy(service)
    assert runner.request("/identity", port=runner.port(task)) == (
        f"arn:aws:sts::123456789012:assumed-role/task/{task_id(task)}"
    )
    url = runner.info(task)["environment"]["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(url)


def test_an_unhealthy_task_is_replaced(runner: Runner) -> None:
    service = runner.create_service(runner.register())
    (sick,) = runner.wait_healthy(service)
    runner.request("/sick", method="POST")
    wait_for(lambda: runner.tasks(service, "STOPPED"), "the end of the unhealthy task")
    (new,) = runner.wait_healthy(service)
    assert new["taskArn"] != sick["taskArn"]
    (stopped,) = runner.tasks(service, "STOPPED")
    assert stopped["taskArn"] == sick["taskArn"]
    assert stopped["stoppedReason"] == "Task failed container health checks"


def test_a_dead_task_is_replaced_and_its_children_end(runner: Runner) -> None:
    service = runner.create_service(runner.register())
    (dead,) = runner.wait_healthy(service)
    child = runner.info(dead)["child"]
    runner.request("/exit", method="POST")
    (stopped,) = wait_for(lambda: runner.tasks(service, "STOPPED"), "the end of the task")
    assert stopped["stoppedReason"] == "Essential container in task exited"
    assert stopped["containers"][0]["exitCode"] == 3
    assert child not in {process.pid for process in runner.session_members()}
    assert not (runner.state / "tasks" / task_id(dead)).exists()
    (new,) = runner.wait_healthy(service)
    assert new["taskArn"] != dead["taskArn"]


def test_a_task_that_somebody_stops_is_replaced(runner: Runner) -> None:
    service = runner.create_service(runner.register())
    (task,) = runner.wait_healthy(service)
    runner.ecs.stop_task(cluster=CLUSTER, task=task["taskArn"], reason="because")
    (stopped,) = wait_for(
        lambda: [each for each in runner.tasks(service, "STOPPED") if each["lastStatus"] == "STOPPED"], "its end"
    )
    assert (stopped["stoppedReason"], stopped["containers"][0]["exitCode"]) == ("because", 0)
    assert runner.wait_healthy(service)[0]["taskArn"] != task["taskArn"]


def test_a_missing_image_is_said_and_tried_again(runner: Runner) -> None:
    runner.remove_image()
    service = runner.create_service(runner.register())
    stopped = wait_for(lambda: runner.tasks(service, "STOPPED"), "a failed start")[0]
    assert stopped["stoppedReason"] == (
        f"TaskFailedToStart: CannotStartContainerError: no executable {runner.image}/app: the files of the image are "
        f"not rendered yet; `site.yml` renders them into {runner.image}"
    )
    runner.render_image()
    runner.wait_healthy(service)


def test_scales_up_and_down(runner: Runner) -> None:
    service = runner.create_service(runner.register())
    (first,) = runner.wait_healthy(service)
    runner.update(service, desiredCount=2)
    both = runner.wait_healthy(service, 2)
    assert runner.port(both[0]) != runner.port(both[1])
    runner.update(service, desiredCount=1)
    assert [task["taskArn"] for task in runner.wait_healthy(service)] == [first["taskArn"]]
    runner.update(service, desiredCount=0)
    wait_for(lambda: not runner.session_members(), "the end of the last task")


def test_rolls_healthy_first_while_the_forwarder_answers(runner: Runner) -> None:
    service = runner.create_service(runner.register({"VERSION": "1"}))
    runner.wait_healthy(service)
    versions: list[str] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                versions.append(json.loads(runner.request())["environment"]["VERSION"])
            except (OSError, ValueError) as error:
                versions.append(repr(error))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        wait_for(lambda: versions, "a first answer")
        second = runner.register({"VERSION": "2"})
        runner.update(service, taskDefinition=second)
        runner.wait_complete(service, second)
        seen = len(versions)
        wait_for(lambda: len(versions) > seen + 3, "answers after the roll")
    finally:
        done.set()
        asking.join()
    # First only 1, then both in turn, then only 2, and never anything else.
    assert set(versions) == {"1", "2"}
    assert (versions[0], versions[-1]) == ("1", "2")
    assert len(runner.session_members()) == 2, "an app and its child"


def test_stop_first_never_runs_two(runner: Runner, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    service = runner.create_service(
        runner.register({"LOCK": str(lock), "VERSION": "1"}), limits=(0, 100), balanced=False
    )
    runner.wait_healthy(service)
    for version in ("2", "3"):
        definition = runner.register({"LOCK": str(lock), "VERSION": version})
        runner.update(service, taskDefinition=definition)
        runner.wait_complete(service, definition)
    runner.update(service, forceNewDeployment=True)
    old = runner.healthy(service)
    wait_for(lambda: runner.healthy(service) not in ([], old), "the forced deployment")
    assert lock.exists()
    assert not lock.with_suffix(".overlap").exists()


def test_a_failed_deployment_is_rolled_back_while_the_old_task_serves(runner: Runner) -> None:
    good = runner.register({"VERSION": "1"})
    service = runner.create_service(good)
    (old,) = runner.wait_healthy(service)
    runner.wait_complete(service, good)
    runner.update(service, taskDefinition=runner.register({"FAIL": "7"}))
    wait_for(lambda: runner.service(service)["taskDefinition"] == good, "the roll-back")
    runner.wait_complete(service, good)
    codes = [
        task["containers"][0].get("exitCode")
        for task in runner.tasks(service, "STOPPED")
        if task["taskArn"] != old["taskArn"]
    ]
    assert codes == [7, 7, 7]


def test_logs_arrive(runner: Runner, emulator: Emulator) -> None:
    service = runner.create_service(runner.register())
    (task,) = runner.wait_healthy(service)
    runner.request("/lines?text=first&text=second", method="POST")
    stream = f"ecs/app/{task_id(task)}"
    logs = emulator.client("logs")

    def messages() -> list[str]:
        events = logs.filter_log_events(logGroupName="/ecs/test", logStreamNames=[stream])["events"]
        return [event["message"] for event in events]

    wait_for(lambda: "second" in messages(), "the lines")
    assert messages() == ["ready", "first", "second"]
    assert (runner.state / "logs" / f"{service}-{task_id(task)[:8]}.log").read_text() == "ready\nfirst\nsecond\n"
    runner.update(service, desiredCount=0)
    wait_for(lambda: messages() == ["ready", "first", "second", "ended"], "the last line")


def test_without_a_healthy_task_the_answer_is_503(runner: Runner) -> None:
    with pytest.raises(urllib.error.HTTPError, match="503") as raised:
        wait_for(lambda: _answer_or_refusal(runner), "the forwarder")
    assert "No healthy webserver task" in raised.value.read().decode()


def _answer_or_refusal(runner: Runner) -> str:
    try:
        return runner.request()
    except urllib.error.HTTPError:
        raise
    except OSError:  # it does not listen yet
        return ""


def test_a_killed_runner_leaves_no_orphan(runner: Runner) -> None:
    service = runner.create_service(runner.register())
    (old,) = runner.wait_healthy(service)
    before = {process.pid for process in runner.session_members()}
    assert len(before) == 2
    runner.kill()
    runner.start()
    (new,) = wait_for(
        lambda: [task for task in runner.healthy(service) if task["taskArn"] != old["taskArn"]], "a new task"
    )
    assert not before & {process.pid for process in runner.session_members()}
    stopped = runner.ecs.describe_tasks(cluster=CLUSTER, tasks=[old["taskArn"]])["tasks"][0]
    assert stopped["lastStatus"] == "STOPPED"
    assert [each.name for each in (runner.state / "tasks").iterdir()] == [task_id(new)]


def test_leftovers_can_be_stopped_without_running_anything(runner: Runner) -> None:
    service = runner.create_service(runner.register())
    runner.wait_healthy(service)
    runner.kill()
    assert runner.session_members()
    assert runner.start("--stop-leftovers").wait() == 0
    assert not runner.session_members()


def test_stopping_the_runner_stops_and_reports_its_tasks(runner: Runner) -> None:
    service = runner.create_service(runner.register())
    (task,) = runner.wait_healthy(service)
    runner.terminate()
    assert not runner.session_members()
    stopped = runner.ecs.describe_tasks(cluster=CLUSTER, tasks=[task["taskArn"]])["tasks"][0]
    assert (stopped["lastStatus"], stopped["containers"][0]["exitCode"]) == ("STOPPED", 0)
    # Its end was no failure: the deployment stays what it was.
    assert runner.service(service)["deployments"][0]["failedTasks"] == 0
    runner.start()
    runner.wait_healthy(service)


def test_two_runners_do_not_share_a_state_directory(runner: Runner) -> None:
    first = runner.process
    wait_for(lambda: "running the services" in runner.log(), "the first runner")
    assert runner.start().wait() == 1
    assert "A task runner works on" in runner.log()
    runner.process = first


def test_tasks_outlive_the_emulator(runner: Runner, emulator: Emulator) -> None:
    service = runner.create_service(runner.register())
    (task,) = runner.wait_healthy(service)
    emulator.stop()
    try:
        wait_for(lambda: "the emulator does not answer" in runner.log(), "the runner's complaint")
        runner.request("/lines?text=meanwhile", method="POST")
    finally:
        emulator.start()
    assert runner.wait_healthy(service)[0]["taskArn"] == task["taskArn"]
    logs, stream = emulator.client("logs"), f"ecs/app/{task_id(task)}"
    wait_for(
        lambda: "meanwhile" in str(logs.filter_log_events(logGroupName="/ecs/test", logStreamNames=[stream])["events"]),
        "the line that was written meanwhile",
    )


def test_an_emulator_that_has_forgotten_everything(runner: Runner, emulator: Emulator) -> None:
    """The old task serves until the services are there again, and is then replaced."""
    service = runner.create_service(runner.register({"VERSION": "1"}))
    (old,) = runner.wait_healthy(service)
    emulator.reset()
    assert json.loads(runner.request())["environment"]["VERSION"] == "1"
    emulator.prepare()
    name = runner.create_service(runner.register({"VERSION": "2"}))
    (new,) = runner.wait_healthy(name)
    wait_for(lambda: json.loads(runner.request())["environment"]["VERSION"] == "2", "the new task behind the port")
    wait_for(lambda: len(runner.session_members()) == 2, "the end of the old task")
    assert new["taskArn"] != old["taskArn"]
