"""The verdict on an intent as people read it: per account every rule, what it saw and what it allows."""

import re
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.decided import Approved, Decision
from engine.domain.enums import TransactionType
from engine.domain.intent import Intent
from engine.domain.verdict import AccountVerdict, IntentVerdict
from engine.http.endpoint import ApiStruct
from engine.http.views.numbers import tidy

_AMOUNT = re.compile(r"-?[0-9]+(\.[0-9]+)?(E[+-]?[0-9]+)?", re.ASCII)


class RuleView(ApiStruct, frozen=True, kw_only=True):
    """One rule: ``scope`` is whose limit it is (``order`` for what is no limit), ``text`` why it denied.

    ``limit`` and ``seen`` are numbers or words, amounts in rupees or in percent where the code says so.
    """

    code: str
    scope: str
    limit: Any
    seen: Any
    ok: bool
    text: str | None


class AccountVerdictView(ApiStruct, frozen=True, kw_only=True):
    """What risk said of one account; ``inputs`` are all numbers that the rules saw, null where none were looked at."""

    account_id: UUID
    label: str
    approved: bool
    reasons: tuple[str, ...]
    rules: tuple[RuleView, ...]
    inputs: dict[str, Any] | None


class IntentVerdictView(ApiStruct, frozen=True, kw_only=True):
    """The verdict on an intent; ``against`` speaks of the intent as a whole."""

    at: datetime
    approved: bool
    against: tuple[str, ...]
    accounts: tuple[AccountVerdictView, ...]


class PreviewOrderView(ApiStruct, frozen=True, kw_only=True):
    """What an account that risk lets trade would order: ``quantity`` in so many ``orders``, ``value`` in rupees."""

    account_id: UUID
    label: str
    transaction_type: TransactionType
    quantity: int
    orders: int
    value: int | Decimal | None
    note: str | None


class PreviewView(ApiStruct, frozen=True, kw_only=True):
    """What would become of a signal now; ``symbol`` is what would be traded.

    ``waitsForApproval`` tells that a person would be asked before anything is sent.
    """

    symbol: str
    approved: bool
    waits_for_approval: bool
    reason: str | None
    orders: tuple[PreviewOrderView, ...]
    verdict: IntentVerdictView | None


def preview_view(intent: Intent, decision: Decision, *, waits: bool) -> PreviewView:
    """Return a *decision* that was made for a look alone; *waits* where the strategy asks a person first."""
    return PreviewView(
        symbol=intent.signal.symbol,
        approved=bool(decision.approved),
        waits_for_approval=waits and bool(decision.approved),
        reason=decision.reason,
        orders=tuple(_order(each) for each in decision.approved),
        verdict=None if decision.verdict is None else verdict_view(decision.verdict),
    )


def _order(approved: Approved) -> PreviewOrderView:
    request = approved.request
    price = request.reference_price
    return PreviewOrderView(
        account_id=approved.account.id,
        label=approved.account.label,
        transaction_type=request.transaction_type,
        quantity=sum(approved.slices),
        orders=len(approved.slices),
        value=None if price is None else tidy(price * request.quantity * request.multiplier),
        note=approved.note,
    )


def verdict_view(verdict: IntentVerdict) -> IntentVerdictView:
    """Return a verdict as people read it."""
    return IntentVerdictView(
        at=verdict.at,
        approved=verdict.approved,
        against=tuple(map(str, verdict.against)),
        accounts=tuple(_account(account) for account in verdict.accounts),
    )


def _account(account: AccountVerdict) -> AccountVerdictView:
    return AccountVerdictView(
        account_id=account.account_id,
        label=account.label,
        approved=account.approved,
        reasons=tuple(map(str, account.denials)),
        rules=tuple(
            RuleView(
                code=rule.code,
                scope=rule.scope,
                limit=_number(rule.limit),
                seen=_number(rule.seen),
                ok=rule.ok,
                text=rule.text or None,
            )
            for rule in (*account.facts, *account.rules)
        ),
        inputs=None if account.inputs is None else msgspec.to_builtins(account.inputs, builtin_types=(Decimal,)),
    )


def _number(value: Any) -> Any:
    """Return an amount, which is stored as text, as the number it is."""
    return tidy(Decimal(value)) if isinstance(value, str) and _AMOUNT.fullmatch(value) else value
