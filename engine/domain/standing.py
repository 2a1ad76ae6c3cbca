"""Conditions that a person must hear of when they last: each once, and once more when it is over.

What comes and goes within its patience is nobody's business; what flickers is one spell, not many.
"""

from collections.abc import Iterable, Mapping

import msgspec

STEADY_S = 10.0
"""For how long (seconds) a condition must be gone before it counts as over."""


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong: ``subject`` and ``text`` for a person, ``over`` for when it has ended.

    It is told once it has lasted ``patience_s`` seconds.
    """

    subject: str
    text: str
    over: str
    patience_s: float


class _Spell:
    __slots__ = ("condition", "gone_since", "since", "told")

    def __init__(self, condition: Condition, since: float) -> None:
        self.condition = condition
        self.since = since
        self.gone_since: float | None = None
        self.told = False


class Standing:
    """Which conditions stand, by name."""

    def __init__(self) -> None:
        self._spells: dict[str, _Spell] = {}

    def look(self, now_s: float, conditions: Mapping[str, Condition]) -> list[tuple[str, str]]:
        """Take in what is wrong at *now_s* (monotonic seconds); return what is to be told, as subject and text."""
        return [*self._begun(now_s, conditions), *self._ended(now_s, conditions.keys())]

    def _begun(self, now_s: float, conditions: Mapping[str, Condition]) -> Iterable[tuple[str, str]]:
        for name, condition in conditions.items():
            spell = self._spells.setdefault(name, _Spell(condition, now_s))
            spell.gone_since = None
            spell.condition = condition
            if not spell.told and now_s - spell.since >= condition.patience_s:
                spell.told = True
                yield condition.subject, condition.text

    def _ended(self, now_s: float, standing: Iterable[str]) -> Iterable[tuple[str, str]]:
        for name in self._spells.keys() - set(standing):
            spell = self._spells[name]
            if spell.gone_since is None:
                spell.gone_since = now_s
            if not spell.told:
                del self._spells[name]
            elif now_s - spell.gone_since >= STEADY_S:
                del self._spells[name]
                yield spell.condition.subject, spell.condition.over
