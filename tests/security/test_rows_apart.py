"""Rows of different users are apart in the store itself, and a VIEWER reads what it was granted (SEC-032, 037)."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
import trio

from engine.domain.enums import Role
from engine.http.endpoint import ApiRequest, Registry, endpoint
from engine.http.permissions import Permission
from engine.runtime.asyncio_bridge import open_aio
from engine.store.database import Database
from tests.support.api import ApiServices, running_api
from tests.support.belongings import Belongings
from tests.support.engine import EngineProcess
from tests.support.intruder import People, Person, assert_refused
from tests.support.servers import TestServers

NOBODYS = {
    "schema_migrations",
    "system_flags",
    "audit_logs",
    "journal_cursor",
    "journal_attempts",
    "engine_lease",
    "dead_letters",
    "freeze_quantities",
    "kill_certificates",
    "kill_drills",
    "telegram_offsets",
}
"""Tables without a user: only an ADMIN's endpoints, or ones that narrow what they show, read them."""
OWN = {"users", "user_sessions", "refresh_tokens", "data_keys", "data_key_wraps"}
"""Tables in which everybody who ever signed in has rows of his own."""


@pytest.fixture(scope="module")
def tables(engine: EngineProcess, servers: TestServers, database_name: str) -> list[str]:
    found = servers.sql(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        " AND NOT relispartition ORDER BY 1",
        database_name,
    )
    return [name for name in found.split() if name not in NOBODYS]


def as_role(
    servers: TestServers, database: str, statement: str, *, user_id: str | None, accounts: str = ""
) -> list[str]:
    """Run *statement* as the engine's role for *user_id* ("engine" the engine itself); return its lines."""
    seen = "" if user_id is None else f"SELECT set_config('engine.user_id', '{user_id}', true);"
    seen += f"SELECT set_config('engine.account_ids', '{accounts}', true);"
    return servers.sql(f"BEGIN; SET LOCAL ROLE engine_app; {seen} {statement}; COMMIT", database).splitlines()


def test_sec_032_every_table_with_a_user_is_walled(servers: TestServers, database_name: str, tables: list[str]) -> None:
    walled = servers.sql(
        "SELECT relname FROM pg_class c WHERE relrowsecurity AND EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid)",
        database_name,
    ).split()
    missing = set(tables) - set(walled)
    assert missing == set(), "wall them in a migration: SELECT engine_wall('table', 'condition'), see 0016"


def test_sec_032_query_without_a_condition_returns_nothing_of_others(
    servers: TestServers, database_name: str, tables: list[str], belongings: Belongings, alice: Person, mallory: Person
) -> None:
    count = "; ".join(f"SELECT '{table}', count(*) FROM \"{table}\"" for table in tables)

    def counted(user_id: str | None) -> dict[str, int]:
        lines = as_role(servers, database_name, count, user_id=user_id)
        return {name: int(number) for name, number in (line.split("|") for line in lines if "|" in line)}

    everything, hers, his = counted("engine"), counted(alice.id), counted(mallory.id)
    assert all(number == 0 for number in counted(None).values()), "nothing is set: nothing is seen"
    for table in ("kite_accounts", "strategies", "signal_sources", "trade_intents", "orders", "risk_limits"):
        assert everything[table] > 0
        assert hers[table] > 0
        assert his[table] == 0, table
    for table in ("order_events", "intent_events", "strategy_accounts", "risk_verdicts"):
        assert everything[table] >= hers[table] > 0
        assert his[table] == 0, table
    assert his["users"] == hers["users"] == 1
    assert {table for table in tables if his[table]} <= OWN


