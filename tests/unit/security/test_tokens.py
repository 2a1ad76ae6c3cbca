"""Access tokens: the attack list of SEC-013 to SEC-019, and refresh tokens (SEC-024, SEC-026)."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
import pytest

from engine.domain.enums import Role
from engine.errors import EngineError
from engine.ids import uuid7
from engine.security.tokens import RefreshTokens, TokenInvalid, TokenIssuer

KEY = bytes(range(32))
NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
USER, SESSION = uuid7(), uuid7()
ISSUER = TokenIssuer(KEY, ttl_s=900)


def issue(**changes: Any) -> str:
    values = {"user_id": USER, "role": Role.TRADER, "session_id": SESSION, "epoch": 3, "signed_in_at": NOW, "now": NOW}
    return ISSUER.issue(**{**values, **changes})


def part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def claims() -> dict[str, Any]:
    return dict(jwt.decode(issue(), options={"verify_signature": False}))


def forge(header: Any, payload: Any, key: bytes = KEY, digest: str = "sha256") -> str:
    """Sign whatever is given, as somebody who holds *key* could."""
    signed = f"{part(header)}.{part(payload)}"
    return f"{signed}.{part(hmac.new(key, signed.encode(), digest).digest())}"


OURS = {"alg": "HS256", "typ": "at+jwt"}


def test_token_fresh_gives_its_claims() -> None:
    found = ISSUER.verify(issue(), now=NOW)
    assert (found.sub, found.sid, found.role, found.tep, found.signed_in_at) == (USER, SESSION, Role.TRADER, 3, NOW)


def test_token_forged_with_our_header_and_claims_is_what_the_other_attacks_start_from() -> None:
    assert ISSUER.verify(forge(OURS, claims()), now=NOW).sub == USER


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none", "typ": "at+jwt"},
        {"alg": "None", "typ": "at+jwt"},
        {"alg": "nOnE", "typ": "at+jwt"},
        {"typ": "at+jwt"},
        {"alg": ["HS256"], "typ": "at+jwt"},
        {"alg": "HS512", "typ": "at+jwt"},
        {"alg": "RS256", "typ": "at+jwt"},
        {"alg": "EdDSA", "typ": "at+jwt"},
        {"alg": "HS256", "typ": "JWT"},
        {"alg": "HS256", "typ": "rt"},
        {"alg": "HS256"},
        {**OURS, "kid": "../../dev/null"},
        {**OURS, "kid": "' OR 1=1"},
        {**OURS, "kid": "k" * 100_000},
        {**OURS, "jku": "https://evil.example/keys"},
        {**OURS, "x5u": "https://evil.example/cert"},
        {**OURS, "jwk": {"kty": "oct", "k": part(KEY)}},
        {**OURS, "x5c": ["MIIB"]},
        {**OURS, "crit": ["exp"]},
        {**OURS, "zip": "DEF"},
        [],
        "HS256",
    ],
    ids=lambda header: json.dumps(header)[:50],
)
def test_token_with_another_header_is_refused(header: Any) -> None:
    with pytest.raises(TokenInvalid):
        ISSUER.verify(forge(header, claims()), now=NOW)


def test_token_stays_good_while_the_clock_is_set_back_by_less_than_thirty_seconds() -> None:
    assert ISSUER.verify(issue(), now=NOW - timedelta(seconds=30)).sub == USER
    with pytest.raises(TokenInvalid, match="not valid yet"):
        ISSUER.verify(issue(), now=NOW - timedelta(seconds=31))


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "role", "sid", "tep", "auth_time", "iat", "nbf", "exp", "jti"])
def test_token_without_a_claim_is_refused(name: str) -> None:
    payload = claims()
    del payload[name]
    with pytest.raises(TokenInvalid):
        ISSUER.verify(forge(OURS, payload), now=NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"exp": "9999999999"},
        {"exp": 1e308},
        {"exp": int(NOW.timestamp()) + 100 * 365 * 86400},
        {"exp": None},
        {"exp": True},
        {"iat": int(NOW.timestamp()) + 600, "exp": int(NOW.timestamp()) + 900},
        {"nbf": int(NOW.timestamp()) + 600},
        {"auth_time": int(NOW.timestamp()) + 600},
        {"auth_time": -1},
        {"iat": int(NOW.timestamp()) - 100},
        {"iss": "someone-else"},
        {"aud": "another-api"},
        {"aud": ["trading-engine-api", "x"]},
        {"sub": 7},
        {"sub": "admin"},
        {"role": "ROOT"},
        {"role": ["ADMIN"]},
        {"tep": "3"},
        {"tep": -1},
        {"sid": None},
        {"jti": ""},
    ],
    ids=str,
)
def test_token_with_a_wrong_claim_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(TokenInvalid):
        ISSUER.verify(forge(OURS, {**claims(), **change}), now=NOW)


def attacks_on_the_signature() -> dict[str, str]:
    token = issue()
    head, payload, signature = token.split(".")
    other = part({**claims(), "role": "ADMIN"})
    return {
        "stripped": f"{head}.{payload}.",
        "no third part": f"{head}.{payload}",
        "all zero": f"{head}.{payload}.{part(bytes(32))}",
        "truncated": f"{head}.{payload}.{signature[:22]}",
        "claims changed": f"{head}.{other}.{signature}",
        "trailing characters": token + "AA",
        "trailing newline": token + "\n",
        "padding": token + "=",
        "fourth part": token + ".AAAA",
        "standard alphabet": f"{head}.{payload}.{'+' * 43}",
        "last character with spare bits": f"{head}.{payload}.{signature[:-1]}{_next(signature[-1])}",
        "blank inside": f"{head}.{payload}. {signature[1:]}",
        "unicode": f"{head}.{payload}.{'é' * 43}",
        "empty": "",
        "dots": "..",
        "JWE": ".".join([head] * 5),
        "5 KiB": f"{head}.{'A' * 5000}.{signature}",
    }


def _next(char: str) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return alphabet[alphabet.index(char) ^ 1]


@pytest.mark.parametrize("attack", list(attacks_on_the_signature()))
def test_token_with_an_attacked_signature_is_refused(attack: str) -> None:
    with pytest.raises(TokenInvalid):
        ISSUER.verify(attacks_on_the_signature()[attack], now=NOW)


def test_token_signed_with_another_key_or_digest_is_refused() -> None:
    for forged in (forge(OURS, claims(), key=bytes(32)), forge(OURS, claims(), key=b""), forge(OURS, b"not json")):
        with pytest.raises(TokenInvalid):
            ISSUER.verify(forged, now=NOW)
    long = forge(OURS, claims(), digest="sha512")
    with pytest.raises(TokenInvalid):
        ISSUER.verify(long, now=NOW)


def test_token_dies_at_its_end_and_not_long_before() -> None:
    token = issue()
    ISSUER.verify(token, now=NOW + timedelta(seconds=899))
    with pytest.raises(TokenInvalid):
        ISSUER.verify(token, now=NOW + timedelta(seconds=906))


def test_token_of_a_longer_living_issuer_is_refused_by_a_shorter_one() -> None:
    token = TokenIssuer(KEY, ttl_s=3600).issue(
        user_id=USER, role=Role.ADMIN, session_id=SESSION, epoch=0, signed_in_at=NOW, now=NOW
    )
    with pytest.raises(TokenInvalid):
        ISSUER.verify(token, now=NOW)


def test_issuer_with_a_short_key_is_refused() -> None:
    with pytest.raises(EngineError, match="32"):
        TokenIssuer(b"short")


def test_access_token_is_signed_with_the_key_bytes_as_the_contract_says() -> None:
    signed, _, signature = issue().rpartition(".")
    assert part(hmac.new(KEY, signed.encode(), hashlib.sha256).digest()) == signature


def test_refresh_tokens_are_256_random_bits_and_wellformed() -> None:
    refresh = RefreshTokens(KEY)
    made = {refresh.new() for _ in range(1000)}
    assert len(made) == 1000
    assert all(refresh.is_wellformed(token) and len(base64.urlsafe_b64decode(token + "=")) == 32 for token in made)


def test_refresh_child_is_the_same_each_time_and_needs_the_key() -> None:
    refresh = RefreshTokens(KEY)
    token = refresh.new()
    child = refresh.child_of(token)
    assert refresh.child_of(token) == child != token
    assert refresh.is_wellformed(child)
    assert RefreshTokens(bytes(32)).child_of(token) != child
    assert refresh.hash(token) == hashlib.sha256(token.encode()).digest()


@pytest.mark.parametrize("token", ["", "a" * 42, "a" * 44, "a" * 42 + "=", "é" * 43, "a" * 42 + "\n", UUID(int=0).hex])
def test_refresh_token_of_another_form_is_not_wellformed(token: str) -> None:
    assert not RefreshTokens.is_wellformed(token)
