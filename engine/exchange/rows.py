"""The exchange's values as Kite's JSON: keys, nulls and timestamps exactly (kite.md 2, 6, 9, 12)."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from engine.clock import IST
from engine.exchange.config import Behaviour
from engine.exchange.orders import CANCELLED, BookEntry, Order, Trade
from engine.exchange.state import Account, Session

_encoder = msgspec.json.Encoder(decimal_format="number")
# how the wire is unless a scenario says otherwise
WIRE = Behaviour()


def encode(value: object) -> bytes:
    """Return *value* as JSON, Decimals as exact numbers."""
    return _encoder.encode(value)


def stamp(instant: datetime | None) -> str | None:
    """Return Kite's naive IST form of an instant, ``yyyy-mm-dd hh:mm:ss``."""
    return None if instant is None else _stamp(instant.replace(microsecond=0))


# thousands of rows of a busy book name the same seconds
@lru_cache(maxsize=4096)
def _stamp(second: datetime) -> str:
    return second.astimezone(IST).strftime("%Y-%m-%d %H:%M:%S")


def number(value: Decimal) -> Decimal | int:
    """Return *value* as Kite writes it: an integer where whole, else with at most six decimals."""
    if value == value.to_integral_value():
        return int(value)
    exponent = value.as_tuple().exponent
    return value if isinstance(exponent, int) and exponent >= -6 else round(value, 6)


def join(parts: Iterable[bytes]) -> bytes:
    """Return a JSON array of rows that are already encoded."""
    return b"[" + b",".join(parts) + b"]"


def encoded_order(entry: BookEntry, behaviour: Behaviour) -> bytes:
    """Return the encoded row of an order, made once per change: the whole book is read often.

    Whoever changes *behaviour* drops what was made under the former.
    """
    if entry.encoded is None:
        entry.encoded = encode(order_row(entry.order, behaviour))
    return entry.encoded


def order_row(order: Order, behaviour: Behaviour = WIRE) -> dict[str, Any]:
    """Return a row of ``GET /orders``; what it says of a cancelled remainder follows *behaviour*."""
    row = {
        "account_id": order.user_id,
        "placed_by": order.user_id,
        **history_row(order, behaviour),
        "modified": order.modified,
        "validity_ttl": order.validity_ttl,
        "meta": _meta(order),
        "guid": None,
    }
    if order.auction_number is not None:
        row["auction_number"] = order.auction_number
    if order.tags:
        row["tags"] = list(order.tags)
    return row


def _meta(order: Order) -> dict[str, Any]:
    meta: dict[str, Any] = {}
    if order.iceberg is not None:
        meta["iceberg"] = msgspec.structs.asdict(order.iceberg)
    if order.gtt is not None:
        meta["gtt"] = order.gtt
    return meta


def _unfilled(order: Order, behaviour: Behaviour) -> tuple[int, int]:
    """Pending and cancelled quantity as the row shows them (kite.md 6.3)."""
    if not order.is_terminal:
        return order.quantity - order.filled_quantity, 0
    if order.status != CANCELLED:
        return 0, 0
    is_auction = order.variety == "auction"
    is_kept = is_auction or behaviour.cancelled_pending == "kept"
    is_counted = not is_auction and behaviour.cancelled_quantity == "counted"
    return (order.cancelled_quantity if is_kept else 0), (order.cancelled_quantity if is_counted else 0)


def history_row(order: Order, behaviour: Behaviour = WIRE) -> dict[str, Any]:
    """Return a row of ``GET /orders/{id}``, which has fewer keys than the book's."""
    pending, cancelled = _unfilled(order, behaviour)
    return {
        "order_id": order.order_id,
        "exchange_order_id": order.exchange_order_id,
        "parent_order_id": order.parent_order_id,
        "status": order.status,
        "status_message": order.status_message,
        "status_message_raw": order.status_message_raw,
        "order_timestamp": stamp(order.order_timestamp),
        "exchange_update_timestamp": stamp(order.exchange_update_timestamp),
        "exchange_timestamp": stamp(order.exchange_timestamp),
        "variety": order.variety,
        "modified": False,
        "exchange": order.exchange,
        "tradingsymbol": order.tradingsymbol,
        "instrument_token": order.instrument_token,
        "order_type": order.order_type,
        "transaction_type": order.transaction_type,
        "validity": order.validity,
        "product": order.product,
        "quantity": order.quantity,
        "disclosed_quantity": order.disclosed_quantity,
        "price": number(order.price),
        "trigger_price": number(order.trigger_price),
        "average_price": number(order.average_price),
        "filled_quantity": order.filled_quantity,
        "pending_quantity": pending,
        "cancelled_quantity": cancelled,
        "market_protection": 0,
        "tag": order.tag,
    }


