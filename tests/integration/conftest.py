"""Databases with the schema, copied from one migrated template, and the asyncio loop that they need."""

import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio

from engine.runtime.asyncio_bridge import open_aio
from engine.store.migrate import migrate
from tests.support.engine import EngineProcess
from tests.support.servers import TestServers
from tests.support.shared_engine import LONG_LIVED_REDIS_DB, paper_engine

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


@pytest.fixture(scope="session")
def source_engine(servers: TestServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """A paper engine for the tests of sources, each of which makes sources of its own."""
    folder = tmp_path_factory.mktemp("source_engine")
    yield from paper_engine(servers, folder, "source_engine", redis_db=LONG_LIVED_REDIS_DB)
