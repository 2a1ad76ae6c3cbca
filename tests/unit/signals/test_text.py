# ruff: noqa: RUF001 -- look-alike letters are what is tested
"""The text grammar: every form of the contract, and everything that can be read two ways."""

from decimal import Decimal

import pytest

from engine.domain.enums import Exchange, OrderType, ProductType, TransactionType, Validity
from engine.domain.signal import Refusal, Signal
from engine.signals.refusals import RefusalCode as Code
from engine.signals.text import parse_text

CONTRACT = "BUY RELIANCE NSE\nQty: 10\nPrice: 2450.50\nType: LIMIT\nProduct: MIS"
LIMIT = Signal(
    symbol="RELIANCE",
    exchange=Exchange.NSE,
    transaction_type=TransactionType.BUY,
    quantity=10,
    order_type=OrderType.LIMIT,
    product_type=ProductType.MIS,
    price=Decimal("2450.50"),
)
MARKET = "BUY RELIANCE NSE\nQty: 10\nType: MARKET\nProduct: MIS"


def one(text: str) -> Signal | Refusal:
    (item,) = parse_text(text)
    return item


def refusal(text: str) -> Refusal:
    item = one(text)
    assert isinstance(item, Refusal), item
    assert len(item.message) < 300
    return item


@pytest.mark.parametrize(
    "text",
    [
        CONTRACT,
        CONTRACT.replace("\n", "\r\n"),
        f"\n\n  {CONTRACT}  \n \n",
        "buy reliance nse\nqty: 10\nPRICE: 2450.50\ntype: limit\nPRODUCT: mis",
        "BUY RELIANCE NSE\nProduct: MIS\nType: LIMIT\nPrice: 2450.50\nQty: 10",
        "  BUY   RELIANCE   NSE  \n  Qty  :  10  \nPrice:2450.50\nType :LIMIT\n Product: MIS",
        "BUY RELIANCE NSE 10 @ 2450.50 LIMIT MIS",
        "buy reliance nse 10 @ 2450.50 limit mis",
        "BUY RELIANCE NSE 10 @2450.50 LIMIT MIS",
        "BUY  RELIANCE NSE 10@2450.50 LIMIT  MIS\r\n",
    ],
)
def test_parse_text_contract_forms_give_the_same_signal(text):
    assert one(text) == LIMIT


def test_parse_text_sell_gives_sell():
    found = one(CONTRACT.replace("BUY", "Sell"))
    assert isinstance(found, Signal)
    assert found.transaction_type is TransactionType.SELL


@pytest.mark.parametrize("text", [MARKET, "BUY RELIANCE NSE 10 MARKET MIS"])
def test_parse_text_market_needs_no_price(text):
    found = one(text)
    assert isinstance(found, Signal)
    assert (found.order_type, found.price, found.quantity) == (OrderType.MARKET, None, 10)


def test_parse_text_every_optional_label_is_read():
    found = one(
        "SELL NIFTY26NOV24000CE NFO\nQty: 75\nPrice: 101.05\nTrigger: 102\nType: SL\nProduct: NRML\n"
        "SL: 120\nTarget: 60.5\nValidity: ioc\nAccount: Father's demat"
    )
    assert found == Signal(
        symbol="NIFTY26NOV24000CE",
        exchange=Exchange.NFO,
        transaction_type=TransactionType.SELL,
        quantity=75,
        order_type=OrderType.SL,
        product_type=ProductType.NRML,
        price=Decimal("101.05"),
        trigger_price=Decimal(102),
        stop_loss=Decimal(120),
        target=Decimal("60.5"),
        validity=Validity.IOC,
        account="Father's demat",
    )


def test_parse_text_sl_m_takes_trigger_without_price():
    found = one("SELL RELIANCE NSE\nQty: 1\nTrigger: 2400\nType: SL-M\nProduct: MIS")
    assert isinstance(found, Signal)
    assert (found.order_type, found.trigger_price, found.price) == (OrderType.SL_M, Decimal(2400), None)


