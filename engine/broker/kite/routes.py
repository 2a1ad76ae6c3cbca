"""Kite Connect's own constants, taken from the official package.

The only module that may import kiteconnect: doing so costs about 0.4 s and creates Twisted's
reactor, which is never started here.
"""

import warnings
from typing import Final

with warnings.catch_warnings():
    # The package and its pinned autobahn warn on import under newer Pythons; nothing here can mend that.
    warnings.simplefilter("ignore")
    from kiteconnect import KiteConnect

_ROUTES: Final[dict[str, str]] = KiteConnect._routes

API_VERSION: Final[str] = KiteConnect.kite_header_version
DEFAULT_ROOT: Final[str] = KiteConnect._default_root_uri
DEFAULT_LOGIN: Final[str] = KiteConnect._default_login_uri
DEFAULT_TIMEOUT_S: Final[float] = float(KiteConnect._default_timeout)

TOKEN: Final = _ROUTES["api.token"]
PROFILE: Final = _ROUTES["user.profile"]
MARGINS: Final = _ROUTES["user.margins"]
ORDERS: Final = _ROUTES["orders"]
TRADES: Final = _ROUTES["trades"]
ORDER_INFO: Final = _ROUTES["order.info"]
ORDER_PLACE: Final = _ROUTES["order.place"]
ORDER_MODIFY: Final = _ROUTES["order.modify"]
ORDER_CANCEL: Final = _ROUTES["order.cancel"]
ORDER_TRADES: Final = _ROUTES["order.trades"]
POSITIONS: Final = _ROUTES["portfolio.positions"]
HOLDINGS: Final = _ROUTES["portfolio.holdings"]
GTTS: Final = _ROUTES["gtt"]
GTT_PLACE: Final = _ROUTES["gtt.place"]
GTT_MODIFY: Final = _ROUTES["gtt.modify"]
GTT_DELETE: Final = _ROUTES["gtt.delete"]
INSTRUMENTS: Final = _ROUTES["market.instruments.all"]
INSTRUMENTS_OF: Final = _ROUTES["market.instruments"]
LAST_PRICES: Final = _ROUTES["market.quote.ltp"]
QUOTES: Final = _ROUTES["market.quote"]
LOGIN_PATH: Final = "/connect/login"