def push_row(order: Order, status: str | None = None) -> dict[str, Any]:
    """Return ``data`` of an order's text message on the WebSocket (kite.md 15.5).

    *status* is what the push shows, the order's own by default. The checksum is empty, as on the wire.
    """
    return {
        "account_id": order.user_id,
        "unfilled_quantity": order.remaining,
        "checksum": "",
        **_told(order, status),
    }


def postback_row(order: Order, app_id: int, status: str | None = None) -> dict[str, Any]:
    """Return the body of a postback (kite.md 14); the caller sets ``checksum``."""
    return {
        "user_id": order.user_id,
        "unfilled_quantity": order.remaining,
        "app_id": app_id,
        "checksum": "",
        **_told(order, status),
    }


def _told(order: Order, status: str | None) -> dict[str, Any]:
    row = history_row(order)
    del row["modified"]
    return {
        "placed_by": order.user_id,
        **row,
        "status": status or order.status,
        "meta": _meta(order),
        "guid": None,
    }


def trade_row(trade: Trade) -> dict[str, Any]:
    """Return a row of ``GET /trades``."""
    return {
        "trade_id": trade.trade_id,
        "order_id": trade.order_id,
        "exchange": trade.exchange,
        "tradingsymbol": trade.tradingsymbol,
        "instrument_token": trade.instrument_token,
        "product": trade.product,
        "average_price": number(trade.price),
        "quantity": trade.quantity,
        "exchange_order_id": trade.exchange_order_id,
        "transaction_type": trade.transaction_type,
        "fill_timestamp": stamp(trade.at),
        "order_timestamp": (stamp(trade.order_timestamp) or "")[11:],
        "exchange_timestamp": stamp(trade.at),
    }


def session_row(account: Account, session: Session) -> dict[str, Any]:
    """Return the answer of ``POST /session/token``."""
    return {
        **profile_row(account),
        "api_key": account.api_key,
        "access_token": session.access_token,
        "public_token": session.public_token,
        "enctoken": "",
        "refresh_token": "",
        "silo": "",
        "login_time": stamp(session.opened_at),
    }


def profile_row(account: Account) -> dict[str, Any]:
    """Return the answer of ``GET /user/profile``."""
    return {
        "user_id": account.user_id,
        "user_type": "individual",
        "email": f"{account.user_id.lower()}@paper.invalid",
        "user_name": f"Paper {account.user_id}",
        "user_shortname": account.user_id,
        "broker": "ZERODHA",
        "exchanges": ["NSE", "NFO", "BFO", "CDS", "BSE", "MCX", "BCD"],
        "products": ["CNC", "NRML", "MIS", "MTF"],
        "order_types": ["MARKET", "LIMIT", "SL", "SL-M"],
        "avatar_url": None,
        "meta": {"demat_consent": "consent"},
    }


def full_profile_row(account: Account) -> dict[str, Any]:
    """Return the answer of ``GET /user/profile/full``; nothing personal in it is anybody's."""
    return {
        **profile_row(account),
        "twofa_type": "totp",
        "twofa_timestamp": "2021-01-01 09:00:00",
        "password_timestamp": "2021-01-01 09:00:00",
        "phone": "*0000",
        "pan": "*0000",
        "bank_accounts": [{"name": "PAPER BANK", "branch": "", "account": "*0000"}],
        "dp_ids": ["0000000000000000"],
        "tags": [],
    }
