"""What the API shows, in the words of a chat: short plain text, newest first, as much as one message holds."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from engine.domain.killswitch import GLOBAL
from engine.domain.money import plain
from engine.http.views.kill import KillStatusView
from engine.http.views.pnl import DayPnlView, PnlView
from engine.http.views.resources import AccountView
from engine.http.views.trading import IntentView, OrderView, PositionView
from engine.signals.chat_text import outside

_MOST_LINES = 40
Labels = Mapping[UUID, str]


def accounts_text(accounts: Sequence[AccountView]) -> str:
    """Return the broker accounts, one a line."""
    lines = []
    for account in accounts:
        # the code is enough for a chat
        reason = (account.status_reason or "").partition(". The broker said")[0]
        why = f" ({outside(reason)})" if reason else ""
        lines.append(f"{account.label} ({account.broker}): {account.status}{why}, capital {plain(account.capital)}")
    return _lines(lines, "There is no account.")


def status_text(
    accounts: Sequence[AccountView], kills: KillStatusView, waiting: Sequence[IntentView], *, mode: str
) -> str:
    """Return how things stand: accounts, what is stopped, what waits for a person."""
    on = [scope.scope for scope in kills.scopes if scope.enabled]
    stopped = f"Kill switch ON: {', '.join(on)} (/killstatus)" if on else "No kill switch is on."
    asked = f"{len(waiting)} intents wait for approval." if waiting else "Nothing waits for approval."
    return "\n".join([f"Mode {mode}", stopped, asked, accounts_text(accounts)])


def positions_text(positions: Sequence[PositionView], labels: Labels) -> str:
    """Return the open positions, one a line, and their sum."""
    held = [position for position in positions if position.quantity]
    lines = [
        f"{labels.get(p.account_id, '?')}: {p.quantity:+} {p.symbol} {p.exchange} {p.product_type} "
        f"@ {plain(p.average_price)}, last {plain(p.last_price)}, P&L {plain(p.pnl)}"
        for p in held
    ]
    return _lines(lines, "No open position.")


def orders_text(orders: Sequence[OrderView], labels: Labels) -> str:
    """Return orders, one a line."""
    lines = []
    for order in orders:
        price = "" if order.price is None else f" @ {plain(order.price)}"
        filled = f", filled {order.filled_quantity}" if order.filled_quantity else ""
        lines.append(
            f"{labels.get(order.account_id, '?')}: {order.status} {order.transaction_type} {order.quantity} "
            f"{order.symbol} {order.exchange}{price} {order.order_type} {order.product_type}{filled}"
        )
    return _lines(lines, "No order.")


def intents_text(intents: Sequence[IntentView]) -> str:
    """Return intents, one a line and its reason below."""
    lines = []
    for intent in intents:
        reason = f"\n  {outside(intent.reason)}" if intent.reason else ""
        lines.append(
            f"{intent.received_at:%d %b %H:%M:%S} UTC {intent.status}: {intent.transaction_type} {intent.quantity} "
            f"{outside(intent.symbol, 60)} {intent.exchange}{reason}"
        )
    return _lines(lines, "No intent.")


def pnl_text(day: DayPnlView, labels: Labels) -> str:
    """Return the profit and loss of a day, in all and by account."""
    lines = [f"{day.day} {_pnl('all', day.total)}"]
    lines += [_pnl(labels.get(part.account_id, "?"), part) for part in day.accounts if part.account_id is not None]
    return _lines(lines, "")


def kills_text(kills: KillStatusView) -> str:
    """Return every kill switch that is on, how far it is and what is not flat."""
    lines = []
    for scope in kills.scopes:
        if not scope.enabled:
            if scope.scope == GLOBAL:
                lines.append("global: off")
            continue
        flat = "flat" if scope.flat else f"not flat: {len(scope.not_flat)}"
        lines.append(f"{scope.scope}: {scope.state}, {flat}, by {scope.actor}: {outside(scope.reason)}")
        lines += [
            f"  {left.quantity:+} {left.symbol} {left.exchange} {left.product_type} {outside(left.why or '')}"
            for left in scope.not_flat[:10]
        ]
    return _lines(lines, "No kill switch was ever on.")


def _pnl(name: str, part: PnlView) -> str:
    stale = ", some prices are old" if part.stale else ""
    return (
        f"{name}: {plain(part.pnl)} (realised {plain(part.realised_pnl)}, unrealised {plain(part.unrealised_pnl)}, "
        f"charges {plain(part.charges)}){stale}"
    )


def _lines(lines: Iterable[str], none: str) -> str:
    found = list(lines)
    kept = found[:_MOST_LINES]
    if len(found) > len(kept):
        kept.append(f"… and {len(found) - len(kept)} more")
    return "\n".join(kept) or none
