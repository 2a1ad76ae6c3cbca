"""What every executor works with, and the message by which it tells itself to send."""

from collections.abc import Awaitable, Callable
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from engine.actors.order_desk import AccountHistory
from engine.broker.base import Broker
from engine.domain.enums import AccountStatus, Exchange
from engine.domain.order import Order


def _no_alert(_subject: str, _text: str) -> None:
    return None


def _keep(_account_id: UUID) -> None:
    return None


def _not_known(_account_id: UUID) -> AccountStatus | None:
    return None


class Send(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger has this SUBMITTING row.

    ``incarnation`` is that of the executor that wrote it ahead; ``written_ns`` is when it handed the row
    to the ledger and ``committed_ns`` when the ledger said that it is on disk (CLOCK_BOOTTIME).
    """

    order: Order
    incarnation: int
    written_ns: int
    committed_ns: int


class ExecutorContext(msgspec.Struct, frozen=True, kw_only=True):
    """The world of an executor: clock, ledger, switches, broker sessions, and whom it tells.

    ``alert`` takes a subject (``order:ID``, ``account:ID``) and a text for a person. ``forget_broker`` makes the
    next ``open_broker`` log in anew. ``account_status_now`` is what the directory holds, None if not wired.
    """

    clock: Any
    ledger: Any
    kill: Any
    holds_lease: Callable[[], bool]
    tag: Callable[[UUID, int], str]
    epoch: int
    open_broker: Callable[[UUID], Awaitable[Broker]]
    load: Callable[[UUID, date], Awaitable[AccountHistory]]
    tell_risk: Callable[[UUID, Any], None]
    account_status: Callable[[UUID, AccountStatus, str | None], None]
    multiplier: Callable[[Exchange, str], Decimal]
    orders_per_second: int
    orders_per_minute: int
    orders_per_day: int
    alert: Callable[[str, str], None] = _no_alert
    forget_broker: Callable[[UUID], None] = _keep
    account_status_now: Callable[[UUID], AccountStatus | None] = _not_known
