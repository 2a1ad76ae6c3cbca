# ruff: noqa: RUF001 -- look-alike letters are what is tested
"""The parsers are total, exact and linear: whatever arrives, the answer is a signal as written or a named refusal."""

import json
import sys
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.domain.enums import Exchange, OrderType, ProductType, TransactionType, Validity, Variety
from engine.domain.signal import Refusal, Signal
from engine.signals import json_guard, sheets, telegram, tradingview
from engine.signals.refusals import RefusalCode, quote
from engine.signals.reply import describe_all
from engine.signals.sheets import Batch
from engine.signals.text import parse_text

CODES = frozenset(RefusalCode)
SYMBOL_CHARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789&_-."
PRICES = st.decimals(min_value=Decimal("0.0001"), max_value=Decimal(999_999_999), places=4).map(
    lambda value: value.quantize(Decimal("0.0001"))
)


@st.composite
def signals(draw, *, symbol_chars: str = SYMBOL_CHARS, with_account: bool = False) -> Signal:
    kind = draw(st.sampled_from(OrderType))
    return Signal(
        symbol=draw(st.text(symbol_chars, min_size=1, max_size=40).filter(lambda text: text == text.strip())),
        exchange=draw(st.sampled_from(Exchange)),
        transaction_type=draw(st.sampled_from(TransactionType)),
        quantity=draw(st.integers(1, 999_999_999)),
        order_type=kind,
        product_type=draw(st.sampled_from([kind for kind in ProductType if kind.is_orderable])),
        price=draw(PRICES) if kind.needs_price else None,
        trigger_price=draw(PRICES) if kind.needs_trigger else None,
        validity=draw(st.sampled_from([Validity.DAY, Validity.IOC])),
        variety=Variety.REGULAR if with_account else draw(st.sampled_from([Variety.REGULAR, Variety.AMO])),
        stop_loss=draw(st.none() | PRICES),
        target=draw(st.none() | PRICES),
        account=draw(st.none() | st.text("aB9 :,@#", min_size=1, max_size=64).filter(lambda text: text == text.strip()))
        if with_account
        else None,
    )


@st.composite
def in_some_case(draw, text: str) -> str:
    return "".join(draw(st.sampled_from([char.lower(), char.upper()])) for char in text)


def plain(price: Decimal) -> str:
    text = format(price, "f")
    return text.rstrip("0").rstrip(".") if text.endswith("0") else text


@st.composite
def json_rows(draw, signal: Signal) -> bytes:
    """Write *signal* as a JSON object the way some sheet might."""

    def number(text: str) -> str:
        return draw(st.sampled_from([text, f'"{text}"', f'" {text} "']))

    def word(text: str) -> str:
        return json.dumps(draw(st.sampled_from(["", " "])) + draw(in_some_case(text)))

    pairs = {
        "symbol": word(signal.symbol),
        "exchange": word(signal.exchange),
        "transactionType": word(signal.transaction_type),
        "quantity": draw(st.sampled_from([number(str(signal.quantity)), f"{signal.quantity}.0"])),
        "orderType": word(signal.order_type),
        "productType": word(signal.product_type),
    }
    for name, price in (
        ("price", signal.price),
        ("triggerPrice", signal.trigger_price),
        ("stopLoss", signal.stop_loss),
        ("target", signal.target),
    ):
        if price is not None:
            pairs[name] = number(plain(price))
        elif draw(st.booleans()):
            pairs[name] = draw(st.sampled_from(["null", "0", '""', "0.0"]))
    if signal.order_type is OrderType.MARKET and draw(st.booleans()):
        pairs["price"] = number("1450")
    if signal.validity is not Validity.DAY or draw(st.booleans()):
        pairs["validity"] = word(signal.validity)
    if signal.variety is not Variety.REGULAR or draw(st.booleans()):
        pairs["variety"] = word(signal.variety)
    order = draw(st.permutations(sorted(pairs)))
    space = draw(st.sampled_from(["", " ", "\n\t"]))
    return ("{" + ",".join(f'{space}"{name}":{space}{pairs[name]}' for name in order) + "}").encode()


def label_lines(signal: Signal) -> list[str]:
    lines = [f"Qty: {signal.quantity}", f"Type: {signal.order_type}", f"Product: {signal.product_type}"]
    for label, price in (
        ("Price", signal.price),
        ("Trigger", signal.trigger_price),
        ("SL", signal.stop_loss),
        ("Target", signal.target),
    ):
        if price is not None:
            lines.append(f"{label}: {plain(price)}")
    if signal.validity is not Validity.DAY:
        lines.append(f"Validity: {signal.validity}")
    return lines


