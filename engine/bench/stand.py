"""What a benchmark runs on: an engine and a broker, as processes of their own in a folder that goes afterwards.

No configured engine, store or account is touched: the engine starts its own servers, which sync as always, in the
folder, and trades nowhere but at the broker of the benchmark.
"""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import trio

from engine.bench.disk import fdatasync_ms
from engine.bench.figures import Matched, Received, Sent, match
from engine.bench.load import Load
from engine.bench.signals import signer
from engine.drill.child import Child, running
from engine.drill.desk import EngineSide, until
from engine.drill.no_limits import NO_LIMITS

_READY_S = 120.0
_CAPITAL = 1_000_000_000
_QUIET_S = 3.0
_SETTLED_S = 120.0
_LOOK_S = 0.1
_SIGN_IN_S = 200.0
_MAKERS = 8
_OPEN_CONNECTIONS = 64

_CONFIG = """
[server]
host = "127.0.0.1"
port = 0
[broker]
mode = "kite"
[broker.kite]
root_url = "{broker}"
ws_url = "{ws}"
orders_per_second = {orders_per_second}
orders_per_minute = {orders_per_minute}
orders_per_day = 100000000
[telegram]
mode = "off"
[signals]
max_age_s = {max_age_s}
{no_limits}
[limits]
webhook_per_minute = 100000000
api_per_minute = 100000000
login_per_minute = 100000
[market]
enforce_hours = false
auto_square_off = false
[security]
access_ttl_s = 86400
[logging]
dir = "{logs}"
"""


class BrokerSide:
    """The benchmark's broker, spoken to over its control routes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.AsyncClient(base_url=url, timeout=60, trust_env=False)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._client.aclose()

    async def count(self) -> int:
        """Return how many orders came since the last reset."""
        return int((await self._client.get("/_control/count")).text)

    async def received(self) -> list[Received]:
        """Return the orders that came since the last reset."""
        return msgspec.json.decode((await self._client.get("/_control/orders")).content, type=list[Received])

    async def reset(self) -> None:
        """Forget every order that came; small books of accounts stay as they are."""
        await self._client.post("/_control/reset")

    async def settled(self, wanted: int) -> None:
        """Wait until *wanted* orders have come, or none for some seconds."""
        seen, since = -1, trio.current_time()
        with trio.move_on_after(_SETTLED_S):
            while (now := await self.count()) < wanted and trio.current_time() - since < _QUIET_S:
                if now != seen:
                    seen, since = now, trio.current_time()
                await trio.sleep(_LOOK_S)


class Stand:
    """A running engine with its accounts, under the load of one source; ``pid`` is the engine's."""

    def __init__(self, engine: EngineSide, broker: BrokerSide, data_dir: Path, child: Child) -> None:
        self.engine = engine
        self.broker = broker
        self.data_dir = data_dir
        self._child = child
        self.ready_s = 0.0
        self.accounts: list[str] = []
        self._ids: list[str] = []
        self.strategy_id = ""
        self._source = ("", "")
        self._own: list[tuple[str, str]] = []
        self._next = 0
        self._credentials = ("", "")
        self._signed_in_at = 0.0

    @property
    def pid(self) -> int:
        """The engine's process."""
        return self._child.pid

    def kill(self) -> None:
        """SIGKILL the engine."""
        self._child.kill()

    async def sign_in(self, email: str = "", password: str = "") -> None:
        """Sign in, or again where the last time is long ago: what is dangerous wants a fresh sign-in."""
        if email:
            self._credentials = (email, password)
        if trio.current_time() - self._signed_in_at > _SIGN_IN_S or email:
            await self.engine.sign_in(*self._credentials)
            self._signed_in_at = trio.current_time()

    async def take_over(self, known: "Stand") -> None:
        """Go on with what an engine before this one had in the same folder."""
        self.accounts, self._ids, self.strategy_id = known.accounts, known._ids, known.strategy_id
        self._source, self._own, self._next = known._source, known._own, known._next
        await self.sign_in(*known._credentials)

    async def open_accounts(self, number: int, *, active: int | None = None) -> None:
        """Make accounts until there are *number*, of which the first *active* (None: all) take the signals."""
        missing = iter(range(len(self._ids), number))

        async def make() -> None:
            for n in missing:
                await self.sign_in()
                body = {
                    "label": _label(n),
                    "broker": "kite",
                    "capital": _CAPITAL,
                    "apiKey": f"benchkey{n:06d}",
                    "apiSecret": f"benchsecret{n:06d}",
                    "accessToken": f"benchtoken{n:06d}",
                }
                made[n] = (await self.engine.call("POST", "/accounts", body))["id"]

        made: dict[int, str] = {}
        async with trio.open_nursery() as nursery:
            for _ in range(_MAKERS):
                nursery.start_soon(make)
        self._ids += [made[n] for n in sorted(made)]
        chosen = self._ids[:active]
        if self.strategy_id:
            await self.engine.call("PATCH", f"/strategies/{self.strategy_id}", {"accounts": _targets(chosen)})
        else:
            self.strategy_id = await self._make_strategy("bench", chosen)
            self._source = await self._make_source("bench", self.strategy_id)
        self.count_on(len(chosen))
        await self._instruments_there()

    def count_on(self, number: int) -> None:
        """Expect an order of every signal on the first *number* accounts."""
        self.accounts = [f"benchkey{n:06d}" for n in range(number)]

    async def _instruments_there(self) -> None:

        async def look() -> Any:
            return (await self.engine.call("GET", "/system/metrics"))["instruments"]["count"]

        await until("the list of instruments", look, within_s=_READY_S)

    async def open_own_sources(self) -> None:
        """Give each account that signals go to a strategy and a source of its own, which it trades alone."""
        missing = iter(range(len(self._own), len(self.accounts)))
        made: dict[int, tuple[str, str]] = {}

        async def make() -> None:
            for n in missing:
                await self.sign_in()
                strategy = await self._make_strategy(f"bench {n}", self._ids[n : n + 1])
                made[n] = await self._make_source(f"bench {n}", strategy)

        async with trio.open_nursery() as nursery:
            for _ in range(_MAKERS):
                nursery.start_soon(make)
        self._own += [made[n] for n in sorted(made)]

    async def _make_strategy(self, name: str, account_ids: Sequence[str]) -> str:
        body = {
            "name": name,
            "enabled": True,
            "approval": "auto",
            "defaults": {"exchange": "NSE", "productType": "MIS", "orderType": "LIMIT"},
            "accounts": _targets(account_ids),
        }
        return str((await self.engine.call("POST", "/strategies", body))["id"])

    async def _make_source(self, name: str, strategy_id: str) -> tuple[str, str]:
        made = await self.engine.call("POST", "/sources", {"type": "sheets", "strategyId": strategy_id, "name": name})
        return made["apiKey"], made["secret"]

    def load(self, *, connections: int, one_each: bool = False) -> Load:
        """Return a load whose signals no run had before; with *one_each* each is for one account, all in turn."""
        sources = self._own[: len(self.accounts)] if one_each else [self._source]
        makes = [signer(self.engine.base_url, *source) for source in sources]

        def make(number: int) -> bytes:
            return makes[number % len(makes)](number)

        return Load(self.engine.base_url, make, connections=connections, first=self._next)

    async def run(self, load: Load, drive: Callable[[], list[Sent]], *, one_each: bool = False) -> Matched:
        """Run *drive*, one of *load*'s, and hold what it sent against what the broker got."""
        accounts = self.accounts

        def accounts_of(number: int) -> list[str]:
            return [accounts[number % len(accounts)]] if one_each else accounts

        await self.broker.reset()
        try:
            sent = await trio.to_thread.run_sync(drive, abandon_on_cancel=True)
        finally:
            load.stop()
        self._next += len(sent)
        await self.broker.settled(sum(len(accounts_of(each.number)) for each in sent if each.accepted))
        return match(sent, await self.broker.received(), accounts_of)

    async def open_loop(
        self, rate: float, seconds: float, *, load: Load | None = None, one_each: bool = False
    ) -> Matched:
        """Send *rate* a second for *seconds*."""
        load = load or self.load(connections=_OPEN_CONNECTIONS, one_each=one_each)
        return await self.run(load, partial(load.open_loop, rate, seconds), one_each=one_each)

    async def closed_loop(self, seconds: float, *, connections: int = 32, load: Load | None = None) -> Matched:
        """Send for *seconds* as fast as *connections* are answered."""
        load = load or self.load(connections=connections)
        return await self.run(load, partial(load.closed_loop, seconds))

    async def burst(self, signals: int, *, connections: int = 1, one_each: bool = False) -> Matched:
        """Send *signals* as fast as they are answered."""
        load = self.load(connections=connections, one_each=one_each)
        return await self.run(load, partial(load.burst, signals), one_each=one_each)

    async def fdatasync(self) -> dict[str, float]:
        """Return what the disk below the engine's data takes, in ms."""
        return await trio.to_thread.run_sync(fdatasync_ms, self.data_dir)


