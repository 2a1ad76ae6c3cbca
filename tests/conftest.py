"""Servers that tests share: one real PostgreSQL and one real Valkey for the whole run."""

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.support import tls_context
from tests.support.servers import TestServers, in_memory
from tests.support.shared_engine import SharedEngine

tls_context.share()
hypothesis.settings.register_profile(
    "engine",
    deadline=None,  # machines are shared: a slow example is no defect
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    max_examples=60,  # python -m tests.fuzz goes on for as long as it is told
    derandomize=True,
    database=None,
)
hypothesis.settings.load_profile("engine")


# a start of the engine is for the most part its imports: compiling six hundred modules anew each time would double it
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# where tmp_path is: engines sync their files and their own servers' all the time, and no test here cuts the power
if (_memory := in_memory()) is not None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_memory))

# what takes longest begins first, or a single worker would finish it alone
_FIRST = ("simulation", "crash", "faults", "browser", "security", "contract", "integration", "powerloss")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files of tests by how long their folder's take; inside a file nothing moves."""
    folders = {name: place for place, name in enumerate(_FIRST)}

    def place(item: pytest.Item) -> int:
        return folders.get(_folder(item), len(_FIRST))

    items.sort(key=place)


def _folder(item: pytest.Item) -> str:
    return item.path.relative_to(item.config.rootpath / "tests").parts[0]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the benchmarks out, unless they are named: they measure, and want the machine to themselves."""
    is_benchmark = collection_path == config.rootpath / "tests" / "benchmarks"
    return True if is_benchmark and not any("benchmarks" in argument for argument in config.args) else None


@pytest.fixture(scope="session")
def servers() -> Iterator[TestServers]:
    """One PostgreSQL and one Valkey with the settings of production."""
    with TestServers(durable=True) as running:
        yield running


_SHARING = {"security", "contract"}
"""The folders whose modules share an engine."""
_shared = pytest.StashKey[SharedEngine]()


@pytest.fixture(scope="session")
def shared_engine(
    request: pytest.FixtureRequest, servers: TestServers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SharedEngine]:
    """The engine that modules share."""
    shared = SharedEngine(servers, tmp_path_factory.mktemp("shared_engine"))
    request.config.stash[_shared] = shared
    yield shared
    shared.end()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the shared engine once the tests have moved on to folders that have no use for it."""
    if nextitem is not None and _folder(item) in _SHARING and _folder(nextitem) not in _SHARING:
        shared = item.config.stash.get(_shared, None)
        if shared is not None:
            shared.end()


_database_numbers = itertools.count(1)


@pytest.fixture
def database_url(servers: TestServers) -> Iterator[str]:
    """An empty database of the test's own."""
    name = f"test_{next(_database_numbers)}"
    yield servers.create_database(name)
    servers.drop_database(name)


_redis_numbers = itertools.cycle(range(1, 11))  # the others are those of engines that last


@pytest.fixture
def redis_url(servers: TestServers) -> str:
    """An empty logical database of the test's own on the Valkey."""
    url = f"{servers.redis_url}?db={next(_redis_numbers)}"
    servers.flush(url)
    return url
