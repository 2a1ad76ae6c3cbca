"""Who the client is behind proxies: the attack list of SEC-054 and SEC-055."""

import pytest

from engine.errors import ConfigError
from engine.http.client_ip import client_ip, parse_address, parse_networks

TRUSTED = parse_networks(["10.0.0.0/8", "127.0.0.1", "2001:db8::/32"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        # a direct client may say what it likes
        ("203.0.113.9", ["127.0.0.1"], "203.0.113.9"),
        ("203.0.113.9", ["10.0.0.1, 127.0.0.1"], "203.0.113.9"),
        # behind one proxy
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        # what the client itself sent stands further left and does not count
        ("10.0.0.1", ["127.0.0.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["127.0.0.1", "203.0.113.9"], "203.0.113.9"),
        # behind two proxies
        ("10.0.0.1", ["203.0.113.9, 10.2.3.4"], "203.0.113.9"),
        # a proxy that talks for itself
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.7"], "10.0.0.7"),
        # what cannot be read ends the walk at the last certain hop
        ("10.0.0.1", ["203.0.113.9, evil"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, , "], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9:443"], "10.0.0.1"),
        ("10.0.0.1", ["0177.0.0.1"], "10.0.0.1"),
        ("10.0.0.1", ["2130706433"], "10.0.0.1"),
        # mapped and zoned addresses
        ("::ffff:10.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
        ("::ffff:203.0.113.9", ["10.0.0.1"], "203.0.113.9"),
        ("fe80::1%eth0", ["127.0.0.1"], "unknown"),
        ("2001:db8::1", ["2001:DB9::0001"], "2001:db9::1"),
        (None, ["127.0.0.1"], "unknown"),
        ("", [], "unknown"),
    ],
)
def test_client_is_the_last_hop_that_is_not_trusted(peer: str | None, forwarded: list[str], client: str) -> None:
    assert client_ip(peer, forwarded, TRUSTED) == client


def test_client_without_trusted_proxies_is_the_peer() -> None:
    assert client_ip("127.0.0.1", ["203.0.113.9"], ()) == "127.0.0.1"


def test_client_behind_an_endless_header_is_still_found() -> None:
    assert client_ip("10.0.0.1", ["1.1.1.1, " * 5000 + "203.0.113.9"], TRUSTED) == "203.0.113.9"


@pytest.mark.parametrize("entry", ["10.0.0.1/0", "10.0.0.0/33", "localhost", "", "0177.0.0.1", "::1%lo"])
def test_network_that_cannot_be_meant_is_refused_by_name(entry: str) -> None:
    if entry == "::1%lo":
        assert parse_address(entry) is None
        return
    with pytest.raises(ConfigError, match=r"server\.trusted_proxies"):
        parse_networks(["127.0.0.1", entry])
