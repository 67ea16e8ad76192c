"""An AWS account in memory for the tests of the AWS modules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from local import emulator_fixes

# The service is a variable here, which the overloads of boto3's types do not allow for.
_SESSION: Any = boto3
emulator_fixes.apply_all()


class Account:
    """API clients of one empty account, made on first use."""

    def __init__(self) -> None:
        self._clients: dict[str, Any] = {}

    def __getattr__(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = _SESSION.client(service, region_name="us-east-1")
        return self._clients[service]


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """An empty account; no request leaves the process."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        yield Account()
