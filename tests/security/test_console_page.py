"""The console's login page: it must not gather what belongs on the broker's own page."""

import re

from engine.http.console_page import SCRIPT, login_page

PAGE = login_page().body.decode()


def test_page_asks_for_the_engines_password_only_and_says_so() -> None:
    fields = re.findall(r'<input name="([^"]+)"', PAGE)
    # a field for codes would be given the code of Zerodha, for the engine itself has none
    assert fields == ["email", "password"]
    assert "one-time-code" not in PAGE
    assert "otp" not in PAGE + SCRIPT
    assert "Never type your Zerodha password or code here" in PAGE


def test_page_builds_nothing_out_of_text() -> None:
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "Storage"):
        assert sink not in SCRIPT
    assert not re.search(r"<[^>]*\s(?:on\w+|style)=", PAGE)