def test_parse_text_one_line_may_be_followed_by_other_labels():
    found = one("BUY RELIANCE NSE 10 @ 2450.50 SL MIS\nTrigger: 2449\nTarget: 2500")
    assert isinstance(found, Signal)
    assert (found.order_type, found.trigger_price, found.target) == (OrderType.SL, Decimal(2449), Decimal(2500))


@pytest.mark.parametrize("symbol", ["BSE", "MCX", "M&M", "BAJAJ-AUTO", "MIS"])
def test_parse_text_symbol_that_is_also_a_word_is_a_symbol(symbol):
    for text in (f"BUY {symbol} NSE 10 MARKET CNC", f"BUY {symbol} NSE\nQty: 10\nType: MARKET\nProduct: CNC"):
        found = one(text)
        assert isinstance(found, Signal)
        assert (found.symbol, found.exchange) == (symbol, Exchange.NSE)


def test_parse_text_several_signals_are_parted_by_empty_lines():
    items = parse_text(f"{CONTRACT}\n\nSELL SBIN NSE 5 MARKET MIS\r\n  \r\n\nBUY INFY NSE\nQty: x\n\n{MARKET}")
    assert [type(item) for item in items] == [Signal, Signal, Refusal, Signal]
    assert items[0] == LIMIT


def test_parse_text_of_100_signals_is_the_last_accepted():
    text = "BUY A NSE 1 MARKET MIS\n\n"
    assert len(parse_text(text * 100)) == 100
    (refused,) = parse_text(text * 101)
    assert isinstance(refused, Refusal)
    assert refused.code == Code.BATCH_TOO_LARGE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "hello",
        "Good morning!\n\nMarkets are up",
        "/start",
        "buyers beware",
        "Qty: 10",
        "SL hit at 2400",
        "🎉",
    ],
)
def test_parse_text_plain_chat_is_not_a_signal(text):
    assert refusal(text).code == Code.NOT_A_SIGNAL


def test_parse_text_long_chat_is_not_a_signal():
    assert refusal("hello " * 2000).code == Code.NOT_A_SIGNAL


@pytest.mark.parametrize("size", [4096, 4097])
def test_parse_text_of_4_kib_is_the_last_read(size):
    text = MARKET + " " * (size - len(MARKET))
    if size == 4096:
        assert isinstance(one(text), Signal)
    else:
        assert refusal(text).code == Code.TEXT_TOO_LONG


def test_parse_text_size_is_counted_in_bytes():
    assert refusal("BUY " + "घ" * 1500).code == Code.TEXT_TOO_LONG


@pytest.mark.parametrize("label", ["Qty", "Type", "Product"])
def test_parse_text_required_label_missing_is_refused(label):
    text = "\n".join(line for line in CONTRACT.split("\n") if not line.startswith(label))
    refused = refusal(text)
    assert (refused.code, refused.field, refused.line) == (Code.MISSING_FIELD, label, "BUY RELIANCE NSE")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (CONTRACT.replace("\nPrice: 2450.50", ""), "Price"),
        (CONTRACT.replace("LIMIT", "SL"), "Trigger"),
        ("BUY RELIANCE NSE 10 LIMIT MIS", "Price"),
        ("BUY RELIANCE NSE 10 @ 2450 SL MIS", "Trigger"),
        (CONTRACT.replace(" 10", ""), "Qty"),
        (f"{MARKET}\nTarget:", "Target"),
    ],
)
def test_parse_text_price_that_the_type_needs_is_asked_for(text, field):
    refused = refusal(text)
    assert (refused.code, refused.field) == (Code.MISSING_FIELD, field)


