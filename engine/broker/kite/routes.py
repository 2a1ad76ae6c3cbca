"""Kite Connect's own constants, taken from the official package.

The only module that may import kiteconnect. Its ticker is not used here and stays away until somebody asks the
package for it: it brings Twisted along, a tenth of the engine's memory, and makes a reactor that nobody would start.
"""

import importlib
import warnings
from types import ModuleType
from typing import Any, Final

from engine.runtime.imports import stood_in

_TICKER = "kiteconnect.ticker"
_CLASS = "KiteTicker"

_stand_in = ModuleType(_TICKER)
setattr(_stand_in, _CLASS, None)
with warnings.catch_warnings(), stood_in(_TICKER, _stand_in) as _is_without_ticker:
    # The package warns on import under newer Pythons; nothing here can mend that.
    warnings.simplefilter("ignore")
    import kiteconnect
    from kiteconnect import KiteConnect


def _asked_for(name: str) -> Any:
    """Import the ticker when the package is asked for it."""
    if name != _CLASS:
        raise AttributeError(f"module 'kiteconnect' has no attribute {name!r}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = getattr(importlib.import_module(_TICKER), _CLASS)
    setattr(kiteconnect, _CLASS, found)
    return found


if _is_without_ticker:
    delattr(kiteconnect, _CLASS)
    kiteconnect.__getattr__ = _asked_for

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
