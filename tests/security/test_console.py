"""The console's cookie opens its pages and nothing else, and only its own pages act with it."""

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.support.engine import PASSWORD, EngineProcess
from tests.support.intruder import People, Person, assert_refused

PAGES = (
    *("/console/login", "/console", "/console/orders", "/console/kill", "/console/start", "/console/limits"),
    *(
        "/console/limits/edit",
        "/console/accounts",
        "/console/sources",
        "/console/me",
        "/console/users",
        "/console/system",
    ),
)
_TAG = re.compile(r"<[a-z][^>]*>", re.IGNORECASE)


@pytest.fixture
def person(engine: EngineProcess) -> Iterator[httpx.Client]:
    """A person's browser, signed in to the console."""
    with httpx.Client(base_url=engine.base_url, headers={"Origin": engine.base_url}, timeout=10) as client:
        form = {"email": "admin@localhost", "password": PASSWORD}
        answer = client.post("/console/login", data=form, headers={"HX-Request": "true"})
        assert (answer.status_code, answer.headers["hx-redirect"]) == (200, "/console")
        yield client


@pytest.fixture(scope="module")
def trader(people: People) -> Person:
    return people("limited", "TRADER")


def page_token(client: httpx.Client) -> str:
    found = re.search(r'name="page-token" content="([^"]+)"', client.get("/console").text)
    assert found is not None
    return found[1]


def test_cookie_opens_no_door_of_the_api(person: httpx.Client) -> None:
    assert person.get("/console/orders").status_code == 200
    for method, path in (("GET", "/auth/me"), ("GET", "/executions/orders"), ("GET", "/stream")):
        assert person.request(method, f"/api/v1{path}").status_code == 401
    body = {"scope": "global", "reason": "x"}
    assert person.post("/api/v1/risk/killswitch/enable", json=body).status_code == 401


def test_nothing_acts_for_another_origin_or_without_the_page_token(person: httpx.Client, engine: EngineProcess) -> None:
    form = {"scope": "global", "mode": "BLOCK", "reason": "x"}
    token = {"X-Page-Token": page_token(person)}
    for headers in (
        {},
        {"X-Page-Token": "x"},
        {**token, "Origin": "https://elsewhere.example"},
        {**token, "Origin": "null"},
        {**token, "Sec-Fetch-Site": "cross-site"},
        {**token, "Sec-Fetch-Site": "same-site"},
        {**token, "Sec-Fetch-Site": "none"},
    ):
        answer = person.post("/console/kill/trip", data=form, headers=headers)
        assert answer.status_code == 403, headers
    with httpx.Client(base_url=engine.base_url, cookies=person.cookies) as bare:
        assert bare.post("/console/kill/trip", data=form, headers=token).status_code == 403
    scopes = engine.get("/risk/killswitch/status")["scopes"]
    assert scopes[0]["enabled"] is False
    # what is no form of a page stops nothing, least of all everything
    for content, kind in (
        ("", "x-www-form-urlencoded"),
        ("scope=&mode=BLOCK", "x-www-form-urlencoded"),
        ("{}", "json"),
    ):
        typed = {**token, "Content-Type": f"application/{kind}"}
        assert person.post("/console/kill/trip", content=content, headers=typed).status_code == 422
    assert engine.get("/risk/killswitch/status")["scopes"][0]["enabled"] is False
    # the same with all that is asked for gets past these doors, to what the API itself says
    assert person.post("/console/kill/trip", data={**form, "scope": "nothing"}, headers=token).status_code == 422


def test_page_token_of_one_session_is_worth_nothing_in_another(person: httpx.Client, engine: EngineProcess) -> None:
    other = page_token(person)
    person.post("/console/login", data={"email": "admin@localhost", "password": PASSWORD})
    assert page_token(person) != other
    assert person.post("/console/logout", headers={"X-Page-Token": other}).status_code == 403


