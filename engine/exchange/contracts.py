"""What futures and options are written on, with the rules of their lots, ticks, strikes and expiries.

Lot sizes and freeze quantities of the indices follow the exchanges' notices of 2026; a stock's lot is worth
about seven lakh rupees, as the exchanges set it, and forty lots are its freeze quantity. Freeze
quantities are rounded down to whole lots.
"""

from decimal import Decimal
from functools import cache

import msgspec


class Underlying(msgspec.Struct, frozen=True, kw_only=True):
    """Something that futures (and options, where ``strike_step`` is set) are written on.

    ``price`` and ticks are rupees; ``lot_size`` is units on NFO and BFO and 1 elsewhere; ``multiplier`` turns price
    times quantity into rupees. ``expiry_rule`` names a rule of `engine.exchange.expiries`. ``futures`` counts the
    monthly futures, ``option_months`` the monthly option series, ``weekly_options`` the weekly ones;
    ``strikes`` is how many strikes a series has on each side of the money.
    """

    exchange: str
    symbol: str
    price: Decimal
    tick_size: Decimal
    lot_size: int
    expiry_rule: str
    option_tick: Decimal = Decimal("0.05")
    freeze_quantity: int | None = None
    multiplier: Decimal = Decimal(1)
    strike_step: Decimal | None = None
    strikes: int = 10
    futures: int = 3
    option_months: int = 1
    weekly_options: int = 0


# symbol and price of the shares that have futures and options; a lot where the exchange's is known
_STOCKS = """
RELIANCE 2450.50 500 20000, INFY 1450 400 20000, SBIN 815 750 30000, TCS 3890 175 7000, HDFCBANK 1640 550 22000,
ICICIBANK 1245, ITC 465, LT 3560, AXISBANK 1130, KOTAKBANK 1760, BHARTIARTL 1570, HINDUNILVR 2480, BAJFINANCE 6900,
MARUTI 11200, ASIANPAINT 2480, TITAN 3270, SUNPHARMA 1790, WIPRO 560, HCLTECH 1880, NTPC 365, M&M 3100,
ADANIENT 2480, ADANIPORTS 1390, APOLLOHOSP 7150, BAJAJ-AUTO 9050, BAJAJFINSV 2050, BANKBARODA 245, BEL 398, BPCL 342,
BRITANNIA 5850, CANBK 128, CIPLA 1545, COALINDIA 392, DIVISLAB 6420, DLF 765, DRREDDY 1265, EICHERMOT 6980,
ETERNAL 312, GAIL 182, GRASIM 2790, HAL 4720, HDFCLIFE 762, HEROMOTOCO 5480, HINDALCO 782, INDUSINDBK 795, IOC 152,
IRCTC 718, JIOFIN 306, JSWSTEEL 1165, NESTLEIND 1248, ONGC 248, PNB 118, POWERGRID 288, SAIL 136, SBILIFE 1985,
SHRIRAMFIN 702, TATACONSUM 1148, TATAPOWER 398, TATASTEEL 172, TECHM 1462, TRENT 4720, ULTRACEMCO 11950, VEDL 482
"""
# how many of them, the first of the list, have options too
_WITH_OPTIONS = 40
_STRIKE_STEPS = ((100, "1"), (250, "2.5"), (500, "5"), (1000, "10"), (2500, "20"), (5000, "50"))
_LOT_VALUE = 700_000


@cache
def underlyings() -> tuple[Underlying, ...]:
    """Return every underlying. The place in the list of its exchange is part of its contracts' tokens."""
    return (*_INDICES, *_stocks(), *_COMMODITIES, *_currencies("CDS"), *_currencies("BCD"))


def equity_tick(price: Decimal) -> Decimal:
    """Return the tick in rupees of a share at *price*: 0.01 below 250, 0.05 up to 1,000, 0.10 up to 5,000, and so on.

    Source: NSE's tick sizes by price band, in force since April 2025.
    """
    if price < 250:
        return Decimal("0.01")
    bands = ((1000, "0.05"), (5000, "0.10"), (10_000, "0.50"), (20_000, "1"))
    return next((Decimal(tick) for bound, tick in bands if price <= bound), Decimal(5))


def _index(
    exchange: str, symbol: str, price: str, lot: int, freeze: int, step: int, tick: str, rule: str, weekly: int = 0
) -> Underlying:
    return Underlying(
        exchange=exchange,
        symbol=symbol,
        price=Decimal(price),
        tick_size=Decimal(tick),
        lot_size=lot,
        expiry_rule=rule,
        freeze_quantity=freeze // lot * lot,
        strike_step=Decimal(step),
        strikes=30 if weekly else 20,
        option_months=3 if weekly else 2,
        weekly_options=weekly,
    )


