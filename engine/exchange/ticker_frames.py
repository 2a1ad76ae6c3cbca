"""The ticker's binary frames: packets of 8, 44 and 184 bytes, of an index 8, 28 and 32 (kite.md 15.4). Pure.

All numbers are big-endian; prices are integers of the divisor that the token's segment has.
"""

import struct
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Literal

from engine.domain.instruments import Instrument
from engine.exchange.market import Quote
from engine.exchange.quotes import Book, Level

Mode = Literal["ltp", "quote", "full"]
HEARTBEAT = b"\x00"
MAX_PACKETS = 1000
_CDS, _BCD, _INDICES, _NCO = 3, 6, 9, 12
_UINT32 = 2**32
_LTP = struct.Struct(">2I")
_QUOTE = struct.Struct(">11I")
_TAIL = struct.Struct(">5I")
_LEVEL = struct.Struct(">2IH2x")
_INDEX = struct.Struct(">6Ii")
_STAMP = struct.Struct(">I")


def divisor(token: int) -> int:
    """Return what an instrument's prices are multiplied by: 10,000,000 on CDS, 10,000 on BCD and NCO, else 100."""
    segment = token & 0xFF
    if segment == _CDS:
        return 10_000_000
    return 10_000 if segment in (_BCD, _NCO) else 100


def ltp_packet(token: int, last_price: Decimal) -> bytes:
    """Return the packet of mode ltp; the price is rupees."""
    return _LTP.pack(token, _price(last_price, divisor(token)))


def quote_packet(instrument: Instrument, quote: Quote, book: Book) -> bytes:
    """Return the packet of mode quote; an index has one of its own form."""
    token, unit = instrument.token, divisor(instrument.token)
    if token & 0xFF == _INDICES:
        return _INDEX.pack(
            token,
            _price(quote.last_price, unit),
            _price(quote.high, unit),
            _price(quote.low, unit),
            _price(quote.open, unit),
            _price(quote.close, unit),
            int((quote.last_price - quote.close) * unit),
        )
    return _QUOTE.pack(
        token,
        _price(quote.last_price, unit),
        quote.last_quantity % _UINT32,
        _price(quote.average_price, unit),
        quote.volume % _UINT32,
        book.buy_quantity % _UINT32,
        book.sell_quantity % _UINT32,
        _price(quote.open, unit),
        _price(quote.high, unit),
        _price(quote.low, unit),
        _price(quote.close, unit),
    )


def full_packet(instrument: Instrument, quote: Quote, book: Book, now: datetime) -> bytes:
    """Return the packet of mode full; *now* is the exchange's time stamp."""
    head, at = quote_packet(instrument, quote, book), int(now.timestamp())
    if instrument.token & 0xFF == _INDICES:
        return head + _STAMP.pack(at)
    unit = divisor(instrument.token)
    return b"".join(
        (
            head,
            _TAIL.pack(
                int(quote.last_trade_at.timestamp()),
                quote.oi % _UINT32,
                quote.oi_day_high % _UINT32,
                quote.oi_day_low % _UINT32,
                at,
            ),
            *(_level(level, unit) for level in (*book.bids, *book.asks)),
        )
    )


def frames(packets: Sequence[bytes]) -> Iterator[bytes]:
    """Pack *packets* into as few binary messages as hold at most MAX_PACKETS each."""
    for start in range(0, len(packets), MAX_PACKETS):
        yield _frame(packets[start : start + MAX_PACKETS])


def _frame(packets: Sequence[bytes]) -> bytes:
    parts = [len(packets).to_bytes(2)]
    for packet in packets:
        parts += (len(packet).to_bytes(2), packet)
    return b"".join(parts)


def _level(level: Level, unit: int) -> bytes:
    return _LEVEL.pack(level.quantity % _UINT32, _price(level.price, unit), level.orders)


def _price(price: Decimal, unit: int) -> int:
    return int(price * unit) % _UINT32
