"""Attacks on access tokens, and on the API tokens of programs (SEC-013 to SEC-019, SEC-022)."""

import base64
import hmac
import json
import zlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine.domain.enums import Role
from engine.ids import uuid7
from engine.security.tokens import TokenIssuer, signing_key_id
from tests.support.api import JWT_KEY
from tests.support.auth_world import AuthWorld, Signed, auth_world
from tests.support.intruder import assert_refused
from tests.support.servers import TestServers

HEADER = {"alg": "HS256", "typ": "at+jwt"}
Claims = dict[str, Any]


@pytest.fixture(scope="module")
def world(servers: TestServers) -> Iterator[AuthWorld]:
    with auth_world(servers, "security_tokens") as running:
        yield running


@pytest.fixture(scope="module")
def victim(world: AuthWorld) -> Signed:
    return world.login(world.user(Role.ADMIN))


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def part(value: Any) -> str:
    return b64(value if isinstance(value, bytes) else json.dumps(value).encode())


def claims_of(signed: Signed) -> Claims:
    found: Claims = json.loads(base64.urlsafe_b64decode(signed.access.split(".")[1] + "=="))
    return found


def forge(header: Any, claims: Any, key: bytes = JWT_KEY) -> str:
    """Sign whatever is given, as somebody who holds *key* could."""
    content = f"{part(header)}.{part(claims)}"
    return f"{content}.{b64(hmac.digest(key, content.encode(), 'sha256'))}"


def assert_none_opens(victim: Signed, tokens: dict[str, str]) -> None:
    """Check that what is tried from works, and that none of *tokens* does."""
    assert Signed(victim.world, victim.user, {"accessToken": forge(HEADER, claims_of(victim))}).works()
    for name, token in tokens.items():
        answer = victim.world.call("GET", "/auth/me", token=token)
        assert answer.status_code == 401, f"{name}: {answer.text}"
        assert answer.json()["error"]["code"] == "UNAUTHORIZED"


def test_sec_013_no_token_chooses_its_algorithm(victim: Signed) -> None:
    claims, (head, body, signature) = claims_of(victim), victim.access.split(".")
    public = Ed25519PrivateKey.generate()
    pem = public.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    heads = ({"alg": name, "typ": "at+jwt"} for name in ("none", "None", "nOnE", "NONE", "HS512", "RS256", "EdDSA", ""))
    tokens = {f"{each} unsigned": f"{part(each)}.{body}." for each in heads}
    tokens |= {f"{name} signed": forge({"alg": name, "typ": "at+jwt"}, claims) for name in ("none", "HS512", "EdDSA")}
    tokens |= {
        "alg missing": forge({"typ": "at+jwt"}, claims),
        "alg of many": forge({"alg": ["HS256"], "typ": "at+jwt"}, claims),
        "alg twice": forge(b'{"alg":"none","alg":"HS256","typ":"at+jwt"}', claims),
        "the old signature": f"{part({'alg': 'none', 'typ': 'at+jwt'})}.{body}.{signature}",
        "real HS512": jwt.encode(claims, JWT_KEY * 2, algorithm="HS512", headers={"typ": "at+jwt"}),
        "real EdDSA": jwt.encode(claims, public, algorithm="EdDSA", headers={"typ": "at+jwt"}),
        "HMAC under a public key": forge(HEADER, claims, key=pem),
        "header is a list": forge([], claims),
        "header is text": forge("HS256", claims),
    }
    assert_none_opens(victim, tokens)
    assert head


def test_sec_014_kid_is_looked_up_among_the_keys_and_nowhere_else(victim: Signed) -> None:
    claims, good = claims_of(victim), signing_key_id(JWT_KEY)
    assert Signed(victim.world, victim.user, {"accessToken": forge(HEADER | {"kid": good}, claims)}).works()
    kids: tuple[Any, ...] = (
        "../../../../dev/null", "' OR 1=1 --", "/dev/null", "k" * 1_000_000, "", good.upper(), good[:-1], good + "0",
        [good], {"kid": good}, 7, None, good + "\n", "\x00", f"keys/{good}",
    )  # fmt: skip
    tokens = {f"{str(kid)[:30]} under our key": forge(HEADER | {"kid": kid}, claims) for kid in kids}
    tokens |= {f"{str(kid)[:30]} under no key": forge(HEADER | {"kid": kid}, claims, key=b"") for kid in kids}
    tokens = {name: token for name, token in tokens.items() if len(token) < 60_000}
    assert_none_opens(victim, tokens)


