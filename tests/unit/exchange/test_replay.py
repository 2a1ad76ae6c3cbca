"""Prices from a file, the faster clock, exchange hours, the static-IP rule and the ticker's fault rules."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from engine.exchange.config import ExchangeConfig, ExchangeError
from engine.exchange.core import Exchange
from engine.exchange.errors import KiteRefusal
from engine.exchange.instruments import build_master
from engine.exchange.market import Market, circuit_limits
from engine.exchange.paced_clock import PacedClock
from engine.exchange.postbacks import check_postback_url
from engine.exchange.push_faults import PushFaults, PushRule, read_push_rule
from engine.exchange.replay import read_replay
from engine.exchange.standalone import read_user
from engine.exchange.static_ip import check_address, read_addresses

IST_0915 = datetime(2026, 11, 23, 3, 45, tzinfo=UTC)
ROWS = """time,instrument,price,volume
2026-11-20 15:29:59,NSE:INFY,1800,5000
2026-11-23 09:15:00,NSE:INFY,1810.5,10
2026-11-23T03:46:00+00:00,NSE:INFY,1790,25
2026-11-23 09:15:30,BSE:SBIN,820.00,
"""


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    file = tmp_path / "prices.csv"
    file.write_text(ROWS)
    return file


def test_replayed_price_holds_until_the_next_row(prices: Path) -> None:
    exchange = Exchange(ExchangeConfig(), replay=read_replay(prices))
    seen = []
    for seconds in (-1, 0, 59, 60, 9000):
        now = IST_0915 + timedelta(seconds=seconds)
        quote = exchange.quotes(["NSE:INFY"], "full", now)["NSE:INFY"]
        seen.append((quote["last_price"], quote["volume"]))
    assert seen == [(1800, 0), (Decimal("1810.5"), 10), (Decimal("1810.5"), 10), (1790, 25), (1790, 25)]


def test_replayed_file_sets_the_previous_close_and_with_it_the_circuit(prices: Path) -> None:
    exchange = Exchange(ExchangeConfig(), replay=read_replay(prices))
    infy = exchange.roll(IST_0915).by_key["NSE:INFY"]
    assert infy.last_price == 1800
    assert circuit_limits(infy) == (1620, 1980)
    quote = exchange.market.quote(infy, IST_0915 + timedelta(minutes=5))
    assert (quote.close, quote.high, quote.low, quote.last_price) == (1800, Decimal("1810.5"), 1790, 1790)
    # an instrument that the file does not name keeps the master's, and moves
    sbin = exchange.roll(IST_0915).by_key["NSE:SBIN"]
    assert sbin.last_price == 815
    assert exchange.market.last_price(sbin, IST_0915) == Market(1).last_price(sbin, IST_0915)


def test_replay_starts_at_its_first_row(prices: Path) -> None:
    assert read_replay(prices).starts_at == datetime(2026, 11, 20, 9, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("time,price\n", "no column 'instrument'"),
        ("time,instrument,price\n", "no rows"),
        ("time,instrument,price\nsoon,NSE:INFY,1\n", "line 2"),
        ("time,instrument,price\n2026-11-23 09:15:00,NSE:INFY,x\n", "line 2: `price` 'x' is no number"),
        ("time,instrument,price\n2026-11-23 09:15:00,NSE:INFY,-1\n", "not above 0"),
        ("time,instrument,price\n2026-11-23 09:15:00,INFY,1\n", "EXCHANGE:SYMBOL"),
        ("time,instrument,price,volume\n2026-11-23 09:15:00,NSE:INFY,1,many\n", "line 2"),
        ("time,instrument,price\n2026-11-23 09:15:00\n", "line 2"),
    ],
)
def test_replay_that_cannot_be_read_names_what_is_wrong(tmp_path: Path, content: str, text: str) -> None:
    file = tmp_path / "prices.csv"
    file.write_text(content)
    with pytest.raises(ExchangeError, match=text):
        read_replay(file)


def test_replay_without_a_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match=r"none\.csv"):
        read_replay(tmp_path / "none.csv")


class Base:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.ns = 7_000_000_000

    def now(self) -> datetime:
        return IST_0915 + timedelta(days=400)

    def boottime_ns(self) -> int:
        return self.ns


def test_paced_clock_runs_faster_from_its_start() -> None:
    base = Base()
    clock = PacedClock(base, speed=60, start_at=IST_0915)
    assert clock.now() == IST_0915
    before = clock.boottime_ns()
    base.ns += 2_500_000_000
    assert clock.now() == IST_0915 + timedelta(seconds=150)
    assert clock.boottime_ns() - before == 150_000_000_000
    assert PacedClock(base).now() == base.now()


def test_prices_stand_still_while_the_exchange_is_closed() -> None:
    market, reliance = Market(1, all_day=False), build_master(date(2026, 11, 20)).by_key["NSE:RELIANCE"]
    close = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
    at_close = market.last_price(reliance, close)
    for later in (timedelta(minutes=1), timedelta(hours=9), timedelta(days=1), timedelta(days=2, hours=17)):
        assert market.last_price(reliance, close + later) == at_close
    monday = datetime(2026, 11, 23, 3, 45, tzinfo=UTC)
    assert market.last_price(reliance, monday) == Market(1).last_price(reliance, monday)
    assert market.volume(reliance, close) == market.volume(reliance, close + timedelta(hours=3)) > 0
    assert market.volume(reliance, monday - timedelta(minutes=1)) == 0


def test_commodities_move_into_the_night() -> None:
    market = Market(1, all_day=False)
    gold = next(i for i in build_master(date(2026, 11, 20)).by_key.values() if i.symbol.startswith("GOLDM26"))
    evening = datetime(2026, 11, 20, 17, 0, tzinfo=UTC)
    prices = {market.last_price(gold, evening + timedelta(minutes=n)) for n in range(60)}
    assert len(prices) > 5
    at_close = market.last_price(gold, datetime(2026, 11, 20, 18, 25, tzinfo=UTC))
    assert market.quote(gold, datetime(2026, 11, 22, 12, 0, tzinfo=UTC)).last_price == at_close


@pytest.mark.parametrize("address", ["203.0.113.9", "::ffff:203.0.113.9"])
def test_static_ip_lets_the_registered_address_through(address: str) -> None:
    check_address(address, read_addresses(["203.0.113.9", "2001:db8::1"]))
    check_address(address, frozenset())


@pytest.mark.parametrize(
    ("address", "named"), [("127.0.0.1", "127.0.0.1"), (None, "unknown"), ("testclient", "unknown")]
)
def test_static_ip_refuses_any_other_in_kites_words(address: str | None, named: str) -> None:
    with pytest.raises(KiteRefusal) as caught:
        check_address(address, read_addresses(["203.0.113.9"]))
    assert (caught.value.status, caught.value.error_type) == (403, "PermissionException")
    assert caught.value.message == (
        f"IP ({named}) is not allowed to place orders for this app. Update allowed IPs on the Kite developer console. "
        "Learn more - https://support.zerodha.com/category/trading-and-markets/general-kite/kite-api/articles/static-ip"
    )


def test_static_ip_that_is_no_address_is_refused() -> None:
    with pytest.raises(ExchangeError, match="write an address"):
        read_addresses(["example.org"])


@pytest.mark.parametrize("url", ["http://example.org/x", "ftp://127.0.0.1/", "127.0.0.1:9", "http://10.0.0.1/", ""])
def test_postbacks_go_to_this_machine_only(url: str) -> None:
    with pytest.raises(ExchangeError, match="this machine"):
        check_postback_url(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/p", "http://[::1]:1/", "http://localhost/p"])
def test_postbacks_to_this_machine_are_fine(url: str) -> None:
    assert check_postback_url(url) == url


@pytest.mark.parametrize(
    ("text", "expected"), [("AB1234", ("AB1234", None)), ("AB1234:500000", ("AB1234", Decimal(500000)))]
)
def test_user_option_is_read(text: str, expected: tuple[str, Decimal | None]) -> None:
    assert read_user(text) == expected


@pytest.mark.parametrize("text", ["", ":5", "A:", "A:0", "A:x", "A:-5", "A B", "A:1:2"])
def test_unclear_user_option_is_refused(text: str) -> None:
    with pytest.raises(ExchangeError, match=r"ID\[:capital\]"):
        read_user(text)


def test_push_rule_counts_skips_and_rolls_its_dice() -> None:
    faults = PushFaults([PushRule(fault="missing", skip=1, count=2)])
    assert [faults.update() is not None for _ in range(5)] == [False, True, True, False, False]
    assert faults.handshake() is None
    assert faults.connection() == ()
    some = [PushFaults([PushRule(fault="missing", probability=0.5, seed=seed)]) for seed in (1, 1, 2)]
    rolls = [[each.update() is not None for _ in range(60)] for each in some]
    assert rolls[0] == rolls[1] != rolls[2]
    assert 10 < sum(rolls[0]) < 50


def test_push_rule_is_read_from_the_command_line() -> None:
    rule = read_push_rule("fault=silent,after_s=30,count=1,probability=0.5,skip=2,seed=9")
    assert rule == PushRule(fault="silent", after_s=30, count=1, probability=0.5, skip=2, seed=9)
    for text in (
        "fault",
        "fault=loud",
        "count=1",
        "fault=silent,count=0",
        "fault=silent,probability=2",
        "fault=silent,x=1",
    ):
        with pytest.raises(ExchangeError, match="ticker fault"):
            read_push_rule(text)
