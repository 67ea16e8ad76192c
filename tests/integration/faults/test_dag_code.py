"""DAG code that breaks at import in every way it can; the last good release is served throughout."""

from __future__ import annotations

import shutil

import psutil
import pytest

from tests.e2e.dagster_client import wait_for
from tests.e2e.platform_under_test import Probe
from tests.integration.faults.cgroup import CannotLimitError, memory_limit
from tests.integration.faults.conftest import Rig

CANARY_SECONDS = 30
"""Enough for good code on a busy machine; the one drill in which it passes takes as long."""

VARIABLES = {"DAGSTER_CANARY_SECONDS": str(CANARY_SECONDS)}

FILE = "dags/main/__init__.py"
NO_ERROR = "while loading, without an error (does its code call sys.exit() or os._exit()"

ACCEPTED = {
    # A thread that is no daemon keeps its process from ending. The first drill: by the last it has been ended.
    "a thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(3600,)).start()",
    "a fork": "import os, time\nif os.fork() == 0:\n    time.sleep(3600)\n    os._exit(0)",
    "a daemon": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(3600)\n    os._exit(0)",
    "another working directory, no output": "import os\nos.chdir('/')\nos.close(1)\nos.close(2)",
    "SIGTERM and SIGINT ignored": (
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nsignal.signal(signal.SIGINT, signal.SIG_IGN)"
    ),
}

REJECTED = {
    "syntax error": ("def broken(:", ["SyntaxError", FILE]),
    "import error": ("import no_such_module", ["No module named 'no_such_module'", FILE]),
    "recursion": ("def again():\n    again()\nagain()", ["RecursionError", FILE]),
    "sys.exit(0)": ("import sys; sys.exit(0)", [f"ended with 0 {NO_ERROR}"]),
    "sys.exit(1)": ("import sys; sys.exit(1)", [f"ended with 1 {NO_ERROR}"]),
    "sys.exit with a text": ("import sys; sys.exit('not today')", [f"ended with 1 {NO_ERROR}", "not today"]),
    "os._exit": ("import os; os._exit(0)", [f"ended with 0 {NO_ERROR}"]),
    "os.abort": ("import os; os.abort()", ["ended with -6", "Fatal Python error: Aborted", FILE]),
    "crash": ("import ctypes; ctypes.string_at(0)", ["ended with -11", "Segmentation fault", FILE]),
    "a fork, then an error": (
        "import os, time\nif os.fork() == 0:\n    time.sleep(3600)\nraise RuntimeError('after the fork')",
        ["RuntimeError: after the fork", FILE],
    ),
    "a daemon, then an error": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(3600)\nraise RuntimeError('after it')",
        ["RuntimeError: after it", FILE],
    ),
    "output closed, then an error": (
        "import os\nos.close(1)\nos.close(2)\nraise RuntimeError('nobody hears')",
        ["while loading"],
    ),
}


@pytest.mark.parametrize("code", ACCEPTED.values(), ids=ACCEPTED)
def test_odd_but_working(rig: Rig, code: str) -> None:
    rig.wait_served(*rig.publish(code))
    rig.check_probe()


@pytest.mark.parametrize(("code", "said"), REJECTED.values(), ids=REJECTED)
def test_broken_import(rig: Rig, code: str, said: list[str]) -> None:
    """Refused at the first attempt, with the reason, and without a process that stays."""
    served = rig.pointer()[0]
    release, _ = rig.publish(code)
    wait_for("the rejection", lambda: rig.task.health()[1]["rejected"], until=lambda rejected: rejected == release)
    for part in said:
        rig.wait_error(part)
    assert not [cwd for cwd in _processes(rig).values() if release in cwd]
    rig.point(served)
    rig.wait_calm()
    rig.check_probe()


def test_imports_that_hang_or_print_without_end(rig: Rig) -> None:
    """One location hangs, another prints for as long as it is let: refused, and the logs stay readable."""
    rig.bucket.tree.joinpath("noisy").mkdir()
    (rig.bucket.tree / "noisy/__init__.py").write_text("while True:\n    print('x' * 100)\n", encoding="utf-8")
    before = len(rig.task.lines)
    release, _ = rig.publish("import time\ntime.sleep(3600)")
    rig.wait_error(f"code location 'main' was not ready within {CANARY_SECONDS} s")
    body = rig.wait_error(FILE)
    assert "line 5 in <module>" in body["error"], "it names the line that hangs"
    assert not [cwd for cwd in _processes(rig).values() if release in cwd]
    printed = sum(len(line) for line in rig.task.lines[before:] if "xxxxx" in line)
    # 1 MB in 4 s, twice as much with what is around each line; without a limit it would be 200 MB.
    assert printed < 2 * (CANARY_SECONDS / 4 + 1) * 2**20 * 1.5
    shutil.rmtree(rig.bucket.tree / "noisy")
    rig.wait_served(*rig.publish())
    rig.check_probe()


