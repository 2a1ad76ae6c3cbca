"""What the fast lane takes for a plain request is read the same by the slow road's parser, to the byte."""

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.http.plain_post import Verdict
from tests.support.two_roads import TARGET, agrees, fast

BODY = b'{"symbol":"INFY","quantity":1}'
HEAD = (
    b"Host: engine.example",
    b"Content-Type: application/json",
    b"X-API-Key: k3y",
    b"X-Signature: " + b"0f" * 32,
    b"X-Timestamp: 1764000000",
    b"Content-Length: %d" % len(BODY),
)


def request(*headers: bytes, line: bytes = b"POST " + TARGET + b" HTTP/1.1", body: bytes = BODY) -> bytes:
    return b"\r\n".join((line, *headers)) + b"\r\n\r\n" + body


PLAIN = request(*HEAD)


pieces = st.one_of(
    st.binary(max_size=6),
    st.sampled_from(
        [
            b"\r\n",
            b"\n",
            b"\r",
            b" ",
            b"\t",
            b":",
            b"\x00",
            b"0",
            b"chunked",
            b"\x0b",
            b"\x85",
            b"\xa0",
            b"\x7f",
            b"+",
            b",",
        ]
    ),
)


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, len(PLAIN)), st.integers(0, 3), pieces), min_size=1, max_size=4),
)
def test_damaged_request_is_read_as_the_slow_road_reads_it_or_not_at_all(edits: list[tuple[int, int, bytes]]) -> None:
    octets = PLAIN
    for place, cut, piece in edits:
        octets = octets[:place] + piece + octets[place + cut :]
    agrees(octets)


names = st.sampled_from(
    [
        *(b"Host", b"Content-Length", b"content-length", b"Transfer-Encoding", b"Connection", b"Expect", b"Upgrade"),
        *(b"TE", b"X-Signature", b"X-Thing", b"Content-Length ", b" Content-Length", b"X_Y", b"", b"X-\xe9"),
    ]
)
values = st.one_of(
    st.sampled_from(
        [b"30", b"+30", b"3 0", b"30, 30", b"0x1e", b"030", b"chunked", b"keep-alive", b"close", b"x", b""]
    ),
    st.binary(max_size=12),
)


@settings(max_examples=300)
@given(
    st.lists(
        st.builds(lambda n, c, v: n + c + v, names, st.sampled_from([b": ", b":", b" : ", b":\t"]), values), max_size=4
    ),
    st.permutations(HEAD),
)
def test_request_with_other_headers_is_read_as_the_slow_road_reads_it_or_not_at_all(
    more: list[bytes], usual: list[bytes]
) -> None:
    agrees(request(*usual, *more))
    agrees(request(*more, *usual) + PLAIN)


def test_plain_request_is_taken_with_all_that_follows_left_alone() -> None:
    assert agrees(PLAIN)
    assert agrees(PLAIN + PLAIN)
    assert agrees(request(*HEAD, b"Connection: keep-alive", b"X-Note:  two  words "))
    assert agrees(request(*HEAD[:-1], b"content-length: 0", body=b""))


def test_every_beginning_of_a_plain_request_waits_for_the_rest() -> None:
    for size in range(len(PLAIN)):
        assert fast(PLAIN[:size]) is Verdict.WAIT, PLAIN[:size]


def test_what_is_not_plain_is_handed_on() -> None:
    for octets in (
        request(*HEAD, line=b"POST " + TARGET + b" HTTP/1.0"),
        request(*HEAD, line=b"POST " + TARGET + b"?x=1 HTTP/1.1"),
        request(*HEAD, line=b"POST  " + TARGET + b" HTTP/1.1"),
        request(*HEAD, line=b"GET " + TARGET + b" HTTP/1.1"),
        request(*HEAD, line=b"POST http://engine.example" + TARGET + b" HTTP/1.1"),
        request(*HEAD[1:]),
        request(*HEAD, HEAD[0]),
        request(*HEAD, HEAD[-1]),
        request(*HEAD, b"Transfer-Encoding: chunked"),
        request(*HEAD, b"Connection: close"),
        request(*HEAD, b"Connection: keep-alive, upgrade"),
        request(*HEAD, b"Expect: 100-continue"),
        request(*HEAD, b" folded: line"),
        request(*HEAD[:-1], b"Content-Length: +30"),
        request(*HEAD[:-1], b"Content-Length: 65537"),
        request(*HEAD[:-1]),
        request(*HEAD, b"X: " + b"a" * 8200),
        request(*HEAD, *[b"X-%d: y" % n for n in range(64)]),
        PLAIN.replace(b"\r\n", b"\n"),
        PLAIN.replace(b"X-API-Key: k3y\r\n", b"X-API-Key: k3y\n"),
        b"\r\n" + PLAIN,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ):
        assert fast(octets) is Verdict.HAND_ON, octets[:120]
