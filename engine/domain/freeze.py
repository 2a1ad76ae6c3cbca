"""Freeze quantities: the largest single order that an exchange takes of an instrument.

No API and no dump has them (kite.md 11): they come from the exchanges' notices, from whoever runs the
engine, and from the texts of refusals. In a derivatives segment one holds for every contract of an
underlying; on NSE and BSE for a share. In the units of an order's quantity: shares, units, or lots on
MCX, CDS and BCD.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from enum import StrEnum
from io import StringIO

import msgspec

from engine.domain.enums import Exchange

_REFUSAL = re.compile(r"higher than the maximum quantity of ([0-9]{1,9})(?![0-9,.])", re.ASCII)
_SYMBOL = re.compile(r"[A-Z0-9&_\-. ]{1,40}")
_QUANTITY = re.compile(r"[1-9][0-9]{0,8}")
_EXCHANGES = {exchange.value: exchange for exchange in Exchange}


class FreezeOrigin(StrEnum):
    """Who says so."""

    DEFAULT = "default"
    USER = "user"
    LEARNED = "learned"


class FreezeQuantity(msgspec.Struct, frozen=True, kw_only=True):
    """The largest single order of one instrument or of every contract of an underlying.

    ``symbol`` is a trading symbol, or the underlying's name as the instrument master has it (``NIFTY``).
    """

    exchange: Exchange
    symbol: str
    quantity: int
    origin: FreezeOrigin
    as_of: date


_NOTICE = date(2026, 11, 1)

DEFAULTS: tuple[FreezeQuantity, ...] = tuple(
    FreezeQuantity(exchange=Exchange.NFO, symbol=symbol, quantity=quantity, origin=FreezeOrigin.DEFAULT, as_of=_NOTICE)
    for symbol, quantity in (("NIFTY", 1800), ("BANKNIFTY", 600))
)
"""What is built in, after NSE's notices of 2026. The list of the exchange is the truth; it changes monthly."""


class FreezeTable:
    """Freeze quantities by exchange and symbol; a value: changes return a new table. Later rows win."""

    def __init__(self, rows: Iterable[FreezeQuantity] = ()) -> None:
        self._rows = {(row.exchange, row.symbol): row for row in rows}

    def find(self, exchange: Exchange, symbol: str, underlying: str = "") -> FreezeQuantity | None:
        """Return the row of a trading symbol, else that of its underlying, else None."""
        found = self._rows.get((exchange, symbol))
        if found is None and underlying:
            return self._rows.get((exchange, underlying))
        return found

    def with_rows(self, rows: Iterable[FreezeQuantity]) -> "FreezeTable":
        """Return this table with *rows* in place of those of the same exchange and symbol."""
        return FreezeTable([*self, *rows])

    def __iter__(self) -> Iterator[FreezeQuantity]:
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)


class FreezeFault(ValueError):
    """What is wrong with a list of freeze quantities, and in which row."""


def freeze_row(exchange: object, symbol: object, quantity: object, *, as_of: date) -> FreezeQuantity:
    """Return one row of a user's list. Raises FreezeFault that names the field and the mend."""
    known = _EXCHANGES.get(str(exchange).strip().upper())
    if known is None:
        raise FreezeFault(f"exchange: write one of {', '.join(Exchange)}")
    name = str(symbol).strip().upper()
    if not _SYMBOL.fullmatch(name):
        raise FreezeFault("symbol: write a trading symbol or the name of an underlying, such as NIFTY")
    text = str(quantity).strip()
    if not _QUANTITY.fullmatch(text):
        raise FreezeFault("quantity: write a whole number from 1 to 999999999")
    return FreezeQuantity(exchange=known, symbol=name, quantity=int(text), origin=FreezeOrigin.USER, as_of=as_of)


def freeze_list(text: str, *, as_of: date) -> list[FreezeQuantity]:
    """Read CSV with the columns exchange, symbol (or underlying) and quantity. Raises FreezeFault with the line."""
    reader = csv.reader(StringIO(text.removeprefix("\ufeff"), newline=""))
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        columns = [
            next((header.index(name) for name in names if name in header), None)
            for names in (("exchange",), ("symbol", "underlying"), ("quantity",))
        ]
        if None in columns:
            raise FreezeFault("line 1: begin with a line naming the columns: exchange,symbol,quantity")
        rows: list[FreezeQuantity] = []
        for row in reader:
            if any(cell.strip() for cell in row):
                cells = [row[at] if at is not None and at < len(row) else "" for at in columns]
                rows.append(_at_line(reader.line_num, cells, as_of))
    except csv.Error as error:
        raise FreezeFault(f"line {reader.line_num}: {error}") from None
    return checked(rows)


def _at_line(number: int, cells: Sequence[str], as_of: date) -> FreezeQuantity:
    try:
        return freeze_row(*cells, as_of=as_of)
    except FreezeFault as fault:
        raise FreezeFault(f"line {number}: {fault}") from None


def checked(rows: list[FreezeQuantity]) -> list[FreezeQuantity]:
    """Return *rows*. Raises FreezeFault when two speak of the same symbol."""
    seen: set[tuple[Exchange, str]] = set()
    for row in rows:
        if (row.exchange, row.symbol) in seen:
            raise FreezeFault(f"{row.exchange}:{row.symbol} is there twice: keep one")
        seen.add((row.exchange, row.symbol))
    return rows


def freeze_from_refusal(message: str) -> int | None:
    """Return the freeze quantity that a refusal names, in the units of the order; None when it names none.

    Kite's text: ``The order quantity 1000 (40 lots) is higher than the maximum quantity of 900 (36 lots)
    allowed by the exchanges.`` (kite.md 7). The OMS's own ``Check freeze quantity`` has no number.
    """
    found = _REFUSAL.search(message)
    return int(found[1]) or None if found else None
