"""What the image holds, under which licences, and for which processors; what is known of its holes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import psutil
import pytest
from packaging.requirements import Requirement

from local import supply
from local.settings import REPOSITORY
from local.upgrade_dagster import CONTRACT, INPUT, LOCK, UpgradeError, library_version, lock, pinned
from tests.e2e.dagster_client import wait_for

UV = REPOSITORY / ".venv/uv/bin/uv"
POLICY = tomllib.loads(supply.LICENSES.read_text(encoding="utf-8"))


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def normal(name: str) -> str:
    """Return a package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def components() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = supply.make_sbom()["components"]
    return found


def test_the_bill_of_materials_is_the_lock(components: list[dict[str, Any]]) -> None:
    assert json.loads(supply.SBOM.read_text())["bomFormat"] == "CycloneDX"
    listed = {normal(each["name"]): each["version"] for each in components}
    assert listed.pop("dagster-ecs-runtime")
    lines = re.findall(r"(?m)^([a-z0-9][^\\\n]*)", (REPOSITORY / LOCK).read_text())
    locked = [Requirement(line) for line in lines]
    here = [each for each in locked if not each.marker or each.marker.evaluate()]
    assert listed == {normal(each.name): str(each.specifier).removeprefix("==") for each in here}
    assert all(each["purl"].startswith("pkg:pypi/") for each in components if each["name"] != "dagster-ecs-runtime")
    # Held against its schema is only the first.
    options = ("--no-validate", "--output-reproducible", "--output-file", "-")
    again = run(supply.TOOLS / "cyclonedx-py", "environment", *options, supply.CONTAINER)
    assert again.stdout.strip() == supply.SBOM.read_text().strip()


