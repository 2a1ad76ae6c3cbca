"""A group that tore: one signal filled on some accounts and failed on others. What its strategy's policy asks for.

Pure functions of the orders as they stand. An order counts as failed only when its end is known and nothing of it
filled; one of unknown outcome never does, so that nothing is ever tried again on a guess.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from uuid import UUID

import msgspec

from engine.domain.enums import GroupPolicy, OrderStatus
from engine.domain.intent import RESLICED, Intent
from engine.ids import retry_id

# By refusals of the broker that may be another answer a moment later; all of them are definite.
_RETRYABLE = (
    *("RATE_LIMITED:", "FUNDS:", "ORDER_BUSY:"),
    *("TOKEN_DEAD:", "NO_LOGIN:", "LOGIN_EXPIRED:", "LOGIN_REQUIRED:", "TWO_FA:"),
    "NOT_SENT:",
)
_FAILED = (OrderStatus.REJECTED, OrderStatus.FAILED, OrderStatus.EXPIRED)
_UNWIND_KEY = "unwind of "


class Leg(msgspec.Struct, frozen=True, kw_only=True):
    """One order of an intent: quantities are units, ``message`` is why it ended, where it did."""

    order_id: UUID
    account_id: UUID
    status: OrderStatus
    quantity: int
    filled: int
    message: str | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done now.

    ``retry`` are orders that failed and are tried again, by account; ``cancel`` asks to cancel what still works;
    ``unwind`` are the filled units to close, by account, once nothing can fill any more.
    """

    retry: dict[UUID, tuple[UUID, ...]] = {}
    cancel: bool = False
    unwind: dict[UUID, int] = {}


NOTHING = Plan()


def plan(policy: GroupPolicy, legs: Iterable[Leg], *, in_time: bool) -> Plan:
    """Return what *policy* asks for; *in_time* says whether the group's deadline is still ahead.

    A group is two accounts or more. What a person or a kill switch cancelled is no failure.
    """
    groups: defaultdict[UUID, list[Leg]] = defaultdict(list)
    for leg in legs:
        if not (leg.message or "").startswith(RESLICED):
            groups[leg.account_id].append(leg)
    if policy is GroupPolicy.LEAVE or len(groups) < 2:
        return NOTHING
    failed = {account: of for account, of in groups.items() if _has_failed(of)}
    filled = {account: units for account, of in groups.items() if (units := sum(leg.filled for leg in of))}
    is_live = any(not leg.status.is_terminal for of in groups.values() for leg in of)
    if not failed or not (filled or is_live):
        return NOTHING
    if policy is GroupPolicy.RETRY:
        if not in_time:
            return NOTHING
        again = {account: tuple(leg.order_id for leg in of) for account, of in failed.items() if _may_be_retried(of)}
        return Plan(retry=again)
    if is_live:
        return Plan(cancel=bool(filled) and not in_time)
    return Plan(unwind=filled)


def _has_failed(legs: Sequence[Leg]) -> bool:
    return all(leg.status.is_terminal for leg in legs) and any(
        leg.status in _FAILED and leg.filled < leg.quantity for leg in legs
    )


def _may_be_retried(legs: Sequence[Leg]) -> bool:
    return all(
        leg.status in (OrderStatus.REJECTED, OrderStatus.FAILED)
        and not leg.filled
        and (leg.message or "").startswith(_RETRYABLE)
        for leg in legs
    )


def replaced(orders: Iterable[tuple[UUID, int]]) -> frozenset[UUID]:
    """Return those of *orders* (id, filled units) that were tried again and have filled nothing: they count no more."""
    found = dict(orders)
    if len(found) < 2:
        return frozenset()  # nothing is there that one could have been tried again as
    return frozenset(order for order, filled in found.items() if not filled and retry_id(order) in found)


def unwind_key(intent_id: UUID) -> str:
    """Return the idempotency key of the intent that closes what another filled; its blanks keep senders from it."""
    return f"{_UNWIND_KEY}{intent_id}"


def is_unwind(intent: Intent) -> bool:
    """Whether an intent closes what another one filled."""
    return intent.idempotency_key.startswith(_UNWIND_KEY)
