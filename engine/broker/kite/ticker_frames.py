"""What comes over Kite's WebSocket, read exactly, and the texts that subscribe to it. Pure.

Layouts: Kite Connect v3, WebSocket streaming (https://kite.trade/docs/connect/v3/websocket/), where they
differ the official Python parser. Numbers are big-endian and unsigned; prices are whole numbers whose
divisor depends on the segment, the low byte of the instrument token. Anything that cannot be read raises
BrokerUnavailable and never another exception.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from struct import Struct

import msgspec

from engine.broker.kite.codec import decode_order
from engine.broker.values import BrokerOrder
from engine.errors import BrokerUnavailable
from engine.observability.redaction import escape_controls


class Mode(StrEnum):
    """How much a packet tells: the last price; also volume, totals and the day's prices; also depth and times."""

    LTP = "ltp"
    QUOTE = "quote"
    FULL = "full"


class Depth(msgspec.Struct, frozen=True, kw_only=True):
    """One level of the order book: units, rupees, and the number of orders."""

    quantity: int
    price: Decimal
    orders: int


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """One packet: prices are rupees, quantities units, times aware UTC; what the mode lacks is None or empty.

    ``close`` is the previous day's. Volume and open interest wrap at 2**32, as the wire has them.
    """

    token: int
    mode: Mode
    is_tradable: bool
    last_price: Decimal
    last_quantity: int | None = None
    average_price: Decimal | None = None
    volume: int | None = None
    buy_quantity: int | None = None
    sell_quantity: int | None = None
    open: Decimal | None = None
    high: Decimal | None = None
    low: Decimal | None = None
    close: Decimal | None = None
    last_trade_at: datetime | None = None
    oi: int | None = None
    oi_day_high: int | None = None
    oi_day_low: int | None = None
    exchange_at: datetime | None = None
    bids: tuple[Depth, ...] = ()
    asks: tuple[Depth, ...] = ()


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A text of the broker to the client: ``kind`` is ``error`` or ``message``."""

    kind: str
    text: str


Text = BrokerOrder | Notice | None
"""What a text message tells; None for a kind that nobody knows."""

_COUNT = Struct(">H")
_LTP = Struct(">2I")
_INDEX = Struct(">6I")
_QUOTE = Struct(">11I")
_TIMES = Struct(">5I")
_LEVEL = Struct(">2IH2x")
_WORD = Struct(">I")
_LEVELS_AT, _LEVELS, _SIDES = 64, 5, 2
_INDICES = 9
# Decimal places by segment: currency derivatives have more than the two of everything else.
_PLACES = {3: 7, 6: 4, 12: 4}
_TOKENS_PER_TEXT = 1000
_SHOWN = 300


def decode_frame(frame: bytes) -> tuple[Tick, ...]:
    """Return the ticks of a binary message; none for a heartbeat, which is shorter than a header.

    A packet of a length that nobody knows is left out. Raises BrokerUnavailable for a frame that ends
    before its packets do.
    """
    return tuple(tick for packet in _packets(frame) if (tick := _tick(packet)) is not None)


def _packets(frame: bytes) -> Iterator[bytes]:
    if len(frame) < _COUNT.size:
        return
    count, at = _COUNT.unpack_from(frame)[0], _COUNT.size
    for number in range(count):
        if at + _COUNT.size > len(frame):
            raise BrokerUnavailable(f"ticker frame: {len(frame)} bytes end before packet {number + 1} of {count}")
        start = at + _COUNT.size
        at = start + _COUNT.unpack_from(frame, at)[0]
        if at > len(frame):
            raise BrokerUnavailable(f"ticker frame: {len(frame)} bytes end within packet {number + 1} of {count}")
        yield frame[start:at]


def _tick(packet: bytes) -> Tick | None:
    match len(packet):
        case 8:
            token, last = _LTP.unpack(packet)
            return Tick(
                token=token, mode=Mode.LTP, is_tradable=_is_tradable(token), last_price=_price(last, _places(token))
            )
        case 28 | 32:
            return _index(packet)
        case 44 | 184:
            return _quote(packet)
    return None


def _index(packet: bytes) -> Tick:
    token, last, high, low, open_, close = _INDEX.unpack_from(packet)
    places = _places(token)
    is_full = len(packet) == 32
    return Tick(
        token=token,
        mode=Mode.FULL if is_full else Mode.QUOTE,
        is_tradable=_is_tradable(token),
        last_price=_price(last, places),
        open=_price(open_, places),
        high=_price(high, places),
        low=_price(low, places),
        close=_price(close, places),
        exchange_at=_moment(_WORD.unpack_from(packet, 28)[0]) if is_full else None,
    )


def _quote(packet: bytes) -> Tick:
    token, last, quantity, average, volume, buying, selling, open_, high, low, close = _QUOTE.unpack_from(packet)
    places = _places(token)
    tick = Tick(
        token=token,
        mode=Mode.QUOTE,
        is_tradable=_is_tradable(token),
        last_price=_price(last, places),
        last_quantity=quantity,
        average_price=_price(average, places),
        volume=volume,
        buy_quantity=buying,
        sell_quantity=selling,
        open=_price(open_, places),
        high=_price(high, places),
        low=_price(low, places),
        close=_price(close, places),
    )
    if len(packet) == _QUOTE.size:
        return tick
    traded_at, oi, oi_high, oi_low, exchange_at = _TIMES.unpack_from(packet, _QUOTE.size)
    levels = [
        Depth(quantity=units, price=_price(price, places), orders=orders)
        for units, price, orders in (
            _LEVEL.unpack_from(packet, _LEVELS_AT + number * _LEVEL.size) for number in range(_SIDES * _LEVELS)
        )
    ]
    return msgspec.structs.replace(
        tick,
        mode=Mode.FULL,
        last_trade_at=_moment(traded_at),
        oi=oi,
        oi_day_high=oi_high,
        oi_day_low=oi_low,
        exchange_at=_moment(exchange_at),
        bids=tuple(levels[:_LEVELS]),
        asks=tuple(levels[_LEVELS:]),
    )


def _places(token: int) -> int:
    return _PLACES.get(token & 0xFF, 2)


def _is_tradable(token: int) -> bool:
    return token & 0xFF != _INDICES


def _price(number: int, places: int) -> Decimal:
    return Decimal(number).scaleb(-places)


def _moment(seconds: int) -> datetime | None:
    # an instrument that has not traded yet has no time
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


class _Envelope(msgspec.Struct):
    type: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


_ENVELOPE = msgspec.json.Decoder(_Envelope)


def decode_text(text: str | bytes) -> Text:
    """Return what a text message tells.

    Raises BrokerUnavailable when it is no message at all, or an order that cannot be read.
    """
    try:
        envelope = _ENVELOPE.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise BrokerUnavailable(f"ticker text cannot be read: {exc}") from exc
    if envelope.type == "order":
        order = decode_order(bytes(envelope.data))
        if not order.broker_order_id:
            raise BrokerUnavailable("ticker text: an order without order_id")
        return order
    if envelope.type in ("error", "message"):
        return Notice(kind=envelope.type, text=escape_controls(_words(bytes(envelope.data))[:_SHOWN]))
    return None


def _words(data: bytes) -> str:
    try:
        return msgspec.json.decode(data, type=str)
    except (msgspec.MsgspecError, ValueError):
        return data.decode("utf-8", "replace")


def subscription_texts(before: Mapping[int, Mode], after: Mapping[int, Mode]) -> list[str]:
    """Return the texts that turn the subscriptions *before* (mode by token) into *after*, in order.

    A plain subscription is in quote mode, so that the mode is always sent with it.
    """
    texts = [_text("unsubscribe", part) for part in _parts([token for token in before if token not in after])]
    texts += [_text("subscribe", part) for part in _parts([token for token in after if token not in before])]
    for mode in Mode:
        changed = [token for token, wanted in after.items() if wanted is mode and before.get(token) is not mode]
        texts += [_text("mode", [mode.value, part]) for part in _parts(changed)]
    return texts


def _parts(tokens: Sequence[int]) -> list[Sequence[int]]:
    return [tokens[start : start + _TOKENS_PER_TEXT] for start in range(0, len(tokens), _TOKENS_PER_TEXT)]


def _text(action: str, value: Sequence[object]) -> str:
    return msgspec.json.encode({"a": action, "v": value}).decode()
