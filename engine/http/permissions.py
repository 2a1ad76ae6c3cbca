"""Who may call what: the permissions, and the one table that says which roles hold them.

Denied by default: a permission that is not in ``ROLES`` is held by nobody.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

import msgspec

from engine.domain.enums import Role
from engine.errors import ForbiddenError
from engine.security.api_tokens import Scope


class Permission(StrEnum):
    """What a caller must hold to reach an endpoint; every endpoint names exactly one."""

    PUBLIC = "PUBLIC"
    """Anyone; the handler sees no principal."""
    WEBHOOK = "WEBHOOK"
    """The endpoint authenticates its caller itself (signature, secret token, the console's cookie, loopback)."""
    AUTHENTICATED = "AUTHENTICATED"
    """Any signed-in user, and any program with a token of it."""
    SELF = "SELF"
    """A person about its own account: sessions, password, second factor, tokens; never a program."""
    READ = "READ"
    """A signed-in user that may look at trading objects; each only at its own."""
    TRADE = "TRADE"
    """A signed-in user that may change trading objects; each only its own."""
    KILL = "KILL"
    """A signed-in user, or a program, that may stop trading; each only its own, an ADMIN all."""
    ADMIN = "ADMIN"
    """An administrator."""


ROLES: Mapping[Permission, frozenset[Role]] = MappingProxyType(
    {
        Permission.AUTHENTICATED: frozenset({Role.ADMIN, Role.TRADER, Role.VIEWER}),
        Permission.SELF: frozenset({Role.ADMIN, Role.TRADER, Role.VIEWER}),
        Permission.READ: frozenset({Role.ADMIN, Role.TRADER, Role.VIEWER}),
        Permission.TRADE: frozenset({Role.ADMIN, Role.TRADER}),
        Permission.KILL: frozenset({Role.ADMIN, Role.TRADER}),
        Permission.ADMIN: frozenset({Role.ADMIN}),
    }
)

_READING = frozenset({Permission.AUTHENTICATED, Permission.READ})
_TRADING = _READING | {Permission.TRADE, Permission.KILL}
SCOPES: Mapping[Scope, frozenset[Permission]] = MappingProxyType(
    {
        Scope.READ: _READING,
        Scope.TRADE: _TRADING,
        Scope.ADMIN: _TRADING | {Permission.ADMIN},
        Scope.KILL: frozenset({Permission.KILL}),
    }
)
"""What each scope of an API token lets a program do, where its owner's role does; `Permission.SELF` is in none."""

_WITHOUT_FACTOR = frozenset({Permission.AUTHENTICATED, Permission.SELF, Permission.KILL})
WITHOUT_BEARER = frozenset({Permission.PUBLIC, Permission.WEBHOOK})


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """The signed-in caller; ``signed_in_at`` is when it gave its password or a code, not when it refreshed.

    ``scopes`` is None for a person. For a program they are those of its API token, whose id stands in for the
    session, and ``role`` is the owner's as far as the scopes reach. ``mfa`` tells whether the user has a second factor.
    """

    user_id: UUID
    email: str
    name: str
    role: Role
    session_id: UUID
    signed_in_at: datetime
    scopes: frozenset[Scope] | None = None
    mfa: bool = False
    granted_users: frozenset[UUID] = frozenset()
    """Whose objects a VIEWER may read besides its own; empty for every other role."""
    granted_accounts: frozenset[UUID] = frozenset()
    """Of whatever users: the accounts that a VIEWER may read."""

    @property
    def is_admin(self) -> bool:
        """Tell whether the caller administers the engine."""
        return self.role is Role.ADMIN


def is_allowed(permission: Permission, role: Role) -> bool:
    """Tell whether *role* holds *permission*."""
    return permission in WITHOUT_BEARER or role in ROLES.get(permission, frozenset())


def require(permission: Permission, principal: Principal) -> None:
    """Raise ForbiddenError when the caller's role, or the scopes of its API token, do not hold *permission*."""
    if not is_allowed(permission, principal.role):
        raise ForbiddenError(f"the role {principal.role} may not do this")
    if principal.scopes is not None and not any(permission in SCOPES[scope] for scope in principal.scopes):
        raise ForbiddenError("the API token's scopes do not cover this", code="SCOPE_MISSING")


def must_enrol(role: Role, policy: str) -> bool:
    """Tell whether ``[security] require_mfa`` asks a second factor of *role*."""
    return policy == "all" or (policy == "admin" and role is Role.ADMIN)


def require_enrolled(permission: Permission, principal: Principal, policy: str) -> None:
    """Raise ForbiddenError where *policy* asks a second factor of a caller that has none yet.

    It can still see to its own account, so as to enrol one, and stop trading.
    """
    if permission in _WITHOUT_FACTOR or principal.mfa or not must_enrol(principal.role, policy):
        return
    raise ForbiddenError("enrol a second factor first: POST /auth/mfa/enroll", code="MFA_REQUIRED")


def role_within(role: Role, scopes: AbstractSet[Scope]) -> Role:
    """Return the role of a program whose token has *scopes* and whose owner has *role*: never more than either."""
    if Scope.KILL in scopes:
        return role  # it reaches the kill switch alone, and that as its owner would
    widest = Role.ADMIN if Scope.ADMIN in scopes else Role.TRADER if Scope.TRADE in scopes else Role.VIEWER
    order = (Role.VIEWER, Role.TRADER, Role.ADMIN)
    return min(role, widest, key=order.index)
