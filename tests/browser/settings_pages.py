"""The pages on which an engine is set up, in a real browser: first steps, keys, limits, the second factor, axe."""

import re
import time
from collections.abc import Iterator, Mapping

import httpx
import msgspec
import pyotp
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.conftest import Browser
from tests.browser.console_pages import DESK, PEOPLE_PASSWORD, PHONE, sign_in, violations, width
from tests.support.bot_api import BOT_TOKEN, FakeBotApi
from tests.support.engine import EngineProcess, limit_order, signed
from tests.support.servers import TestServers
from tests.support.shared_engine import paper_engine

DATABASE = "settings_pages"
PAGES = ("start", "limits", "limits/edit", "drills", "accounts", "strategies", "sources", "me", "users", "system")
PERSON, GROUP = 501, -1004711
NEW_PASSWORD = "amber lantern on the quay"


@pytest.fixture(scope="module")
def bot(chromium: object) -> Iterator[FakeBotApi]:
    with FakeBotApi() as running:
        yield running


@pytest.fixture(scope="module")
def engine(bot: FakeBotApi, servers: TestServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    telegram = {
        "ENGINE__TELEGRAM__API_URL": bot.url,
        "ENGINE__TELEGRAM__BOT_TOKEN": BOT_TOKEN,
        "ENGINE__TELEGRAM__MODE": "polling",
    }
    yield from paper_engine(servers, tmp_path_factory.mktemp("settings"), DATABASE, **telegram)


@pytest.fixture(autouse=True)
def signed_out(browser: Browser) -> None:
    browser.context.clear_cookies()


def administrator(engine: EngineProcess, name: str) -> str:
    email = f"{name}@desk.example"
    made = engine.request("POST", "/users", json={"email": email, "password": PEOPLE_PASSWORD, "role": "ADMIN"})
    assert made.status_code == 201, made.text
    return email


def dialog_of(page: Page) -> Locator:
    return page.get_by_role("dialog")


def answer(page: Page, opener: str, typed: Mapping[str, str], submit: str) -> None:
    """Open the dialog of a button, type, choose, and send it."""
    page.get_by_role("button", name=opener, exact=True).first.click()
    dialog = dialog_of(page)
    for label, text in typed.items():
        field = dialog.get_by_label(label, exact=True)
        if field.evaluate("each => each.tagName") == "SELECT":
            field.select_option(text)
        else:
            field.fill(text)
    dialog.get_by_role("button", name=submit, exact=True).click()


def test_first_steps_lead_to_a_filled_order(browser: Browser, engine: EngineProcess) -> None:
    email = administrator(engine, "first")
    page = browser.open(engine.base_url)
    page.wait_for_url("**/console/login")
    sign_in(page, engine.base_url, email, PEOPLE_PASSWORD)
    page.get_by_role("link", name="Begin").click()
    page.get_by_role("button", name="Change the password").click()
    dialog = dialog_of(page)
    dialog.get_by_label("Password now").fill(PEOPLE_PASSWORD)
    dialog.get_by_label("New password").fill(NEW_PASSWORD)
    dialog.get_by_label("The new one again").fill(PEOPLE_PASSWORD)
    dialog.get_by_role("button", name="Change it").click()
    expect(dialog).to_contain_text("is not the same")
    dialog.get_by_label("Password now").fill(PEOPLE_PASSWORD)
    dialog.get_by_label("New password").fill(NEW_PASSWORD)
    dialog.get_by_label("The new one again").fill(NEW_PASSWORD)
    dialog.get_by_role("button", name="Change it").click()
    page.wait_for_url(re.compile(r"/console/login\?next=/console/start"))
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(NEW_PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/console/start")
    expect(page.locator("#step-password")).to_have_class(re.compile("done"))
    expect(page.locator("#step-account")).to_contain_text("10,00,000.00 rupees")
    engine.wait_for("the instruments", lambda: engine.get("/system/ready")["checks"]["broker"]["ok"])
    page.get_by_role("button", name="Send the signal").click()
    filled = page.locator("#step-filled")
    expect(filled).to_contain_text("Complete")
    expect(filled).to_have_class(re.compile("done"))
    filled.get_by_role("link", name="Its whole story").click()
    expect(page.get_by_role("region", name="What happened")).to_contain_text("Complete")
    with page.expect_response("**/console/start/card"):
        page.goto(f"{engine.base_url}/console")
    expect(page.get_by_role("link", name="Begin")).to_have_count(0)
    assert browser.faults == []


def test_page_shows_nothing_to_click_before_it_can_answer_a_click(browser: Browser, engine: EngineProcess) -> None:
    page = browser.open("about:blank")
    sign_in(page, engine.base_url)
    browser.context.route("**/*.js*", late)
    try:
        page.goto(f"{engine.base_url}/console/start", wait_until="commit")
        page.get_by_role("button", name="Change the password").click()
        expect(dialog_of(page)).to_be_visible()
    finally:
        browser.context.unroute("**/*.js*", late)
    assert browser.faults == []


def late(route: Route) -> None:
    """Let a script through after a second, as over a slow line."""
    time.sleep(1)
    route.continue_()


def test_keys_of_a_source_are_shown_once_and_work(browser: Browser, engine: EngineProcess) -> None:
    page = browser.open("about:blank")
    sign_in(page, engine.base_url)
    page.goto(f"{engine.base_url}/console/sources")
    page.get_by_role("button", name="Add a source").click()
    dialog = dialog_of(page)
    dialog.get_by_label("Name").fill("my sheet")
    dialog.get_by_label("Addresses it may send from").fill("not an address")
    dialog.get_by_role("button", name="Add it").click()
    expect(dialog.get_by_label("Addresses it may send from")).to_have_attribute("aria-invalid", "true")
    dialog.get_by_label("Addresses it may send from").fill("127.0.0.1")
    dialog.get_by_role("button", name="Add it").click()
    expect(dialog).to_contain_text("shown this once")
    key, secret = (dialog.get_by_label(label, exact=True).input_value() for label in ("API key", "Secret"))
    expect(dialog.locator("details").first).to_contain_text("Apps Script")
    expect(dialog.get_by_role("button", name="Copy Secret")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog.get_by_role("heading")).to_contain_text("my sheet is added")
    dialog.get_by_role("button", name="I have kept them").click()
    row = page.get_by_role("row").filter(has_text="my sheet")
    raw = msgspec.json.encode(limit_order())
    sent = httpx.post(
        f"{engine.base_url}/api/v1/signals/sheets/webhook", content=raw, headers=signed(raw, key, secret), timeout=10
    )
    assert sent.status_code == 202, sent.text
    row.get_by_role("link", name="my sheet").click()
    expect(page.get_by_role("region", name="What to paste")).to_contain_text("Apps Script")
    assert secret not in page.content()

    page.get_by_role("button", name="New keys").click()
    dialog.get_by_role("button", name="Make new keys").click()
    newer = dialog.get_by_label("Secret", exact=True).input_value()
    assert newer != secret
    dialog.get_by_role("button", name="I have kept them").click()
    address = f"{engine.base_url}/api/v1/signals/sheets/webhook"
    old = signed(raw, key, secret)
    assert httpx.post(address, content=raw, headers=old, timeout=10).status_code == 202
    page.get_by_role("button", name="End the old keys now").click()
    expect(page.get_by_role("button", name="End the old keys now")).to_have_count(0)
    assert httpx.post(address, content=raw, headers=old, timeout=10).status_code == 401
    assert browser.faults == []


def test_telegram_is_set_up_and_signals(browser: Browser, engine: EngineProcess, bot: FakeBotApi) -> None:
    page = browser.open("about:blank")
    sign_in(page, engine.base_url)
    page.goto(f"{engine.base_url}/console/me")
    telegram = page.get_by_role("region", name="Telegram")
    telegram.get_by_role("button", name="Link it").click()
    dialog = dialog_of(page)
    dialog.get_by_role("button", name="Make the code").click()
    command = dialog.get_by_label("Message", exact=True).input_value()
    dialog.get_by_role("button", name="Done").click()
    bot.push(bot.message(command, chat=PERSON))
    expect(telegram).to_contain_text("Linked")
    expect(telegram).to_contain_text(str(PERSON))

    page.goto(f"{engine.base_url}/console/sources")
    page.get_by_role("button", name="Add a source").click()
    dialog.get_by_label("Signals come from").select_option("Telegram")
    dialog.get_by_label("Name").fill("our group")
    dialog.get_by_label("For the strategy").select_option("default")
    dialog.get_by_label("Telegram: chats").fill(str(GROUP))
    dialog.get_by_role("button", name="Add it").click()
    expect(dialog).to_contain_text("BUY RELIANCE NSE")
    dialog.get_by_role("button", name="I have kept them").click()
    bot.push(bot.message("BUY NTPC NSE 2 MARKET MIS", chat=GROUP, sender=PERSON))
    page.goto(f"{engine.base_url}/console/intents?symbol=NTPC")
    signals = page.get_by_role("table", name="Signals").get_by_role("row")
    expect(signals.filter(has_text="NTPC")).to_contain_text("Executed")
    assert "NTPC" in bot.texts(GROUP)
    page.goto(f"{engine.base_url}/console/me")
    page.once("dialog", lambda asked: asked.accept())
    telegram.get_by_role("button", name="Cut it").click()
    expect(telegram).to_contain_text("Not linked")

    # and an administrator cuts that of a lost phone
    again = engine.request("POST", "/auth/telegram/link").json()["data"]["command"]
    bot.push(bot.message(again, chat=PERSON))
    engine.wait_for("the link", lambda: engine.get("/auth/telegram/link")["link"])
    page.goto(f"{engine.base_url}/console/users/{engine.get('/auth/me')['id']}")
    page.once("dialog", lambda asked: asked.accept())
    page.get_by_role("button", name="Cut its Telegram").click()
    expect(page.get_by_role("button", name="Cut its Telegram")).to_have_count(0)
    assert engine.get("/auth/telegram/link")["link"] is None
    assert browser.faults == []


def test_desk_is_set_up_changed_and_taken_away_again(browser: Browser, engine: EngineProcess) -> None:
    page = browser.open("about:blank")
    sign_in(page, engine.base_url)
    heading = page.get_by_role("heading", level=1)
    page.goto(f"{engine.base_url}/console/accounts")
    answer(page, "Add a paper account", {"Name": "a desk", "Capital, rupees": "5,00,000"}, "Add it")
    expect(heading).to_have_text("a desk")
    account = page.url
    answer(page, "Change", {"Name": "the desk"}, "Save")
    expect(heading).to_have_text("the desk")

    page.goto(f"{engine.base_url}/console/strategies")
    answer(page, "Add a strategy", {"Name": "carry", "Account": "the desk"}, "Add it")
    expect(heading).to_have_text("carry")
    strategy = page.url
    targets = page.get_by_role("region", name="Accounts it trades")
    targets.get_by_role("button", name="Change").click()
    dialog_of(page).get_by_label("Size").select_option("Fixed units")
    dialog_of(page).get_by_label("Number").fill("5")
    dialog_of(page).get_by_role("button", name="Save").click()
    expect(targets).to_contain_text("Fixed units: 5")
    answer(page, "Take out", {}, "Take it out")
    expect(targets).to_contain_text("It trades no account")
    targets.locator("select").select_option("the desk")
    answer(page, "Add the account", {}, "Save")
    expect(targets.get_by_role("row").filter(has_text="the desk")).to_be_visible()
    page.get_by_role("button", name="Switch off").click()
    page.get_by_role("button", name="Switch on").click()
    answer(page, "Change", {"Symbols": "INFY, SBIN"}, "Save")
    expect(page.get_by_role("region", name="Rules")).to_contain_text("INFY, SBIN")

    answer(page, "Add a source", {"Signals come from": "A program", "Name": "a bot"}, "Add it")
    dialog_of(page).get_by_role("button", name="I have kept them").click()
    page.get_by_role("link", name="a bot").click()
    answer(page, "Change", {"Name": "the bot", "Order quantity at most": "50"}, "Save")
    expect(heading).to_have_text("the bot")
    expect(page.get_by_role("region", name="Bounds")).to_contain_text("50 at most")
    answer(page, "Delete", {}, "Delete it")
    page.wait_for_url("**/console/sources")
    for url, kind in ((strategy, "strategies"), (account, "accounts")):
        page.goto(url)
        answer(page, "Delete", {}, "Delete it")
        page.wait_for_url(f"**/console/{kind}")
    expect(page.get_by_role("table", name="Accounts")).not_to_contain_text("the desk")
    assert browser.faults == []


def test_people_and_tokens_come_and_go(browser: Browser, engine: EngineProcess) -> None:
    api = f"{engine.base_url}/api/v1"
    person = {"email": "leaver@desk.example", "password": PEOPLE_PASSWORD}
    page = browser.open("about:blank")
    page.on("dialog", lambda asked: asked.accept())
    sign_in(page, engine.base_url)
    page.goto(f"{engine.base_url}/console/users")
    answer(page, "Add a person", {"E-mail": person["email"], "First password": person["password"]}, "Add it")
    page.get_by_role("link", name=person["email"]).click()
    answer(page, "Change", {"Role": "Trader: trades what it owns"}, "Save")
    expect(page.locator(".page-head")).to_contain_text("Trader")
    signed_in = httpx.post(f"{api}/auth/login", json=person, timeout=10).json()["data"]["accessToken"]
    bearer = {"Authorization": f"Bearer {signed_in}"}
    page.reload()
    page.get_by_role("button", name="End all").click()
    expect(page.get_by_text("Nowhere")).to_be_visible()
    assert httpx.get(f"{api}/auth/me", headers=bearer, timeout=10).status_code == 401
    answer(page, "Delete", {}, "Delete it")
    page.wait_for_url("**/console/users")
    expect(page.get_by_role("table", name="Users")).not_to_contain_text(person["email"])

    page.goto(f"{engine.base_url}/console/me")
    answer(page, "Make a token", {"Name": "bot"}, "Make it")
    token = {"Authorization": f"Bearer {dialog_of(page).get_by_label('Token', exact=True).input_value()}"}
    dialog_of(page).get_by_role("button", name="I have kept it").click()
    assert httpx.get(f"{api}/executions/orders", headers=token, timeout=10).status_code == 200
    page.get_by_role("button", name="Revoke bot").click()
    expect(page.get_by_text("No token")).to_be_visible()
    assert httpx.get(f"{api}/executions/orders", headers=token, timeout=10).status_code == 401
    assert browser.faults == []


def test_limit_is_loosened_by_an_administrator_who_proves_it(
    browser: Browser, engine: EngineProcess, servers: TestServers
) -> None:
    email = administrator(engine, "limits")
    page = browser.open("about:blank")
    sign_in(page, engine.base_url, email, PEOPLE_PASSWORD)
    # a session of long ago: its next access token says so
    servers.sql("UPDATE user_sessions SET authenticated_at = authenticated_at - interval '20 minutes'", DATABASE)
    (cookie,) = browser.context.cookies()
    browser.context.add_cookies([{**cookie, "value": "~" + cookie["value"].partition("~")[2]}])  # type: ignore[list-item]
    page.goto(f"{engine.base_url}/console/limits")
    page.get_by_role("link", name="Set limits").first.click()
    value = page.get_by_label("Order value, rupees")
    value.fill("2,00,000.50")
    page.get_by_label("Daily loss, rupees").fill("x")
    page.get_by_role("button", name="Save limits").click()
    expect(page.get_by_text("must be a number")).to_be_visible()
    page.get_by_label("Daily loss, rupees").fill("")
    page.get_by_label("Price band, %").fill("")
    page.get_by_role("button", name="Save limits").click()
    proof = dialog_of(page)
    expect(proof.get_by_role("heading")).to_contain_text("Is it you?")
    proof.get_by_label("Password").fill(PEOPLE_PASSWORD)
    proof.get_by_role("button", name="Go on").click()
    page.wait_for_url("**/console/limits")
    expect(page.get_by_role("region", name="All accounts and strategies")).to_contain_text("2,00,000.50")
    found = [each for each in engine.get("/risk/limits") if each["maxOrderValue"] == 200000.5]
    assert [(each["priceBandPct"], each["accountId"]) for each in found] == [(None, None)]
    assert browser.faults == []


def test_second_factor_is_set_up_with_its_qr_code(browser: Browser, engine: EngineProcess) -> None:
    email = administrator(engine, "factor")
    page = browser.open("about:blank")
    sign_in(page, engine.base_url, email, PEOPLE_PASSWORD)
    page.goto(f"{engine.base_url}/console/me")
    page.get_by_role("button", name="Set it up").click()
    dialog = dialog_of(page)
    dialog.get_by_role("button", name="Show the QR code").click()
    expect(dialog.get_by_role("img", name="QR code")).to_be_visible()
    seed = dialog.get_by_label("Secret", exact=True).input_value()
    assert violations(page) == []
    dialog.get_by_label("Code that the app shows").fill("000000")
    dialog.get_by_role("button", name="Switch it on").click()
    expect(dialog.get_by_role("alert")).to_contain_text("code is wrong")
    dialog.get_by_label("Code of your app").fill(pyotp.TOTP(seed).now())
    dialog.get_by_role("button", name="Switch it on").click()
    codes = dialog.get_by_label("Recovery codes", exact=True).input_value().split()
    assert len(codes) == 10
    dialog.get_by_role("link", name="I have kept them").click()
    expect(page.get_by_role("region", name="Second factor")).to_contain_text("On")
    browser.context.clear_cookies()
    sign_in_with_code(page, engine.base_url, email, pyotp.TOTP(seed).at(int(time.time()) + 30))

    # the phone is lost: another administrator takes it away
    browser.context.clear_cookies()
    sign_in(page, engine.base_url)
    page.goto(f"{engine.base_url}/console/users")
    page.get_by_role("link", name=email).click()
    page.get_by_role("button", name="Take it away").click()
    dialog.get_by_role("button", name="Take it away").click()
    expect(page.get_by_role("region", name="Lost the phone?")).to_contain_text("has no second factor")
    browser.context.clear_cookies()
    sign_in(page, engine.base_url, email, PEOPLE_PASSWORD)

    page.goto(f"{engine.base_url}/console/me")
    page.get_by_role("button", name="Set it up").click()
    dialog.get_by_role("button", name="Show the QR code").click()
    seed = dialog.get_by_label("Secret", exact=True).input_value()
    dialog.get_by_label("Code that the app shows").fill(pyotp.TOTP(seed).now())
    dialog.get_by_role("button", name="Switch it on").click()
    code = dialog.get_by_label("Recovery codes", exact=True).input_value().split()[0]
    dialog.get_by_role("link", name="I have kept them").click()
    answer(page, "Take it away", {"Password": PEOPLE_PASSWORD, "Code of your app": code}, "Take it away")
    expect(page.get_by_role("region", name="Second factor")).to_contain_text("Off")
    page.on("dialog", lambda asked: asked.accept())
    page.get_by_role("button", name="Sign out everywhere").click()
    page.wait_for_url("**/console/login")
    assert browser.faults == []


def sign_in_with_code(page: Page, base: str, email: str, code: str) -> None:
    page.goto(f"{base}/console/login")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(PEOPLE_PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Code of your app").fill(code)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/console")


def test_pages_are_accessible_and_fit_a_phone(browser: Browser, engine: EngineProcess) -> None:
    page = browser.open("about:blank")
    sign_in(page, engine.base_url)
    ones = [f"{kind}/{engine.get(f'/{kind}')[0]['id']}" for kind in ("accounts", "strategies", "sources", "users")]
    found = {}
    for path in (*PAGES, *ones):
        page.set_viewport_size(PHONE)
        page.goto(f"{engine.base_url}/console/{path}")
        expect(page.get_by_text(re.compile("^(Asking the broker|Looking at everything)"))).to_have_count(0)
        wide = width(page, PHONE["width"])
        assert wide <= PHONE["width"], f"{path} is {wide} wide"
        page.set_viewport_size(DESK)
        found[path] = violations(page)
    page.goto(f"{engine.base_url}/console/system")
    page.get_by_text("[telegram]").click()
    settings = page.get_by_role("region", name="Settings", exact=True)
    expect(settings).to_contain_text("polling")
    assert BOT_TOKEN not in page.content()
    page.goto(f"{engine.base_url}/console/users")
    page.get_by_role("button", name="Change", exact=True).first.click()
    expect(dialog_of(page)).to_be_visible()
    page.emulate_media(color_scheme="dark")
    found["dialog, dark"] = violations(page)
    assert {name: faults for name, faults in found.items() if faults} == {}
    assert browser.faults == []


@pytest.mark.long
def test_drill_is_run_and_reported(browser: Browser, engine: EngineProcess) -> None:
    page = browser.open("about:blank")
    sign_in(page, engine.base_url)
    page.goto(f"{engine.base_url}/console/drills")
    page.get_by_role("button", name="Run a drill now").click()
    expect(page.get_by_text("Orders and positions are made on an exchange of its own")).to_be_visible()
    # it takes three quarters of a minute, most of it waiting for proof
    expect(page.get_by_text("Flat, proven, after")).to_be_visible(timeout=90_000)
    expect(page.get_by_text("Certificate verified")).to_be_visible()
    assert browser.faults == []
