"""Signing in, renewing and signing out, against a real PostgreSQL; the attacks on it stand in tests/security."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import msgspec
import pytest
import trio

from engine.config import Config
from engine.domain.enums import Role
from engine.http.endpoint import Registry
from engine.http.routes import auth
from engine.http.sign_in import reload_auth
from engine.ids import uuid7
from engine.runtime.asyncio_bridge import open_aio
from engine.security.passwords import hash_password
from engine.security.sessions import UserRecord
from engine.store import users as store
from engine.store.database import Database
from tests.support.api import ApiServices, RunningApi, running_api

BASE = "/api/v1/auth"
PASSWORD = "correct horse battery"
OTHER = "violet kite over the pier"
HASH = hash_password(PASSWORD)


@asynccontextmanager
async def opened(url: str, *, role: str | None = "engine_app", **changes: Any) -> AsyncIterator[RunningApi]:
    """Serve the auth endpoints on the migrated database at *url*, as the engine's own role."""
    async with open_aio(lambda context: pytest.fail(str(context))):
        database = Database(url, role=role)
        await database.open()
        try:
            config = Config(
                security=msgspec.structs.replace(Config().security, **changes),
                limits=msgspec.structs.replace(Config().limits, login_per_minute=5),
            )
            async with running_api(ApiServices(database=database, config=config), Registry.of(auth)) as api:
                yield api
        finally:
            await database.close()


@pytest.fixture
async def api(schema_url: str) -> AsyncIterator[RunningApi]:
    async with opened(schema_url) as running:
        yield running


async def run(api: RunningApi, unit: Any) -> Any:
    return await api.services.database.run(unit, timeout_s=10)


async def add_user(api: RunningApi, *, role: Role = Role.TRADER, password_hash: str = HASH) -> UserRecord:
    user_id = uuid7()

    async def unit(connection: Any) -> UserRecord | None:
        return await store.insert_user(
            connection,
            user_id=user_id,
            email=f"Asha.{user_id.hex}@Example.com",
            name="Asha",
            role=role,
            password_hash=password_hash,
            now=api.services.clock.now(),
        )

    user: UserRecord = await run(api, unit)
    api.services.users.put(user)
    return user


async def login(api: RunningApi, user: UserRecord, password: str = PASSWORD) -> dict[str, Any]:
    answer = await api.client.post(f"{BASE}/login", json={"email": user.email, "password": password})
    assert answer.status_code == 200, answer.text
    tokens: dict[str, Any] = answer.json()["data"]
    return tokens


async def refresh(api: RunningApi, token: str) -> Any:
    return await api.client.post(f"{BASE}/refresh", json={"refreshToken": token})


async def me(api: RunningApi, access_token: str) -> int:
    answer = await api.client.get(f"{BASE}/me", headers={"Authorization": f"Bearer {access_token}"})
    return answer.status_code


async def token_rows(api: RunningApi) -> list[Any]:
    return list(await run(api, lambda connection: connection.fetch("SELECT * FROM refresh_tokens ORDER BY id")))


async def test_login_answers_tokens_and_the_user(api: RunningApi) -> None:
    user = await add_user(api)
    tokens = await login(api, user)
    assert set(tokens) == {"accessToken", "refreshToken", "expiresIn", "user"}
    assert tokens["expiresIn"] == 900
    assert tokens["user"] == {"id": str(user.id), "email": user.email, "name": "Asha", "role": "TRADER"}
    assert await me(api, tokens["accessToken"]) == 200
    assert api.services.ledger.actions == ["LOGIN"]
    assert api.services.ledger.drafts[0].content["requestId"]


async def test_login_takes_the_email_in_any_case(api: RunningApi) -> None:
    user = await add_user(api)
    assert await login(api, msgspec.structs.replace(user, email=user.email.upper()))


