"""Who the client is, whatever the headers say (SEC-054, SEC-055)."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.errors import BadRequestError
from engine.http.client_ip import client_ip, forwarded_hops, is_in, parse_address, parse_networks

PROXIES = parse_networks(["10.0.0.0/8", "2001:db8::/32", "127.0.0.1"])
addresses = st.ip_addresses().map(str)
outside = addresses.filter(lambda text: not is_in(_read(text), PROXIES))
proxies = st.one_of(st.ip_addresses(v=4, network="10.0.0.0/8"), st.ip_addresses(v=6, network="2001:db8::/32")).map(str)
noise = st.one_of(st.text(max_size=40), st.sampled_from(["127.0.0.1", "::1%lo", "0177.0.0.1", "::ffff:127.0.0.1", ""]))
headers = st.lists(noise, max_size=4)


def _read(text: str):
    address = parse_address(text)
    assert address is not None
    return address


def plain(text: str) -> str:
    return str(_read(text))


def node(text: str) -> str:
    return f'for="[{text}]:80"' if ":" in text else f"for={text}"


@given(outside, headers, headers)
def test_peer_that_is_no_proxy_is_itself_whatever_it_says(peer, forwarded_for, forwarded) -> None:
    assert client_ip(peer, forwarded_for, PROXIES, forwarded=forwarded) == plain(peer)
    assert client_ip(peer, forwarded_for, (), forwarded=forwarded) == plain(peer)


@given(proxies, outside, st.lists(proxies, max_size=3), st.lists(noise, max_size=3))
def test_what_a_client_writes_to_the_left_of_a_proxy_changes_nothing(peer, client, chain, said) -> None:
    hops = [client, *chain]
    assert client_ip(peer, [", ".join([*said, *hops])], PROXIES) == plain(client)
    # as one header or as several, as the one header or as the other
    assert client_ip(peer, [*said, *hops], PROXIES) == plain(client)
    assert client_ip(peer, [], PROXIES, forwarded=[", ".join(node(hop) for hop in hops)]) == plain(client)


@given(proxies, headers, headers)
def test_any_headers_of_a_proxy_name_an_address_or_are_refused(peer, forwarded_for, forwarded) -> None:
    try:
        client = client_ip(peer, forwarded_for, PROXIES, forwarded=forwarded)
    except BadRequestError:
        assert forwarded_for
        assert forwarded
        return
    assert plain(client) == client


@given(proxies, outside, outside)
def test_two_headers_that_disagree_are_refused_and_agreeing_ones_are_one(peer, one, other) -> None:
    assume(plain(one) != plain(other))
    assert client_ip(peer, [one], PROXIES, forwarded=[node(one)]) == plain(one)
    with pytest.raises(BadRequestError, match="name different clients"):
        client_ip(peer, [one], PROXIES, forwarded=[node(other)])


@given(st.lists(st.one_of(st.just(""), addresses), min_size=1, max_size=6))
def test_forwarded_is_read_back_as_it_was_written(hops) -> None:
    written = ",".join(node(hop) if hop else "for=unknown" for hop in hops)
    assert forwarded_hops([written]) == hops


@given(st.text(alphabet='for=";,[]: \t\\a1', max_size=2000))
def test_forwarded_of_any_form_is_read_in_time(text) -> None:
    assert len(forwarded_hops([text])) <= text.count(",") + 1