@pytest.mark.parametrize(
    ("text", "field", "line"),
    [
        (CONTRACT.replace("LIMIT", "MARKET"), "Price", "Price: 2450.50"),
        ("BUY A NSE 10 @ 5 MARKET MIS", "Price", "BUY A NSE 10 @ 5 MARKET MIS"),
        (f"{CONTRACT}\nTrigger: 5", "Trigger", "Trigger: 5"),
        (f"{MARKET}\nTrigger: 5", "Trigger", "Trigger: 5"),
        (CONTRACT.replace("LIMIT", "SL-M") + "\nTrigger: 5", "Price", "Price: 2450.50"),
    ],
)
def test_parse_text_price_that_contradicts_the_type_is_refused_with_its_line(text, field, line):
    refused = refusal(text)
    assert (refused.code, refused.field, refused.line) == (Code.NOT_ALLOWED, field, line)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{MARKET}\nQty: 1000", "Qty: 1000"),
        (f"{MARKET}\nqty: 10", "qty: 10"),
        ("BUY A NSE 10 MARKET MIS\nQty: 10", "Qty: 10"),
        ("BUY A NSE 10 MARKET MIS\nProduct: MIS", "Product: MIS"),
        ("BUY A NSE 10 @ 5 LIMIT MIS\nPrice: 5", "Price: 5"),
    ],
)
def test_parse_text_repeated_label_is_refused(text, line):
    refused = refusal(text)
    assert (refused.code, refused.line) == (Code.REPEATED_FIELD, line)


@pytest.mark.parametrize("label", ["Quantity", "Stop Loss", "Qty.", "Kind", "", "Q t y", "Exchange", "Secret"])
def test_parse_text_unknown_label_is_refused(label):
    refused = refusal(f"{MARKET}\n{label}: 5")
    assert refused.code == Code.UNKNOWN_FIELD
    assert refused.line == f"{label}: 5"
    assert "Qty, Price, Type" in refused.message


@pytest.mark.parametrize(
    "quantity",
    [
        "0",
        "-10",
        "+10",
        "1e9",
        "1E1",
        "10.0",
        "10,000",
        "1_000",
        "010",
        "ten",
        "0x10",
        "10 000",
        "10 lots",
        "1" * 10,
        "10;",
    ],
)
def test_parse_text_quantity_that_is_not_plain_digits_is_refused(quantity):
    refused = refusal(MARKET.replace("Qty: 10", f"Qty: {quantity}"))
    assert (refused.code, refused.field, refused.line) == (Code.INVALID_VALUE, "Qty", f"Qty: {quantity}")


@pytest.mark.parametrize(
    "quantity", ["٣", "−10", "１０", "10\u200f", "\u202e01", "10\u00a0", "10\x00", "1\t0", "10\x0b", "10\u2028"]
)
def test_parse_text_quantity_with_a_foreign_character_is_refused(quantity):
    refused = refusal(MARKET.replace("Qty: 10", f"Qty: {quantity}"))
    assert refused.code == Code.BAD_CHARACTER
    assert refused.line is not None
    assert refused.line.isprintable()


@pytest.mark.parametrize(
    "price",
    [
        "0",
        "0.0",
        "-5",
        "+5",
        "1e3",
        "2,450",
        "2450.",
        ".5",
        "5.00001",
        "₹5",
        "5 @",
        "00.5",
        "1" * 10,
        "NaN",
        "inf",
        "5/-",
    ],
)
def test_parse_text_price_that_is_not_plain_is_refused(price):
    refused = refusal(CONTRACT.replace("2450.50", price))
    assert refused.code in (Code.INVALID_VALUE, Code.BAD_CHARACTER)
    assert refused.line == f"Price: {price}"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT", "LMT"),
        ("LIMIT", "SLM"),
        ("MIS", "INTRADAY"),
        ("NSE", "NYSE"),
        ("MIS", "MIS\nValidity: GTC"),
        ("RELIANCE", "REL$"),
        ("RELIANCE", "R" * 41),
    ],
)
def test_parse_text_unknown_word_is_refused(old, new):
    assert refusal(CONTRACT.replace(old, new)).code == Code.INVALID_VALUE


