"""The exchange's values as Kite's JSON: keys, nulls and timestamps exactly (kite.md 2, 6, 9, 12)."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from engine.clock import IST
from engine.exchange.instruments import Master
from engine.exchange.margin import Funds
from engine.exchange.market import Market
from engine.exchange.orders import CANCELLED, BookEntry, Order, Trade, average
from engine.exchange.portfolio import Portfolio, PositionKey, PositionTotals
from engine.exchange.state import Account, Session

_encoder = msgspec.json.Encoder(decimal_format="number")


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


def number(value: Decimal) -> Decimal:
    """Return *value* without exponent and with at most six decimals."""
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and -6 <= exponent <= 0:
        return value
    return value.quantize(Decimal(1)) if value == value.to_integral_value() else round(value, 6)


def join(parts: Iterable[bytes]) -> bytes:
    """Return a JSON array of rows that are already encoded."""
    return b"[" + b",".join(parts) + b"]"


def encoded_order(entry: BookEntry) -> bytes:
    """Return the encoded row of an order, made once per change: the whole book is read often."""
    if entry.encoded is None:
        entry.encoded = encode(order_row(entry.order))
    return entry.encoded


def order_row(order: Order) -> dict[str, Any]:
    """Return a row of ``GET /orders``."""
    row = {
        "account_id": order.user_id,
        "placed_by": order.user_id,
        **history_row(order),
        "modified": order.modified,
        "validity_ttl": order.validity_ttl,
        "meta": {},
        "guid": None,
    }
    if order.tags:
        row["tags"] = list(order.tags)
    return row


def history_row(order: Order) -> dict[str, Any]:
    """Return a row of ``GET /orders/{id}``, which has fewer keys than the book's."""
    if not order.is_terminal:
        pending = order.quantity - order.filled_quantity
    else:
        # a cancelled order keeps its pending quantity on the wire (kite.md 6.3)
        pending = order.cancelled_quantity if order.status == CANCELLED else 0
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
        "price": order.price,
        "trigger_price": order.trigger_price,
        "average_price": order.average_price,
        "filled_quantity": order.filled_quantity,
        "pending_quantity": pending,
        "cancelled_quantity": order.cancelled_quantity,
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
        "meta": {},
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
        "average_price": trade.price,
        "quantity": trade.quantity,
        "exchange_order_id": trade.exchange_order_id,
        "transaction_type": trade.transaction_type,
        "fill_timestamp": stamp(trade.at),
        "order_timestamp": (stamp(trade.order_timestamp) or "")[11:],
        "exchange_timestamp": stamp(trade.at),
    }


def positions(portfolio: Portfolio, master: Master, market: Market, now: datetime) -> dict[str, Any]:
    """Return the answer of ``GET /portfolio/positions``."""
    net, day = [], []
    for key, totals in portfolio.positions.items():
        instrument = master.by_key.get(key.instrument)
        if instrument is None:
            continue
        last = market.last_price(instrument, now)
        net.append(position_row(key, totals, last, instrument.last_price))
        if totals.day_buy_quantity or totals.day_sell_quantity:
            day.append(position_row(key, totals.day_only(), last, instrument.last_price))
    return {"net": net, "day": day}


