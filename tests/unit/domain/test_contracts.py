from datetime import date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.clock import IST
from engine.domain.calendar import REGULAR, Calendar, parse_hhmm
from engine.domain.contracts import Chosen, Contract, Period, choose, parse_contract, spot_key
from engine.domain.denial import Denial
from engine.domain.enums import Exchange
from tests.support.chain import CHAIN, STRIKES


def at(day: date, clock: str = "10:00") -> datetime:
    return datetime.combine(day, parse_hhmm(clock), IST)


FRIDAY = at(date(2026, 11, 27))
EXPIRY_DAY = date(2026, 12, 1)


def contract(text: str) -> Contract:
    found = parse_contract(text)
    assert found is not None, text
    return found


def chosen(
    text: str, spot: str | None = "24512.35", exchange: Exchange = Exchange.NFO, now: datetime = FRIDAY
) -> Chosen | Denial:
    price = None if spot is None else Decimal(spot)
    return choose(contract(text), exchange=exchange, book=CHAIN, spot=price, now=now, calendar=REGULAR)


def symbol(text: str, spot: str | None = "24512.35", exchange: Exchange = Exchange.NFO, now: datetime = FRIDAY) -> str:
    found = chosen(text, spot, exchange, now)
    return found.instrument.symbol if isinstance(found, Chosen) else str(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NIFTY ATM CE", Contract(underlying="NIFTY", kind="CE", level="ATM")),
        ("NIFTY ATM-10 PE", Contract(underlying="NIFTY", kind="PE", level="ATM", steps=-10)),
        ("BANKNIFTY OTM3 PE", Contract(underlying="BANKNIFTY", kind="PE", level="OTM", steps=3)),
        ("M&M ITM1 CE NEXT", Contract(underlying="M&M", kind="CE", level="ITM", steps=1, period=Period.NEXT)),
        ("USDINR 88.25 CE", Contract(underlying="USDINR", kind="CE", strike=Decimal("88.25"))),
        (
            "NIFTY 02DEC26 24500 CE",
            Contract(underlying="NIFTY", kind="CE", strike=Decimal(24500), expiry=date(2026, 12, 2)),
        ),
        ("NIFTY 50 ATM CE", Contract(underlying="NIFTY 50", kind="CE", level="ATM")),
        ("CRUDEOIL FUT NEXT", Contract(underlying="CRUDEOIL", kind="FUT", period=Period.NEXT)),
        ("NIFTY 29DEC26 FUT", Contract(underlying="NIFTY", kind="FUT", expiry=date(2026, 12, 29))),
    ],
)
def test_parse_contract_reads_what_is_written(text: str, expected: Contract) -> None:
    assert parse_contract(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "FUT",
        "ATM CE",
        "NIFTY",
        "NIFTY 50",
        "NIFTY CE",
        "NIFTY ATM",
        "nifty atm ce",
        "NIFTY ATM CE PE",
        "NIFTY FUT WEEKLY",
        "NIFTY FUT CE",
        "NIFTY OTM CE",
        "NIFTY OTM0 CE",
        "NIFTY ATM+0 CE",
        "NIFTY ATM+100 CE",
        "NIFTY ATM1 CE",
        "NIFTY ITM-1 CE",
        "NIFTY 024500 CE",
        "NIFTY 24500.12345 CE",
        "NIFTY -24500 CE",
        "NIFTY 1E5 CE",
        "NIFTY 02DEC26 24500 CE MONTHLY",
        "NIFTY  ATM CE",
        " NIFTY ATM CE",
        "NIFTY\tATM CE",
        "NIFTY24500CE",
        "A" * 35 + " ATM CE",
    ],
)
def test_parse_contract_anything_else_is_none(text: str) -> None:
    assert parse_contract(text) is None


