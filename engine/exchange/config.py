"""How a paper exchange is set up: every figure of its behaviour, with Kite's own as the default."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from engine.errors import EngineError

DEFAULT_REDIRECT = "http://127.0.0.1/callback"
"""Where a login is sent unless the account says otherwise."""

Count = Annotated[int, msgspec.Meta(ge=1)]
Interval = Annotated[float, msgspec.Meta(gt=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]
Way = Literal["sync", "async"]
# what a refusal is about, where Kite was seen to give it both ways
RefusalClass = Literal["tick", "freeze", "hours", "circuit", "lpp", "far_limit", "funds", "holdings"]


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


class Latency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds that an order stays in its interim states; 0 passes through them at once (kite.md 6.5).

    ``received_s``: PUT ORDER REQ RECEIVED; ``validation_s``: VALIDATION PENDING and MODIFY VALIDATION
    PENDING; ``exchange_s``: OPEN PENDING, MODIFY PENDING and CANCEL PENDING. While a modify or a cancel
    waits the order still trades, and a second one is refused.
    """

    received_s: Seconds = 0
    validation_s: Seconds = 0
    exchange_s: Seconds = 0


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where Kite was seen to behave in several ways: which one to take. May change while it runs.

    ``rejections`` says per class of refusal whether it comes with HTTP 400 ("sync") or as a REJECTED order
    ("async"); a class left out follows ``ExchangeConfig.rejection``, tick and freeze are "sync".
    ``order_rejects`` and ``modify_rejects`` turn what would be accepted into an asynchronous refusal
    with the text given, by ``EXCHANGE:SYMBOL`` or ``*``; a text that begins with ``RMS:`` comes after the
    broker's validation, any other from the exchange.
    ``cancelled_pending`` and ``cancelled_quantity``: what CANCELLED rows say of the unfilled part
    (kite.md 6.3; auction rows say "kept" and "zero" always). ``finished_cancel``: the text for a cancel of a
    finished order, "busy" or the newer "does_not_exist". ``shuffle_orders``: ``/orders`` in no order.
    ``positions_lag_s``: how long positions do not know of a trade yet. ``autoslice_answer``: the shape
    since March 2026 (v2) or before it. ``needs_authorisation``: sales from holdings are refused with 428
    until they are authorised. ``far_limit_percent``: LIMIT orders further than this from the last price are
    refused (None: none are).
    """

    latency: Latency = Latency()
    rejections: Mapping[RefusalClass, Way] = {}
    order_rejects: Mapping[str, str] = {}
    modify_rejects: Mapping[str, str] = {}
    cancelled_pending: Literal["kept", "zero"] = "kept"
    cancelled_quantity: Literal["counted", "zero"] = "counted"
    finished_cancel: Literal["busy", "does_not_exist"] = "busy"
    shuffle_orders: bool = False
    positions_lag_s: Seconds = 0
    autoslice_answer: Literal["v2", "v1"] = "v2"
    needs_authorisation: bool = False
    far_limit_percent: Decimal | None = None

    def __post_init__(self) -> None:
        if self.far_limit_percent is not None and not self.far_limit_percent > 0:
            raise ValueError("`far_limit_percent` must be above 0; null switches it off")


class ExchangeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Behaviour of one paper exchange.

    ``seed`` drives the price process and partial fills. ``record_path`` is the truth record (None:
    nothing is kept). ``market_open`` False closes the market; ``enforce_hours`` takes orders
    only on weekdays in the hours of their exchange; prices then move from 09:15 to 15:30 IST.
    ``partial_fills`` fills an order in several trades.
    ``rejection`` says whether refusals by risk checks (circuit, funds, holdings, hours) come with
    HTTP 400 ("sync") or as a REJECTED order ("async"). ``order_ids`` picks the 19-digit or the
    15-digit form. ``token_expiry`` ends sessions at 06:00 IST. ``control_routes`` adds ``/_control/``
    for loopback callers. ``tick_interval_s`` is how often resting orders meet the moved prices.
    ``behaviour`` is what it starts with of that which may change later.
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
    rejection: Way = "sync"
    order_ids: Literal["snowflake", "dated"] = "snowflake"
    token_expiry: bool = True
    request_token_ttl_s: float = 300.0
    control_routes: bool = False
    tick_interval_s: float = 0.25
    limits: Limits = Limits()
    behaviour: Behaviour = Behaviour()
    ticker_interval_s: Interval = 0.5
    heartbeat_s: Interval = 2.0
    send_timeout_s: Interval = 5.0
    postback_url: str | None = None
    static_ips: tuple[str, ...] = ()
    control_port: int | None = None
