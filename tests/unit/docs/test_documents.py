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


def test_every_command_for_users_is_explained() -> None:
    """In the guides, not only in the list; what is for the development of this project is in CONTRIBUTING.md."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = readme.split("## Commands")[1].split("\nDevelopment\n")[0]
    guides = ("operations.md", "quick-start.md", "dag-authors.md")
    text = "\n".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in guides)
    assert {command for command in commands(listed) if not re.search(rf"{command}(?![a-z-])", text)} == set()


def anchors(document: Path) -> set[str]:
    """Return what links can name of a document: its headings as GitHub writes them, and anchors in HTML."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found, seen = set(re.findall(r'<a (?:id|name)="([^"]+)"', text)), dict[str, int]()
    for heading in re.findall(r"^#+ +(.*?) *$", text, re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if slug in seen else slug)
        seen[slug] = seen.get(slug, 0) + 1
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_headings_lead_somewhere(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", document.read_text(encoding="utf-8")):
        path = document.parent / target if target else document
        if "://" not in target and path.suffix == ".md":
            assert anchor in anchors(path), f"{document.name} links to {target}#{anchor}"


def test_every_document_can_be_found() -> None:
    """From the README, by links alone."""
    found, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        document = waiting.pop()
        if document not in found and document.exists():
            found.add(document)
            for target in re.findall(r"\]\(([^)#\s]+\.md)[^)]*\)", document.read_text(encoding="utf-8")):
                if "://" not in target:
                    waiting.append((document.parent / target).resolve())
    lost = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")} - {
        str(path.relative_to(ROOT)) for path in found
    }
    assert lost == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
