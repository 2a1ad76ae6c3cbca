"""What waits to be said to chats, and when: Telegram's limits as a value.

One message a second to a chat (with short bursts), twenty a minute to a group, thirty a second over all; what is over
is answered 429 with the seconds to wait (https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this).
Plain texts for one chat that wait together become one message. Bounded: of too many the chat with most loses its
oldest, and what nobody could be told for ten minutes is not told any more.
"""

from collections import OrderedDict, deque
from collections.abc import Callable

import msgspec

MOST_WAITING = 256
KEEP_S = 600.0
_MOST_CHATS = 1000
_CHAT = (3.0, 1.0)  # burst, a second
# never over 20 in a minute: 5 and 15
_GROUP = (5.0, 0.25)
# never over 30 in a second: 5 and 25
_ALL = (5.0, 25.0)
_BETWEEN = "\n\n"


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """A message that waits: ``buttons`` are labels with their data, ``put_at`` seconds on the queue's clock."""

    chat_id: int
    text: str
    put_at: float
    buttons: tuple[tuple[str, str], ...] = ()


class _Pace:
    """Tokens: *burst* at once, *rate* a second after that."""

    def __init__(self, burst: float, rate: float, now: float) -> None:
        self._burst, self._rate = burst, rate
        self._level, self._at = burst, now

    def ready_at(self, now: float) -> float:
        self._fill(now)
        return now if self._level >= 1 else now + (1 - self._level) / self._rate

    def take(self, now: float) -> None:
        self._fill(now)
        self._level -= 1

    def _fill(self, now: float) -> None:
        self._level = min(self._burst, self._level + max(0.0, now - self._at) * self._rate)
        self._at = max(self._at, now)


class ChatQueue:
    """Notes by chat; *fits* says whether a text is short enough for one message. Times are seconds of one clock."""

    def __init__(self, fits: Callable[[str], bool]) -> None:
        self._fits = fits
        self._waiting: dict[int, deque[Note]] = {}
        self._paces: OrderedDict[int, tuple[_Pace, ...]] = OrderedDict()
        self._all = _Pace(*_ALL, 0.0)
        self._held: dict[int, float] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def put(self, note: Note) -> None:
        """Let *note* wait, as part of the chat's last message where both are plain texts."""
        line = self._waiting.setdefault(note.chat_id, deque())
        if line and not line[-1].buttons and not note.buttons:
            last = line[-1]
            if last.text == note.text or last.text.endswith(_BETWEEN + note.text):
                return  # the same, and not yet told
            joined = last.text + _BETWEEN + note.text
            if self._fits(joined):
                line[-1] = msgspec.structs.replace(last, text=joined)
                return
        line.append(note)
        while len(self) > MOST_WAITING:
            max(self._waiting.values(), key=len).popleft()
            self.dropped += 1

    def put_back(self, note: Note) -> None:
        """Let a note that could not be sent be the chat's next again."""
        self._waiting.setdefault(note.chat_id, deque()).appendleft(note)

    def hold(self, chat_id: int, until: float) -> None:
        """Send nothing to a chat before *until*: Telegram asked for it."""
        self._held[chat_id] = max(until, self._held.get(chat_id, until))

    def take(self, now: float) -> tuple[Note | None, float]:
        """Return the next note that may be sent now, or None and how many seconds until one may (inf: none waits)."""
        self._forget(now)
        ready = {chat: self._ready_at(chat, now) for chat in self._waiting}
        if not ready:
            return None, float("inf")
        over_all = self._all.ready_at(now)
        soonest = max(over_all, min(ready.values()))
        if soonest > now:
            return None, soonest - now
        chat = min((c for c, at in ready.items() if at <= now), key=lambda c: self._waiting[c][0].put_at)
        note = self._waiting[chat].popleft()
        if not self._waiting[chat]:
            del self._waiting[chat]
        for pace in (self._all, *self._paces[chat]):
            pace.take(now)
        return note, 0.0

    def _ready_at(self, chat: int, now: float) -> float:
        if chat not in self._paces:
            # ids of groups are below zero
            limits = (_CHAT, _GROUP) if chat < 0 else (_CHAT,)
            self._paces[chat] = tuple(_Pace(*limit, now) for limit in limits)
        self._paces.move_to_end(chat)
        return max(self._held.get(chat, now), *(pace.ready_at(now) for pace in self._paces[chat]))

    def _forget(self, now: float) -> None:
        for chat in list(self._waiting):
            line = self._waiting[chat]
            while line and line[0].put_at < now - KEEP_S:
                line.popleft()
                self.dropped += 1
            if not line:
                del self._waiting[chat]
        self._held = {chat: until for chat, until in self._held.items() if until > now}
        while len(self._paces) > _MOST_CHATS:
            self._paces.popitem(last=False)
