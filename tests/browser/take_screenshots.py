"""The pictures of the README, of a demo's day in a real browser: ``pytest -n0 tests/browser/take_screenshots.py``.

Each is written into ``screenshots`` beside this file. No test asks that they are of this version: a look at the
change of a picture says more than a comparison of its bytes.
"""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Browser
from tests.browser.console_pages import send, sign_in
from tests.support.engine import EngineProcess
from tests.support.servers import TestServers

FOLDER = Path(__file__).with_name("screenshots")
DESK = {"width": 1200, "height": 1000}
PHONE = {"width": 390, "height": 780}
_MOST_BYTES = 80_000
_QUALITY = 82
_DAY_S = 100
_SEED = 26
_NAME = "screenshots"


@pytest.fixture(scope="module")
def engine(chromium: object, servers: TestServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    redis_url = f"{servers.redis_url}?db=0"
    servers.flush(redis_url)
    day = ("--demo", "--demo-seed", str(_SEED), "--demo-seconds", str(_DAY_S))
    url = servers.create_database(_NAME)
    folder = tmp_path_factory.mktemp(_NAME)
    with EngineProcess(folder, *day, ENGINE__DATABASE__URL=url, ENGINE__REDIS__URL=redis_url) as running:
        yield running
    servers.drop_database(_NAME)


def shoot(page: Page, name: str) -> None:
    """Write what is to be seen of *page* into ``NAME.webp``."""
    page.evaluate("Promise.all(document.getAnimations().map((each) => each.finished))")
    page.mouse.move(0, 0)
    browser = page.context.new_cdp_session(page)
    taken = browser.send("Page.captureScreenshot", {"format": "webp", "quality": _QUALITY})
    browser.detach()
    picture = base64.b64decode(taken["data"])
    assert len(picture) < _MOST_BYTES, f"{name} has {len(picture)} bytes"
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.webp").write_bytes(picture)


def test_pictures_of_a_day(browser: Browser, engine: EngineProcess) -> None:
    page = browser.open("about:blank")
    page.set_viewport_size(DESK)  # type: ignore[arg-type]
    page.emulate_media(color_scheme="light")
    sign_in(page, engine.base_url)
    engine.wait_for("the instruments", lambda: engine.get("/system/ready")["checks"]["broker"]["ok"])
    strategy = next(each["id"] for each in engine.get("/strategies") if each["name"] == "default")
    for symbol, quantity in (("INFY", 20), ("RELIANCE", 10)):
        price = int(engine.get(f"/instruments/NSE/{symbol}")["lastPrice"] * 0.95)
        order = {"strategyId": strategy, "quantity": quantity, "orderType": "LIMIT", "price": price}
        send(engine, symbol, **order)
    # the curve is drawn as the day goes on
    page.wait_for_timeout(_DAY_S * 850)
    shoot(page, "overview")
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(500)
    shoot(page, "overview-phone")

    page.set_viewport_size(DESK)  # type: ignore[arg-type]
    page.emulate_media(color_scheme="light")
    filled = engine.get("/signals/intents", status="EXECUTED", limit=200)
    told = [each for each in filled if len(each["orders"]) == 2 and each["positionSize"] is None]
    page.goto(f"{engine.base_url}/console/intents/{told[0]['id']}")
    expect(page.locator("#link-state")).to_have_attribute("data-state", "on")
    shoot(page, "signal")

    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.goto(f"{engine.base_url}/console")
    expect(page.locator("#pnl-chart canvas")).to_be_visible()
    page.get_by_role("button", name="Kill").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Stop trading").click()
    expect(dialog.get_by_role("heading")).to_contain_text("Flat verified")
    shoot(page, "kill-switch")