async def test_login_tries_are_limited_per_address_and_email(api: RunningApi) -> None:
    user = await add_user(api)
    statuses = []
    for _ in range(6):
        answer = await api.client.post(f"{BASE}/login", json={"email": user.email, "password": OTHER})
        statuses.append(answer.status_code)
    assert statuses == [401] * 5 + [429]
    assert int(answer.headers["retry-after"]) >= 1
    assert (await login(api, await add_user(api)))["accessToken"]


async def test_login_again_and_again_with_the_right_password_is_not_limited(api: RunningApi) -> None:
    user = await add_user(api)
    for _ in range(8):
        await login(api, user)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "a@b"},
        {"email": 1, "password": PASSWORD},
        {"email": "a@b", "password": "x" * 1025},
        {"email": "", "password": PASSWORD},
        {"email": "a@b", "password": PASSWORD, "role": "ADMIN"},
        {"email": ["a@b"], "password": PASSWORD},
    ],
)
async def test_login_with_a_wrong_body_is_422(api: RunningApi, body: dict[str, Any]) -> None:
    answer = await api.client.post(f"{BASE}/login", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["details"]["fields"]


async def test_refresh_gives_a_new_pair_of_the_same_session(api: RunningApi) -> None:
    first = await login(api, await add_user(api))
    api.services.clock.advance(60)
    answer = await refresh(api, first["refreshToken"])
    second = answer.json()["data"]
    assert answer.status_code == 200
    assert set(second) == set(first)
    assert second["refreshToken"] != first["refreshToken"]
    assert await me(api, second["accessToken"]) == 200
    old, new = await token_rows(api)
    assert old["family_id"] == new["family_id"]
    assert old["child_id"] == new["id"]
    assert (new["spent_at"], new["expires_at"]) == (None, old["expires_at"])


async def test_refresh_keeps_the_time_of_the_sign_in(api: RunningApi) -> None:
    services = api.services
    tokens = await login(api, await add_user(api))
    signed_in_at = services.clock.now()
    services.clock.advance(3600)
    renewed = (await refresh(api, tokens["refreshToken"])).json()["data"]
    assert services.tokens.verify(renewed["accessToken"], now=services.clock.now()).signed_in_at == signed_in_at


async def test_refresh_repeated_within_the_grace_gives_the_same_child(api: RunningApi) -> None:
    tokens = await login(api, await add_user(api))
    first = (await refresh(api, tokens["refreshToken"])).json()["data"]["refreshToken"]
    api.services.clock.advance(10)
    again = await refresh(api, tokens["refreshToken"])
    assert again.status_code == 200
    assert again.json()["data"]["refreshToken"] == first
    assert (await refresh(api, first)).status_code == 200


async def test_refresh_reused_by_many_at_once_leaves_nothing_alive(api: RunningApi) -> None:
    tokens = await login(api, await add_user(api))
    child = (await refresh(api, tokens["refreshToken"])).json()["data"]["refreshToken"]
    api.services.clock.advance(11)
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(refresh, api, tokens["refreshToken"])
            nursery.start_soon(refresh, api, child)
    rows = await token_rows(api)
    assert all(row["revoked_at"] is not None for row in rows)
    assert len(rows) <= 3
    assert (await refresh(api, child)).status_code == 401


async def test_refresh_of_another_session_is_not_touched_by_a_reuse(api: RunningApi) -> None:
    user = await add_user(api)
    one, two = await login(api, user), await login(api, user)
    await refresh(api, one["refreshToken"])
    api.services.clock.advance(11)
    assert (await refresh(api, one["refreshToken"])).status_code == 401
    assert (await refresh(api, two["refreshToken"])).status_code == 200


async def test_refresh_of_a_disabled_user_is_refused(api: RunningApi) -> None:
    user = await add_user(api)
    tokens = await login(api, user)
    await run(api, lambda c: c.execute("UPDATE users SET disabled = true WHERE id = $1", user.id))
    assert (await refresh(api, tokens["refreshToken"])).status_code == 401


async def test_refresh_with_another_kind_of_token_is_401(api: RunningApi) -> None:
    tokens = await login(api, await add_user(api))
    for token in (tokens["accessToken"], "x", "a" * 43, "é" * 43, tokens["refreshToken"][:-1]):
        assert (await refresh(api, token)).status_code == 401
    assert await me(api, tokens["refreshToken"]) == 401


@pytest.mark.parametrize("means", ["refresh token", "access token", "both"])
async def test_logout_ends_the_session_at_once(api: RunningApi, means: str) -> None:
    user = await add_user(api)
    tokens, other = await login(api, user), await login(api, user)
    body = None if means == "access token" else {"refreshToken": tokens["refreshToken"]}
    headers = {} if means == "refresh token" else {"Authorization": f"Bearer {tokens['accessToken']}"}
    answer = await api.client.post(f"{BASE}/logout", json=body, headers=headers)
    assert answer.status_code == 200
    assert await me(api, tokens["accessToken"]) == 401
    assert (await refresh(api, tokens["refreshToken"])).status_code == 401
    assert await me(api, other["accessToken"]) == 200
    assert api.services.ledger.actions.count("LOGOUT") == 1


async def test_logout_with_a_spent_token_ends_its_session_too(api: RunningApi) -> None:
    tokens = await login(api, await add_user(api))
    child = (await refresh(api, tokens["refreshToken"])).json()["data"]
    answer = await api.client.post(f"{BASE}/logout", json={"refreshToken": tokens["refreshToken"]})
    assert answer.status_code == 200
    assert (await refresh(api, child["refreshToken"])).status_code == 401
    assert await me(api, child["accessToken"]) == 401


@pytest.mark.parametrize("body", [None, {}, {"refreshToken": "a" * 43}, {"refreshToken": "x"}])
async def test_logout_of_nothing_is_401(api: RunningApi, body: Any) -> None:
    answer = await api.client.post(f"{BASE}/logout", json=body)
    assert answer.status_code == 401


async def test_logout_racing_a_refresh_leaves_no_living_child(api: RunningApi) -> None:
    for _ in range(8):
        tokens = await login(api, await add_user(api))
        answers: list[Any] = []

        async def renew(token: str = tokens["refreshToken"], answers: list[Any] = answers) -> None:
            answers.append(await refresh(api, token))

        async def leave(token: str = tokens["refreshToken"]) -> None:
            await api.client.post(f"{BASE}/logout", json={"refreshToken": token})

        async with trio.open_nursery() as nursery:
            nursery.start_soon(renew)
            nursery.start_soon(leave)
        if answers[0].status_code == 200:
            assert (await refresh(api, answers[0].json()["data"]["refreshToken"])).status_code == 401
    assert all(row["revoked_at"] is not None for row in await token_rows(api))


async def change_password(api: RunningApi, access: str, current: str, new: str) -> Any:
    return await api.client.post(
        f"{BASE}/password",
        json={"currentPassword": current, "newPassword": new},
        headers={"Authorization": f"Bearer {access}"},
    )


async def test_password_change_to_a_poor_one_names_the_field(api: RunningApi) -> None:
    tokens = await login(api, await add_user(api))
    answer = await change_password(api, tokens["accessToken"], PASSWORD, "short")
    assert answer.status_code == 422
    assert list(answer.json()["error"]["details"]["fields"]) == ["newPassword"]
    assert await me(api, tokens["accessToken"]) == 200


async def test_password_changed_between_check_and_session_begins_no_session(api: RunningApi) -> None:
    user = await add_user(api)
    original = api.services.passwords.verify

    async def verify(stored: str | None, password: str, **options: bool) -> bool:
        matches = await original(stored, password, **options)
        now = api.services.clock.now()
        await run(api, lambda c: store.set_password(c, user.id, password_hash=hash_password(OTHER), now=now))
        return matches

    api.services.passwords.verify = verify
    answer = await api.client.post(f"{BASE}/login", json={"email": user.email, "password": PASSWORD})
    assert answer.status_code == 401
    assert await token_rows(api) == []


async def test_register_where_it_is_open_makes_a_trader(schema_url: str) -> None:
    async with opened(schema_url, registration="open") as api:
        body = {"email": "New@Example.com", "password": PASSWORD, "name": "New"}
        answer = await api.client.post(f"{BASE}/register", json=body)
        assert answer.status_code == 201
        made = answer.json()["data"]
        assert (made["email"], made["role"]) == ("new@example.com", "TRADER")
        user = api.services.users.by_email("new@example.com")
        assert await me(api, (await login(api, user))["accessToken"]) == 200
        twice = await api.client.post(f"{BASE}/register", json={**body, "email": "NEW@example.com"})
        assert twice.status_code == 409
        for wrong, field in (
            ({**body, "role": "ADMIN"}, "role"),
            ({**body, "email": "nobody"}, "email"),
            ({**body, "email": "b@example.com", "password": "short"}, "password"),
        ):
            refused = await api.client.post(f"{BASE}/register", json=wrong)
            assert refused.status_code == 422
            assert field in refused.json()["error"]["details"]["fields"]


async def test_reload_takes_over_what_another_process_changed(api: RunningApi) -> None:
    user, leaver = await add_user(api), await add_user(api)
    kept, ended = await login(api, leaver), await login(api, leaver)
    tokens = await login(api, user)
    services = api.services
    now = services.clock.now()
    family = services.tokens.verify(ended["accessToken"], now=now).sid
    await run(api, lambda c: store.set_password(c, user.id, password_hash=HASH, now=now))
    await run(api, lambda c: store.revoke_family(c, family, now=now))
    await reload_auth(services)
    assert await me(api, tokens["accessToken"]) == 401
    assert await me(api, ended["accessToken"]) == 401
    assert await me(api, kept["accessToken"]) == 200


async def test_revoked_since_leaves_out_what_is_older(api: RunningApi) -> None:
    user = await add_user(api)
    await login(api, user)
    now = api.services.clock.now()
    await run(api, lambda c: store.set_password(c, user.id, password_hash=HASH, now=now))
    assert len(await run(api, lambda c: store.revoked_since(c, now - timedelta(seconds=1)))) == 1
    assert await run(api, lambda c: store.revoked_since(c, now)) == []


async def test_insert_user_twice_with_one_email_gives_none(api: RunningApi) -> None:
    user = await add_user(api)

    async def again(connection: Any) -> UserRecord | None:
        return await store.insert_user(
            connection,
            user_id=uuid7(),
            email=user.email.upper(),
            name="",
            role=Role.ADMIN,
            password_hash="",
            now=api.services.clock.now(),
        )

    assert await run(api, again) is None
    assert [found.id for found in await run(api, store.list_users)] == [user.id]
    assert await run(api, lambda c: store.user_by_email(c, user.email.upper())) == user


async def test_store_keeps_one_living_token_in_a_family(api: RunningApi) -> None:
    await login(api, await add_user(api))
    (row,) = await token_rows(api)
    with pytest.raises(asyncpg.UniqueViolationError):
        await run(
            api,
            lambda c: c.execute(
                "INSERT INTO refresh_tokens (id, family_id, user_id, token_hash, issued_at, expires_at) "
                "VALUES ($1, $2, $3, $4, $5, $5)",
                uuid7(),
                row["family_id"],
                row["user_id"],
                b"another",
                row["issued_at"],
            ),
        )


async def test_auth_without_a_store_is_503_and_tokens_go_on_working() -> None:
    services = ApiServices()
    user = services.add_user(Role.TRADER)
    async with running_api(services, Registry.of(auth)) as api:
        answer = await api.client.post(f"{BASE}/login", json={"email": user.email, "password": PASSWORD})
        assert answer.status_code == 503
        assert "db.internal" not in answer.text
        assert (await api.client.get(f"{BASE}/me", headers=services.bearer(user))).status_code == 200
