"""Request budgets as Kite counts them: calendar seconds and minutes of the server's clock, IST days."""

from datetime import date, datetime, timedelta

from engine.clock import trading_day
from engine.exchange.config import Limits
from engine.exchange.errors import order_cap, too_many


class _Bucket:
    __slots__ = ("count", "window")

    def __init__(self) -> None:
        self.window: int | date = 0
        self.count = 0

    def spend(self, window: int | date, limit: int) -> bool:
        """Count one request in *window*; False when that is over *limit*."""
        if window != self.window:
            self.window, self.count = window, 0
        self.count += 1
        return self.count <= limit


class RateLimiter:
    """Counts requests. A bucket passed over stays shut for ``penalty_s``; the day's cap until midnight."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buckets: dict[tuple[str, str], _Bucket] = {}
        self._shut_until: dict[tuple[str, str], datetime] = {}

    def write(self, user_id: str, now: datetime) -> None:
        """Count a place, modify or cancel of an account; raises KiteRefusal 429 when it is one too many."""
        if not self._limits.enabled:
            return
        name = ("orders", user_id)
        self._check_penalty(name, now)
        second = int(now.timestamp())
        if not self._bucket("second", user_id).spend(second, self._limits.orders_per_second):
            self._shut(name, now)
            raise too_many()
        if not self._bucket("minute", user_id).spend(second // 60, self._limits.orders_per_minute):
            self._shut(name, now)
            raise order_cap()
        if not self._bucket("day", user_id).spend(trading_day(now), self._limits.orders_per_day):
            raise order_cap()

    def restore_write(self, user_id: str, at: datetime) -> None:
        """Count a request of the record towards the cap of its day."""
        self._bucket("day", user_id).spend(trading_day(at), self._limits.orders_per_day)

    def quote(self, caller: str, now: datetime) -> None:
        """Count a request of quotes; raises KiteRefusal 429 when it is one too many."""
        self._read("quotes", caller, self._limits.quotes_per_second, now)

    def history(self, caller: str, now: datetime) -> None:
        """Count a request of candles; raises KiteRefusal 429 when it is one too many."""
        self._read("history", caller, self._limits.historical_per_second, now)

    def read(self, caller: str, now: datetime) -> None:
        """Count any other read; raises KiteRefusal 429 when it is one too many."""
        self._read("reads", caller, self._limits.reads_per_second, now)

    def _read(self, kind: str, caller: str, limit: int, now: datetime) -> None:
        if not self._limits.enabled:
            return
        name = (kind, caller)
        self._check_penalty(name, now)
        if not self._bucket(kind, caller).spend(int(now.timestamp()), limit):
            self._shut(name, now)
            raise too_many()

    def _bucket(self, kind: str, caller: str) -> _Bucket:
        return self._buckets.setdefault((kind, caller), _Bucket())

    def _shut(self, name: tuple[str, str], now: datetime) -> None:
        self._shut_until[name] = now + timedelta(seconds=self._limits.penalty_s)

    def _check_penalty(self, name: tuple[str, str], now: datetime) -> None:
        until = self._shut_until.get(name)
        if until is not None:
            if now < until:
                raise too_many()
            del self._shut_until[name]
