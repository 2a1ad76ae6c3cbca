"""Paper engines on the tests' servers: one that many modules share, and others for one module each."""

from collections.abc import Iterator
from pathlib import Path

from tests.support.engine import EngineProcess
from tests.support.servers import TestServers

# an engine that outlives its module has this number of the Valkey: two on one journal are each other's trouble
LONG_LIVED_REDIS_DB = 12
TELEGRAM_TOKEN = "telegram-secret-token-0123456789abcdefghij"
# so that a test can be somebody on another machine
METRICS_TOKEN = "metrics-token-of-32-characters-or-more"
# tests come from one address and for few people
_NO_LIMITS = {
    "ENGINE__TELEGRAM__SECRET_TOKEN": TELEGRAM_TOKEN,
    "ENGINE__LIMITS__LOGIN_PER_MINUTE": "1000",
    "ENGINE__LIMITS__API_PER_MINUTE": "100000",
}
DATABASE = "shared_engine"
_REDIS_NUMBER = 15


class SharedEngine:
    """An engine for the modules that need nothing of their own: started by the first, ended after the last of them.

    Whoever uses it leaves the default source, the global kill switch and the administrator's password alone, and makes
    people, accounts and sources of its own.
    """

    def __init__(self, servers: TestServers, folder: Path) -> None:
        self._servers = servers
        self._folder = folder
        self._engine: EngineProcess | None = None

    def running(self) -> EngineProcess:
        """Return it, started if it is not."""
        if self._engine is None:
            redis_url = f"{self._servers.redis_url}?db={_REDIS_NUMBER}"
            self._servers.flush(redis_url)
            # of a start that failed
            self._servers.drop_database(DATABASE)
            self._engine = EngineProcess(
                self._folder,
                ENGINE__DATABASE__URL=self._servers.create_database(DATABASE),
                ENGINE__REDIS__URL=redis_url,
                ENGINE__LIMITS__WEBHOOK_PER_MINUTE="100000",
                ENGINE__SERVER__TRUSTED_PROXIES='["127.0.0.1"]',
                ENGINE__SECURITY__METRICS_TOKEN=METRICS_TOKEN,
                **_NO_LIMITS,
            ).start()
        return self._engine

    def end(self) -> None:
        """End it, so that it takes no time from the tests that do without."""
        if self._engine is not None:
            self._engine.kill()
            self._engine = None
            self._servers.drop_database(DATABASE)


def paper_engine(
    servers: TestServers, folder: Path, name: str, *, redis_db: int = 0, **environment: str
) -> Iterator[EngineProcess]:
    """Run a paper engine with a database of its own; *name* is unique among the tests.

    Number 0 of the Valkey is for the engine of one module at a time.
    """
    url = servers.create_database(name)
    redis_url = f"{servers.redis_url}?db={redis_db}"
    servers.flush(redis_url)
    settings = {"ENGINE__DATABASE__URL": url, "ENGINE__REDIS__URL": redis_url} | _NO_LIMITS | environment
    with EngineProcess(folder, **settings) as engine:
        yield engine
    servers.drop_database(name)
