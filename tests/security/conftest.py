"""A real engine for each module of attacks, and the people that they are aimed at."""

from collections.abc import Iterator

import pytest

from tests.support.engine import EngineProcess
from tests.support.intruder import People
from tests.support.servers import TestServers
from tests.support.shared_engine import TELEGRAM_TOKEN


@pytest.fixture(scope="module")
def database_name(request: pytest.FixtureRequest) -> str:
    return f"security_{request.module.__name__.rpartition('.')[2]}"


@pytest.fixture(scope="module")
def engine(
    request: pytest.FixtureRequest,
    servers: TestServers,
    database_name: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[EngineProcess]:
    """An engine of the module's own; what it sets in ``ENVIRONMENT`` is added to the configuration."""
    redis_url = f"{servers.redis_url}?db=0"
    servers.flush(redis_url)
    environment = {
        "ENGINE__DATABASE__URL": servers.create_database(database_name),
        "ENGINE__REDIS__URL": redis_url,
        "ENGINE__TELEGRAM__SECRET_TOKEN": TELEGRAM_TOKEN,
        "ENGINE__LIMITS__LOGIN_PER_MINUTE": "1000",
        "ENGINE__LIMITS__API_PER_MINUTE": "100000",
    }
    servers.flush(redis_url)
    environment |= getattr(request.module, "ENVIRONMENT", {})
    with EngineProcess(tmp_path_factory.mktemp(database_name), **environment) as running:
        yield running
    servers.drop_database(database_name)


@pytest.fixture(scope="module")
def people(engine: EngineProcess) -> Iterator[People]:
    signed_up = People(engine)
    yield signed_up
    signed_up.close()
