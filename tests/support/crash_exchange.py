"""The exchange of the crash tests: a process of its own, which no engine's death touches.

    python -m tests.support.crash_exchange RECORD WITNESS DATABASE_URL SEED

Its record, fsynced before any answer, is the truth. On every order that arrives it first looks into the
engine's database for a row with the order's tag, as any other program would see it at that moment, and writes
what it saw to WITNESS: that is how an order is caught whose write-ahead was not committed before it was sent.
"""

import asyncio
import json
import sys
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import asyncpg
import trio
from quart import request

import engine.exchange.server as exchange_server
from engine.clock import SystemClock
from engine.exchange.config import ExchangeConfig, Limits
from engine.exchange.fast_lane import FastLane

API_KEY = "crashkey"
API_SECRET = "crash-exchange-secret-7f3a91"
USER_ID = "CR0001"


class Witness:
    """Looks up tags in the engine's database, on a thread and a loop of its own."""

    def __init__(self, database_url: str, path: Path) -> None:
        self._url = database_url
        self._file = path.open("a")
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._connection: Any = None
        self._one_at_a_time = asyncio.Lock()

    async def _status(self, tag: str) -> str | None:
        async with self._one_at_a_time:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(self._url, timeout=5, command_timeout=5)
            found: str | None = await self._connection.fetchval("SELECT status FROM orders WHERE tag = $1", tag)
            return found

    def look(self, tag: str) -> None:
        """Write down what the database has of *tag*; blocks."""
        try:
            seen = asyncio.run_coroutine_threadsafe(self._status(tag), self._loop).result(10)
        except Exception as error:  # the test reads it as "nothing was seen"
            seen = None
            sys.stderr.write(f"witness: {error!r}\n")
        self._file.write(json.dumps({"tag": tag, "seen": seen}) + "\n")
        self._file.flush()


def watch(witness: Witness) -> None:
    """Have every order that arrives looked up before the exchange decides about it."""
    build = exchange_server.build_app

    def build_watched(*arguments: Any, **options: Any) -> Any:
        app = build(*arguments, **options)

        @app.before_request
        async def look() -> None:
            if request.method == "POST" and request.path.startswith("/orders/"):
                body = await request.get_data(cache=True, as_text=False, parse_form_data=False)
                tag = parse_qs(body.decode()).get("tag", [""])[0]
                await trio.to_thread.run_sync(witness.look, tag)

        return app

    exchange_server.build_app = build_watched
    # the fast lane would answer without them: every request takes the routes
    FastLane.answer = lambda *_: None


async def main(record: Path, seed: int) -> None:
    """Serve until killed."""
    config = ExchangeConfig(
        seed=seed,
        record_path=record,
        limits=Limits(enabled=False),
        control_routes=True,
        token_expiry=False,
        partial_fills=bool(seed % 2),
        tick_interval_s=0.5,
    )
    server = exchange_server.ExchangeServer(config, SystemClock())
    server.add_account(API_KEY, API_SECRET, USER_ID, Decimal(10**12))
    async with trio.open_nursery() as nursery:
        print(f"exchange ready {await nursery.start(server.run)}", flush=True)


if __name__ == "__main__":
    watch(Witness(sys.argv[3], Path(sys.argv[2])))
    trio.run(main, Path(sys.argv[1]), int(sys.argv[4]))
