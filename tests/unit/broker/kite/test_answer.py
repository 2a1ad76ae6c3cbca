import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.broker.kite.answer import AnswerReader, OversizeError, ProtocolError

BODY = b'{"status":"success"}'
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n" + BODY
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\n" + BODY[:5] + b"\r\nf\r\n" + BODY[5:] + b"\r\n0\r\n\r\n"
)
UNTIL_END = b"HTTP/1.1 400 Bad\r\nContent-Type: application/json\r\n\r\n" + BODY


def read(raw: bytes, size: int = 65536, limit: int = 10_000) -> AnswerReader:
    reader = AnswerReader(limit)
    for start in range(0, len(raw), size):
        reader.feed(raw[start : start + size])
    return reader


@given(st.sampled_from([LENGTH, CHUNKED, b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH]), st.integers(1, 200))
def test_answer_in_any_pieces_is_read_whole(raw, size):
    reader = read(raw, size)
    assert (reader.complete, reader.reusable, reader.status) == (True, True, 200)
    assert (reader.body, reader.content_type) == (BODY, "application/json")


@given(st.sampled_from([LENGTH, CHUNKED]), st.data())
def test_answer_cut_anywhere_is_not_complete(raw, data):
    reader = read(raw[: data.draw(st.integers(0, len(raw) - 1))])
    reader.feed_end()
    assert not reader.complete


def test_answer_without_length_ends_with_the_connection():
    reader = read(UNTIL_END)
    assert not reader.complete
    reader.feed_end()
    assert (reader.complete, reader.reusable, reader.body) == (True, False, BODY)


@pytest.mark.parametrize("extra", [LENGTH, b"HTTP/1.1 408 Request Timeout\r\n\r\n", b"garbage"])
def test_answer_followed_by_another_keeps_the_first_and_gives_up_the_connection(extra):
    reader = read(LENGTH + extra)
    assert (reader.complete, reader.reusable, reader.status, reader.body) == (True, False, 200, BODY)


def test_answer_that_asks_to_close_is_not_reusable():
    reader = read(LENGTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
    assert (reader.complete, reader.reusable) == (True, False)


@pytest.mark.parametrize("raw", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00\x01\x02\x03\x04"])
def test_answer_that_is_not_http_is_a_protocol_error(raw):
    with pytest.raises(ProtocolError):
        read(raw)


def test_answer_over_the_limit_is_oversize():
    with pytest.raises(OversizeError):
        read(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200, size=50, limit=150)
    with pytest.raises(OversizeError):
        read(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200, size=50, limit=150)


def test_answer_that_was_read_is_freed_at_once_and_not_when_the_collector_comes_by():
    gc.disable()
    try:
        with AnswerReader(1_000_000) as reader:
            reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        assert (reader.complete, reader.reusable, reader.body) == (True, True, b"hello")
        with pytest.raises(ProtocolError):
            reader.feed(b"more")
        alive = weakref.ref(reader)
        del reader
        assert alive() is None
    finally:
        gc.enable()
