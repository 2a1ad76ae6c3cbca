"""Completing logins against the real exchange: whose they are, who waits, and what an old morning is worth."""

from datetime import timedelta
from decimal import Decimal

import httpx
import msgspec
import pytest
import trio

from engine.actors.audit_writer import AuditWriter
from engine.actors.broker_logins import BrokerLogins
from engine.actors.registrar import Registrar
from engine.actors.sessions import Sessions
from engine.broker.base import BrokerAuthError, RefusalCode
from engine.clock import SystemClock
from engine.domain.directory import Account, BrokerLogin, Directory
from engine.domain.enums import AccountStatus
from engine.errors import ConflictError, ForbiddenError, UnavailableError, ValidationError
from engine.secret import Secret
from engine.security.envelope import KeyRing
from engine.store.directory import Vault
from tests.support.exchange import API_KEY, API_SECRET, USER_ID, running_exchange
from tests.support.memory_store import MemoryStore
from tests.support.trade import ACCOUNT, USER


class Office:
    """A directory with one kite account of the exchange, and the actor that logs it in."""

    def __init__(self, base_url):
        self.base_url = base_url
        self.clock = SystemClock()
        self.directory = Directory()
        self.store = MemoryStore()
        self.ledger = AuditWriter(self.store, epoch=1)
        self.registrar = Registrar(
            directory=self.directory, vault=Vault(KeyRing([b"k" * 32])), ledger=self.ledger, clock=self.clock
        )
        self.logins = BrokerLogins(
            directory=self.directory, registrar=self.registrar, clock=self.clock, root_url=base_url, timeout_s=5
        )
        self.sessions = Sessions(
            directory=self.directory, clock=self.clock, kite_url=base_url, timeout_s=5, paper_url=lambda: None
        )
        self.put()

    def put(self, **changes):
        account = Account(
            id=ACCOUNT,
            user_id=USER,
            label="main",
            broker="kite",
            capital=Decimal(1),
            status=AccountStatus.LOGIN_REQUIRED,
            api_key=API_KEY,
            api_secret=Secret(API_SECRET),
        )
        self.directory.put_account(msgspec.structs.replace(account, **changes))

    async def request_token(self):
        async with httpx.AsyncClient(base_url=self.base_url) as client:
            redirect = await client.get("/connect/login", params={"v": "3", "api_key": API_KEY})
            return Secret(httpx.URL(redirect.headers["location"]).params["request_token"])

    async def complete(self):
        return await self.logins.complete(ACCOUNT, await self.request_token(), by="user:1", via="test")

    @property
    def account(self):
        return self.directory.accounts[ACCOUNT]


@pytest.fixture
async def office(tmp_path, nursery):
    async with running_exchange(tmp_path, login=False) as exchange:
        office = Office(exchange.base_url)
        await nursery.start(office.ledger.run)
        await nursery.start(office.logins.run)
        yield office
        await office.sessions.aclose()


async def test_first_login_says_whose_the_account_is_and_later_ones_must_agree(office):
    account = await office.complete()
    assert (account.status, account.login.broker_user_id) == (AccountStatus.ACTIVE, USER_ID)
    assert abs(account.login.logged_in_at - office.clock.now()) < timedelta(minutes=5)
    profile = await (await office.sessions.open(ACCOUNT)).profile()
    assert profile.user_id == USER_ID
    again = await office.complete()
    assert again.access_token != account.access_token


async def test_session_of_another_user_is_refused_and_ended(office):
    held = Secret("the-session-before")
    office.put(
        access_token=held,
        status=AccountStatus.ACTIVE,
        login=BrokerLogin(broker_user_id="ZZ9999", logged_in_at=office.clock.now()),
    )
    with pytest.raises(ForbiddenError) as caught:
        await office.complete()
    assert caught.value.code == "WRONG_BROKER_USER"
    assert "ZZ9999" in caught.value.message
    assert (office.account.access_token, office.account.status) == (held, AccountStatus.ACTIVE)
    async with httpx.AsyncClient(base_url=office.base_url) as client:
        stats = await client.get("/_control/stats")
    assert stats.json()["data"]["sessions"] == 0


async def test_token_that_the_broker_refuses_changes_nothing(office):
    with pytest.raises(ValidationError) as caught:
        await office.logins.complete(ACCOUNT, Secret("canary"), by="user:1", via="test")
    assert "canary" not in str(caught.value)
    assert office.account.status is AccountStatus.LOGIN_REQUIRED


async def test_asker_that_goes_away_does_not_lose_the_login(office):
    token = await office.request_token()
    with trio.move_on_after(0) as scope:
        await office.logins.complete(ACCOUNT, token, by="user:1", via="test")
    assert scope.cancelled_caught
    with trio.fail_after(10):
        while office.account.status is not AccountStatus.ACTIVE:
            await trio.sleep(0.01)


async def test_keys_that_change_under_a_login_refuse_it(office):
    token = await office.request_token()
    real = office.logins._find
    seen = []

    def find(account_id):
        seen.append(account_id)
        if len(seen) == 2:
            office.put(api_key="another")
        return real(account_id)

    office.logins._find = find
    with pytest.raises(ConflictError) as caught:
        await office.logins.complete(ACCOUNT, token, by="user:1", via="test")
    assert caught.value.code == "KEYS_CHANGED"
    assert office.account.access_token is None


async def test_logins_are_not_taken_before_the_actor_runs(tmp_path):
    office = Office("http://127.0.0.1:9")
    with pytest.raises(UnavailableError):
        await office.logins.complete(ACCOUNT, Secret("t"), by="user:1", via="test")


async def test_login_of_an_earlier_morning_is_not_used_though_it_still_answers(office):
    account = await office.complete()
    old = msgspec.structs.replace(account.login, logged_in_at=office.clock.now() - timedelta(days=1))
    await office.sessions.open(ACCOUNT)
    office.put(access_token=account.access_token, status=AccountStatus.ACTIVE, login=old)
    with pytest.raises(BrokerAuthError) as caught:
        await office.sessions.open(ACCOUNT)
    assert caught.value.code is RefusalCode.LOGIN_EXPIRED
    assert await office.sessions.any() is None
