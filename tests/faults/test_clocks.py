"""The wall clock set while the engine runs, and the turn of the trading day (reliability.md F36, F37)."""

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import msgspec
import pytest

from engine.clock import IST
from tests.support.engine import market_order, signed
from tests.support.fault_engines import ShiftedClockEngine, fault_rig
from tests.support.fault_rig import Fate, FaultRig
from tests.support.servers import TestServers

pytestmark = pytest.mark.crash

MAX_AGE_S = 3
HOUR = 3600.0


class Shifted:
    """A rig whose engine's clock can be set."""

    def __init__(self, rig: FaultRig, file: Path) -> None:
        self.rig = rig
        self._file = file
        self.seconds = 0.0

    def set(self, seconds: float) -> None:
        """Have the engine's clock be off by *seconds*."""
        self.seconds = seconds
        write_shift(self._file, seconds)

    def send(self, symbol: str) -> tuple[Fate, httpx.Response]:
        """Send a signal that is signed by the engine's own time."""
        fate, body = self.rig.new_signal(symbol)
        raw = msgspec.json.encode(body)
        headers = signed(raw, *self.rig.source, at=int(time.time() + self.seconds)) | {"Idempotency-Key": fate.key}
        url = f"{self.rig.engine.base_url}/api/v1/signals/sheets/webhook"
        answer = httpx.post(url, content=raw, headers=headers, timeout=15)
        return fate, answer


