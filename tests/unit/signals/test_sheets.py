# ruff: noqa: RUF001 -- look-alike letters are what is tested
"""Signals as JSON: the contract's shape, what people's sheets make of it, and every refusal."""

import json
from decimal import Decimal

import pytest

from engine.domain.enums import Exchange, OrderType, ProductType, TransactionType, Validity, Variety
from engine.domain.options import ExitMode, OrderOptions
from engine.domain.signal import Refusal, Signal
from engine.signals import sheets, webhook
from engine.signals.refusals import RefusalCode as Code
from engine.signals.sheets import Batch

ROW = {
    "symbol": "INFY",
    "exchange": "NSE",
    "transactionType": "BUY",
    "quantity": 100,
    "price": 1450,
    "orderType": "LIMIT",
    "productType": "CNC",
}
DROP = object()


def row(**changes):
    return {name: value for name, value in {**ROW, **changes}.items() if value is not DROP}


def parse(value):
    batch = sheets.parse(json.dumps(value).encode())
    assert isinstance(batch, Batch)
    return batch


def signal(**changes) -> Signal:
    (item,) = parse(row(**changes)).items
    assert isinstance(item, Signal), item
    return item


def refusal(**changes) -> Refusal:
    (item,) = parse(row(**changes)).items
    assert isinstance(item, Refusal), item
    return item


def test_parse_contract_row_gives_signal_with_defaults():
    assert signal() == Signal(
        symbol="INFY",
        exchange=Exchange.NSE,
        transaction_type=TransactionType.BUY,
        quantity=100,
        order_type=OrderType.LIMIT,
        product_type=ProductType.CNC,
        price=Decimal(1450),
        validity=Validity.DAY,
        variety=Variety.REGULAR,
    )


def test_parse_row_with_every_field_gives_all_of_them():
    found = signal(
        orderType="SL",
        price=2450.55,
        triggerPrice="2449.50",
        validity="ioc",
        variety="amo",
        stopLoss=2400,
        target=2500.25,
    )
    assert found.price == Decimal("2450.55")
    assert found.trigger_price == Decimal("2449.50")
    assert (found.validity, found.variety) == (Validity.IOC, Variety.AMO)
    assert (found.stop_loss, found.target) == (Decimal(2400), Decimal("2500.25"))
    assert isinstance(found.price, Decimal)


def test_parse_single_object_is_not_an_array():
    assert parse(ROW).is_array is False
    assert parse([ROW]).is_array is True


def test_parse_array_judges_each_element_in_order():
    batch = parse([row(symbol="SBIN"), row(quantity=0), 5, row(symbol="TCS")])
    assert [type(item) for item in batch.items] == [Signal, Refusal, Refusal, Signal]
    assert [item.symbol for item in batch.items if isinstance(item, Signal)] == ["SBIN", "TCS"]
    assert batch.items[2].code == Code.WRONG_SHAPE


def test_parse_array_of_100_is_the_last_accepted():
    assert len(parse([ROW] * 100).items) == 100
    refused = sheets.parse(json.dumps([ROW] * 101).encode())
    assert isinstance(refused, Refusal)
    assert refused.code == Code.BATCH_TOO_LARGE
    assert "101" in refused.message


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[]", Code.EMPTY_BATCH),
        (b'"BUY"', Code.WRONG_SHAPE),
        (b"null", Code.WRONG_SHAPE),
        (b"5", Code.WRONG_SHAPE),
        (b"{", Code.INVALID_JSON),
        (b'{"symbol": "A", "symbol": "B"}', Code.DUPLICATE_KEY),
        (b"[[[[[[[[[]]]]]]]]]", Code.TOO_DEEP),
    ],
)
def test_parse_unreadable_body_is_refused_whole(body, code):
    refused = sheets.parse(body)
    assert isinstance(refused, Refusal)
    assert refused.code == code


