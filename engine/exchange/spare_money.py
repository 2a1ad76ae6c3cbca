"""A quick yes to "does the money reach?": what is surely available, without asking the price of every position.

An account's money depends on the price of each of its positions, which is dear to ask for every order. But the
circuit limits bound a price: what would be left with all of them at their worst is surely there. Only an order
that this does not cover needs the exact figure of `engine.exchange.margin.funds_of`.
"""

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from engine.domain.instruments import Instrument
from engine.exchange import margin
from engine.exchange.instruments import Master
from engine.exchange.market import circuit_limits
from engine.exchange.orders import Lane
from engine.exchange.portfolio import Portfolio, PositionKey, PositionTotals

# sums of quotients are rounded in their 28th digit
_ROUNDING = Decimal("0.01")


class SpareMoney:
    """The least that an account's positions leave of its money, kept up as they change. Of one account."""

    def __init__(self) -> None:
        self._master: Master | None = None
        self._positions: dict[PositionKey, tuple[PositionTotals, Decimal]] = {}
        self._sum = Decimal(0)

    def surely_covers(
        self,
        required: Decimal,
        capital: Decimal,
        portfolio: Portfolio,
        lanes: Mapping[tuple[str, str, int], Lane],
        master: Master,
    ) -> bool:
        """Whether *required* rupees are there wherever within the circuit limits the prices stand.

        False says nothing. Only where prices keep to the limits: not for pinned or replayed ones.
        """
        self._follow(portfolio, master)
        # as if no working order closed a position
        blocked = sum(lane.blocked for lane in lanes.values())
        return required + _ROUNDING <= capital + portfolio.cash + self._sum - blocked

    def _follow(self, portfolio: Portfolio, master: Master) -> None:
        if master is not self._master:
            self._master, self._positions, self._sum = master, {}, Decimal(0)
        for key, totals in portfolio.positions.items():
            known = self._positions.get(key)
            if known is not None and known[0] == totals:
                continue
            least = _least(key, totals, master)
            self._sum += least - (known[1] if known is not None else Decimal(0))
            # totals change in place
            self._positions[key] = (msgspec.structs.replace(totals), least)
        if len(self._positions) > len(portfolio.positions):
            # some are gone: the day has rolled, or they were converted
            self._master = None
            self._follow(portfolio, master)


def _least(key: PositionKey, totals: PositionTotals, master: Master) -> Decimal:
    """Return what one position adds to its account's money (mostly less than 0) with its price at its worst."""
    alone = Portfolio()
    alone.positions[key] = totals

    def worst(name: str) -> Decimal:
        instrument: Instrument = master.by_key[name]
        lower, upper = circuit_limits(instrument)
        return lower if totals.quantity > 0 else upper

    return margin.funds_of(Decimal(0), alone, {}, master.by_key.get, worst).net