@asynccontextmanager
async def running_broker(folder: Path, *, delay_ms: float = 0.0) -> AsyncIterator[BrokerSide]:
    """Run the benchmark's broker for the block."""
    async with running("broker", ["bench-broker", "--delay-ms", str(delay_ms)], folder, whose="benchmark") as child:
        side = BrokerSide((await child.said(r"broker ready (\S+)", within_s=_READY_S))[1])
        try:
            yield side
        finally:
            with trio.move_on_after(1.0, shield=True):
                await side.aclose()


@asynccontextmanager
async def running_engine(
    folder: Path,
    broker: BrokerSide,
    *,
    orders_per_second: int = 100_000,
    max_age_s: int = 60,
    known: Stand | None = None,
) -> AsyncIterator[Stand]:
    """Run an engine in *folder* for the block; *known* is the one that ran there before, whose accounts are there."""
    settings = _CONFIG.format(
        broker=broker.url,
        ws=broker.url.replace("http", "ws", 1),
        logs=folder / "logs",
        no_limits=NO_LIMITS,
        orders_per_second=orders_per_second,
        orders_per_minute=orders_per_second * 60,
        max_age_s=max_age_s,
    )
    config, data_dir = folder / "engine.toml", folder / "data"
    config.write_text(settings)
    arguments = ["run", "--config", str(config), "--data-dir", str(data_dir), "--port", "0"]
    began = time.monotonic()
    async with running("engine", arguments, folder, whose="benchmark") as child:
        url = (await child.said(r"engine ready (\S+)", within_s=_READY_S))[1]
        ready_s = time.monotonic() - began
        side = EngineSide(url)
        stand = Stand(side, broker, data_dir, child)
        stand.ready_s = ready_s
        try:
            if known is None:
                who = await child.said(r"first administrator: (\S+)  password: (\S+)", within_s=_READY_S)
                await stand.sign_in(who[1], who[2])
            else:
                await stand.take_over(known)
            yield stand
        finally:
            with trio.move_on_after(1.0, shield=True):
                await side.aclose()


def _targets(account_ids: Sequence[str]) -> list[dict[str, Any]]:
    return [{"accountId": each, "sizing": {"mode": "multiplier", "value": 1}} for each in account_ids]


def _label(number: int) -> str:
    return f"bench-{number}"
