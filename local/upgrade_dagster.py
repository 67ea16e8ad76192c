"""`make upgrade-dagster VERSION=1.13.28`: lock another Dagster and test what this project relies on in it.

The version stands in docker/requirements.in alone. What is refused leaves everything as it was.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
INPUT, LOCK = "docker/requirements.in", "docker/requirements.txt"
CORE, LIBRARIES = ("dagster", "dagster-webserver"), ("dagster-postgres", "dagster-aws")
CONTRACT = (
    "tests/integration/runtime/test_runs.py",
    "tests/integration/runtime/test_database_tls.py",
    "tests/integration/runtime/test_swaps.py",
    "tests/integration/faults/test_dag_code.py",
    "tests/e2e/test_live_dags.py",
    "tests/e2e/test_rotation.py",  # after the one before, on one platform: it cuts all connections to the database
    "tests/unit/release/test_dag_check.py",
    "tests/integration/release/test_semantic_diff.py",
    "tests/unit/runtime/test_observer.py",
    "tests/integration/runtime/test_platform_state.py",
)
"""The tests of what is used of Dagster without its promise; docs/upgrade-dagster.md says which is for what."""
BACK = f"git checkout {INPUT} {LOCK} && local/bootstrap.sh container"


class UpgradeError(Exception):
    """The version cannot be taken. The message says why and what to do."""


def library_version(version: str) -> str:
    """Return the version of the libraries that belong to a version of Dagster: 0.(n+16).x to 1.n.x.

    Raises:
        UpgradeError: it is no version of Dagster.
    """
    found = re.fullmatch(r"1\.(\d+)\.(\d+)", version)
    if not found:
        what = f"VERSION={version} is no version of Dagster" if version else "No version was given"
        raise UpgradeError(f"{what}. Valid: 1.N.P, e.g. `make upgrade-dagster VERSION=1.13.28`.")
    return f"0.{int(found[1]) + 16}.{found[2]}"


def pinned(text: str, version: str) -> str:
    """Return requirements with the four lines of Dagster at another version."""
    for names, wanted in ((CORE, version), (LIBRARIES, library_version(version))):
        for name in names:
            text, count = re.subn(rf"(?m)^{name}==\S+$", f"{name}=={wanted}", text)
            if count != 1:
                raise UpgradeError(f"{INPUT} has no line {name}==VERSION, or several. Put it right, then try again.")
    return text


def lock(root: Path, version: str) -> bool:
    """Write both files for a version; return whether there was something to change.

    Raises:
        UpgradeError: there is no such version, or it does not fit; both files are as they were.
    """
    before = (root / INPUT).read_text(encoding="utf-8")
    after = pinned(before, version)
    if after == before:
        return False
    # Beside the two files, on the same disk: whatever ends this early, by a kill too, leaves both as they were.
    with tempfile.TemporaryDirectory(dir=root, prefix=".upgrade-") as name:
        place = Path(name)
        (place / INPUT).parent.mkdir()
        (place / INPUT).write_text(after, encoding="utf-8")
        shutil.copyfile(root / LOCK, place / LOCK)
        done = subprocess.run(
            [
                *(
                    REPOSITORY / ".venv/uv/bin/uv",
                    "pip",
                    "compile",
                    "--quiet",
                    "--universal",
                    "--python-version",
                    "3.12",
                ),
                *(word for package in (*CORE, *LIBRARIES) for word in ("--upgrade-package", package)),
                *("--generate-hashes", "--no-emit-index-url", "--no-emit-find-links"),
                *("--custom-compile-command", "make lock", INPUT, "--output-file", LOCK),
            ],
            cwd=place,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise UpgradeError(
                f"Dagster {version} with its libraries {library_version(version)} cannot be locked; both files are as "
                f"they were. The resolver says:\n{done.stderr.strip()}\n"
                "Choose a version of https://pypi.org/project/dagster/#history."
            )
        # The lock first: between the two the input still asks for the old version, and another run does all again.
        for file in (LOCK, INPUT):
            (place / file).replace(root / file)
    return True


def main(arguments: Sequence[str]) -> int:
    """Run; returns the exit code."""
    version = arguments[0] if arguments else ""
    try:
        changed = lock(REPOSITORY, version)
    except UpgradeError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    print(f"Dagster {version} is {'locked now' if changed else 'what is locked already'}: {LOCK}.", flush=True)
    for command in (
        ["local/bootstrap.sh", "container"],
        [".venv/test/bin/pytest", "-n", "2", "--dist", "loadfile", *CONTRACT],
    ):
        if subprocess.run(command, cwd=REPOSITORY, check=False).returncode:
            print(
                f"\nERROR: Dagster {version} does not keep what is relied on, see above. To go back:\n  {BACK}",
                file=sys.stderr,
            )
            return 1
    print(f"\nWhat is relied on holds with Dagster {version}. Next: docs/upgrade-dagster.md, 3. To go back:\n  {BACK}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
