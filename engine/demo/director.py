"""The director of the demo: plays a seeded day on the paper exchange, then goes on gently with further ones.

Every signal takes the road of any other: a delivery of its source through ingest, risk and the executors. Prices are
set at the exchange by the script. No mailbox. Restart: permanent; a day that was broken off is not begun again.
"""

import hashlib
from uuid import UUID

import structlog
import trio

from engine.assembly import Trading
from engine.clock import Clock
from engine.demo import script
from engine.demo.script import Act, Answer, Day, Drill, Say, Send, Thin
from engine.domain.delivery import Delivery, Item
from engine.domain.directory import Directory, Source
from engine.domain.enums import KillMode, KillState
from engine.domain.signal import Refusal, Signal
from engine.errors import EngineError
from engine.exchange.core import Exchange
from engine.ids import intent_id, uuid7
from engine.signals.text import parse_text

_log = structlog.get_logger(__name__)

DAY_S = 240.0
"""How long the first day takes, seconds."""
_GENTLE = 8
_FLAT_S = 30.0
_LOOK_S = 0.2
_BY = "demo"
_DONE = frozenset({KillState.FLAT_VERIFIED, KillState.FLAT_FAILED, KillState.ARMED})


class Director:
    """Plays the days of *seed*, the first in *day_s* seconds unless it *was_played* in an earlier life."""

    def __init__(
        self,
        *,
        trading: Trading,
        directory: Directory,
        exchange: Exchange,
        clock: Clock,
        seed: int,
        day_s: float = DAY_S,
        was_played: bool = False,
    ) -> None:
        self._trading = trading
        self._directory = directory
        self._exchange = exchange
        self._clock = clock
        self._seed = seed
        self._day_s = day_s
        self._day = 1 if was_played else 0
        self._waiting: list[tuple[UUID, UUID]] = []

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Play until cancelled."""
        task_status.started()
        listed = self._exchange.roll(self._clock.now()).by_key
        bases = {symbol: listed[f"NSE:{symbol}"].last_price for symbol in script.SYMBOLS}
        async with trio.open_nursery() as nursery:
            while True:
                is_first = self._day == 0
                day = script.day(self._seed + self._day, bases, first_number=self._next_number(), is_first=is_first)
                # before it is played: an engine that is started again goes on with another
                self._day += 1
                await self._play(day, self._day_s * (1 if is_first else _GENTLE), nursery)
                # the next one begins where this one ended
                bases = {symbol: day.prices[symbol][-1] for symbol in script.SYMBOLS} if is_first else bases

    def _next_number(self) -> int:
        last = self._trading.source_watch.heard_of(self._source(script.MOMENTUM).id).last_sequence
        return 0 if last is None else last + 1

    async def _play(self, day: Day, length_s: float, nursery: trio.Nursery) -> None:
        begun = trio.current_time()
        acts = iter(day.acts)
        coming = next(acts, None)
        for minute in range(script.MINUTES):
            await trio.sleep_until(begun + minute * length_s / script.MINUTES)
            for symbol, prices in day.prices.items():
                self._exchange.market.pin(f"NSE:{symbol}", prices[minute])
            while coming is not None and coming[0] <= minute:
                act, coming = coming[1], next(acts, None)
                if isinstance(act, Drill):
                    # it takes seconds to be proven flat: the day goes on meanwhile
                    nursery.start_soon(self._do, act)
                else:
                    await self._do(act)

    async def _do(self, act: Act) -> None:
        try:
            await self._act(act)
        except EngineError as refusal:
            # a scene may be one that is refused, and no scene ends the play
            _log.info("demo.refused", act=type(act).__name__, why=str(refusal))

    async def _act(self, act: Act) -> None:
        match act:
            case Send(source=name, signal=signal, number=number):
                await self._send(self._source(name), signal, number)
            case Say(source=name, text=text):
                source = self._source(name)
                for found in parse_text(text):
                    if not isinstance(found, Refusal):
                        self._waiting.append((source.user_id, await self._send(source, found, None)))
            case Answer(approve=approve):
                await self._answer(approve=approve)
            case Thin(symbol=symbol, quantity=None):
                self._exchange.desk.liquidity.pop(f"NSE:{symbol}", None)
            case Thin(symbol=symbol, quantity=int() as quantity):
                self._exchange.desk.liquidity[f"NSE:{symbol}"] = quantity
            case Drill(account=label, on=on):
                await self._drill(label, on=on)

    def _source(self, name: str) -> Source:
        for source in self._directory.sources.values():
            if source.name == name and source.enabled:
                return source
        raise EngineError(f"the source {name} is gone")

    async def _send(self, source: Source, signal: Signal, number: int | None) -> UUID:
        key = f"demo:{uuid7()}"
        delivery = Delivery(
            source_id=source.id,
            strategy_id=source.strategy_id,
            user_id=source.user_id,
            idempotency_key=key,
            body_sha256=hashlib.sha256(key.encode()).digest(),
            received_at=self._clock.now(),
            request_id=None,
            items=(Item(position=0, signal=signal),),
        )
        await self._trading.ingest.accept(delivery)
        self._trading.source_watch.signals_came(source, () if number is None else (number,), repeat=False)
        return intent_id(source.id, key, 0)

    async def _answer(self, *, approve: bool) -> None:
        if not self._waiting:
            return
        user_id, intent = self._waiting.pop(0)
        approvals = self._trading.crew.risk(user_id).approvals
        if approve:
            await approvals.approve(intent, by=f"user:{user_id}")
        else:
            await approvals.reject(intent, by=f"user:{user_id}", reason="not today")

    async def _drill(self, label: str, *, on: bool) -> None:
        guardian = self._trading.guardian
        for account in self._directory.accounts.values():
            if account.label != label:
                continue
            scope = f"account:{account.id}"
            if on:
                await guardian.block(scope, reason="a drill of the demo", actor=_BY, mode=KillMode.SQUARE_OFF)
                return
            with trio.move_on_after(_FLAT_S):
                while (held := guardian.switches.records.get(scope)) is not None and held.state not in _DONE:  # noqa: ASYNC110
                    await trio.sleep(_LOOK_S)
            await guardian.release(scope, reason="the drill is over: proven flat", actor=_BY)
