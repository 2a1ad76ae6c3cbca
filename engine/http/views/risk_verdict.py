"""The verdict on an intent as people read it: per account every rule, what it saw and what it allows."""

import re
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

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
