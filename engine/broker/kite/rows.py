"""Kite's JSON objects as they come over the wire, each key optional, and their decoders.

Ids are strings of up to 19 digits, above 2**53: they are never read as floats. Unknown keys are
ignored. Shapes: Kite Connect v3 orders, portfolio, user, market quotes.
"""

from decimal import Decimal
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")

Id = str | int | None
Count = int | float | None


class Answer(msgspec.Struct, Generic[T]):
    """The envelope of a successful read."""

    status: str
    data: T


class OrderRow(msgspec.Struct, gc=False):
    """One order of the book, the history, a push or a postback."""

    order_id: Id = None
    exchange_order_id: Id = None
    parent_order_id: Id = None
    status: str | None = None
    status_message: str | None = None
    status_message_raw: str | None = None
    order_timestamp: str | None = None
    exchange_update_timestamp: str | None = None
    exchange_timestamp: str | None = None
    variety: str | None = None
    exchange: str | None = None
    tradingsymbol: str | None = None
    order_type: str | None = None
    transaction_type: str | None = None
    validity: str | None = None
    product: str | None = None
    quantity: Count = None
    filled_quantity: Count = None
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    average_price: Decimal | None = None
    market_protection: Decimal | None = None
    tag: str | None = None
    tags: list[str] | None = None


class TradeRow(msgspec.Struct, gc=False):
    """One trade; ``order_timestamp`` is left out, it carries no date."""

    trade_id: Id = None
    order_id: Id = None
    exchange_order_id: Id = None
    exchange: str | None = None
    tradingsymbol: str | None = None
    product: str | None = None
    transaction_type: str | None = None
    quantity: Count = None
    filled: Count = None
    average_price: Decimal | None = None
    fill_timestamp: str | None = None
    exchange_timestamp: str | None = None


class PositionRow(msgspec.Struct):
    """One position."""

    tradingsymbol: str | None = None
    exchange: str | None = None
    product: str | None = None
    quantity: Count = None
    overnight_quantity: Count = None
    multiplier: Decimal | None = None
    average_price: Decimal | None = None
    close_price: Decimal | None = None
    last_price: Decimal | None = None
    pnl: Decimal | None = None
    m2m: Decimal | None = None
    buy_quantity: Count = None
    buy_value: Decimal | None = None
    sell_quantity: Count = None
    sell_value: Decimal | None = None
    day_buy_quantity: Count = None
    day_buy_value: Decimal | None = None
    day_sell_quantity: Count = None
    day_sell_value: Decimal | None = None


class PositionsRow(msgspec.Struct):
    """Both lists; neither may be missing, for a missing list is not "flat"."""

    net: list[PositionRow]
    day: list[PositionRow]


class MtfRow(msgspec.Struct):
    """The part of a holding that is held on margin."""

    quantity: Count = None
    used_quantity: Count = None


class HoldingRow(msgspec.Struct):
    """One holding."""

    tradingsymbol: str | None = None
    exchange: str | None = None
    quantity: Count = None
    t1_quantity: Count = None
    used_quantity: Count = None
    mtf: MtfRow | None = None
    average_price: Decimal | None = None
    last_price: Decimal | None = None
    pnl: Decimal | None = None


class LastPriceRow(msgspec.Struct):
    """One last price."""

    last_price: Decimal | None = None


class QuoteRow(msgspec.Struct):
    """Of a full quote the circuit limits, which no other answer has (kite.md 12); 0 for an index."""

    lower_circuit_limit: Decimal | None = None
    upper_circuit_limit: Decimal | None = None


class AvailableRow(msgspec.Struct):
    """Funds that came in."""

    cash: Decimal | None = None
    collateral: Decimal | None = None
    adhoc_margin: Decimal | None = None
    intraday_payin: Decimal | None = None


class UtilisedRow(msgspec.Struct):
    """Funds in use; ``debits`` is the sum."""

    debits: Decimal | None = None


class SegmentRow(msgspec.Struct):
    """Funds of a segment."""

    enabled: bool | None = None
    net: Decimal | None = None
    available: AvailableRow | None = None
    utilised: UtilisedRow | None = None


class MarginsRow(msgspec.Struct):
    """Funds of both segments; one that the account lacks may be missing."""

    equity: SegmentRow | None = None
    commodity: SegmentRow | None = None


class ProfileRow(msgspec.Struct):
    """The profile."""

    user_id: str | None = None
    user_name: str | None = None
    exchanges: list[str] | None = None
    products: list[str] | None = None
    order_types: list[str] | None = None


class SessionRow(msgspec.Struct):
    """The answer to a token exchange."""

    access_token: str
    user_id: str | None = None
    user_name: str | None = None
    public_token: str | None = None
    login_time: str | None = None
    exchanges: list[str] | None = None
    products: list[str] | None = None
    order_types: list[str] | None = None


class GttConditionRow(msgspec.Struct):
    """What a trigger waits for."""

    exchange: str | None = None
    tradingsymbol: str | None = None
    trigger_values: list[Decimal] | None = None
    last_price: Decimal | None = None


class GttOrderResultRow(msgspec.Struct):
    """What became of the order of a side that fired."""

    status: str | None = None
    order_id: Id = None
    rejection_reason: str | None = None


class GttResultRow(msgspec.Struct):
    """The side that fired."""

    order_result: GttOrderResultRow | None = None


class GttOrderRow(msgspec.Struct):
    """The order of one side of a trigger."""

    transaction_type: str | None = None
    quantity: Count = None
    price: Decimal | None = None
    product: str | None = None
    order_type: str | None = None
    result: GttResultRow | None = None


class GttRow(msgspec.Struct):
    """One trigger; without an id it is none."""

    id: Id = None
    status: str | None = None
    type: str | None = None
    created_at: str | None = None
    updated_at: str | None = None
    expires_at: str | None = None
    condition: GttConditionRow | None = None
    orders: list[GttOrderRow] | None = None


ORDER = msgspec.json.Decoder(OrderRow)
TRADE = msgspec.json.Decoder(TradeRow)
LIST = msgspec.json.Decoder(Answer[list[msgspec.Raw]])
BARE_LIST = msgspec.json.Decoder(list[msgspec.Raw])
ORDERS = msgspec.json.Decoder(Answer[list[OrderRow]])
TRADES = msgspec.json.Decoder(Answer[list[TradeRow]])
POSITIONS = msgspec.json.Decoder(Answer[PositionsRow])
HOLDINGS = msgspec.json.Decoder(Answer[list[HoldingRow]])
GTTS = msgspec.json.Decoder(Answer[list[GttRow]])
LAST_PRICES = msgspec.json.Decoder(Answer[dict[str, LastPriceRow]])
QUOTES = msgspec.json.Decoder(Answer[dict[str, QuoteRow]])
MARGINS = msgspec.json.Decoder(Answer[MarginsRow])
PROFILE = msgspec.json.Decoder(Answer[ProfileRow])
SESSION = msgspec.json.Decoder(Answer[SessionRow])
