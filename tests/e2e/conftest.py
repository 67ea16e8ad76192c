"""One platform for all end-to-end tests, brought up by `make up` and removed by `make clean`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.platform_under_test import Platform


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A running platform with the example DAGs deployed."""
    under_test = Platform.create(tmp_path_factory.mktemp("e2e"))
    try:
        under_test.make("up")
        yield under_test
    finally:
        under_test.make("clean")