def test_sec_032_statement_without_a_condition_changes_nothing_of_others(
    servers: TestServers, database_name: str, belongings: Belongings, mallory: Person
) -> None:
    before = belongings.state()
    for statement in (
        "UPDATE orders SET status = 'CANCELLED'",
        "UPDATE kite_accounts SET label = 'mine'",
        "UPDATE signal_sources SET enabled = false",
        "UPDATE users SET role = 'ADMIN' WHERE role = 'TRADER' AND id <> '" + mallory.id + "'",
        "DELETE FROM risk_limits",
    ):
        as_role(servers, database_name, statement, user_id=mallory.id)
    assert belongings.state() == before
    stolen = (
        "INSERT INTO risk_limits (id, user_id, limits, created_at, updated_at) VALUES "
        f"('{uuid4()}', '{belongings.owner.id}', '{{}}', now(), now())"
    )
    with pytest.raises(RuntimeError, match="row-level security"):
        as_role(servers, database_name, stolen, user_id=mallory.id)


def test_sec_032_role_of_the_engine_cannot_take_the_wall_down(servers: TestServers, database_name: str) -> None:
    for statement in (
        "ALTER TABLE orders DISABLE ROW LEVEL SECURITY",
        "DROP POLICY users_apart ON orders",
        "CREATE POLICY open ON orders USING (true)",
        "SELECT engine_wall('dead_letters', 'true')",
    ):
        with pytest.raises(RuntimeError, match=r"must be owner|permission denied"):
            as_role(servers, database_name, statement, user_id="engine")


@endpoint("GET", "/forgetful", permission=Permission.READ, summary="A query that forgot its condition")
async def forgetful(request: ApiRequest) -> int:
    async def unit(connection: Any) -> int:
        return int(await connection.fetchval("SELECT count(*) FROM users"))

    found: int = await request.services.database.run(unit)
    return found


def test_sec_032_request_is_walled_whatever_its_handler_asks(
    servers: TestServers, database_name: str, people: People, alice: Person, viewer: Person
) -> None:
    everybody = int(servers.sql("SELECT count(*) FROM users", database_name))
    assert everybody > 2

    async def ask() -> dict[str, int]:
        database = Database(servers.database_url(database_name), role="engine_app")
        async with open_aio(lambda report: pytest.fail(str(report))):
            await database.open()
            try:
                services = ApiServices(database=database)
                async with running_api(services, Registry([forgetful])) as api:
                    found = {}
                    for role in Role:
                        headers = services.bearer(services.add_user(role))
                        found[role.value] = (await api.client.get("/api/v1/forgetful", headers=headers)).json()["data"]
                    return found
            finally:
                await database.close()

    # the people of that server are in nobody's table: whoever does not administer sees nothing at all
    assert trio.run(ask) == {"ADMIN": everybody, "TRADER": 0, "VIEWER": 0}


# what a VIEWER was granted


LISTS = ("/accounts", "/strategies", "/sources", "/risk/limits", "/signals/intents", "/executions/orders")


def shown(person: Person, path: str) -> set[str]:
    answer = person.request("GET", path)
    assert answer.status_code == 200, answer.text
    return {row["id"] for row in answer.json()["data"]}


@pytest.fixture
def grant(alice: Person, viewer: Person, belongings: Belongings, request: pytest.FixtureRequest) -> Iterator[str]:
    body = {"accountId": belongings.account["id"]} if getattr(request, "param", None) == "account" else {}
    made = alice.make(f"/users/{viewer.id}/grants", **body)
    yield made["id"]
    alice.request("DELETE", f"/users/{viewer.id}/grants/{made['id']}")


def test_sec_032_viewer_without_a_grant_reads_nothing(viewer: Person, belongings: Belongings) -> None:
    assert [path for path in LISTS if shown(viewer, path)] == []
    assert_refused(viewer.request("GET", f"/executions/orders/{belongings.order['id']}"), 404)


