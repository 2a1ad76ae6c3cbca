"""What is listed: symbols with their exchange tokens and the prices that the price process starts from.

Prices are of the order of late 2026 and need not be exact. Lot sizes and freeze quantities follow
the exchanges' notices of 2026; a freeze quantity is rounded down to whole lots.
"""

from decimal import Decimal

import msgspec

# symbol|exchange token|name|price
NSE_EQUITIES = """
RELIANCE|2885|RELIANCE INDUSTRIES|2450.50
TCS|11536|TATA CONSULTANCY SERV LT|3890
INFY|1594|INFOSYS|1450
HDFCBANK|1333|HDFC BANK|1640
ICICIBANK|4963|ICICI BANK|1245
SBIN|3045|STATE BANK OF INDIA|815
ITC|1660|ITC|465
LT|11483|LARSEN & TOUBRO|3560
AXISBANK|5900|AXIS BANK|1130
KOTAKBANK|1922|KOTAK MAHINDRA BANK|1760
BHARTIARTL|10604|BHARTI AIRTEL|1570
HINDUNILVR|1394|HINDUSTAN UNILEVER|2480
BAJFINANCE|317|BAJAJ FINANCE|6900
MARUTI|10999|MARUTI SUZUKI INDIA|11200
ASIANPAINT|236|ASIAN PAINTS|2480
TITAN|3506|TITAN COMPANY|3270
SUNPHARMA|3351|SUN PHARMACEUTICAL IND L|1790
WIPRO|3787|WIPRO|560
HCLTECH|7229|HCL TECHNOLOGIES|1880
NTPC|11630|NTPC|365
M&M|2031|MAHINDRA & MAHINDRA|3100
ADANIENT|25|ADANI ENTERPRISES|2480
ADANIPORTS|15083|ADANI PORT & SEZ|1390
APOLLOHOSP|157|APOLLO HOSPITALS ENTER. L|7150
BAJAJ-AUTO|16669|BAJAJ AUTO|9050
BAJAJFINSV|16675|BAJAJ FINSERV|2050
BANKBARODA|4668|BANK OF BARODA|245
BEL|383|BHARAT ELECTRONICS|398
BPCL|526|BHARAT PETROLEUM CORP LT|342
BRITANNIA|547|BRITANNIA INDUSTRIES|5850
CANBK|10794|CANARA BANK|128
CIPLA|694|CIPLA|1545
COALINDIA|20374|COAL INDIA|392
DIVISLAB|10940|DIVI'S LABORATORIES|6420
DLF|14732|DLF|765
DRREDDY|881|DR. REDDY'S LABORATORIES|1265
EICHERMOT|910|EICHER MOTORS|6980
ETERNAL|5097|ETERNAL|312
GAIL|4717|GAIL (INDIA)|182
GRASIM|1232|GRASIM INDUSTRIES|2790
HAL|2303|HINDUSTAN AERONAUTICS|4720
HDFCLIFE|467|HDFC LIFE INS CO|762
HEROMOTOCO|1348|HERO MOTOCORP|5480
HINDALCO|1363|HINDALCO INDUSTRIES|782
IDEA|14366|VODAFONE IDEA|9.40
INDUSINDBK|5258|INDUSIND BANK|795
IOC|1624|INDIAN OIL CORP|152
IRCTC|13611|INDIAN RAIL TOUR CORP|718
JIOFIN|18143|JIO FIN SERVICES|306
JSWSTEEL|11723|JSW STEEL|1165
NESTLEIND|17963|NESTLE INDIA|1248
ONGC|2475|OIL AND NATURAL GAS CORP.|248
PNB|10666|PUNJAB NATIONAL BANK|118
POWERGRID|14977|POWER GRID CORP. LTD.|288
SAIL|2963|STEEL AUTHORITY OF INDIA|136
SBILIFE|21808|SBI LIFE INSURANCE CO|1985
SHRIRAMFIN|4306|SHRIRAM FINANCE|702
TATACONSUM|3432|TATA CONSUMER PRODUCT|1148
TATAPOWER|3426|TATA POWER CO|398
TATASTEEL|3499|TATA STEEL|172
TECHM|13538|TECH MAHINDRA|1462
TRENT|1964|TRENT|4720
ULTRACEMCO|11532|ULTRATECH CEMENT|11950
VEDL|3063|VEDANTA|482
YESBANK|11915|YES BANK|22.10
NIFTYBEES|10576|NIP IND ETF NIFTY BEES|276
"""

