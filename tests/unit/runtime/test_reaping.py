"""Process 1 collects orphans, and leaves its own children's exit codes alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

PROGRAM = """
import ctypes, os, sys, time
from pathlib import Path
from dagster_ecs_runtime.children import Child, reap_orphans

PR_SET_CHILD_SUBREAPER = 36  # prctl(2): orphans of this process's descendants become its own, as those of process 1
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
orphan = Child("parent", ["sh", "-c", "sleep 0.1 & echo $!"], os.environ, Path("/"))
assert orphan.wait(10)
assert orphan.exit_code() == 0
pid = int(orphan.tail())
state = lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
while state() != "Z":
    time.sleep(0.01)
own = Child("own", ["sh", "-c", "exit 7"], os.environ, Path("/"))
deadline = time.monotonic() + 10
while Path(f"/proc/{pid}").exists():
    assert time.monotonic() < deadline, "the orphan is still a zombie"
    reap_orphans()
    own.exit_code()
assert own.wait(10)
reap_orphans()
assert own.exit_code() == 7, own.exit_code()
reap_orphans()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="process 1 of a container is a matter of Linux")
def test_orphans_are_collected_and_own_exit_codes_kept() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"PYTHONPATH": str(ROOT / "docker/runtime/src"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
