"""Whoever waits for AWS says so, and somebody shows it."""

from __future__ import annotations

import ast
import threading
from pathlib import Path
from typing import Any

import pytest

from module_utils import aws_plan

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"


def calls(file: Path) -> set[str]:
    nodes = [node.func for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    return {getattr(node, "id", getattr(node, "attr", "")) for node in nodes}


def test_nothing_waits_in_another_way() -> None:
    """A waiter of botocore says nothing; `wait_with` does it for it."""
    files = {file.name for file in (PLUGINS / "module_utils").glob("*.py") if "get_waiter" in calls(file)}
    assert files == {"aws_plan.py"}


def test_a_waiter_says_what_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, asked, moved = tmp_path / "progress", dict[str, Any](), threading.Event()
    monkeypatch.setattr(aws_plan, "PROGRESS_SECONDS", 0.01)

    def told(text: str) -> None:
        file.write_text(text)
        moved.set()

    monkeypatch.setattr(aws_plan, "report_progress", told)

    class Waiter:
        def wait(self, **arguments: Any) -> None:
            asked.update(arguments)
            assert moved.wait(60)

    class Client:
        def get_waiter(self, name: str) -> Waiter:
            assert name == "instance_running"
            return Waiter()

    aws_plan.wait_with(Client(), "instance_running", "the NAT instance i-1 to run", InstanceIds=["i-1"])
    assert asked == {"InstanceIds": ["i-1"]}
    assert file.read_text().startswith("waiting for the NAT instance i-1 to run (0 s)")