def test_sec_032_viewer_reads_what_a_user_granted_and_changes_nothing(
    alice: Person, viewer: Person, belongings: Belongings, grant: str
) -> None:
    for path in LISTS:
        assert shown(viewer, path) == shown(alice, path) != set(), path
    for path in (
        f"/accounts/{belongings.account['id']}",
        f"/executions/orders/{belongings.order['id']}",
        f"/signals/intents/{belongings.intent}",
        f"/risk/state?userId={alice.id}",
        f"/executions/pnl?userId={alice.id}",
    ):
        assert viewer.request("GET", path).status_code == 200, path
    assert_refused(viewer.request("POST", f"/executions/orders/{belongings.order['id']}/cancel", json={}), 403)
    assert viewer.request("GET", f"/users/{viewer.id}/grants").json()["data"][0]["id"] == grant
    assert alice.request("DELETE", f"/users/{viewer.id}/grants/{grant}").status_code == 200
    assert [path for path in LISTS if shown(viewer, path)] == [], "what is taken back is taken back at once"


@pytest.mark.parametrize("grant", ["account"], indirect=True)
def test_sec_032_grant_of_an_account_shows_that_account_and_no_more(
    viewer: Person, belongings: Belongings, grant: str
) -> None:
    assert shown(viewer, "/accounts") == {belongings.account["id"]}
    assert belongings.order["id"] in shown(viewer, "/executions/orders")
    assert viewer.request("GET", f"/executions/orders/{belongings.order['id']}").status_code == 200
    for path in ("/strategies", "/sources", "/risk/limits", "/signals/intents"):
        assert shown(viewer, path) == set(), path
    assert_refused(viewer.request("GET", f"/signals/intents/{belongings.intent}"), 404)
    assert_refused(viewer.request("GET", f"/strategies/{belongings.strategy['id']}"), 404)
    assert_refused(viewer.request("GET", f"/risk/state?userId={belongings.owner.id}"), 404)


def test_sec_032_nobody_grants_what_is_not_its_own(
    engine: EngineProcess, alice: Person, mallory: Person, viewer: Person, belongings: Belongings, grant: str
) -> None:
    path = f"/users/{viewer.id}/grants"
    for body in ({"userId": alice.id}, {"accountId": belongings.account["id"]}):
        assert_refused(mallory.request("POST", path, json=body), 404)
    assert_refused(mallory.request("DELETE", f"{path}/{grant}"), 404)
    assert_refused(mallory.request("GET", path), 404)
    assert_refused(viewer.request("POST", path, json={"userId": alice.id}), 403)
    assert_refused(alice.request("POST", path, json={}), 409)
    # a TRADER's and an ADMIN's id are told to no other TRADER
    for nobody in (mallory.id, str(uuid4())):
        assert_refused(alice.request("POST", f"/users/{nobody}/grants", json={}), 404)
    assert_refused(engine.request("POST", f"/users/{mallory.id}/grants", json={"userId": alice.id}), 409)


def test_sec_034_ids_tell_of_no_volume(alice: Person, belongings: Belongings) -> None:
    second = alice.make("/accounts", label="second")
    ids = [belongings.account["id"], second["id"], belongings.order["id"], belongings.intent, alice.id]
    for each in ids:
        # a time of making and 74 random bits (7), or a hash of what only its source knows (5)
        assert each[14] in "57", each
    tails = {each[-12:] for each in ids}
    assert len(tails) == len(ids)
    number = int(second["id"].replace("-", ""), 16)
    for near in (number - 1, number + 1):
        text = f"{near:032x}"
        guessed = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
        assert_refused(alice.request("GET", f"/accounts/{guessed}"), 404)
    for path in ("1", "2", "0", "-1"):
        assert_refused(alice.request("GET", f"/accounts/{path}"), 404)


def test_sec_037_details_of_the_engine_are_for_administrators(
    engine: EngineProcess, mallory: Person, viewer: Person
) -> None:
    for path in ("/system/metrics", "/system/actors", "/system/queues", "/system/flags", "/audit"):
        assert httpx.get(f"{engine.base_url}/api/v1{path}", timeout=10).status_code == 401
        for person in (mallory, viewer):
            assert_refused(person.request("GET", path), 403)
        assert engine.request("GET", path).status_code == 200
