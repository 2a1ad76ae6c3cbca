"""Databases with the schema, copied from one migrated template, and the asyncio loop that they need."""

import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio

from engine.runtime.asyncio_bridge import open_aio
from engine.store.migrate import migrate
from tests.support.servers import TestServers

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def schema_template(servers: TestServers) -> str:
    """The name of a database with the whole schema and no rows."""
    url = servers.create_database("schema_template")

    async def work() -> None:
        async with open_aio(lambda _report: None):
            await migrate(url)

    trio.run(work)
    return "schema_template"


@pytest.fixture
def schema_url(servers: TestServers, schema_template: str) -> Iterator[str]:
    """A migrated database of the test's own."""
    name = f"schema_{next(_numbers)}"
    yield servers.create_database(name, template=schema_template)
    servers.drop_database(name)


@pytest.fixture
async def aio() -> AsyncIterator[list[Any]]:
    """The asyncio loop; what it reported on its own is in the list, which must stay empty."""
    reports: list[Any] = []
    async with open_aio(reports.append):
        yield reports
    assert reports == []
