"""The directory of users and the sessions that ended."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec

from engine.domain.enums import Role
from engine.security.sessions import SessionRegistry, UserDirectory, UserRecord

NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)


def user(email: str = "Asha@Example.com", epoch: int = 0) -> UserRecord:
    return UserRecord(
        id=uuid4(), email=email, name="A", role=Role.TRADER, password_hash="h", token_epoch=epoch, disabled=False
    )


def test_directory_finds_by_id_and_by_email_in_any_case() -> None:
    asha = user()
    directory = UserDirectory([asha])
    assert directory.get(asha.id) == directory.by_email(" asha@EXAMPLE.com ") == asha
    assert directory.get(uuid4()) is None
    assert directory.by_email("nobody@example.com") is None
    assert directory.all() == [asha]


def test_directory_put_with_new_email_forgets_the_old_one() -> None:
    asha = user()
    directory = UserDirectory([asha])
    directory.put(msgspec.structs.replace(asha, email="new@example.com"))
    assert directory.by_email("asha@example.com") is None
    assert directory.by_email("new@example.com") is not None
    assert len(directory) == 1


def test_directory_load_read_before_a_put_does_not_undo_it() -> None:
    asha = user()
    directory = UserDirectory([asha])
    before = directory.version
    disabled = msgspec.structs.replace(asha, disabled=True)
    directory.put(disabled)
    directory.load([asha], read_after=before)
    assert directory.get(asha.id) == disabled


def test_directory_load_read_after_a_put_counts() -> None:
    asha = user()
    directory = UserDirectory([asha])
    directory.put(msgspec.structs.replace(asha, disabled=True))
    newer = msgspec.structs.replace(asha, role=Role.VIEWER, token_epoch=1)
    directory.load([newer], read_after=directory.version)
    assert directory.get(asha.id) == newer


def test_registry_refuses_a_revoked_session_as_long_as_a_token_can_live() -> None:
    registry = SessionRegistry(access_ttl_s=900)
    ended, other = uuid4(), uuid4()
    registry.revoke(ended, at=NOW)
    registry.forget_older(NOW + timedelta(seconds=905))
    assert registry.is_revoked(ended)
    assert not registry.is_revoked(other)


def test_registry_forgets_what_no_token_can_belong_to() -> None:
    registry = SessionRegistry(access_ttl_s=900)
    registry.revoke(uuid4(), at=NOW)
    registry.revoke(uuid4(), at=NOW + timedelta(hours=1))
    assert len(registry) == 1
    assert registry.horizon(NOW) < NOW - timedelta(seconds=900)