@given(st.text(alphabet="NIFTYACEPU0123456789+-. &", max_size=45))
def test_parse_contract_never_raises(text: str) -> None:
    parse_contract(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NIFTY ATM CE", "NIFTY01DEC2624500CE"),
        ("NIFTY ATM PE", "NIFTY01DEC2624500PE"),
        ("NIFTY ATM+2 CE", "NIFTY01DEC2624600CE"),
        ("NIFTY ATM+2 PE", "NIFTY01DEC2624600PE"),
        ("NIFTY ATM-2 CE", "NIFTY01DEC2624400CE"),
        ("NIFTY OTM3 CE", "NIFTY01DEC2624650CE"),
        ("NIFTY OTM3 PE", "NIFTY01DEC2624350PE"),
        ("NIFTY ITM1 CE", "NIFTY01DEC2624450CE"),
        ("NIFTY ITM1 PE", "NIFTY01DEC2624550PE"),
        ("NIFTY ATM CE WEEKLY", "NIFTY01DEC2624500CE"),
        ("NIFTY ATM CE MONTHLY", "NIFTY29DEC2624500CE"),
        ("NIFTY ATM CE NEXT", "NIFTY08DEC2624500CE"),
        ("NIFTY 15DEC26 ATM CE", "NIFTY15DEC2624500CE"),
        ("NIFTY 24800 PE", "NIFTY01DEC2624800PE"),
        ("NIFTY FUT", "NIFTY29DEC26FUT"),
        ("NIFTY FUT NEXT", "NIFTY26JAN27FUT"),
    ],
)
def test_choose_index_contracts(text: str, expected: str) -> None:
    assert symbol(text) == expected


@pytest.mark.parametrize(
    ("spot", "strike"),
    [("24525", 24500), ("24525.05", 24550), ("24475", 24450), ("20000", 24000), ("30000", 25000)],
)
def test_at_the_money_is_the_nearest_strike_and_the_lower_of_two(spot: str, strike: int) -> None:
    assert symbol("NIFTY ATM CE", spot) == f"NIFTY01DEC26{strike}CE"


@pytest.mark.parametrize(
    ("now", "expiry"),
    [
        (at(EXPIRY_DAY, "15:29"), "01DEC26"),
        (at(EXPIRY_DAY, "15:30"), "08DEC26"),
        (at(date(2026, 12, 2), "09:15"), "08DEC26"),
        (at(date(2026, 12, 29), "15:30"), "26JAN27"),
    ],
)
def test_expiring_today_counts_until_the_close(now: datetime, expiry: str) -> None:
    assert symbol("NIFTY ATM CE", now=now) == f"NIFTY{expiry}24500CE"


def test_currency_contracts_end_at_half_past_twelve_on_their_last_day() -> None:
    last = date(2026, 12, 29)
    assert symbol("USDINR FUT", exchange=Exchange.CDS, now=at(last, "12:29")) == "USDINR29DEC26FUT"
    assert symbol("USDINR FUT", exchange=Exchange.CDS, now=at(last, "12:30")).startswith("NO_SUCH_CONTRACT: ")


@pytest.mark.parametrize(
    ("text", "exchange", "expected"),
    [
        ("CRUDEOIL FUT", Exchange.MCX, "CRUDEOIL18DEC26FUT"),
        ("CRUDEOIL FUT NEXT", Exchange.MCX, "CRUDEOIL19JAN27FUT"),
        ("CRUDEOIL ATM CE", Exchange.MCX, "CRUDEOIL16DEC265600CE"),
        ("USDINR 88.50 CE", Exchange.CDS, "USDINR29DEC2688.5CE"),
    ],
)
def test_choose_commodities_and_currencies(text: str, exchange: Exchange, expected: str) -> None:
    assert symbol(text, "5612", exchange) == expected


