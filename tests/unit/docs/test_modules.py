"""What `ansible-doc` shows of our actions is what they take: every option with its type, default and choices."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ansible.module_utils
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
NAMES = sorted(path.stem for path in (ROOT / "plugins" / "action").glob("*.py"))


@pytest.fixture(scope="module")
def documented() -> dict[str, Any]:
    """Return what ansible-doc says of every module, with the fragments of ours and of amazon.aws put in."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-doc")), "--type", "module", "--json", *NAMES],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    # A module whose documentation is broken is not in the answer.
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def load(file: Path) -> Any:
    """Import a plug-in as Ansible does, with our module_utils beside Ansible's own."""
    ours = str(ROOT / "plugins" / "module_utils")
    if ours not in ansible.module_utils.__path__:
        ansible.module_utils.__path__.append(ours)
    spec = importlib.util.spec_from_file_location(f"documented_{file.parent.name}_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Where dataclasses look for the types of their fields.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def specification(name: str) -> dict[str, Any]:
    """Return the arguments of an action."""
    taken: dict[str, Any] = load(ROOT / "plugins" / "action" / f"{name}.py").ActionModule.arguments
    return taken


def comparable(options: dict[str, Any], nested: str) -> dict[str, Any]:
    """Return options in one form; `nested` is where options of options are: suboptions or options."""
    return {
        name: {
            "type": option.get("type", "str"),
            "elements": option.get("elements"),
            "required": bool(option.get("required")),
            "default": option.get("default"),
            "choices": list(option.get("choices") or []),
            "aliases": sorted(option.get("aliases") or []),
            "options": comparable(option.get(nested) or {}, nested),
        }
        for name, option in options.items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_documented_options_are_the_arguments(name: str, documented: dict[str, Any]) -> None:
    shown = comparable(documented[name]["doc"]["options"], "suboptions")
    assert shown == comparable(specification(name), "options")


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_described_in_plain_text(name: str, documented: dict[str, Any]) -> None:
    """A colon in a sentence makes a mapping of it, which YAML takes and a reader never sees."""
    described = [(f"{name}.{kind}", entry) for kind, entry in entries(documented[name])]
    assert len(described) > 1
    wrong = [
        place
        for place, entry in described
        if not (texts := entry.get("description")) or not all(isinstance(text, str) and text for text in listed(texts))
    ]
    assert wrong == []
    summary = documented[name]["doc"]["short_description"]
    assert isinstance(summary, str) and not summary.endswith(".") and "\n" not in summary


def listed(value: Any) -> list[Any]:
    """Return a list as it is, and of anything else a list with it."""
    return value if isinstance(value, list) else [value]


def entries(shown: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return everything that has a description: the module, its options and what it returns."""
    found: list[tuple[str, dict[str, Any]]] = [("module", shown["doc"])]

    def descend(prefix: str, options: dict[str, Any], nested: str) -> None:
        for name, option in options.items():
            found.append((f"{prefix}.{name}", option))
            descend(f"{prefix}.{name}", option.get(nested) or {}, nested)

    descend("options", shown["doc"]["options"], "suboptions")
    descend("return", shown["return"] or {}, "contains")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_examples_use_the_module_as_it_is(name: str, documented: dict[str, Any]) -> None:
    options = documented[name]["doc"]["options"]
    tasks = yaml.safe_load(documented[name]["examples"])
    assert tasks
    for task in tasks:
        assert task["name"]
        used = set(task[name] or {})
        assert used <= set(options)
        assert {key for key, option in options.items() if option.get("required")} <= used


@pytest.mark.parametrize("name", NAMES)
def test_every_returned_value_says_when(name: str, documented: dict[str, Any]) -> None:
    returned = documented[name]["return"]
    assert returned
    assert [key for key, value in returned.items() if not value.get("returned") or not value.get("type")] == []
