"""The instrument master: every tradable instrument, as the broker's daily dump has it.

Owns the `InstrumentBook` that risk decides by. Loaded at start and anew after 08:30 IST each trading
day (Kite makes the dump once a day); the last good one is kept when a load fails, or when the new one cannot
be whole. Restart: permanent.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime, time

import structlog
import trio

from engine.broker.base import Broker
from engine.clock import IST, Clock, trading_day
from engine.domain.enums import Exchange
from engine.domain.freeze import DEFAULTS, FreezeOrigin, FreezeQuantity, FreezeTable
from engine.domain.instrument_index import InstrumentIndex
from engine.domain.instruments import Instrument, InstrumentBook
from engine.errors import EngineError

_log = structlog.get_logger(__name__)

_DUMP_AT = time(8, 30)
_RETRY_S = 2.0
_CHECK_S = 60.0
_LOAD_TIMEOUT_S = 60.0
# a whole dump is about 100,000 rows: asking for a broken one again and again helps nobody
_REFUSED_RETRY_S = 300.0
_WITH_A_BOOK_RETRY_S = 60.0
_LEAST_SHARE = 0.5


def _no_alert(_subject: str, _text: str) -> None:
    return None


def _not_kept(_row: FreezeQuantity) -> None:
    return None


class InstrumentMaster:
    """Holds the newest instrument book; ``on_learned`` keeps what refusals teach."""

    def __init__(
        self,
        *,
        any_broker: Callable[[], Awaitable[Broker | None]],
        clock: Clock,
        alert: Callable[[str, str], None] = _no_alert,
    ) -> None:
        self._any_broker = any_broker
        self._clock = clock
        self._alert = alert
        self.on_learned: Callable[[FreezeQuantity], None] = _not_kept
        self.index = InstrumentIndex()
        self._refused_for: date | None = None
        self._pause_s = _RETRY_S
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
        self.on_learned(learned)
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
                with trio.move_on_after(self._pause_s):
                    await self._retry.wait()
                self._retry = trio.Event()
                continue
            await trio.sleep(_CHECK_S)

    async def _load(self, wanted: date) -> bool:
        self._pause_s = _WITH_A_BOOK_RETRY_S if len(self.book) else _RETRY_S
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
        fault = self._fault(instruments)
        if fault is not None:
            self._refuse(wanted, fault)
            return False
        book = await trio.to_thread.run_sync(InstrumentBook, instruments)
        index = await trio.to_thread.run_sync(InstrumentIndex, instruments)
        # what was learned while it was built holds for it too
        book.freeze = self.book.freeze
        self.book, self.index = book, index
        self.loaded_for = wanted
        self.loaded_at = self._clock.now()
        self._loaded.set()
        _log.info("instruments.loaded", count=len(self.book), day=str(wanted))
        return True

    def _fault(self, instruments: Sequence[Instrument]) -> str | None:
        """Return why a dump cannot be whole, or None."""
        if not any(instrument.is_tradable for instrument in instruments):
            return "it lists nothing that can be traded"
        if len(instruments) < len(self.book) * _LEAST_SHARE:
            return f"it has {len(instruments)} instruments, the one before had {len(self.book)}"
        return None

    def _refuse(self, wanted: date, fault: str) -> None:
        self._pause_s = _REFUSED_RETRY_S
        _log.error("instruments.refused", reason=fault, day=str(wanted))
        if self._refused_for != wanted:
            self._refused_for = wanted
            kept = f"that of {self.loaded_for} stays in use" if self.loaded_for else "none is in use"
            self._alert("instruments", f"the instrument dump of {wanted} is not believed: {fault}; {kept}")

    @staticmethod
    def _dump_day(now: datetime) -> date:
        local = now.astimezone(IST)
        if local.time() >= _DUMP_AT:
            return local.date()
        return date.fromordinal(local.date().toordinal() - 1)
