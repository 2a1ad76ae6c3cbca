"""An order of the exchange, the stages of its life, and a trade.

An order is an immutable value; every change is a `Stage` that names only what it changes. The order's
history is the list of values that its stages produce, one row of ``GET /orders/{id}`` each. Prices
are rupees, quantities are Kite's units, times are aware UTC.
"""

from collections import deque
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

import msgspec
from msgspec import UNSET, UnsetType

from engine.clock import trading_day

PUT_RECEIVED = "PUT ORDER REQ RECEIVED"
VALIDATING = "VALIDATION PENDING"
OPEN_PENDING = "OPEN PENDING"
OPEN = "OPEN"
TRIGGER_PENDING = "TRIGGER PENDING"
MODIFY_VALIDATING = "MODIFY VALIDATION PENDING"
MODIFY_PENDING = "MODIFY PENDING"
MODIFIED = "MODIFIED"
CANCEL_PENDING = "CANCEL PENDING"
AMO_RECEIVED = "AMO REQ RECEIVED"
COMPLETE = "COMPLETE"
CANCELLED = "CANCELLED"
REJECTED = "REJECTED"
# of pushes only: a modification, or a fill that leaves something open
UPDATE = "UPDATE"

# at the exchange, or on the way there with a change: fills are possible
_AT_EXCHANGE = frozenset({OPEN, MODIFY_VALIDATING, MODIFY_PENDING, CANCEL_PENDING})
TERMINAL = frozenset({COMPLETE, CANCELLED, REJECTED})
CHANGEABLE = frozenset({OPEN, TRIGGER_PENDING, AMO_RECEIVED})


class IcebergLeg(msgspec.Struct, frozen=True, kw_only=True):
    """Which leg of an iceberg an order is: legs count from 1, ``remaining_quantity`` is that of the later ones."""

    leg: int
    legs: int
    leg_quantity: int
    total_quantity: int
    remaining_quantity: int


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One order. ``protection`` is the market protection asked for, in percent; ``number`` counts the
    exchange's orders; ``triggered`` says that a stop order has become a live one; ``unit_margin`` is the
    rupees that each unfilled unit blocks unless it closes a position; ``follows`` is the iceberg leg that had
    to fill before this one; ``gtt`` is the trigger that placed it, ``gtt_leg`` which of its orders it is."""

    order_id: str
    number: int
    user_id: str
    variety: str
    exchange: str
    tradingsymbol: str
    instrument_token: int
    transaction_type: str
    order_type: str
    product: str
    quantity: int
    order_timestamp: datetime
    status: str = PUT_RECEIVED
    validity: str = "DAY"
    validity_ttl: int = 0
    price: Decimal = Decimal(0)
    trigger_price: Decimal = Decimal(0)
    disclosed_quantity: int = 0
    protection: Decimal | None = None
    tag: str | None = None
    tags: tuple[str, ...] = ()
    parent_order_id: str | None = None
    status_message: str | None = None
    status_message_raw: str | None = None
    exchange_order_id: str | None = None
    exchange_timestamp: datetime | None = None
    exchange_update_timestamp: datetime | None = None
    filled_quantity: int = 0
    filled_value: Decimal = Decimal(0)
    cancelled_quantity: int = 0
    triggered: bool = False
    modified: bool = False
    modifications: int = 0
    unit_margin: Decimal = Decimal(0)
    iceberg: IcebergLeg | None = None
    auction_number: str | None = None
    follows: str | None = None
    gtt: int | None = None
    gtt_leg: int = 0

    @property
    def lane(self) -> tuple[str, str, int]:
        """Instrument, product and side: orders of one lane close the same position."""
        return (self.key, self.product, self.sign)

    @property
    def key(self) -> str:
        """``EXCHANGE:SYMBOL``."""
        return f"{self.exchange}:{self.tradingsymbol}"

    @property
    def sign(self) -> int:
        """+1 for BUY, -1 for SELL."""
        return 1 if self.transaction_type == "BUY" else -1

    @property
    def is_terminal(self) -> bool:
        """Whether the order can change no more."""
        return self.status in TERMINAL

    @property
    def is_cover_stop(self) -> bool:
        """Whether the order is the stop leg of a cover order."""
        return self.variety == "co" and self.parent_order_id is not None

    @property
    def can_fill(self) -> bool:
        """Whether the exchange has the order in its book: not parked, also while a change is on its way."""
        is_parked = self.order_type in ("SL", "SL-M") and not self.triggered
        return self.status in _AT_EXCHANGE and not is_parked

    @property
    def remaining(self) -> int:
        """Units that may still fill."""
        return 0 if self.is_terminal else self.quantity - self.filled_quantity

    @property
    def average_price(self) -> Decimal:
        """Average of the fills in rupees, 0 without any."""
        return average(self.filled_value, self.filled_quantity)


class Stage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A change of an order at an instant: the fields that it sets."""

    at: datetime
    status: str | UnsetType = UNSET
    order_timestamp: datetime | UnsetType = UNSET
    status_message: str | UnsetType | None = UNSET
    status_message_raw: str | UnsetType | None = UNSET
    order_type: str | UnsetType = UNSET
    validity: str | UnsetType = UNSET
    quantity: int | UnsetType = UNSET
    price: Decimal | UnsetType = UNSET
    trigger_price: Decimal | UnsetType = UNSET
    disclosed_quantity: int | UnsetType = UNSET
    protection: Decimal | UnsetType | None = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    exchange_order_id: str | UnsetType = UNSET
    exchange_timestamp: datetime | UnsetType = UNSET
    exchange_update_timestamp: datetime | UnsetType = UNSET
    filled_quantity: int | UnsetType = UNSET
    filled_value: Decimal | UnsetType = UNSET
    cancelled_quantity: int | UnsetType = UNSET
    triggered: bool | UnsetType = UNSET
    modified: bool | UnsetType = UNSET
    modifications: int | UnsetType = UNSET
    unit_margin: Decimal | UnsetType = UNSET


