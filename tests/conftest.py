"""How tests are shared out to processes (`pytest -n 3 --dist loadfile --no-loadscope-reorder`), and their signals."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from ansible.plugins.loader import init_plugin_loader
from xdist.scheduler import LoadScopeScheduling

from tests import times

# As the command line does, before anything of a collection is imported: actions and templates run in this process, too.
init_plugin_loader()

# A shell without job control starts what runs in the background with this signal ignored, and so would be what tests
# start: Ctrl-C would not end it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest first, by tests/times.tsv, so that no process is left alone with a long one at the end.

    A file that the table does not know yet comes before all others.
    """
    seconds = times.load()

    def place(item: pytest.Item) -> tuple[float, str]:
        scope = times.scope_of(item.nodeid.partition("::")[0])
        return -seconds.get(scope, float("inf")), scope

    items.sort(key=place)


class Together(LoadScopeScheduling):  # type: ignore[misc]
    """Keeps the tests of a file in one process, for what they share; those of e2e/, and of image/, share a platform."""

    def _split_scope(self, nodeid: str) -> str:
        return times.scope_of(nodeid.partition("::")[0])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    """Take the place of the scheduler that `--dist` names."""
    return Together(config, log)
