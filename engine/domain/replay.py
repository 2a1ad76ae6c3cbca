"""Verdicts put through the rules once more: are they the same to the byte, and what would other limits have refused?

Each is judged by the numbers that were stored with it. Under other limits it is judged alone: had an earlier order
been refused, later ones would have found other numbers, and that is not played through.
"""

from collections.abc import Callable, Iterable
from uuid import UUID

import msgspec

from engine.domain.limits import RiskLimits
from engine.domain.risk_inputs import USER
from engine.domain.verdict import VerdictRow, decode, encode, judged_again


class Difference(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A verdict that the rules of now do not give again; ``again`` is what they give, or why nothing."""

    intent_id: UUID
    stored: str
    again: str


class Refused(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An order that was approved and that other limits would have refused."""

    intent_id: UUID
    account_id: UUID
    label: str
    reasons: tuple[str, ...]


def check(rows: Iterable[VerdictRow]) -> list[Difference]:
    """Return the verdicts that are not the same to the byte when they are judged again."""
    found = []
    for row in rows:
        try:
            again = encode(judged_again(decode(row.body)))
        except (msgspec.MsgspecError, ArithmeticError, IndexError, TypeError, ValueError) as error:
            again = f"{type(error).__name__}: {error}"
        if again != row.body:
            found.append(Difference(intent_id=row.intent_id, stored=row.body, again=again))
    return found


def under(rows: Iterable[VerdictRow], change: Callable[[RiskLimits], RiskLimits]) -> list[Refused]:
    """Return what was approved and would have been refused, had the users' limits been what *change* makes of them.

    Limits of accounts and strategies stay as they were.
    """
    found = []
    for row in rows:
        before = decode(row.body)
        after = judged_again(before, lambda scope, limits: change(limits) if scope == USER else limits)
        for was, now in zip(before.accounts, after.accounts, strict=True):
            if was.approved and not now.approved:
                reasons = tuple(map(str, now.denials))
                found.append(
                    Refused(intent_id=row.intent_id, account_id=was.account_id, label=was.label, reasons=reasons)
                )
    return found
