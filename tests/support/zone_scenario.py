"""What must come out the same in every time zone of the host, printed as JSON: run it with TZ set and compare.

Instants around IST midnight and around the changes to and from summer time in New York and Auckland.
"""

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from engine.broker.kite.codec import moment
from engine.clock import trading_day
from engine.domain.calendar import is_open
from engine.domain.enums import Exchange
from engine.domain.pacing import Pacer
from engine.domain.reconcile import next_day_close
from engine.exchange.hours import session_end
from engine.exchange.instruments import build_master
from engine.exchange.rows import stamp
from engine.observability.logs import IST

DAYS = ((2026, 3, 8), (2026, 4, 5), (2026, 9, 27), (2026, 11, 1), (2026, 11, 23), (2026, 12, 31))


def instants() -> list[datetime]:
    """Return every quarter of an hour of the days, and the seconds around IST midnight (18:30 UTC)."""
    found = []
    for year, month, day in DAYS:
        start = datetime(year, month, day, tzinfo=UTC)
        found += [start + timedelta(minutes=15 * n) for n in range(96)]
        found += [start + timedelta(hours=18, minutes=29, seconds=59 + n) for n in range(3)]
    return found


def outcome() -> dict[str, object]:
    """Return the results."""
    pacer = Pacer(per_second=100, per_minute=10_000, per_day=3)
    taken = [pacer.try_take(float(n), trading_day(at)) for n, at in enumerate(instants())]
    return {
        "days": [str(trading_day(at)) for at in instants()],
        "stamps": [stamp(at) for at in instants()],
        "read": [str(moment("t", stamp(at))) for at in instants()],
        "open": [is_open(Exchange.NSE, at) for at in instants()],
        "sessions": [str(session_end(at)) for at in instants()],
        "closes": [str(next_day_close(at)) for at in instants()],
        "taken": taken,
        "master": sorted(build_master(trading_day(instants()[-1])).by_key),
        "local": [at.astimezone(IST).isoformat() for at in instants()],
        "money": str(Decimal("0.1") + Decimal("0.2")),
    }


if __name__ == "__main__":
    time.tzset()
    print(json.dumps({"zone": time.tzname, "outcome": outcome()}))
