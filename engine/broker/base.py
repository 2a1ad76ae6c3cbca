"""The broker boundary: what the engine asks of a broker, whichever it is.

Only an executor calls the writes. Every implementation must pass tests/conformance/broker_suite.py.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Protocol

from engine.broker.outcome import (
    Accepted,
    Gate,
    NotSent,
    PlaceOutcome,
    RefusalCode,
    Refused,
    Unknown,
    WriteOutcome,
    always_open,
)
from engine.broker.values import (
    BrokerHolding,
    BrokerMargins,
    BrokerOrder,
    BrokerPosition,
    BrokerPositions,
    BrokerProfile,
    BrokerTrade,
    MarginSegment,
)
from engine.domain.enums import OrderType, Validity, Variety
from engine.domain.gtt import BrokerGtt, BrokerGttOrder, Gtt
from engine.domain.instruments import Instrument
from engine.domain.live_units import Bounds
from engine.domain.order import Order
from engine.errors import BrokerUnavailable, EngineError

__all__ = [
    "Accepted",
    "Broker",
    "BrokerAuthError",
    "BrokerGtt",
    "BrokerGttOrder",
    "BrokerHolding",
    "BrokerMargins",
    "BrokerNotPermitted",
    "BrokerOrder",
    "BrokerPosition",
    "BrokerPositions",
    "BrokerProfile",
    "BrokerTrade",
    "Gate",
    "MarginSegment",
    "NotSent",
    "OrderNotCommitted",
    "PlaceOutcome",
    "RefusalCode",
    "Refused",
    "Unknown",
    "WriteOutcome",
    "always_open",
]


class BrokerAuthError(BrokerUnavailable):
    """The session is dead: nothing can be read or sent until somebody logs in; ``code`` says of what it died."""

    def __init__(self, message: str, code: RefusalCode = RefusalCode.TOKEN_DEAD) -> None:
        super().__init__(message)
        self.code = code


class BrokerLoginRefused(BrokerUnavailable):
    """The broker did not take what a login brought: its token, or the keys of the app."""


class BrokerNotPermitted(BrokerUnavailable):
    """The session lives, but the app may not make this read: its plan lacks it. Nothing else is affected."""


class OrderNotCommitted(EngineError):
    """An order was given to the wire that is not in SUBMITTING: it has no write-ahead row."""


class Broker(Protocol):
    """One account at one broker.

    Writes never raise for what happens on the wire: they answer with an outcome, and never retry. A
    write that is cancelled raises ``trio.Cancelled`` and its outcome is unknown to the caller. Reads
    raise `BrokerUnavailable`, or `BrokerAuthError` when the session is dead. Every call ends within
    the deadline that the implementation was built with.
    """

    async def place(self, order: Order, gate: Gate) -> PlaceOutcome:
        """Send *order*, which must be the committed write-ahead row.

        The argument's type is the proof that the journal came before the wire: what is passed is the
        row that the ledger committed in SUBMITTING with its tag. *gate* is asked right before the
        first byte, with no await in between; its answer gives ``NotSent(gated=True)``. At most one
        request leaves, whatever happens. Raises OrderNotCommitted for an order in any other state.
        """

    async def cancel(
        self, broker_order_id: str, variety: Variety, *, parent_order_id: str | None = None, gate: Gate | None = None
    ) -> WriteOutcome:
        """Ask to cancel an order. Accepted means the request was registered, not that the order is gone."""

    async def replace(
        self,
        broker_order_id: str,
        variety: Variety,
        *,
        quantity: int | None = None,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
        order_type: OrderType | None = None,
        validity: Validity | None = None,
        market_protection: Decimal | None = None,
        gate: Gate | None = None,
    ) -> WriteOutcome:
        """Ask to change an open order: only what is given changes.

        ``quantity`` is the new total in units, filled part included; prices are rupees.
        """

    async def place_gtt(self, gtt: Gtt, gate: Gate) -> WriteOutcome:
        """Send *gtt*, which must be the committed write-ahead row; Accepted bears the trigger's id.

        As `place` in all else, but there is no tag: what became of an Unknown is told by `gtts` alone. Raises
        OrderNotCommitted for a trigger in any state but SUBMITTING.
        """

    async def replace_gtt(self, trigger_id: str, gtt: Gtt, gate: Gate) -> WriteOutcome:
        """Ask to give an active trigger the terms of *gtt*, all of them."""

    async def cancel_gtt(self, trigger_id: str, gate: Gate | None = None) -> WriteOutcome:
        """Ask to end an active trigger."""

    async def gtts(self) -> list[BrokerGtt]:
        """Return the triggers that are active, and those that ended within the last seven days."""

    async def orders(self) -> Sequence[BrokerOrder]:
        """Return the order book of the day, every state, in no particular order: a `Book` where it is read in parts."""

    async def order_history(self, broker_order_id: str) -> list[BrokerOrder]:
        """Return the snapshots of one order, oldest first."""

    async def trades(self) -> Sequence[BrokerTrade]:
        """Return the trade book of the day: a `Book` where it is read in parts."""

    async def order_trades(self, broker_order_id: str) -> list[BrokerTrade]:
        """Return the trades of one order."""

    async def positions(self) -> BrokerPositions:
        """Return net and day positions, flat rows included."""

    async def holdings(self) -> list[BrokerHolding]:
        """Return the shares in the demat account."""

    async def instruments(self, exchange: str | None = None) -> list[Instrument]:
        """Return the instruments of *exchange*, or of all; indices, which are not tradable, included."""

    async def last_prices(self, keys: Sequence[str]) -> dict[str, Decimal]:
        """Return last prices in rupees of *keys* (``EXCHANGE:SYMBOL``); unknown keys are left out."""

    async def price_bounds(self, keys: Sequence[str]) -> dict[str, Bounds]:
        """Return between which prices the exchange takes orders, of up to 500 *keys*; unknown keys are left out."""

    async def margins(self) -> BrokerMargins:
        """Return the funds of the account."""

    async def profile(self) -> BrokerProfile:
        """Return whose session it is; the cheapest check of a token."""

    async def aclose(self) -> None:
        """Close every connection; the broker cannot be used afterwards."""
