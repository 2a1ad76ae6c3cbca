"""The one table of the console's pages: what the navigation shows, in its order, to whom.

To add a page, add one line here; `engine.console` says what else a page is made of.
"""

from collections.abc import Sequence
from typing import NamedTuple

from engine.http.permissions import Permission, Principal, is_allowed


class NavItem(NamedTuple):
    """One page: its address, what it is called, its icon (a symbol of static/icons.svg), and who may see it.

    ``group`` parts the table with a heading; ``thumb`` puts the page into the bar at the bottom of a phone's screen,
    which has room for four.
    """

    path: str
    label: str
    icon: str
    permission: Permission
    group: str
    thumb: bool = False


PAGES: tuple[NavItem, ...] = (
    NavItem("/console", "Overview", "pulse", Permission.READ, "Trading", thumb=True),
    NavItem("/console/orders", "Orders", "orders", Permission.READ, "Trading", thumb=True),
    NavItem("/console/intents", "Signals", "signal", Permission.READ, "Trading"),
    NavItem("/console/trades", "Trades", "trades", Permission.READ, "Trading"),
    NavItem("/console/positions", "Positions", "positions", Permission.READ, "Trading", thumb=True),
    NavItem("/console/pnl", "Profit and loss", "chart", Permission.READ, "Trading"),
    NavItem("/console/kill", "Kill switch", "stop", Permission.READ, "Risk", thumb=True),
    NavItem("/console/limits", "Risk limits", "limits", Permission.READ, "Risk"),
    NavItem("/console/drills", "Drills", "drill", Permission.READ, "Risk"),
    NavItem("/console/accounts", "Accounts", "account", Permission.READ, "Set-up"),
    NavItem("/console/strategies", "Strategies", "strategy", Permission.READ, "Set-up"),
    NavItem("/console/sources", "Sources", "source", Permission.READ, "Set-up"),
    NavItem("/console/start", "First steps", "guide", Permission.TRADE, "Set-up"),
    NavItem("/console/me", "You", "user", Permission.SELF, "Engine"),
    NavItem("/console/users", "Users", "people", Permission.ADMIN, "Engine"),
    NavItem("/console/system", "Settings, doctor", "settings", Permission.ADMIN, "Engine"),
    NavItem("/console/audit", "Audit log", "audit", Permission.ADMIN, "Record"),
    NavItem("/console/dead-letters", "Dead letters", "letters", Permission.ADMIN, "Record"),
)


def pages_for(caller: Principal) -> Sequence[NavItem]:
    """Return the pages that *caller* may open."""
    return tuple(item for item in PAGES if is_allowed(item.permission, caller.role))


def is_current(item: NavItem, path: str) -> bool:
    """Tell whether the page at *path* is *item* or lies under it."""
    if item.path == "/console":
        return path == item.path
    return path == item.path or path.startswith(item.path + "/")
