"""Who waits how long to enter when a crowd comes from many addresses: the one who trades and signs in does not."""

from datetime import timedelta

import pytest

from engine.domain.enums import Role
from engine.http.header_proofs import HeaderProofs
from engine.http.strangers import Strangers
from engine.ids import uuid7
from engine.security.api_tokens import ApiToken, Scope, digest, new_token
from tests.support.api import ApiServices
from tests.support.proofs import Proofs

PATH = "/api/v1/signals/tradingview/x"


class Gate:
    """A gate, and a clock that is moved by hand."""

    def __init__(self, *listed: str) -> None:
        self.now = 1_000.0
        self.strangers = Strangers(Proofs(*listed), time=lambda: self.now)

    def flood(self, addresses: int, *, seconds: float, per_second: int) -> None:
        """A crowd knocks, from *addresses* addresses, and everybody asks whether it may come in."""
        for number in range(int(seconds * per_second)):
            self.now += 1 / per_second
            self.knock(f"203.0.{number % addresses // 250}.{number % addresses % 250}")

    def knock(self, client: str) -> float | None:
        return self.strangers.enters(client, PATH, {})


@pytest.mark.parametrize("addresses", [1, 3, 50])
def test_sec_096_first_requests_of_an_address_do_not_wait_for_a_crowd_from_others(addresses: int) -> None:
    gate = Gate()
    gate.flood(addresses, seconds=20, per_second=1_000)
    waits = [gate.knock("198.51.100.7") for _ in range(5)]
    assert all(wait is not None and wait < 0.5 for wait in waits), waits


def test_sec_096_botnet_does_not_keep_out_where_something_was_proven_or_is_listed() -> None:
    gate = Gate("192.0.2.1")
    gate.strangers.welcome("198.51.100.7")
    gate.flood(5_000, seconds=20, per_second=2_000)
    assert gate.knock("198.51.100.8") in (None, pytest.approx(4.0, abs=0.1))
    for known in ("198.51.100.7", "192.0.2.1"):
        waits = [gate.knock(known) for _ in range(15)]
        assert all(wait is not None and wait < 0.5 for wait in waits), (known, waits)
    gate.now += 86_401
    gate.flood(5_000, seconds=20, per_second=2_000)
    assert gate.knock("198.51.100.7") != 0.0


def test_sec_096_networks_of_one_ipv6_site_count_as_one_newcomer() -> None:
    gate = Gate()
    for number in range(10_000):
        gate.now += 0.001
        gate.knock(f"2001:db8:1:{number % 60_000:x}::1")
    wait = gate.knock("2001:db8:2::1")
    assert wait is not None
    assert wait < 0.5


def test_token_with_a_list_proves_itself_at_its_addresses_only_and_leaves_no_mark() -> None:
    services = ApiServices()
    owner, secret, now = services.add_user(Role.ADMIN), new_token(), services.clock.now()
    token = ApiToken(
        id=uuid7(),
        user_id=owner.id,
        name="kill",
        token_hash=digest(secret),
        scopes=frozenset({Scope.KILL}),
        ip_allowlist=("198.51.100.0/24",),
        created_at=now,
        expires_at=now + timedelta(days=1),
    )
    services.api_tokens.put(token)
    proofs = HeaderProofs(services)
    bearer = f"Bearer {secret}"
    assert proofs.is_session(bearer, "198.51.100.9")
    assert not proofs.is_session(bearer, "203.0.113.4")
    assert not proofs.is_session(f"Bearer {new_token()}", "198.51.100.9")
    assert proofs.is_expected("198.51.100.9")
    assert not proofs.is_expected("203.0.113.4")
    # the request itself is judged, counted and put on record later
    assert services.ledger.drafts == []
    assert services.api_tokens.take_uses() == {}
    strangers = Strangers(proofs, time=lambda: 0.0)
    headers = {b"authorization": bearer.encode()}
    assert [strangers.enters("198.51.100.9", PATH, headers) for _ in range(300)] == [0.0] * 300
    assert strangers.enters("203.0.113.4", PATH, headers) == 0.0
    assert any(strangers.enters("203.0.113.4", PATH, headers) for _ in range(300))
