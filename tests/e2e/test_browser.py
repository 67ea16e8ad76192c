"""The UI in a real browser: look at the example location, materialize an asset by its button, see it succeed.

With SCREENSHOTS=<directory> in the environment, the pictures for the documents are written there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from module_utils.dag_publish import read_origin
from tests.e2e.platform_under_test import REPOSITORY, Platform
from tests.e2e.terminal import on_a_terminal, svg

pytestmark = pytest.mark.e2e

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",  # Chromium refuses its sandbox to root, which continuous integration often is
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture
def page() -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH: install one (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser.new_page(viewport={"width": 1400, "height": 860})
        finally:
            browser.close()


def picture(page: Page, name: str) -> None:
    if directory := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(directory) / f"{name}.png")


def test_materialize_from_the_ui(platform: Platform, page: Page) -> None:
    asset = "order_totals"
    assert asset in platform.ui.assets("main")
    page.goto(f"{platform.ui.base_url}/locations")
    expect(page.get_by_text("main", exact=True).first).to_be_visible(timeout=60_000)
    expect(page.get_by_text("Loaded").first).to_be_visible(timeout=60_000)
    picture(page, "code-locations")

    page.goto(f"{platform.ui.base_url}/assets/{asset}")
    page.get_by_role("button", name="Materialize").first.click(timeout=60_000)
    # Dagster asks back while `orders`, which it is made from, was never materialized.
    confirm = page.get_by_role("button", name="Confirm")
    view = page.get_by_role("button", name="View", exact=True).or_(page.get_by_role("link", name="View", exact=True))
    expect(confirm.or_(view).first).to_be_visible(timeout=60_000)
    if confirm.is_visible():
        confirm.click()
    view.first.click(timeout=60_000)
    page.wait_for_url("**/runs/*", timeout=60_000)
    run = page.url.rsplit("/", 1)[1].split("?")[0]
    assert platform.ui.wait_run(run) == "SUCCESS"
    expect(page.get_by_text("Success", exact=True).first).to_be_visible(timeout=60_000)
    expect(page.get_by_text("RUN_SUCCESS").first).to_be_visible(timeout=60_000)
    picture(page, "run")

    page.goto(f"{platform.ui.base_url}/asset-groups/")
    expect(page.get_by_text(asset).first).to_be_visible(timeout=60_000)
    expect(page.get_by_text("Loading")).to_have_count(0, timeout=60_000)
    expect(page.get_by_text("Materialized").first).to_be_visible(timeout=60_000)
    picture(page, "lineage")


def test_status_on_a_terminal(platform: Platform) -> None:
    """Colours and tables, and the picture of it: with the names that a platform has by default."""
    environment = {
        name: value for name, value in platform.environment.items() if name not in ("ANSIBLE_NOCOLOR", "NO_COLOR")
    }
    shown = on_a_terminal("make", "--no-print-directory", "status", cwd=REPOSITORY, environment=environment)
    assert "\x1b[" in shown
    assert "webserver" in shown
    if directory := os.environ.get("SCREENSHOTS"):
        author = read_origin(REPOSITORY).author
        # Columns stay where they are.
        usual = {str(platform.state): ".local", author: "Ada".ljust(len(author))} | {
            str(port): str(default).ljust(len(str(port)))
            for port, default in ((platform.ui_port, 3000), (platform.aws_port, 4566), (platform.postgres_port, 54320))
        }
        for here, there in usual.items():
            shown = shown.replace(here, there)
        (Path(directory) / "status.svg").write_text(svg(shown, "make status"), encoding="utf-8")
