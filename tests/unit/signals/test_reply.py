"""What a chat is told."""

from uuid import UUID

from engine.domain.enums import IntentStatus
from engine.domain.signal import Refusal, Signal
from engine.signals.reply import MAX_REPLY_CHARS, Outcome, describe, describe_all
from engine.signals.text import parse_text

LIMIT = "BUY RELIANCE NSE 10 @ 2450.50 LIMIT MIS"


def signal(text: str = LIMIT) -> Signal:
    (item,) = parse_text(text)
    assert isinstance(item, Signal)
    return item


def refusal(text: str) -> Refusal:
    (item,) = parse_text(text)
    assert isinstance(item, Refusal)
    return item


def test_describe_refusal_gives_reason_and_line():
    shown = describe(refusal(f"{LIMIT}\nQty: 1000"))
    assert shown == "Refused: Qty is given twice: keep one\nLine: Qty: 1000"


def test_describe_refusal_without_line_is_one_line():
    assert describe(Refusal(code="X", message="mend it")) == "Refused: mend it"


def test_describe_outcome_repeats_the_signal():
    identifier = UUID(int=5)
    shown = describe(Outcome(signal=signal(), status=IntentStatus.RECEIVED, intent_id=identifier))
    assert shown == f"RECEIVED: BUY 10 RELIANCE NSE @ 2450.50 LIMIT MIS\nIntent {identifier}"


def test_describe_outcome_shows_trigger_reason_and_duplicate():
    shown = describe(
        Outcome(
            signal=signal("SELL A NSE\nQty: 1\nTrigger: 5\nType: SL-M\nProduct: MIS"),
            status=IntentStatus.REJECTED,
            reason="MAX_ORDER_VALUE: 5 exceeds 1",
            duplicate=True,
        )
    )
    assert shown == "REJECTED (already received): SELL 1 A NSE trigger 5 SL-M MIS\nMAX_ORDER_VALUE: 5 exceeds 1"


def test_describe_never_passes_on_invisible_characters():
    shown = describe(refusal("BUY A NSE\nQty: 1\u202e0"))
    assert "\u202e" not in shown
    assert "\\u202e" in shown


def test_describe_long_texts_are_shortened():
    assert len(describe(Refusal(code="X", message="m" * 5000, line="l" * 5000))) < 500


def test_describe_all_joins_and_counts_what_does_not_fit():
    verdicts = [refusal(f"BUY {'x' * 200}")] * 100
    shown = describe_all(verdicts)
    assert len(shown) <= MAX_REPLY_CHARS + 40
    kept = shown.count("Refused: ")
    assert 5 < kept < 100
    assert shown.endswith(f"… and {100 - kept} more")


def test_describe_all_of_few_gives_all():
    verdicts = [refusal("BUY x"), Outcome(signal=signal(), status=IntentStatus.RECEIVED)]
    assert describe_all(verdicts) == "\n\n".join(describe(verdict) for verdict in verdicts)
