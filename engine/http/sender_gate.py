"""What a genuine sender may still not do: say one signed message under many keys, or send faster than it is meant to.

In memory: it holds while every store is down, and nothing here waits.
"""

from collections import OrderedDict
from uuid import UUID

from engine.errors import ConflictError, RateLimitError

SAME_MOMENT_S = 10.0
"""How long after its first arrival one signed message may come under further keys.

X-Timestamp counts whole seconds, so a sender that sends the same order twice within one signs both alike;
Idempotency-Key alone tells them apart (contract section 4). What comes later than that was not sent in that second: it
is a copy whose key somebody changed."""
_MAX_MESSAGES = 100_000
_MAX_SOURCES = 10_000


class _Message:
    __slots__ = ("first_at", "keys")

    def __init__(self, first_at: float, key: str) -> None:
        self.first_at = first_at
        # nearly always this one alone, and tens of thousands are held
        self.keys: tuple[str, ...] = (key,)


class SignedMessages:
    """Remembers signed messages for *keep_s* seconds: as long as their timestamps are believed."""

    def __init__(self, *, keep_s: float) -> None:
        self._keep_s = keep_s
        self._held: OrderedDict[tuple[UUID, bytes], _Message] = OrderedDict()

    def take(self, source_id: UUID, message: bytes, key: str, now_s: float, *, strict: bool) -> bool:
        """Take note that *message* (the hash of what was signed) came under *key*; return whether that is new.

        Raises ConflictError when it came under another key: at all where *strict*, else more than `SAME_MOMENT_S` ago.
        """
        self._forget(now_s)
        place = (source_id, message)
        held = self._held.get(place)
        if held is None:
            self._held[place] = _Message(now_s, key)
            return True
        if key in held.keys:
            return False
        if strict or now_s - held.first_at > SAME_MOMENT_S:
            raise ConflictError(
                "this signed message was taken already, under another Idempotency-Key; if it is a signal of its own, "
                "sign it again with a new X-Timestamp",
                code="SIGNED_MESSAGE_REUSED",
            )
        held.keys += (key,)
        return True

    def give_back(self, source_id: UUID, message: bytes, key: str) -> None:
        """Forget that *message* came under *key*: nothing was made of it."""
        held = self._held.get((source_id, message))
        if held is not None:
            held.keys = tuple(other for other in held.keys if other != key)
            if not held.keys:
                del self._held[source_id, message]

    def _forget(self, now_s: float) -> None:
        while self._held:
            place, oldest = next(iter(self._held.items()))
            if now_s - oldest.first_at <= self._keep_s and len(self._held) < _MAX_MESSAGES:
                return
            del self._held[place]


class SignalPace:
    """A bucket of signals for each source, as many as it may send in a minute; it refills evenly."""

    def __init__(self) -> None:
        self._levels: OrderedDict[UUID, tuple[float, float]] = OrderedDict()

    def take(self, source_id: UUID, count: int, per_minute: int, now_s: float) -> None:
        """Take *count* signals out. Raises RateLimitError when there are not as many."""
        level, at = self._levels.pop(source_id, (float(per_minute), now_s))
        level = min(float(per_minute), level + (now_s - at) * per_minute / 60.0)
        enough = level >= count
        self._levels[source_id] = (level - count if enough else level, now_s)
        if len(self._levels) > _MAX_SOURCES:
            self._levels.popitem(last=False)
        if not enough:
            wait = int((count - level) * 60.0 / per_minute) + 1
            raise RateLimitError(
                f"this source may send {per_minute} a minute: slow it, or raise its maxSignalsPerMinute",
                retry_after_s=min(wait, 60),
            )