def test_one_of_two_locations_is_broken(rig: Rig) -> None:
    """Neither is switched: a task serves one whole release."""
    rig.write("raise RuntimeError('broken on purpose')", location="second")
    release, _ = rig.publish()
    rig.wait_error("code location 'second' ended with 1 while loading")
    assert rig.assets(rig.task) == {rig.asset}
    assert set(rig.task.ui.locations()) == {"main"}
    assert not [cwd for cwd in _processes(rig).values() if release in cwd]
    rig.write(location="second")
    rig.wait_served(*rig.publish())
    wait_for("the second location", lambda: set(rig.task.ui.locations()), until=lambda found: "second" in found)
    shutil.rmtree(rig.bucket.tree / "second")
    rig.wait_served(*rig.publish())
    wait_for("the second location to go", lambda: set(rig.task.ui.locations()), until=lambda found: found == {"main"})
    rig.check_probe()


def test_older_release_and_the_same_twice(rig: Rig) -> None:
    older, asset = rig.release, rig.asset
    content = (rig.bucket.tree / "main/__init__.py").read_text(encoding="utf-8")
    rig.wait_served(*rig.publish())
    (rig.bucket.tree / "main/__init__.py").write_text(content, encoding="utf-8")
    assert rig.bucket.publish() == older
    rig.wait_served(older, asset)
    since = rig.task.health()[1]["serving_since"]
    assert rig.bucket.publish() == older
    polls = len(rig.proxy.requests)
    wait_for("polls", lambda: len(rig.proxy.requests) - polls, until=lambda count: count >= 5)
    assert rig.task.health()[1]["serving_since"] == since
    rig.check_probe()


def test_thousands_of_assets(rig: Rig) -> None:
    names = {f"many_{number}" for number in range(2000)}
    asset = rig.write(
        "@dg.multi_asset(specs=[dg.AssetSpec(f'many_{number}') for number in range(2000)])\ndef many(): ...\n"
    )
    source = rig.bucket.tree / "main/__init__.py"
    source.write_text(source.read_text(encoding="utf-8").replace("assets=[", "assets=[many, "), encoding="utf-8")
    release = rig.bucket.publish()
    rig.task.wait_release(release)
    wait_for("all assets", lambda: rig.assets(rig.task), until=lambda found: found == names | {asset})
    rig.wait_served(*rig.publish())
    rig.check_probe()


def test_import_that_eats_memory(rig: Rig) -> None:
    """The kernel ends what eats, not what serves, and the next release is taken."""
    served = rig.pointer()[0]
    try:
        with memory_limit(700 * 1024 * 1024) as group:
            task = rig.start("webserver")
            group.write_text(str(task.process.pid))
            task.wait_release(rig.release)
            wait_for("the UI", lambda: rig.assets(task), until=lambda found: found == {rig.asset})
            serving = task.health()[1]["children"]
            with Probe(task.ui, "main") as probe:
                release, _ = rig.publish("blocks = []\nwhile True:\n    blocks.append(b'x' * 10_000_000)")
                body = wait_for(
                    "the rejection", lambda: task.health()[1], until=lambda body: body["rejected"] == release
                )
                assert "most likely because the memory of the task was used up" in body["error"]
                assert (body["children"], body["server_restarts"]) == (serving, 0)
                rig.point(served)
                task.wait_release(rig.release)
            assert probe.asked > 0
            assert probe.failures == []
            assert task.stop() == 0
    except CannotLimitError as error:
        pytest.skip(str(error))
    finally:
        rig.point(served)
    rig.wait_calm()
    rig.check_probe()


def test_nothing_is_left(rig: Rig) -> None:
    """Of all those releases, with their threads, forks and ignored signals, no process is left but what serves."""
    rig.wait_served(*rig.publish())
    serving = set(rig.task.health()[1]["children"].values()) | {rig.task.process.pid}
    wait_for("the others to end", lambda: set(_processes(rig)) - serving, until=lambda left: not left)
    assert rig.task.stop() == 0
    assert _processes(rig) == {}


def _processes(rig: Rig) -> dict[int, str]:
    """Return the live processes of the task, with their directories: also those that have left its session."""
    found = {}
    for process in psutil.process_iter():
        try:
            if process.environ().get("DAGSTER_RUN_DIR") == str(rig.task.run_dir):
                found[process.pid] = process.cwd()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