@pytest.mark.parametrize(
    "changes",
    [
        {"symbol": " infy "},
        {"exchange": "nse"},
        {"transactionType": "Buy"},
        {"orderType": "limit "},
        {"productType": "cnc"},
        {"quantity": 100.0},
        {"quantity": "100"},
        {"quantity": " 100 "},
        {"price": 1450.0},
        {"price": "1450"},
        {"price": "1450.0000"},
        {"validity": "Day"},
        {"variety": "REGULAR"},
        {"validity": "", "variety": None},
        {"triggerPrice": None, "stopLoss": "", "target": 0},
        {"triggerPrice": 0, "stopLoss": "0", "target": "0.00"},
    ],
)
def test_parse_spreadsheet_spelling_gives_the_same_signal(changes):
    assert signal(**changes) == signal()


@pytest.mark.parametrize("price", [DROP, None, 0, 0.0, "", " ", "0", 1450, "1450.50"])
def test_parse_market_order_price_is_dropped(price):
    assert signal(orderType="MARKET", price=price).price is None


@pytest.mark.parametrize("price", [-1, "abc", "1,450", 0.12345])
def test_parse_market_order_price_that_is_no_price_is_refused(price):
    assert refusal(orderType="MARKET", price=price).field == "price"


@pytest.mark.parametrize("symbol", ["M&M", "BAJAJ-AUTO", "NIFTY 50", "NIFTY26NOV24000CE", "A.B_C", "X" * 40])
def test_parse_symbol_of_the_exchange_is_kept(symbol):
    assert signal(symbol=symbol).symbol == symbol


@pytest.mark.parametrize("name", ["symbol", "exchange", "transactionType", "quantity", "orderType", "productType"])
@pytest.mark.parametrize("value", [DROP, None, "", "  "])
def test_parse_required_field_absent_is_refused_by_name(name, value):
    refused = refusal(**{name: value})
    assert (refused.code, refused.field) == (Code.MISSING_FIELD, name)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"price": DROP}, "price"),
        ({"price": 0}, "price"),
        ({"orderType": "SL"}, "triggerPrice"),
        ({"orderType": "SL", "price": None, "triggerPrice": 5}, "price"),
        ({"orderType": "SL-M", "price": None}, "triggerPrice"),
    ],
)
def test_parse_price_that_the_order_type_needs_is_asked_for(changes, field):
    refused = refusal(**changes)
    assert (refused.code, refused.field) == (Code.MISSING_FIELD, field)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"triggerPrice": 5}, "triggerPrice"),
        ({"orderType": "MARKET", "triggerPrice": 5}, "triggerPrice"),
        ({"orderType": "SL-M", "triggerPrice": 5, "price": 5}, "price"),
    ],
)
def test_parse_price_that_contradicts_the_order_type_is_refused(changes, field):
    refused = refusal(**changes)
    assert (refused.code, refused.field) == (Code.NOT_ALLOWED, field)


