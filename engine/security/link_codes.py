"""One-time codes that link a person of Telegram to a user: asked for when signed in, typed to the bot.

Random (50 bits), good for ten minutes and once; a user's new code ends the one before. Kept in memory, as a digest:
after a restart a new one is asked for. Whoever tries codes has a few tries an hour, all strangers together some more.
"""

import hashlib
import secrets
from collections import OrderedDict, deque
from datetime import datetime, timedelta
from uuid import UUID

TTL = timedelta(minutes=10)
_WINDOW = timedelta(hours=1)
_TRIES_OF_ONE = 5
_TRIES_OF_ALL = 200
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # none that is taken for another
_LENGTH = 10
_MOST = 10_000


class LinkCodes:
    """Makes codes and takes them back, each once."""

    def __init__(self) -> None:
        self._held: OrderedDict[bytes, tuple[UUID, datetime]] = OrderedDict()
        self._tries: OrderedDict[int, deque[datetime]] = OrderedDict()
        self._all_tries: deque[datetime] = deque()

    def issue(self, user_id: UUID, *, now: datetime) -> tuple[str, datetime]:
        """Return a new code of a user, and until when it is good."""
        self._drop(now)
        for digest in [digest for digest, (holder, _) in self._held.items() if holder == user_id]:
            del self._held[digest]
        while len(self._held) >= _MOST:
            self._held.popitem(last=False)
        code = "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
        self._held[_digest(code)] = (user_id, now + TTL)
        return code, now + TTL

    def take(self, code: str, *, tried_by: int, now: datetime) -> UUID | None:
        """Return whose *code* it is and forget it; None for a wrong one, or from somebody who tried too often."""
        self._drop(now)
        mine = self._tries.setdefault(tried_by, deque())
        if len(mine) >= _TRIES_OF_ONE or len(self._all_tries) >= _TRIES_OF_ALL:
            return None
        found = self._held.pop(_digest(code.strip().upper()), None) if len(code) <= 2 * _LENGTH else None
        if found is None:
            mine.append(now)
            self._all_tries.append(now)
            return None
        return found[0]

    def forget(self, user_id: UUID) -> None:
        """Let the open code of a user end."""
        for digest in [digest for digest, (holder, _) in self._held.items() if holder == user_id]:
            del self._held[digest]

    def _drop(self, now: datetime) -> None:
        for digest in [digest for digest, (_, until) in self._held.items() if until <= now]:
            del self._held[digest]
        for tries in (self._all_tries, *self._tries.values()):
            while tries and tries[0] <= now - _WINDOW:
                tries.popleft()
        for person in [person for person, tries in self._tries.items() if not tries]:
            del self._tries[person]


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.encode("utf-8", "surrogatepass")).digest()
