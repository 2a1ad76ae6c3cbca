"""Rules by which the exchange misbehaves: which requests they hit, whether those are taken, what is answered.

A rule says two things apart. ``takes``: whether the request has its effect (now, never, or late: some
seconds after the answer). ``answer``: what the caller sees of it. "Accepted and the answer lost" is
``takes="now", answer="drop"``; "swallowed" is ``takes="never", answer="none"``; "accepted after all" is
``takes="late", answer="timed_out"`` (reliability.md F23 to F30 and F35, kite.md 17.11).
"""

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from random import Random
from typing import Annotated, Literal

import msgspec

from engine.exchange.config import ExchangeError
from engine.exchange.written import read_pairs

On = Literal[
    "any", "write", "place", "modify", "cancel", "read", "orders", "trades", "positions", "quotes", "other_read"
]
Takes = Literal["now", "never", "late"]
Answer = Literal[
    "own", "none", "drop", "reset", "cut", "logout", "stale", "empty", "partial",
    "timed_out", "bad_input", "no_funds", "no_holdings", "order_error", "unauthorised_holdings",
    "token", "permission", "ip", "rate", "cap", "server_error", "oms_down", "api_down", "bad_gateway_page",
    "gateway_timeout", "truncated", "wrong_type", "no_order_id", "not_json",
]  # fmt: skip

_MOST_HITS = 100_000
_GROUPS = {
    "place": ("any", "write", "place"),
    "modify": ("any", "write", "modify"),
    "cancel": ("any", "write", "cancel"),
    "orders": ("any", "read", "orders"),
    "trades": ("any", "read", "trades"),
    "positions": ("any", "read", "positions"),
    "quotes": ("any", "read", "quotes"),
    "other_read": ("any", "read", "other_read"),
}
_OF_READS = frozenset({"stale", "empty", "partial"})


class FaultRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to misbehave.

    ``on`` is the kind of request, ``symbol`` (of the form's ``tradingsymbol``) and ``tag`` narrow it.
    Of the requests that match, the first ``skip`` pass, each later one is hit with ``probability`` by
    the dice of ``seed``, at most ``count`` of them. ``late_s``: seconds between the answer and the
    effect where ``takes`` is "late". ``delay_s``: seconds that the answer is held back. ``after_bytes``:
    how much of the body leaves before "cut" resets the connection.
    """

    on: On = "place"
    takes: Takes = "now"
    answer: Answer = "own"
    probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    count: Annotated[int, msgspec.Meta(ge=1)] | None = None
    skip: Annotated[int, msgspec.Meta(ge=0)] = 0
    seed: int = 1
    symbol: str | None = None
    tag: str | None = None
    late_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    delay_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    after_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule may look at of a request."""

    kind: str
    symbol: str | None = None
    tag: str | None = None
    quantity: str | None = None


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A request that a rule (by its number) was applied to."""

    at: datetime
    rule: int
    kind: str
    takes: str
    answer: str
    symbol: str | None = None
    tag: str | None = None
    quantity: str | None = None


class _Armed:
    def __init__(self, rule: FaultRule) -> None:
        self.rule = rule
        self.dice = Random(rule.seed)  # noqa: S311 -- a seeded fault, no secret
        self.matched = 0
        self.hits = 0

    def takes_up(self, asked: Asked) -> bool:
        rule = self.rule
        if rule.on not in _GROUPS[asked.kind]:
            return False
        if rule.symbol not in (None, asked.symbol) or rule.tag not in (None, asked.tag):
            return False
        if rule.count is not None and self.hits >= rule.count:
            return False
        self.matched += 1
        if self.matched <= rule.skip or self.dice.random() >= rule.probability:
            return False
        self.hits += 1
        return True


class Faults:
    """The rules in force, and what they hit. Of several rules that match, the first one counts."""

    def __init__(self, rules: Sequence[FaultRule] = ()) -> None:
        self._armed: list[_Armed] = []
        self.hits: deque[Hit] = deque(maxlen=_MOST_HITS)
        self.put(rules)

    @property
    def are_on(self) -> bool:
        """Whether any rule is in force."""
        return bool(self._armed)

    def could_hit(self, kind: str) -> bool:
        """Whether some rule looks at requests of *kind* at all; when none does, `pick` changes nothing."""
        return any(armed.rule.on in _GROUPS[kind] for armed in self._armed)

    @property
    def counts(self) -> list[int]:
        """How often each rule has hit, by number."""
        return [armed.hits for armed in self._armed]

    def put(self, rules: Sequence[FaultRule]) -> None:
        """Replace all rules; [] ends the misbehaviour. Raises ExchangeError for a rule that cannot be."""
        for rule in rules:
            _check(rule)
        self._armed = [_Armed(rule) for rule in rules]

    def pick(self, asked: Asked, now: datetime) -> FaultRule | None:
        """Return the rule that applies to a request, counting it, or None."""
        for number, armed in enumerate(self._armed):
            if armed.takes_up(asked):
                rule = armed.rule
                self.hits.append(
                    Hit(
                        at=now,
                        rule=number,
                        kind=asked.kind,
                        takes=rule.takes,
                        answer=rule.answer,
                        symbol=asked.symbol,
                        tag=asked.tag,
                        quantity=asked.quantity,
                    )
                )
                return rule
        return None


def _check(rule: FaultRule) -> None:
    if rule.answer == "own" and rule.takes != "now":
        raise ExchangeError(f'`answer`: "own" needs takes="now", for takes="{rule.takes}" there is no answer yet')
    if rule.answer in _OF_READS and rule.on not in ("orders", "trades", "positions"):
        raise ExchangeError(f'`answer`: "{rule.answer}" is for on="orders", "trades" or "positions", not "{rule.on}"')
    if rule.takes == "late" and rule.on not in ("place", "modify", "cancel", "write"):
        raise ExchangeError(f'`takes`: "late" is for writes, not for on="{rule.on}"')


def read_rule(text: str) -> FaultRule:
    """Return the rule that ``name=value,name=value`` describes. Raises ExchangeError naming what is wrong."""
    rule = read_pairs(text, FaultRule, "fault")
    _check(rule)
    return rule
