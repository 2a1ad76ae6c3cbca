"""The verdict on an intent as it is stored: per account every rule, the numbers it saw and the limits of then.

Stored whole, it can be explained, and judged again: `judged_again` puts the stored numbers through the rules, by the
limits of then or by others.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from uuid import UUID

import msgspec

from engine.domain.denial import Denial
from engine.domain.limits import RiskLimits
from engine.domain.risk_inputs import RiskInputs
from engine.domain.risk_rules import RuleResult, evaluate


class AccountVerdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What risk said of one account.

    ``facts`` are rules about the account, the instrument and the order that are no limits; ``rules`` are the limits.
    ``inputs`` is None where a fact stood against it before there was an order to judge. ``limits`` are by scope the
    places in the list of the verdict.
    """

    account_id: UUID
    label: str
    approved: bool
    facts: tuple[RuleResult, ...] = ()
    rules: tuple[RuleResult, ...] = ()
    inputs: RiskInputs | None = None
    limits: dict[str, int] = {}

    @property
    def denials(self) -> tuple[Denial, ...]:
        """Every distinct reason against it."""
        return tuple(dict.fromkeys(rule.denial for rule in (*self.facts, *self.rules) if not rule.ok))


class IntentVerdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What risk said of an intent at an instant (aware UTC); ``against`` speaks of the intent as a whole."""

    intent_id: UUID
    strategy_id: UUID
    at: datetime
    against: tuple[Denial, ...] = ()
    limits: tuple[RiskLimits, ...] = ()
    accounts: tuple[AccountVerdict, ...] = ()

    @property
    def approved(self) -> bool:
        """Whether any account gets an order."""
        return any(account.approved for account in self.accounts)


class VerdictRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A verdict as a row: ``body`` is the text of `encode`."""

    intent_id: UUID
    at: datetime
    body: str


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(IntentVerdict)


def encode(verdict: IntentVerdict) -> str:
    """Return the one spelling of a verdict: equal verdicts give equal text."""
    return _ENCODER.encode(verdict).decode()


def decode(body: str) -> IntentVerdict:
    """Return a stored verdict. Raises msgspec.DecodeError for what is none."""
    return _DECODER.decode(body)


def row_of(verdict: IntentVerdict) -> VerdictRow:
    """Return the row that a verdict is stored as."""
    return VerdictRow(intent_id=verdict.intent_id, at=verdict.at, body=encode(verdict))


def _same(_scope: str, limits: RiskLimits) -> RiskLimits:
    return limits


def judged_again(verdict: IntentVerdict, change: Callable[[str, RiskLimits], RiskLimits] = _same) -> IntentVerdict:
    """Return the verdict that the rules give on the stored numbers, under limits that *change* makes of those of then.

    *change* is given the name of the scope and its limits.
    """
    accounts = []
    for account in verdict.accounts:
        if account.inputs is None:
            accounts.append(account)
            continue
        limits = {scope: change(scope, verdict.limits[place]) for scope, place in account.limits.items()}
        accounts.append(judge(account, account.inputs, limits))
    return msgspec.structs.replace(verdict, accounts=tuple(accounts))


def judge(account: AccountVerdict, inputs: RiskInputs, limits: Mapping[str, RiskLimits]) -> AccountVerdict:
    """Return *account* with what the rules say of *inputs*: approved when neither they nor a fact object."""
    rules = tuple(evaluate(inputs, limits))
    approved = all(rule.ok for rule in account.facts) and all(rule.ok for rule in rules)
    return msgspec.structs.replace(account, approved=approved, rules=rules, inputs=inputs)
