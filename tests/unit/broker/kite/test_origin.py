import pytest

from engine.broker.kite.origin import Origin
from engine.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "authority", "port", "is_tls"),
    [
        ("https://api.kite.trade", "api.kite.trade", 443, True),
        ("https://api.kite.trade/", "api.kite.trade", 443, True),
        ("https://host:8443", "host:8443", 8443, True),
        ("http://127.0.0.1:7070", "127.0.0.1:7070", 7070, False),
        ("http://localhost:80", "localhost", 80, False),
        ("http://[::1]:7070", "[::1]:7070", 7070, False),
    ],
)
def test_origin_usable_url_is_parsed(url, authority, port, is_tls):
    origin = Origin.parse(url)
    assert (origin.authority, origin.port, origin.is_tls) == (authority, port, is_tls)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.kite.trade",
        "http://127.0.0.1.example.com",
        "http://10.0.0.1",
        "ftp://127.0.0.1",
        "127.0.0.1:80",
        "https://",
        "https://user:word@host",
        "https://host/prefix",
        "https://host?x=1",
        "https://host:99999",
        "https://[::1",
        "",
    ],
)
def test_origin_unusable_url_is_refused_naming_the_key(url):
    with pytest.raises(ConfigError, match=r"broker\.kite\.root_url"):
        Origin.parse(url)
