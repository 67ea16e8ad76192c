"""`python -m local.supply sbom | licenses | audit`: what the image holds, under which licences, with which known holes.

Looks at `.venv/container`, which has exactly the packages of the image, and at the locks.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
CONTAINER = REPOSITORY / ".venv/container/bin/python"
TOOLS = REPOSITORY / ".venv/supply/bin"
SBOM = REPOSITORY / "build/sbom.json"
LICENSES = REPOSITORY / "docker/licenses.toml"
LOCKS = ("docker/requirements.txt", "requirements.txt")
"""Of the image, and of whoever deploys."""
FOUND, UNKNOWN = 1, 3
"""Exit codes of `audit`: there are known vulnerabilities; it cannot be told whether there are."""


class SupplyError(Exception):
    """Something cannot be said, or is not accepted. The message says what to do."""


def make_sbom() -> dict[str, Any]:
    """Write the bill of materials (CycloneDX 1.6, JSON), always the same for the same packages, and return it.

    Raises:
        SupplyError: the environment cannot be read.
    """
    SBOM.parent.mkdir(exist_ok=True)
    done = subprocess.run(
        [TOOLS / "cyclonedx-py", "environment", "--output-reproducible", "--output-file", SBOM, CONTAINER],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SupplyError(
            f"{CONTAINER} cannot be read: {done.stderr.strip()}. `local/bootstrap.sh container` makes it."
        )
    document: dict[str, Any] = json.loads(SBOM.read_text(encoding="utf-8"))
    return document


def licenses_of(component: Mapping[str, Any]) -> list[str]:
    """Return what a component says of its licence: SPDX identifiers, expressions or names."""
    found = []
    for each in component.get("licenses", ()):
        license_ = each.get("license", {})
        found.append(str(each.get("expression") or license_.get("id") or license_.get("name")))
    return found


def refused(components: Sequence[Mapping[str, Any]], policy: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each component whose licence the policy does not accept.

    An expression is accepted if all that it names is; all that a component says of itself has to be accepted.
    """
    accepted = set(policy["accepted"])
    sentences = []
    for component in components:
        if component["name"] in policy["packages"]:
            continue
        said = licenses_of(component)
        parts = [part for text in said for part in _parts(text)]
        if not parts or not set(parts) <= accepted:
            sentences.append(
                f"{component['name']} {component['version']}: {', '.join(said) or 'says nothing of its licence'}"
            )
    return sentences


def _parts(text: str) -> list[str]:
    """Return the licences that an SPDX expression names; a name of another kind as it is."""
    return [text] if "::" in text else [part.strip(" ()") for part in re.split(r"\b(?:AND|OR)\b", text)]


def show_licenses(components: Sequence[Mapping[str, Any]]) -> None:
    """Print the licence of each component of the bill of materials.

    Raises:
        SupplyError: there is one that is not accepted.
    """
    policy = tomllib.loads(LICENSES.read_text(encoding="utf-8"))
    names = [f"{component['name']} {component['version']}" for component in components]
    for name, component in zip(names, components, strict=True):
        reason = policy["packages"].get(component["name"])
        said = ", ".join(text.rpartition(":: ")[2] for text in licenses_of(component))
        print(f"{name:{max(map(len, names))}}  {said}{f' ({reason})' if reason else ''}".rstrip())
    if sentences := refused(components, policy):
        raise SupplyError(
            "docker/licenses.toml does not accept:\n  "
            + "\n  ".join(sentences)
            + "\nRead that licence. If the image may hold it, add it to `accepted`, or the package with a reason to "
            "`packages`; otherwise take another package."
        )
    print(f"{len(components)} packages; docker/licenses.toml accepts all their licences.")


def audit(arguments: Sequence[str] = ()) -> int:
    """Look the locked packages up in the database of vulnerabilities of PyPI; ``arguments`` are for pip-audit.

    Returns the exit code: 0 if all were looked up and nothing is known of them, FOUND, or UNKNOWN.
    """
    worst = 0
    for lock in LOCKS:
        done = subprocess.run(
            [
                *(str(TOOLS / "pip-audit"), "--requirement", str(REPOSITORY / lock), "--disable-pip"),
                *("--require-hashes", "--format", "json", "--progress-spinner", "off", *arguments),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            packages = json.loads(done.stdout)["dependencies"]
        except (ValueError, KeyError):
            reason = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            print(f"NOT AUDITED: {lock}: {reason[0]}", file=sys.stderr)
            worst = UNKNOWN
            continue
        skipped = [package for package in packages if "skip_reason" in package]
        for package in packages:
            for hole in package.get("vulns", ()):
                fixed = f"fixed in {', '.join(hole['fix_versions'])}" if hole["fix_versions"] else "not fixed yet"
                print(f"{lock}: {package['name']} {package['version']}: {hole['id']}, {fixed}")
                worst = max(worst, FOUND)
        if skipped:
            print(
                f"NOT AUDITED: {lock}: {len(skipped)} of {len(packages)} packages could not be looked up, e.g. "
                f"{skipped[0]['skip_reason']}",
                file=sys.stderr,
            )
            worst = UNKNOWN
        else:
            print(f"{lock}: {len(packages)} packages looked up.")
    if worst == UNKNOWN:
        print(
            "It is not known whether there are vulnerabilities. Run this where https://pypi.org/pypi can be reached, "
            "or with another service: ARGS='--vulnerability-service osv'.",
            file=sys.stderr,
        )
    elif worst == FOUND:
        print("`make lock` brings newer versions; what cannot be fixed and does not matter: ARGS='--ignore-vuln ID'.")
    return worst


def main(arguments: Sequence[str]) -> int:
    """Run; returns the exit code."""
    command, *others = arguments or [""]
    try:
        match command:
            case "sbom":
                count = len(make_sbom()["components"])
                print(f"{SBOM.relative_to(REPOSITORY)} has the {count} packages of the image (CycloneDX).")
            case "licenses":
                show_licenses(make_sbom()["components"])
            case "audit":
                return audit(others)
            case _:
                raise SupplyError(f"{command!r} is no command. Choices: sbom, licenses, audit, e.g. `make sbom`.")
    except SupplyError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
