"""What AWX offers as playbooks is exactly what is meant to be run from it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
import yaml

from tests.awx.discovery import is_playbook, playbooks

ROOT = Path(__file__).parents[3]
OFFERED = {
    "backup",
    "backups",
    "build",
    "cost",
    "dags_history",
    "deploy",
    "deploy_all",
    "deploy_dags",
    "deployer_policy",
    "destroy",
    "doctor",
    "hibernate",
    "logs",
    "push",
    "restore",
    "rollback_dags",
    "rotate_credentials",
    "site",
    "status",
    "wake",
}
ON_ONES_OWN_MACHINE = {
    "awx": "writes to a controller; the execution environment has no awx.awx",
    "create_dag": "writes files into the checkout, which AWX throws away",
    "infra_init": "asks questions and writes an inventory into the checkout",
    "inventory_guard": "is the beginning of every other one",
    "open": "opens a browser",
    "refresh_prices": "writes prices into the checkout",
}
"""Playbooks that AWX should not offer, and why."""


def test_exactly_the_intended_playbooks_are_offered() -> None:
    existing = {path.stem for path in (ROOT / "playbooks").glob("*.yml")}
    assert existing <= OFFERED | set(ON_ONES_OWN_MACHINE), "decide whether AWX should offer it"
    assert playbooks(ROOT) == sorted(f"playbooks/{name}.yml" for name in OFFERED & existing)


@pytest.mark.parametrize(
    ("path", "text", "offered"),
    [
        ("site.yml", "- hosts: all\n", True),
        ("a/b.yaml", "- name: x\n  import_playbook: y.yml\n", True),
        ("a/b.yml", "- ansible.builtin.import_playbook: y.yml\n", True),
        ("a/b.yml", "-   hosts: all\n", True),
        ("inventory.yml", "group:\n  hosts:\n    a:\n", True),
        ("docs/x.yml", "# hosts: all\nkey: {hosts: all}\n", False),
        ("site.yml", '- name: x\n  "hosts": all\n', False),
        ("secrets.yml", "$ANSIBLE_VAULT;1.1;AES256\n", True),
        ("group_vars/all/vault.yml", "$ANSIBLE_VAULT;1.1;AES256\n", False),
        ("roles/x/tests/test.yml", "- hosts: all\n", False),
        ("playbooks/tasks/x.yml", "- hosts: all\n", False),
        (".github/x.yml", "- hosts: all\n", False),
        ("x.json", "hosts: all\n", False),
    ],
)
def test_the_rule(path: str, text: str, *, offered: bool) -> None:
    assert is_playbook(PurePosixPath(path), text) is offered


def test_a_quoted_key_means_the_same() -> None:
    assert yaml.safe_load('"hosts": all') == yaml.safe_load("hosts: all")


def test_collections_are_where_awx_looks_for_them() -> None:
    """AWX installs from requirements.yml at the root, and roles/ and collections/; one place is enough."""
    wanted = yaml.safe_load((ROOT / "requirements.yml").read_text(encoding="utf-8"))
    assert set(wanted) == {"collections"}
    assert all(item["version"] for item in wanted["collections"])
    assert not [name for name in ("roles/requirements.yml", "collections") if (ROOT / name).exists()]
