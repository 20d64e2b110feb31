"""A real Chromium for tests, where there is one. Debian's package, because Playwright's own download is not always reachable."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser")
"""The first that is installed is used. The shell is Chromium without a user interface of its own, which the others draw for each
visitor, seen or not: with it, tests of pages take a third less of the processor."""

WAIT_SECONDS = 40.0

MISSING = re.compile(r"TypeError: .*\b(null|undefined)\b")
"""The error of an expression that asks something of what is not on the page: the old view has gone, and the new one is still
being made. Nearly every wait could see that moment, and few would think of it."""

AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"

SCREENSHOTS = os.environ.get("SCALER_SCREENSHOTS", "")
"""Folder for pictures of the pages; empty: none are taken."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser that ends with the block; skips the test where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser is driven")
    path = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if path is None:
        pytest.skip("chromium is not installed: pages are not tried in a browser")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class Visit:
    """One visitor's tab. Everything the console complains about is kept."""

    def __init__(self, browser: Browser, base: str, **options: Any) -> None:
        self.base = base
        self.context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(1000 * WAIT_SECONDS)
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda line: self._hear(line.type, line.text))

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def open(self, page: str) -> Page:
        """Show a page of the UI."""
        self.page.goto(f"{self.base}/#{page}")
        return self.page

    def wait(self, expression: str, seconds: float = WAIT_SECONDS) -> None:
        """Wait until a JavaScript expression is true. What it names need not be on the page yet."""
        from playwright.sync_api import Error

        # Playwright's own waiting evaluates text inside the page, which the page's security policy forbids.
        began = time.monotonic()
        while True:
            missing = ""
            try:
                if self.page.evaluate(expression):
                    return
            except Error as error:
                if not MISSING.search(error.message):
                    raise
                missing = f": {error.message}"
            waited = time.monotonic() - began
            assert waited < seconds, f"not in time: {expression}{missing}"
            # Each look takes some of the processor that the awaited needs.
            self.page.wait_for_timeout(30 if waited < 1 else 100)

    def accessibility_findings(self) -> list[str]:
        """What axe finds on the page as it is, of serious or critical impact, against WCAG 2.2 A and AA and good practice."""
        if not self.page.evaluate("typeof window.axe === 'object'"):
            self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found = self.page.evaluate(
            """axe.run(document, {resultTypes: ['violations']}).then(all => all.violations.map(one => [
                one.impact, one.id, one.nodes.slice(0, 4).map(node => `${node.html.slice(0, 200)} ${node.failureSummary}`),
            ]))"""
        )
        return [f"{rule}: {nodes}" for impact, rule, nodes in found if impact in ("serious", "critical")]

    def picture(self, name: str) -> None:
        """Keep a picture, where somebody wants pictures."""
        if SCREENSHOTS:
            Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=str(Path(SCREENSHOTS) / f"{name}.png"))

    def close(self) -> None:
        """Leave; fails when the console complained."""
        self.context.close()
        assert not self.complaints, self.complaints