def start_seconds() -> float:
    """Return how long a Python program that imports the engine takes to start now."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "engine", "version"], check=True, capture_output=True, timeout=60)
    return time.monotonic() - began


def write_shift(file: Path, seconds: float) -> None:
    new = file.with_suffix(".new")
    new.write_text(str(seconds))
    new.rename(file)


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory, servers: TestServers) -> Iterator[Shifted]:
    folder = tmp_path_factory.mktemp("clocks")
    file = folder / "shift"
    write_shift(file, 0)
    redis_url = f"{servers.redis_url}?db=12"
    servers.flush(redis_url)
    with fault_rig(
        folder,
        servers,
        "clocks",
        redis_url,
        engine_kind=ShiftedClockEngine,
        TEST_CLOCK_FILE=str(file),
        ENGINE__SIGNALS__MAX_AGE_S=str(MAX_AGE_S),
        TZ="America/New_York",
    ) as rig:
        yield Shifted(rig, file)


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_step_of_the_clock_sends_nothing_stale_and_nothing_new_until_it_is_right(shifted: Shifted, step: float) -> None:
    rig = shifted.rig
    doubtful, free, after = rig.next_symbols(3)
    rig.exchange.set_faults({"takes": "never", "answer": "drop", "symbol": doubtful, "count": 1})
    first, _ = shifted.send(doubtful)
    rig.engine.wait_for("the first being in doubt", lambda: rig.look() and first.was_unknown)
    waiting, answer = shifted.send(doubtful)
    assert answer.status_code == 202
    # what waits behind the doubt
    rig.engine.wait_for("the second waiting", lambda: rig.look() and waiting.status in ("PENDING", "EXPIRED"))
    shifted.set(step)
    during, answer = shifted.send(free)
    assert answer.status_code in (202, 503), answer.text
    sent_at = time.monotonic()
    rig.engine.wait_for("the signal's time being over", lambda: time.monotonic() - sent_at > MAX_AGE_S + 0.5)
    rig.look()
    assert (during.posts, waiting.posts) == (0, 0), f"{during}\n{waiting}"
    shifted.set(0)
    rig.settled([first, waiting, *([during] if answer.status_code == 202 else [])], within_s=60)
    assert (during.posts, waiting.posts) == (0, 0), f"sent too late: {during}\n{waiting}"
    assert all(fate.status in ("REJECTED", "EXPIRED", "FAILED") for fate in (waiting, during)), f"{during}\n{waiting}"

    def trades_again() -> bool:
        good, answered = shifted.send(after)
        if answered.status_code != 202:
            return False
        rig.settled([good])
        return good.status == "COMPLETE"

    rig.engine.wait_for("the clock being trusted again", trades_again, within_s=90)
    rig.check()


def test_people_stay_signed_in_when_the_clock_is_set_a_little(shifted: Shifted) -> None:
    shifted.rig.engine.login()
    # forward by what is left of a token's life at most, backward within the leeway of a fresh one
    for seconds in (60.0, 30.0, -4.0):
        shifted.set(seconds)
        assert shifted.rig.engine.request("GET", "/accounts").status_code == 200, seconds
    shifted.set(0)


class LateEvening:
    """A paper engine whose day in India ends *left_s* seconds from now; at most two orders a day."""

    def __init__(self, folder: Path, database_url: str, redis_url: str, left_s: float) -> None:
        real = datetime.now(UTC)  # noqa: TID251 -- the machine's clock is what is shifted
        self.midnight = real.astimezone(IST).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        self._shift = self.midnight - real - timedelta(seconds=left_s)
        file = folder / "shift"
        folder.mkdir()
        write_shift(file, self._shift.total_seconds())
        self.engine = ShiftedClockEngine(
            folder,
            TEST_CLOCK_FILE=str(file),
            TEST_DATE_TOO="1",
            TZ="Pacific/Auckland",
            ENGINE__DATABASE__URL=database_url,
            ENGINE__REDIS__URL=redis_url,
            ENGINE__RISK__MAX_ORDERS_PER_DAY="2",
            ENGINE__RISK__PRICE_BAND_PCT="none",
            ENGINE__MARKET__ENFORCE_HOURS="false",
        )

    def now(self) -> datetime:
        return datetime.now(UTC) + self._shift  # noqa: TID251

    def end_of(self, number: int) -> str:
        """Send a signal and return how its intent ended."""
        raw = msgspec.json.encode(market_order(("SBIN", "INFY", "ITC", "TCS")[number % 4]))
        headers = signed(raw, *self.engine.source, at=int(self.now().timestamp())) | {"Idempotency-Key": f"m{number}"}
        url = f"{self.engine.base_url}/api/v1/signals/sheets/webhook"
        answer = httpx.post(url, content=raw, headers=headers, timeout=15)
        assert answer.status_code == 202, answer.text
        intent = answer.json()["data"]["intentId"]

        def ended() -> str | None:
            status = str(self.engine.get(f"/signals/intents/{intent}")["status"])
            return status if status in ("EXECUTED", "REJECTED", "FAILED", "EXPIRED") else None

        return str(self.engine.wait_for("an end", ended))


def test_daily_count_starts_anew_once_at_ist_midnight(tmp_path: Path, servers: TestServers, database_url: str) -> None:
    # not the one of the other engine of this file, which still runs
    redis_url = f"{servers.redis_url}?db=11"
    servers.flush(redis_url)
    ends = ["EXECUTED", "EXECUTED", "REJECTED"]
    # as long as a start of the engine took just now, and some more
    evening = LateEvening(tmp_path / "e", database_url, redis_url, 12 + 2 * start_seconds())
    with evening.engine as engine:
        assert [evening.end_of(number) for number in range(3)] == ends
        assert evening.now() < evening.midnight, "the engine took too long to start for this test"
        engine.wait_for("midnight in India", lambda: evening.now() > evening.midnight, within_s=60)
        assert [evening.end_of(number) for number in range(3, 6)] == ends
        assert engine.get("/audit/verify")["ok"] is True
    query = "SELECT trading_day || ' ' || count(*) FROM orders GROUP BY trading_day ORDER BY trading_day"
    name = database_url.partition("@/")[2].partition("?")[0]
    today = evening.midnight.date()
    assert servers.sql(query, name).splitlines() == [f"{today - timedelta(days=1)} 2", f"{today} 2"]