def test_sec_015_keys_that_a_token_brings_along_are_refused(victim: Signed) -> None:
    own = b"k" * 32
    extras: tuple[dict[str, Any], ...] = (
        {"jwk": {"kty": "oct", "k": b64(own)}},
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["MIIB"]},
        {"x5t": "AAAA"},
        {"crit": ["exp"]},
        {"cty": "JWT"},
    )
    claims = claims_of(victim)
    tokens = {f"{extra} own key": forge(HEADER | extra, claims, key=own) for extra in extras}
    tokens |= {f"{extra} our key": forge(HEADER | extra, claims) for extra in extras}
    assert_none_opens(victim, tokens)


def test_sec_016_a_token_for_one_purpose_serves_no_other(victim: Signed) -> None:
    claims = claims_of(victim)
    tokens = {
        "refresh token": victim.refresh,
        **{f"typ {typ}": forge({"alg": "HS256", "typ": typ}, claims) for typ in ("JWT", "rt", "at+JWT", "", None, 1)},
        "no typ": forge({"alg": "HS256"}, claims),
        "audience of approvals": forge(HEADER, claims | {"aud": "trading-engine-approval"}),
        "many audiences": forge(HEADER, claims | {"aud": [claims["aud"], "x"]}),
        "another issuer": forge(HEADER, claims | {"iss": "someone"}),
    }
    assert_none_opens(victim, tokens)
    assert_refused(victim.world.refresh(victim.access), 401)


def test_sec_017_claims_are_required_typed_and_bounded_in_time(victim: Signed) -> None:
    claims = claims_of(victim)
    iat = claims["iat"]
    tokens = {f"without {name}": forge(HEADER, {k: v for k, v in claims.items() if k != name}) for name in claims}
    wrong: tuple[Claims, ...] = (
        {"exp": str(claims["exp"])}, {"exp": 1e308}, {"exp": claims["exp"] + 0.5}, {"exp": None}, {"exp": True},
        {"exp": iat + 100 * 365 * 86400}, {"exp": iat + 901}, {"exp": iat}, {"exp": 2**63},
        {"iat": iat - 3600, "nbf": iat - 3600, "exp": iat - 3600 + 900},
        {"iat": iat + 3600, "nbf": iat + 3600, "exp": iat + 3600 + 900},
        {"nbf": iat + 31 + 60}, {"iat": "now"}, {"nbf": []}, {"auth_time": iat + 3600}, {"auth_time": -1},
        {"sub": "admin"}, {"sub": 7}, {"sub": str(uuid4())}, {"sid": None}, {"jti": ""}, {"role": "ROOT"},
        {"tep": -1}, {"tep": "0"}, {"tep": claims["tep"] + 1},
    )  # fmt: skip
    tokens |= {str(change): forge(HEADER, claims | change) for change in wrong}
    assert_none_opens(victim, tokens)


def test_sec_018_what_is_not_one_token_written_in_one_way_is_refused(victim: Signed) -> None:
    claims, (head, body, signature) = claims_of(victim), victim.access.split(".")
    twice = json.dumps(claims)[:-1] + f', "role": "ADMIN", "sub": "{claims["sub"]}"}}'
    bomb = zlib.compress(b"A" * 5_000_000)
    tokens = {
        "signature stripped": f"{head}.{body}.",
        "two parts": f"{head}.{body}",
        "bytes after it": victim.access + "AA",
        "padding": victim.access + "=",
        "a fourth part": victim.access + ".e30",
        "five parts": ".".join([head] * 5),
        "a name twice": forge(HEADER, twice.encode()),
        "zip bomb": forge(HEADER | {"zip": "DEF"}, bomb[:2_000]),
        "more than 4 KiB": forge(HEADER, claims | {"x": "A" * 4_000}),
        "not JSON": forge(HEADER, b"not json"),
        "deep JSON": forge(HEADER, b"[" * 2_000),
        "a list of claims": forge(HEADER, [claims]),
        "spare bits": f"{head}.{body}.{signature[:-1]}{_next(signature[-1])}",
        "standard alphabet": f"{head}.{body}.{'+' * 43}",
        "two tokens": f"{victim.access}, Bearer {victim.access}",
    }
    assert_none_opens(victim, tokens)


