"""One image and one platform of containers for all tests here; without a container engine they are skipped."""

from __future__ import annotations

import platform as machine
from collections.abc import Iterator

import pytest

from tests.e2e.platform_under_test import Platform
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
