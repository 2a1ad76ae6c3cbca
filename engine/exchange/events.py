"""What the truth record holds: everything that changes the exchange's state, one event a line.

State is rebuilt by applying the events in order. Each line leaves a consistent state behind it: the
request that made an order, and each trade of it, are lines of their own.
"""

from datetime import datetime
from decimal import Decimal

import msgspec

from engine.exchange.gtts import Gtt
from engine.exchange.orders import Order, Stage, Trade


class AccountOpened(msgspec.Struct, frozen=True, kw_only=True, tag="account", tag_field="type"):
    """An account and its app were added or set anew; ``capital`` is rupees."""

    at: datetime
    api_key: str
    api_secret: str
    user_id: str
    capital: Decimal
    redirect_url: str


class SessionOpened(msgspec.Struct, frozen=True, kw_only=True, tag="session", tag_field="type"):
    """A login was exchanged for an access token; the app's earlier one ends."""

    at: datetime
    api_key: str
    user_id: str
    access_token: str
    public_token: str


class SessionClosed(msgspec.Struct, frozen=True, kw_only=True, tag="session-end", tag_field="type"):
    """The session of an app ended."""

    at: datetime
    api_key: str


class OrderRequested(msgspec.Struct, frozen=True, kw_only=True, tag="request", tag_field="type", omit_defaults=True):
    """One order write request and its answer.

    ``action`` is place, modify or cancel; or what the exchange did by itself: slice (of an autoslice), leg (of an
    iceberg), stop (of a cover order), gtt (a trigger fired). ``params`` is the form as it came; ``http_status`` is the
    answer's, 200 when ``accepted``. ``order_id`` is the order it made or named. ``order`` is what a place made
    (``status`` PUT ORDER REQ RECEIVED) and ``stages`` what the request does to the order before any trade;
    those whose instant is later than ``at`` are due then.
    """

    at: datetime
    api_key: str
    user_id: str
    action: str
    variety: str
    params: dict[str, str]
    accepted: bool
    http_status: int
    error_type: str | None = None
    message: str | None = None
    order_id: str | None = None
    order: Order | None = None
    stages: tuple[Stage, ...] = ()

    @property
    def tag_sent(self) -> str | None:
        """The caller's tag, if any."""
        return self.params.get("tag")


class OrderChanged(msgspec.Struct, frozen=True, kw_only=True, tag="change", tag_field="type", omit_defaults=True):
    """An order changed without a request or a trade: triggered, its remainder or its day over.

    ``stages`` are as in `OrderRequested`; ``due`` is how many of the stages that were due they take the
    place of.
    """

    at: datetime
    order_id: str
    stages: tuple[Stage, ...]
    due: int = 0


class Traded(msgspec.Struct, frozen=True, kw_only=True, tag="trade", tag_field="type"):
    """An order was filled, wholly or in part."""

    at: datetime
    order_id: str
    trade: Trade
    stage: Stage


class GttChanged(msgspec.Struct, frozen=True, kw_only=True, tag="gtt", tag_field="type"):
    """A trigger was made, changed or ended otherwise than by the order that it placed."""

    at: datetime
    gtt: Gtt


class PositionConverted(msgspec.Struct, frozen=True, kw_only=True, tag="conversion", tag_field="type"):
    """A part of a position went to another product; ``is_overnight`` says which part."""

    at: datetime
    user_id: str
    exchange: str
    tradingsymbol: str
    transaction_type: str
    quantity: int
    old_product: str
    new_product: str
    is_overnight: bool


class HoldingsAuthorised(msgspec.Struct, frozen=True, kw_only=True, tag="authorisation", tag_field="type"):
    """The account allowed the depository to deliver shares for the rest of the day, by ``EXCHANGE:SYMBOL``."""

    at: datetime
    user_id: str
    quantities: dict[str, int]


Event = (
    AccountOpened
    | SessionOpened
    | SessionClosed
    | OrderRequested
    | OrderChanged
    | Traded
    | GttChanged
    | PositionConverted
    | HoldingsAuthorised
)
