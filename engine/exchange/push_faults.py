"""Rules by which the ticker misbehaves: its handshake, its connections and its order updates (kite.md 17.11).

Of an update: ``duplicate`` sends it twice, ``missing`` not at all, ``reorder`` only after the account's next one,
or after ``after_s`` where none comes. Of a connection, from ``after_s`` after it was opened: ``silent`` sends nothing
any more, ``no_heartbeat`` no heartbeats, ``logout`` ends the session (and with it every connection of the app),
``drop`` cuts the connection. Of a handshake: ``refuse_403`` and ``refuse_429``.
"""

from collections.abc import Iterable, Sequence
from random import Random
from typing import Annotated, Literal, get_args

import msgspec

from engine.exchange.written import read_pairs

OfUpdate = Literal["duplicate", "missing", "reorder"]
OfConnection = Literal["silent", "no_heartbeat", "logout", "drop"]
OfHandshake = Literal["refuse_403", "refuse_429"]
OF_UPDATES, OF_CONNECTIONS, OF_HANDSHAKES = get_args(OfUpdate), get_args(OfConnection), get_args(OfHandshake)
DEFAULT_HOLD_S = 1.0


class PushRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to misbehave.

    Of what the fault is about (updates, connections or handshakes) the first ``skip`` pass, each later one is hit
    with ``probability`` by the dice of ``seed``, at most ``count`` of them. ``after_s`` is seconds.
    """

    fault: OfUpdate | OfConnection | OfHandshake
    probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    count: Annotated[int, msgspec.Meta(ge=1)] | None = None
    skip: Annotated[int, msgspec.Meta(ge=0)] = 0
    seed: int = 1
    after_s: Annotated[float, msgspec.Meta(ge=0)] | None = None


class _Armed:
    def __init__(self, rule: PushRule) -> None:
        self.rule = rule
        self.dice = Random(rule.seed)  # noqa: S311 -- a seeded fault, no secret
        self.seen = 0
        self.hits = 0

    def takes_up(self) -> bool:
        rule = self.rule
        if rule.count is not None and self.hits >= rule.count:
            return False
        self.seen += 1
        if self.seen <= rule.skip or self.dice.random() >= rule.probability:
            return False
        self.hits += 1
        return True


class PushFaults:
    """The rules in force. Of several rules about the same thing that hit, the first one counts."""

    def __init__(self, rules: Sequence[PushRule] = ()) -> None:
        self._armed: list[_Armed] = []
        self.put(rules)

    @property
    def counts(self) -> list[int]:
        """How often each rule has hit, by number."""
        return [armed.hits for armed in self._armed]

    def put(self, rules: Sequence[PushRule]) -> None:
        """Replace all rules; [] ends the misbehaviour."""
        self._armed = [_Armed(rule) for rule in rules]

    def handshake(self) -> PushRule | None:
        """Return the rule that hits the next handshake, counting it."""
        return self._pick(OF_HANDSHAKES)

    def connection(self) -> tuple[PushRule, ...]:
        """Return the rules that hit the next connection, counting them: several may, of different kinds."""
        return tuple(rule for fault in OF_CONNECTIONS if (rule := self._pick((fault,))) is not None)

    def update(self) -> PushRule | None:
        """Return the rule that hits the next order update, counting it."""
        return self._pick(OF_UPDATES)

    def _pick(self, faults: Iterable[str]) -> PushRule | None:
        return next((a.rule for a in self._armed if a.rule.fault in faults and a.takes_up()), None)


def read_push_rule(text: str) -> PushRule:
    """Return the rule that ``fault=name,name=value`` describes. Raises ExchangeError naming what is wrong."""
    return read_pairs(text, PushRule, "ticker fault")
