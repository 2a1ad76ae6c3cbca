"""What flattening is made of: what shall be ended, what the broker shows, and the orders that end it.

Kite has no reduce-only flag, so an order here is reduce-only by how it is made: opposite to what is held, and
never of more units. Places are (exchange, symbol, product) in the broker's own words: what cannot be named in
ours must be seen all the same. Source: reliability.md 5.4.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID, uuid5

import msgspec

from engine.domain.enums import Exchange, ProductType, TransactionType, Variety

Place = tuple[str, str, str]
"""Exchange, symbol and product of a position, as the broker writes them."""

DELIVERY = frozenset({ProductType.CNC, ProductType.MTF})
"""Products whose positions are shares to keep: flattening leaves them alone unless it is told otherwise."""

_BY_STOP_ONLY = frozenset({ProductType.CO, ProductType.BO})
_SPACE = UUID("6a0f6f0e-6f0c-5f0b-9b57-1f6f0c3d9a11")
# Kite's own limit of an autosliced order.
_MAX_SLICES = 10
_WIDER = (Decimal(5), Decimal(10))


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be ended on one account, and for whom.

    ``name`` is a kill scope or names the request, ``version`` tells two demands of one name apart, ``since`` (UTC)
    is when it was made. Without ``flatten`` only orders are cancelled. ``stays``: it is watched over after it is
    flat, until it is taken back; ``once``: it is taken back by itself when it is done or has failed. The filters
    are None for everything; with ``strategy_id`` it is that strategy's orders and its own share of positions.
    ``delivery`` takes in positions of CNC and MTF.
    """

    name: str
    version: int
    since: datetime
    by: str
    flatten: bool = True
    stays: bool = False
    once: bool = False
    strategy_id: UUID | None = None
    exchanges: frozenset[str] | None = None
    products: frozenset[str] | None = None
    symbol: str | None = None
    delivery: bool = False

    def covers_order(self, place: Place, strategy_id: UUID | None) -> bool:
        """Whether an order at *place* is to be ended."""
        return self._covers(place) and self.strategy_id in (None, strategy_id)

    def covers_position(self, place: Place) -> bool:
        """Whether a position at *place* is to be closed, or a strategy's share of it."""
        return self.flatten and self._covers(place) and (self.delivery or place[2] not in DELIVERY)

    @property
    def is_whole(self) -> bool:
        """Whether positions are closed whole, whoever made them."""
        return self.strategy_id is None

    def _covers(self, place: Place) -> bool:
        exchange, symbol, product = place
        return (
            (self.exchanges is None or exchange in self.exchanges)
            and (self.products is None or product in self.products)
            and self.symbol in (None, symbol)
        )


class BookRow(msgspec.Struct, frozen=True, kw_only=True):
    """One order as the broker's book shows it; quantities are units, ``tags`` in capitals.

    ``is_open``: it may still fill, whatever was asked of it (CANCEL PENDING is open). ``strategy_id`` is whose it
    is, None if nobody's; ``said`` is the broker's text, which says why when it ``is_refused``.
    """

    order_id: str
    place: Place
    side: TransactionType
    quantity: int
    filled: int
    is_open: bool
    tags: frozenset[str] = frozenset()
    strategy_id: UUID | None = None
    variety: Variety = Variety.REGULAR
    parent_id: str | None = None
    is_refused: bool = False
    said: str = ""

    @property
    def pending(self) -> int:
        """Units that may still fill."""
        return max(self.quantity - self.filled, 0) if self.is_open else 0


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the broker's positions: signed units, and the units bought and sold today."""

    place: Place
    quantity: int
    bought: int = 0
    sold: int = 0


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """One order that makes a position smaller: ``quantity`` units at MARKET, ``protection`` percent (-1: automatic).

    ``id`` follows from the demand, the account, the place, the round and the slice, so that the same step taken
    twice is the same order.
    """

    id: UUID
    tag: str
    place: Place
    side: TransactionType
    quantity: int
    protection: Decimal
    round: int
    slice: int
    demand: str
    version: int
    strategy_id: UUID | None = None


class TicketState(StrEnum):
    """What is known of a ticket."""

    SENDING = "SENDING"  # written ahead or on the wire
    ACCEPTED = "ACCEPTED"  # at the broker, and not at its end as far as is known
    UNKNOWN = "UNKNOWN"  # bytes may have left; its place waits
    LOST = "LOST"  # not in clean books for `H_KILL_S`: its place goes on, the rest from positions
    ENDED = "ENDED"

    @property
    def blocks(self) -> bool:
        """Whether no other order may go at its place."""
        return self in (TicketState.SENDING, TicketState.ACCEPTED, TicketState.UNKNOWN)

    @property
    def is_doubtful(self) -> bool:
        """Whether it may be at the broker without anybody knowing: nothing is flat until that is over."""
        return self in (TicketState.SENDING, TicketState.UNKNOWN, TicketState.LOST)


