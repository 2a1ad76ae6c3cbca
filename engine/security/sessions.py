"""What a bearer check needs, in memory: every user, and the sessions that ended lately.

Both are fed by the writes of this engine at once, and from the store at start and every few seconds,
so that a change made by the command line acts too. A check never waits for a store.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from engine.domain.enums import Role
from engine.domain.grants import GrantBook


class UserRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A user as the store has it; ``token_epoch`` grows to end every access token of the user.

    ``mfa`` says whether a second factor was confirmed, ``short_password`` that the password may not stand alone.
    """

    id: UUID
    email: str
    name: str
    role: Role
    password_hash: str
    token_epoch: int
    disabled: bool
    mfa: bool = False
    short_password: bool = False


class UserDirectory:
    """Users by id and e-mail, and what each may read of others' (``grants``)."""

    def __init__(self, records: Iterable[UserRecord] = ()) -> None:
        self._by_id: dict[UUID, UserRecord] = {}
        self._by_email: dict[str, UserRecord] = {}
        self._put_at: dict[UUID, int] = {}
        self._version = 0
        self.grants = GrantBook()
        self.load(records)

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def version(self) -> int:
        """A number that grows with every `put`."""
        return self._version

    def load(self, records: Iterable[UserRecord], *, read_after: int | None = None) -> None:
        """Take what the store says; with *read_after* a user that is missing there is deleted here too.

        *read_after* is the `version` from before the store was read: what was put since is newer than
        *records* and stays.
        """
        found = {record.id: record for record in records}
        if read_after is not None:
            known = [user_id for user_id in self._by_id if user_id not in found]
            for user_id in known:
                if self._put_at.get(user_id, 0) <= read_after:
                    self._forget(user_id)
        for record in found.values():
            if read_after is None or self._put_at.get(record.id, 0) <= read_after:
                self._store(record)

    def put(self, record: UserRecord, *, read_after: int | None = None) -> None:
        """Take one new or changed user.

        *read_after* is the `version` from before a *record* was read that its reader did not change: one that was put
        meanwhile stays.
        """
        if read_after is not None and self._put_at.get(record.id, 0) > read_after:
            return
        self._version += 1
        self._put_at[record.id] = self._version
        self._store(record)

    def remove(self, user_id: UUID) -> None:
        """Forget a user that was deleted."""
        self._version += 1
        self._put_at[user_id] = self._version
        self._forget(user_id)

    def get(self, user_id: UUID) -> UserRecord | None:
        """Return the user, or None."""
        return self._by_id.get(user_id)

    def by_email(self, email: str) -> UserRecord | None:
        """Return the user of *email*, whatever its case, or None."""
        return self._by_email.get(normalise_email(email))

    def all(self) -> list[UserRecord]:
        """Return every user."""
        return list(self._by_id.values())

    def _forget(self, user_id: UUID) -> None:
        before = self._by_id.pop(user_id, None)
        if before is not None:
            self._by_email.pop(normalise_email(before.email), None)

    def _store(self, record: UserRecord) -> None:
        before = self._by_id.get(record.id)
        if before is not None:
            self._by_email.pop(normalise_email(before.email), None)
        self._by_id[record.id] = record
        self._by_email[normalise_email(record.email)] = record


class SessionRegistry:
    """Sessions that were revoked; each is forgotten once no access token of it can live any more."""

    def __init__(self, *, access_ttl_s: int) -> None:
        self._keep = timedelta(seconds=access_ttl_s + 60)
        self._revoked: dict[UUID, datetime] = {}

    def __len__(self) -> int:
        return len(self._revoked)

    def revoke(self, session_id: UUID, *, at: datetime) -> None:
        """End *session_id*: its access tokens are refused from now on."""
        self._revoked[session_id] = at
        self.forget_older(at)

    def is_revoked(self, session_id: UUID) -> bool:
        """Tell whether the session was ended lately."""
        return session_id in self._revoked

    def forget_older(self, now: datetime) -> None:
        """Drop what no living token can belong to."""
        horizon = now - self._keep
        for session_id in [key for key, at in self._revoked.items() if at < horizon]:
            del self._revoked[session_id]

    def horizon(self, now: datetime) -> datetime:
        """Return since when revocations must be loaded from the store at *now*."""
        return now - self._keep


def normalise_email(email: str) -> str:
    """Return the form under which an e-mail address is unique."""
    return email.strip().lower()
