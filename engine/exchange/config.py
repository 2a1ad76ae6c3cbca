"""How a paper exchange is set up: every figure of its behaviour, with Kite's own as the default."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from engine.errors import EngineError

Count = Annotated[int, msgspec.Meta(ge=1)]
Interval = Annotated[float, msgspec.Meta(gt=0)]


class ExchangeError(EngineError):
    """The paper exchange cannot be started or set up as asked; the message names the mend."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Request budgets (kite.md 4.1), counted per calendar second and minute and per IST day.

    Writes (place, modify and cancel together) are counted per account, reads per API key.
    ``penalty_s`` is for how long a bucket stays shut once its per-second or per-minute figure was
    passed. ``enabled`` False switches all of it off but ``modifications_per_order``.
    """

    enabled: bool = True
    orders_per_second: Count = 10
    orders_per_minute: Count = 400
    orders_per_day: Count = 5000
    modifications_per_order: Count = 25
    quotes_per_second: Count = 1
    reads_per_second: Count = 10
    penalty_s: float = 10.0
    historical_per_second: Count = 3


class ExchangeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Behaviour of one paper exchange.

    ``seed`` drives the price process and partial fills. ``record_path`` is the truth record (None:
    nothing is kept). ``market_open`` False closes the market; ``enforce_hours`` opens it only from
    09:15 to 15:30 IST on weekdays. ``partial_fills`` fills an order in several trades.
    ``rejection`` says whether refusals by risk checks (circuit, funds, holdings, hours) come with
    HTTP 400 ("sync") or as a REJECTED order ("async"). ``order_ids`` picks the 19-digit or the
    15-digit form. ``token_expiry`` ends sessions at 06:00 IST. ``control_routes`` adds ``/_control/``
    for loopback callers. ``tick_interval_s`` is how often resting orders meet the moved prices.
    ``ticker_interval_s`` is how often the WebSocket tells of moved prices, ``heartbeat_s`` after how long without
    any it sends a heartbeat, ``send_timeout_s`` for how long a client may not take what it is sent before it is
    cut off. ``postback_url`` (loopback only) gets a POST for each order update. ``static_ips``: order writes are
    taken from these addresses only, () from any. ``control_port`` serves ``/_control/`` on a loopback port
    of its own as well (0: a free one).
    """

    seed: int = 1
    record_path: Path | None = None
    market_open: bool = True
    enforce_hours: bool = False
    partial_fills: bool = False
    rejection: Literal["sync", "async"] = "sync"
    order_ids: Literal["snowflake", "dated"] = "snowflake"
    token_expiry: bool = True
    request_token_ttl_s: float = 300.0
    control_routes: bool = False
    tick_interval_s: float = 0.25
    limits: Limits = Limits()
    ticker_interval_s: Interval = 0.5
    heartbeat_s: Interval = 2.0
    send_timeout_s: Interval = 5.0
    postback_url: str | None = None
    static_ips: tuple[str, ...] = ()
    control_port: int | None = None
