"""A PostgreSQL and an emulator of the tests' own: state directory and ports of their own, stopped afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from local import postgres, services
from local.settings import Settings, free_ports


def own_settings(state: Path) -> Settings:
    """Settings with free ports."""
    aws, ui, database = free_ports(3)
    return Settings(state, aws, ui, database)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A running PostgreSQL and AWS emulator."""
    chosen = own_settings(tmp_path_factory.mktemp("local") / "state")
    try:
        postgres.start(chosen)
        services.EMULATOR.start(chosen)
        yield chosen
    finally:
        services.EMULATOR.stop(chosen)
        postgres.stop(chosen)
        postgres.remove(chosen)