class NotFlat(msgspec.Struct, frozen=True, kw_only=True):
    """What of one place is not ended, and why: signed units (None: not known) and orders that may fill."""

    place: Place
    quantity: int | None
    open_orders: int
    why: str


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the broker: order book, positions, order book again (UTC), and what they showed.

    ``open_orders`` are broker order ids; ``orders`` counts the rows of the book and ``filled`` its filled units.
    """

    book_at: datetime
    positions_at: datetime | None
    open_orders: tuple[str, ...]
    orders: int
    filled: int
    positions: tuple[Held, ...] = ()


class Stage(StrEnum):
    """How far a demand is."""

    CANCELLING = "CANCELLING"
    FLATTENING = "FLATTENING"
    DONE = "DONE"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a demand stands on one account; ``failed`` once it is overdue or needs a person, while it goes on.

    ``proofs`` are the two reads that prove it when DONE, the last one otherwise. ``took_s`` is from its begin to
    the second of them.
    """

    name: str
    version: int
    stage: Stage
    failed: bool = False
    not_flat: tuple[NotFlat, ...] = ()
    proofs: tuple[Proof, ...] = ()
    took_s: float | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done now: cancels first, then tickets, those of one place one after another.

    ``alarms`` are texts for a person, each told once.
    """

    cancels: tuple[BookRow, ...] = ()
    tickets: tuple[Ticket, ...] = ()
    standings: tuple[Standing, ...] = ()
    alarms: tuple[str, ...] = ()


def ticket_id(demand: str, version: int, account_id: UUID, place: Place, round_: int, slice_: int) -> UUID:
    """Return the id of a ticket; the same step gives the same id in every life of the engine."""
    return uuid5(_SPACE, "\x00".join((demand, str(version), str(account_id), *place, str(round_), str(slice_))))


def protection_of(try_: int, policy: Decimal) -> Decimal:
    """Return the percent of the *try_*-th try: the account's *policy* (-1: the broker's table), then wider."""
    if try_ <= 1:
        return policy
    return max(policy, _WIDER[min(try_ - 2, len(_WIDER) - 1)])


def cut(quantity: int, freeze: int | None, lot: int) -> tuple[int, ...]:
    """Split *quantity* units into at most ten orders, none over *freeze*; they sum to *quantity* or less.

    What is left over is closed in the next round.
    """
    if quantity <= 0:
        return ()
    if freeze is None or freeze < 1 or quantity <= freeze:
        return (quantity,)
    largest = freeze // max(lot, 1) * max(lot, 1) or freeze
    full, rest = divmod(quantity, largest)
    return ((largest,) * full + ((rest,) if rest else ()))[:_MAX_SLICES]


def closable(net: int, own: int | None, others_pending: int) -> int:
    """Return how many units may be closed of a position of *net* signed units, of which *own* are to be closed.

    *own* None is all of it; *others_pending* is what orders that are left alone may still fill in the closing
    direction. Never more than is held, and nothing where *own* lies on the other side of *net*.
    """
    room = abs(net) - others_pending
    if own is not None:
        room = min(room, abs(own)) if own * net > 0 else 0
    return max(room, 0)


def closing_side(net: int) -> TransactionType:
    """Return the side that makes a position of *net* signed units smaller."""
    return TransactionType.SELL if net > 0 else TransactionType.BUY


def why_not_orderable(place: Place) -> str | None:
    """Return why no order can close a position at *place*, or None."""
    exchange, _, product = place
    if product in _BY_STOP_ONLY:
        return f"a position in {product} is exited by cancelling its stop order"
    if exchange not in Exchange.__members__.values() or product not in ProductType.__members__.values():
        return f"{exchange} {product} is not traded by the engine; close it by hand"
    return None


def traded(rows: Iterable[BookRow]) -> dict[tuple[str, str], tuple[int, int]]:
    """Return the units bought and sold today of each instrument, over all products, as the book shows them."""
    units: dict[tuple[str, str], tuple[int, int]] = {}
    for row in rows:
        if row.filled:
            bought, sold = units.get(row.place[:2], (0, 0))
            if row.side is TransactionType.BUY:
                bought += row.filled
            else:
                sold += row.filled
            units[row.place[:2]] = (bought, sold)
    return units


def moved(rows: Iterable[BookRow]) -> dict[Place, int]:
    """Return the signed units that today's orders have moved at each place."""
    units: dict[Place, int] = {}
    for row in rows:
        if row.filled:
            units[row.place] = units.get(row.place, 0) + row.side.sign * row.filled
    return units


def held_today(held: Mapping[Place, Held]) -> dict[tuple[str, str], tuple[int, int]]:
    """Return the units bought and sold today of each instrument, over all products, as positions show them."""
    units: dict[tuple[str, str], tuple[int, int]] = {}
    for place, row in held.items():
        bought, sold = units.get(place[:2], (0, 0))
        units[place[:2]] = (bought + row.bought, sold + row.sold)
    return units


def may_flatten_now(tripped: datetime, *, is_open: bool, was_open: bool, same_day: bool, at_open: bool) -> str | None:
    """Return why nothing is sent to an exchange now, or None.

    *was_open*: the exchange took orders when the demand was made (*tripped*); *at_open*: the policy says that what
    was asked for outside its hours is done when it opens.
    """
    if not is_open:
        return "MARKET_CLOSED: the exchange takes no orders now"
    if at_open or (was_open and same_day):
        return None
    return f"MARKET_WAS_CLOSED: it was asked for at {tripped:%Y-%m-%d %H:%M} UTC, outside the hours of the exchange"