@st.composite
def texts(draw, signal: Signal) -> str:
    """Write *signal* in the labelled form: labels in any order and case, spaces anywhere."""
    lines = [draw(in_some_case(line)) for line in draw(st.permutations(label_lines(signal)))]
    if signal.account is not None:
        lines.insert(draw(st.integers(0, len(lines))), draw(in_some_case("Account")) + ": " + signal.account)
    first = draw(in_some_case(f"{signal.transaction_type} {signal.symbol} {signal.exchange}"))
    pad = draw(st.sampled_from(["", " ", "   "]))
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    return newline.join(pad + line.replace(": ", pad + ":" + pad, 1) + pad for line in [first, *lines])


def assert_named(item: object) -> None:
    assert isinstance(item, Signal | Refusal)
    if isinstance(item, Refusal):
        assert item.code in CODES
        assert 0 < len(item.message) < 600
        assert item.message.isprintable()
        assert len(item.line or "") <= 80
        assert len(item.field or "") <= 40
        json.dumps([item.message, item.line, item.field]).encode()
        (item.message + (item.line or "") + (item.field or "")).encode()


def assert_batch(found: object) -> None:
    for item in found.items if isinstance(found, Batch) else [found]:
        assert_named(item)


# Total


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_give_a_verdict(body):
    assert_batch(sheets.parse(body))
    assert_batch(tradingview.parse(body).content)
    update = telegram.parse_update(body)
    assert isinstance(update, telegram.Update | Refusal)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
ROW_NAMES = st.sampled_from(sorted(sheets._KNOWN))


@given(st.dictionaries(ROW_NAMES, JSON_VALUES | st.sampled_from(["NSE", "BUY", "LIMIT", "MIS", "10", 10]), max_size=12))
def test_any_row_gives_a_named_verdict(row):
    assert_batch(sheets.parse(json.dumps(row).encode()))


@given(JSON_VALUES)
def test_any_json_gives_a_value_or_a_named_refusal(value):
    found = json_guard.read(json.dumps(value).encode())
    if isinstance(found, Refusal):
        assert_named(found)
    else:
        assert json.dumps(found, default=float) == json.dumps(value)


@given(
    st.fixed_dictionaries(
        {"update_id": st.integers(-5, 2**70) | JSON_VALUES},
        optional={
            "message": st.dictionaries(
                st.sampled_from(["chat", "from", "date", "message_id", "text", "via_bot"]),
                JSON_VALUES | st.fixed_dictionaries({"id": JSON_VALUES}),
            ),
            "callback_query": JSON_VALUES,
        },
    )
)
def test_any_update_gives_an_update_or_a_named_refusal(value):
    found = telegram.parse_update(json.dumps(value).encode())
    if isinstance(found, Refusal):
        assert_named(found)
    else:
        found.text.encode()
        assert found.sent_at.tzinfo is not None


WORDS = ("BUY ", "SELL ", "RELIANCE ", "NSE", " 10", " @ ", "5.5", " LIMIT", " MIS", "\n", "\r\n", "\n\n", "Qty: ")
LABELS = ("Price:", "Type: MARKET", "Product: MIS", "SL:", "Trigger: 5", "Account: a", ":")
FOREIGN = ("\u200f", "٣", "1e9", "−1", "\x00", "\t")
FRAGMENTS = st.sampled_from(WORDS + LABELS + FOREIGN)


@given(st.text(max_size=200) | st.lists(FRAGMENTS, max_size=40).map("".join))
@example("BUY \ud800")
@example("BUY A NSE\n:")
def test_any_text_gives_named_verdicts(text):
    items = parse_text(text)
    assert items
    for item in items:
        assert_named(item)
    assert len(describe_all([item for item in items if isinstance(item, Refusal)]).encode("utf-16-le")) // 2 <= 4096


@given(st.text(max_size=200), st.integers(2, 100))
def test_quote_is_short_visible_and_encodable(text, limit):
    shown = quote(text, limit)
    assert len(shown) <= limit
    assert shown.isprintable()
    shown.encode()
    assert shown == text or not (text.isprintable() and len(text) <= limit)


# Exact


@given(st.data())
def test_json_written_in_any_order_and_case_reads_back_equal(data):
    signal = data.draw(signals(symbol_chars=SYMBOL_CHARS + " "))
    assert sheets.parse(data.draw(json_rows(signal))) == Batch(is_array=False, items=(signal,))


@given(st.data())
def test_text_written_in_any_order_and_case_reads_back_equal(data):
    wanted = data.draw(st.lists(signals(with_account=True), min_size=1, max_size=3))
    assert parse_text("\n\n".join(data.draw(texts(signal)) for signal in wanted)) == tuple(wanted)