def test_parse_sl_m_takes_trigger_only():
    found = signal(orderType="sl-m", price=None, triggerPrice=1400)
    assert (found.order_type, found.price, found.trigger_price) == (OrderType.SL_M, None, Decimal(1400))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("symbol", "INFY;DROP"),
        ("symbol", "=HYPERLINK(1)"),
        ("symbol", "ＩＮＦＹ"),
        ("symbol", "ınfy"),
        ("symbol", "IN\u200fFY"),
        ("symbol", "IN\nFY"),
        ("symbol", "INFY\n"),
        ("symbol", "X" * 41),
        ("exchange", "NYSE"),
        ("exchange", "N SE"),
        ("orderType", "lımıt"),
        ("orderType", "SLM"),
        ("orderType", "SL_M"),
        ("transactionType", "HOLD"),
        ("productType", "BO"),
        ("validity", "GTC"),
        ("variety", "bo"),
        ("quantity", 0),
        ("quantity", -5),
        ("quantity", 1.5),
        ("quantity", 1_000_000_000),
        ("quantity", "1e3"),
        ("quantity", "1,000"),
        ("quantity", "+10"),
        ("quantity", "010"),
        ("quantity", "10.0"),
        ("quantity", "٣"),
        ("quantity", "10\n"),
        ("price", -1),
        ("price", 0.00001),
        ("price", 2475.0049999999997),
        ("price", "1e3"),
        ("price", "1,450"),
        ("price", "₹1450"),
        ("price", "1450."),
        ("price", ".5"),
        ("price", "1٤50"),
        ("price", 1_000_000_000),
        ("stopLoss", -1),
        ("target", "high"),
    ],
)
def test_parse_value_outside_its_field_is_refused(field, value):
    refused = refusal(**{field: value})
    assert (refused.code, refused.field) == (Code.INVALID_VALUE, field)
    assert refused.message.startswith(field)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("symbol", 5),
        ("exchange", ["NSE"]),
        ("orderType", {"a": 1}),
        ("validity", 0),
        ("quantity", True),
        ("quantity", [10]),
        ("price", False),
        ("price", {}),
        ("triggerPrice", []),
    ],
)
def test_parse_value_of_another_type_is_refused(field, value):
    refused = refusal(**{field: value})
    assert (refused.code, refused.field) == (Code.WRONG_TYPE, field)


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"variety": "iceberg"}, Code.MISSING_FIELD, "icebergLegs"),
        ({"variety": "auction"}, Code.MISSING_FIELD, "auctionNumber"),
        ({"validity": "TTL"}, Code.MISSING_FIELD, "validityTtl"),
        ({"variety": "co", "productType": "MIS"}, Code.MISSING_FIELD, "triggerPrice"),
        ({"icebergLegs": 5}, Code.NOT_ALLOWED, "icebergLegs"),
        ({"validityTtl": 5}, Code.NOT_ALLOWED, "validityTtl"),
        ({"auctionNumber": "12"}, Code.NOT_ALLOWED, "auctionNumber"),
        ({"marketProtection": 2}, Code.NOT_ALLOWED, "marketProtection"),
        ({"exits": "gtt"}, Code.NOT_ALLOWED, "exits"),
        ({"variety": "iceberg", "icebergLegs": 1}, Code.INVALID_VALUE, "icebergLegs"),
        ({"variety": "iceberg", "icebergLegs": 51}, Code.INVALID_VALUE, "icebergLegs"),
        ({"validity": "TTL", "validityTtl": 121}, Code.INVALID_VALUE, "validityTtl"),
        ({"disclosedQuantity": 101}, Code.INVALID_VALUE, "disclosedQuantity"),
        ({"orderType": "MARKET", "marketProtection": 101}, Code.INVALID_VALUE, "marketProtection"),
        ({"stopLoss": 1400, "exits": "bracket"}, Code.INVALID_VALUE, "exits"),
        (
            {"variety": "co", "productType": "MIS", "triggerPrice": 1400, "stopLoss": 1400},
            Code.NOT_ALLOWED,
            "stopLoss",
        ),
        ({"variety": "co", "orderType": "SL", "triggerPrice": 1400}, Code.NOT_ALLOWED, "orderType"),
    ],
)
def test_parse_options_that_do_not_fit_are_refused_naming_the_field(changes, code, field):
    refused = refusal(**changes)
    assert (refused.code, refused.field) == (code, field)


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"variety": "ICEBERG", "icebergLegs": 5}, OrderOptions(iceberg_legs=5)),
        ({"variety": "auction", "auctionNumber": "22"}, OrderOptions(auction_number="22")),
        ({"validity": "ttl", "validityTtl": "10"}, OrderOptions(validity_ttl=10)),
        ({"disclosedQuantity": 10}, OrderOptions(disclosed_quantity=10)),
        ({"orderType": "MARKET", "marketProtection": 2.5}, OrderOptions(market_protection=Decimal("2.5"))),
        ({"orderType": "MARKET", "marketProtection": "auto"}, OrderOptions(market_protection=Decimal(-1))),
        ({"stopLoss": 1400, "exits": "GTT"}, OrderOptions(exits=ExitMode.GTT)),
        ({"icebergLegs": 0, "disclosedQuantity": "", "exits": None}, OrderOptions()),
    ],
)
def test_parse_options_are_read(changes, options):
    assert signal(**changes).options == options


