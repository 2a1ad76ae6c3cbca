"""The table of roles and permissions, cell by cell (SEC-030, SEC-031)."""

from datetime import UTC, datetime

import pytest

from engine.domain.enums import Role
from engine.errors import ForbiddenError
from engine.http.permissions import ROLES, Permission, Principal, is_allowed, require
from engine.http.routes import registry
from engine.ids import uuid7

TABLE = {
    Permission.PUBLIC: {Role.ADMIN, Role.TRADER, Role.VIEWER},
    Permission.WEBHOOK: {Role.ADMIN, Role.TRADER, Role.VIEWER},
    Permission.AUTHENTICATED: {Role.ADMIN, Role.TRADER, Role.VIEWER},
    Permission.SELF: {Role.ADMIN, Role.TRADER, Role.VIEWER},
    Permission.READ: {Role.ADMIN, Role.TRADER, Role.VIEWER},
    Permission.TRADE: {Role.ADMIN, Role.TRADER},
    Permission.KILL: {Role.ADMIN, Role.TRADER},
    Permission.ADMIN: {Role.ADMIN},
}


def principal(role: Role) -> Principal:
    at = datetime(2026, 11, 23, tzinfo=UTC)
    return Principal(user_id=uuid7(), email="a@b", name="", role=role, session_id=uuid7(), signed_in_at=at)


@pytest.mark.parametrize("permission", Permission)
@pytest.mark.parametrize("role", Role)
def test_role_holds_exactly_what_the_table_says(role: Role, permission: Permission) -> None:
    assert is_allowed(permission, role) is (role in TABLE[permission])


def test_require_raises_for_a_role_without_the_permission() -> None:
    require(Permission.TRADE, principal(Role.TRADER))
    with pytest.raises(ForbiddenError):
        require(Permission.TRADE, principal(Role.VIEWER))


def test_table_cannot_be_changed_at_run_time() -> None:
    with pytest.raises(TypeError):
        ROLES[Permission.ADMIN] = frozenset(Role)  # type: ignore[index]


def test_nothing_that_changes_something_is_for_whoever_may_only_look() -> None:
    looking = {Permission.AUTHENTICATED, Permission.READ}
    assert [each.path for each in registry() if each.method != "GET" and each.permission in looking] == []