@given(st.data())
def test_one_line_form_reads_back_equal(data):
    signal = data.draw(signals(with_account=True))
    at = f" @ {plain(signal.price)}" if signal.price is not None else ""
    rest = [line for line in label_lines(signal) if line.split(":")[0] in ("Trigger", "SL", "Target", "Validity")]
    if signal.account is not None:
        rest.append(f"Account: {signal.account}")
    first = f"{signal.transaction_type} {signal.symbol} {signal.exchange} {signal.quantity}{at} "
    assert parse_text("\n".join([f"{first}{signal.order_type} {signal.product_type}", *rest])) == (signal,)


# Refused, never guessed


@given(st.data())
def test_text_with_a_foreign_character_is_never_another_signal(data):
    signal = data.draw(signals(with_account=True))
    text = data.draw(texts(signal))
    where = data.draw(st.integers(0, len(text)))
    char = data.draw(st.sampled_from("\u200f\u202e\u200b\u00a0\x00\x0b\x85\u2028\uff11٣é−\t\r\x7f"))
    for item in parse_text(text[:where] + char + text[where:]):
        assert isinstance(item, Refusal) or item == signal


@given(st.data())
def test_text_cut_by_an_empty_line_gives_no_signal(data):
    lines = data.draw(texts(data.draw(signals(with_account=True)))).split("\n")
    where = data.draw(st.integers(1, len(lines) - 1))
    assert all(isinstance(item, Refusal) for item in parse_text("\n".join([*lines[:where], "", *lines[where:]])))


@given(st.data())
def test_text_with_a_line_twice_gives_no_signal(data):
    lines = data.draw(texts(data.draw(signals(with_account=True)))).split("\n")
    again = data.draw(st.sampled_from(lines))
    where = data.draw(st.integers(0, len(lines)))
    assert all(isinstance(item, Refusal) for item in parse_text("\n".join([*lines[:where], again, *lines[where:]])))


@given(st.data())
def test_text_without_a_required_line_gives_no_signal(data):
    lines = data.draw(texts(data.draw(signals(with_account=True)))).split("\n")
    required = [line for line in lines[1:] if line.split(":")[0].strip().lower() in ("qty", "type", "product", "price")]
    lines.remove(data.draw(st.sampled_from(required)))
    assert all(isinstance(item, Refusal) for item in parse_text("\n".join(lines)))


@given(st.data())
def test_json_with_a_key_twice_is_refused(data):
    row = data.draw(json_rows(data.draw(signals()))).decode()
    refused = sheets.parse((row[:-1] + ', "quantity": 1000}').encode())
    assert isinstance(refused, Refusal)
    assert refused.code == RefusalCode.DUPLICATE_KEY


@given(st.data(), st.sampled_from("-+eE,_ ٣x"))
def test_json_quantity_with_another_character_is_refused(data, char):
    digits = str(data.draw(st.integers(1, 99_999)))
    where = data.draw(st.integers(1, len(digits) - 1)) if len(digits) > 1 else 0
    row = {"symbol": "A", "exchange": "NSE", "transactionType": "BUY", "orderType": "MARKET", "productType": "MIS"}
    body = json.dumps({**row, "quantity": digits[:where] + char + digits[where:]}).encode()
    found = sheets.parse(body)
    assert isinstance(found, Batch)
    (item,) = found.items
    # A space in front of the digits is what a sheet's text cell may hold; anywhere else it parts them.
    assert isinstance(item, Refusal) or (char == " " and where == 0)


# Linear


def steps(call: Callable[[], object]) -> int:
    """Count the lines of Python that *call* runs."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    "unit",
    [" ", "BUY ", "BUY\n", "BUY\n\n", "\n", "x\n\n", ":", "a:\n", "1\n\n", "@", "BUY A NSE\n", "\u200f", "é\n\n"],
)
@pytest.mark.parametrize("start", ["", "BUY A NSE\n", "BUY A NSE\n\n"])
def test_parse_text_work_doubles_at_most_with_its_input(unit, start):
    sizes = [1_000, 2_000, 16_000]
    small, double, long = (steps(lambda size=size: parse_text(start + unit * (size // len(unit)))) for size in sizes)
    assert double <= 2 * small + 200
    assert long <= 16 * small + 2000


@pytest.mark.parametrize("unit", [" ", "[", '"', "\\", '\\"', '"\\"', '{"a":', "[]", "9", "-", "1e9", "[],", "\\u0061"])
@pytest.mark.parametrize("start", ["", '"', "[", '["'])
def test_json_guard_work_doubles_at_most_with_its_input(unit, start):
    sizes = [1_000, 2_000, 16_000]
    bodies = [(start + unit * (size // len(unit))).encode() for size in sizes]
    small, double, long = (steps(lambda body=body: json_guard.read(body)) for body in bodies)
    assert double <= 2 * small + 200
    assert long <= 16 * small + 2000
