"""A real Chromium with a profile of its own, driven by Playwright; what its pages ask for is kept."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_WAIT_MS = 40_000


class Browser:
    """One profile; ``hosts`` is every host:port that its pages asked, ``faults`` what they complained of."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.hosts: set[str] = set()
        self.faults: list[str] = []
        context.set_default_timeout(_WAIT_MS)
        expect.set_options(timeout=_WAIT_MS)
        context.on("request", self._asked)
        context.on("page", self._watch)

    def open(self, url: str) -> Page:
        """Return a fresh tab that shows *url*."""
        page = self.context.new_page()
        page.goto(url)
        return page

    def _asked(self, request: Request) -> None:
        self.hosts.add(urlsplit(request.url).netloc)

    def _watch(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self._heard)

    def _heard(self, message: ConsoleMessage) -> None:
        # what was refused is told of as well: that is no fault of the page
        if message.type == "error" and not re.search(r"status of 4\d\d|Response Status Error Code 4", message.text):
            self.faults.append(message.text)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """The browser of the machine; nothing is downloaded."""
    found = program()
    if found is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    with running(found, tmp_path_factory.mktemp("chromium")) as context:
        yield context


def program() -> str | None:
    """Return the browser of the machine, None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def running(browser: str, profile: Path) -> Iterator[BrowserContext]:
    """Run *browser* with a *profile* of its own."""
    with sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(
            profile, executable_path=browser, headless=True, args=list(_FLAGS), viewport={"width": 1280, "height": 800}
        )
        yield context
        context.close()


@pytest.fixture
def browser(chromium: BrowserContext) -> Iterator[Browser]:
    """The browser, with all tabs of the test closed afterwards."""
    watched = Browser(chromium)
    yield watched
    chromium.remove_listener("request", watched._asked)
    chromium.remove_listener("page", watched._watch)
    for page in chromium.pages[1:]:
        page.close()
