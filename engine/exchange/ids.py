"""Order, exchange and trade ids: strings of digits, never repeated within one record.

The 19-digit order ids are snowflakes with Twitter's epoch, ``(id >> 22) + 1288834974657`` being
milliseconds since 1970 (kite.md 0.6); the older form is ``yymmdd`` and nine digits.
"""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from engine.clock import IST

SNOWFLAKE_EPOCH_MS = 1_288_834_974_657
_UNIX = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def next_snowflake(last: int, now: datetime) -> int:
    """Return the smallest snowflake of *now* that is above *last* (0 when there is none)."""
    milliseconds = (now - _UNIX) // _MILLISECOND
    return max(last + 1, (milliseconds - SNOWFLAKE_EPOCH_MS) << 22)


def next_dated(last: int, now: datetime) -> int:
    """Return the smallest 15-digit id of *now*'s IST date that is above *last*."""
    return max(last + 1, int(now.astimezone(IST).strftime("%y%m%d")) * 10**9 + 1)


def snowflake_time(order_id: str) -> datetime:
    """Return the instant (UTC, whole milliseconds) that a 19-digit order id was made."""
    return _UNIX + ((int(order_id) >> 22) + SNOWFLAKE_EPOCH_MS) * _MILLISECOND


def exchange_order_id(number: int, now: datetime) -> str:
    """Return the exchange's 16-digit id of its *number*-th order."""
    return f"1{_day_code(now.astimezone(IST).date())}{number:09d}"


def trade_id(number: int) -> str:
    """Return the exchange's 8-digit id of its *number*-th trade."""
    return str(10_000_000 + number)


@lru_cache(maxsize=8)
def _day_code(day: date) -> str:
    return f"{day:%y%m%d}"