def test_parse_text_validity_that_needs_minutes_is_refused():
    refused = refusal(f"{MARKET}\nValidity: TTL")
    assert (refused.code, refused.field) == (Code.MISSING_FIELD, "TTL")


@pytest.mark.parametrize(
    "first",
    [
        "BUY",
        "BUY RELIANCE",
        "BUY RELIANCE 10 NSE",
        "BUY 10 RELIANCE NSE",
        "BUY NIFTY 50 NSE",
        "BUY RELIANCE NSE 10",
        "BUY RELIANCE NSE 10 MARKET",
        "BUY RELIANCE NSE 10 MARKET MIS CNC",
        "BUY RELIANCE NSE 10 @ LIMIT MIS",
        "BUY RELIANCE NSE 10 @@ 5 LIMIT MIS",
        "BUY RELIANCE NSE @ 10 5 LIMIT MIS",
        "BUY RELIANCE NSE 10 at 2450 LIMIT MIS",
        "BUY RELIANCE NSE 10 @ 2450.50 LIMIT MIS SL: 2400",
        "buy the dip, guys",
    ],
)
def test_parse_text_first_line_of_another_shape_is_refused_with_it(first):
    refused = refusal(first)
    assert refused.code == Code.BAD_LINE
    assert refused.line == first


def test_parse_text_one_line_with_fields_in_another_order_is_refused():
    assert refusal("BUY: RELIANCE NSE").code == Code.INVALID_VALUE
    assert refusal("BUY RELIANCE 10 NSE MARKET MIS").code == Code.INVALID_VALUE
    assert refusal("BUY RELIANCE NSE 10 MIS MARKET").code == Code.INVALID_VALUE


@pytest.mark.parametrize("line", ["thanks", "BUY SBIN NSE", "BUY SBIN NSE 5 MARKET MIS", "SL 2400", "Qty 10"])
def test_parse_text_line_without_colon_after_the_first_is_refused(line):
    refused = refusal(f"{MARKET}\n{line}")
    assert (refused.code, refused.line) == (Code.BAD_LINE, line)


def test_parse_text_signal_not_on_the_first_line_of_its_block_is_refused():
    assert refusal(f"Morning all\n{MARKET}").line == "Morning all"


@pytest.mark.parametrize("start", ["🚀 ", "* ", "• ", "\u200f", "\u200b", "**"])
def test_parse_text_decorated_signal_is_refused_not_ignored(start):
    refused = refusal(start + MARKET)
    assert refused.code in (Code.BAD_CHARACTER, Code.BAD_LINE, Code.INVALID_VALUE)


@pytest.mark.parametrize("side", ["ＢＵＹ", "B\u200bUY", "BU\u00adY"])
def test_parse_text_disguised_buy_is_refused_not_ignored(side):
    assert refusal(MARKET.replace("BUY", side)).code == Code.BAD_CHARACTER


def test_parse_text_far_indented_signal_is_read():
    assert isinstance(one(" " * 200 + MARKET), Signal)


@pytest.mark.parametrize("word", ["RELIΑNCE", "RELIANCE\u200d", "RELIANCÉ"])
def test_parse_text_look_alike_symbol_is_refused(word):
    assert refusal(CONTRACT.replace("RELIANCE", word)).code == Code.BAD_CHARACTER


def test_parse_text_lone_carriage_return_is_refused():
    assert refusal(CONTRACT.replace("\n", "\r")).code == Code.BAD_CHARACTER


@pytest.mark.parametrize("stray", ["SL: 2400", "sl 2400", "Stoploss: 2400", "Account: main", "max qty ५"])
@pytest.mark.parametrize("after", [True, False])
def test_parse_text_stray_lines_beside_a_signal_refuse_it_too(stray, after):
    items = parse_text(f"{MARKET}\n\n{stray}" if after else f"{stray}\n\n{MARKET}")
    assert [type(item) for item in items] == [Refusal, Refusal]
    assert all(isinstance(item, Refusal) and item.line == stray for item in items)


