"""The URL forms of the journal's server."""

import pytest

from engine.errors import ConfigError
from engine.journal.address import Address, parse


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", Address(host="h")),
        ("redis://h:7000/3", Address(host="h", port=7000, database=3)),
        ("redis://h?db=4", Address(host="h", database=4)),
        ("redis://h/3?db=4", Address(host="h", database=4)),
        ("redis://[::1]:7000", Address(host="::1", port=7000)),
        ("rediss://u:p%40ss@h", Address(host="h", tls=True, username="u", password="p@ss")),
        ("redis://:secret@h", Address(host="h", password="secret")),
        ("unix:///a/b%20c.sock", Address(path="/a/b c.sock")),
        ("unix://u:p@/a.sock?db=5", Address(path="/a.sock", username="u", password="p", database=5)),
    ],
)
def test_url_becomes_an_address(url, address):
    assert parse(url) == address


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://h", "must be embedded"),
        ("redis://", "must be embedded"),
        ("redis://h/x", "must be a number"),
        ("redis://h?db=x", "must be a number"),
        ("redis://h/²", "must be a number"),
        ("redis://h:99999", "[Pp]ort"),
        ("redis://h:x", "[Pp]ort"),
        ("redis://h?ssl_cert_reqs=none", "unknown option ssl_cert_reqs"),
        ("unix://", "whole path"),
        ("unix://relative", "whole path"),
        ("redis://:hunter2@h:x", "[Pp]ort"),
    ],
)
def test_bad_url_is_refused_without_its_password(url, says):
    with pytest.raises(ConfigError, match=says) as refused:
        parse(url)
    assert "hunter2" not in str(refused.value)
