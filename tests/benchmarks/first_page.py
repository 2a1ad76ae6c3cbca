"""How soon the console's first page can be used, and what it weighs: ``python -m tests.benchmarks.first_page``.

A real engine on paper and a real chromium, the overview loaded anew each time with nothing in the cache. *Usable* is
when the page's scripts have run, so that every button answers; *live* when the stream of events is open; *drawn* when
the day's curve stands. ``--loads N`` for how often. Prints figures, asserts none.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.browser.conftest import program, running
from tests.support.engine import PASSWORD, EngineProcess
from tests.support.servers import TestServers

_WAIT_MS = 20_000
_NAME = "first_page"
_WATCH = """
    window.seen = {};
    new MutationObserver(() => {
        const now = performance.now();
        if (document.querySelector("#link-state[data-state=on]")) window.seen.live ??= now;
        if (document.querySelector("#pnl-chart canvas")) window.seen.drawn ??= now;
    }).observe(document, { subtree: true, childList: true, attributes: true });
"""
_READ = """() => {
    const page = performance.getEntriesByType("navigation")[0];
    const all = [page, ...performance.getEntriesByType("resource")];
    return { answered: page.responseEnd, usable: page.domContentLoadedEventEnd, ...window.seen,
        bytes: all.reduce((sum, each) => sum + each.transferSize, 0) };
}"""
_ALL_THERE = ("#link-state[data-state=on]", "#pnl-chart canvas")


def measure(page: Page, url: str, loads: int) -> list[dict[str, Any]]:
    """Return the figures of each load, milliseconds and bytes; the first warms the engine up and is left out."""
    page.add_init_script(_WATCH)
    found = []
    for _ in range(loads + 1):
        page.goto(url)
        for selector in _ALL_THERE:
            page.locator(selector).wait_for(timeout=_WAIT_MS)
        found.append(page.evaluate(_READ))
    return found[1:]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.first_page", description=__doc__)
    parser.add_argument("--loads", type=int, default=20)
    loads: int = parser.parse_args().loads
    browser = program()
    if browser is None:
        print("no chromium on this machine: apt-get install chromium", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="first-page-") as name, TestServers(durable=True) as servers:
        folder = Path(name)
        stores = {"ENGINE__DATABASE__URL": servers.create_database(_NAME), "ENGINE__REDIS__URL": servers.redis_url}
        with EngineProcess(folder / "engine", **stores) as engine, running(browser, folder / "profile") as context:
            page = context.new_page()
            page.goto(f"{engine.base_url}/console/login")
            page.get_by_label("E-mail").fill("admin@localhost")
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url("**/console")
            network = context.new_cdp_session(page)
            network.send("Network.enable")
            network.send("Network.setCacheDisabled", {"cacheDisabled": True})
            found = measure(page, f"{engine.base_url}/console", loads)
    print(f"the console's first page, {loads} loads with an empty cache")
    for key, words in (("answered", "page answered"), ("usable", "usable"), ("live", "live"), ("drawn", "curve drawn")):
        times = sorted(each[key] for each in found)
        print(f"  {words:14} {statistics.median(times):6.0f} ms at the median, {times[-1]:6.0f} ms at most")
    print(f"  {'weight':14} {max(each['bytes'] for each in found) / 1000:6.1f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
