from hashlib import sha256
from urllib.parse import parse_qs, urlsplit

from engine.broker.kite import routes
from engine.broker.kite.session import KiteSession, checksum, login_url


def test_login_url_carries_key_version_and_redirect_params():
    url = login_url("key", redirect_params={"state": "a&b", "account": "1"})
    query = parse_qs(urlsplit(url).query)
    assert url.startswith("https://kite.zerodha.com/connect/login?")
    assert (query["v"], query["api_key"]) == (["3"], ["key"])
    assert parse_qs(query["redirect_params"][0]) == {"state": ["a&b"], "account": ["1"]}


def test_login_url_without_redirect_params_has_none():
    assert login_url("key", base="http://127.0.0.1:1/connect/login") == (
        "http://127.0.0.1:1/connect/login?v=3&api_key=key"
    )


def test_checksum_is_sha256_of_key_token_secret():
    assert checksum("k", "r", "s") == sha256(b"krs").hexdigest()


def test_session_repr_hides_the_token():
    assert "hidden" not in repr(KiteSession(access_token="hidden", user_id="AB0001", public_token="hidden"))


def test_routes_of_the_official_package_are_the_documented_ones():
    assert routes.ORDER_PLACE == "/orders/{variety}"
    assert routes.ORDER_MODIFY == routes.ORDER_CANCEL == "/orders/{variety}/{order_id}"
    assert (routes.ORDERS, routes.TRADES, routes.TOKEN) == ("/orders", "/trades", "/session/token")
    assert routes.DEFAULT_TIMEOUT_S == 7
