"""A page at ``/`` and ``/book`` that shows what the exchange holds; for a browser on this machine only.

It renews itself, loads nothing from elsewhere, and shows no key and no token.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from itertools import islice
from typing import Any

from quart import Response
from quart_trio import QuartTrio

from engine.exchange import rows
from engine.exchange.core import Exchange
from engine.exchange.loopback import only_loopback
from engine.exchange.web import Gateway

Row = dict[str, Any]
RENEW_S = 2
MOST_ROWS = 500
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5rem; color: #1c2430; background: #f4f6f8 }
h1 { font-size: 1.3rem; margin: 0 } h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem } p { color: #5a6675 }
div { overflow-x: auto; background: #fff; border: 1px solid #dde2e8; border-radius: .5rem }
table { border-collapse: collapse; width: 100% } th, td { padding: .35rem .7rem; text-align: left; white-space: nowrap }
th { color: #5a6675; font-weight: 600 } td { border-top: 1px solid #e8ecf0 } .none { color: #8a95a3 }
.n { text-align: right; font-variant-numeric: tabular-nums } .w { white-space: normal; min-width: 16rem }
.good { color: #1b7f3b; font-weight: 600 } .bad { color: #b3261e; font-weight: 600 } .wait { font-weight: 600 }
@media (prefers-color-scheme: dark) { body { color: #dfe5ec; background: #14181d } td { border-color: #2a323c }
div { background: #1c222a; border-color: #2a323c } p, th { color: #93a0b0 }
.good { color: #6fd08c } .bad { color: #ff8a80 } }
"""
# what a column shows, and what it is called
_ORDERS = {
    "order_timestamp": "time", "account": "account", "instrument": "instrument", "transaction_type": "side",
    "quantity": "quantity", "filled_quantity": "filled", "status": "status", "order_type": "type", "price": "price",
    "trigger_price": "trigger", "average_price": "average", "product": "product", "variety": "variety",
    "order_id": "order id", "tag": "tag", "status_message": "message",
}  # fmt: skip
_TRADES = {
    "fill_timestamp": "time", "account": "account", "instrument": "instrument", "transaction_type": "side",
    "quantity": "quantity", "average_price": "price", "product": "product", "trade_id": "trade id",
    "order_id": "order id",
}  # fmt: skip
_POSITIONS = {
    "account": "account", "instrument": "instrument", "product": "product", "quantity": "quantity",
    "average_price": "average", "last_price": "last price", "pnl": "P&L", "m2m": "M2M",
}  # fmt: skip
_ACCOUNTS = {"user_id": "account", "session": "session", "cash": "cash", "net": "available", "used": "used"}
_PRICES = {
    "instrument": "instrument", "last_price": "last price", "open": "open", "high": "high", "low": "low",
    "close": "previous close",
}  # fmt: skip
_NUMBERS = frozenset(
    {"quantity", "filled_quantity", "price", "trigger_price", "average_price", "last_price", "pnl", "m2m"}
    | {"cash", "net", "used", "open", "high", "low", "close"}
)
_TIMES = frozenset({"order_timestamp", "fill_timestamp"})
_COLOURS = {"COMPLETE": "good", "REJECTED": "bad", "CANCELLED": "none"}


def add_page(app: QuartTrio, gateway: Gateway) -> None:
    """Add the page to *app*."""

    @app.get("/")
    @app.get("/book")
    async def page() -> Response:
        only_loopback()
        text = render(gateway.exchange, gateway.clock.now())
        await gateway.settle()
        headers = {
            "Content-Security-Policy": _POLICY,
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
        return Response(text, headers=headers, content_type="text/html; charset=utf-8")


def render(exchange: Exchange, now: datetime) -> str:
    """Return the page: accounts, positions, prices of what they hold, orders and trades, newest first."""
    accounts: list[Row] = []
    positions: list[Row] = []
    orders: list[Row] = []
    trades: list[Row] = []
    held: set[str] = set()
    for user_id, account in sorted(exchange.state.accounts.items()):
        equity = exchange.margins(account, "equity", now)
        session = "logged in" if account.api_key in exchange.state.sessions else "none"
        money = {"cash": equity["available"]["cash"], "net": equity["net"], "used": equity["utilised"]["debits"]}
        accounts.append({"user_id": user_id, "session": session, **money})
        positions += _named(user_id, exchange.positions(account, now)["net"])
        held |= {row["instrument"] for row in positions}
        held |= {_instrument(row) for row in exchange.holdings(account, now)}
        book = exchange.state.books[user_id]
        entries = islice(reversed(book.entries.values()), MOST_ROWS)
        orders += _named(user_id, (rows.order_row(entry.order) for entry in entries))
        trades += _named(user_id, (rows.trade_row(trade) for trade in book.trades[-MOST_ROWS:]))
    prices = [
        {"instrument": key, "last_price": quote["last_price"], **quote["ohlc"]}
        for key, quote in sorted(exchange.quotes(sorted(held), "ohlc", now).items())
    ]
    tables = (
        ("Accounts", _ACCOUNTS, accounts),
        ("Positions", _POSITIONS, positions),
        ("Prices of what is held", _PRICES, prices),
        ("Orders", _ORDERS, _newest(orders, "order_timestamp")),
        ("Trades", _TRADES, _newest(trades, "fill_timestamp")),
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Paper exchange</title>'
        f'<meta http-equiv="refresh" content="{RENEW_S}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>'
        f"<h1>Paper exchange</h1><p>{escape(rows.stamp(now) or '')} IST. No order here reaches a market.</p>"
        f"{''.join(_table(*table) for table in tables)}</body></html>"
    )


def _named(user_id: str, found: Iterable[Row]) -> list[Row]:
    return [{**row, "account": user_id, "instrument": _instrument(row)} for row in found]


def _instrument(row: Row) -> str:
    return f"{row['exchange']}:{row['tradingsymbol']}"


def _newest(table: list[Row], column: str) -> list[Row]:
    return sorted(table, key=lambda row: str(row[column]), reverse=True)[:MOST_ROWS]


def _table(title: str, columns: Mapping[str, str], table: Sequence[Row]) -> str:
    head = "".join(f'<th class="{_kind(name, None)}">{escape(shown)}</th>' for name, shown in columns.items())
    body = "".join("<tr>" + "".join(_cell(name, row.get(name)) for name in columns) + "</tr>" for row in table)
    if not table:
        body = f'<tr><td class="none" colspan="{len(columns)}">none</td></tr>'
    held = f'<table aria-label="{escape(title)}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f"<h2>{escape(title)}</h2><div>{held}</div>"


def _cell(name: str, value: Any) -> str:
    text = "" if value is None else str(value)
    # the book is of one day
    text = text[11:] if name in _TIMES else text
    return f'<td class="{_kind(name, value)}">{escape(text)}</td>'


def _kind(name: str, value: Any) -> str:
    if name == "status" and value is not None:
        return _COLOURS.get(str(value), "wait")
    if name == "status_message":
        return "w"
    return "n" if name in _NUMBERS else ""
