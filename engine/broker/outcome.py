"""What is known after a write was tried at the broker.

There are four outcomes and no fifth: the broker took it, the broker said no, not one byte left, or
nobody knows. The first three need proof; everything without proof is `Unknown`, and an `Unknown` is
settled by the order book only, never by sending again.
"""

from collections.abc import Callable
from enum import StrEnum

import msgspec

Gate = Callable[[], str | None]
"""Asked right before the first byte leaves, with no await in between.

Returns None to let the request go, or the reason why it must not. It must be fast, must not block,
and may be asked more than once for one request as long as no byte has left.
"""


def always_open() -> None:
    """Let every request go: the gate of writes that only reduce what is at risk."""


class RefusalCode(StrEnum):
    """Cause of a refusal, worked out from status, error type and message."""

    TOKEN_DEAD = "TOKEN_DEAD"  # noqa: S105 -- the name of a cause
    NO_LOGIN = "NO_LOGIN"
    LOGIN_EXPIRED = "LOGIN_EXPIRED"
    WRONG_USER = "WRONG_USER"
    NOT_ENABLED = "NOT_ENABLED"
    TWO_FA = "TWO_FA"
    USER = "USER"
    STATIC_IP = "STATIC_IP"
    PERMISSION = "PERMISSION"
    RATE_LIMITED = "RATE_LIMITED"
    ORDER_CAP = "ORDER_CAP"
    FUNDS = "FUNDS"
    HOLDINGS = "HOLDINGS"
    MARKET_PROTECTION = "MARKET_PROTECTION"
    TICK_SIZE = "TICK_SIZE"
    FREEZE_QUANTITY = "FREEZE_QUANTITY"
    PRICE_RANGE = "PRICE_RANGE"
    MARKET_CLOSED = "MARKET_CLOSED"
    ORDER_BUSY = "ORDER_BUSY"
    ORDER_NOT_FOUND = "ORDER_NOT_FOUND"
    MODIFICATION_CAP = "MODIFICATION_CAP"
    NOT_ENCODABLE = "NOT_ENCODABLE"
    OTHER = "OTHER"


LOGIN_CODES = frozenset(
    {
        RefusalCode.TOKEN_DEAD,
        RefusalCode.NO_LOGIN,
        RefusalCode.LOGIN_EXPIRED,
        RefusalCode.WRONG_USER,
        RefusalCode.NOT_ENABLED,
        RefusalCode.TWO_FA,
        RefusalCode.USER,
    }
)
"""Causes that may mean that nothing can be read either: somebody has to log in."""


class Accepted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The broker registered the request under ``broker_order_id``; the exchange may still refuse it."""

    broker_order_id: str


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The broker definitely did not do it.

    ``status`` is the HTTP status, 0 when the request could not even be written down and so was never
    sent. ``auth_blocked``: the session is dead, a login is needed. ``rate_limited``: too many
    requests, the cool-down is about 10 s (kite.trade forum 51478).
    """

    code: RefusalCode
    message: str
    error_type: str = ""
    status: int = 0
    auth_blocked: bool = False
    rate_limited: bool = False

    @property
    def orders_blocked(self) -> bool:
        """Whether the account may read but not order: the address, a permission or the user, not the session."""
        return self.code in (RefusalCode.STATIC_IP, RefusalCode.PERMISSION, RefusalCode.USER)


class NotSent(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Zero bytes of the request were written: proven. ``gated`` when it was the gate that said no."""

    reason: str
    gated: bool = False


class Unknown(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Bytes left and nothing proves what became of them; only the order book can tell."""

    reason: str


WriteOutcome = Accepted | Refused | NotSent | Unknown
"""Outcome of placing, cancelling or replacing."""

PlaceOutcome = WriteOutcome
"""Outcome of placing an order."""
