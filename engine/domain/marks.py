"""Which holdings of an instrument are not marked at its price.

A thousand accounts that hold one share are told its price by a thousand reads: the second and all later ones shall
cost what they change, which is next to nothing.
"""

from collections import defaultdict
from decimal import Decimal
from typing import Generic, TypeVar

from engine.domain.enums import Exchange

H = TypeVar("H")

Name = tuple[Exchange, str]
"""An instrument, as exchange and symbol."""

Priced = tuple[Exchange, str, Decimal]
"""An instrument, as exchange and symbol, and its last price in rupees."""


class Marks(Generic[H]):
    """The price that each instrument is marked at, and the holdings of it that are at that price or are not."""

    def __init__(self) -> None:
        self._prices: dict[Name, Decimal] = {}
        self._at: defaultdict[Name, set[H]] = defaultdict(set)
        self._off: defaultdict[Name, set[H]] = defaultdict(set)

    def put(self, name: Name, holding: H, price: Decimal) -> None:
        """A holding of the instrument *name* stands at *price*."""
        into, out_of = (self._at, self._off) if self._prices.get(name) == price else (self._off, self._at)
        into[name].add(holding)
        out_of[name].discard(holding)

    def drop(self, name: Name, holding: H) -> None:
        """The holding is gone."""
        self._at[name].discard(holding)
        self._off[name].discard(holding)

    def move(self, name: Name, price: Decimal) -> list[H]:
        """Mark an instrument at *price*: return the holdings that may not stand at it, for the caller to mark."""
        off, at = self._off[name], self._at[name]
        moved = list(off)
        if self._prices.get(name) != price:
            self._prices[name] = price
            moved += at
        at |= off
        off.clear()
        return moved

    def count(self, name: Name) -> int:
        """Return how many holdings there are of an instrument."""
        return len(self._at.get(name, ())) + len(self._off.get(name, ()))

    def clear(self) -> None:
        """Forget everything."""
        self._prices.clear()
        self._at.clear()
        self._off.clear()