def test_licences_are_accepted_and_others_are_refused(
    components: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    supply.show_licenses(components)
    assert "docker/licenses.toml accepts all their licences" in capsys.readouterr().out

    def component(*licenses: dict[str, Any]) -> dict[str, Any]:
        return {"name": "made-up", "version": "1.0", "licenses": list(licenses)}

    assert supply.refused([component({"expression": "MIT OR Apache-2.0"})], POLICY) == []
    for licenses, said in (
        ([{"license": {"id": "AGPL-3.0-only"}}], "AGPL-3.0-only"),
        ([{"license": {"id": "MIT"}}, {"license": {"name": "Proprietary"}}], "MIT, Proprietary"),
        ([{"expression": "MIT AND GPL-2.0-only"}], "MIT AND GPL-2.0-only"),
        ([], "says nothing of its licence"),
    ):
        assert supply.refused([component(*licenses)], POLICY) == [f"made-up 1.0: {said}"]


def test_exceptions_are_of_packages_that_are_there(components: list[dict[str, Any]]) -> None:
    names = {normal(each["name"]) for each in components}
    assert set(map(normal, POLICY["packages"])) <= names


def test_an_audit_that_reaches_nobody_never_passes() -> None:
    nobody = "http://127.0.0.1:9"
    done = run(
        *(REPOSITORY / ".venv/supply/bin/python", "-m", "local.supply", "audit", "--vulnerability-service", "osv"),
        *("--osv-url", nobody),
        NO_PROXY="*",
    )
    assert done.returncode == supply.UNKNOWN
    assert done.stderr.count("NOT AUDITED: ") == len(supply.LOCKS)
    assert "It is not known whether there are vulnerabilities" in done.stderr
    assert "looked up" not in done.stdout


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The package index, or the test is skipped."""
    # Even a dry run makes the target.
    target = tmp_path_factory.mktemp("target")
    found = run(UV, "pip", "install", "--dry-run", "--no-cache", "--no-deps", "--target", target, "idna==3.10")
    if found.returncode:
        pytest.skip(f"the package index cannot be reached: {found.stderr.strip().splitlines()[-1]}")


def installable(requirements: Path, processor: str, target: Path) -> subprocess.CompletedProcess[str]:
    """Resolve a lock for a processor from wheels alone, as the Dockerfile installs it; nothing is installed."""
    return run(
        *(UV, "pip", "install", "--dry-run", "--require-hashes", "--only-binary", ":all:", "--python-version", "3.12"),
        *("--python-platform", f"{processor}-manylinux_2_28", "--target", target, "--requirement", requirements),
    )


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("processor", ["aarch64", "x86_64"])
def test_every_dependency_has_a_wheel_for(processor: str, tmp_path: Path) -> None:
    done = installable(REPOSITORY / LOCK, processor, tmp_path / "target")
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("index")
def test_a_dependency_without_a_wheel_for_arm64_is_found(tmp_path: Path) -> None:
    """The MKL of Intel has none."""
    (tmp_path / "in").write_text("mkl==2025.2.0\n")
    compiled = run(
        *(UV, "pip", "compile", "--quiet", "--generate-hashes", "--no-deps", "--python-version", "3.12"),
        *("--python-platform", "x86_64-manylinux_2_28", tmp_path / "in", "--output-file", tmp_path / "lock"),
    )
    assert compiled.returncode == 0, compiled.stderr
    done = run(
        *(UV, "pip", "install", "--dry-run", "--no-deps", "--require-hashes", "--only-binary", ":all:"),
        *("--python-version", "3.12", "--python-platform", "aarch64-manylinux_2_28"),
        *("--target", tmp_path / "target", "--requirement", tmp_path / "lock"),
    )
    assert done.returncode != 0
    assert "mkl" in done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the two files that an upgrade writes."""
    for name in (INPUT, LOCK):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((REPOSITORY / name).read_text())
    return tmp_path


def contents(root: Path) -> list[str]:
    return [(root / name).read_text() for name in (INPUT, LOCK)]


def current() -> str:
    found = re.search(r"(?m)^dagster==(\S+)$", (REPOSITORY / INPUT).read_text())
    assert found
    return found[1]


def test_libraries_belong_to_a_version() -> None:
    text = (REPOSITORY / INPUT).read_text()
    assert pinned(text, current()) == text
    assert library_version("1.13.27") == "0.29.27"


@pytest.mark.parametrize("version", ["", "latest", "1.13", "2.0.0", "v1.13.28", "1.13.28rc1"])
def test_what_is_no_version_changes_nothing(copy: Path, version: str) -> None:
    before = contents(copy)
    with pytest.raises(UpgradeError, match=r"Valid: 1\.N\.P, e\.g\. `make upgrade-dagster VERSION=1\.13\.28`"):
        lock(copy, version)
    assert contents(copy) == before


@pytest.mark.usefixtures("index")
def test_a_version_that_is_not_there_changes_nothing(copy: Path) -> None:
    before = contents(copy)
    with pytest.raises(UpgradeError, match=r"Dagster 1\.13\.999 .* cannot be locked; both files are as they were"):
        lock(copy, "1.13.999")
    assert contents(copy) == before


def test_a_kill_leaves_both_files_as_they_were(copy: Path) -> None:
    """While the resolver works; the next run then has everything to do."""
    before = contents(copy)
    code = "from pathlib import Path; from local.upgrade_dagster import lock; lock(Path({!r}), '1.13.26')"
    with subprocess.Popen([sys.executable, "-c", code.format(str(copy))], cwd=REPOSITORY) as process:
        upgrade = psutil.Process(process.pid)
        wait_for("the resolver", upgrade.children)
        (resolver,) = upgrade.children()
        upgrade.kill()
        resolver.kill()
    assert process.returncode == -signal.SIGKILL
    assert contents(copy) == before
    assert "dagster==1.13.26" in pinned(before[0], "1.13.26")


@pytest.mark.usefixtures("index")
def test_another_version_is_locked_and_nothing_else(copy: Path) -> None:
    assert lock(copy, current()) is False
    before = contents(copy)
    assert lock(copy, "1.13.26") is True
    after = contents(copy)
    assert "dagster==1.13.26\ndagster-webserver==1.13.26\ndagster-postgres==0.29.26\ndagster-aws==0.29.26\n" in after[0]

    def versions(text: str) -> dict[str, str]:
        return dict(re.findall(r"(?m)^([a-z0-9._-]+)(?:\[[a-z,]+\])?==([^ ;]+)", text))

    old, new = versions(before[1]), versions(after[1])
    assert new["dagster"] == "1.13.26"
    assert new["dagster-postgres"] == "0.29.26"
    assert {name for name in old | new if old.get(name) != new.get(name) and not name.startswith("dagster")} == set()


def test_the_contract_is_the_table_of_the_document() -> None:
    text = (REPOSITORY / "docs/upgrade-dagster.md").read_text()
    named = set(re.findall(r"`(tests/\S+\.py)`", text))
    assert named == set(CONTRACT)
    assert all((REPOSITORY / name).is_file() for name in CONTRACT)
