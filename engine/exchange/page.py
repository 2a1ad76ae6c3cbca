"""A page at ``/`` and ``/book`` that shows what the exchange holds; for a browser on this machine only.

It renews itself, loads nothing from elsewhere, and shows no key and no token.
"""

from collections.abc import Iterable, Sequence
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

RENEW_S = 2
MOST_ROWS = 500
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5rem; color: #1c2430; background: #fff }
h1 { font-size: 1.3rem } h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem } p { color: #5a6675 }
table { border-collapse: collapse; width: 100% } th, td { padding: .25rem .6rem; text-align: left; white-space: nowrap }
th { border-bottom: 2px solid #cbd2da; font-weight: 600 } td { border-bottom: 1px solid #e8ecf0 }
td.n { text-align: right; font-variant-numeric: tabular-nums } div { overflow-x: auto }
@media (prefers-color-scheme: dark) { body { color: #dfe5ec; background: #14181d } td { border-color: #2a323c } }
"""
_ORDERS = (
    "order_timestamp", "order_id", "exchange", "tradingsymbol", "transaction_type", "product", "order_type", "variety",
    "quantity", "filled_quantity", "price", "trigger_price", "average_price", "status", "status_message", "tag",
)  # fmt: skip
_TRADES = (
    "fill_timestamp", "trade_id", "order_id", "exchange", "tradingsymbol", "transaction_type", "product", "quantity",
    "average_price",
)  # fmt: skip
_POSITIONS = ("exchange", "tradingsymbol", "product", "quantity", "average_price", "last_price", "pnl", "m2m")
_ACCOUNTS = ("user_id", "session", "cash", "available", "used")
_PRICES = ("instrument", "last_price", "open", "high", "low", "previous close")


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
    accounts, positions, orders, trades, held = [], [], [], [], set()
    for user_id, account in sorted(exchange.state.accounts.items()):
        equity = exchange.margins(account, "equity", now)
        used = equity["utilised"]["debits"]
        session = "logged in" if account.api_key in exchange.state.sessions else "none"
        accounts.append((user_id, session, equity["available"]["cash"], equity["net"], used))
        for row in exchange.positions(account, now)["net"]:
            positions.append((user_id, *_values(row, _POSITIONS)))
            held.add(f"{row['exchange']}:{row['tradingsymbol']}")
        held |= {f"{row['exchange']}:{row['tradingsymbol']}" for row in exchange.holdings(account, now)}
        book = exchange.state.books[user_id]
        entries = islice(reversed(book.entries.values()), MOST_ROWS)
        orders += [(user_id, *_values(rows.order_row(entry.order), _ORDERS)) for entry in entries]
        trades += [(user_id, *_values(rows.trade_row(trade), _TRADES)) for trade in book.trades[-MOST_ROWS:]]
    prices = [
        (key, quote["last_price"], *quote["ohlc"].values())
        for key, quote in sorted(exchange.quotes(sorted(held), "ohlc", now).items())
    ]
    tables = (
        ("Accounts", _ACCOUNTS, accounts),
        ("Positions", ("account", *_POSITIONS), positions),
        ("Prices of what is held", _PRICES, prices),
        ("Orders", ("account", *_ORDERS), _newest(orders)),
        ("Trades", ("account", *_TRADES), _newest(trades)),
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Paper exchange</title>'
        f'<meta http-equiv="refresh" content="{RENEW_S}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>'
        f"<h1>Paper exchange</h1><p>{escape(rows.stamp(now) or '')} IST. No order here reaches a market.</p>"
        f"{''.join(_table(*table) for table in tables)}</body></html>"
    )


def _values(row: dict[str, Any], names: Iterable[str]) -> list[Any]:
    return [row.get(name) for name in names]


def _newest(table: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(table, key=lambda row: str(row[1]), reverse=True)[:MOST_ROWS]


def _table(title: str, names: Sequence[str], table: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in names)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in table)
    if not table:
        body = f'<tr><td colspan="{len(names)}">none</td></tr>'
    return f"<h2>{escape(title)}</h2><div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return (
        f"<td>{escape(text)}</td>" if value is None or isinstance(value, str) else f'<td class="n">{escape(text)}</td>'
    )
