"""Limits of a task: a control group with a share of CPU and memory, version 1 or 2 of the kernel's interface."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PERIOD_MICROSECONDS = 100_000


class UnavailableError(Exception):
    """There are no control groups here that this process may make; the message says why."""


class Group:
    """A control group of its own, below this process's where the kernel allows that; processes are added by pid."""

    def __init__(
        self,
        name: str,
        *,
        cpu: float | None = None,
        memory: int | None = None,
        root: Path = ROOT,
        own: Path = Path("/proc/self/cgroup"),
    ) -> None:
        """Make the group. ``cpu`` is in cores, ``memory`` in bytes; None is no limit."""
        name = f"dagster-bench-{os.getpid()}-{name}"
        self._version = 2 if (root / "cgroup.controllers").exists() else 1
        self._directories: dict[str, Path] = {}
        try:
            if self._version == 2:
                self._make_2(root, name, cpu, memory)
            else:
                self._make_1(root, own, name, cpu, memory)
        except OSError as error:
            self.close()
            raise UnavailableError(f"control groups (version {self._version}) cannot be made: {error}") from error

    def _make_1(self, root: Path, own: Path, name: str, cpu: float | None, memory: int | None) -> None:
        places = dict(line.split(":", 2)[1:] for line in own.read_text(encoding="utf-8").splitlines())
        for controller in ("cpu", "memory"):
            if not (root / controller / "cgroup.procs").exists():
                raise OSError(f"{root / controller} is not mounted")
            key = next((key for key in places if controller in key.split(",")), "")
            parent = root / controller / places.get(key, "/").strip("/")
            # In a container the path may be that of the host.
            self._add(controller, (parent if parent.is_dir() else root / controller) / name)
        if cpu is not None:
            self._write("cpu", "cpu.cfs_period_us", PERIOD_MICROSECONDS)
            self._write("cpu", "cpu.cfs_quota_us", round(cpu * PERIOD_MICROSECONDS))
        if memory is not None:
            self._write("memory", "memory.limit_in_bytes", memory)

    def _make_2(self, root: Path, name: str, cpu: float | None, memory: int | None) -> None:
        missing = {"cpu", "memory"} - set((root / "cgroup.controllers").read_text(encoding="utf-8").split())
        if missing:
            raise OSError(f"{root} has no controller {', '.join(sorted(missing))}")
        # Only the root may hold processes and groups with controllers side by side.
        (root / "cgroup.subtree_control").write_text("+cpu +memory", encoding="utf-8")
        self._add("", root / name)
        if cpu is not None:
            self._write("", "cpu.max", f"{round(cpu * PERIOD_MICROSECONDS)} {PERIOD_MICROSECONDS}")
        if memory is not None:
            self._write("", "memory.max", memory)
            self._write("", "memory.swap.max", 0)

    def _add(self, controller: str, directory: Path) -> None:
        directory.mkdir()
        self._directories[controller] = directory

    def _write(self, controller: str, file: str, value: object) -> None:
        (self._directories[controller] / file).write_text(str(value), encoding="utf-8")

    def _read(self, file: str) -> str:
        controller = "" if self._version == 2 else file.split(".", 1)[0]
        return (self._directories[controller] / file).read_text(encoding="utf-8")

    def add(self, pid: int) -> None:
        """Move a process into the group; what it starts from now on is in it, too."""
        for controller in self._directories:
            self._write(controller, "cgroup.procs", pid)

    def peak_bytes(self) -> int:
        """Return the most memory that was charged to the group, with the file cache it filled."""
        return int(self._read("memory.max_usage_in_bytes" if self._version == 1 else "memory.peak"))

    def cache_bytes(self) -> int:
        """Return how much of the memory charged now is file cache, which the kernel takes back when it is needed."""
        key = "total_cache" if self._version == 1 else "file"
        return int(dict(line.split() for line in self._read("memory.stat").splitlines())[key])

    def reset_peak(self) -> None:
        """Forget the peak, where the kernel can: version 2 keeps it."""
        if self._version == 1:
            self._write("memory", "memory.max_usage_in_bytes", 0)

    def out_of_memory_kills(self) -> int:
        """Return how many processes the kernel has killed for want of memory."""
        text = self._read("memory.oom_control" if self._version == 1 else "memory.events")
        return int(dict(line.split() for line in text.splitlines()).get("oom_kill", 0))

    def close(self) -> None:
        """Remove the group; its processes must have ended, or end within some seconds."""
        for directory in self._directories.values():
            until = time.monotonic() + 10
            while directory.exists():
                with contextlib.suppress(OSError):
                    directory.rmdir()
                    break
                if time.monotonic() > until:
                    raise RuntimeError(f"{directory} is still in use")
                time.sleep(0.1)
        self._directories = {}
