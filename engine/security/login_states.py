"""One-time states of broker logins: what ties the broker's answer in a browser to who asked for it here.

The callback carries no bearer token; the state is the proof. It is random, lives ten minutes, opens once
and only for its account and user. Kept in memory, as a digest: after a restart a new link is asked for.
"""

import hashlib
import secrets
from collections import OrderedDict
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

TTL = timedelta(minutes=10)
_MOST = 10_000
_MOST_OF_ASKER = 20
_LONGEST = 200


class LoginIntent(msgspec.Struct, frozen=True, kw_only=True):
    """Who asked for a login of which account, by which way (``console``, ``api``, ``telegram``, ``cli``)."""

    account_id: UUID
    user_id: UUID
    via: str
    expires_at: datetime


class LoginStates:
    """Makes states and takes them back, each once."""

    def __init__(self, *, ttl: timedelta = TTL) -> None:
        self._ttl = ttl
        self._held: OrderedDict[bytes, LoginIntent] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def issue(self, *, account_id: UUID, user_id: UUID, via: str, now: datetime) -> tuple[str, LoginIntent]:
        """Return a new state and what it stands for; the oldest of the same person, way and account make room.

        So a chat that asks without end ends no link of the console. Of too many in all, the oldest go.
        """
        self._drop_expired(now)
        asker = (account_id, user_id, via)
        same = [digest for digest, held in self._held.items() if (held.account_id, held.user_id, held.via) == asker]
        for digest in same[: max(0, len(same) - _MOST_OF_ASKER + 1)]:
            del self._held[digest]
        while len(self._held) >= _MOST:
            self._held.popitem(last=False)
        state = secrets.token_urlsafe(32)
        intent = LoginIntent(account_id=account_id, user_id=user_id, via=via, expires_at=now + self._ttl)
        self._held[_digest(state)] = intent
        return state, intent

    def take(self, state: str, *, now: datetime) -> LoginIntent | None:
        """Return what *state* stands for, and forget it; None for one that is forged, used or too old.

        It is looked up by its SHA-256, so that how long that takes tells nothing of a state that exists.
        """
        self._drop_expired(now)
        if not state or len(state) > _LONGEST:
            return None
        return self._held.pop(_digest(state), None)

    def forget(self, account_id: UUID) -> None:
        """Let every open link of an account end: it was deleted, or its keys changed."""
        for digest in [digest for digest, held in self._held.items() if held.account_id == account_id]:
            del self._held[digest]

    def _drop_expired(self, now: datetime) -> None:
        for digest in [digest for digest, held in self._held.items() if held.expires_at <= now]:
            del self._held[digest]


def _digest(state: str) -> bytes:
    return hashlib.sha256(state.encode("utf-8", "surrogatepass")).digest()
