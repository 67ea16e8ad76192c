"""What playbooks/awx.yml gives to the modules of awx.awx is what these take, by their own argument specs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
MODULES = next(
    (ROOT / ".venv" / "awx").glob("lib/python3.*/site-packages/ansible_collections/awx/awx/plugins/modules"), None
)
LOCATION = {"controller_host", "controller_oauthtoken", "controller_username", "controller_password", "validate_certs"}
"""Where the controller is and who asks comes from the environment: none of it stands in a file."""

pytestmark = pytest.mark.skipif(MODULES is None, reason="needs the environment awx: local/bootstrap.sh awx")


def tasks(items: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the module and the arguments of every task of awx.awx, in blocks, too."""
    for item in items:
        yield from tasks(item.get("block", []))
        for name, arguments in item.items():
            if name.startswith("awx.awx."):
                yield name.removeprefix("awx.awx."), arguments


USED = [
    (path.stem, module, arguments)
    for path in sorted((ROOT / "playbooks" / "tasks").glob("awx_*.yml"))
    for module, arguments in tasks(yaml.safe_load(path.read_text(encoding="utf-8")))
]


def argument_spec(module: str) -> dict[str, dict[str, Any]]:
    """Return the options of a module, from its code: `argument_spec = dict(name=dict(required=True), …)`."""
    assert MODULES is not None
    tree = ast.parse((MODULES / f"{module}.py").read_text(encoding="utf-8"))
    (spec,) = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "argument_spec"
    ]
    return {name: value for name, value in plain(spec).items() if isinstance(value, dict)}


def plain(node: ast.AST) -> Any:
    """Return the value of a literal, dict() included; None for anything else."""
    match node:
        case ast.Call(func=ast.Name(id="dict"), keywords=keywords):
            return {each.arg: plain(each.value) for each in keywords}
        case ast.List(elts=items):
            return [plain(each) for each in items]
        case ast.Constant(value=value):
            return value
    return None


def test_there_is_something_to_check() -> None:
    assert {module for _, module, _ in USED} >= {
        "credential",
        "credential_type",
        "execution_environment",
        "inventory",
        "inventory_source",
        "job_template",
        "notification_template",
        "organization",
        "project",
        "schedule",
        "workflow_job_template",
        "workflow_job_template_node",
    }


@pytest.mark.parametrize(("file", "module", "arguments"), USED, ids=[f"{file}-{module}" for file, module, _ in USED])
def test_arguments_are_those_of_the_module(file: str, module: str, arguments: dict[str, Any]) -> None:
    spec = argument_spec(module)
    names = set(spec) | {alias for option in spec.values() for alias in option.get("aliases") or []}
    assert set(arguments) <= names
    assert {name for name, option in spec.items() if option.get("required")} <= set(arguments)
    assert not set(arguments) & LOCATION
    for name, value in arguments.items():
        option = spec.get(name, {})
        if isinstance(value, str) and "{{" in value:
            continue  # the real modules have it in tests/integration/awx
        if option.get("choices"):
            assert value in option["choices"], name
        if option.get("type") == "bool":
            assert isinstance(value, bool), name