def _stocks() -> tuple[Underlying, ...]:
    found = []
    for number, line in enumerate(_STOCKS.replace("\n", " ").split(",")):
        symbol, price_text, *known = line.split()
        price = Decimal(price_text)
        lot = int(known[0]) if known else _lot(price)
        freeze = int(known[1]) if known else 40 * lot
        step = next((step for bound, step in _STRIKE_STEPS if price < bound), "100")
        found.append(
            Underlying(
                exchange="NFO",
                symbol=symbol,
                price=price,
                tick_size=equity_tick(price),
                lot_size=lot,
                expiry_rule="last_tuesday",
                freeze_quantity=freeze // lot * lot,
                strike_step=Decimal(step) if number < _WITH_OPTIONS else None,
                strikes=12,
            )
        )
    return tuple(found)


def _lot(price: Decimal) -> int:
    step = 25 if price < 5000 else 5
    return max(1, int(_LOT_VALUE / price) // step) * step


def _commodity(
    symbol: str, price: str, tick: str, multiplier: int, rule: str, step: int | None = None, option_tick: str = "0.05"
) -> Underlying:
    return Underlying(
        exchange="MCX",
        symbol=symbol,
        price=Decimal(price),
        tick_size=Decimal(tick),
        lot_size=1,
        expiry_rule=rule,
        option_tick=Decimal(option_tick),
        multiplier=Decimal(multiplier),
        strike_step=None if step is None else Decimal(step),
        strikes=15,
    )


def _currencies(exchange: str) -> tuple[Underlying, ...]:
    pairs = (("USDINR", "88.50"), ("EURINR", "102.40"), ("GBPINR", "116.20"), ("JPYINR", "57.30"))
    return tuple(
        Underlying(
            exchange=exchange,
            symbol=symbol,
            price=Decimal(price),
            tick_size=Decimal("0.0025"),
            lot_size=1,
            expiry_rule="two_before_month_end",
            option_tick=Decimal("0.0025"),
            multiplier=Decimal(1000),
            strike_step=Decimal("0.25") if symbol == "USDINR" else None,
            strikes=12,
            futures=12 if symbol == "USDINR" else 6,
            option_months=2,
        )
        for symbol, price in pairs
    )


_INDICES = (
    _index("NFO", "NIFTY", "24500", 65, 1800, 50, "0.05", "last_tuesday", weekly=4),
    _index("NFO", "BANKNIFTY", "55500", 30, 600, 100, "0.05", "last_tuesday"),
    _index("NFO", "FINNIFTY", "26100", 60, 1200, 50, "0.05", "last_tuesday"),
    _index("NFO", "MIDCPNIFTY", "13200", 120, 2800, 25, "0.05", "last_tuesday"),
    _index("BFO", "SENSEX", "80400", 20, 1000, 100, "0.05", "last_thursday", weekly=4),
    _index("BFO", "BANKEX", "62300", 30, 900, 100, "0.05", "last_thursday"),
)
_COMMODITIES = (
    _commodity("CRUDEOIL", "5600", "1", 100, "day_19", 50, "0.10"),
    _commodity("CRUDEOILM", "5600", "1", 10, "day_19"),
    _commodity("NATURALGAS", "384", "0.10", 1250, "day_25", 5),
    _commodity("NATGASMINI", "384", "0.10", 250, "day_25"),
    _commodity("GOLD", "122400", "1", 100, "day_5"),
    _commodity("GOLDM", "121000", "1", 10, "day_5", 500, "0.50"),
    _commodity("GOLDGUINEA", "97800", "1", 1, "month_end"),
    _commodity("SILVER", "152800", "1", 30, "day_5"),
    _commodity("SILVERM", "152000", "1", 5, "month_end", 1000, "0.50"),
    _commodity("SILVERMIC", "152000", "1", 1, "month_end"),
    _commodity("COPPER", "996", "0.05", 2500, "month_end"),
    _commodity("ZINC", "301", "0.05", 5000, "month_end"),
    _commodity("ZINCMINI", "301", "0.05", 1000, "month_end"),
    _commodity("ALUMINIUM", "272", "0.05", 5000, "month_end"),
    _commodity("LEADMINI", "183", "0.05", 1000, "month_end"),
    _commodity("NICKEL", "1342", "0.10", 1500, "month_end"),
    _commodity("MENTHAOIL", "962", "0.25", 360, "month_end"),
    _commodity("KAPAS", "1584", "0.50", 200, "month_end"),
)
