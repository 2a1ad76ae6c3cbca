"""Attacks on letting a killed scope trade again: every one of them is refused and leaves it blocked (SEC-087, 092)."""

import base64
import hmac
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import msgspec
import pytest

from engine.actors.killswitch_file import KillFile
from engine.broker.outcome import Unknown
from engine.clock import SystemClock
from engine.config import decode_key
from engine.domain.enums import KillState, OrderStatus, Role
from engine.domain.killswitch import GLOBAL, KillRecord, next_version
from engine.errors import ConflictError
from engine.http.four_eyes import ask_second_admin
from engine.http.permissions import Principal
from engine.http.routes.killswitch import DisableBody
from engine.http.routes.killswitch import disable as letting_go
from engine.security.kill_seal import KillSeal
from tests.actors.test_kill_scopes import against
from tests.support.desk import World, running
from tests.support.engine import EngineProcess
from tests.support.intruder import People, Person, assert_refused
from tests.support.memory_broker import answer
from tests.support.servers import TestServers

ENVIRONMENT = {"ENGINE__SECURITY__TWO_ADMINS": "true"}
# the engine looks at its file once a second
_FILE_SEEN_S = 2.5


@pytest.fixture(scope="module")
def first(people: People) -> Person:
    return people("first", "ADMIN")


@pytest.fixture(scope="module")
def second(people: People) -> Person:
    return people("second", "ADMIN")


@pytest.fixture(scope="module")
def trader(people: People) -> Person:
    return people("trader", "TRADER")


@pytest.fixture
def blocked(first: Person, second: Person) -> Iterator[None]:
    """The global switch is on; whatever a test did, it is off afterwards."""
    trip(first)
    yield
    assert is_on(first), "an attack let it trade"
    disable(first, force=True)
    assert disable(second, force=True).status_code == 200


def trip(person: Person, scope: str = GLOBAL, mode: str = "BLOCK") -> None:
    body = {"scope": scope, "reason": "attack", "mode": mode}
    answer = person.request("POST", "/risk/killswitch/enable", json=body)
    assert answer.status_code == 200, answer.text