BSE_EQUITIES = """
RELIANCE|500325|RELIANCE INDUSTRIES LTD.|2450.50
TCS|532540|TATA CONSULTANCY SERVICES LTD.|3890
INFY|500209|INFOSYS LTD|1450
HDFCBANK|500180|HDFC BANK LTD.|1640
ICICIBANK|532174|ICICI BANK LTD.|1245
SBIN|500112|STATE BANK OF INDIA|815
ITC|500875|ITC LTD.|465
TATASTEEL|500470|TATA STEEL LTD.|172
"""

# exchange|symbol|exchange token|price
INDICES = """
NSE|NIFTY 50|1001|24500
NSE|NIFTY BANK|1016|55500
NSE|NIFTY FIN SERVICE|1007|26100
NSE|INDIA VIX|1035|13.25
BSE|SENSEX|1|80400
"""


class Underlying(msgspec.Struct, frozen=True, kw_only=True):
    """Something that futures (and options, when ``strike_step`` is set) are written on.

    ``lot_size`` is units on NFO and 1 elsewhere; ``multiplier`` turns price times quantity into rupees.
    ``expiry_rule`` names the function of `engine.exchange.instruments` that finds the expiry of a month.
    """

    exchange: str
    symbol: str
    price: Decimal
    tick_size: Decimal
    lot_size: int
    expiry_rule: str
    freeze_quantity: int | None = None
    multiplier: Decimal = Decimal(1)
    strike_step: int | None = None
    weekly_options: bool = False


def _nfo(
    symbol: str, price: str, lot_size: int, freeze: int, step: int | None = None, weekly: bool = False
) -> Underlying:
    return Underlying(
        exchange="NFO",
        symbol=symbol,
        price=Decimal(price),
        tick_size=Decimal("0.05") if step else Decimal("0.10"),
        lot_size=lot_size,
        expiry_rule="last_tuesday",
        freeze_quantity=freeze // lot_size * lot_size,
        strike_step=step,
        weekly_options=weekly,
    )


def _lots(exchange: str, symbol: str, price: str, tick: str, multiplier: int, rule: str) -> Underlying:
    return Underlying(
        exchange=exchange,
        symbol=symbol,
        price=Decimal(price),
        tick_size=Decimal(tick),
        lot_size=1,
        expiry_rule=rule,
        multiplier=Decimal(multiplier),
    )


UNDERLYINGS: tuple[Underlying, ...] = (
    _nfo("NIFTY", "24500", 65, 1800, step=50, weekly=True),
    _nfo("BANKNIFTY", "55500", 30, 600, step=100),
    _nfo("RELIANCE", "2450.50", 500, 20000),
    _nfo("INFY", "1450", 400, 20000),
    _nfo("SBIN", "815", 750, 30000),
    _nfo("TCS", "3890", 175, 7000),
    _nfo("HDFCBANK", "1640", 550, 22000),
    _lots("MCX", "CRUDEOIL", "5600", "1", 100, "day_19"),
    _lots("MCX", "GOLDM", "121000", "1", 10, "day_5"),
    _lots("MCX", "SILVERM", "152000", "1", 5, "month_end"),
    _lots("MCX", "NATURALGAS", "384", "0.10", 1250, "day_25"),
    _lots("CDS", "USDINR", "88.50", "0.0025", 1000, "two_before_month_end"),
    _lots("CDS", "EURINR", "102.40", "0.0025", 1000, "two_before_month_end"),
    _lots("CDS", "GBPINR", "116.20", "0.0025", 1000, "two_before_month_end"),
)
