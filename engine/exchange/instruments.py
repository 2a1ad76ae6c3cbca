"""The instrument master of a day, and its CSV exactly as Kite dumps it (kite.md 11).

Derivative expiries follow from the day: index and stock contracts expire on the last Tuesday of the
month, NIFTY's weekly options on Tuesdays. An instrument's token is its exchange token times 256 plus
the segment's code; the token of a derivative follows from its symbol alone, so that it does not
change over its life.
"""

import calendar
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from hashlib import blake2b

from engine.domain.enums import Exchange
from engine.domain.instruments import Instrument
from engine.exchange.universe import BSE_EQUITIES, INDICES, NSE_EQUITIES, UNDERLYINGS, Underlying

CSV_HEADER = (
    "instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,"
    "tick_size,lot_size,instrument_type,segment,exchange"
)
SEGMENT_CODE = {"NSE": 1, "NFO": 2, "CDS": 3, "BSE": 4, "BFO": 5, "BCD": 6, "MCX": 7, "INDICES": 9}
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKLY_MONTHS = "123456789OND"
_STRIKES_EACH_SIDE = 10
_DERIVATIVE_TOKENS_FROM = 1_000_000


class Master:
    """The instruments of one day, by key and by token."""

    def __init__(self, day: date, instruments: Mapping[str, Instrument]) -> None:
        self.day = day
        self.by_key = dict(instruments)
        self.by_token = {instrument.token: instrument for instrument in instruments.values()}
        self._csv: dict[str | None, bytes] = {}

    def find(self, name: str) -> Instrument | None:
        """Return the instrument of ``EXCHANGE:SYMBOL`` or of a token in digits; None when unknown."""
        if name.isascii() and name.isdigit():
            return self.by_token.get(int(name))
        return self.by_key.get(name)

    def csv(self, exchange: str | None = None) -> bytes:
        """Return the dump of *exchange* (None: of all) as Kite's CSV."""
        if exchange not in self._csv:
            rows = [_csv_row(i) for i in self.by_key.values() if exchange in (None, i.exchange)]
            self._csv[exchange] = "\n".join([CSV_HEADER, *rows, ""]).encode()
        return self._csv[exchange]


def build_master(day: date) -> Master:
    """Return the master of *day* (an IST date): equities, indices, and derivatives not yet expired."""
    listed: dict[str, Instrument] = {}
    taken: set[int] = set()
    for instrument in _all(day, taken):
        listed[instrument.key] = instrument
    return Master(day, listed)


def equity_tick(price: Decimal) -> Decimal:
    """Return the tick of a share at *price* rupees: 0.01 below 250, 0.05 up to 1000, 0.10 above."""
    if price < 250:
        return Decimal("0.01")
    return Decimal("0.05") if price <= 1000 else Decimal("0.10")


def round_to_tick(price: Decimal, tick: Decimal, rounding: str = ROUND_HALF_UP) -> Decimal:
    """Return *price* as a multiple of *tick* (of 0.05 where the tick is 0), at least one tick."""
    step = tick or Decimal("0.05")
    return max(step, (price / step).quantize(Decimal(1), rounding=rounding) * step)


def monthly_expiry(rule: str, year: int, month: int) -> date:
    """Return the expiry of a month's contract under *rule* of `engine.exchange.universe`."""
    last = date(year, month, calendar.monthrange(year, month)[1])
    match rule:
        case "last_tuesday":
            return last - timedelta(days=(last.weekday() - calendar.TUESDAY) % 7)
        case "two_before_month_end":
            return _weekday(_weekday(_weekday(last) - timedelta(days=1)) - timedelta(days=1))
        case "month_end":
            return _weekday(last)
        case _:
            return _weekday(date(year, month, int(rule.removeprefix("day_"))))


def coming_months(rule: str, day: date, count: int = 3) -> list[date]:
    """Return the next *count* monthly expiries that are not before *day*."""
    found: list[date] = []
    year, month = day.year, day.month
    while len(found) < count:
        expiry = monthly_expiry(rule, year, month)
        if expiry >= day:
            found.append(expiry)
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
    return found


def _weekday(day: date) -> date:
    while day.weekday() >= calendar.SATURDAY:
        day -= timedelta(days=1)
    return day


def _all(day: date, taken: set[int]) -> Iterator[Instrument]:
    yield from _equities(Exchange.NSE, NSE_EQUITIES)
    yield from _equities(Exchange.BSE, BSE_EQUITIES)
    yield from _indices()
    for underlying in UNDERLYINGS:
        yield from _futures(underlying, day, taken)
        if underlying.strike_step:
            yield from _options(underlying, day, taken)


