"""One-time codes against the vectors of RFC 6238, recovery codes, and who may be narrowed to what."""

from datetime import UTC, datetime
from uuid import UUID

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.enums import Role
from engine.http.permissions import role_within
from engine.security import recovery_codes, totp
from engine.security.api_tokens import Scope, digest, is_api_token, new_token

# the secret of appendix B: the ASCII text 12345678901234567890
RFC_SEED = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
USER = UUID(int=7)


@pytest.mark.parametrize(
    ("seconds", "code"),
    [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"), (2000000000, "279037")],
)
def test_codes_are_those_of_rfc_6238(seconds: int, code: str) -> None:
    assert totp.matching_step(RFC_SEED, code, at=datetime.fromtimestamp(seconds, UTC)) == seconds // 30


@given(st.integers(300, 4_000_000_000), st.integers(-5, 5))
def test_code_is_taken_one_step_to_either_side_and_no_further(seconds: int, off: int) -> None:
    code = pyotp.TOTP(RFC_SEED).generate_otp(seconds // 30 + off)
    found = totp.matching_step(RFC_SEED, code, at=datetime.fromtimestamp(seconds, UTC))
    if abs(off) <= 1:
        assert found is not None
        assert abs(found - seconds // 30) <= 1
    else:
        # another step may have the same code by chance; never one that is further away
        assert found is None or abs(found - seconds // 30) <= 1


@pytest.mark.parametrize("code", ["", "28708", "2870822", "28708a", "\u0662\u0668\u0667\u0660\u0668\u0662", "287082\n"])
def test_what_is_no_code_matches_nothing(code: str) -> None:
    assert totp.matching_step(RFC_SEED, code, at=datetime.fromtimestamp(59, UTC)) is None


def test_code_may_be_typed_in_two_groups() -> None:
    assert totp.matching_step(RFC_SEED, "287 082", at=datetime.fromtimestamp(59, UTC)) == 1


def test_enrolment_names_the_engine_and_the_person() -> None:
    made = totp.enrolment(totp.new_seed(), "asha+desk@example.com")
    parsed = pyotp.parse_uri(made.uri)
    assert (parsed.secret, parsed.name, parsed.issuer) == (made.secret, "asha+desk@example.com", totp.ISSUER)
    assert len(made.secret) == 32
    assert made.qr_code.startswith("data:image/svg+xml")


def test_recovery_codes_are_ten_unlike_ones_and_forgive_how_they_are_typed() -> None:
    codes = recovery_codes.new_codes()
    assert len(set(codes)) == recovery_codes.COUNT == 10
    kept = recovery_codes.digest(codes[0], USER)
    assert kept is not None
    assert recovery_codes.digest(codes[0].upper().replace("-", " "), USER) == kept
    assert recovery_codes.digest(codes[0], UUID(int=8)) != kept
    for wrong in ("", "287082", codes[0][:-1], codes[0] + "a", codes[0].replace(codes[0][0], "1", 1)):
        assert recovery_codes.digest(wrong, USER) is None


def test_api_tokens_are_known_by_their_prefix_and_kept_as_a_hash() -> None:
    token = new_token()
    assert is_api_token(token)
    assert token.startswith("eng_")
    assert len(digest(token)) == 32
    assert not is_api_token(token[4:])
    assert not is_api_token(token + "A")


@given(st.sampled_from(Role), st.sets(st.sampled_from([Scope.READ, Scope.TRADE, Scope.ADMIN]), min_size=1))
def test_a_program_is_never_more_than_its_owner_or_its_scopes(role: Role, scopes: set[Scope]) -> None:
    order = (Role.VIEWER, Role.TRADER, Role.ADMIN)
    widest = {Scope.READ: Role.VIEWER, Scope.TRADE: Role.TRADER, Scope.ADMIN: Role.ADMIN}
    found = order.index(role_within(role, scopes))
    assert found == min(order.index(role), max(order.index(widest[scope]) for scope in scopes))
