"""Run a program and measure it: wall time, CPU-seconds, memory."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Usage:
    """What one run of a program took. ``cpu`` holds user and system time of it and of what it has waited for."""

    wall: float
    cpu: float
    peak_pss: int
    peak_rss: int
    """Bytes, like the line above; 0 where memory was not asked for."""
    output: str


def run(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    cwd: Path,
    *,
    memory: bool = False,
    started: Callable[[int], None] | None = None,
) -> Usage:
    """Run a program to its end; an exit code other than 0 raises. ``memory``: measure it, which slows down a little.

    ``started`` is called with the pid right after the start.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        if started:
            started(process.pid)
        peak_pss = peak_rss = 0
        if memory:
            while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                peak_pss, peak_rss = max(peak_pss, pss(process.pid)), max(peak_rss, rss(process.pid))
                time.sleep(0.02)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {process.returncode}:\n{text[-4000:]}")
    return Usage(wall, used.ru_utime + used.ru_stime, peak_pss, peak_rss, text)


def pss(pid: int) -> int:
    """Return the proportional set size of a process in bytes, 0 when it is gone."""
    return _kilobytes(pid, "smaps_rollup", "Pss")


def rss(pid: int) -> int:
    """Return the largest resident set size that a process has had in bytes, 0 when it is gone."""
    return _kilobytes(pid, "status", "VmHWM")


def _kilobytes(pid: int, file: str, name: str) -> int:
    """Return a value of a file in /proc/<pid>, in bytes."""
    with contextlib.suppress(OSError):
        found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/{file}").read_text(encoding="utf-8"), re.M)
        return int(found.group(1)) * 1024 if found else 0
    return 0


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process so far, without its children."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
