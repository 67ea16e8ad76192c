"""A limit on the memory of a process and its descendants, by the kernel's control groups."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


class CannotLimitError(Exception):
    """There are no control groups here, or they may not be written to; the message says which."""


@contextlib.contextmanager
def memory_limit(limit: int) -> Iterator[Path]:
    """Yield the ``cgroup.procs`` of a new group with at most ``limit`` bytes; write a pid to it."""
    unified = (_ROOT / "cgroup.controllers").exists()
    group = (_ROOT if unified else _ROOT / "memory") / f"dagster-test-{uuid.uuid4().hex[:8]}"
    try:
        if unified and "memory" not in (_ROOT / "cgroup.subtree_control").read_text().split():
            raise CannotLimitError(f"{_ROOT}/cgroup.subtree_control does not hand on the memory controller")
        group.mkdir()
    except OSError as error:
        raise CannotLimitError(f"no memory control group can be made: {error}") from error
    try:
        (group / ("memory.max" if unified else "memory.limit_in_bytes")).write_text(str(limit))
        yield group / "cgroup.procs"
    finally:
        for _ in range(100):
            for pid in (group / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), 9)
            with contextlib.suppress(OSError):  # busy until the last process is gone
                group.rmdir()
                break
            time.sleep(0.1)