class Trade(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One execution. ``price`` is rupees per unit; ``multiplier`` turns price times quantity into rupees."""

    trade_id: str
    order_id: str
    user_id: str
    exchange: str
    tradingsymbol: str
    instrument_token: int
    product: str
    transaction_type: str
    quantity: int
    price: Decimal
    multiplier: Decimal
    exchange_order_id: str
    order_timestamp: datetime
    at: datetime

    @property
    def key(self) -> str:
        """``EXCHANGE:SYMBOL``."""
        return f"{self.exchange}:{self.tradingsymbol}"

    @property
    def value(self) -> Decimal:
        """Rupees that changed hands."""
        return self.price * self.quantity * self.multiplier


# a stage holds nothing but plain values and these, so that naming what it sets copies nothing
_AS_THEY_ARE = (Decimal, datetime)


def advance(order: Order, stage: Stage) -> Order:
    """Return *order* as *stage* leaves it."""
    changes = msgspec.to_builtins(stage, builtin_types=_AS_THEY_ARE)
    del changes["at"]
    return msgspec.structs.replace(order, **changes)


def pushed_status(before: Order, after: Order) -> str | None:
    """Return the status under which the broker tells of a step of an order, None when it does not.

    Told are a trigger, a fill, a modification and every end, but neither the mere placing nor what
    happens to an order that waits for the market to open (kite.md 15.5).
    """
    if before.status == AMO_RECEIVED or after.status == AMO_RECEIVED:
        return None
    if after.is_terminal:
        return None if before.is_terminal else after.status
    if after.triggered and not before.triggered:
        return OPEN
    is_refused = after.status_message is not None and after.status_message != before.status_message
    is_changed = after.modifications > before.modifications or after.filled_quantity > before.filled_quantity
    return UPDATE if is_changed or is_refused else None


def average(value: Decimal, quantity: int) -> Decimal:
    """Return value / quantity to six decimals, 0 for no quantity; exact quotients stay as short as they are."""
    if not quantity:
        return Decimal(0)
    exact = value / quantity
    return exact if -exact.as_tuple().exponent <= 6 else round(exact, 6)  # type: ignore[operator]


class BookEntry:
    """An order in the book with its history and trades.

    ``due`` are the stages that it will go through, each at its instant; ``follower`` is the order that came
    of it (the next leg of an iceberg, the stop of a cover order); ``encoded`` caches its row until it changes.
    """

    __slots__ = ("due", "encoded", "follower", "history", "order", "trades")

    def __init__(self, order: Order) -> None:
        self.order = order
        self.history = [order]
        self.trades: list[Trade] = []
        self.due: deque[Stage] = deque()
        self.follower: str | None = None
        self.encoded: bytes | None = None

    def take(self, stages: Iterable[Stage]) -> None:
        """Apply *stages* in turn, one history row each."""
        for stage in stages:
            self.order = advance(self.order, stage)
            self.history.append(self.order)
        if self.order.is_terminal:
            self.due.clear()
        self.encoded = None


class Lane(msgspec.Struct):
    """What the working orders of one instrument, product and side hold: unfilled units and rupees blocked."""

    remaining: int = 0
    blocked: Decimal = Decimal(0)


class AccountBook:
    """Orders and trades of one account, in the order in which they came; only today's are kept."""

    def __init__(self) -> None:
        self.entries: dict[str, BookEntry] = {}
        self.trades: list[Trade] = []
        self.lanes: dict[tuple[str, str, int], Lane] = {}

    def weigh(self, before: Order | None, after: Order) -> None:
        """Keep the sums of the order's lane: *before* is the order as it was weighed last."""
        name = after.lane
        lane = self.lanes.get(name)
        if lane is None:
            lane = self.lanes[name] = Lane()
        if before is not None:
            lane.remaining -= before.remaining
            lane.blocked -= before.remaining * before.unit_margin
        lane.remaining += after.remaining
        lane.blocked += after.remaining * after.unit_margin
        if not lane.remaining:
            del self.lanes[name]

    def of_earlier_days(self, now: datetime) -> list[BookEntry]:
        """Entries whose IST day is over; an AMO that waits for the market has no day yet."""
        today = trading_day(now)
        return [
            entry
            for entry in self.entries.values()
            if entry.order.status != AMO_RECEIVED and trading_day(entry.order.order_timestamp) < today
        ]

    def drop_earlier_days(self, now: datetime) -> None:
        """Forget finished orders and trades of days that are over."""
        today = trading_day(now)
        for entry in self.of_earlier_days(now):
            if entry.order.is_terminal:
                del self.entries[entry.order.order_id]
        self.trades = [trade for trade in self.trades if trading_day(trade.at) >= today]
