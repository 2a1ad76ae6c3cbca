"""What a decision about an intent comes to: per account an order, or the reasons against it; and what is reserved.

Values and pure functions; `hold` and `take_back` change the risk state that they are given, and nothing else.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from engine.domain.denial import Denial
from engine.domain.directory import Account
from engine.domain.intent import Intent
from engine.domain.limits import OrderRequest, RiskLimits
from engine.domain.risk_rules import is_reducing as only_reduces
from engine.domain.risk_state import RiskState
from engine.domain.verdict import AccountVerdict, IntentVerdict
from engine.ids import order_id


class Approved(msgspec.Struct, frozen=True, kw_only=True):
    """What every rule lets pass on one account; ``slices`` are the quantities of its orders, mostly one.

    ``iceberg_quantity`` is units of the first leg of an iceberg order, 0 for others. ``note`` is what a person shall
    know of the quantity. With ``attaches`` the signal's stop loss and target go with the order. ``verdict`` is every
    rule, and ``limits`` are those of then by scope.
    """

    account: Account
    request: OrderRequest
    slices: tuple[int, ...]
    iceberg_quantity: int = 0
    note: str | None = None
    attaches: bool = True
    verdict: AccountVerdict
    limits: dict[str, RiskLimits] = {}


class Denied(msgspec.Struct, frozen=True, kw_only=True):
    """Every reason against the order of one account; ``verdict`` is every rule, ``limits`` those of then by scope."""

    account_id: UUID
    label: str
    denials: tuple[Denial, ...]
    verdict: AccountVerdict
    limits: dict[str, RiskLimits] = {}


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on an intent; ``against`` speaks of the intent as a whole, ``verdict`` is what is stored of it."""

    approved: tuple[Approved, ...] = ()
    denied: tuple[Denied, ...] = ()
    against: tuple[Denial, ...] = ()
    verdict: IntentVerdict | None = None

    @property
    def reason(self) -> str | None:
        """Why nothing was approved: every distinct reason, ``CODE: text; CODE: text``."""
        if self.approved:
            return None
        reasons = [*self.against, *(denial for denied in self.denied for denial in denied.denials)]
        texts = list(dict.fromkeys(str(denial) for denial in reasons))
        return "; ".join(texts) or "NO_ACCOUNTS: the strategy trades no account; give it one"


def refused(intent: Intent, against: tuple[Denial, ...], now: datetime) -> Decision:
    """Return the decision that refuses *intent* as a whole."""
    verdict = IntentVerdict(intent_id=intent.id, strategy_id=intent.strategy_id, at=now, against=against)
    return Decision(against=against, verdict=verdict)


def verdict_of(intent: Intent, accounts: Sequence[Approved | Denied], now: datetime) -> IntentVerdict:
    """Return what is stored of a decision: the limits once, for most accounts are judged by the same."""
    places: dict[int, int] = {}
    limits: list[RiskLimits] = []
    found = []
    for account in accounts:
        at = {}
        for scope, held in account.limits.items():
            if id(held) not in places:
                places[id(held)] = len(limits)
                limits.append(held)
            at[scope] = places[id(held)]
        found.append(msgspec.structs.replace(account.verdict, limits=at))
    return IntentVerdict(
        intent_id=intent.id, strategy_id=intent.strategy_id, at=now, limits=tuple(limits), accounts=tuple(found)
    )


def order_ids(approved: Approved) -> list[UUID]:
    """Return the ids of the orders of an approved account, a slice each."""
    request = approved.request
    return [order_id(request.intent_id, request.account_id, leg) for leg in range(len(approved.slices))]


def hold(state: RiskState, approved: Approved, ids: Sequence[UUID]) -> None:
    """Reserve what the order of an account was approved for, under the *ids* of its slices; repeating does nothing."""
    request, inputs = approved.request, approved.verdict.inputs
    for new_id, quantity in zip(ids, approved.slices, strict=True):
        state.reserve(request, new_id, units=quantity)
    if state.has_half_open and inputs is not None and not only_reduces(inputs):
        state.begin_trial(request, ids[0])


def take_back(state: RiskState, approved: Approved) -> None:
    """Undo what was reserved for the order of an account: nothing of it was recorded."""
    for held in order_ids(approved):
        state.withdraw(held)