def test_cover_order_carries_the_trigger_of_its_stop_at_market():
    found = signal(variety="co", orderType="MARKET", productType="MIS", triggerPrice=1400)
    assert (found.trigger_price, found.price) == (Decimal(1400), None)


@pytest.mark.parametrize("name", ["qty", "Symbol", "account", "userId", "secret", "", "x" * 500, "a\u202eb\n"])
def test_parse_unknown_key_is_refused_naming_it(name):
    refused = refusal(**{name: 1})
    assert refused.code == Code.UNKNOWN_FIELD
    assert refused.field is not None
    assert len(refused.field) <= 40
    assert refused.field.isprintable()
    assert "transactionType" in refused.message


def test_webhook_reads_the_same_as_sheets():
    body = json.dumps([ROW]).encode()
    assert webhook.parse(body) == sheets.parse(body)


@pytest.mark.parametrize(
    ("written", "read"),
    [("NIFTY ATM+2 CE", "NIFTY ATM+2 CE"), (" nifty  otm3 pe  monthly ", "NIFTY OTM3 PE MONTHLY"), ("MM", "MM")],
)
def test_parse_symbol_may_be_an_alias_or_a_contract_in_words(written, read):
    assert signal(symbol=written).symbol == read


def test_parse_contract_in_words_of_no_known_order_is_told_how_it_is_written():
    told = refusal(symbol="NIFTY WEEKLY ATM+1 PE")
    assert told.field == "symbol"
    assert "NIFTY OTM2 PE MONTHLY" in told.message


@pytest.mark.parametrize("symbol", ["NIFTY+2", "NIFTY ATM+2", "NIFTY ATM+2 CE +", "A+B"])
def test_parse_plus_outside_of_a_contract_is_refused(symbol):
    assert refusal(symbol=symbol).code == Code.INVALID_VALUE


POSITION = {"positionSize": 50, "quantity": DROP, "transactionType": DROP, "orderType": "MARKET", "price": DROP}


@pytest.mark.parametrize(
    ("given", "goal", "side", "quantity"),
    [
        (50, 50, TransactionType.BUY, 50),
        ("-50", -50, TransactionType.SELL, 50),
        (0, 0, TransactionType.BUY, 1),
        ("0", 0, TransactionType.BUY, 1),
        (50.0, 50, TransactionType.BUY, 50),
    ],
)
def test_parse_position_size_decides_side_and_size_by_itself(given, goal, side, quantity):
    found = signal(**POSITION | {"positionSize": given})
    assert (found.position_size, found.transaction_type, found.quantity) == (goal, side, quantity)


def test_parse_position_size_beside_what_a_fixed_column_leaves():
    assert signal(**POSITION | {"quantity": "", "transactionType": "SELL"}).position_size == 50
    assert signal(**POSITION | {"quantity": 0}).position_size == 50
    assert signal(positionSize="").position_size is None


@pytest.mark.parametrize("given", ["1.5", "+5", "-0", "5e3", "ten", "1,000", 10**10, "--5", "-", True, "５"])
def test_parse_position_size_that_is_no_plain_number_is_refused(given):
    assert refusal(**POSITION | {"positionSize": given}).field == "positionSize"


def test_parse_position_size_with_a_quantity_is_refused():
    found = refusal(**POSITION | {"quantity": 10})
    assert (found.code, found.field) == (Code.NOT_ALLOWED, "positionSize")


def test_parse_without_position_size_needs_side_and_quantity():
    assert refusal(transactionType=DROP).field == "transactionType"
    assert refusal(quantity=DROP).field == "quantity"