def test_parse_text_chat_beside_a_signal_is_refused_alone():
    items = parse_text(f"Good morning\n\n{CONTRACT}\n\nHappy trading")
    assert [item.code if isinstance(item, Refusal) else "signal" for item in items] == [
        Code.NOT_A_SIGNAL,
        "signal",
        Code.NOT_A_SIGNAL,
    ]


@pytest.mark.parametrize("account", ["x" * 65, "घर", "a\x07b"])
def test_parse_text_account_that_is_not_printable_ascii_is_refused(account):
    assert refusal(f"{MARKET}\nAccount: {account}").code in (Code.INVALID_VALUE, Code.BAD_CHARACTER)


def test_parse_text_account_may_hold_a_colon():
    found = one(f"{MARKET}\nAccount: a:b")
    assert isinstance(found, Signal)
    assert found.account == "a:b"


def test_parse_text_long_line_is_quoted_short():
    refused = refusal(f"{MARKET}\n{'x' * 500}")
    assert refused.line == "x" * 79 + "…"


@pytest.mark.parametrize(
    ("first", "symbol"),
    [
        ("BUY NIFTY ATM CE NFO", "NIFTY ATM CE"),
        ("buy nifty  atm+2  ce  weekly nfo", "NIFTY ATM+2 CE WEEKLY"),
        ("BUY NIFTY 02DEC26 24500 PE NFO", "NIFTY 02DEC26 24500 PE"),
        ("BUY NIFTY FUT NFO", "NIFTY FUT"),
        ("BUY CRUDEOIL FUT NEXT NFO", "CRUDEOIL FUT NEXT"),
        ("BUY NIFTY 50 OTM1 CE NFO", "NIFTY 50 OTM1 CE"),
    ],
)
@pytest.mark.parametrize("rest", [" 65 MARKET NRML", "\nQty: 65\nType: MARKET\nProduct: NRML"])
def test_parse_text_contract_in_words_is_one_symbol(first, symbol, rest):
    found = one(first + rest)
    assert isinstance(found, Signal)
    assert (found.symbol, found.exchange, found.quantity) == (symbol, Exchange.NFO, 65)
    assert (found.order_type, found.price) == (OrderType.MARKET, None)


def test_parse_text_contract_in_words_takes_a_price():
    found = one("BUY NIFTY 24500 CE NFO 65 @ 101.05 LIMIT NRML")
    assert isinstance(found, Signal)
    assert (found.symbol, found.quantity, found.price) == ("NIFTY 24500 CE", 65, Decimal("101.05"))


@pytest.mark.parametrize(
    "first",
    [
        "BUY NIFTY 50 NSE",
        "BUY NIFTY ATM NFO",
        "BUY NIFTY ATM CE PE NFO",
        "BUY RELIANCE INDUSTRIES NSE",
        "BUY NIFTY ATM CE",
        "BUY NIFTY ATM CE NSE NFO",
        "BUY NIFTY OTM0 CE NFO",
    ],
)
def test_parse_text_other_words_for_a_symbol_are_refused(first):
    assert refusal(f"{first} 65 MARKET NRML").code in (Code.BAD_LINE, Code.INVALID_VALUE)
    assert refusal(f"{first}\nQty: 65\nType: MARKET\nProduct: NRML").code in (Code.BAD_LINE, Code.INVALID_VALUE)


@pytest.mark.parametrize(("written", "goal"), [("100", 100), ("-100", -100), ("0", 0)])
def test_parse_text_position_stands_for_side_and_quantity(written, goal):
    found = one(f"SELL RELIANCE NSE\nPosition: {written}\nType: MARKET\nProduct: MIS")
    assert isinstance(found, Signal)
    assert found.position_size == goal
    assert found.transaction_type is (TransactionType.SELL if goal < 0 else TransactionType.BUY)


def test_parse_text_position_with_a_quantity_is_refused():
    found = refusal(f"{MARKET}\nPosition: 5")
    assert (found.field, found.line) == ("Position", "Position: 5")
