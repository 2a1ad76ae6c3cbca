"""Floods of logins: they must not end somebody's link, nor make the engine a nuisance to the broker (SEC-096, 099)."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import trio

from engine.actors.audit_writer import AuditWriter
from engine.actors.broker_logins import BrokerLogins
from engine.actors.registrar import Registrar
from engine.clock import SystemClock
from engine.domain.directory import Account, Directory
from engine.domain.enums import AccountStatus
from engine.errors import RateLimitError
from engine.secret import Secret
from engine.security.envelope import KeyRing
from engine.security.login_states import LoginStates
from engine.store.directory import Vault
from tests.support.kite_stub import hang, running_stub
from tests.support.memory_store import MemoryStore
from tests.support.trade import ACCOUNT, USER

NOW = datetime(2026, 11, 2, 4, 0, tzinfo=UTC)


def test_chat_that_asks_for_links_without_end_does_not_end_those_of_the_console() -> None:
    states = LoginStates()
    owners, _ = states.issue(account_id=ACCOUNT, user_id=USER, via="api", now=NOW)
    for _ in range(200):
        states.issue(account_id=ACCOUNT, user_id=USER, via="telegram", now=NOW)
    assert len(states) <= 21
    assert states.take(owners, now=NOW) is not None


def test_administrators_links_do_not_end_the_owners() -> None:
    states = LoginStates()
    owners, _ = states.issue(account_id=ACCOUNT, user_id=USER, via="api", now=NOW)
    for _ in range(200):
        states.issue(account_id=ACCOUNT, user_id=UUID(int=77), via="api", now=NOW)
    assert states.take(owners, now=NOW) is not None


async def test_logins_of_one_account_do_not_queue_up_at_the_broker(nursery: trio.Nursery) -> None:
    directory, clock = Directory(), SystemClock()
    registrar = Registrar(
        directory=directory,
        vault=Vault(KeyRing([b"k" * 32])),
        ledger=AuditWriter(MemoryStore(), epoch=1),
        clock=clock,
    )
    account = Account(
        id=ACCOUNT,
        user_id=USER,
        label="main",
        broker="kite",
        capital=Decimal(1),
        status=AccountStatus.LOGIN_REQUIRED,
        api_key="key",
        api_secret=Secret("secret"),
    )
    directory.put_account(account)
    refused: list[RateLimitError] = []
    async with running_stub() as broker:
        logins = BrokerLogins(
            directory=directory, registrar=registrar, clock=clock, root_url=broker.base_url, timeout_s=5
        )
        await nursery.start(logins.run)
        broker.next(*[hang] * 100)

        async def log_in() -> None:
            try:
                await logins.complete(ACCOUNT, Secret("spent"), by="user:1", via="api")
            except RateLimitError as error:
                refused.append(error)

        async with trio.open_nursery() as callers:
            for _ in range(50):
                callers.start_soon(log_in)
            with trio.fail_after(10):
                while len(refused) < 45:
                    await trio.sleep(0.001)
                await broker.arrived.wait()
            assert len(broker.requests) == 1
            callers.cancel_scope.cancel()
        nursery.cancel_scope.cancel()
