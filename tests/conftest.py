"""How tests are shared out to processes (`pytest -n 3 --dist loadfile --no-loadscope-reorder`), and their signals."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from ansible.plugins.loader import init_plugin_loader
from xdist.scheduler import LoadScopeScheduling

HERE = Path(__file__).parent

# As the command line does, before anything of a collection is imported: actions and templates run in this process, too.
init_plugin_loader()

# A shell without job control starts what runs in the background with this signal ignored, and so would be what tests
# start: Ctrl-C would not end it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LONGEST_FIRST = (
    "e2e",
    "image",
    "integration/topologies",
    "integration/secrets",
    "integration/destroy",
    "integration/aws_base",
    "integration/operations",
    "integration/runtime",
    "integration/plan",
    "integration",
)
"""So that no process is left alone with a long one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long ones first."""

    def place(item: pytest.Item) -> int:
        file = item.path.relative_to(HERE).as_posix()
        return next((at for at, name in enumerate(LONGEST_FIRST) if file.startswith(f"{name}/")), len(LONGEST_FIRST))

    items.sort(key=place)


class Together(LoadScopeScheduling):  # type: ignore[misc]
    """Keeps the tests of a file in one process, for what they share; those of e2e/, and of image/, share a platform."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((place for place in ("tests/e2e", "tests/image") if file.startswith(f"{place}/")), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    """Take the place of the scheduler that `--dist` names."""
    return Together(config, log)
