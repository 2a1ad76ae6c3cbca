"""Accounts, strategies, sources and limits: written by the registrar, loaded at the next start."""

from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import msgspec
import pytest
import trio
import trio.testing

from engine.actors.audit_writer import AuditWriter
from engine.actors.ledger_entry import LedgerEntry
from engine.actors.registrar import Registrar
from engine.clock import SystemClock
from engine.domain.directory import Account, Directory, Limits, OldKeys, Source, Strategy, Target
from engine.domain.enums import AccountStatus, Exchange, GroupPolicy, ProductType, SizingMode, SourceType
from engine.domain.limits import RiskLimits, TradingWindow
from engine.domain.source_checks import SourceChecks
from engine.domain.source_watch import Heard
from engine.secret import Secret
from engine.security.envelope import KeyRing, SecretUnreadable
from engine.store import directory as directory_store
from engine.store import lease
from engine.store.database import APP_ROLE, Database
from engine.store.directory import Vault
from engine.store.ledger import LedgerRefused, LedgerStore
from engine.store.source_watch import all_heard, write_heard
from tests.support.ledger_rows import Trader, audit_chain, sql

RING = KeyRing([b"m" * 32])
LIMITS = RiskLimits(
    max_daily_loss_pct=Decimal("2.5"),
    max_order_value=Decimal("100000.0001"),
    max_order_quantity=2**40,
    circuit_breaker_failures=3,
    allowed_exchanges=(Exchange.NSE, Exchange.NFO),
    allowed_products=(ProductType.MIS,),
    trading_window=TradingWindow(start="09:15", end="15:20"),
)


class Office:
    """A registrar on a database with one user."""

    def __init__(self, url, database, trader):
        self.url, self.database, self.trader = url, database, trader
        self.directory, self.changed = Directory(), []
        self.ledger = AuditWriter(LedgerStore(url, role=APP_ROLE), epoch=1)
        self.registrar = Registrar(
            directory=self.directory,
            vault=Vault(RING),
            ledger=self.ledger,
            clock=SystemClock(),
            on_account=self.changed.append,
        )

    async def loaded(self, ring=RING):
        """What the next start finds."""
        found = Directory()
        await self.database.run(lambda c: directory_store.load(c, Vault(ring), found))
        return found

    def account(self, **changes):
        return Account(
            **{
                "id": uuid4(),
                "user_id": self.trader.user_id,
                "label": uuid4().hex,
                "broker": "kite",
                "capital": Decimal("1000000.0500"),
                "status": AccountStatus.ACTIVE,
                "api_key": uuid4().hex,
                "api_secret": Secret("s3cret-ß"),
                "access_token": Secret("token"),
            }
            | changes
        )

    def strategy(self, **changes):
        base = {"id": uuid4(), "user_id": self.trader.user_id, "name": uuid4().hex}
        return Strategy(**(base | changes))

    def source(self, **changes):
        return Source(
            **{
                "id": uuid4(),
                "user_id": self.trader.user_id,
                "strategy_id": self.trader.strategy_id,
                "type": SourceType.SHEETS,
                "name": "n",
                "api_key_hash": uuid4().bytes * 2,
                "secret": Secret("signing"),
            }
            | changes
        )


@pytest.fixture
async def office(schema_url, aio):
    database = Database(schema_url)
    await database.open()
    await database.run(lambda c: lease.take(c, holder="t", seen=None))
    made = Office(schema_url, database, await Trader().seed(schema_url))
    async with trio.open_nursery() as nursery:
        await nursery.start(made.ledger.run)
        yield made
        nursery.cancel_scope.cancel()
    await database.close()


@pytest.mark.parametrize("changes", [{}, {"api_secret": None, "access_token": None, "broker": "paper"}])
async def test_account_comes_back_as_it_was_put(office, changes):
    account = await office.registrar.put_account(office.account(**changes), by="user:1", action="ACCOUNT_CREATED")
    again = await office.registrar.put_account(
        msgspec.structs.replace(account, label="new", capital=Decimal(5)), by="user:1", action="ACCOUNT_CHANGED"
    )
    assert (account.row_version, again.row_version) == (1, 2)
    assert office.directory.accounts[account.id] == again
    assert (await office.loaded()).accounts[account.id] == again
    assert office.changed == [account, again]


