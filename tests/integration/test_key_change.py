"""A change of keys cut short at every step: everything opens, and the next run brings it to its end (SEC-074)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from engine.assembly import deployment_of
from engine.cli import key_change
from engine.cli.key_change import KeyChange
from engine.config import Config, SecurityConfig
from engine.domain.directory import Directory
from engine.errors import EngineError, StartupError
from engine.runtime.asyncio_bridge import run_aio
from engine.secret import Secret
from engine.security.creds_file import Credentials, CredsFile
from engine.security.keys import Keys, load_or_create
from engine.store import data_keys, directory, key_rotation
from engine.store.database import Database
from engine.store.directory import Vault
from tests.support.ledger_rows import Trader, audit_chain, sql

SECRETS = {"api_secret": "canary-api", "access_token": "canary-token", "secret": "canary-source"}
FILE_STEPS = ("write_root", "put_next_in_place", "make_next")


class Killed(Exception):
    """The process ends here: nothing after it is done, nothing before it is undone."""


class Safe:
    """A database with secrets of older engines (version 1) and its data directory, as a stopped engine leaves them."""

    def __init__(self, url: str, data_dir: Path, security: SecurityConfig) -> None:
        self.url, self.data_dir, self.settings = url, data_dir, Config(security=security)
        self.trader = Trader()
        self.root = self.keys().master

    def keys(self, security: SecurityConfig | None = None) -> Keys:
        given = security or self.settings.security
        return load_or_create(
            master_key=given.master_key,
            jwt_secret=given.jwt_secret,
            data_dir=self.data_dir,
            previous=given.master_key_previous,
        )

    async def fill(self, *, under_data_keys: bool) -> None:
        trader = await self.trader.seed(self.url)
        ring, users = self.keys().ring(), [trader.user_id]
        async with Opened(self.url) as database:
            if under_data_keys:
                settled = await database.run(lambda c: data_keys.settle(c, ring, self.root, users))
                settled.give_to(ring)
        vault, user_id = Vault(ring), trader.user_id
        for table, row_id, columns in (
            ("kite_accounts", trader.account_id, ("api_secret", "access_token")),
            ("signal_sources", trader.source_id, ("secret",)),
        ):
            for column in columns:
                place: dict[str, Any] = {"table": table, "column": column, "row_id": row_id, "version": 1}
                record = vault.seal(Secret(SECRETS[column]), user_id=user_id, **place)
                await sql(self.url, f"UPDATE {table} SET {column} = $2 WHERE id = $1", row_id, record)
        self.creds(self.keys()).write([self._credentials()])

    def creds(self, keys: Keys) -> CredsFile:
        return CredsFile(self.data_dir / "state" / "creds.enc", keys.ring(), deployment=deployment_of(keys))

    def _credentials(self) -> Credentials:
        return Credentials(
            account_id=self.trader.account_id,
            user_id=self.trader.user_id,
            label="one",
            broker="kite",
            root_url="https://api.kite.trade",
            api_key="k",
            access_token="canary-token",
        )

    async def assert_opens(self, keys: Keys) -> None:
        """As an engine that starts with *keys* reads it, and a command that has no store."""
        assert keys.master == self.root, "order tags and kill records would not be ours any more"
        found = Directory()
        async with Opened(self.url) as database:
            await database.run(lambda c: directory.load(c, Vault(keys.ring()), found))
        account, source = found.accounts[self.trader.account_id], found.sources[self.trader.source_id]
        assert (account.api_secret, account.access_token) == (Secret("canary-api"), Secret("canary-token"))
        assert source.secret == Secret("canary-source")
        assert self.creds(keys).read() == [self._credentials()]

    async def rotate(self, kind: type[KeyChange] = KeyChange, **options: Any) -> key_change.Change:
        new_key, settings = options.get("new_key"), options.get("settings", self.settings)
        return await kind(settings, self.data_dir, self.url, new_key=new_key, progress=lambda _d, _t: None).run()


class Opened:
    """A database for the time of a block."""

    def __init__(self, url: str) -> None:
        self._database = Database(url, max_connections=1)

    async def __aenter__(self) -> Database:
        await self._database.open()
        return self._database

    async def __aexit__(self, *_: object) -> None:
        await self._database.close()


@pytest.fixture
async def safe(schema_url: str, tmp_path: Path, aio: Any) -> Safe:
    made = Safe(schema_url, tmp_path / "data", SecurityConfig())
    await made.fill(under_data_keys=False)
    return made


def dying(at: int, *, after: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[type[KeyChange], list[int]]:
    """A rotation that ends before or right after its step number *at*, and the count of the steps it came to."""
    steps = [0]

    def passes() -> bool:
        steps[0] += 1
        return steps[0] == at

    class Dying(KeyChange):
        async def _unit(self, unit: Any) -> Any:
            ends = passes()
            if ends and not after:
                raise Killed
            done = await super()._unit(unit)
            if ends:
                raise Killed
            return done

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **options: Any) -> Any:
            ends = passes()
            if ends and not after:
                raise Killed
            done = original(*args, **options)
            if ends:
                raise Killed
            return done

        return step

    for name in FILE_STEPS:
        monkeypatch.setattr(key_change, name, wrapped(getattr(key_change, name)))
    return Dying, steps


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_sec_074_rotation_killed_at_any_step_leaves_everything_readable(
    safe: Safe, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    at, ended = 0, False
    while not ended:
        at += 1
        with monkeypatch.context() as patch:
            kind, steps = dying(at, after=after, monkeypatch=patch)
            try:
                await safe.rotate(kind)
                ended = True
            except Killed:
                assert steps[0] == at
        await safe.assert_opens(safe.keys())
        if not ended and at % 4 == 0:  # now and then the next run is let through, so that every step is met afresh
            await safe.rotate()
            await safe.assert_opens(safe.keys())
    assert at >= 11


async def test_sec_074_after_a_rotation_the_old_key_opens_nothing_and_the_new_one_everything(safe: Safe) -> None:
    before = safe.keys()
    master = (safe.data_dir / "keys" / "master.key").read_text()
    done = await safe.rotate()
    assert (done.resealed, done.todo) == (3, "")
    assert (safe.data_dir / "keys" / "master.key").read_text() != master
    assert not (safe.data_dir / "keys" / "master.next.key").exists()
    after = safe.keys()
    assert [kek.id.hex() for kek in after.keks] == [done.kek_id]
    await safe.assert_opens(after)
    assert (after.tag, after.journal, after.audit) == (before.tag, before.journal, before.audit)
    # whoever has the old key, the whole store and every file of the data directory but the new key
    (safe.data_dir / "keys" / "master.key").write_text(master)
    with pytest.raises(StartupError, match="does not open"):
        safe.keys()
    with pytest.raises(EngineError):
        await safe.assert_opens(before)
    for (record,) in await sql(safe.url, "SELECT api_secret FROM kite_accounts"):
        assert record[:1] == b"\x02"
    assert [record.action for record in await audit_chain(safe.url)] == ["KEYS_ROTATED"]


async def test_rotation_again_makes_other_keys_and_leaves_no_old_ones(safe: Safe) -> None:
    first, second = await safe.rotate(), await safe.rotate()
    assert first.kek_id != second.kek_id
    assert second.resealed == 3
    async with Opened(safe.url) as database:
        rows = await database.run(key_rotation.keys)
    assert {row.kek_ids[0] for row in rows} == {second.kek_id}
    assert sum(row.records for row in rows) == 3
    assert all(row.is_active for row in rows)


async def test_rotation_of_a_configured_key_keeps_both_until_the_configuration_names_the_new_one(
    schema_url: str, tmp_path: Path, aio: Any
) -> None:
    old, new_file = "o" + uuid4().hex * 2, tmp_path / "new.key"
    safe = Safe(schema_url, tmp_path / "data", SecurityConfig(master_key=Secret(old)))
    await safe.fill(under_data_keys=True)
    with pytest.raises(EngineError, match="--new-key FILE"):
        await safe.rotate()
    for _ in range(2):
        done = await safe.rotate(new_key=new_file)
        assert f'master_key = "file:{new_file}"' in done.todo
        assert new_file.stat().st_mode & 0o777 == 0o600
        await safe.assert_opens(safe.keys())
    new = SecurityConfig(master_key=Secret(new_file.read_text().strip()))
    await safe.assert_opens(safe.keys(new))
    done = await safe.rotate(settings=Config(security=new))
    assert (done.todo, done.resealed) == ("", 0)
    await safe.assert_opens(safe.keys(new))
    with pytest.raises(StartupError, match="does not open"):
        safe.keys()


async def test_rotation_with_the_key_before_in_the_configuration_is_done_in_one_run(
    schema_url: str, tmp_path: Path, aio: Any
) -> None:
    old = Secret("o" + uuid4().hex * 2)
    safe = Safe(schema_url, tmp_path / "data", SecurityConfig(master_key=old))
    await safe.fill(under_data_keys=False)
    both = SecurityConfig(master_key=Secret("n" + uuid4().hex * 2), master_key_previous=old)
    await safe.assert_opens(safe.keys(both))
    done = await safe.rotate(settings=Config(security=both))
    assert "take master_key_previous out" in done.todo
    await safe.assert_opens(safe.keys(SecurityConfig(master_key=both.master_key)))


async def test_secret_in_a_column_that_nobody_told_of_keeps_its_key(safe: Safe) -> None:
    await safe.rotate()
    (record,) = (await sql(safe.url, "SELECT api_secret FROM kite_accounts"))[0]
    await sql(safe.url, "CREATE TABLE seeds (sealed bytea)")
    await sql(safe.url, "INSERT INTO seeds VALUES ($1)", record)
    with pytest.raises(EngineError, match=r"seeds\.sealed holds secrets that this command does not know"):
        await safe.rotate()
    await safe.assert_opens(safe.keys())


async def test_store_keeps_a_data_key_that_a_record_needs(safe: Safe) -> None:
    await safe.rotate()

    async def steal() -> None:
        connection = await asyncpg.connect(safe.url)
        try:
            await connection.execute("DELETE FROM data_keys WHERE purpose = 'data'")
        finally:
            await connection.close()

    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await run_aio(steal, timeout_s=10)


async def test_record_that_does_not_open_is_named_and_stops_the_change(safe: Safe) -> None:
    await sql(safe.url, "UPDATE signal_sources SET secret = $1", b"\x01" + bytes(60))
    with pytest.raises(EngineError, match=rf"signal_sources\.secret of {safe.trader.source_id} does not open"):
        await safe.rotate()


async def test_user_gets_a_key_of_its_own_and_a_key_that_is_used_up_is_replaced(safe: Safe) -> None:
    ring, user_id = safe.keys().ring(), UUID(int=5)
    async with Opened(safe.url) as database:
        for _ in range(2):
            settled = await database.run(lambda c: data_keys.settle(c, ring, safe.root, [user_id]))
            settled.give_to(ring)
        assert ring.users_without_key([user_id]) == []
        held = ring.data_keys
        assert len(held) == 2
        await database.run(lambda c: c.execute("UPDATE data_keys SET uses = (1 << 28) - 10"))
        fresh = safe.keys().ring()
        settled = await database.run(lambda c: data_keys.settle(c, fresh, safe.root, [user_id]))
        settled.give_to(fresh)
    assert held < fresh.data_keys
    assert len(fresh.data_keys) == 4
    assert not fresh.is_low_on_uses(1)
