"""How one signal went on each of its accounts: who filled, who failed, who is late and by how much.

Pure functions of the orders and their history. Times are milliseconds of the engine's clock.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

import msgspec

from engine.domain.group_policy import replaced
from engine.domain.intent import RESLICED
from engine.domain.order import Order, OrderEvent


class MemberStatus(StrEnum):
    """How an account stands. LATE: another account has filled, this one may still."""

    PENDING = "pending"
    LATE = "late"
    FILLED = "filled"
    PARTIAL = "partial"
    FAILED = "failed"
    REFUSED = "refused"


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One account of a group: units, rupees and milliseconds from receipt.

    ``attempts`` counts how often its order was tried. ``behind_ms`` is how long after the first fill of the group it
    filled in full, or, of a late one, has not filled yet.
    """

    account_id: UUID | None
    label: str
    status: MemberStatus
    quantity: int = 0
    filled: int = 0
    average_price: Decimal | None = None
    sent_ms: int | None = None
    first_fill_ms: int | None = None
    filled_ms: int | None = None
    behind_ms: int | None = None
    attempts: int = 0
    reasons: tuple[str, ...] = ()


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """All accounts, and how many stand how; ``spread_ms`` is between the first and the last account to fill in full."""

    members: tuple[Member, ...]
    counts: dict[MemberStatus, int]
    quantity: int
    filled: int
    spread_ms: int | None


Story = tuple[Order, Sequence[OrderEvent]]
"""An order with its history."""


def group_of(
    stories: Iterable[Story],
    refused: Iterable[tuple[UUID | None, str, Sequence[str]]],
    *,
    waiting: Iterable[UUID] = (),
    labels: dict[UUID, str],
    received_at: datetime,
    now: datetime,
) -> Group:
    """Return how a signal went; *refused* are account, label and reasons of those that risk left out.

    *waiting* are accounts about which a person has to decide first; of those with an order neither counts.
    Exits attached to fills are no part of it.
    """
    by_account: defaultdict[UUID, list[Story]] = defaultdict(list)
    for story in stories:
        if not story[0].is_attached:
            by_account[story[0].account_id].append(story)
    first = min(
        (at for of in by_account.values() for _, events in of if (at := _first_fill(events)) is not None), default=None
    )
    members = [
        _member(account, labels.get(account, str(account)), of, first, received_at, now)
        for account, of in by_account.items()
    ]
    members += [
        Member(account_id=account, label=label, status=MemberStatus.REFUSED, reasons=tuple(reasons))
        for account, label, reasons in refused
        if account not in by_account
    ]
    members += [
        Member(account_id=account, label=labels.get(account, str(account)), status=MemberStatus.PENDING)
        for account in waiting
        if account not in by_account
    ]
    counts: dict[MemberStatus, int] = dict.fromkeys(MemberStatus, 0)
    for member in members:
        counts[member.status] += 1
    full = [member.filled_ms for member in members if member.filled_ms is not None]
    return Group(
        members=tuple(sorted(members, key=lambda member: member.label)),
        counts=counts,
        quantity=sum(member.quantity for member in members),
        filled=sum(member.filled for member in members),
        spread_ms=max(full) - min(full) if full else None,
    )


def _member(
    account_id: UUID, label: str, stories: list[Story], first: datetime | None, received_at: datetime, now: datetime
) -> Member:
    def since(at: datetime | None) -> int | None:
        return None if at is None else round((at - received_at).total_seconds() * 1000)

    gone = replaced((order.id, order.filled_quantity) for order, _ in stories)
    counting = [
        (order, events)
        for order, events in stories
        if order.id not in gone and not (order.status_message or "").startswith(RESLICED)
    ]
    orders = [order for order, _ in counting]
    quantity = sum(order.quantity for order in orders)
    filled = sum(order.filled_quantity for order in orders)
    value = sum((order.average_price * order.filled_quantity for order in orders), Decimal(0))
    is_live = any(not order.status.is_terminal for order in orders)
    whole = bool(quantity) and filled >= quantity
    full_at = max((at for _, events in counting if (at := _last_fill(events)) is not None), default=None)
    status = _status(filled, whole=whole, is_live=is_live, is_behind=first is not None)
    behind = full_at if whole else now if status is MemberStatus.LATE else None
    sent = [order.submitting_at for order, _ in stories if order.submitting_at is not None]
    filling = [at for _, events in counting if (at := _first_fill(events)) is not None]
    messages = [order.status_message for order, _ in stories if order.status_message and not _is_whole(order)]
    return Member(
        account_id=account_id,
        label=label,
        status=status,
        quantity=quantity,
        filled=filled,
        average_price=value / filled if filled else None,
        sent_ms=since(min(sent, default=None)),
        first_fill_ms=since(min(filling, default=None)),
        filled_ms=since(full_at) if whole else None,
        behind_ms=None if behind is None or first is None else round((behind - first).total_seconds() * 1000),
        attempts=1 + len(gone),
        reasons=tuple(dict.fromkeys(messages)),
    )


def _status(filled: int, *, whole: bool, is_live: bool, is_behind: bool) -> MemberStatus:
    if whole:
        return MemberStatus.FILLED
    if is_live:
        return MemberStatus.LATE if is_behind else MemberStatus.PENDING
    return MemberStatus.PARTIAL if filled else MemberStatus.FAILED


def _is_whole(order: Order) -> bool:
    return order.filled_quantity >= order.quantity


def _first_fill(events: Sequence[OrderEvent]) -> datetime | None:
    return next((event.at for event in events if event.filled_quantity), None)


def _last_fill(events: Sequence[OrderEvent]) -> datetime | None:
    most, at = 0, None
    for event in events:
        if event.filled_quantity > most:
            most, at = event.filled_quantity, event.at
    return at