async def test_secret_is_sealed_to_its_row_and_version(office):
    one = await office.registrar.put_account(office.account(), by="u", action="A")
    other = await office.registrar.put_account(office.account(), by="u", action="A")
    (stored,) = await sql(office.url, "SELECT api_secret, access_token FROM kite_accounts WHERE id = $1", one.id)
    assert b"s3cret" not in stored[0] + stored[1]
    with pytest.raises(SecretUnreadable):
        await office.loaded(KeyRing([b"x" * 32]))
    await sql(office.url, "UPDATE kite_accounts SET api_secret = $1 WHERE id = $2", stored[0], other.id)
    with pytest.raises(SecretUnreadable):
        await office.loaded()


async def test_strategy_comes_back_with_its_accounts(office):
    accounts = [await office.registrar.put_account(office.account(), by="u", action="A") for _ in range(5)]
    targets = tuple(
        Target(account_id=account.id, mode=mode, value=Decimal("1.2500"), max_quantity=75, max_value=Decimal("0.5"))
        for account, mode in zip(sorted(accounts, key=lambda a: a.id), SizingMode, strict=False)
    )
    strategy = office.strategy(
        approval="manual",
        approval_ttl_s=90,
        approval_price_move_pct=Decimal("0.25"),
        group_policy=GroupPolicy.UNWIND,
        group_deadline_s=7,
        entry_window=TradingWindow(start="09:20", end="15:00"),
        square_off_at="15:10",
        allowed_symbols=frozenset({"INFY", "SBIN"}),
        defaults={"exchange": "NSE"},
        targets=targets,
    )
    await office.registrar.put_strategy(strategy, by="u", action="S")
    assert (await office.loaded()).strategies[strategy.id] == strategy
    fewer = msgspec.structs.replace(strategy, targets=targets[:1], enabled=False, allowed_symbols=None)
    await office.registrar.put_strategy(fewer, by="u", action="S")
    assert (await office.loaded()).strategies[strategy.id] == fewer
    assert office.directory.strategies[strategy.id] == fewer


async def test_source_comes_back_and_is_found_by_key_and_chat(office):
    source = office.source(
        type=SourceType.TELEGRAM,
        ip_allowlist=("10.0.0.0/8",),
        telegram_chat_ids=frozenset({-(10**13), 5}),
        require_timestamp=False,
    )
    put = await office.registrar.put_source(source, by="u", action="S")
    found = await office.loaded()
    assert found.sources[source.id] == put
    assert found.source_by_key_hash(source.api_key_hash) == put
    assert found.source_by_chat(-(10**13)) == put
    rotated = await office.registrar.put_source(
        msgspec.structs.replace(put, api_key_hash=b"n" * 32, secret=Secret("new")), by="u", action="S"
    )
    found = await office.loaded()
    assert found.source_by_key_hash(source.api_key_hash) is None
    assert found.sources[source.id] == rotated
    assert rotated.secret == Secret("new")


async def test_old_keys_of_a_source_come_back_sealed_and_go_without_touching_a_newer_rotation(office):
    def old(until_s):
        until = SystemClock().now() + timedelta(seconds=until_s)
        return OldKeys(api_key_hash=uuid4().bytes * 2, secret=Secret("0ld-s3cret"), until=until)

    checks = SourceChecks(price_band_pct=Decimal("5.0500"), max_signals_per_minute=30)
    source = office.source(old=old(60), checks=checks, expect_every_s=600, strict_replay=True)
    put = await office.registrar.put_source(source, by="u", action="S")
    found = await office.loaded()
    assert found.sources[source.id] == put
    assert found.source_by_key_hash(source.old.api_key_hash) == put
    (stored,) = await sql(office.url, "SELECT old_secret FROM signal_sources WHERE id = $1", source.id)
    assert b"0ld" not in stored[0]
    newer = await office.registrar.put_source(msgspec.structs.replace(put, old=old(90)), by="u", action="S")
    await office.registrar.end_old_keys(put)
    assert (await office.loaded()).sources[source.id] == office.directory.sources[source.id] == newer
    await office.registrar.end_old_keys(newer)
    ended = msgspec.structs.replace(newer, old=None)
    assert (await office.loaded()).sources[source.id] == office.directory.sources[source.id] == ended
    assert office.directory.source_by_key_hash(newer.old.api_key_hash) is None


async def test_what_was_heard_of_a_source_comes_back_at_the_next_start(office):
    source = await office.registrar.put_source(office.source(), by="u", action="S")
    now = SystemClock().now()
    for heard in (
        Heard(),
        Heard(heard_at=now, last_signal_at=now, last_sequence=2**53 - 1, missing=((1, 2), (9, 9)), silent_since=now),
    ):
        await office.ledger.write(LedgerEntry(writes=(write_heard({source.id: heard}, at=now),)))
        assert await office.database.run(all_heard) == {source.id: heard}


