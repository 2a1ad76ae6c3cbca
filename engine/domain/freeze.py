"""Freeze quantities: the largest single order that an exchange takes of an instrument.

No API and no dump has them (kite.md 11): they come from the exchanges' notices, from whoever runs the
engine, and from the texts of refusals. In a derivatives segment one holds for every contract of an
underlying; on NSE and BSE for a share. In the units of an order's quantity: shares, units, or lots on
MCX, CDS and BCD.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import date
from enum import StrEnum

import msgspec

from engine.domain.enums import Exchange

_REFUSAL = re.compile(r"higher than the maximum quantity of ([0-9]{1,9})(?![0-9,.])", re.ASCII)


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


def freeze_from_refusal(message: str) -> int | None:
    """Return the freeze quantity that a refusal names, in the units of the order; None when it names none.

    Kite's text: ``The order quantity 1000 (40 lots) is higher than the maximum quantity of 900 (36 lots)
    allowed by the exchanges.`` (kite.md 7). The OMS's own ``Check freeze quantity`` has no number.
    """
    found = _REFUSAL.search(message)
    return int(found[1]) or None if found else None
