from uuid import UUID

import pytest

from engine.domain.tag import epoch_of, is_ours, make_tag, valid

KEY = b"k" * 32
ORDER = UUID("019a0000-0000-7000-8000-000000000001")


def a_tag(key: bytes = KEY, deployment: str = "E1", epoch: int = 7, order_id: UUID = ORDER, attempt: int = 1) -> str:
    return make_tag(key, deployment=deployment, epoch=epoch, order_id=order_id, attempt=attempt)


def test_make_tag_layout() -> None:
    tag = a_tag()
    assert len(tag) == 20
    assert tag.startswith("TE1007")
    assert tag.isalnum()
    assert tag == tag.upper()


def test_make_tag_known_answer() -> None:
    # First 67 bits of HMAC-SHA256(32 times "k", order id || 00000001), worked out apart from this code.
    assert a_tag()[6:19] == "F7F88Q8OT513Y"


def test_make_tag_is_recomputable_and_depends_on_every_input() -> None:
    tags = [
        a_tag(),
        a_tag(key=b"j" * 32),
        a_tag(deployment="E2"),
        a_tag(epoch=8),
        a_tag(order_id=UUID(int=1)),
        a_tag(attempt=2),
    ]
    assert a_tag() == tags[0]
    assert len(set(tags)) == len(tags)


def test_make_tag_epoch_wraps_at_three_characters() -> None:
    assert a_tag(epoch=36**3 + 5) == a_tag(epoch=5)
    assert epoch_of(a_tag(epoch=36**3 - 1)) == 36**3 - 1


@pytest.mark.parametrize("deployment", ["", "E", "E11", "e1", "É1", "E-"])
def test_make_tag_bad_deployment_refused(deployment: str) -> None:
    with pytest.raises(ValueError, match="two characters"):
        a_tag(deployment=deployment)


def test_make_tag_empty_key_or_negative_number_refused() -> None:
    for wrong in ({"key": b""}, {"epoch": -1}, {"attempt": -1}, {"attempt": 2**32}):
        with pytest.raises(ValueError):
            a_tag(**wrong)  # type: ignore[arg-type]


def test_is_ours_by_deployment_in_any_case_and_epoch() -> None:
    tag = a_tag(epoch=99)
    assert is_ours(tag, "E1")
    assert is_ours(tag.lower(), "E1")
    assert not is_ours(tag, "E2")


@pytest.mark.parametrize(
    "tag", ["", "mktp", "mktp:2.00", "connect test order1", "T" * 20, "ß" * 20, "TE1007" + "0" * 13 + "é"]
)
def test_valid_foreign_tags_are_not(tag: str) -> None:
    assert not valid(tag)
    assert not is_ours(tag, "E1")
    with pytest.raises(ValueError, match="not a tag"):
        epoch_of(tag)
