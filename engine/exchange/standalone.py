"""The exchange alone, as a process of its own: one account, signals end it."""

import secrets
import signal
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

import trio

from engine.clock import SystemClock
from engine.exchange.config import ExchangeConfig
from engine.exchange.events import AccountOpened
from engine.exchange.faults import FaultRule
from engine.exchange.record import read_record
from engine.exchange.server import ExchangeServer

USER_ID = "PAPER1"


async def serve_standalone(
    host: str,
    port: int,
    record_path: Path | None,
    seed: int,
    capital: Decimal,
    announce: Callable[[str], None],
    *,
    config: ExchangeConfig | None = None,
    faults: Sequence[FaultRule] = (),
) -> None:
    """Serve one exchange until SIGTERM or SIGINT; *faults* are rules by which it misbehaves.

    Announces the lines ``api_key K``, ``api_secret S`` and, once it listens, ``exchange ready
    http://HOST:PORT``. The keys are kept in the record: a restart announces the same ones. *config*
    gives the rest of the behaviour; its seed and record are replaced by *seed* and *record_path*.
    """
    behaviour = _with(config or ExchangeConfig(), seed, record_path)
    api_key, api_secret = await trio.to_thread.run_sync(_keys, record_path)
    server = ExchangeServer(behaviour, SystemClock(), faults=faults)
    server.add_account(api_key, api_secret, USER_ID, capital)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            announce(f"api_key {api_key}")
            announce(f"api_secret {api_secret}")

            async def stop_on_signal() -> None:
                async for _ in signals:
                    server.stop()

            async def serve(task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
                await server.run(host=host, port=port, task_status=task_status)
                nursery.cancel_scope.cancel()

            nursery.start_soon(stop_on_signal)
            announce(f"exchange ready {await nursery.start(serve)}")


def _with(config: ExchangeConfig, seed: int, record_path: Path | None) -> ExchangeConfig:
    fields = {name: getattr(config, name) for name in config.__struct_fields__}
    return ExchangeConfig(**{**fields, "seed": seed, "record_path": record_path})


def _keys(record_path: Path | None) -> tuple[str, str]:
    if record_path is not None:
        for event in reversed(read_record(record_path)):
            if isinstance(event, AccountOpened) and event.user_id == USER_ID:
                return event.api_key, event.api_secret
    return secrets.token_hex(8), secrets.token_hex(16)
