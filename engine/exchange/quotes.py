"""A quote as Kite shows it (kite.md 12): the rows of the three quote routes, and the five-deep book."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from engine.domain.instruments import Instrument
from engine.exchange.market import Quote
from engine.exchange.rows import number, stamp

QuoteForm = Literal["full", "ohlc", "ltp"]
DEPTH = 5


class Level(NamedTuple):
    """One price of the book, in rupees, with the units and the orders there; zeros where it is empty."""

    price: Decimal
    quantity: int
    orders: int


class Book(NamedTuple):
    """The five best bids and offers, and the units of all of them, deeper ones included."""

    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    buy_quantity: int
    sell_quantity: int


_EMPTY = Level(Decimal(0), 0, 0)
_NO_BOOK = Book((_EMPTY,) * DEPTH, (_EMPTY,) * DEPTH, 0, 0)


def book_of(instrument: Instrument, quote: Quote) -> Book:
    """Return the book round the last price; that of an index is empty, and none goes past the circuit limits."""
    if instrument.segment == "INDICES":
        return _NO_BOOK
    bids, asks = _side(instrument, quote, -1), _side(instrument, quote, 1)
    return Book(
        bids,
        asks,
        sum(level.quantity for level in bids) + quote.volume // 4,
        sum(level.quantity for level in asks) + quote.volume // 5,
    )


def quote_row(instrument: Instrument, quote: Quote, form: QuoteForm, now: datetime) -> dict[str, Any]:
    """Return the quote of an instrument in one of Kite's three forms."""
    row: dict[str, Any] = {"instrument_token": instrument.token, "last_price": number(quote.last_price)}
    if form == "ltp":
        return row
    prices = (("open", quote.open), ("high", quote.high), ("low", quote.low), ("close", quote.close))
    row["ohlc"] = {name: number(price) for name, price in prices}
    if form == "ohlc":
        return row
    is_index = instrument.segment == "INDICES"
    book = book_of(instrument, quote)
    row |= {
        "timestamp": stamp(now),
        "last_trade_time": None if is_index else stamp(quote.last_trade_at),
        "last_quantity": 0 if is_index else quote.last_quantity,
        "buy_quantity": book.buy_quantity,
        "sell_quantity": book.sell_quantity,
        "volume": quote.volume,
        "average_price": 0 if is_index else number(quote.average_price),
        "oi": quote.oi,
        "oi_day_high": quote.oi_day_high,
        "oi_day_low": quote.oi_day_low,
        "net_change": number(quote.last_price - quote.close),
        "lower_circuit_limit": 0 if is_index else number(quote.lower_circuit),
        "upper_circuit_limit": 0 if is_index else number(quote.upper_circuit),
        "depth": {
            name: [{"price": number(level.price), "quantity": level.quantity, "orders": level.orders} for level in side]
            for name, side in (("buy", book.bids), ("sell", book.asks))
        },
    }
    return row


def _side(instrument: Instrument, quote: Quote, sign: int) -> tuple[Level, ...]:
    tick, ticks = instrument.tick_size, int(quote.last_price / instrument.tick_size)
    # best bid and best offer are both the last price: it is what either side trades at
    levels = []
    for step in range(DEPTH):
        price = quote.last_price + sign * step * tick
        if quote.lower_circuit <= price <= quote.upper_circuit:
            busy = (instrument.token * 7 + (ticks + sign * step) * 13) % 97
            levels.append(Level(price, (step + 1) * (10 + busy) * instrument.lot_size, 1 + (step + busy) % 9))
        else:
            levels.append(_EMPTY)
    return tuple(levels)
