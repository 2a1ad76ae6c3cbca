"""The instrument master: every tradable instrument, as the broker's daily dump has it.

Owns the `InstrumentBook` that risk decides by. Loaded at start and anew after 08:30 IST each trading
day (Kite makes the dump once a day); the last good one is kept when a load fails. Restart: permanent.
"""

from collections.abc import Awaitable, Callable
from datetime import date, datetime, time

import structlog
import trio

from engine.broker.base import Broker
from engine.clock import IST, Clock, trading_day
from engine.domain.enums import Exchange
from engine.domain.freeze import DEFAULTS, FreezeOrigin, FreezeQuantity, FreezeTable
from engine.domain.instruments import InstrumentBook
from engine.errors import EngineError

_log = structlog.get_logger(__name__)

_DUMP_AT = time(8, 30)
_RETRY_S = 2.0
_CHECK_S = 60.0
_LOAD_TIMEOUT_S = 60.0


class InstrumentMaster:
    """Holds the newest instrument book."""

    def __init__(self, *, any_broker: Callable[[], Awaitable[Broker | None]], clock: Clock) -> None:
        self._any_broker = any_broker
        self._clock = clock
        self.book = InstrumentBook(freeze=FreezeTable(DEFAULTS))
        self.loaded_for: date | None = None
        self.loaded_at: datetime | None = None
        self._loaded = trio.Event()
        self._retry = trio.Event()

    def try_now(self) -> None:
        """Somebody has logged in: do not wait with the next try."""
        self._retry.set()

    def learn_freeze(self, exchange: Exchange, symbol: str, quantity: int) -> bool:
        """Take in the freeze quantity that a refusal of an order of *symbol* named; whether it was news.

        At once, for every contract of the same underlying. What is less than a lot is not believed: it
        would stop all trading of it.
        """
        instrument = self.book.get(exchange, symbol)
        if instrument is None or quantity < instrument.lot_size or quantity == instrument.freeze_quantity:
            return False
        learned = FreezeQuantity(
            exchange=exchange,
            symbol=instrument.underlying or symbol,
            quantity=quantity,
            origin=FreezeOrigin.LEARNED,
            as_of=trading_day(self._clock.now()),
        )
        self.book.freeze = self.book.freeze.with_rows((learned,))
        _log.warning("freeze.learned", exchange=exchange.value, symbol=learned.symbol, quantity=quantity)
        return True

    async def wait_loaded(self, *, timeout_s: float) -> bool:
        """Wait for the first master; False when the deadline came first."""
        with trio.move_on_after(timeout_s):
            await self._loaded.wait()
        return self._loaded.is_set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Load the master and keep it of the day until cancelled."""
        task_status.started()
        while True:
            wanted = self._dump_day(self._clock.now())
            if self.loaded_for != wanted and not await self._load(wanted):
                with trio.move_on_after(_RETRY_S):
                    await self._retry.wait()
                self._retry = trio.Event()
                continue
            await trio.sleep(_CHECK_S)

    async def _load(self, wanted: date) -> bool:
        try:
            with trio.fail_after(_LOAD_TIMEOUT_S):
                broker = await self._any_broker()
                if broker is None:
                    return False
                instruments = await broker.instruments()
        except (EngineError, trio.TooSlowError) as error:
            _log.warning("instruments.not_loaded", error=str(error) or "too slow", have=len(self.book))
            return False
        if not instruments:
            return False
        book = await trio.to_thread.run_sync(InstrumentBook, instruments)
        # what was learned while it was built holds for it too
        book.freeze = self.book.freeze
        self.book = book
        self.loaded_for = wanted
        self.loaded_at = self._clock.now()
        self._loaded.set()
        _log.info("instruments.loaded", count=len(self.book), day=str(wanted))
        return True

    @staticmethod
    def _dump_day(now: datetime) -> date:
        local = now.astimezone(IST)
        if local.time() >= _DUMP_AT:
            return local.date()
        return date.fromordinal(local.date().toordinal() - 1)