def position_row(key: PositionKey, totals: PositionTotals, last_price: Decimal, close: Decimal) -> dict[str, Any]:
    """Return a position by the formulas of kite.md 9.1; ``close_price`` is 0 without an overnight part."""
    multiplier, quantity, overnight = totals.multiplier, totals.quantity, totals.overnight_quantity
    close_price = close if overnight else Decimal(0)
    worth = quantity * last_price * multiplier
    buy_price = average(totals.buy_value / multiplier, totals.buy_quantity)
    sell_price = average(totals.sell_value / multiplier, totals.sell_quantity)
    buy_m2m = max(overnight, 0) * close_price * multiplier + totals.day_buy_value
    sell_m2m = max(-overnight, 0) * close_price * multiplier + totals.day_sell_value
    value = totals.sell_value - totals.buy_value
    pnl = number(value + worth)
    return {
        "tradingsymbol": key.tradingsymbol,
        "exchange": key.exchange,
        "instrument_token": totals.instrument_token,
        "product": key.product,
        "quantity": quantity,
        "overnight_quantity": overnight,
        "multiplier": number(multiplier),
        "average_price": (buy_price if quantity > 0 else sell_price) if quantity else 0,
        "close_price": close_price,
        "last_price": last_price,
        "value": number(value),
        "pnl": pnl,
        "m2m": number(sell_m2m - buy_m2m + worth),
        "unrealised": pnl,
        "realised": 0,
        "buy_quantity": totals.buy_quantity,
        "buy_price": buy_price,
        "buy_value": number(totals.buy_value),
        "buy_m2m": number(buy_m2m),
        "sell_quantity": totals.sell_quantity,
        "sell_price": sell_price,
        "sell_value": number(totals.sell_value),
        "sell_m2m": number(sell_m2m),
        "day_buy_quantity": totals.day_buy_quantity,
        "day_buy_price": average(totals.day_buy_value / multiplier, totals.day_buy_quantity),
        "day_buy_value": number(totals.day_buy_value),
        "day_sell_quantity": totals.day_sell_quantity,
        "day_sell_price": average(totals.day_sell_value / multiplier, totals.day_sell_quantity),
        "day_sell_value": number(totals.day_sell_value),
    }


def holdings(portfolio: Portfolio, master: Master, market: Market, now: datetime) -> list[dict[str, Any]]:
    """Return the answer of ``GET /portfolio/holdings``."""
    found = []
    for name, holding in portfolio.holdings.items():
        instrument = master.by_key.get(name)
        if instrument is None:
            continue
        last, close = market.last_price(instrument, now), instrument.last_price
        cost = average(holding.value, holding.total)
        used = portfolio.sold_from_holdings(name)
        found.append(
            {
                "tradingsymbol": instrument.symbol,
                "exchange": instrument.exchange,
                "instrument_token": instrument.token,
                "isin": f"INE{instrument.token // 256:06d}010"[:12],
                "product": "CNC",
                "price": 0,
                "quantity": holding.quantity,
                "used_quantity": used,
                "t1_quantity": holding.t1_quantity,
                "realised_quantity": holding.quantity,
                "authorised_quantity": 0,
                "authorised_date": (stamp(now) or "")[:10] + " 00:00:00",
                "authorisation": {},
                "opening_quantity": holding.total,
                "short_quantity": 0,
                "collateral_quantity": 0,
                "collateral_type": "",
                "discrepancy": False,
                "average_price": cost,
                "last_price": last,
                "close_price": close,
                "pnl": number((last - cost) * holding.total),
                "day_change": last - close,
                "day_change_percentage": number((last - close) * 100 / close),
                "mtf": {"quantity": 0, "used_quantity": 0, "average_price": 0, "value": 0, "initial_margin": 0},
            }
        )
    return found


def margin_row(funds: Funds) -> dict[str, Any]:
    """Return a segment of ``GET /user/margins``; ``debits`` is the sum of what is utilised."""
    cash, net = _rupees(funds.cash), _rupees(funds.net)
    return {
        "enabled": True,
        "net": net,
        "available": {
            "adhoc_margin": 0,
            "cash": cash,
            "opening_balance": cash,
            "live_balance": net,
            "collateral": 0,
            "intraday_payin": 0,
        },
        "utilised": {
            "debits": _rupees(funds.used),
            "exposure": _rupees(funds.positions + funds.orders),
            "m2m_realised": _rupees(-funds.realised),
            "m2m_unrealised": _rupees(-funds.unrealised),
            "option_premium": 0,
            "payout": 0,
            "span": 0,
            "holding_sales": 0,
            "turnover": 0,
            "liquid_collateral": 0,
            "stock_collateral": 0,
            "delivery": _rupees(funds.delivery),
        },
    }


def empty_margin_row() -> dict[str, Any]:
    """Return the commodity segment: one pool of money, shown under equity, serves all segments."""
    zero = Decimal(0)
    return margin_row(Funds(cash=zero, delivery=zero, positions=zero, orders=zero, realised=zero, unrealised=zero))


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


def _rupees(value: Decimal) -> Decimal:
    return round(value, 2) + Decimal(0)
