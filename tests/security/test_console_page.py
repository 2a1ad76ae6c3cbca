"""The console's sign-in page and scripts: they must not gather what belongs on the broker's own page."""

import re
from importlib.resources import files

FOLDER = files("engine.console")
PAGE = (FOLDER / "templates" / "login.html").read_text()
SCRIPTS = "".join((FOLDER / "static" / name).read_text() for name in ("console.js", "chart.js"))


def test_page_asks_for_what_is_the_engines_only_and_says_so() -> None:
    assert re.findall(r'<input[^>]* name="([^"]+)"', PAGE) == ["next", "email", "password", "otp"]
    # a field for codes is given the code of Zerodha, unless it is there only for who has one of the engine and says so
    assert re.search(r'{% if wants_code %}\s*<div class="field"><label for="f-otp">[^<]*for this engine', PAGE)
    assert "Never type your Zerodha password or code here" in PAGE


def test_scripts_build_nothing_out_of_text() -> None:
    for sink in (
        "innerHTML",
        "outerHTML =",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "localStorage",
    ):
        assert sink not in SCRIPTS


def test_templates_hold_no_script_or_style_of_their_own() -> None:
    for entry in (FOLDER / "templates").iterdir():
        text = entry.read_text()
        assert not re.search(r"<[^>]*\s(?:on\w+|style|hx-on[^=]*)=", text), entry.name
        assert not re.search(r"<style|<script(?![^>]* src=)|hx-vals=.js:|\|\s*safe", text), entry.name
