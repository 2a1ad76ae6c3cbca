"""A real engine for the modules of attacks, and the people that they are aimed at."""

from collections.abc import Iterator

import pytest

from tests.support.belongings import Belongings
from tests.support.engine import EngineProcess
from tests.support.intruder import People, Person
from tests.support.servers import TestServers
from tests.support.shared_engine import DATABASE, SharedEngine, paper_engine


def _environment(request: pytest.FixtureRequest) -> dict[str, str] | None:
    return getattr(request.module, "ENVIRONMENT", None)


@pytest.fixture(scope="module")
def database_name(request: pytest.FixtureRequest) -> str:
    if _environment(request) is None:
        return DATABASE
    return f"security_{request.module.__name__.rpartition('.')[2]}"


@pytest.fixture(scope="module")
def engine(
    request: pytest.FixtureRequest,
    servers: TestServers,
    database_name: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[EngineProcess]:
    """The shared engine; one of its own for a module with an ``ENVIRONMENT``, which is added to the configuration."""
    environment = _environment(request)
    if environment is None:
        shared: SharedEngine = request.getfixturevalue("shared_engine")
        yield shared.running()
    else:
        yield from paper_engine(servers, tmp_path_factory.mktemp(database_name), database_name, **environment)


@pytest.fixture(scope="module")
def people(request: pytest.FixtureRequest, engine: EngineProcess) -> Iterator[People]:
    signed_up = People(engine, of=request.module.__name__.rpartition(".")[2])
    yield signed_up
    signed_up.close()


@pytest.fixture(scope="module")
def alice(people: People) -> Person:
    return people("alice", "TRADER")


@pytest.fixture(scope="module")
def mallory(people: People) -> Person:
    return people("mallory", "TRADER")


@pytest.fixture(scope="module")
def viewer(people: People) -> Person:
    return people("viewer", "VIEWER")


@pytest.fixture(scope="module")
def belongings(engine: EngineProcess, alice: Person) -> Belongings:
    return Belongings(engine, alice)
