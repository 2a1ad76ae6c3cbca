"""The list of alerts in PostgreSQL: kept as it changes, forgotten when it is to be, found by the next life."""

from datetime import timedelta
from uuid import UUID

import msgspec
import pytest

from engine.domain.alert_book import AlertRecord
from engine.domain.alert_rules import Severity
from engine.store.alerts import StoredAlerts, find, newest
from engine.store.database import Database
from tests.support.ledger_rows import NOW


@pytest.fixture
async def database(schema_url, aio):
    found = Database(schema_url, max_connections=2)
    await found.open()
    yield found
    await found.close()


def record(number, **changes):
    at = NOW + timedelta(seconds=number)
    values = {"id": UUID(int=number), "code": "PARKED", "subject": f"order:{number}", "text": "PARKED: x"}
    return AlertRecord(**values | {"severity": Severity.CRITICAL, "first_at": at, "last_at": at} | changes)


async def test_alerts_are_kept_as_they_change_and_found_newest_first(database):
    store = StoredAlerts(database)
    first, second = record(1, user_id=UUID(int=7), told_at=NOW), record(2)
    await store.save([first, second], [])
    acked = msgspec.structs.replace(first, acked_at=NOW, acked_by="user:7", count=3, text="PARKED: y", escalated_s=300)
    await store.save([acked, second], [UUID(int=99)])
    assert await store.load() == [second, acked]
    assert await database.run(lambda connection: newest(connection, 1)) == [second]
    assert await database.run(lambda connection: find(connection, first.id)) == acked
    await store.save([], [first.id])
    assert await store.load() == [second]
