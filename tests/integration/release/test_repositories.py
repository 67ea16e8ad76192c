"""Two repositories and the platform's own DAGs in one platform, with the playbooks as their pipelines run them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.release.support import (
    BUCKET,
    assert_whole_and_tidy,
    create_bucket,
    emulator,
    keys,
    served,
    write_tree,
)
from tests.integration.release.test_deploy_dags import DEFS, STATS, fail, stats, succeed

REPOSITORIES = {"finance": {"locations": ["finance", "ledger"]}, "sales": {"locations": ["sales"]}}
KNOWN = ("-e", json.dumps({"dags_repositories": REPOSITORIES}))


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with emulator() as url:
        yield url


@pytest.fixture(scope="module")
def platform(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Platform:
    return Platform(endpoint, tmp_path_factory.mktemp("repositories"))


class Platform:
    """A bucket, and a directory for each repository; the tests of this file are its life, one after the other."""

    def __init__(self, endpoint: str, base: Path) -> None:
        self.endpoint, self.base = endpoint, base
        self.s3 = create_bucket(endpoint)

    def arguments(self, repository: str, *more: str) -> tuple[str, ...]:
        given = {"dags_path": str(self.base / (repository or "platform"))}
        if repository:
            given["dags_repository"] = repository
        return "-e", json.dumps(given), *KNOWN, *more

    def write(self, repository: str, files: dict[str, str]) -> None:
        write_tree(self.base / (repository or "platform"), files)

    def deploy(self, repository: str, *more: str) -> str:
        return succeed(self.endpoint, *self.arguments(repository, *more), **STATS)

    def files(self) -> dict[str, str]:
        return {path: body.decode() for path, body in served(self.s3, BUCKET)[2].items()}

    def owners(self) -> dict[str, tuple[str, ...]]:
        return {each.name: each.locations for each in served(self.s3, BUCKET)[1].repositories}

    def tidy(self) -> None:
        assert_whole_and_tidy(self.s3, BUCKET)


def test_each_publishes_its_own_and_keeps_what_others_have(platform: Platform) -> None:
    platform.write("", {"__init__.py": "", "main/__init__.py": DEFS.format(name="orders")})
    platform.write(
        "finance",
        {
            "README.md": "not for the platform",
            "finance/__init__.py": DEFS.format(name="invoices"),
            "finance/query.sql": "select 1",
            "ledger/__init__.py": DEFS.format(name="entries"),
        },
    )
    platform.write("sales", {"sales/__init__.py": DEFS.format(name="revenue")})
    platform.deploy("")
    checked = succeed(platform.endpoint, *platform.arguments("finance", "--check", "--diff"))
    for line in ("+ location finance", "+ finance/query.sql (8 bytes)", "+ asset finance: invoices"):
        assert line in checked
    assert "README.md (" not in checked
    assert "- main" not in checked
    first = platform.deploy("finance")
    assert "of the repository finance: locations finance, ledger beside main" in " ".join(first.split())
    assert "publishes its code locations only: README.md" in " ".join(first.split())
    assert stats(first)["dag_release_repository"] == "finance"
    platform.deploy("sales")
    assert sorted(platform.files()) == [
        *("__init__.py", "finance/__init__.py", "finance/query.sql", "ledger/__init__.py"),
        *("main/__init__.py", "sales/__init__.py"),
    ]
    assert platform.owners() == {"finance": ("finance", "ledger"), "sales": ("sales",)}
    platform.tidy()


def test_the_same_again_changes_nothing_whoever_it_is(platform: Platform) -> None:
    for repository in ("", "finance", "sales"):
        assert "changed=0 " in succeed(platform.endpoint, *platform.arguments(repository))


def test_what_it_means_is_told_of_the_own_part_only(platform: Platform) -> None:
    platform.write("", {"main/__init__.py": DEFS.format(name="all_orders")})
    output = platform.deploy("")
    assert stats(output)["dag_release_summary"] == ["+ asset main: all_orders", "- asset main: orders"]
    platform.write("sales", {"sales/__init__.py": DEFS.format(name="income")})
    output = platform.deploy("sales", "-e", "dag_release_validate=false")
    assert "release" in stats(output)["dag_release_summary"][0], "nobody has checked it"
    platform.write("finance", {"finance/__init__.py": DEFS.format(name="bills")})
    output = platform.deploy("finance")
    assert stats(output)["dag_release_summary"] == ["+ asset finance: bills", "- asset finance: invoices"]
    platform.write("sales", {"sales/__init__.py": DEFS.format(name="turnover")})
    (unknown,) = stats(platform.deploy("sales"))["dag_release_summary"]
    assert unknown.startswith("? assets, jobs, schedules, sensors: not known")


@pytest.mark.parametrize(
    ("repository", "files", "said"),
    [
        ("sales", {"finance/__init__.py": ""}, None),
        (
            "",
            {"ledger/__init__.py": ""},
            "'ledger' belongs to the repository 'finance', not to the platform's own DAGs.",
        ),
        ("hr", {"hr/__init__.py": ""}, 'dags_repository "hr" is not in dags_repositories of the inventory, which has'),
    ],
)
def test_nobody_steps_on_another(
    platform: Platform, repository: str, files: dict[str, str], said: str | None, tmp_path: Path
) -> None:
    """What the inventory gives to another is not even looked at."""
    write_tree(tmp_path, {**files, "sales/__init__.py" if repository else "main/__init__.py": ""})
    before = keys(platform.s3)
    path = ("-e", json.dumps({"dags_path": str(tmp_path)}))
    arguments = (*platform.arguments(repository), *path, "-e", "dag_release_validate=false")
    if said is None:
        output = succeed(platform.endpoint, *arguments, "--check")
        assert "publishes its code locations only: finance/__init__.py" in " ".join(output.split())
    else:
        assert said in " ".join(fail(platform.endpoint, *arguments).split())
    assert keys(platform.s3) == before


def test_history_of_one_and_of_all(platform: Platform) -> None:
    table = succeed(platform.endpoint, *platform.arguments("finance"), playbook="dags_history.yml")
    rows = [line for line in table.splitlines() if " finance " in line]
    assert len(rows) == 2
    assert "+0 ~1 -0" in rows[0]
    assert " sales " not in table
    everything = succeed(
        platform.endpoint, *KNOWN, "-e", "dag_release_history_format=json", playbook="dags_history.yml"
    )
    shown = json.loads(everything[everything.index("[\n") : everything.index("\n]") + 2])
    assert [entry["repository"] for entry in shown] == ["sales", "finance", "sales", None, "sales", "finance", None]
    output = succeed(platform.endpoint, "-e", "dags_repository=nobody", playbook="dags_history.yml")
    assert "The repository 'nobody' has released nothing" in output


def test_rollback_of_one_leaves_the_others(platform: Platform) -> None:
    before = platform.files()
    back = succeed(platform.endpoint, *platform.arguments("finance"), playbook="rollback_dags.yml", **STATS)
    assert stats(back)["dag_release_summary"] == ["+ asset finance: invoices", "- asset finance: bills"]
    after = platform.files()
    assert "invoices" in after["finance/__init__.py"]
    assert {path: body for path, body in after.items() if path != "finance/__init__.py"} == {
        path: body for path, body in before.items() if path != "finance/__init__.py"
    }
    platform.tidy()
    history = succeed(platform.endpoint, *platform.arguments("finance"), playbook="dags_history.yml")
    (newest, *_) = [line for line in history.splitlines() if " finance " in line]
    assert "current, rollback" in newest
    succeed(platform.endpoint, *platform.arguments("finance"), playbook="rollback_dags.yml")
    assert platform.files() == before, "twice in a row is where it was"
    refused = fail(platform.endpoint, "-e", "dags_repository=nobody", playbook="rollback_dags.yml")
    assert "'nobody' has published nothing; there are: finance, sales" in " ".join(refused.split())


def test_rollback_to_a_release_without_it_names_those_that_have(platform: Platform) -> None:
    history = succeed(platform.endpoint, *KNOWN, "-e", "dag_release_history_format=json", playbook="dags_history.yml")
    shown = json.loads(history[history.index("[\n") : history.index("\n]") + 2])
    first = ("-e", f"dag_release_rollback_to={shown[-1]['release']}")
    output = fail(platform.endpoint, *platform.arguments("sales"), *first, playbook="rollback_dags.yml")
    assert "has nothing of the repository 'sales'; it has: none" in " ".join(output.split())
    before = platform.files()
    warned = succeed(platform.endpoint, *KNOWN, *first, "--check", playbook="rollback_dags.yml")
    assert "This serves earlier states of other repositories, too: finance, sales" in " ".join(warned.split())
    assert platform.files() == before


def test_a_location_moves_to_another_repository(platform: Platform) -> None:
    moved: dict[str, Any] = {
        "dags_repositories": {
            "finance": {"locations": ["finance"]},
            "books": {"locations": ["ledger"]},
            **{"sales": REPOSITORIES["sales"]},
        }
    }
    platform.write("books", {"ledger/__init__.py": DEFS.format(name="entries")})
    arguments = (*platform.arguments("books"), "-e", json.dumps(moved))
    refused = " ".join(fail(platform.endpoint, *arguments).split())
    assert "'ledger' belongs to the repository 'finance', not to the repository 'books'" in refused
    assert "-e dag_release_take_over=true" in refused
    before = platform.files()
    succeed(platform.endpoint, *arguments, "-e", "dag_release_take_over=true")
    assert platform.files() == before
    assert platform.owners() == {"books": ("ledger",), "finance": ("finance",), "sales": ("sales",)}
    succeed(platform.endpoint, *platform.arguments("finance"), "-e", json.dumps(moved))
    assert platform.owners() == {"books": ("ledger",), "finance": ("finance",), "sales": ("sales",)}
    platform.tidy()


def test_a_repository_goes(platform: Platform) -> None:
    absent = ("-e", "dag_release_state=absent")
    (*_, message) = fail(platform.endpoint, *KNOWN, *absent).split("repository is empty", 1)
    assert "-e dags_repository=NAME" in message
    output = succeed(platform.endpoint, *platform.arguments("sales"), *absent, "--check", "--diff")
    assert "- sales/__init__.py" in output
    assert "sales/__init__.py" in platform.files()
    succeed(platform.endpoint, *platform.arguments("sales"), *absent)
    assert sorted({path.split("/")[0] for path in platform.files()}) == ["__init__.py", "finance", "ledger", "main"]
    assert "changed=0 " in succeed(platform.endpoint, *platform.arguments("sales"), *absent)
    platform.tidy()
    succeed(platform.endpoint, *platform.arguments("sales"), playbook="rollback_dags.yml")
    assert "sales/__init__.py" in platform.files(), "and comes back with what it had"
    platform.tidy()
