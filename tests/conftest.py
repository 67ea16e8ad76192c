"""How the tests are shared out to processes (`pytest -n 3 --dist loadgroup`)."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent

LONGEST_FIRST = (
    "e2e",
    "integration/topologies",
    "integration/secrets",
    "integration/destroy",
    "integration/aws_base",
    "integration/runtime",
    "integration/plan",
    "integration",
)
"""So that no process is left alone with a long one at the end."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file together, for what they share; those of e2e/ share one platform."""

    def place(item: pytest.Item) -> int:
        file = item.path.relative_to(HERE).as_posix()
        return next((at for at, name in enumerate(LONGEST_FIRST) if file.startswith(f"{name}/")), len(LONGEST_FIRST))

    items.sort(key=place)
    for item in items:
        file = item.path.relative_to(HERE).as_posix()
        item.add_marker(pytest.mark.xdist_group("e2e" if file.startswith("e2e/") else file))
