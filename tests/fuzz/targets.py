"""What is fuzzed: readers of what strangers, senders of signals, proxies and the broker send (SEC-110).

A target takes any bytes. It may answer with a value or with the one error that its reader declares; anything else
is a finding, and so is a value that breaks what the reader promises.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import h11
import httptools
import msgspec

from engine.broker.kite import codec
from engine.broker.kite.answer import AnswerReader, OversizeError, ProtocolError
from engine.broker.kite.instruments import parse_instruments
from engine.broker.kite.postback import parse_postback
from engine.broker.kite.ticker_frames import decode_frame, decode_text
from engine.domain.signal import Refusal, Signal
from engine.errors import BadRequestError, BrokerUnavailable
from engine.http.client_ip import UNKNOWN, client_ip, is_in, parse_address, parse_networks
from engine.http.guard import fault_of
from engine.http.hosts import Names
from engine.http.json_body import parse_strict
from engine.security import standard_webhooks
from engine.security.signatures import SignatureFault, verify
from engine.signals import json_guard, sheets, telegram, text, tradingview
from tests.support import kite_answers as answers
from tests.support import two_roads

_NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
_PROXIES = parse_networks(["10.0.0.0/8", "2001:db8::/32"])
_LIMIT = 64 * 1024


class Target(NamedTuple):
    """*run* takes any bytes; *seeds* are good ones to begin with, *words* what they are made of."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()


def _signal(found: Signal | Refusal) -> None:
    """What a parser lets through can be traded: whole numbers above 0, finite prices, plain ASCII."""
    if isinstance(found, Refusal):
        assert found.message.isprintable(), "a refusal that cannot be shown"
        return
    assert found.quantity is None or 0 < found.quantity < 10**12
    for price in (found.price, found.trigger_price, found.stop_loss, found.target):
        assert price is None or (isinstance(price, Decimal) and price.is_finite() and price >= 0)
    assert found.symbol.isascii()
    assert found.symbol.isprintable()


def _text(octets: bytes) -> None:
    for found in text.parse_text(octets.decode("utf-8", "surrogateescape")):
        _signal(found)


def _update(octets: bytes) -> None:
    telegram.parse_update(octets)


def _json(octets: bytes) -> None:
    document = json_guard.read(octets)
    try:
        parse_strict(octets)
        is_refused = False
    except BadRequestError:
        is_refused = True
    assert isinstance(document, Refusal) == is_refused, "two readers of one format"
    if not is_refused:
        # what is taken can be written down and means the same to the decoder of the declared shapes
        assert msgspec.json.decode(octets, type=msgspec.Raw) is not None


def _sheet(octets: bytes) -> None:
    batch = sheets.parse(octets)
    if isinstance(batch, Refusal):
        return
    assert 1 <= len(batch.items) <= 100
    for item in batch.items:
        _signal(item)


def _alert(octets: bytes) -> None:
    tradingview.parse(octets)


def _signature(octets: bytes) -> None:
    signature, _, rest = octets.partition(b"\n")
    timestamp, _, body = rest.partition(b"\n")
    fault = verify(
        b"k" * 32,
        body,
        signature.decode("latin-1"),
        timestamp.decode("latin-1"),
        now=_NOW,
        max_skew_s=300,
        require_timestamp=True,
    )
    assert isinstance(fault, SignatureFault), "a signature was guessed"


def _standard(octets: bytes) -> None:
    signatures, _, rest = octets.partition(b"\n")
    message_id, _, rest = rest.partition(b"\n")
    timestamp, _, body = rest.partition(b"\n")
    fault = standard_webhooks.verify(
        [b"k" * 32],
        body,
        message_id=message_id.decode("latin-1"),
        timestamp=timestamp.decode("latin-1"),
        signatures=signatures.decode("latin-1"),
        now=_NOW,
        max_skew_s=300,
    )
    assert isinstance(fault, SignatureFault), "a signature was guessed"


def _plain(octets: bytes) -> None:
    """What the fast lane takes, the slow road's parser reads in the same way."""
    two_roads.agrees(octets)


def _typed(reader: Callable[[bytes], Any]) -> Callable[[bytes], None]:
    def run(octets: bytes) -> None:
        try:
            msgspec.json.encode(reader(octets))
        except BrokerUnavailable:
            return

    return run


def _broker(octets: bytes) -> None:
    for reader in (codec.decode_orders, codec.decode_positions, codec.decode_holdings, codec.decode_gtts):
        _typed(reader)(octets)
    for reader in (codec.decode_last_prices, codec.decode_margins, codec.decode_profile, codec.decode_order):
        _typed(reader)(octets)
    _typed(lambda body: codec.decode_trades(body, _NOW))(octets)


def _answer(octets: bytes) -> None:
    reader = AnswerReader(_LIMIT)
    middle = len(octets) // 2
    try:
        for part in (octets[:middle], octets[middle:]):
            if part:
                reader.feed(part)
        reader.feed_end()
    except (ProtocolError, OversizeError):
        return
    assert not reader.complete or 200 <= reader.status <= 999


def _forwarded(octets: bytes) -> None:
    """Whatever the headers say: a peer that is no proxy is itself, and a client is never one of the proxies' words."""
    plain, _, other = octets.decode("latin-1").partition("\n")
    assert client_ip("203.0.113.9", [plain], _PROXIES, forwarded=[other]) == "203.0.113.9"
    for forwarded in ([], [other]):
        try:
            client = client_ip("10.0.0.1", [plain], _PROXIES, forwarded=forwarded)
        except BadRequestError:
            continue
        address = parse_address(client)
        assert client != UNKNOWN
        assert address is not None
        # the right-most hop that is not a proxy: one more hop of the client's own on the left changes nothing
        if not forwarded and not is_in(address, _PROXIES):
            assert client_ip("10.0.0.1", ["198.51.100.1," + plain], _PROXIES) == client