def test_sec_019_empty_zero_and_cut_signatures_are_refused(victim: Signed) -> None:
    claims, (head, body, signature) = claims_of(victim), victim.access.split(".")
    tokens = {
        "empty": f"{head}.{body}.",
        "zero": f"{head}.{body}.{b64(bytes(32))}",
        "one zero byte": f"{head}.{body}.{b64(bytes(1))}",
        "64 zero bytes": f"{head}.{body}.{b64(bytes(64))}",
        "half": f"{head}.{body}.{signature[:22]}",
        "all but one": f"{head}.{body}.{signature[:-1]}",
        "of an empty key": forge(HEADER, claims, key=b""),
        "of another key": forge(HEADER, claims, key=b"k" * 32),
        "of the key as text": forge(HEADER, claims, key=b64(JWT_KEY).encode()),
        "of other claims": f"{head}.{part(claims | {'role': 'ADMIN', 'tep': 0, 'jti': str(uuid4())})}.{signature}",
    }
    assert_none_opens(victim, tokens)


def _next(char: str) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return alphabet[alphabet.index(char) ^ 1]


def test_sec_022_keys_change_without_signing_anybody_out_and_the_old_one_retires(
    world: AuthWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.clock.advance(1)
    signed = world.login(world.user())
    old, new = JWT_KEY, bytes(reversed(range(32)))
    retires_at = world.clock.now() + timedelta(seconds=905)
    issuer = TokenIssuer(new, previous=old, retires_at=retires_at)
    monkeypatch.setattr(world.services, "tokens", issuer)
    assert signed.works()
    renewed = world.refreshed(signed)
    assert jwt.get_unverified_header(renewed.access)["kid"] == signing_key_id(new)
    assert renewed.works()
    # without a kid a token is held against the present key alone
    assert not Signed(world, signed.user, {"accessToken": forge(HEADER, claims_of(renewed), key=old)}).works()
    world.clock.advance(906)
    stamp = int(world.clock.now().timestamp())
    claims = claims_of(renewed) | {"iat": stamp, "nbf": stamp, "exp": stamp + 900}
    by_retired = forge(HEADER | {"kid": signing_key_id(old)}, claims, key=old)
    assert not Signed(world, signed.user, {"accessToken": by_retired}).works()
    assert world.refreshed(renewed).works()
    monkeypatch.setattr(world.services, "tokens", TokenIssuer(new))
    assert not Signed(world, signed.user, {"accessToken": by_retired}).works()


# API tokens


def made(signed: Signed, **body: Any) -> Signed:
    """Make an API token; return whoever uses it."""
    answer = signed.call("POST", "/auth/tokens", {"name": "bot", "scopes": ["TRADE"]} | body)
    assert answer.status_code == 201, answer.text
    data = answer.json()["data"]
    program = Signed(signed.world, signed.user, {"accessToken": data["token"]})
    program.refresh = data["id"]  # the id, for what follows
    return program


REACH: dict[tuple[str, str], set[str]] = {
    ("ADMIN", "READ"): {"authenticated", "read"},
    ("ADMIN", "TRADE"): {"authenticated", "read", "trade", "kill"},
    ("ADMIN", "ADMIN"): {"authenticated", "read", "trade", "kill", "admin"},
    ("ADMIN", "KILL"): {"kill"},
    ("TRADER", "TRADE"): {"authenticated", "read", "trade", "kill"},
    ("TRADER", "KILL"): {"kill"},
    ("VIEWER", "READ"): {"authenticated", "read"},
}


@pytest.mark.parametrize(("role", "scope"), REACH)
def test_api_token_reaches_what_its_scope_and_its_owner_may(world: AuthWorld, role: str, scope: str) -> None:
    program = made(world.login(world.user(Role(role))), scopes=[scope])
    for probe in ("authenticated", "read", "trade", "kill", "admin", "self", "fresh"):
        answer = program.call("POST", f"/probe/{probe}")
        reached = answer.status_code == 200
        assert reached is (probe in REACH[role, scope]), f"{probe}: {answer.text}"
        if not reached:
            assert_refused(answer, 403)
    # whoever looks at everything needs a token for it
    if scope in ("READ", "TRADE"):
        assert (
            program.call("POST", "/probe/read").json()["data"]["role"] == {"READ": "VIEWER", "TRADE": "TRADER"}[scope]
        )


@pytest.mark.parametrize(("role", "scope"), [("TRADER", "ADMIN"), ("VIEWER", "TRADE"), ("VIEWER", "KILL")])
def test_api_token_is_never_more_than_its_owner(world: AuthWorld, role: str, scope: str) -> None:
    signed = world.login(world.user(Role(role)))
    refused = signed.call("POST", "/auth/tokens", {"name": "bot", "scopes": [scope]})
    assert assert_refused(refused, 403)["code"] == "SCOPE_TOO_WIDE"
    for body in (
        {"scopes": []},
        {"scopes": ["KILL", "READ"]},
        {"scopes": ["ROOT"]},
        {"ipAllowlist": ["here"]},
        {"name": " "},
    ):
        assert_refused(signed.call("POST", "/auth/tokens", {"name": "bot", "scopes": ["READ"]} | body), 422)
    # a token made as ADMIN, of an owner that is one no more
    admin = world.user(Role.ADMIN)
    program = made(world.login(admin), scopes=["ADMIN"])
    assert program.call("POST", "/probe/admin").status_code == 200
    world.sql("UPDATE users SET role = $2 WHERE id = $1", admin.id, role)
    world.reload()
    assert_refused(program.call("POST", "/probe/admin"), 403)
    assert program.call("POST", "/probe/read").json()["data"]["role"] == role


DEATHS: dict[str, Callable[[AuthWorld, Signed, Signed], Any]] = {
    "revoked": lambda world, owner, program: owner.call("DELETE", f"/auth/tokens/{program.refresh}"),
    "revoked by an administrator": lambda world, owner, program: world.login(world.user(Role.ADMIN)).call(
        "DELETE", f"/auth/tokens/{program.refresh}"
    ),
    "expired": lambda world, owner, program: world.clock.advance(86_401),
    "owner disabled": lambda world, owner, program: (
        world.sql("UPDATE users SET disabled = true WHERE id = $1", owner.user.id),
        world.reload(),
    ),
    "revoked by another engine": lambda world, owner, program: (
        world.sql("UPDATE api_tokens SET revoked_at = now() WHERE user_id = $1", owner.user.id),
        world.reload(),
    ),
}


@pytest.mark.parametrize("death", DEATHS)
def test_api_token_ends(world: AuthWorld, death: str) -> None:
    owner = world.login(world.user())
    program = made(owner, expiresInDays=1)
    assert program.works()
    DEATHS[death](world, owner, program)
    assert_refused(program.call("POST", "/probe/read"), 401)
    assert_refused(program.call("GET", "/auth/me"), 401)


def test_api_token_is_for_its_addresses_and_says_where_it_was_used(world: AuthWorld) -> None:
    owner, stranger = world.login(world.user()), world.login(world.user())
    program = made(owner, ipAllowlist=["198.51.100.0/24"], name="Amibroker")
    assert program.call("POST", "/probe/trade", ip="198.51.100.9").status_code == 200
    for ip in ("203.0.113.4", "198.51.101.9", ""):
        assert_refused(program.call("POST", "/probe/trade", ip=ip), 401)
    assert world.audited("API_TOKEN_REFUSED")[-1].content["why"] == "address not allowed"
    world.reload()
    (listed,) = owner.call("GET", "/auth/tokens").json()["data"]
    assert (listed["name"], listed["lastUsedIp"]) == ("Amibroker", "198.51.100.9")
    assert listed["lastUsedAt"] is not None
    assert "token" not in listed
    assert stranger.call("GET", "/auth/tokens").json()["data"] == []
    assert_refused(stranger.call("DELETE", f"/auth/tokens/{listed['id']}"), 404)


def test_api_token_manages_no_account_of_its_owner_and_has_no_session(world: AuthWorld) -> None:
    owner = world.login(world.user(Role.ADMIN))
    program = made(owner, scopes=["ADMIN"])
    for method, path, body in (
        ("POST", "/auth/password", {"currentPassword": "x", "newPassword": "y"}),
        ("POST", "/auth/tokens", {"name": "x", "scopes": ["READ"]}),
        ("GET", "/auth/tokens", None),
        ("DELETE", f"/auth/tokens/{program.refresh}", None),
        ("POST", "/auth/mfa/enroll", None),
        ("DELETE", "/auth/mfa", {"password": "x", "otp": "123456"}),
        ("GET", "/auth/sessions", None),
        ("DELETE", f"/auth/sessions/{uuid7()}", None),
        ("POST", "/auth/logout-all", None),
        ("POST", "/auth/step-up", {"password": "x"}),
        ("POST", "/probe/fresh", None),
    ):
        assert_refused(program.call(method, path, body), 403)
    assert_refused(program.call("POST", "/auth/logout"), 401)
    assert program.works()
    assert owner.works()


@pytest.mark.parametrize("token", ["eng_", "eng_" + "A" * 43, "eng_" + "A" * 44, "eng_" + "é" * 43, "ENG_" + "A" * 43])
def test_api_token_that_was_never_made_opens_nothing(world: AuthWorld, token: str) -> None:
    raw = {"Authorization": f"Bearer {token}".encode()}
    assert world.http.get("/auth/me", headers=raw).status_code == 401
