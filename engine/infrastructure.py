"""The servers that the engine brings along: PostgreSQL, Valkey and, in paper mode, the exchange.

They are children of the supervision tree and are restarted for as long as the engine runs: accepting
goes on with the other store meanwhile.
"""

from pathlib import Path
from typing import Any

import trio

from engine.clock import Clock
from engine.config import Config
from engine.domain.directory import Account
from engine.embedded.postgres import EmbeddedPostgres
from engine.embedded.valkey import EmbeddedValkey
from engine.errors import EngineError, StartupError
from engine.exchange.config import ExchangeConfig
from engine.exchange.core import Exchange
from engine.exchange.server import ExchangeServer
from engine.runtime.child import Backoff, ChildSpec
from engine.runtime.supervisor import Strategy, Supervisor
from engine.store.database import APP_ROLE

_ADMIT_WITHIN_S = 10.0
_PATIENCE: dict[str, Any] = {"max_restarts": float("inf"), "backoff": Backoff(initial=0.2, max=5.0)}


class Infrastructure:
    """The supervisor ``infrastructure`` and its servers."""

    def __init__(self, config: Config, data_dir: Path, clock: Clock) -> None:
        self._config = config
        self._data_dir = data_dir
        self.supervisor = Supervisor("infrastructure", Strategy.ONE_FOR_ONE)
        self._postgres = EmbeddedPostgres(data_dir) if config.database.is_embedded else None
        self._valkey = EmbeddedValkey(data_dir) if config.redis.is_embedded else None
        self._exchange: ExchangeServer | None = None
        if config.broker.mode == "paper":
            record = data_dir / "exchange" / "record.jsonl"
            self._exchange = ExchangeServer(ExchangeConfig(record_path=record, token_expiry=False), clock)
        self._exchange_port = 0
        self.exchange_url: str | None = None

    @property
    def database_url(self) -> str:
        """Where PostgreSQL is, the embedded one or the configured one, for the engine's work."""
        return self._postgres.url_as(APP_ROLE) if self._postgres else self._config.database.url

    @property
    def owner_url(self) -> str:
        """The same database for the login that owns the schema and migrates it."""
        if self._postgres is not None:
            return self._postgres.url()
        return self._config.database.owner_url or self._config.database.url

    @property
    def redis_url(self) -> str:
        """Where Valkey is: the embedded one or the configured one."""
        return self._valkey.engine_url() if self._valkey else self._config.redis.url

    @property
    def exchange(self) -> Exchange | None:
        """The paper exchange's core, for the demo; None in kite mode. Raises ExchangeError before it runs."""
        return None if self._exchange is None else self._exchange.exchange

    @property
    def is_embedded(self) -> bool:
        """Whether a store of the engine's own is in its data directory."""
        return self._postgres is not None or self._valkey is not None

    @property
    def database_wait_s(self) -> float:
        """Seconds to wait for PostgreSQL: somebody else's server may just be starting with the box."""
        return 10.0 if self._postgres else 3.0

    async def start(self) -> None:
        """Start the stores at once; the supervisor runs already. Raises StartupError."""
        specs = []
        if self._postgres is not None:
            specs.append(ChildSpec(name="postgres", start=self._postgres.run, shutdown_s=12, **_PATIENCE))
        if self._valkey is not None:
            specs.append(ChildSpec(name="valkey", start=self._valkey.run, shutdown_s=12, **_PATIENCE))
        async with trio.open_nursery() as starting:
            for spec in specs:
                starting.start_soon(self.supervisor.add_child, spec)
        if self._postgres is not None:
            try:
                with trio.fail_after(_ADMIT_WITHIN_S):
                    await self._postgres.admit(APP_ROLE)
            except (OSError, EngineError, trio.TooSlowError) as error:
                raise StartupError(f"the embedded PostgreSQL does not make the engine's login: {error}") from error

    async def start_exchange(self) -> None:
        """Start the paper exchange; an engine on standby has none, for it would answer from an old record."""
        if self._exchange is not None:
            await self.supervisor.add_child(ChildSpec(name="exchange", start=self._run_exchange, **_PATIENCE))

    async def _run_exchange(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        assert self._exchange is not None  # noqa: S101 -- narrows the type
        (self._data_dir / "exchange").mkdir(mode=0o700, exist_ok=True)

        class Announce:
            def started(_self, url: str | None = None) -> None:
                # the same port after a restart of the exchange: sessions hold its address
                self.exchange_url = url
                self._exchange_port = int(str(url).rpartition(":")[2])
                task_status.started()

        await self._exchange.run(port=self._exchange_port, task_status=Announce())

    def open_paper_account(self, account: Account) -> None:
        """Let the exchange know a paper account; doing it again changes nothing."""
        if account.broker == "paper" and self._exchange is not None and account.api_secret is not None:
            user_id = f"PA{account.id.hex[-8:].upper()}"
            self._exchange.add_account(account.api_key, account.api_secret.reveal(), user_id, account.capital)
