"""Fixtures: one emulator for the tests of a module, an empty bucket for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.release.support import aws_environment, create_bucket, emulator, write_tree


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with emulator() as url:
        yield url


@pytest.fixture
def environment(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Lead clients of this process to the emulator; returns the variables that do."""
    variables = aws_environment(endpoint)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def bucket(endpoint: str, environment: dict[str, str], request: pytest.FixtureRequest) -> tuple[Any, str]:
    """An S3 client and the name of a new bucket with versioning."""
    import uuid

    name = f"test-{uuid.uuid4().hex}"
    return create_bucket(endpoint, name), name


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small tree with one code location."""
    return write_tree(
        tmp_path / "tree",
        {"__init__.py": "", "main/__init__.py": "x = 1\n", "main/a.py": "a = 1\n", "main/b.py": "b = 1\n"},
    )
