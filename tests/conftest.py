"""Servers that tests share: one real PostgreSQL and one real Valkey for the whole run."""

import itertools
from collections.abc import Iterator
from pathlib import Path

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


# what takes longest begins first, or a single worker would finish it alone
_FIRST = ("simulation", "crash", "faults", "browser", "security", "contract", "integration", "powerloss")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files of tests by how long their folder's take; inside a file nothing moves."""
    folders = {name: place for place, name in enumerate(_FIRST)}

    def place(item: pytest.Item) -> int:
        return folders.get(item.path.relative_to(item.config.rootpath / "tests").parts[0], len(_FIRST))

    items.sort(key=place)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the benchmarks out, unless they are named: they measure, and want the machine to themselves."""
    is_benchmark = collection_path == config.rootpath / "tests" / "benchmarks"
    return True if is_benchmark and not any("benchmarks" in argument for argument in config.args) else None


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