@pytest.mark.parametrize(
    ("text", "spot", "exchange", "reason"),
    [
        ("NIFTY ATM CE", None, Exchange.NFO, "PRICE_UNAVAILABLE: no last price of NIFTY is known"),
        ("NIFTY ATM CE", "0", Exchange.NFO, "PRICE_UNAVAILABLE: "),
        (
            "NIFTY 24525 CE",
            None,
            Exchange.NFO,
            "NO_SUCH_STRIKE: NIFTY CE of 2026-12-01 has no strike 24525; the nearest",
        ),
        ("NIFTY ATM+11 CE", "24500", Exchange.NFO, "NO_SUCH_STRIKE: NIFTY CE of 2026-12-01 has 10 strikes above 24500"),
        ("NIFTY OTM11 PE", "24500", Exchange.NFO, "NO_SUCH_STRIKE: NIFTY PE of 2026-12-01 has 10 strikes below 24500"),
        (
            "NIFTY 02DEC26 24500 CE",
            None,
            Exchange.NFO,
            "NO_SUCH_EXPIRY: NIFTY CE has no 2026-12-02 on NFO; the next are",
        ),
        ("BANKNIFTY ATM CE WEEKLY", "55500", Exchange.NFO, "NO_SUCH_EXPIRY: BANKNIFTY CE has no WEEKLY expiry"),
        ("FINNIFTY ATM CE", "26000", Exchange.NFO, "NO_SUCH_CONTRACT: NFO lists no FINNIFTY CE"),
        ("RELIANCE ATM CE", "1400", Exchange.NFO, "NO_SUCH_CONTRACT: NFO lists no RELIANCE CE"),
        ("NIFTY ATM CE", "24500", Exchange.NSE, "NO_SUCH_CONTRACT: NIFTY CE is a contract, and NSE has none"),
    ],
)
def test_choose_says_what_is_missing(text: str, spot: str | None, exchange: Exchange, reason: str) -> None:
    assert symbol(text, spot, exchange).startswith(reason)


@pytest.mark.parametrize(
    ("text", "exchange", "key"),
    [
        ("NIFTY ATM CE", Exchange.NFO, "NSE:NIFTY 50"),
        ("BANKNIFTY OTM1 PE", Exchange.NFO, "NSE:NIFTY BANK"),
        ("INFY ATM CE", Exchange.NFO, "NSE:INFY"),
        ("SENSEX ATM CE", Exchange.BFO, "BSE:SENSEX"),
        ("CRUDEOIL ATM CE", Exchange.MCX, "MCX:CRUDEOIL18DEC26FUT"),
        ("USDINR ATM CE", Exchange.CDS, "CDS:USDINR29DEC26FUT"),
        ("NIFTY 24500 CE", Exchange.NFO, None),
        ("CRUDEOIL FUT", Exchange.MCX, None),
    ],
)
def test_spot_key_names_the_price_that_is_needed(text: str, exchange: Exchange, key: str | None) -> None:
    assert spot_key(contract(text), exchange=exchange, book=CHAIN, now=FRIDAY, calendar=REGULAR) == key


def test_option_that_outlives_every_future_has_no_price_to_go_by() -> None:
    found = spot_key(
        contract("CRUDEOIL ATM CE"),
        exchange=Exchange.MCX,
        book=type(CHAIN)(row for row in CHAIN if row.instrument_type != "FUT"),
        now=FRIDAY,
        calendar=REGULAR,
    )
    assert isinstance(found, Denial)
    assert found.code == "PRICE_UNAVAILABLE"


@given(
    spot=st.decimals(20000, 30000, places=2),
    steps=st.integers(1, 25),
    kind=st.sampled_from(["CE", "PE"]),
    minute=st.integers(0, 40 * 24 * 60),
)
def test_choice_is_listed_running_and_as_far_out_as_asked(spot: Decimal, steps: int, kind: str, minute: int) -> None:
    now = datetime.fromtimestamp(FRIDAY.timestamp() + minute * 60, IST)
    made = [
        choose(contract(text), exchange=Exchange.NFO, book=CHAIN, spot=spot, now=now, calendar=Calendar())
        for text in (f"NIFTY ATM {kind}", f"NIFTY OTM{steps} {kind}")
    ]
    middle, out = made
    assert isinstance(middle, Chosen)
    assert middle.instrument.strike is not None
    assert abs(middle.instrument.strike - spot) == min(abs(strike - spot) for strike in STRIKES)
    assert middle.instrument.expiry is not None
    assert middle.instrument.expiry >= now.date()
    if isinstance(out, Chosen):
        assert out.instrument.strike is not None
        sign = 1 if kind == "CE" else -1
        assert out.instrument.strike - middle.instrument.strike == sign * 50 * steps
        assert out.instrument.expiry == middle.instrument.expiry
    else:
        assert out.code == "NO_SUCH_STRIKE"
