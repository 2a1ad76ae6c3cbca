"""The audit chain: any change of any part of any record is found, at that record or the next."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.audit import GENESIS, AuditDraft, AuditRecord, canonical, seal, verify

TEXT = st.text(max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
DRAFTS = st.builds(
    AuditDraft,
    at=st.datetimes(min_value=datetime(2000, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 -- bounds are naive there
    actor=TEXT,
    action=TEXT,
    subject=TEXT,
    content=st.dictionaries(TEXT, JSON, max_size=3),
)


def chained(drafts: list[AuditDraft]) -> list[AuditRecord]:
    records: list[AuditRecord] = []
    for draft in drafts:
        records.append(seal(records[-1].hash if records else GENESIS, len(records) + 1, draft))
    return records


CHAINS = st.lists(DRAFTS, min_size=2, max_size=6).map(chained)


def flipped(thing: Any, position: int) -> Any:
    """The same thing with one bit, character or unit of it different."""
    match thing:
        case bytes():
            at = position % len(thing)
            return thing[:at] + bytes([thing[at] ^ (1 << position % 8)]) + thing[at + 1 :]
        case str():
            at = position % (len(thing) + 1)
            return thing[:at] + "x" + thing[at:]
        case int():
            return thing + 1
        case datetime():
            return thing + timedelta(microseconds=1)
    raise TypeError(thing)


@given(chain=CHAINS)
@settings(max_examples=60, deadline=None)
def test_chain_as_sealed_holds(chain: list[AuditRecord]) -> None:
    assert verify(chain) is None


@given(
    chain=CHAINS,
    pick=st.integers(0, 100),
    field=st.sampled_from(AuditRecord.__struct_fields__),
    position=st.integers(0, 10_000),
)
@settings(max_examples=80, deadline=None)
def test_chain_any_flip_is_found_at_its_record(chain: list[AuditRecord], pick: int, field: str, position: int) -> None:
    at = pick % len(chain)
    chain[at] = msgspec.structs.replace(chain[at], **{field: flipped(getattr(chain[at], field), position)})
    assert verify(chain) == at + 1


@given(chain=CHAINS, pick=st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_chain_drop_repeat_and_swap_are_found(chain: list[AuditRecord], pick: int) -> None:
    at = pick % (len(chain) - 1)
    assert verify(chain[:at] + chain[at + 1 :]) == at + 1
    assert verify([*chain[: at + 1], chain[at], *chain[at + 1 :]]) == at + 2
    swapped = chain.copy()
    swapped[at], swapped[at + 1] = swapped[at + 1], swapped[at]
    assert verify(swapped) == at + 1


@given(draft=DRAFTS)
@settings(max_examples=60, deadline=None)
def test_canonical_content_means_the_same_and_is_stable(draft: AuditDraft) -> None:
    text = canonical(draft)
    assert msgspec.json.decode(text.encode()) == draft.content
    again = msgspec.structs.replace(draft, content=dict(reversed(draft.content.items())))
    assert canonical(again) == text


@given(a=DRAFTS, b=DRAFTS)
@settings(max_examples=60, deadline=None)
def test_sec_080_different_drafts_have_different_hashes(a: AuditDraft, b: AuditDraft) -> None:
    same = (a.at, a.actor, a.action, a.subject, canonical(a)) == (b.at, b.actor, b.action, b.subject, canonical(b))
    assert (seal(GENESIS, 1, a).hash == seal(GENESIS, 1, b).hash) == same
