"""What the documents quote is what the programs print, and what both tell people to type exists."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CODE = ("*.py", "*.yml", "*.sh", "*.j2", "Makefile")


def tracked(*patterns: str) -> Iterator[Path]:
    """Yield the files of the repository, also those that are not committed yet, without tests."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for path in (ROOT / name for name in listed if not name.startswith(("tests/", "molecule/", "bench/"))):
        # A file may be removed and not committed.
        if path.is_file():
            yield path


def plain(text: str) -> str:
    """Return text with texts of Python that are continued on the next line joined, and one blank between words."""
    joined = re.sub(r"""(["'])\s*\n\s*[rf]*\1""", "", text)
    return " ".join(joined.split())


def quoted(document: str) -> list[str]:
    """Return the messages of a document: its blocks with the language `message`."""
    return re.findall(r"^```message\n(.*?)\n```$", (ROOT / "docs" / document).read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def code() -> str:
    return "\n".join(plain(path.read_text(encoding="utf-8")) for path in tracked(*CODE))


MESSAGES = quoted("troubleshooting.md")


@pytest.mark.parametrize("message", MESSAGES)
def test_quoted_messages_are_printed_by_the_code(message: str, code: str) -> None:
    parts = [part for part in (plain(part).strip(" :(),.") for part in message.split("…")) if part]
    assert parts
    assert [part for part in parts if part not in code] == []


def test_there_are_messages() -> None:
    assert len(MESSAGES) > 25


def test_targets_that_are_named_exist() -> None:
    """In code and documents: `make x`."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    unknown = {
        f"{path.relative_to(ROOT)}: make {name}"
        for path in tracked(*CODE, "*.md")
        if path.name != "CHANGELOG.md"
        for name in re.findall(r"[`(]make ([a-z][a-z-]*)[ `)]", path.read_text(encoding="utf-8"))
        if name not in targets
    }
    assert unknown == set()


def test_documents_that_are_named_exist() -> None:
    """In messages of the code: docs/x.md."""
    for path in tracked(*CODE):
        for name in re.findall(r"\bdocs/[\w/-]+\.md", path.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{path.relative_to(ROOT)} names {name}"
