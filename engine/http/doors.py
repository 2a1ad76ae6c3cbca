"""What a caller shows at a door without a bearer token, as the API document tells it: schemes, headers, bodies."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec

from engine.domain.enums import Exchange, OrderType, ProductType, TransactionType, Variety

Symbol = Annotated[str, msgspec.Meta(min_length=1, max_length=40)]


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """A header of a request; ``pattern`` is a regular expression of JSON Schema."""

    name: str
    description: str
    required: bool = False
    pattern: str | None = None


class Door(msgspec.Struct, frozen=True, kw_only=True):
    """How a caller proves itself: all of ``schemes`` together, what it sends with them, and in which body."""

    schemes: tuple[str, ...]
    headers: tuple[Header, ...] = ()
    accepts: tuple[tuple[str, Any], ...] = ()


SCHEMES: dict[str, dict[str, str]] = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "sourceKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "Names the source: the apiKey of POST /sources.",
    },
    "sourceSignature": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Signature",
        "description": "Lower-case hex HMAC-SHA256, under the source's secret, of X-Timestamp, a full stop and the raw "
        "body; of the raw body alone where the source does not require a timestamp and none is sent.",
    },
    "metricsToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "security.metrics_token of the engine's configuration; not asked for on its own machine.",
    },
    "telegramSecret": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Telegram-Bot-Api-Secret-Token",
        "description": "[telegram] secret_token, as it was given to Telegram with setWebhook.",
    },
}


class _Terms(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    order_type: OrderType
    product_type: ProductType
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    validity: str | None = None
    variety: Variety | None = None
    stop_loss: Decimal | None = None
    target: Decimal | None = None
    disclosed_quantity: int | None = None
    validity_ttl: int | None = None
    iceberg_legs: int | None = None
    auction_number: str | None = None
    market_protection: Decimal | None = None
    exits: str | None = None


class SignalRow(_Terms, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A signal; prices are rupees with at most 4 decimals.

    With a ``positionSize``, the signed position to reach, the side may be left out and the quantity must be; without
    one both are needed. ``sequence`` numbers the signals of a sender, so that one that never came is noticed.
    """

    symbol: Symbol
    exchange: Exchange
    transaction_type: TransactionType | None = None
    quantity: Annotated[int, msgspec.Meta(ge=1)] | None = None
    position_size: int | None = None
    sequence: Annotated[int, msgspec.Meta(ge=0)] | None = None


_SIGNAL = {
    "symbol": "INFY",
    "exchange": "NSE",
    "transactionType": "BUY",
    "quantity": 10,
    "orderType": "LIMIT",
    "productType": "MIS",
    "price": 1520.5,
    "stopLoss": 1505,
    "target": 1560,
}
SignalBatch = Annotated[list[SignalRow], msgspec.Meta(min_length=1, max_length=100)]
Signals = Annotated[SignalRow | SignalBatch, msgspec.Meta(examples=[_SIGNAL])]


class AlertRow(_Terms, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=False):
    """The message of an alert: a signal, in its own words or those that TradingView's placeholders suggest.

    ``ticker``, ``action`` and ``contracts`` stand for symbol, transactionType and quantity; ``marketPosition`` (long,
    short, flat) with ``marketPositionSize`` ask for a position. ``secret`` is the source's, where the address does not
    carry it; ``timenow`` is when the alert fired.
    """

    secret: str | None = None
    timenow: datetime | None = None
    symbol: str | None = None
    ticker: str | None = None
    exchange: str | None = None
    transaction_type: str | None = None
    action: str | None = None
    quantity: str | int | None = None
    contracts: str | int | None = None
    market_position: str | None = None
    market_position_size: str | int | None = None
    sequence: int | None = None


_ALERT = {
    "ticker": "NSE:INFY",
    "action": "buy",
    "contracts": "10",
    "orderType": "MARKET",
    "productType": "MIS",
    "timenow": "2026-11-27T04:15:00Z",
}
Alerts = Annotated[AlertRow | list[AlertRow], msgspec.Meta(examples=[_ALERT])]
AlertText = Annotated[str, msgspec.Meta(examples=["BUY INFY NSE\nQty: 10\nType: MARKET\nProduct: MIS"])]


class TelegramChat(msgspec.Struct, frozen=True, kw_only=True):
    """The chat of a message."""

    id: int


class TelegramMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What of a message is read; ``date`` is Unix seconds."""

    message_id: int
    date: int
    chat: TelegramChat
    text: str | None = None


class TelegramUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """An Update of the Telegram Bot API, as far as it is read."""

    update_id: int
    message: TelegramMessage | None = None


class KitePostback(msgspec.Struct, frozen=True, kw_only=True):
    """What Kite posts about an order, as far as it is read (Kite Connect v3, postbacks).

    ``checksum`` is hex SHA-256 of order_id, order_timestamp and the app's api_secret, one after the other.
    """

    user_id: str
    order_id: str
    order_timestamp: str
    checksum: str
    status: str | None = None


TIMESTAMP = Header(
    name="X-Timestamp",
    description="Unix seconds, within signals.max_clock_skew_s of the engine's clock; under the signature.",
    pattern="^[0-9]{1,12}$",
)
IDEMPOTENCY_KEY = Header(
    name="Idempotency-Key",
    description="1 to 200 visible ASCII characters that name this call: a repeat within 24 hours gets its answer.",
    pattern="^[!-~]{1,200}$",
)
SOURCE = Door(
    schemes=("sourceKey", "sourceSignature"),
    headers=(TIMESTAMP, IDEMPOTENCY_KEY),
    accepts=(("application/json", Signals),),
)
TRADINGVIEW = Door(schemes=(), accepts=(("application/json", Alerts), ("text/plain", AlertText)))
"""The secret of the source is in the address or in the body: TradingView can neither sign nor set a header."""
TELEGRAM = Door(schemes=("telegramSecret",), accepts=(("application/json", TelegramUpdate),))
METRICS = Door(schemes=("metricsToken",))
KITE = Door(schemes=(), accepts=(("application/json", KitePostback),))


def signed(body: Any) -> Door:
    """Return the door of what a source signs besides its signals; *body* is the type that it reads."""
    return Door(schemes=SOURCE.schemes, headers=(TIMESTAMP,), accepts=(("application/json", body),))
