"""A new code location: a package below the tree of DAGs, copied from a template, and its test beside it."""

from __future__ import annotations

import keyword
import shutil
from dataclasses import dataclass
from pathlib import Path

from .dag_manifest import DEFAULT_IGNORE, MAX_LOCATION_NAME, ROOT_PACKAGE, ManifestError, validate_location_name
from .dag_tree import IGNORE_FILE, IgnoreRules

TESTS = "tests"
"""Directory of the tests, below the tree; it is left out of releases."""

IGNORE_LINE = f"/{TESTS}/"
_CHOICES = (
    f"Letters, digits and '_', not beginning with a digit, at most {MAX_LOCATION_NAME}; no word of the Python language "
    "and none of a location that is there: make create-dag NAME=sales"
)


class CodeLocationError(Exception):
    """The location cannot be made; the message says why, what is possible and what to do."""


@dataclass(frozen=True)
class NewLocation:
    """What is made: files by their path below the tree, each with its content."""

    tree: Path
    name: str
    files: dict[str, str]
    ignore_file: str | None
    """New content of .dagignore, or None if it leaves the tests out already."""


def plan_location(tree: Path, template: Path, name: str) -> NewLocation:
    """Return what has to be made for a location; raise `CodeLocationError` if it cannot be."""
    if not tree.is_dir():
        raise CodeLocationError(
            f"dags_path {str(tree)!r} {'is not a directory' if tree.exists() else 'does not exist'}. Give the "
            "directory of your code locations: make create-dag NAME=sales ARGS='-e dags_path=/path/to/dags'"
        )
    ignore_file = tree / IGNORE_FILE
    lines = ignore_file.read_text(encoding="utf-8").splitlines() if ignore_file.is_file() else []
    rules = IgnoreRules([*DEFAULT_IGNORE, *lines])
    _check_name(tree, rules, name)
    files = {
        f"{name}/{path.relative_to(template / 'package')}": path.read_text(encoding="utf-8")
        for path in sorted((template / "package").rglob("*.py"))
    }
    test = f"{TESTS}/test_{name}.py"
    files[test] = (template / TESTS / "test_location.py").read_text(encoding="utf-8")
    # One that an interrupted run has left behind is as it would be made.
    if (tree / test).exists() and (tree / test).read_text(encoding="utf-8") != files[test]:
        raise CodeLocationError(
            f"There is {str(tree / test)!r} already, and it is not overwritten. Rename it, or choose another NAME."
        )
    ignored = rules.ignores(TESTS, is_directory=True)
    return NewLocation(tree, name, files, None if ignored else "\n".join([*lines, IGNORE_LINE, ""]))


def make_location(new: NewLocation) -> None:
    """Write the files; the package, by which the location exists, appears in one step and last."""
    if new.ignore_file is not None:
        (new.tree / IGNORE_FILE).write_text(new.ignore_file, encoding="utf-8")
    # Hidden, and so no part of a release.
    temporary = new.tree / f".{new.name}.new"
    shutil.rmtree(temporary, ignore_errors=True)
    for path, content in new.files.items():
        inside = path.removeprefix(f"{new.name}/")
        target = temporary / inside if inside != path else new.tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
    temporary.rename(new.tree / new.name)


def _check_name(tree: Path, rules: IgnoreRules, name: str) -> None:
    there = {
        path.name.removesuffix(".py")
        for path in tree.iterdir()
        if (path.is_dir() or path.suffix == ".py") and not path.name.startswith((".", "_")) and path.name != TESTS
    }
    if not name:
        raise CodeLocationError(f"No name was given. {_CHOICES}")
    try:
        validate_location_name(name)
    except ManifestError as error:
        raise CodeLocationError(f"{error}. {_CHOICES}") from None
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise CodeLocationError(f"{name!r} is a word of the Python language. {_CHOICES}")
    if name.startswith("_"):
        raise CodeLocationError(f"{name!r} begins with '_', which says that it is for nobody else. {_CHOICES}")
    if name in (ROOT_PACKAGE, TESTS):
        use = "the package of the whole tree" if name == ROOT_PACKAGE else "the directory of the tests"
        raise CodeLocationError(f"{name!r} is {use}. {_CHOICES}")
    if rules.ignores(name, is_directory=True):
        raise CodeLocationError(
            f"A directory {name!r} is left out of releases (by {tree / IGNORE_FILE} or the default patterns). "
            f"{_CHOICES}"
        )
    if same := sorted(other for other in there if other.lower() == name.lower()):
        how = "is there already" if same == [name] else f"and {same[0]!r} differ in case only"
        raise CodeLocationError(
            f"{name!r} {how} in {str(tree)!r}, and nothing was changed. Its packages and modules: "
            f"{', '.join(sorted(there))}. Choose another NAME."
        )
