"""The image for ARM64, which production runs, built on another processor and started under emulation.

Takes ten minutes where no image registry can be reached, so it is run on demand: IMAGE_ARM64=1.
"""

from __future__ import annotations

import os
import platform as machine
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from module_utils.image_build import PLATFORMS, Docker, Image, architecture
from module_utils.image_push import Registry, push
from tests.e2e.dagster_client import wait_for
from tests.e2e.platform_under_test import PLAYBOOK, Platform, free_ports, port_answers
from tests.image.engine import BASE, Engine, UnavailableError

pytestmark = pytest.mark.e2e

EMULATION = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")


@pytest.fixture(scope="module")
def base(engine: Engine, settings: dict[str, str], registry: str) -> str:
    """A base image for both processors: the Dockerfile's own, or an index of two stand-ins."""
    if not os.environ.get("IMAGE_ARM64"):
        pytest.skip("IMAGE_ARM64=1 runs it; ten minutes under emulation")
    if machine.machine() not in {"aarch64", "arm64"} and not EMULATION.exists():
        pytest.skip("the kernel runs no programs for ARM64. Debian: apt-get install qemu-user-static binfmt-support")
    if not settings["DAGSTER_IMAGE_BASE"]:
        return ""
    image = Image(f"{registry}/base", "1", base="", version="", revision="")
    for each in PLATFORMS:
        try:
            engine.stand_in(f"{BASE}:{architecture(each)}", architecture(each), seconds=1500)
        except UnavailableError as error:
            pytest.skip(str(error))
        engine.run("tag", f"{BASE}:{architecture(each)}", image.name(each))
    push(Docker(engine.program), Registry(image.repository), image, PLATFORMS)
    return f"{image.repository}:1"


@pytest.fixture(scope="module")
def image(
    engine: Engine, base: str, settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The image for ARM64, built together with that for amd64."""
    builder = Platform.create(tmp_path_factory.mktemp("arm64"), settings={**settings, "DAGSTER_IMAGE_BASE": base or ""})
    output = builder.run(
        str(PLAYBOOK), "playbooks/build.yml", "-e", '{"image_platforms": ["linux/arm64", "linux/amd64"]}'
    )
    found = re.search(r"The image is (\S+) \(linux/arm64, linux/amd64\)", output)
    assert found
    yield f"{found[1]}-arm64"
    for each in PLATFORMS:
        engine.run("image", "rm", f"{found[1]}-{architecture(each)}")


def test_it_is_for_arm64_and_has_everything(engine: Engine, image: str) -> None:
    assert engine.run("image", "inspect", "--format", "{{.Os}}/{{.Architecture}}", image).strip() == "linux/arm64"
    code = (
        "import dagster, dagster_aws, dagster_ecs_runtime.supervisor, dagster_postgres, dagster_webserver, grpc, "
        "obstore, platform, psycopg2, uvloop; print(platform.machine(), dagster.__version__)"
    )
    ran = engine.run(
        "run", "--rm", "--platform", "linux/arm64", "--entrypoint", "python", image, "-c", code, seconds=600
    )
    assert ran.split()[0] == "aarch64"


def test_its_webserver_starts(engine: Engine, image: str) -> None:
    (port,) = free_ports(1)
    command = f"cd /tmp && echo 'load_from: []' > w.yaml && exec dagster-webserver -h 127.0.0.1 -p {port} -w w.yaml"
    name = engine.run(
        *("run", "--detach", "--platform", "linux/arm64", "--network", "host", "--read-only", "--cap-drop", "ALL"),
        *("--entrypoint", "sh", image, "-c", command),
    ).strip()

    def running() -> bool:
        return engine.run("inspect", "--format", "{{.State.Running}}", name).strip() == "true"

    try:
        wait_for("the web UI, or its end", lambda: port_answers(port) or not running(), seconds=600)
        assert running(), engine.ask("logs", name)
    finally:
        engine.run("rm", "--force", "--volumes", name)