def _equities(exchange: Exchange, table: str) -> Iterator[Instrument]:
    for line in table.strip().splitlines():
        symbol, token, name, price = line.split("|")
        tick = equity_tick(Decimal(price))
        yield Instrument(
            exchange=exchange,
            symbol=symbol,
            token=int(token) * 256 + SEGMENT_CODE[exchange],
            tick_size=tick,
            lot_size=1,
            name=name,
            segment=exchange,
            last_price=round_to_tick(Decimal(price), tick),
        )


def _indices() -> Iterator[Instrument]:
    for line in INDICES.strip().splitlines():
        exchange, symbol, token, price = line.split("|")
        yield Instrument(
            exchange=Exchange(exchange),
            symbol=symbol,
            token=int(token) * 256 + SEGMENT_CODE["INDICES"],
            tick_size=Decimal(0),
            lot_size=0,
            name=symbol,
            segment="INDICES",
            last_price=Decimal(price),
        )


def _futures(underlying: Underlying, day: date, taken: set[int]) -> Iterator[Instrument]:
    for ahead, expiry in enumerate(coming_months(underlying.expiry_rule, day)):
        symbol = f"{underlying.symbol}{expiry:%y}{_MONTHS[expiry.month - 1]}FUT"
        carry = 1 + Decimal("0.005") * (ahead + 1)
        yield _derivative(underlying, symbol, expiry, "FUT", underlying.price * carry, None, taken)


def _options(underlying: Underlying, day: date, taken: set[int]) -> Iterator[Instrument]:
    month = coming_months(underlying.expiry_rule, day, 1)[0]
    expiries = {month}
    if underlying.weekly_options:
        expiries.add(day + timedelta(days=(calendar.TUESDAY - day.weekday()) % 7))
    step = underlying.strike_step or 1
    middle = int(underlying.price / step) * step
    for expiry in sorted(expiries):
        monthly = expiry == monthly_expiry(underlying.expiry_rule, expiry.year, expiry.month)
        middle_part = (
            f"{expiry:%y}{_MONTHS[expiry.month - 1]}"
            if monthly
            else f"{expiry:%y}{_WEEKLY_MONTHS[expiry.month - 1]}{expiry:%d}"
        )
        for strike in range(middle - _STRIKES_EACH_SIDE * step, middle + (_STRIKES_EACH_SIDE + 1) * step, step):
            for kind in ("CE", "PE"):
                symbol = f"{underlying.symbol}{middle_part}{strike}{kind}"
                premium = _premium(underlying.price, Decimal(strike), kind, (expiry - day).days)
                yield _derivative(underlying, symbol, expiry, kind, premium, Decimal(strike), taken)


def _premium(spot: Decimal, strike: Decimal, kind: str, days: int) -> Decimal:
    """A plausible premium: intrinsic value plus time value that falls off with moneyness and time."""
    intrinsic = max(Decimal(0), spot - strike if kind == "CE" else strike - spot)
    at_the_money = spot * Decimal("0.0035") * Decimal(days + 1).sqrt()
    return intrinsic + at_the_money / (1 + abs(spot - strike) / at_the_money)


def _derivative(
    underlying: Underlying,
    symbol: str,
    expiry: date,
    kind: str,
    price: Decimal,
    strike: Decimal | None,
    taken: set[int],
) -> Instrument:
    exchange = Exchange(underlying.exchange)
    number = int.from_bytes(blake2b(symbol.encode(), digest_size=3).digest()) % 14_000_000 + _DERIVATIVE_TOKENS_FROM
    while (token := number * 256 + SEGMENT_CODE[exchange]) in taken:
        number += 1
    taken.add(token)
    return Instrument(
        exchange=exchange,
        symbol=symbol,
        token=token,
        tick_size=underlying.tick_size,
        lot_size=underlying.lot_size,
        name=underlying.symbol,
        instrument_type=kind,
        segment=f"{exchange}-{'FUT' if kind == 'FUT' else 'OPT'}",
        expiry=expiry,
        strike=strike,
        last_price=round_to_tick(price, underlying.tick_size),
        freeze_quantity=underlying.freeze_quantity,
        multiplier=underlying.multiplier,
    )


def _csv_row(instrument: Instrument) -> str:
    name = instrument.name if "," not in instrument.name else f'"{instrument.name}"'
    return ",".join(
        (
            str(instrument.token),
            str(instrument.token // 256),
            instrument.symbol,
            name,
            str(instrument.last_price),
            instrument.expiry.isoformat() if instrument.expiry else "",
            str(instrument.strike) if instrument.strike is not None else "0.0",
            str(instrument.tick_size),
            str(instrument.lot_size),
            instrument.instrument_type,
            instrument.segment,
            instrument.exchange,
        )
    )