def test_strangers_are_sent_to_sign_in_and_never_told_success(engine: EngineProcess) -> None:
    with httpx.Client(base_url=engine.base_url, headers={"Origin": engine.base_url}) as stranger:
        for path in PAGES[1:]:
            answer = stranger.get(path)
            assert (answer.status_code, answer.headers["location"][:14]) == (303, "/console/login")
        assert stranger.get("/console", headers={"HX-Request": "true"}).status_code == 401
        assert stranger.get("/console/stream").status_code in (303, 401)
        assert stranger.post("/console/kill/trip", data={"scope": "global"}).status_code == 401
        assert stranger.post("/console/login", data={"email": "x", "password": "y"}).status_code == 401
        assert stranger.get("/").headers["location"] == "/console"


def test_cookie_of_an_ended_session_opens_nothing(person: httpx.Client) -> None:
    before = dict(person.cookies)
    assert person.post("/console/logout", headers={"X-Page-Token": page_token(person)}).is_redirect
    person.cookies.update(before)
    assert person.get("/console").status_code == 303


def test_no_page_holds_script_or_style_of_its_own(person: httpx.Client) -> None:
    order = person.get("/console/orders/00000000-0000-0000-0000-000000000000")
    assert order.status_code == 404
    with httpx.Client(base_url=person.base_url) as stranger:
        answers = [order, stranger.get("/console/login"), *(person.get(path) for path in PAGES[1:])]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src")
        assert "unsafe" not in policy
        assert "data:" not in policy
        assert re.findall(r"<script[^>]*>([^<]+)<", answer.text) == []
        for tag in _TAG.findall(answer.text):
            assert not re.search(r"\s(on[a-z]+|style|hx-on[^=]*)\s*=", tag), tag
            assert not tag.startswith("<style"), tag
            assert "//" not in tag, tag


def test_files_are_kept_for_good_by_their_content(person: httpx.Client) -> None:
    (path,) = re.findall(r'href="(/console/static/console\.[0-9a-f]{10}\.css)"', person.get("/console").text)
    answer = person.get(path)
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-encoding"] == "gzip"
    assert person.get("/console/static/console.css").headers["cache-control"] == "no-cache"
    assert person.get("/console/static/VENDORED.md").status_code == 404
    assert person.get("/console/static/..%2f__init__.py").status_code == 404


def test_forms_and_parts_that_no_page_has_are_refused_in_the_usual_form(
    person: httpx.Client, engine: EngineProcess
) -> None:
    for part in ("nothing", "__class__", "main"):
        assert person.get("/console/orders", params={"_part": part}).status_code == 404
    token = {"X-Page-Token": page_token(person)}
    form = {"scope": "nothing", "mode": "BLOCK", "reason": "x"}
    for once in ("\u65e5\u672c", "a\r\nb", "x" * 300):
        answer = person.post("/console/kill/trip", data={**form, "_once": once}, headers=token)
        assert answer.status_code == 422, once
    crowd = {f"field{number}": "" for number in range(150)}
    with httpx.Client(base_url=engine.base_url, headers={"Origin": engine.base_url}) as stranger:
        assert_refused(stranger.post("/console/login", data=crowd), 400)


def test_form_that_was_open_while_somebody_tightened_a_limit_does_not_loosen_it(
    person: httpx.Client, trader: Person
) -> None:
    limits = trader.make("/risk/limits", maxOrderValue=1000)
    form = person.get("/console/limits/edit", params={"userId": trader.id}).text
    fields = re.findall(r'<(?:input|textarea)[^>]*? name="([^"]+)"[^>]*? value="([^"]*)"', form)
    typed = {name: value for name, value in fields if not name.startswith(("allowed", "_token"))}
    assert typed["maxOrderValue"] == "1000"
    tightened = trader.request("PUT", f"/risk/limits/{limits['id']}", json={"maxOrderValue": 500})
    assert tightened.status_code == 200
    token = {"X-Page-Token": page_token(person)}
    answer = person.post("/console/limits/edit", data=typed | {"maxOrdersPerDay": "7"}, headers=token)
    assert (answer.status_code, "Somebody changed this meanwhile" in answer.text) == (422, True)
    (held,) = trader.request("GET", "/risk/limits").json()["data"]
    assert (held["maxOrderValue"], held["maxOrdersPerDay"] == 7) == (500, False)
