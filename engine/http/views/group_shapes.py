"""How a signal went on each of its accounts, as the API shows it."""

from decimal import Decimal
from uuid import UUID

from engine.domain.group import MemberStatus
from engine.http.endpoint import ApiStruct


class MemberView(ApiStruct, frozen=True, kw_only=True):
    """One account: ``late`` when another has filled and this one may still; ``refused`` when risk left it out.

    ``averagePrice`` is rupees; ``sentMs``, ``firstFillMs`` and ``filledMs`` are milliseconds from receipt, ``behindMs``
    from the first fill of the group until this account had filled, or, while it is late, until now. ``attempts``
    counts how often the order was tried.
    """

    account_id: UUID | None
    label: str
    status: MemberStatus
    quantity: int
    filled: int
    average_price: Decimal | None
    sent_ms: int | None
    first_fill_ms: int | None
    filled_ms: int | None
    behind_ms: int | None
    attempts: int
    reasons: tuple[str, ...]


class GroupView(ApiStruct, frozen=True, kw_only=True):
    """Every account of a signal, how many stand how, and the totals in units.

    ``spreadMs`` is between the first and the last account to fill in full; ``policy`` is the strategy's, null when it
    is gone; ``unwoundBy`` is the intent that closes what this one filled, or null.
    """

    accounts: tuple[MemberView, ...]
    counts: dict[MemberStatus, int]
    quantity: int
    filled: int
    spread_ms: int | None
    policy: str | None
    unwound_by: UUID | None
