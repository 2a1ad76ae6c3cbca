"""Running rigs: engine in kite mode with a short horizon, exchange, one database and one journal."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import shifted_clock_engine, short_horizon_engine
from tests.support.engine import EngineProcess
from tests.support.exchange_process import ExchangeProcess
from tests.support.fault_rig import FaultRig
from tests.support.kite_mode import OPEN_LIMITS, kite_environment, set_up
from tests.support.servers import TestServers

HORIZON_S = 2.5


class ShortHorizonEngine(EngineProcess):
    """An engine that takes absence for proven after ``TEST_HORIZON_S`` seconds."""

    program = short_horizon_engine.PROGRAM


class ShiftedClockEngine(EngineProcess):
    """An engine whose wall clock is off by the seconds in the file ``TEST_CLOCK_FILE``; its horizon is short too."""

    program = shifted_clock_engine.PROGRAM


@contextmanager
def fault_rig(
    folder: Path,
    servers: TestServers,
    database: str,
    redis_url: str,
    *,
    engine_kind: type[EngineProcess] = ShortHorizonEngine,
    **env: str,
) -> Iterator[FaultRig]:
    """Run an engine and an exchange; *database* is the name of a database that is made and dropped."""
    url = servers.create_database(database)
    try:
        with ExchangeProcess(folder / "exchange") as exchange:
            environment = (
                {"ENGINE__DATABASE__URL": url, "ENGINE__REDIS__URL": redis_url, "TEST_HORIZON_S": str(HORIZON_S)}
                | {"ENGINE__BROKER__KITE__TIMEOUT_S": "1"}
                | kite_environment(exchange.base_url)
                | OPEN_LIMITS
                | {"ENGINE__RISK__MAX_OPEN_POSITIONS": "none", "ENGINE__RISK__CIRCUIT_BREAKER_FAILURES": "none"}
                | env
            )
            with engine_kind(folder / "engine", **environment) as engine:
                rig = FaultRig(engine, exchange, servers, database)
                rig.source = set_up(
                    engine,
                    api_key=exchange.api_key,
                    api_secret=exchange.api_secret,
                    access_token=exchange.login(),
                )
                rig.account = next(row["id"] for row in engine.get("/accounts") if row["broker"] == "kite")
                try:
                    yield rig
                finally:
                    rig.close()
    finally:
        servers.drop_database(database)
