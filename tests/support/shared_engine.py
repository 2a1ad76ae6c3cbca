"""One paper engine on the tests' servers, shared by the tests of a module."""

from collections.abc import Iterator
from pathlib import Path

from tests.support.engine import EngineProcess
from tests.support.servers import TestServers

TELEGRAM_TOKEN = "telegram-secret-token-0123456789abcdefghij"


def paper_engine(servers: TestServers, folder: Path, name: str, **environment: str) -> Iterator[EngineProcess]:
    """Run a paper engine with a database of its own; *name* is unique among the tests."""
    url = servers.create_database(name)
    redis_url = f"{servers.redis_url}?db=0"
    servers.flush(redis_url)
    engine = EngineProcess(
        folder,
        ENGINE__DATABASE__URL=url,
        ENGINE__REDIS__URL=redis_url,
        ENGINE__TELEGRAM__SECRET_TOKEN=TELEGRAM_TOKEN,
        ENGINE__LIMITS__LOGIN_PER_MINUTE="1000",
        ENGINE__LIMITS__API_PER_MINUTE="100000",
        **environment,
    )
    with engine:
        yield engine
    servers.drop_database(name)
