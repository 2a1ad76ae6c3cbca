"""Servers that tests share: one real PostgreSQL and one real Valkey for the whole run."""

import itertools
from collections.abc import Iterator

import hypothesis
import pytest

from tests.support.servers import TestServers

hypothesis.settings.register_profile(
    "engine",
    deadline=None,  # machines are shared: a slow example is no defect
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=True,
    database=None,
)
hypothesis.settings.load_profile("engine")


@pytest.fixture(scope="session")
def servers() -> Iterator[TestServers]:
    """One PostgreSQL and one Valkey with the settings of production."""
    with TestServers(durable=True) as running:
        yield running


_database_numbers = itertools.count(1)


@pytest.fixture
def database_url(servers: TestServers) -> Iterator[str]:
    """An empty database of the test's own."""
    name = f"test_{next(_database_numbers)}"
    yield servers.create_database(name)
    servers.drop_database(name)


_redis_numbers = itertools.cycle(range(1, 16))


@pytest.fixture
def redis_url(servers: TestServers) -> str:
    """An empty logical database of the test's own on the Valkey."""
    url = f"{servers.redis_url}?db={next(_redis_numbers)}"
    servers.flush(url)
    return url
