"""Pages in a real browser that has no network."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DESKTOP, PHONE = {"width": 1200, "height": 900}, {"width": 390, "height": 844}
WIDE = {"width": 1400, "height": 900}
MILLISECONDS = 300_000  # busy machines draw slowly
DRAWN = "[...document.querySelectorAll('.plotly-graph-div')].every(div => div.querySelector('svg.main-svg'))"


@contextmanager
def start_browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.fail("There is no Chromium or Chrome: run make browser, as make test does.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def open_page(browser: Browser, path: Path, viewport: dict[str, int] = DESKTOP) -> Iterator[Page]:
    """The page once all its charts are drawn. Fails at the end if it made a request or wrote to the console."""
    context = browser.new_context(viewport=viewport, offline=True)
    context.set_default_timeout(MILLISECONDS)
    page, complaints, file = context.new_page(), [], path.resolve().as_uri()
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url[:200]}"))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(("data:", file)) else complaints.append(f"request: {request.url[:200]}")
        ),
    )
    page.goto(file)
    page.wait_for_function(DRAWN)
    yield page
    context.close()
    assert not complaints
