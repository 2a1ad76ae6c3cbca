"""A good-till-triggered order as a value, and when it fires (kite.md 13)."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

import msgspec

from engine.clock import IST

ACTIVE = "active"
TRIGGERED = "triggered"
CANCELLED = "cancelled"
DELETED = "deleted"
EXPIRED = "expired"
# how long one that is over stays on the list
SHOWN_FOR = timedelta(days=7)


class GttResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an order of a trigger: ``order_id`` where it was placed, else the reason.

    ``price`` is the last price, in rupees, that fired it.
    """

    at: datetime
    price: Decimal
    order_id: str = ""
    rejection_reason: str = ""


class GttOrder(msgspec.Struct, frozen=True, kw_only=True):
    """The LIMIT order that a trigger places; ``price`` is rupees."""

    transaction_type: str
    product: str
    quantity: int
    price: Decimal
    result: GttResult | None = None


class Gtt(msgspec.Struct, frozen=True, kw_only=True):
    """A trigger: one price and one order, or two of each, of which the first hit drops the other.

    ``last_price`` is the price when it was made; which side of it a single trigger lies on says whether
    it waits for a rise or a fall.
    """

    trigger_id: int
    user_id: str
    kind: Literal["single", "two-leg"]
    exchange: str
    tradingsymbol: str
    instrument_token: int
    last_price: Decimal
    trigger_values: tuple[Decimal, ...]
    orders: tuple[GttOrder, ...]
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    status: str = ACTIVE

    @property
    def key(self) -> str:
        """``EXCHANGE:SYMBOL``."""
        return f"{self.exchange}:{self.tradingsymbol}"


def expiry(created_at: datetime) -> datetime:
    """Return the same instant of the year after; of 29 February that of the 28th."""
    local = created_at.astimezone(IST)
    day = 28 if (local.month, local.day) == (2, 29) else local.day
    return local.replace(year=local.year + 1, day=day)


def leg_hit(gtt: Gtt, last_price: Decimal) -> int | None:
    """Return which order *last_price* fires, None for none of them."""
    if gtt.kind == "two-leg":
        lower, upper = gtt.trigger_values
        if last_price <= lower:
            return 0
        return 1 if last_price >= upper else None
    (trigger,) = gtt.trigger_values
    is_hit = last_price >= trigger if trigger > gtt.last_price else last_price <= trigger
    return 0 if is_hit else None


def fired(gtt: Gtt, leg: int, result: GttResult) -> Gtt:
    """Return *gtt* after its order number *leg* had *result*: it never fires again."""
    orders = tuple(
        msgspec.structs.replace(order, result=result) if number == leg else order
        for number, order in enumerate(gtt.orders)
    )
    return msgspec.structs.replace(gtt, orders=orders, status=TRIGGERED, updated_at=result.at)


def is_shown(gtt: Gtt, now: datetime) -> bool:
    """Whether the list has it: what is active, and what ended within the last seven days."""
    return gtt.status == ACTIVE or now - gtt.updated_at <= SHOWN_FOR
