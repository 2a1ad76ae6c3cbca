"""The benchmark's broker, read by the engine's own codec."""

import msgspec

from engine.bench.broker import Broker
from engine.bench.figures import Received
from engine.broker.kite.codec import (
    decode_holdings,
    decode_last_prices,
    decode_margins,
    decode_orders,
    decode_positions,
    decode_profile,
    decode_trades,
)
from engine.broker.kite.instruments import parse_instruments
from engine.clock import SystemClock

FORM = (
    "exchange=NSE&tradingsymbol=INFY&transaction_type={side}&order_type=LIMIT&quantity=2&product=MIS"
    "&price=1000.05&validity=DAY&tag=T1"
)


class _Line:
    def __init__(self) -> None:
        self.answers: list[bytes] = []

    def sendall(self, answer: bytes) -> None:
        self.answers.append(answer)


def ask(broker: Broker, method: str, target: str, form: str = "") -> bytes:
    line, body = _Line(), form.encode()
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: token key1:anything\r\nContent-Length: {len(body)}"
    request = head.encode() + b"\r\n\r\n" + body
    # whole only with its last byte
    rest = broker._take(line, request[:-1], 1)  # type: ignore[arg-type]
    assert line.answers == []
    assert broker._take(line, rest + request[-1:], 77) == b""  # type: ignore[arg-type]
    return line.answers[0].partition(b"\r\n\r\n")[2]


def test_orders_fill_at_once_and_are_noted_by_their_signal() -> None:
    broker = Broker(SystemClock())
    for side in ("BUY", "BUY", "SELL"):
        assert b"order_id" in ask(broker, "POST", "/orders/regular", FORM.format(side=side))
    orders = decode_orders(ask(broker, "GET", "/orders"))
    assert [(order.raw_status, order.filled_quantity, order.tag) for order in orders] == [("COMPLETE", 2, "T1")] * 3
    assert len({order.broker_order_id for order in orders}) == 3
    assert len(decode_trades(ask(broker, "GET", "/trades"), SystemClock().now())) == 3
    assert [row.quantity for row in decode_positions(ask(broker, "GET", "/portfolio/positions")).net] == [2]
    noted = msgspec.json.decode(ask(broker, "GET", "/_control/orders"), type=list[Received])
    assert [(each.at_ns, each.account, each.number, each.tag) for each in noted] == [(77, "key1", 1, "T1")] * 3
    ask(broker, "POST", "/_control/reset")
    assert ask(broker, "GET", "/_control/count") == b"0"
    assert len(decode_orders(ask(broker, "GET", "/orders"))) == 3, "an order that vanished would be looked for"


def test_book_that_grew_large_is_forgotten_once_its_end_was_read() -> None:
    broker = Broker(SystemClock())
    for _ in range(501):
        ask(broker, "POST", "/orders/regular", FORM.format(side="BUY"))
    ask(broker, "GET", "/orders")
    ask(broker, "POST", "/_control/reset")
    assert len(decode_orders(ask(broker, "GET", "/orders"))) == 501
    ask(broker, "GET", "/trades")
    ask(broker, "POST", "/_control/reset")
    assert decode_orders(ask(broker, "GET", "/orders")) == []


def test_everything_else_that_an_engine_reads_is_there() -> None:
    broker = Broker(SystemClock())
    assert len(parse_instruments(ask(broker, "GET", "/instruments"))) == 20
    assert decode_profile(ask(broker, "GET", "/user/profile")).user_id == "KEY1"
    assert decode_margins(ask(broker, "GET", "/user/margins")).equity is not None
    assert decode_holdings(ask(broker, "GET", "/portfolio/holdings")) == []
    assert list(decode_last_prices(ask(broker, "GET", "/quote/ltp?i=NSE:INFY&i=NSE:NOSUCH"))) == ["NSE:INFY"]
    assert b"Route not found" in ask(broker, "GET", "/elsewhere")