def disable(person: Person, scope: str = GLOBAL, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    body = {"scope": scope, "reason": "over"} | fields
    body = {key: value for key, value in body.items() if value is not None}
    return person.request("POST", "/risk/killswitch/disable", json=body, headers=headers or {})


def is_on(person: Person, scope: str = GLOBAL) -> bool:
    scopes = person.request("GET", "/risk/killswitch/status").json()["data"]["scopes"]
    return any(row["scope"] == scope and row["enabled"] for row in scopes)


def code_of(answer: Any, *statuses: int) -> str:
    return str(assert_refused(answer, *statuses)["code"])


def with_claims(engine: EngineProcess, person: Person, **changes: Any) -> dict[str, str]:
    """The headers of a token that this engine signed with other claims."""
    key = decode_key((engine.data_dir / "keys" / "jwt.key").read_text().strip())
    head, claims, _ = person.token.split(".")
    told = json.loads(base64.urlsafe_b64decode(claims + "==")) | changes
    content = f"{head}.{base64.urlsafe_b64encode(json.dumps(told).encode()).rstrip(b'=').decode()}"
    mac = base64.urlsafe_b64encode(hmac.digest(key, content.encode(), "sha256")).rstrip(b"=").decode()
    return {"Authorization": f"Bearer {content}.{mac}"}


def test_sec_092_sign_in_of_more_than_five_minutes_ago_is_403_even_with_force(
    engine: EngineProcess, first: Person, blocked: None
) -> None:
    old = with_claims(engine, first, auth_time=int(time.time()) - 301)
    for force in (False, True):
        assert code_of(disable(first, headers=old, force=force), 403) == "STEP_UP_REQUIRED"
    assert code_of(disable(first, headers=with_claims(engine, first), force=True), 409) == "SECOND_ADMIN_REQUIRED"


def test_sec_092_refreshing_a_session_is_no_sign_in(engine: EngineProcess, people: People, blocked: None) -> None:
    person = people("refresher", "ADMIN")
    before = json.loads(base64.urlsafe_b64decode(person.token.split(".")[1] + "=="))
    time.sleep(1.1)
    made = person.make("/auth/refresh", refreshToken=person.refresh_token)
    after = json.loads(base64.urlsafe_b64decode(made["accessToken"].split(".")[1] + "=="))
    assert after["iat"] > before["iat"]
    assert after["auth_time"] == before["auth_time"]


def test_sec_092_no_token_trader_and_viewer_do_not_let_go(
    people: People, trader: Person, first: Person, blocked: None
) -> None:
    viewer = people("onlooker", "VIEWER")
    for person in (trader, viewer):
        assert code_of(disable(person, force=True), 403) == "FORBIDDEN"
        assert_refused(disable(person, f"user:{person.id}", force=True), 403)
    assert_refused(disable(first, headers={"Authorization": ""}, force=True), 401)
    assert_refused(viewer.request("POST", "/risk/killswitch/enable", json={"scope": GLOBAL, "reason": "x"}), 403)


def test_sec_092_scope_of_somebody_else_is_as_if_it_were_not_there(
    people: People, trader: Person, first: Person
) -> None:
    other = people("neighbour", "TRADER")
    scope = f"user:{trader.id}"
    trip(trader, scope)
    for attack in (scope, f"user:{uuid4()}", f"account:{uuid4()}"):
        answer = other.request("POST", "/risk/killswitch/enable", json={"scope": attack, "reason": "x"})
        assert_refused(answer, 404)
    shown = other.request("GET", "/risk/killswitch/status").json()["data"]["scopes"]
    assert scope not in {row["scope"] for row in shown}
    # what was let go is that scope and no wider or other one
    trip(first)
    assert_refused(disable(trader, scope, force=True), 403)
    assert is_on(first, scope)
    assert is_on(first)


@pytest.mark.parametrize("reason", [None, "", "   ", "\t\n", "x" * 501, 7])
def test_sec_092_reason_missing_or_empty_is_422(first: Person, blocked: None, reason: Any) -> None:
    assert_refused(disable(first, reason=reason, force=True), 400, 422)


@pytest.mark.parametrize("fields", [{"scope": "all"}, {"scope": "*"}, {"scope": "GLOBAL "}, {"scope": ["global"]}])
def test_sec_092_scope_that_is_none_is_422(first: Person, blocked: None, fields: dict[str, Any]) -> None:
    assert_refused(disable(first, force=True, **fields), 400, 422)


def test_sec_092_one_administrator_is_not_two(engine: EngineProcess, first: Person, blocked: None) -> None:
    other_session = Person(engine.base_url, first.email, first.password)
    for person in (first, first, other_session, first):
        assert code_of(disable(person, force=True), 409) == "SECOND_ADMIN_REQUIRED"
    other_session.close()


def test_sec_092_second_administrator_must_ask_for_the_very_same(first: Person, second: Person, blocked: None) -> None:
    assert code_of(disable(first, force=False), 409) == "SECOND_ADMIN_REQUIRED"
    # more than the first asked for
    assert code_of(disable(second, force=True), 409) == "SECOND_ADMIN_REQUIRED"
    scope = f"user:{first.id}"
    trip(first, scope)
    # another scope than the first asked for
    assert code_of(disable(second, scope, force=True), 409) == "SECOND_ADMIN_REQUIRED"
    assert is_on(first, scope)


def test_sec_092_approval_counts_once_and_for_one_trip_only(first: Person, second: Person, blocked: None) -> None:
    disable(first, force=True)
    assert disable(second, force=True).status_code == 200
    trip(first)
    assert code_of(disable(second, force=True), 409) == "SECOND_ADMIN_REQUIRED"
    # the second's word is one for this trip; a further trip makes it void
    trip(second)
    assert code_of(disable(first, force=True), 409) == "SECOND_ADMIN_REQUIRED"


def test_sec_092_word_of_the_first_lapses_after_ten_minutes() -> None:
    now = datetime(2026, 11, 23, 5, tzinfo=UTC)
    services: Any = SimpleNamespace(
        config=SimpleNamespace(security=SimpleNamespace(two_admins=True)),
        clock=SimpleNamespace(now=lambda: now),
        extras={},
    )

    def ask(number: int) -> None:
        caller = cast("Principal", SimpleNamespace(user_id=UUID(int=number), role=Role.ADMIN))
        ask_second_admin(services, caller, GLOBAL, (5, True))

    with pytest.raises(ConflictError):
        ask(1)
    now += timedelta(minutes=10, seconds=1)
    with pytest.raises(ConflictError):
        ask(2)
    now += timedelta(minutes=10)
    ask(1)


def test_sec_092_raise_of_a_limit_needs_two_who_ask_for_the_very_same(
    first: Person, second: Person, trader: Person
) -> None:
    limits = trader.make("/risk/limits", maxOrderValue=1000)
    path = f"/risk/limits/{limits['id']}"

    def loosen(person: Person, **change: Any) -> Any:
        return person.request("PUT", path, json=change)

    assert code_of(loosen(first, maxOrderValue=5000), 409) == "SECOND_ADMIN_REQUIRED"
    assert code_of(loosen(first, maxOrderValue=5000), 409) == "SECOND_ADMIN_REQUIRED", "one is not two"
    assert code_of(loosen(second, maxOrderValue=5001), 409) == "SECOND_ADMIN_REQUIRED", "another change"
    assert_refused(loosen(trader, maxOrderValue=5000), 403)
    assert loosen(second, maxOrderValue=5000).json()["data"]["maxOrderValue"] == 5000
    # the word of the first is used up, and tightening needs nobody else
    assert loosen(second, maxOrderValue=4000).status_code == 200
    assert code_of(loosen(second, maxOrderValue=5000), 409) == "SECOND_ADMIN_REQUIRED"
    assert trader.request("GET", "/risk/limits").json()["data"][0]["maxOrderValue"] == 4000


def test_sec_092_unfinished_flattening_stands_against_it(first: Person, trader: Person) -> None:
    account = trader.make("/accounts", label="far", broker="kite", apiKey="k" * 16, apiSecret="s" * 32, capital=100000)
    scope = f"account:{account['id']}"
    trip(first, scope, mode="SQUARE_OFF")
    time.sleep(1.5)  # a turn of the sequence: nobody is logged in, so nothing is proven
    error = assert_refused(disable(first, scope), 409)
    assert error["code"] == "FLATTENING_UNFINISHED"
    assert "FLATTENING_UNFINISHED" in {obstacle["code"] for obstacle in error["details"]["obstacles"]}
    assert is_on(first, scope)


async def test_sec_092_order_of_unknown_outcome_stands_against_it(autojump_clock: Any) -> None:
    world = World()
    world.broker.answers = [answer(Unknown(reason="no answer"))]
    async with running(world):
        order = world.submit(world.order())
        await world.until_status(order, OrderStatus.UNKNOWN)
        assert "ORDERS_UNKNOWN" in await against(world)
        assert "ORDERS_UNKNOWN" not in await against(world, f"source:{uuid4()}")


async def test_sec_092_trip_that_comes_while_accounts_are_compared_is_not_undone() -> None:
    now = SystemClock().now()
    looked_at = KillRecord(scope=GLOBAL, version=1, state=KillState.BLOCKED, reason="by hand", actor="user:x", at=now)
    again = msgspec.structs.replace(looked_at, version=3, reason="MAX_DAILY_LOSS_PCT: 6 exceeds 5", actor="system")
    records = {GLOBAL: looked_at}

    async def against(_record: KillRecord) -> list[Any]:
        records[GLOBAL] = again
        return []

    guardian = SimpleNamespace(switches=SimpleNamespace(records=records))  # which cannot release
    services = SimpleNamespace(
        clock=SystemClock(), guardian=guardian, extras={"rearming": SimpleNamespace(against=against)}
    )
    user = cast("Any", SimpleNamespace(scopes=None, signed_in_at=now, role=Role.ADMIN, is_admin=True))
    request = SimpleNamespace(services=services, user=user, body=DisableBody(scope=GLOBAL, reason="over"))
    with pytest.raises(ConflictError) as refused:
        await letting_go.handler(cast("Any", request))
    assert refused.value.code == "TRIPPED_AGAIN"
    assert "MAX_DAILY_LOSS_PCT" in str(refused.value)


# what stands in the stores


def kill_file(engine: EngineProcess) -> Path:
    return engine.data_dir / "state" / "kill.wal"


def seal_of(engine: EngineProcess) -> KillSeal:
    return KillSeal(decode_key((engine.data_dir / "keys" / "master.key").read_text().strip()))


def a_release(after: KillRecord, **fields: Any) -> KillRecord:
    now = SystemClock().now()
    return KillRecord(
        scope=GLOBAL,
        version=next_version(after, now),
        state=KillState.ARMED,
        reason="over",
        actor="cli",
        at=now,
        alone=True,
        **fields,
    )


def test_sec_092_records_replayed_stale_or_forged_in_the_file_let_nothing_go(
    engine: EngineProcess, first: Person, blocked: None
) -> None:
    path = kill_file(engine)
    file = KillFile(path)
    held = file.read()[GLOBAL]
    # genuine releases of earlier trips, signed by this engine
    releases = [line for line in path.read_bytes().splitlines(keepends=True) if b'"ARMED"' in line]
    assert releases, "the trips before this one were let go"
    with path.open("ab") as raw:
        raw.write(b"".join(releases))
    genuine = seal_of(engine).sign(a_release(held))
    file.append(a_release(held))  # nobody's
    file.append(KillSeal(b"x" * 32).sign(a_release(held)))  # another key's
    file.append(msgspec.structs.replace(genuine, scope=GLOBAL, version=genuine.version + 1))  # another version's
    time.sleep(_FILE_SEEN_S)
    assert is_on(first)
    assert file.read_undamaged()[GLOBAL].version > held.version, "the forgeries stand in the file"


def test_sec_092_stale_copies_of_a_release_let_nothing_go_at_the_next_start(
    engine: EngineProcess, servers: TestServers, database_name: str, first: Person, second: Person
) -> None:
    trip(first)
    path = kill_file(engine)
    old = next(line for line in path.read_bytes().splitlines() if b'"ARMED"' in line and b'"alone":true' not in line)
    release = msgspec.json.decode(old.partition(b" ")[2], type=KillRecord)
    assert seal_of(engine).believes(release)
    assert engine.stop() == 0
    # one copy is gone, one is an older release that was genuine; only one still tells of the block
    path.unlink()
    value = msgspec.json.encode(release).decode().replace("'", "''")
    servers.sql(
        f"UPDATE system_flags SET value = '{value}', version = {release.version} WHERE name = 'killswitch:global'",
        database_name,
    )
    engine.start()
    back = [Person(engine.base_url, person.email, person.password) for person in (first, second)]
    assert is_on(back[0])
    assert [disable(person, force=True).status_code for person in back] == [409, 200]
    for person in back:
        person.close()
