"""The tasks as containers of the image, at the size that a small team pays for: 0.25 vCPU and 512 MB."""

from __future__ import annotations

import functools
import os
import re
from typing import Any

import psutil
import pytest

from local.runner.task import UNHEALTHY
from module_utils.dag_publish import create_store, make_plan, publish, read_current, read_origin
from module_utils.dag_tree import read_tree
from tests.e2e.dagster_client import wait_for
from tests.e2e.platform_under_test import PLAYBOOK, Platform, Probe
from tests.image.engine import Container, Engine
from tests.integration.release.support import aws_environment

pytestmark = pytest.mark.e2e

SERVICES = {"webserver", "daemon"}
SWAPS = int(os.environ.get("IMAGE_SWAPS", "50"))


@pytest.fixture
def containers(engine: Engine, platform: Platform) -> dict[str, Container]:
    """The containers that run now, by service."""
    return running(engine, platform)


def running(engine: Engine, platform: Platform) -> dict[str, Container]:
    found = Container.all_of(engine, platform.state)
    assert found.keys() == SERVICES
    return found


def definition(platform: Platform, service: str) -> dict[str, Any]:
    """Return what ECS was asked to run."""
    ecs = platform.aws("ecs")
    (found,) = ecs.describe_services(cluster="dagster-local", services=[service])["services"]
    document: dict[str, Any] = ecs.describe_task_definition(taskDefinition=found["taskDefinition"])["taskDefinition"]
    return document


def task(platform: Platform, container: Container) -> dict[str, Any]:
    """Return what ECS knows of the task of a container, which may have stopped."""
    arn = container.details["Config"]["Labels"]["dagster-local.task"]
    (found,) = platform.aws("ecs").describe_tasks(cluster="dagster-local", tasks=[arn])["tasks"]
    return dict(found)


def replaced(engine: Engine, platform: Platform, service: str, before: Container) -> Container:
    """Wait until a service has another container, which serves."""

    def other() -> Container | None:
        found = Container.all_of(engine, platform.state).get(service)
        return found if found and found.id != before.id and found.health().get("status") == "serving" else None

    after: Container = wait_for(f"another {service}", other, seconds=300)
    return after


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_the_engine_keeps_what_the_task_definition_says(
    platform: Platform, containers: dict[str, Container], service: str
) -> None:
    asked, details = definition(platform, service), containers[service].details
    (container,), host = asked["containerDefinitions"], details["HostConfig"]
    assert (asked["cpu"], asked["memory"]) == ("256", "512")
    assert host["NanoCpus"] == int(asked["cpu"]) * 10**9 // 1024
    assert host["Memory"] == host["MemorySwap"] == int(asked["memory"]) * 2**20
    assert host["ReadonlyRootfs"] is container["readonlyRootFilesystem"] is True
    assert host["CapDrop"] == container["linuxParameters"]["capabilities"]["drop"] == ["ALL"]
    assert host["CapAdd"] in (None, [])
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["Init"] is container["linuxParameters"]["initProcessEnabled"] is True
    assert details["Config"]["User"] == container["user"] == "10001:10001"
    assert details["Config"]["StopTimeout"] == container["stopTimeout"]
    assert {mount["Destination"] for mount in details["Mounts"] if mount["RW"]} == {
        mount["containerPath"] for mount in container["mountPoints"]
    }
    assert details["Config"]["Image"] == container["image"]


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_nothing_can_be_written_but_what_is_declared(containers: dict[str, Container], service: str) -> None:
    places = "/tmp /run/dagster /var/lib/dagster /mnt/dagster / /opt/dagster /opt/venv /etc /run /var/tmp /dev/shm"
    code = (
        "import os, tempfile\n"
        f"for place in {places.split()!r}:\n"
        "    try:\n        tempfile.TemporaryFile(dir=place).close(); print(place)\n    except OSError: pass\n"
        "print(os.getuid(), os.getgid(), *os.getgroups())\n"
    )
    # Docker's own /dev/shm is memory, as it is on Fargate.
    *writable, identity = containers[service].python(code).splitlines()
    assert writable == ["/tmp", "/run/dagster", "/var/lib/dagster", "/mnt/dagster", "/dev/shm"]
    assert identity == "10001 10001 10001"


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_what_loses_its_parent_is_reaped(containers: dict[str, Container], service: str) -> None:
    """A process whose parent has ended belongs to process 1, which must fetch its exit code."""
    code = (
        "import os, pathlib, time\n"
        "if not (child := os.fork()):\n"
        "    if not (orphan := os.fork()):\n        time.sleep(0.5); os._exit(0)\n"
        "    print(orphan, flush=True); os._exit(0)\n"
        "os.waitpid(child, 0)\n"
    )
    orphan = int(containers[service].python(code))
    there = f"import os; print(os.path.exists('/proc/{orphan}'))"
    wait_for("the orphan to be gone", lambda: containers[service].python(there) == "False\n")


