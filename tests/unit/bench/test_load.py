"""The load against a server of a few lines: what it sends, and that a server that stalls shifts no schedule."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

from engine.bench.load import Load
from engine.bench.signals import body_of, number_of, price_of, signer

STALL_S = 0.3


@contextmanager
def server(*, stall_at: int = -1, closes_at: int = -1) -> Iterator[tuple[str, list[bytes]]]:
    """Answer every request with 202, one connection at a time to each thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    bodies: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        with connection:
            data = b""
            while chunk := connection.recv(65536):
                data += chunk
                while (found := re.match(rb"(?s)(.*?Content-Length: (\d+)\r\n\r\n)", data)) is not None:
                    end = found.end() + int(found[2])
                    if len(data) < end:
                        break
                    bodies.append(data[found.end() : end])
                    data = data[end:]
                    if len(bodies) - 1 == stall_at:
                        time.sleep(STALL_S)
                    if len(bodies) - 1 == closes_at:
                        return
                    connection.sendall(b"HTTP/1.1 202 \r\ncontent-length: 2\r\n\r\n{}")

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", bodies
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def load_of(url: str, *, connections: int = 1, first: int = 0) -> Load:
    return Load(url, signer(url, "key", "secret"), connections=connections, first=first)


def test_open_loop_counts_the_wait_of_what_a_stall_held_up() -> None:
    with server(stall_at=2) as (url, _):
        sent = load_of(url).open_loop(100, 0.5)
    due = [each.due_ns for each in sent]
    assert {later - earlier for earlier, later in pairwise(due)} == {10_000_000}
    assert [each.status for each in sent] == [202] * 50
    # the one connection was busy, and those that were due meanwhile have waited since then
    held_up = [each for each in sent if each.sent_ns - each.due_ns > 50_000_000]
    assert held_up
    assert all(each.answered_ns > each.sent_ns >= each.due_ns for each in sent)


def test_burst_sends_each_number_once_and_is_numbered_on() -> None:
    with server() as (url, bodies):
        sent = load_of(url, connections=4, first=7).burst(20)
    assert sorted(each.number for each in sent) == list(range(7, 27))
    assert sorted(number_of(f"{json.loads(body)['price']:.2f}") for body in bodies) == list(range(7, 27))


def test_what_got_no_answer_is_not_accepted_and_the_load_goes_on() -> None:
    with server(closes_at=1) as (url, _):
        sent = load_of(url).burst(4)
    assert sorted(each.accepted for each in sent) == [False, True, True, True]


def test_closed_loop_ends_when_it_is_stopped() -> None:
    with server() as (url, _):
        load = load_of(url)
        threading.Timer(0.1, load.stop).start()
        assert load.closed_loop(60)


def test_signals_have_a_price_each_by_which_they_are_known() -> None:
    assert [number_of(price_of(number)) for number in (0, 1, 19_999)] == [0, 1, 19_999]
    assert [number_of(price) for price in ("999.95", "1000.01", "1000.051", "x", "", "1000.1")] == [
        -1,
        -1,
        -1,
        -1,
        -1,
        2,
    ]
    assert json.loads(body_of(3))["transactionType"] == "SELL"
