"""What unit tests share: an AWS account in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.account import Account, Kept


@pytest.fixture(scope="session")
def kept() -> Kept:
    """Clients and states of accounts, for all tests of this process."""
    # Imported here, so that tests that need no account do not wait for moto.
    from tests.unit.account import Kept

    return Kept()


@pytest.fixture
def aws(kept: Kept) -> Iterator[Account]:
    """An empty account; no request leaves the process."""
    from tests.unit.account import empty_account

    with empty_account(kept) as account:
        yield account
