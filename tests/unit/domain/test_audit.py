import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec
import pytest

from engine.domain.audit import GENESIS, AuditDraft, AuditRecord, canonical, seal, verify
from engine.domain.denial import Denial
from engine.domain.enums import OrderStatus

AT = datetime(2026, 11, 18, 4, 30, 0, 123456, tzinfo=UTC)


def a_draft(**fields: Any) -> AuditDraft:
    defaults: dict[str, Any] = {"at": AT, "actor": "system", "action": "ORDER_MOVED", "subject": "order:1"}
    return AuditDraft(**(defaults | fields))


def a_chain(length: int) -> list[AuditRecord]:
    records: list[AuditRecord] = []
    for seq in range(1, length + 1):
        prev = records[-1].hash if records else GENESIS
        records.append(seal(prev, seq, a_draft(content={"n": seq})))
    return records


def test_canonical_sorts_keys_at_every_depth_without_blanks() -> None:
    assert (
        canonical(a_draft(content={"b": [1, {"z": None, "a": True}], "a": "x"}))
        == '{"a":"x","b":[1,{"a":true,"z":null}]}'
    )


def test_canonical_key_order_is_of_utf16_units() -> None:
    # U+FB33 sorts after U+1F600 in UTF-16, before it by code point (the example of RFC 8785, 3.2.3).
    assert canonical(a_draft(content={"\ufb33": 1, "\U0001f600": 2})) == '{"\U0001f600":2,"\ufb33":1}'


@pytest.mark.parametrize(
    ("thing", "text"),
    [
        (Decimal("2450.50"), '"2450.50"'),
        (Decimal("1E+3"), '"1000"'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (AT, '"2026-11-18T04:30:00.123456Z"'),
        (AT.astimezone(timezone(timedelta(hours=5, minutes=30))), '"2026-11-18T04:30:00.123456Z"'),
        (AT.replace(microsecond=0), '"2026-11-18T04:30:00.000000Z"'),
        (date(2026, 11, 18), '"2026-11-18"'),
        (OrderStatus.OPEN, '"OPEN"'),
        (b"\x00\xff", '"00ff"'),
        ((1, 2), "[1,2]"),
        (frozenset({"b", "a"}), '["a","b"]'),
        (Denial(code="X", text="y"), '{"code":"X","text":"y"}'),
        ('नमस्ते \n\x00"', '"नमस्ते \\n\\u0000\\""'),
        ("\ud800", '"\\ud800"'),
        ("\\ud800", '"\\\\ud800"'),
    ],
)
def test_canonical_forms(thing: Any, text: str) -> None:
    found = canonical(a_draft(content={"k": thing}))
    assert found == f'{{"k":{text}}}'
    assert json.loads(found.encode("utf-8"))


@pytest.mark.parametrize(
    ("thing", "error"),
    [(object(), TypeError), (float("nan"), ValueError), (float("inf"), ValueError), (datetime(2026, 1, 1), ValueError)],  # noqa: DTZ001 -- the fault under test
)
def test_canonical_what_has_no_form_refused(thing: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        canonical(a_draft(content={"k": thing}))


def test_canonical_two_keys_of_one_spelling_refused() -> None:
    with pytest.raises(ValueError, match="one spelling"):
        canonical(a_draft(content={"OPEN": 1, 1: 2, "1": 3}))


def test_seal_is_the_documented_hash() -> None:
    record = seal(GENESIS, 1, a_draft(content={"a": 1}))
    fields = [GENESIS, b"2026-11-18T04:30:00.123456Z", b"system", b"ORDER_MOVED", b"order:1", b'{"a":1}']
    expected = b"engine.audit.record.v1\x00" + (1).to_bytes(8, "big")
    expected += b"".join(len(field).to_bytes(8, "big") + field for field in fields)
    assert record.hash == sha256(expected).digest()
    assert (record.seq, record.prev_hash, record.content, record.at) == (1, GENESIS, '{"a":1}', AT)


def test_seal_instant_is_the_same_in_every_zone() -> None:
    elsewhere = AT.astimezone(timezone(timedelta(hours=-3)))
    assert seal(GENESIS, 1, a_draft(at=elsewhere)) == seal(GENESIS, 1, a_draft())
    assert seal(GENESIS, 1, a_draft(at=elsewhere)).at.utcoffset() == timedelta(0)


def test_seal_shifted_field_boundary_differs() -> None:
    assert (
        seal(GENESIS, 1, a_draft(actor="ab", action="c")).hash != seal(GENESIS, 1, a_draft(actor="a", action="bc")).hash
    )


@pytest.mark.parametrize(("prev", "seq"), [(b"", 1), (bytes(31), 1), (GENESIS, 0)])
def test_seal_impossible_place_refused(prev: bytes, seq: int) -> None:
    with pytest.raises(ValueError):
        seal(prev, seq, a_draft())


def test_seal_instant_without_zone_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        seal(GENESIS, 1, a_draft(at=AT.replace(tzinfo=None)))


def test_verify_whole_chain_and_part_of_it() -> None:
    chain = a_chain(5)
    assert verify(chain) is None
    assert verify([]) is None
    assert verify(iter(chain[2:]), prev=chain[1].hash, first_seq=3) is None


def test_verify_dropped_record_named() -> None:
    chain = a_chain(5)
    assert verify(chain[:2] + chain[3:]) == 3
    assert verify(chain[1:]) == 1


def test_verify_swapped_records_named() -> None:
    chain = a_chain(5)
    chain[2], chain[3] = chain[3], chain[2]
    assert verify(chain) == 3


def test_verify_rewritten_record_breaks_at_it_and_resealed_one_behind_it() -> None:
    chain = a_chain(5)
    forged = chain.copy()
    forged[2] = msgspec.structs.replace(chain[2], content='{"n":9}')
    assert verify(forged) == 3
    forged[2] = seal(chain[1].hash, 3, a_draft(content={"n": 9}))
    assert verify(forged) == 4


def test_verify_number_left_out_by_an_honest_seal_named() -> None:
    chain = a_chain(2)
    chain.append(seal(chain[1].hash, 4, a_draft()))
    assert verify(chain) == 3
