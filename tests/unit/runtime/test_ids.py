"""Identifiers are the same whatever kind of UUID they are made as."""

from uuid import UUID, uuid5

from engine import ids
from engine.store import database


def test_ids_equal_those_of_the_standard_library() -> None:
    assert database.DriverUuid is not UUID
    intent, account = UUID(int=7), UUID(int=8)
    made = ids.order_id(intent, account, 2)
    assert made == uuid5(intent, f"{account}\x002")
    assert hash(made) == hash(UUID(str(made)))
    assert isinstance(made, UUID)
    assert {UUID(str(made)): 1}[made] == 1


def test_uuid7_bears_its_version_and_grows_with_time() -> None:
    made = [ids.uuid7() for _ in range(3)]
    assert all(each.version == 7 and each.variant == "specified in RFC 4122" for each in made)
    assert [each.int >> 80 for each in made] == sorted(each.int >> 80 for each in made)
