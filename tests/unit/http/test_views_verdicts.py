"""What a sender of signals is told."""

from typing import Any
from uuid import uuid4

import msgspec
import pytest

from engine.actors.ingest import Accepted
from engine.actors.intake import Receipt
from engine.domain.enums import IntentStatus
from engine.domain.signal import Refusal
from engine.errors import ApiError, BadRequestError, PayloadTooLargeError, ValidationError
from engine.http.errors import encode
from engine.http.views.verdicts import good_items, verdicts, whole_refusal
from engine.signals import sheets
from engine.signals.sheets import Batch

GOOD = (
    b'{"symbol":"INFY","exchange":"NSE","transactionType":"BUY","quantity":1,"orderType":"MARKET","productType":"MIS"}'
)


def parsed(body: bytes) -> Batch:
    batch = sheets.parse(body)
    assert isinstance(batch, Batch)
    return batch


def shown(batch: Batch, accepted: Accepted | None) -> Any:
    return msgspec.json.decode(encode(verdicts(batch, accepted)))


def test_single_signal_is_answered_with_an_object() -> None:
    intent = uuid4()
    accepted = Accepted((Receipt(intent_id=intent, status=IntentStatus.RECEIVED, position=0),), duplicate=True)
    assert shown(parsed(GOOD), accepted) == {"status": "RECEIVED", "intentId": str(intent), "duplicate": True}


def test_batch_is_answered_in_its_order_and_a_bad_element_has_no_intent() -> None:
    batch = parsed(b'[{"symbol":"INFY"},' + GOOD + b"]")
    assert [item.position for item in good_items(batch.items)] == [1]
    intent = uuid4()
    receipt = Receipt(intent_id=intent, status=IntentStatus.REJECTED, position=1, reason="A: b")
    bad, good = shown(batch, Accepted((receipt,), duplicate=False))
    assert (bad["status"], bad["code"]) == ("REFUSED", "MISSING_FIELD")
    assert bad["field"] in bad["message"]
    assert "intentId" not in bad
    assert good == {"status": "REJECTED", "intentId": str(intent), "duplicate": False, "reason": "A: b"}


def test_batch_without_a_good_element_needs_no_receipts() -> None:
    answer = shown(parsed(b"[1, 2]"), None)
    assert [verdict["status"] for verdict in answer] == ["REFUSED", "REFUSED"]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{", BadRequestError),
        (b'{"a":1,"a":2}', BadRequestError),
        (b"\xff", BadRequestError),
        (b"[]", ValidationError),
        (b"[" + b",".join([b"1"] * 101) + b"]", ValidationError),
        (b'"text"', ValidationError),
        (b" " * 70_000, PayloadTooLargeError),
    ],
)
def test_body_that_is_refused_whole_is_an_error_of_its_kind(body: bytes, error: type[ApiError]) -> None:
    refusal = sheets.parse(body)
    assert isinstance(refusal, Refusal)
    assert type(whole_refusal(refusal)) is error
