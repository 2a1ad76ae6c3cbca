"""What a VIEWER may read of somebody else's: everything of a user, or one account."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

import msgspec


class ReadGrant(msgspec.Struct, frozen=True, kw_only=True):
    """One grant; ``account_id`` None is everything that ``owner_id`` has. ``granted_at`` is aware UTC."""

    id: UUID
    viewer_id: UUID
    owner_id: UUID
    account_id: UUID | None
    granted_by: str
    granted_at: datetime


class Granted(msgspec.Struct, frozen=True):
    """What a viewer may read: whatever *users* own, and of others what is of *accounts*."""

    users: frozenset[UUID] = frozenset()
    accounts: frozenset[UUID] = frozenset()


NOTHING = Granted()


class GrantBook:
    """Every grant, in memory: a check never waits for a store."""

    def __init__(self) -> None:
        self._grants: dict[UUID, ReadGrant] = {}
        self._of: dict[UUID, Granted] = {}
        self._version = 0

    @property
    def version(self) -> int:
        """A number that grows with every change made here."""
        return self._version

    def load(self, grants: Iterable[ReadGrant], *, read_after: int) -> None:
        """Take what the store says, unless something changed here since *read_after*: then the next reading does."""
        if read_after == self._version:
            self._grants = {grant.id: grant for grant in grants}
            self._rebuild()

    def put(self, grant: ReadGrant) -> None:
        """Add a grant."""
        self._version += 1
        self._grants[grant.id] = grant
        self._rebuild()

    def remove(self, *grant_ids: UUID) -> None:
        """Take grants back."""
        self._version += 1
        for grant_id in grant_ids:
            self._grants.pop(grant_id, None)
        self._rebuild()

    def get(self, grant_id: UUID) -> ReadGrant | None:
        """Return one grant, or None."""
        return self._grants.get(grant_id)

    def all(self) -> list[ReadGrant]:
        """Return every grant."""
        return list(self._grants.values())

    def of(self, viewer_id: UUID) -> Granted:
        """Return what a viewer may read beyond its own."""
        return self._of.get(viewer_id, NOTHING)

    def _rebuild(self) -> None:
        found: dict[UUID, list[ReadGrant]] = {}
        for grant in self._grants.values():
            found.setdefault(grant.viewer_id, []).append(grant)
        self._of = {
            viewer_id: Granted(
                frozenset(grant.owner_id for grant in grants if grant.account_id is None),
                frozenset(grant.account_id for grant in grants if grant.account_id is not None),
            )
            for viewer_id, grants in found.items()
        }
