"""The documents say what is: commands, links, files."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not {".venv", ".local", "build", "node_modules"} & set(path.relative_to(ROOT).parts)
)


def commands(text: str) -> dict[str, str]:
    """Return {"make x": explanation} of a text that lists them."""
    return dict(re.findall(r"^\s*(make [a-z-]+) {2,}(\S.*)$", text, re.MULTILINE))


def test_readme_lists_what_make_help_offers() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("## Commands")[1].split("\n## ")[0]
    assert commands(shown)
    assert commands(section) == commands(shown)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
