"""One image and one platform of containers for all tests here; without a container engine they are skipped."""

from __future__ import annotations

import platform as machine
import shutil
import subprocess
from collections.abc import Iterator

import pytest
import yaml

from tests.e2e.dagster_client import wait_for
from tests.e2e.platform_under_test import Platform, free_ports, port_answers
from tests.image.engine import Engine, UnavailableError


@pytest.fixture(scope="session")
def engine() -> Engine:
    if machine.system() != "Linux":
        pytest.skip("containers reach emulator and database by the network of the machine, which needs Linux")
    try:
        return Engine.find()
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def settings(engine: Engine) -> dict[str, str]:
    """Variables of the environment for a build, as a user sets them."""
    try:
        base = engine.base()
    except UnavailableError as error:
        pytest.skip(str(error))
    # The way to the package index may be a proxy on this machine.
    return {"DAGSTER_IMAGE_BASE": base, "DAGSTER_IMAGE_NETWORK": "host"}


@pytest.fixture(scope="session")
def platform(engine: Engine, settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A running platform whose tasks are containers, with the example DAGs deployed."""
    under_test = Platform.create(tmp_path_factory.mktemp("image"), settings={"RUNTIME": "docker", **settings})
    mine = f"label=dagster-local.state={under_test.state}"
    try:
        under_test.make("up")
        yield under_test
    finally:
        under_test.make("clean")
        assert engine.run("ps", "--all", "--quiet", "--filter", mine) == ""
        assert engine.run("volume", "ls", "--quiet", "--filter", mine) == ""


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an empty registry on the loopback interface."""
    program = shutil.which("docker-registry") or shutil.which("registry")
    if not program:
        pytest.skip("there is no registry to push to. Debian: apt-get install docker-registry")
    base, (port,) = tmp_path_factory.mktemp("registry"), free_ports(1)
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(base / "data")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (base / "config.yml").write_text(yaml.safe_dump(settings))
    with (
        (base / "log").open("w") as log,
        subprocess.Popen([program, "serve", base / "config.yml"], stdout=log, stderr=log) as process,
    ):
        try:
            wait_for("the registry", lambda: port_answers(port))
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
