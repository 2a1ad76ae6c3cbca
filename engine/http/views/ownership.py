"""Whose objects a caller may reach: an ADMIN every one, anybody else its own, and a VIEWER what it was granted.

Grants are for reading, and a VIEWER may call nothing but what reads (``engine.http.permissions.ROLES``), so one
question serves reads and changes.
"""

from typing import Protocol, TypeVar
from uuid import UUID

from engine.domain.directory import Directory
from engine.errors import ForbiddenError, NotFoundError
from engine.http.permissions import Principal
from engine.store.queries.filters import Visible


class Owned(Protocol):
    """An object that belongs to a user."""

    @property
    def user_id(self) -> UUID:
        """The owner."""


OwnedT = TypeVar("OwnedT", bound=Owned)


def visible_to(caller: Principal) -> Visible | None:
    """Return what lists of *caller* are narrowed to; None for all."""
    if caller.is_admin:
        return None
    return Visible((caller.user_id, *sorted(caller.granted_users)), tuple(sorted(caller.granted_accounts)))


def only_owner(caller: Principal) -> UUID | None:
    """Return the one owner whose objects *caller* may change in bulk; None for everybody's."""
    return None if caller.is_admin else caller.user_id


def may_reach(caller: Principal, owner: UUID, account_id: UUID | None = None) -> bool:
    """Tell whether *caller* may reach objects of *owner*, of *account_id* where they belong to an account."""
    return (
        caller.is_admin
        or caller.user_id == owner
        or owner in caller.granted_users
        or (account_id is not None and account_id in caller.granted_accounts)
    )


def reachable(caller: Principal, found: OwnedT | None, what: str, *, account_id: UUID | None = None) -> OwnedT:
    """Return *found* when *caller* may reach it, by its owner or by its account.

    Raises NotFoundError that is the same for a missing object and somebody else's.
    """
    if found is None or not may_reach(caller, found.user_id, account_id):
        raise NotFoundError(f"there is no such {what}")
    return found


def may_end_limits(
    caller: Principal, directory: Directory, *, account_id: UUID | None = None, strategy_id: UUID | None = None
) -> None:
    """Tell whether *caller* may delete an account or a strategy although the limits set for it end with that.

    Raises ForbiddenError for whoever may not loosen a limit.
    """
    if caller.is_admin:
        return
    for limits in directory.limits_of(caller.user_id).values():
        for_account = account_id is not None and limits.account_id == account_id
        if for_account or (strategy_id is not None and limits.strategy_id == strategy_id):
            raise ForbiddenError("limits are set for it and would end with it; an ADMIN has to delete it")
