"""Reading a directory: what belongs to the release, and every kind of bad input with its message."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from module_utils import dag_tree
from module_utils.dag_manifest import MAX_FILE_BYTES
from module_utils.dag_tree import IgnoreRules, TreeError, copy_tree, read_tree
from tests.integration.release.support import write_tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "tree", {"__init__.py": "", "main/__init__.py": "x = 1\n", "main/sql/a.sql": "select"})


def paths(root: Path) -> list[str]:
    return [file.path for file in read_tree(str(root)).files]


def test_tree_has_files_hashes_and_locations(root: Path) -> None:
    write_tree(root, {"other/__init__.py": "", "plain/data.csv": "1"})
    tree = read_tree(str(root))
    assert [file.path for file in tree.files] == [
        "__init__.py",
        "main/__init__.py",
        "main/sql/a.sql",
        "other/__init__.py",
        "plain/data.csv",
    ]
    assert tree.files[1].sha256 == hashlib.sha256(b"x = 1\n").hexdigest()
    assert tree.files[1].size == 6
    assert [(location.name, location.module) for location in tree.locations] == [
        ("main", "dags.main"),
        ("other", "dags.other"),
    ]


def test_listed_locations_are_the_only_ones_but_all_files_are_kept(root: Path) -> None:
    write_tree(root, {"shared/__init__.py": ""})
    tree = read_tree(str(root), ["main"])
    assert [location.name for location in tree.locations] == ["main"]
    assert "shared/__init__.py" in [file.path for file in tree.files]


def test_default_patterns_leave_out_what_is_not_code(root: Path) -> None:
    before = paths(root)
    write_tree(
        root,
        dict.fromkeys(
            [
                ".git/HEAD",
                ".env",
                ".dagignore",
                "main/__pycache__/a.cpython-312.pyc",
                "main/a.pyo",
                "main/assets.py~",
                "main/.assets.py.swp",
                "main/assets.py.swp",
                "main/#assets.py#",
                "main/x.tmp",
                "venv/lib/x.py",
                "package.egg-info/PKG-INFO",
            ],
            "",
        ),
    )
    (root / "main/.#assets.py").symlink_to("user@host.1234")  # Emacs' lock
    assert paths(root) == before


def test_ignore_file_adds_and_takes_back(root: Path) -> None:
    write_tree(
        root,
        {
            ".dagignore": "# data\n/main/data/\n*.md\n!KEEP.md\n!.sqlfluff\ndocs/**/draft.txt\n\n",
            "main/data/x.csv": "",
            "other_data/data/x.csv": "",
            "README.md": "",
            "main/KEEP.md": "",
            "main/.sqlfluff": "",
            "docs/draft.txt": "",
            "docs/a/b/draft.txt": "",
            "docs/a/final.txt": "",
        },
    )
    assert paths(root) == [
        "__init__.py",
        "docs/a/final.txt",
        "main/.sqlfluff",
        "main/KEEP.md",
        "main/__init__.py",
        "main/sql/a.sql",
        "other_data/data/x.csv",
    ]


@pytest.mark.parametrize(
    ("pattern", "path", "is_directory", "ignored"),
    [
        ("*.csv", "a/b.csv", False, True),
        ("/*.csv", "a/b.csv", False, False),
        ("/*.csv", "b.csv", False, True),
        ("a/*.csv", "a/b.csv", False, True),
        ("a/*.csv", "a/c/b.csv", False, False),
        ("a/**", "a/c/b.csv", False, True),
        ("**/c", "a/b/c", False, True),
        ("**/c", "c", False, True),
        ("a/**/c", "a/c", False, True),
        ("a/**/c", "a/x/y/c", False, True),
        ("build/", "build", True, True),
        ("build/", "build", False, False),
        ("build/", "x/build", True, True),
        ("file?.py", "file1.py", False, True),
        ("file?.py", "file/.py", False, False),
        ("[ab].py", "a.py", False, True),
        ("[!ab].py", "a.py", False, False),
        ("\\!x", "!x", False, True),
        ("\\#x", "#x", False, True),
        ("a.py", "aXpy", False, False),
        ("trailing.txt   ", "trailing.txt", False, True),
        ("", "a", False, False),
        ("#comment", "#comment", False, False),
        ("/", "a", True, False),
    ],
)
def test_patterns_are_those_of_gitignore(pattern: str, path: str, is_directory: bool, ignored: bool) -> None:
    assert IgnoreRules([pattern]).ignores(path, is_directory) is ignored


def test_links_inside_the_tree_are_published_as_files(root: Path) -> None:
    (root / "main/copy.sql").symlink_to("sql/a.sql")
    tree = read_tree(str(root))
    hashes = {file.path: file.sha256 for file in tree.files}
    assert hashes["main/copy.sql"] == hashes["main/sql/a.sql"]


def test_path_may_be_a_link_itself(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert paths(tmp_path / "link") == paths(root)


def test_large_files_are_read_in_pieces(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dag_tree, "CHUNK_BYTES", 7)
    content = os.urandom(1000)
    write_tree(root, {"main/model.bin": content})
    file = next(file for file in read_tree(str(root)).files if file.path == "main/model.bin")
    assert (file.size, file.sha256) == (1000, hashlib.sha256(content).hexdigest())


def test_copy_holds_exactly_the_files(root: Path, tmp_path: Path) -> None:
    write_tree(root, {"main/x.pyc": "", ".env": "SECRET"})
    copy_tree(read_tree(str(root)), tmp_path / "copy")
    copied = sorted(p.relative_to(tmp_path / "copy").as_posix() for p in (tmp_path / "copy").rglob("*") if p.is_file())
    assert copied == [f"dags/{path}" for path in paths(root)]


def test_copy_notices_an_edit_meanwhile(root: Path, tmp_path: Path) -> None:
    tree = read_tree(str(root))
    write_tree(root, {"main/__init__.py": "x = 2\n"})
    with pytest.raises(TreeError, match=r"main/__init__.py' was changed while.*Run the same command again"):
        copy_tree(tree, tmp_path / "copy")


def refused(root: Path, *locations: str) -> str:
    with pytest.raises(TreeError) as caught:
        read_tree(str(root), locations)
    return str(caught.value)


def test_missing_directory(tmp_path: Path) -> None:
    message = refused(tmp_path / "nowhere")
    assert "nowhere' does not exist" in message
    assert "-e dags_path=" in message


def test_path_of_a_file(root: Path) -> None:
    assert "is not a directory" in refused(root / "__init__.py")


def test_empty_directory(tmp_path: Path) -> None:
    message = refused(tmp_path)
    assert "nothing to publish" in message
    assert "main/__init__.py" in message


def test_everything_ignored(root: Path) -> None:
    write_tree(root, {".dagignore": "*\n"})
    assert "ignore all of it" in refused(root)


def test_no_location(tmp_path: Path) -> None:
    write_tree(tmp_path, {"__init__.py": "", "sql/a.sql": ""})
    message = refused(tmp_path)
    assert "no code location" in message
    assert "__init__.py" in message


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("my-team", "not a Python identifier"),
        ("2024", "not a Python identifier"),
        ("x" * 41, "at most 40"),
        ("class", "a word of the Python language"),
    ],
)
def test_names_that_cannot_be_locations(root: Path, name: str, why: str) -> None:
    write_tree(root, {f"{name}/__init__.py": ""})
    message = refused(root)
    assert name in message
    assert why in message
    assert "main" in message, "the valid choices"


@pytest.mark.parametrize(
    ("listed", "why"),
    [
        (["sql"], "sql has no __init__.py"),
        (["nowhere"], "there is no directory"),
        (["main", "main"], "is listed twice"),
        (["main", "Main"], "differ in case only"),
        (["../main"], "not a Python identifier"),
    ],
)
def test_lists_that_cannot_be_served(root: Path, listed: list[str], why: str) -> None:
    write_tree(root, {"sql/a.sql": ""})
    message = refused(root, *listed)
    assert why in message
    assert "The packages in" in message or "ambiguous" in message


def test_package_and_module_of_the_same_name(root: Path) -> None:
    write_tree(root, {"main.py": ""})
    assert "both main/ and main.py" in refused(root)


def test_directory_above_the_tree(tmp_path: Path) -> None:
    write_tree(tmp_path, {"dags/__init__.py": "", "dags/main/__init__.py": ""})
    message = refused(tmp_path)
    assert "looks like the directory above" in message
    assert f"-e dags_path={tmp_path}/dags" in message


def test_link_out_of_the_tree(root: Path, tmp_path: Path) -> None:
    secret = write_tree(tmp_path / "outside", {"secret": "s"}) / "secret"
    (root / "main/secret").symlink_to(secret)
    message = refused(root)
    assert "outside of the tree" in message
    assert str(secret) in message
    assert ".dagignore" in message


@pytest.mark.parametrize(
    ("target", "why"), [("sql", "link to a directory"), ("gone", "link to nothing"), ("loop", "main/loop'")]
)
def test_other_links_that_cannot_be_published(root: Path, target: str, why: str) -> None:
    (root / "main/loop").symlink_to(target)
    assert why in refused(root)


def test_ignored_links_do_not_matter(root: Path) -> None:
    (root / "main/secret").symlink_to("/etc/passwd")
    write_tree(root, {".dagignore": "secret\n"})
    assert "main/secret" not in paths(root)


def test_file_over_the_size(root: Path) -> None:
    with (root / "main/model.bin").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    message = refused(root)
    assert "main/model.bin' has 32.0 MiB, more than the 32.0 MiB" in message
    assert "Keep data in S3" in message


def test_release_over_the_size(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dag_tree, "MAX_FILES", 2)
    assert "holds 3 files" in refused(root)


def test_special_file(root: Path) -> None:
    os.mkfifo(root / "main/pipe")
    assert "not a regular file" in refused(root)


def test_name_that_is_not_text(root: Path) -> None:
    (Path(os.fsdecode(os.fsencode(root) + b"/main/\xff.py"))).touch()
    assert "not UTF-8 text" in refused(root)


def test_unreadable_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root can read everything, so the refusal is simulated."""
    opened = open

    def refuse(path: str, *args: Any, **kwargs: Any) -> object:
        if path.endswith("/a.sql"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **kwargs)

    monkeypatch.setattr("builtins.open", refuse)
    message = refused(root)
    assert "main/sql/a.sql' cannot be read (Permission denied)" in message
    assert "chmod" in message


def test_unreadable_directory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    assert "cannot be read (Permission denied)" in refused(root)