def test_no_password_is_in_a_command_line_or_in_the_image(engine: Engine, containers: dict[str, Container]) -> None:
    password = containers["webserver"].variables["DAGSTER_POSTGRES_PASSWORD"]
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert any(containers["webserver"].details["Name"].strip("/") in line for line in lines), "the client is looked at"
    assert not [line for line in lines if password in line]
    image = containers["webserver"].details["Config"]["Image"]
    made = engine.run("image", "inspect", image) + engine.run("image", "history", "--no-trunc", image)
    assert password not in made
    assert not re.search(r"AKIA|PASSWORD|SECRET|_TOKEN", made)


def test_the_tasks_became_healthy_in_the_time_that_is_given_to_them(platform: Platform) -> None:
    """A task whose checks go on failing after the start period is stopped for it; none was."""
    ecs = platform.aws("ecs")
    arns = ecs.list_tasks(cluster="dagster-local")["taskArns"]
    tasks = ecs.describe_tasks(cluster="dagster-local", tasks=arns)["tasks"]
    assert [each["healthStatus"] for each in tasks] == ["HEALTHY", "HEALTHY"]
    assert ecs.list_tasks(cluster="dagster-local", desiredStatus="STOPPED")["taskArns"] == []


def test_up_again_builds_and_changes_nothing(
    engine: Engine, platform: Platform, containers: dict[str, Container]
) -> None:
    output = platform.make("up")
    assert "which was built before" in output
    assert set(re.findall(r"changed=(\d+)", output)) == {"0"}
    assert {name: each.id for name, each in running(engine, platform).items()} == {
        name: each.id for name, each in containers.items()
    }
    assert "healthy" in platform.make("status").splitlines()[0]


def test_what_a_killed_runner_leaves_is_found(engine: Engine, platform: Platform) -> None:
    """Containers outlive their runner; the next `make up` stops them and starts others."""
    before = running(engine, platform)
    runners = [each for each in psutil.process_iter(["cmdline"]) if "local.runner" in (each.info["cmdline"] or ())]
    (runner,) = [each for each in runners if each.environ().get("DAGSTER_LOCAL_STATE") == str(platform.state)]
    runner.kill()
    runner.wait(10)
    assert set(re.findall(r"changed=(\d+)", platform.make("up"))) == {"0"}
    after = running(engine, platform)
    assert not {each.id for each in before.values()} & {each.id for each in after.values()}


def test_an_edited_dag_appears_and_runs(engine: Engine, platform: Platform, containers: dict[str, Container]) -> None:
    file = platform.tree / "main" / "assets.py"
    added = "\n\n@dg.asset\ndef contained() -> dg.MaterializeResult:\n"
    added += (
        '    from pathlib import Path\n\n    told = Path("/proc/self/cgroup").exists() and Path("/opt/venv").is_dir()\n'
    )
    added += '    return dg.MaterializeResult(metadata={"in the image": str(told)})\n'
    file.write_text(file.read_text(encoding="utf-8") + added, encoding="utf-8")
    with Probe(platform.ui, "main") as probe:
        platform.deploy()
        wait_for("the new asset in the UI", lambda: "contained" in platform.ui.assets("main"))
        run = platform.ui.launch("main", assets=["contained"])
        assert platform.ui.wait_run(run, 400) == "SUCCESS"
    assert platform.ui.materialization_texts(run) == {"contained.in the image": "True"}
    assert probe.failures == []
    assert {name: each.id for name, each in running(engine, platform).items()} == {
        name: each.id for name, each in containers.items()
    }
    # What the code has printed can be read by whoever cannot log in to a container.
    assert "release_state" in platform.make("logs")


