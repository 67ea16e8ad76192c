"""Control groups as the benchmark makes them, on a directory that looks like /sys/fs/cgroup."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.limits import Group, UnavailableError


@pytest.fixture
def own(tmp_path: Path) -> Path:
    file = tmp_path / "self"
    file.write_text("4:memory:/jobs/7\n2:cpu,cpuacct:/\n1:name=systemd:/\n", encoding="utf-8")
    return file


def test_version_1_stays_below_its_own_group(tmp_path: Path, own: Path) -> None:
    for controller in ("cpu", "memory/jobs/7", "memory"):
        (tmp_path / controller).mkdir(parents=True, exist_ok=True)
        (tmp_path / controller / "cgroup.procs").touch()
    group = Group("x", cpu=0.25, memory=1000, root=tmp_path, own=own)
    group.add(1234)
    (cpu,) = (tmp_path / "cpu").glob("dagster-bench-*-x")
    (memory,) = (tmp_path / "memory/jobs/7").glob("dagster-bench-*-x")
    assert (cpu / "cpu.cfs_quota_us").read_text() == "25000"
    assert (cpu / "cpu.cfs_period_us").read_text() == "100000"
    assert (memory / "memory.limit_in_bytes").read_text() == "1000"
    assert (cpu / "cgroup.procs").read_text() == (memory / "cgroup.procs").read_text() == "1234"
    (memory / "memory.max_usage_in_bytes").write_text("77")
    (memory / "memory.oom_control").write_text("under_oom 0\noom_kill 3\n")
    assert (group.peak_bytes(), group.out_of_memory_kills()) == (77, 3)


def test_version_2(tmp_path: Path, own: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory\n")
    group = Group("x", cpu=0.25, memory=1000, root=tmp_path, own=own)
    group.add(1234)
    (directory,) = tmp_path.glob("dagster-bench-*-x")
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory"
    assert (directory / "cpu.max").read_text() == "25000 100000"
    assert (directory / "memory.max").read_text() == "1000"
    assert (directory / "cgroup.procs").read_text() == "1234"
    (directory / "memory.peak").write_text("77")
    (directory / "memory.events").write_text("oom 1\noom_kill 3\n")
    assert (group.peak_bytes(), group.out_of_memory_kills()) == (77, 3)


def test_without_control_groups_the_reason_is_given(tmp_path: Path, own: Path) -> None:
    with pytest.raises(UnavailableError, match="is not mounted"):
        Group("x", cpu=0.25, root=tmp_path, own=own)
    (tmp_path / "cgroup.controllers").write_text("io memory\n")
    with pytest.raises(UnavailableError, match="has no controller cpu"):
        Group("x", cpu=0.25, root=tmp_path, own=own)
