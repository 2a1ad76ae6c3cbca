"""Prices out of a file: a replayed CSV in place of the seeded process, for the instruments it names.

The columns are ``time,instrument,price`` and, if wanted, ``volume``, with that header. ``time`` is ISO 8601
(``2026-11-23 09:15:00``; without an offset it is IST), ``instrument`` is ``EXCHANGE:SYMBOL``, ``price`` rupees, and
``volume`` the units traded so far that day. A price holds until the instrument's next row; before the
first row the first price holds.
"""

import csv
from bisect import bisect_left, bisect_right
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path

import msgspec

from engine.clock import IST
from engine.exchange.config import ExchangeError

COLUMNS = ("time", "instrument", "price")


class Print(msgspec.Struct, frozen=True):
    """One row: at an instant, a price in rupees and the day's volume so far (None: not told)."""

    at: datetime
    price: Decimal
    volume: int | None


class Replay:
    """The rows of a file, by instrument and in the order of time."""

    def __init__(self, prints: dict[str, list[Print]]) -> None:
        self._prints = prints
        self._times = {key: [row.at for row in rows] for key, rows in prints.items()}

    @property
    def starts_at(self) -> datetime:
        """The instant of the earliest row."""
        return min(times[0] for times in self._times.values())

    @property
    def keys(self) -> frozenset[str]:
        """The instruments that the file names."""
        return frozenset(self._prints)

    def __contains__(self, key: str) -> bool:
        return key in self._prints

    def at(self, key: str, now: datetime) -> Print:
        """Return the row that holds at *now*; *key* must be in the file."""
        return self._prints[key][max(bisect_right(self._times[key], now) - 1, 0)]

    def between(self, key: str, start: datetime, end: datetime) -> list[Print]:
        """Return the rows from *start* on and before *end*."""
        times = self._times[key]
        return self._prints[key][bisect_left(times, start) : bisect_left(times, end)]

    def closes(self, day: date) -> dict[str, Decimal]:
        """Return each instrument's close before an IST day: its last price earlier, else its first."""
        midnight = datetime.combine(day, time(), IST)
        return {
            key: rows[max(bisect_left(self._times[key], midnight) - 1, 0)].price for key, rows in self._prints.items()
        }


def read_replay(path: Path) -> Replay:
    """Return the replay of the file at *path*; blocks. Raises ExchangeError naming the line and the mend."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            absent = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if absent:
                raise ExchangeError(f"{path}: no column {absent[0]!r}; write the header time,instrument,price[,volume]")
            prints: dict[str, list[Print]] = {}
            for row in reader:
                prints.setdefault(row["instrument"] or "", []).append(_read(path, reader.line_num, row))
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise ExchangeError(f"the replay {path} cannot be read: {exc}") from exc
    if not prints:
        raise ExchangeError(f"{path}: no rows; add at least one price")
    for rows in prints.values():
        if any(later.at < earlier.at for earlier, later in pairwise(rows)):
            rows.sort(key=lambda row: row.at)
    return Replay(prints)


def _read(path: Path, line: int, row: dict[str, str | None]) -> Print:
    try:
        at = datetime.fromisoformat(row["time"] or "")
        volume = int(row["volume"]) if row.get("volume") else None  # type: ignore[arg-type]
    except ValueError as exc:
        raise ExchangeError(f"{path}, line {line}: {exc}; write time,EXCHANGE:SYMBOL,price[,volume]") from exc
    try:
        price = Decimal(row["price"] or "")
    except InvalidOperation:
        raise ExchangeError(f"{path}, line {line}: `price` {row['price']!r} is no number; write rupees") from None
    if not price.is_finite() or price <= 0:
        raise ExchangeError(f"{path}, line {line}: `price` {price} is not above 0")
    if ":" not in (row["instrument"] or ""):
        raise ExchangeError(f"{path}, line {line}: `instrument` {row['instrument']!r} is not EXCHANGE:SYMBOL")
    return Print(at if at.tzinfo is not None else at.replace(tzinfo=IST), price, volume)
