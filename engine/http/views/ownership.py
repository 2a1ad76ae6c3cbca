"""Whose objects a caller may reach: an ADMIN every one, anybody else only its own."""

from typing import Protocol, TypeVar
from uuid import UUID

from engine.errors import NotFoundError
from engine.http.permissions import Principal


class Owned(Protocol):
    """An object that belongs to a user."""

    @property
    def user_id(self) -> UUID:
        """The owner."""


OwnedT = TypeVar("OwnedT", bound=Owned)


def only_owner(caller: Principal) -> UUID | None:
    """Return the owner that lists of *caller* are narrowed to; None for all."""
    return None if caller.is_admin else caller.user_id


def may_reach(caller: Principal, owner: UUID) -> bool:
    """Tell whether *caller* may see and change objects of *owner*."""
    return caller.is_admin or caller.user_id == owner


def reachable(caller: Principal, found: OwnedT | None, what: str) -> OwnedT:
    """Return *found* when *caller* may reach it.

    Raises NotFoundError that is the same for a missing object and somebody else's.
    """
    if found is None or not may_reach(caller, found.user_id):
        raise NotFoundError(f"there is no such {what}")
    return found
