"""Live reload: what counts as a change, what is said, and what happens to changes at the wrong moment."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.dev import Deploy, Memory, changes, follow, saved
from local.settings import REPOSITORY

WAIT_SECONDS = 60


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "dags"
    (root / "main").mkdir(parents=True)
    (root / "main" / "__init__.py").write_text("x = 1\n")
    return root


def published(root: Path, *steps: Callable[[], object], code: int = 0) -> list[str]:
    """Return what `follow` shows when each step is followed by a sign that something may have changed."""
    shown: list[str] = []

    def signs() -> Iterator[None]:
        for step in steps:
            step()
            yield

    follow(root, lambda: Deploy(code=code, failures=["no"] * bool(code)), shown.append, signs())
    return [line.partition("  ")[2] for line in shown]


def test_only_other_content_is_published(root: Path) -> None:
    file, swap, cache = root / "main/__init__.py", root / "main/.a.py.swp", root / "main/__pycache__"

    def by_an_editor() -> None:
        (root / "main/.new").write_text("x = 2\n")
        (root / "main/.new").rename(file)

    def many() -> None:
        for number in range(200):
            (root / "main" / f"m{number}.py").write_text("")

    def fewer() -> None:
        for number in range(199):
            (root / "main" / f"m{number}.py").unlink()

    shown = published(
        root,
        lambda: None,
        file.touch,
        lambda: swap.write_text("what an editor notes"),
        cache.mkdir,
        lambda: (cache / "a.pyc").write_text(""),
        by_an_editor,
        many,
        fewer,
        (root / "main/m199.py").unlink,
    )
    told = [line.partition(":")[0] for line in shown]
    assert told == ["dags", "main/__init__.py", "200 files", "199 files", "main/m199.py"]


def test_after_a_failure_saving_is_enough(root: Path) -> None:
    """The database was away, say: the same content again, but not an editor's notes beside it."""
    file = root / "main/__init__.py"
    steps = (lambda: None, lambda: (root / "main/.swp").write_text(""), lambda: os.utime(file, (1, 1)))
    shown = published(root, *steps, code=2)
    assert [line.partition(":")[0] for line in shown] == ["dags", "saved again"]
    assert all(line.endswith(" s)\nno") for line in shown)


def test_a_directory_that_cannot_be_read_is_left_to_the_playbook(root: Path) -> None:
    shutil.rmtree(root / "main")
    assert saved(root) is None
    assert published(root, lambda: None, code=2)[0].startswith("dags: not released (")
    assert Memory(None, False).needs(None)


def test_what_is_changed_while_it_is_published_comes_next(root: Path) -> None:
    file, shown, codes = root / "main/__init__.py", list[str](), iter([2, 0])

    def deploy() -> Deploy:
        code = next(codes)
        if code:
            file.write_text("x = 3\n")
        return Deploy(code=code, facts={"dag_release_changed": True, "dag_release_id": "abc"})

    follow(root, deploy, shown.append, iter([None]))
    assert [line.partition("  ")[2].partition(" in ")[0] for line in shown] == [
        "dags: changed meanwhile, once more",
        "main/__init__.py: released abc",
    ]


def test_the_watch_follows_a_directory_that_vanishes_and_comes_back(root: Path) -> None:
    """With the real watcher: what is saved is seen, wherever the directory has been."""
    seen: queue.Queue[set[str]] = queue.Queue()

    def look() -> None:
        for _ in changes(root):
            found = saved(root)
            seen.put(set(found.hashes) if found else set())

    threading.Thread(target=look, daemon=True).start()

    def until(files: set[str]) -> None:
        while seen.get(timeout=WAIT_SECONDS) != files:
            pass

    until({"main/__init__.py"})
    (root / "main/new").write_text("")
    (root / "main/new").rename(root / "main/a.py")
    until({"main/__init__.py", "main/a.py"})
    root.rename(root.with_name("elsewhere"))
    (root / "other").mkdir(parents=True)
    (root / "other/__init__.py").write_text("")
    until({"other/__init__.py"})
    (root / "other/b.py").write_text("")
    until({"other/__init__.py", "other/b.py"})


def event(name: str, **content: object) -> str:
    return json.dumps({"_event": name, **content}) + "\n"


def test_the_playbooks_output_becomes_one_line() -> None:
    facts = {"dag_release_id": "0a1b", "dag_release_changed": True, "dag_release_summary": ["+ a", "- b", "~ c", "+ d"]}
    done = Deploy.of(
        [
            "  webserver 1a2b: serving (0a1b)\n",
            event("v2_runner_on_ok", hosts={"localhost": {"warnings": ["The schedule stops."]}}),
            event("v2_playbook_on_stats", global_custom_stats=facts),
        ]
    )
    assert done.text(7.04) == "released 0a1b in 7.0 s: + a; - b; ~ c; 1 more\nWARNING: The schedule stops."
    facts["dag_release_changed"] = False
    assert Deploy(facts={**facts, "dag_release_summary": []}).text(5) == "already released 0a1b in 5.0 s"


def test_errors_are_shown_as_they_are() -> None:
    failed = event("v2_runner_on_failed", hosts={"localhost": {"msg": "main/assets.py:3\nNameError: x"}})
    done = Deploy.of(["noise\n", failed])
    done.code = 2
    assert done.text(1) == "not released (1.0 s)\nmain/assets.py:3\nNameError: x"
    crashed = Deploy.of(["ERROR: the inventory is no YAML\n"])
    crashed.code = 4
    assert crashed.text(1) == "not released (1.0 s)\nERROR: the inventory is no YAML"


def test_other_inventories_are_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "local.dev", "--inventory", "production"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "ENV=production: `make dev` publishes whatever is saved" in done.stderr
    assert "`make deploy-dags ENV=production`" in done.stderr
