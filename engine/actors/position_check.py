"""Comparing our positions with the broker's, and taking over the broker's figures where they differ.

Orders come first: what an order explains is booked by its trades. What no order explains (a
conversion, a transfer, an expiry, a trade while the engine was away) shows as a difference that stays.
Where the trade book and the positions tell of different trades, one of them lags (kite.md 8.3) and the
fills of it are on their way; that is believed only once it has stood for a minute.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence

import structlog

from engine.actors.executor_context import ExecutorContext
from engine.actors.look import Look
from engine.actors.order_desk import OrderDesk
from engine.actors.position_desk import DELIVERED
from engine.actors.reconcile_report import Found
from engine.broker.values import BrokerHolding, BrokerPositions, BrokerTrade, member
from engine.clock import trading_day
from engine.domain.difference import Difference, DifferenceKind, TwoReads, absent_rows, differences
from engine.domain.enums import Exchange, ProductType
from engine.domain.position import Position, PositionKey, roll_day
from engine.errors import BrokerUnavailable

_log = structlog.get_logger(__name__)

# After so many reads in haste the next come in their turn.
_HASTE = 4
# No cache of the broker is known to be older (kite.md 9.1).
_LAG_S = 60.0
_MOVED = "orders or fills of the instrument moved during the read"
# Positions that one alert names.
_TOLD = 10


class PositionCheck:
    """The differences seen on one account."""

    def __init__(self, context: ExecutorContext, desk: OrderDesk, *, apart_s: float) -> None:
        self._context = context
        self._desk = desk
        self._reads: TwoReads[PositionKey] = TwoReads(apart_s=apart_s)
        self._lagging: TwoReads[PositionKey] = TwoReads(apart_s=_LAG_S)
        self._hasty = 0
        self.found: list[Found] = []
        self.unreadable: list[str] = []

    def clear(self) -> None:
        """Forget what was seen."""
        self._reads.clear()
        self._lagging.clear()
        self._hasty = 0
        self.found = []

    @property
    def is_pending(self) -> bool:
        """Whether a difference waits for another read, soon."""
        return self.is_open and self._hasty < _HASTE

    @property
    def is_open(self) -> bool:
        """Whether a difference stands: the next read must be a full one."""
        return any(not found.is_adopted for found in self.found)

    def take(
        self,
        look: Look,
        positions: BrokerPositions,
        *,
        at_s: float,
        stirs: int,
        strangers: Collection[tuple[Exchange, str]],
    ) -> list[Difference]:
        """Take in a read that began at *at_s* (monotonic), with *stirs* on the desk's count; return what survived.

        *strangers* are instruments with an order of somebody else that is not adopted yet.
        """
        theirs = self._read(positions)
        found = differences(self._desk.holdings.positions, theirs)
        self._hasty = self._hasty + 1 if found else 0
        if all(self._has_moved(difference, stirs) for difference in found):
            # what follows walks the whole trade book, and nothing of what is there can be told now
            self._reads.clear()
            self._lagging.clear()
            self.found = [Found(difference=difference, held=_MOVED) for difference in found]
            return []
        theirs = self._rolled(theirs, look.trades or ())
        found = differences(self._desk.holdings.positions, theirs)
        contradiction = self._contradiction(look)
        missing = absent_rows(self._required(look), theirs)
        lag = self._lag(look.trades or (), positions)
        sightings: dict[PositionKey, tuple[Hashable, int]] = {}
        lagging: dict[PositionKey, tuple[Hashable, int]] = {}
        self.found = []
        for difference in found:
            instrument = difference.key[1:3]
            held = contradiction or self._held(difference, theirs, missing, strangers)
            if not held and self._has_moved(difference, stirs):
                held = _MOVED
            if not held and (held := lag(difference)):
                lagging[difference.key] = (difference.figures, self._desk.stirred_at(instrument))
            elif not held:
                sightings[difference.key] = (difference.figures, self._desk.stirred_at(instrument))
            self.found.append(Found(difference=difference, held=held or "one more read must show it"))
        if contradiction and found:
            return []  # a read that proves nothing neither confirms nor refutes
        survived = self._reads.add(at_s, sightings) | self._lagging.add(at_s, lagging)
        return [difference for difference in found if difference.key in survived]

    def needs_rows(self, positions: BrokerPositions, *, stirs: int) -> bool:
        """Whether `take` will look into the rows of order and trade book."""
        found = differences(self._desk.holdings.positions, self._read(positions))
        return not all(self._has_moved(difference, stirs) for difference in found)

    def _has_moved(self, difference: Difference, stirs: int) -> bool:
        return self._desk.stirred_at(difference.key[1:3]) > stirs

    def _rolled(
        self, theirs: Mapping[PositionKey, Position], trades: Sequence[BrokerTrade]
    ) -> dict[PositionKey, Position]:
        """Return positions as of today: between midnight and the broker's own turn of the day its rows are not."""
        days: defaultdict[tuple[str, str], set[bool]] = defaultdict(set)
        for trade in trades:
            days[trade.exchange, trade.symbol].add(trading_day(trade.filled_at) == self._desk.day)
        return {
            key: roll_day(position, position.last_price) if days.get(key[1:3]) == {False} else position
            for key, position in theirs.items()
        }

    def _read(self, positions: BrokerPositions) -> dict[PositionKey, Position]:
        theirs: dict[PositionKey, Position] = {}
        self.unreadable = []
        for row in positions.net:
            try:
                position = row.as_position(account_id=self._desk.account_id)
            except BrokerUnavailable as error:
                self.unreadable.append(f"{row.exchange}:{row.symbol}: {error}")
            else:
                theirs[position.key] = position
        return theirs

    def _contradiction(self, look: Look) -> str:
        """Return why a read as a whole proves nothing; "" when it does."""
        if look.trades is None:
            return "the trade book was not read"
        if not look.is_whole:
            return "the order book lacks orders that are known of today"
        traded: defaultdict[str, int] = defaultdict(int)
        for trade in look.trades:
            traded[trade.broker_order_id] += trade.quantity
        if any(traded[row.broker_order_id] < row.filled_quantity for row in look.book):
            return "the trade book lacks trades that the order book tells of"
        return ""

    def _lag(self, trades: Sequence[BrokerTrade], positions: BrokerPositions) -> Callable[[Difference], str]:
        """Return what says of a difference that one of the witnesses may be old; "" when they agree."""
        today = sum(trading_day(trade.filled_at) == self._desk.day for trade in trades)
        # over all products: a conversion moves the day's units from one to another
        units: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        for row in positions.net:
            units[row.exchange, row.symbol][0] += row.day_buy_quantity
            units[row.exchange, row.symbol][1] += row.day_sell_quantity
        for trade in trades:
            if trade.transaction_type in ("BUY", "SELL"):
                units[trade.exchange, trade.symbol][trade.transaction_type == "SELL"] -= trade.quantity

        def lag(difference: Difference) -> str:
            if today < self._desk.trades_today:
                return "the trade book shows fewer trades than before"
            if any(units.get(difference.key[1:3], ())):
                return "the trade book and the positions do not tell of the same trades"
            if not positions.net and difference.kind is DifferenceKind.ABSENT:
                return "the broker's positions are empty"
            return ""

        return lag

    def _required(self, look: Look) -> set[PositionKey]:
        """Return the positions that today's trades must have left in a whole answer."""
        return {
            key
            for trade in look.trades or ()
            if trading_day(trade.filled_at) == self._desk.day and (key := self._key_of(trade)) is not None
        }

    def _key_of(self, trade: BrokerTrade) -> PositionKey | None:
        try:
            exchange = member(Exchange, "exchange", trade.exchange)
            return (self._desk.account_id, exchange, trade.symbol, member(ProductType, "product", trade.product))
        except BrokerUnavailable:
            return None

    def _held(
        self,
        difference: Difference,
        theirs: Mapping[PositionKey, Position],
        missing: Sequence[PositionKey],
        strangers: Collection[tuple[Exchange, str]],
    ) -> str:
        """Return why a difference is not acted on while that lasts; "" when it may be."""
        instrument = difference.key[1:3]
        if difference.key not in theirs and missing:
            return f"the broker's positions are partial: {len(missing)} that traded today are not in them"
        if instrument in strangers:
            return "an order of somebody else in the instrument is not adopted yet"
        for order in self._desk.orders.values():
            if order.key == instrument and order.status.is_unresolved and order.trading_day == self._desk.day:
                return f"order {order.id} is in doubt"
        return ""

    @staticmethod
    def wants_holdings(survived: Sequence[Difference]) -> bool:
        """Whether it takes the demat account to explain what survived."""
        return any(d.kind is DifferenceKind.DELIVERED and d.ours.overnight_quantity > 0 for d in survived)

    def act(self, survived: Sequence[Difference], holdings: Sequence[BrokerHolding] | None) -> None:
        """Take over the broker's figures of what *survived*; *holdings* is None when they were not read."""
        told: list[str] = []
        for difference in survived:
            place = next(i for i, found in enumerate(self.found) if found.difference is difference)
            if self._desk.holdings.positions.get(difference.key, difference.ours) is not difference.ours:
                continue  # it moved while the holdings were read
            if difference.kind is DifferenceKind.DELIVERED and not self._is_explained(difference, holdings):
                if holdings is None:
                    self.found[place] = Found(difference=difference, held="the holdings cannot be read")
                    continue
                told.append(self._adopt(difference, action="POSITION_ADOPTED"))
            elif difference.kind is DifferenceKind.DELIVERED:
                self._adopt(difference, action=DELIVERED)
            else:
                told.append(self._adopt(difference, action="POSITION_ADOPTED"))
            self.found[place] = Found(difference=difference, is_adopted=True)
        if told:
            # the audit log has each; a person hears of them once
            what = told[0] if len(told) == 1 else f"{len(told)} positions: {'; '.join(told[:_TOLD])}"
            more = "; ..." if len(told) > _TOLD else ""
            text = f"POSITION_ADOPTED: {what}{more}; the broker's figures are taken over"
            self._context.alert(f"account:{self._desk.account_id}", text)

    @staticmethod
    def _is_explained(difference: Difference, holdings: Sequence[BrokerHolding] | None) -> bool:
        """Whether what left the positions has gone to, or come out of, the demat account."""
        delivered = difference.ours.overnight_quantity
        if delivered < 0:
            return True
        # the demat account knows shares, not the exchange they were bought on
        held = sum(row.quantity + row.t1_quantity for row in holdings or () if row.symbol == difference.ours.symbol)
        return holdings is not None and held >= delivered

    def _adopt(self, difference: Difference, *, action: str) -> str:
        """Take over the broker's row; return what it changes, in words."""
        ours, theirs = difference.ours, difference.theirs
        self._reads.drop(difference.key)
        self._lagging.drop(difference.key)
        self._desk.holdings.adopt(theirs, action=action)
        name = f"{ours.exchange}:{ours.symbol} {ours.product_type}"
        _log.warning(
            "position.adopted", account=str(ours.account_id), position=name, ours=ours.quantity, theirs=theirs.quantity
        )
        return f"{name} was {ours.quantity} here and is {theirs.quantity} at the broker"
