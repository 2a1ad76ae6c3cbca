"""Who may call what: the permissions, and the one table that says which roles hold them.

Denied by default: a permission that is not in ``ROLES`` is held by nobody.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

import msgspec

from engine.domain.enums import Role
from engine.errors import ForbiddenError


class Permission(StrEnum):
    """What a caller must hold to reach an endpoint; every endpoint names exactly one."""

    PUBLIC = "PUBLIC"
    """Anyone; the handler sees no principal."""
    WEBHOOK = "WEBHOOK"
    """The endpoint authenticates its caller itself (signature, secret token, loopback)."""
    AUTHENTICATED = "AUTHENTICATED"
    """Any signed-in user."""
    READ = "READ"
    """A signed-in user that may look at trading objects; each only at its own."""
    TRADE = "TRADE"
    """A signed-in user that may change trading objects; each only its own."""
    ADMIN = "ADMIN"
    """An administrator."""


ROLES: Mapping[Permission, frozenset[Role]] = MappingProxyType(
    {
        Permission.AUTHENTICATED: frozenset({Role.ADMIN, Role.TRADER, Role.VIEWER}),
        Permission.READ: frozenset({Role.ADMIN, Role.TRADER, Role.VIEWER}),
        Permission.TRADE: frozenset({Role.ADMIN, Role.TRADER}),
        Permission.ADMIN: frozenset({Role.ADMIN}),
    }
)

WITHOUT_BEARER = frozenset({Permission.PUBLIC, Permission.WEBHOOK})


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """The signed-in caller; ``signed_in_at`` is when it gave its password, not when it refreshed."""

    user_id: UUID
    email: str
    name: str
    role: Role
    session_id: UUID
    signed_in_at: datetime

    @property
    def is_admin(self) -> bool:
        """Tell whether the caller administers the engine."""
        return self.role is Role.ADMIN


def is_allowed(permission: Permission, role: Role) -> bool:
    """Tell whether *role* holds *permission*."""
    return permission in WITHOUT_BEARER or role in ROLES.get(permission, frozenset())


def require(permission: Permission, principal: Principal) -> None:
    """Raise ForbiddenError when the caller's role does not hold *permission*."""
    if not is_allowed(permission, principal.role):
        raise ForbiddenError(f"the role {principal.role} may not do this")
