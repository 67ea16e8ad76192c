"""Every role keeps its contract: specification, defaults and README agree; collections agree with the lock."""

from __future__ import annotations

import json
import re
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
NAMES = [path.name for path in ROLES]


def load(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def options(role: Path) -> dict[str, dict[str, Any]]:
    specification = load(role / "meta" / "argument_specs.yml")["argument_specs"]
    return dict(specification["main"].get("options") or {})


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_every_default_is_specified_and_every_option_required_or_defaulted(role: Path) -> None:
    defaults, specified = load(role / "defaults" / "main.yml"), options(role)
    assert sorted(set(defaults) - set(specified)) == []
    loose = [name for name, option in specified.items() if not option.get("required") and name not in defaults]
    assert loose == []
    both = [name for name, option in specified.items() if option.get("required") and name in defaults]
    assert both == []


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_specified_defaults_are_the_defaults(role: Path) -> None:
    defaults = load(role / "defaults" / "main.yml")
    specified = {name: option["default"] for name, option in options(role).items() if "default" in option}
    assert specified == {name: defaults[name] for name in specified}
    fixed = {name for name, value in defaults.items() if "{{" not in json.dumps(value)}
    assert fixed <= set(specified)


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_options_are_described_and_typed(role: Path) -> None:
    bare = [
        name
        for name, option in options(role).items()
        if not option.get("description")
        or not option.get("type")
        or (option["type"] == "list" and "elements" not in option)
    ]
    assert bare == []


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_own_variables_carry_the_role_as_prefix(role: Path) -> None:
    # `ecs_task_cpu`, `name_prefix` and the like are settings of the inventory.
    foreign = [name for name in load(role / "defaults" / "main.yml") if not name.startswith(f"{role.name}_")]
    assert foreign == []
    internal = [
        name for name in load(role / "vars" / "main.yml") if not name.startswith((f"__{role.name}_", f"{role.name}_"))
    ]
    assert internal == []


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_readme_lists_inputs_outputs_and_iam_actions(role: Path) -> None:
    readme = (role / "README.md").read_text()
    unlisted = [name for name in options(role) if f"`{name}`" not in readme]
    assert unlisted == []
    facts = {
        name
        for path in (role / "tasks").glob("*.yml")
        for name in re.findall(r"^ {4}(\w+):", "".join(_set_facts(path)), re.MULTILINE)
        if not name.startswith("__")
    }
    headings = {"## Inputs", "## IAM actions"} | ({"## Outputs"} if facts else set())
    # dag_release makes nothing on AWS; its README follows the steps of a publish instead.
    assert role.name == "dag_release" or all(heading in readme for heading in headings)
    assert sorted(name for name in facts if f"`{name}`" not in readme) == []


def _set_facts(path: Path) -> list[str]:
    return re.findall(r"ansible\.builtin\.set_fact:\n((?: {4}.*\n)+)", path.read_text())


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_what_a_role_makes_can_be_destroyed(role: Path) -> None:
    # dag_release publishes into the bucket, which the role s3 empties and removes.
    assert (role / "tasks" / "destroy.yml").exists() or role.name == "dag_release"


def test_collections_agree_with_the_locked_ansible_package() -> None:
    wanted = {
        entry["name"]: entry["version"]
        for entry in yaml.safe_load((ROOT / "requirements.yml").read_text())["collections"]
    }
    # Found by the package's files: once a test has loaded an Ansible plug-in, its import hooks answer for the name.
    collections = Path(str(distribution("ansible").locate_file("ansible_collections")))
    installed = {}
    for name in wanted:
        manifest = collections.joinpath(*name.split("."), "MANIFEST.json")
        installed[name] = json.loads(manifest.read_text())["collection_info"]["version"]
    assert wanted == installed


def test_the_installed_ansible_is_the_locked_one() -> None:
    lock = (ROOT / "requirements.txt").read_text()
    assert f"\nansible=={version('ansible')} " in lock


def test_compute_logs_have_one_prefix() -> None:
    """The instance writes it, the task role allows it, the bucket lets it expire."""
    prefix = load(ROOT / "roles/image/defaults/main.yml")["image_compute_logs_prefix"] + "/"
    assert load(ROOT / "roles/iam/defaults/main.yml")["iam_log_prefix"] == prefix
    assert prefix in load(ROOT / "roles/s3/defaults/main.yml")["s3_expiring_prefixes"]


def test_site_runs_every_role_that_makes_something() -> None:
    plays = yaml.safe_load((ROOT / "playbooks" / "site.yml").read_text())
    tasks = [task for play in plays for task in play.get("tasks", [])]
    roles = [task["ansible.builtin.import_role"] for task in tasks]
    mains = [role["name"] for role in roles if "tasks_from" not in role]
    assert sorted(mains) == sorted(set(NAMES) - {"hibernation", "backup", "dag_release", "inspection"})
    assert mains[0] == "preflight"
    # What is started without waiting is waited for, and before the tasks that need it.
    started = [
        role["name"]
        for role, task in zip(roles, tasks, strict=True)
        if task.get("vars", {}).get(f"{role['name']}_wait") is False
    ]
    waited = [role["name"] for role in roles if role.get("tasks_from") == "ready"]
    assert sorted(started) == sorted(waited)
    assert all(roles.index({"name": name, "tasks_from": "ready"}) < roles.index({"name": "ecs"}) for name in waited)
