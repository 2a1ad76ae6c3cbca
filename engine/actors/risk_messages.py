"""What a risk actor is told, what it starts from, and what it works with."""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

import msgspec

from engine.actors.decision import Rules
from engine.domain.enums import Exchange, OrderStatus
from engine.domain.instruments import InstrumentBook
from engine.domain.intent import Intent
from engine.domain.limits import RiskLimits
from engine.domain.order import Order
from engine.domain.position import Position


# commands (to me)
class Decide(msgspec.Struct, frozen=True, kw_only=True):
    """Decide about every intent of a delivery."""

    passage: Any  # a Passage; not a struct, so msgspec shall not look inside


# events (to me)
class OrderChanged(msgspec.Struct, frozen=True, kw_only=True):
    """An order of one of the user's accounts stands as given."""

    order: Order


class PositionsChanged(msgspec.Struct, frozen=True, kw_only=True):
    """Positions of one of the user's accounts stand as given."""

    positions: tuple[Position, ...]


class PriceChanged(msgspec.Struct, frozen=True, kw_only=True):
    """The last price of an instrument, rupees."""

    exchange: Exchange
    symbol: str
    price: Decimal


Message = Decide | OrderChanged | PositionsChanged | PriceChanged


class UserHistory(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger knows of a user: the start of the risk state."""

    positions: Sequence[Position]
    live_orders: Sequence[Order]
    orders_today: Sequence[tuple[UUID, datetime]]
    live_intents: Sequence[tuple[Intent, Sequence[tuple[UUID, OrderStatus, int, int, str | None]]]]


class Orders(Protocol):
    """The executors, as risk sees them."""

    def admit(self, order: Order) -> Order:
        """Take an approved order in: SUBMITTING when it may go at once, PENDING when it must wait."""

    def committed(self, orders: Sequence[Order]) -> None:
        """The ledger has these orders."""

    def withdraw(self, orders: Sequence[Order]) -> None:
        """The ledger never will have these orders: forget them."""


class RiskContext(msgspec.Struct, frozen=True, kw_only=True):
    """What every risk actor works with."""

    clock: Any
    ledger: Any
    directory: Any
    instruments: Callable[[], InstrumentBook]
    kill: Any
    defaults: RiskLimits
    rules: Rules
    orders: Any
    prices: Any
    tag: Callable[[UUID, int], str]
    epoch: int
    load: Callable[[UUID, date], Any]
