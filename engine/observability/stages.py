"""The stage clock: when a signal passed each stage of its way to the broker, in memory, for histograms and traces.

Nothing is written for it. A stamp is a read of the clock and a store into an object that all intents of a delivery
share; what came of it goes along in the one order event that is recorded after the broker's answer anyway
(`engine.domain.stage_times`). The newest deliveries are remembered and no others, so that memory stays flat.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar
from uuid import UUID

from engine.domain.stage_times import written
from engine.observability.metrics import Histogram, Registry

METRIC = "stage_ns"
WIRE = "wire"
"""From receipt to the first byte of the order: the sum of what the engine does."""

HISTOGRAMS = ("parsed", "decided", "accepted", "committed", "sent", "answered", "filled", WIRE)
"""Each from the stage before it: `accepted` from `parsed`, `filled` from the broker's answer, `wire` from receipt."""

_REMEMBERED = 4096

K = TypeVar("K")
V = TypeVar("V")


class _Stamps:
    """The stamps of one delivery, in ns; 0 is not stamped."""

    __slots__ = ("accepted", "committed", "decided", "parsed", "received")

    def __init__(self, received: int, parsed: int) -> None:
        self.received = received
        self.parsed = parsed
        self.decided = 0
        self.accepted = 0
        self.committed = 0


class StageClock:
    """Stamps of signals on their way; *now_ns* is a clock that only goes forward, without one nothing is stamped."""

    def __init__(self, now_ns: Callable[[], int] | None = None, registry: Registry | None = None) -> None:
        self._now_ns = now_ns
        self.registry = registry or Registry()
        self._coming: dict[tuple[UUID, str], tuple[int, int]] = {}
        self._intents: dict[UUID, _Stamps] = {}
        # of an order on the wire the first byte, and then the broker's answer
        self._orders: dict[UUID, int] = {}
        self._of = self.histograms() if now_ns is not None else {}

    def histograms(self) -> dict[str, Histogram]:
        """Return the histogram of every stage, by its name."""
        return {name: self.registry.histogram(METRIC, stage=name) for name in HISTOGRAMS}

    def came(self, source_id: UUID, key: str, received_ns: int) -> None:
        """A delivery is read and authenticated; *received_ns* is when its request came."""
        if self._now_ns is not None and received_ns:
            _put(self._coming, (source_id, key), (received_ns, self._now_ns()))

    def taken(self, source_id: UUID, key: str, intent_ids: Iterable[UUID]) -> None:
        """The delivery is new, and makes these intents."""
        came = self._coming.pop((source_id, key), None)
        if came is None:
            return
        stamps = _Stamps(*came)
        for intent_id in intent_ids:
            _put(self._intents, intent_id, stamps)

    def decided(self, intent_ids: Iterable[UUID]) -> None:
        """Risk has decided about the intents of one delivery."""
        stamps = self._find(intent_ids)
        if stamps is not None and self._now_ns is not None:
            stamps.decided = self._now_ns()

    def accepted(self, intent_ids: Iterable[UUID]) -> None:
        """A delivery is durable, and its sender is told so."""
        stamps = self._find(intent_ids)
        if stamps is not None and self._now_ns is not None and not stamps.accepted:
            stamps.accepted = self._now_ns()
            self._of["accepted"].observe_ns(stamps.accepted - stamps.parsed)

    def committed(self, intent_ids: Iterable[UUID]) -> None:
        """The ledger has the intents of one delivery with all that was decided about them."""
        stamps = self._find(intent_ids)
        if stamps is not None and self._now_ns is not None and stamps.decided:
            stamps.committed = self._now_ns()
            self._of["parsed"].observe_ns(stamps.parsed - stamps.received)
            self._of["decided"].observe_ns(stamps.decided - stamps.parsed)
            self._of["committed"].observe_ns(stamps.committed - stamps.decided)

    def sent(self, order_id: UUID) -> None:
        """The gate has let the order pass: its first byte goes now."""
        if self._now_ns is not None:
            _put(self._orders, order_id, self._now_ns())

    def answered(self, order_id: UUID, intent_id: UUID | None) -> str:
        """The broker has answered: return the stages of the order as its history has them, "" if they are not known."""
        sent = self._orders.pop(order_id, 0)
        if self._now_ns is None or not sent:
            return ""
        now = self._now_ns()
        self._of["answered"].observe_ns(now - sent)
        _put(self._orders, order_id, now)
        stamps = None if intent_id is None else self._intents.get(intent_id)
        if stamps is None:
            return ""
        if stamps.committed:
            self._of["sent"].observe_ns(sent - stamps.committed)
            self._of[WIRE].observe_ns(sent - stamps.received)
        known = {
            "parsed": stamps.parsed,
            "decided": stamps.decided,
            "accepted": stamps.accepted,
            "committed": stamps.committed,
            "sent": sent,
            "answered": now,
        }
        return written({name: (at - stamps.received) // 1000 for name, at in known.items() if at})

    def filled(self, order_id: UUID) -> None:
        """The order is filled as a whole."""
        answered = self._orders.pop(order_id, 0)
        if answered and self._now_ns is not None:
            self._of["filled"].observe_ns(self._now_ns() - answered)

    def _find(self, intent_ids: Iterable[UUID]) -> _Stamps | None:
        for intent_id in intent_ids:
            return self._intents.get(intent_id)
        return None


def _put(into: dict[K, V], key: K, value: V) -> None:
    """Remember *value*, the oldest is forgotten for it."""
    if len(into) >= _REMEMBERED:
        del into[next(iter(into))]
    into[key] = value


NO_STAGES = StageClock()
"""Stamps nothing."""
