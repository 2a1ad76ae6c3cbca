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
from tests.support.engine import PASSWORD, market_order, signed
from tests.support.fault_engines import ShiftedClockEngine, fault_rig
from tests.support.fault_rig import Fate, FaultRig
from tests.support.servers import TestServers

pytestmark = pytest.mark.crash

MAX_AGE_S = 3
HOUR = 3600.0
SENDS_S = 12.0  # what the orders of an evening may take


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
        if answer.status_code == 503:
            # nothing was taken: an order of it at the exchange would be a strange one
            self.rig.sent = {key: sent for key, sent in self.rig.sent.items() if sent is not fate}
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
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "CLOCK_SUSPECT")
    sent_at = time.monotonic()
    rig.engine.wait_for("the signal's time being over", lambda: time.monotonic() - sent_at > MAX_AGE_S + 0.5)
    rig.look()
    assert (during.posts, waiting.posts) == (0, 0), f"{during}\n{waiting}"
    shifted.set(0)
    rig.settled([first, waiting], within_s=60)
    assert (during.posts, waiting.posts) == (0, 0), f"sent too late: {during}\n{waiting}"
    assert waiting.status in ("REJECTED", "EXPIRED", "FAILED"), f"{during}\n{waiting}"

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


def test_sec_109_no_sign_in_and_no_signal_while_the_clock_is_suspect_but_the_kill_switch(shifted: Shifted) -> None:
    rig = shifted.rig
    (before,) = rig.next_symbols(1)
    # it may still mistrust what the test before did to the clock
    rig.engine.wait_for("a clock that is trusted", lambda: shifted.send(before)[1].status_code == 202, within_s=90)
    api = f"{rig.engine.base_url}/api/v1"
    person = {"email": "admin@localhost", "password": PASSWORD}
    signed = httpx.post(f"{api}/auth/login", json=person, timeout=10).json()["data"]
    somebody = {"email": "clocks@desk.example", "password": "violet kite over the pier"}
    user = rig.engine.request("POST", "/users", json=somebody).json()["data"]
    shifted.set(HOUR)
    try:
        refused = httpx.post(f"{api}/auth/login", json=person, timeout=10)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "CLOCK_SUSPECT")
        (symbol,) = rig.next_symbols(1)
        during, answer = shifted.send(symbol)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "CLOCK_SUSPECT")
        assert int(answer.headers["retry-after"]) > 0
        # a session that lives goes on, and with it the kill switch
        renewed = httpx.post(f"{api}/auth/refresh", json={"refreshToken": signed["refreshToken"]}, timeout=10)
        bearer = {"Authorization": f"Bearer {renewed.json()['data']['accessToken']}"}
        kill = {"scope": f"user:{user['id']}", "reason": "the clock", "mode": "BLOCK"}
        enabled = httpx.post(f"{api}/risk/killswitch/enable", json=kill, headers=bearer, timeout=10)
        assert (enabled.status_code, enabled.json()["data"]["enabled"]) == (200, True)
        rig.look()
        assert during.posts == 0
    finally:
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


def evening_that_lasts(folder: Path, servers: TestServers) -> Iterator[tuple[LateEvening, str]]:
    """Start engines until one is ready with some of its day left; yield it, running, and its database's name."""
    # not the one of the other engine of this file, which still runs
    redis_url = f"{servers.redis_url}?db=11"
    # as long as a start of the engine took just now, and some more
    left_s = SENDS_S + 2 * start_seconds()
    for number in range(4):
        servers.flush(redis_url)
        name = f"evening_{number}"
        evening = LateEvening(folder / name, servers.create_database(name), redis_url, left_s)
        began = time.monotonic()
        with evening.engine:
            left_s = SENDS_S + 1.5 * (time.monotonic() - began)
            is_in_time = evening.midnight - evening.now() > timedelta(seconds=SENDS_S / 2)
            if is_in_time:
                yield evening, name
        servers.drop_database(name)
        if is_in_time:
            return
    raise AssertionError("no engine started in time before midnight")


@pytest.fixture
def evening(tmp_path: Path, servers: TestServers) -> Iterator[tuple[LateEvening, str]]:
    yield from evening_that_lasts(tmp_path, servers)


def test_daily_count_starts_anew_once_at_ist_midnight(servers: TestServers, evening: tuple[LateEvening, str]) -> None:
    late, name = evening
    ends = ["EXECUTED", "EXECUTED", "REJECTED"]
    assert [late.end_of(number) for number in range(3)] == ends
    assert late.now() < late.midnight, "the orders of the evening took until after midnight"
    late.engine.wait_for("midnight in India", lambda: late.now() > late.midnight, within_s=60)
    assert [late.end_of(number) for number in range(3, 6)] == ends
    assert late.engine.get("/audit/verify")["ok"] is True
    query = "SELECT trading_day || ' ' || count(*) FROM orders GROUP BY trading_day ORDER BY trading_day"
    today = late.midnight.date()
    assert servers.sql(query, name).splitlines() == [f"{today - timedelta(days=1)} 2", f"{today} 2"]