class _Body:
    """What another reader of HTTP makes of the first request."""

    def __init__(self) -> None:
        self.body = b""
        self.is_whole = False

    def on_body(self, octets: bytes) -> None:
        if not self.is_whole:
            self.body += octets

    def on_message_complete(self) -> None:
        self.is_whole = True


_NAMES = Names((), "", ())


def _http(octets: bytes) -> None:
    """What is taken for a request means the same to another reader, or one of the two refuses it."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=16 * 1024)
    connection.receive_data(octets)
    request, body = None, b""
    try:
        while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                break
    except h11.RemoteProtocolError:
        return
    if request is None or not isinstance(event, h11.EndOfMessage):
        return
    path, _, query = request.target.partition(b"?")
    scope = {
        "headers": list(request.headers),
        "http_version": request.http_version.decode(),
        "raw_path": path,
        "query_string": query,
    }
    if fault_of(scope) is not None:
        return
    _NAMES.fault(request.method.decode("latin-1"), scope["headers"], "127.0.0.1", "http")
    other = _Body()
    parser = httptools.HttpRequestParser(other)
    try:
        parser.feed_data(octets)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        if not other.is_whole:
            return
    assert other.is_whole, "one reader sees a whole request, the other waits"
    assert other.body == body, "two readers see two bodies"


_ORDER = (
    b'{"symbol":"INFY","exchange":"NSE","transactionType":"BUY","quantity":1,"orderType":"LIMIT","price":1450.5,'
    b'"productType":"MIS"}'
)
_MESSAGE = (
    b'{"update_id":1,"message":{"message_id":2,"date":1700000000,"chat":{"id":3,"type":"private"},'
    b'"from":{"id":4,"is_bot":false},"text":"BUY INFY NSE\\nQty: 1"}}'
)
_TEXT = b"BUY RELIANCE NSE\nQty: 10\nPrice: 2450.50\nType: LIMIT\nProduct: MIS\n\nSELL INFY NSE 10 @ 1450.50 LIMIT MIS"

TARGETS: dict[str, Target] = {
    "telegram-text": Target(_text, (_TEXT,), (b"Qty:", b"SL:", b"@", b"\n\n", "\u0663".encode(), b"Account:")),
    "telegram-update": Target(_update, (_MESSAGE,), (b'"edited_message"', b'"callback_query"', b'"forward_origin"')),
    "json-guard": Target(_json, (_ORDER, b'{"a":[1,2.5,null,true,"x"]}'), (b"1e400", b"NaN", b"\\ud800", b'"a":1,')),
    "sheets": Target(_sheet, (_ORDER, b"[" + _ORDER + b"," + _ORDER + b"]"), (b'"stopLoss":', b'"target":')),
    "tradingview": Target(
        _alert, (_ORDER, b'{"secret":"x","symbol":"NSE:INFY"}', b"Secret: x\n" + _TEXT), (b"{{close}}",)
    ),
    "signature": Target(_signature, (b"0" * 64 + b"\n1763870400\n" + _ORDER,)),
    "standard-webhooks": Target(
        _standard, (b"v1," + b"A" * 43 + b"=\nmsg_1\n1763870400\n" + _ORDER,), (b"v1,", b"v1a,", b" ", b".")
    ),
    "plain-post": Target(
        _plain,
        (
            b"POST " + two_roads.TARGET + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nX-API-Key: k\r\n\r\n{}",
            b"POST "
            + two_roads.TARGET
            + b" HTTP/1.1\r\nhost: a\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n",
        ),
        (b"Transfer-Encoding:", b"Content-Length:", b"\r\n ", b"\x00", b"Host:", b"\n", b" :", b"\t", b"\x85"),
    ),
    "postback": Target(_typed(parse_postback), (msgspec.json.encode(answers.POSTBACK),), (b'"checksum":',)),
    "broker-answers": Target(
        _broker, (answers.ORDERS, answers.TRADES, answers.POSITIONS, answers.HOLDINGS, answers.MARGINS, answers.GTTS)
    ),
    "broker-http": Target(
        _answer,
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        ),
    ),
    "ticker": Target(_typed(decode_frame), (b"\x00\x01\x00\x08\x00\x00\x63\x01\x00\x02\x36\x68",)),
    "ticker-text": Target(
        _typed(decode_text), (answers.PUSH.encode() if isinstance(answers.PUSH, str) else answers.PUSH,)
    ),
    "instruments": Target(
        _typed(parse_instruments),
        (
            b"instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,lot_size,"
            b"instrument_type,segment,exchange\n408065,1594,INFY,INFOSYS,0.0,,0.0,0.05,1,EQ,NSE,NSE\n",
        ),
    ),
    "forwarded": Target(
        _forwarded,
        (b'203.0.113.9, 10.2.3.4\nfor=203.0.113.9;proto=https, for="[2001:db8::1]:47"', b"::ffff:1.2.3.4\nfor=_x"),
        (b"for=", b'"[', b"%eth0", b"::ffff:", b"unknown"),
    ),
    "http": Target(
        _http,
        (
            b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
            b"POST /x?y HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n",
            b"GET / HTTP/1.0\r\n\r\n",
        ),
        (b"Transfer-Encoding:", b"chunked", b"Content-Length:", b"\r\n ", b"\x00", b"identity", b"Host:", b"\n"),
    ),
}