@pytest.fixture
def publisher(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """The platform, in whose account this process publishes without Ansible."""
    for name, value in aws_environment(f"http://127.0.0.1:{platform.aws_port}").items():
        monkeypatch.setenv(name, value)
    return platform


def test_swap_after_swap_nothing_is_killed_for_want_of_memory(engine: Engine, publisher: Platform) -> None:
    """New tasks, which look for a release every second, go through IMAGE_SWAPS (50) of them."""
    before = running(engine, publisher)
    publisher.run(str(PLAYBOOK), "site.yml", "-e", "ecs_poll_seconds=1")
    tasks = {service: replaced(engine, publisher, service, before[service]) for service in SERVICES}
    wait_for("the old tasks to be gone", lambda: len(publisher.running_tasks()) == 2)
    store = create_store("dagster-local-dags-123456789012")
    file = publisher.tree / "main" / "assets.py"
    text = file.read_text(encoding="utf-8")
    for number in range(SWAPS):
        file.write_text(f"{text}\n\n@dg.asset\ndef swap_{number}() -> None: ...\n", encoding="utf-8")
        plan = make_plan(store, read_tree(str(publisher.tree)), read_current(store))
        release = publish(store, plan, read_origin(publisher.tree)).pointer.release
        for service, each in tasks.items():
            wait_for(f"{service} to serve {release}, number {number}", functools.partial(each.serves, release))
    wait_for("the last asset in the UI", lambda: f"swap_{SWAPS - 1}" in publisher.ui.assets("main"))
    for service, each in tasks.items():
        print(f"{service}: at most {each.highest_memory() / 2**20:.0f} MiB charged in {SWAPS} swaps")
        assert each.killed_for_memory() == 0
    assert {name: each.id for name, each in running(engine, publisher).items()} == {
        name: each.id for name, each in tasks.items()
    }
    run = publisher.ui.launch("main", assets=[f"swap_{SWAPS - 1}"])
    assert publisher.ui.wait_run(run, 400) == "SUCCESS"


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_a_task_that_is_asked_to_stop_stops_by_itself(
    engine: Engine, platform: Platform, containers: dict[str, Container], service: str
) -> None:
    """Within `stopTimeout`, after which ECS kills it: that would be exit code 137."""
    container = containers[service]
    engine.run("stop", "--time", str(container.details["Config"]["StopTimeout"]), container.id)
    replaced(engine, platform, service, container)
    assert [each.get("exitCode") for each in task(platform, container)["containers"]] == [0]


def test_a_task_that_hangs_is_found_unhealthy_and_replaced(
    engine: Engine, platform: Platform, containers: dict[str, Container]
) -> None:
    hanging = containers["webserver"]
    code = (
        "import os, pathlib, signal\n"
        "for place in pathlib.Path('/proc').glob('[0-9]*/cmdline'):\n"
        "    words = place.read_bytes().split(b'\\0')\n"
        "    if words[:3] == [b'python', b'-m', b'dagster_ecs_runtime']:\n"
        "        os.kill(int(place.parent.name), signal.SIGSTOP); print(place)\n"
    )
    # Once a check has succeeded, the next that fail count; before, only after the start period.
    wait_for("a first check", lambda: task(platform, hanging)["healthStatus"] == "HEALTHY")
    assert len(hanging.python(code).splitlines()) == 1
    replaced(engine, platform, "webserver", hanging)
    wait_for("the hanging task to be gone", lambda: task(platform, hanging)["lastStatus"] == "STOPPED")
    assert task(platform, hanging)["stoppedReason"] == UNHEALTHY
    wait_for("the UI", lambda: (location := platform.ui.locations().get("main")) and location.error is None)
