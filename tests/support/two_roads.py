"""One request, read by the fast lane and by the parser of the slow road."""

import h11

from engine.http.plain_post import PlainPost, Verdict, read

TARGET = b"/api/v1/signals/sheets/webhook"


def fast(octets: bytes) -> PlainPost | Verdict:
    """Read as the fast lane does."""
    return read(octets, is_ours=lambda target: target == TARGET)


def slow(octets: bytes) -> tuple[bytes, list[tuple[bytes, bytes]], bytes, bytes]:
    """Read one whole request as Hypercorn does; return target, headers, body and what is left."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=16 * 1024)
    connection.receive_data(octets)
    head = connection.next_event()
    assert isinstance(head, h11.Request)
    assert head.method == b"POST"
    assert head.http_version == b"1.1"
    body = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data), event
        body += event.data
    return head.target, list(head.headers), body, connection.trailing_data[0]


def agrees(octets: bytes) -> bool:
    """Check that both read the same; tell whether the fast lane took it at all."""
    found = fast(octets)
    if not isinstance(found, PlainPost):
        return False
    target, headers, body, left = slow(octets)
    assert (found.target, found.headers, found.body) == (target, headers, body)
    assert octets[found.size :] == left
    return True