@pytest.mark.parametrize("limits", [LIMITS, RiskLimits()])
async def test_limits_come_back_exactly(office, limits):
    account = await office.registrar.put_account(office.account(), by="u", action="A")
    strategy = await office.registrar.put_strategy(office.strategy(), by="u", action="S")
    for account_id in (None, account.id):
        strategy_id = None if account_id is None else strategy.id
        entry = Limits(
            id=uuid4(),
            user_id=office.trader.user_id,
            account_id=account_id,
            strategy_id=strategy_id,
            limits=limits,
        )
        await office.registrar.put_limits(entry, by="u", action="L")
        changed = msgspec.structs.replace(entry, limits=msgspec.structs.replace(limits, max_open_positions=4))
        await office.registrar.put_limits(changed, by="u", action="L")
        assert (await office.loaded()).limits[office.trader.user_id, account_id, strategy_id] == changed
    assert [r.action for r in await audit_chain(office.url)] == ["A", "S", *["L"] * 4]


async def test_deleted_things_are_gone_and_their_names_free(office):
    account = await office.registrar.put_account(office.account(label="main"), by="u", action="A")
    strategy = office.strategy(name="s1")
    await office.registrar.put_strategy(strategy, by="u", action="S")
    source = await office.registrar.put_source(office.source(), by="u", action="S")
    await office.registrar.remove_source(source.id, by="u")
    await office.registrar.remove_strategy(strategy.id, by="u")
    await office.registrar.remove_account(account.id, by="u")
    for directory in (office.directory, await office.loaded()):
        assert account.id not in directory.accounts
        assert strategy.id not in directory.strategies
        assert source.id not in directory.sources
        assert directory.source_by_key_hash(source.api_key_hash) is None
    await office.registrar.put_account(office.account(label="main"), by="u", action="A")
    await office.registrar.put_strategy(office.strategy(name="s1"), by="u", action="S")


def test_only_tables_with_a_deletion_mark_can_be_deleted_from():
    with pytest.raises(ValueError, match="audit_logs"):
        directory_store.delete("audit_logs", uuid4(), at=SystemClock().now())


async def test_refused_change_leaves_memory_as_it_was(office):
    account = await office.registrar.put_account(office.account(label="main"), by="u", action="A")
    twin = office.account(label="main")
    with pytest.raises(LedgerRefused, match="kite_accounts_label"):
        await office.registrar.put_account(twin, by="u", action="A")
    assert office.directory.accounts == {account.id: account}
    assert len(await audit_chain(office.url)) == 1


async def test_change_whose_caller_went_away_is_in_memory_as_on_disk(office):
    account = office.account()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: office.registrar.put_account(account, by="u", action="A"))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert await office.ledger.barrier()
    assert (await office.loaded()).accounts[account.id] == office.directory.accounts[account.id]


async def test_state_of_an_account_holds_at_once_and_is_recorded(office):
    account = await office.registrar.put_account(office.account(), by="u", action="A")
    office.registrar.account_status_nowait(account.id, AccountStatus.LOGIN_REQUIRED, "TOKEN: dead")
    assert office.directory.accounts[account.id].status is AccountStatus.LOGIN_REQUIRED
    office.registrar.account_status_nowait(account.id, AccountStatus.LOGIN_REQUIRED, "again")
    office.registrar.account_status_nowait(uuid4(), AccountStatus.LOGIN_REQUIRED, "unknown")
    assert await office.ledger.barrier()
    found = (await office.loaded()).accounts[account.id]
    assert (found.status, found.status_reason) == (AccountStatus.LOGIN_REQUIRED, "TOKEN: dead")
    assert found == office.directory.accounts[account.id]
    assert [r.action for r in await audit_chain(office.url)] == ["A", "ACCOUNT_LOGIN_REQUIRED"]


async def test_state_change_does_not_take_back_a_login_that_is_on_its_way(office):
    account = await office.registrar.put_account(office.account(access_token=Secret("old")), by="u", action="A")
    async with trio.open_nursery() as nursery:
        fresh = msgspec.structs.replace(account, access_token=Secret("new"))
        nursery.start_soon(lambda: office.registrar.put_account(fresh, by="u", action="LOGIN"))
        await trio.lowlevel.checkpoint()  # one step: it is on its way, and not in the store yet
        # the old token's last refusal comes in meanwhile
        office.registrar.account_status_nowait(account.id, AccountStatus.LOGIN_REQUIRED, "TOKEN: dead")
    assert await office.ledger.barrier()
    found = (await office.loaded()).accounts[account.id]
    assert (found.access_token, found.status) == (Secret("new"), AccountStatus.ACTIVE)
    assert found == office.directory.accounts[account.id]
