"""Removing trees whose directories are read-only, as an ordinary user."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from local.settings import REPOSITORY
from local.trees import remove_tree

SCRIPT = """
import os, sys
from pathlib import Path
from local.trees import remove_tree
if os.geteuid() == 0:
    os.setuid(65534)  # root may remove everything anyway
root = Path(sys.argv[1])
(root / "release/dags").mkdir(parents=True)
(root / "release/dags/a.py").touch()
(root / "release/dags").chmod(0o555)
(root / "release").chmod(0o555)
remove_tree(root)
print(root.exists())
"""


def test_read_only_releases_are_removed() -> None:
    base = Path(f"/tmp/trees-{os.getpid()}")
    base.mkdir(mode=0o777)
    base.chmod(0o777)
    try:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(base / "state")],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        remove_tree(base)
    assert (done.stdout.strip(), done.stderr) == ("False", "")


def test_nothing_to_remove_is_no_error(tmp_path: Path) -> None:
    remove_tree(tmp_path / "nothing")
