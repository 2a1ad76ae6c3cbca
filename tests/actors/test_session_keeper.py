"""The morning's rounds: sessions probed, accounts examined, people told, each once on its day."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import msgspec
import pytest
import trio

from engine.actors.account_readiness import ReadinessCheck
from engine.actors.audit_writer import AuditWriter
from engine.actors.registrar import Registrar
from engine.actors.session_keeper import SessionKeeper
from engine.broker.base import BrokerAuthError, BrokerMargins, BrokerProfile, MarginSegment, RefusalCode
from engine.clock import IST
from engine.domain.directory import Account, BrokerLogin, Directory
from engine.domain.enums import AccountStatus
from engine.errors import BrokerUnavailable
from engine.secret import Secret
from engine.security.envelope import KeyRing
from engine.store.directory import Vault
from tests.support.desk import TrioClock
from tests.support.memory_store import MemoryStore
from tests.support.trade import ACCOUNT, OTHER_ACCOUNT, USER

MONDAY = date(2026, 11, 23)
PAGE = "http://engine/console/login"


def at(clock: str, day: date = MONDAY) -> datetime:
    return datetime.combine(day, time.fromisoformat(clock), tzinfo=IST)


class Broker:
    """What the broker says of one account; an exception is raised."""

    def __init__(self, user: str = "AB0001") -> None:
        self.user: str | Exception = user
        self.funds: Exception | None = None
        self.profiles = 0

    async def profile(self) -> BrokerProfile:
        self.profiles += 1
        await trio.sleep(0.01)
        if isinstance(self.user, Exception):
            raise self.user
        return BrokerProfile(user_id=self.user, exchanges=("NSE",), products=("CNC", "MIS"))

    async def margins(self) -> BrokerMargins:
        await trio.sleep(0.01)
        if self.funds is not None:
            raise self.funds
        segment = MarginSegment(available=Decimal(5), used=Decimal(0), net=Decimal(5))
        return BrokerMargins(equity=segment, commodity=segment)


class Morning:
    """A keeper with everything around it in memory; its clock stands at *start*."""

    def __init__(self, start: datetime, *, store: MemoryStore | None = None, trading: bool = True) -> None:
        self.clock = TrioClock(start)
        self.store = store or MemoryStore()
        self.rounds: dict[str, str] = {}
        for write in self.store.writes:
            if write.args and write.args[0] == "broker-rounds":
                self.rounds = write.args[1]
        self.ledger = AuditWriter(self.store, epoch=1)  # type: ignore[arg-type]
        self.directory = Directory()
        self.brokers: dict[UUID, Broker] = {}
        self.alerts: list[tuple[str, str]] = []
        self.refused: list[tuple[UUID, RefusalCode]] = []
        self.suspect: str | None = None
        self.master = SimpleNamespace(loaded_for=start.date(), book=())
        registrar = Registrar(
            directory=self.directory, vault=Vault(KeyRing([b"k" * 32])), ledger=self.ledger, clock=self.clock
        )
        check = ReadinessCheck(
            directory=self.directory,
            sessions=self,  # type: ignore[arg-type]
            registrar=registrar,
            master=self.master,  # type: ignore[arg-type]
            clock=self.clock,
            suspect=lambda: self.suspect,
            session_refused=lambda account_id, _broker, error: self.refused.append((account_id, error.code)),
        )
        self.keeper = SessionKeeper(
            directory=self.directory,
            check=check,
            ledger=self.ledger,
            clock=self.clock,
            load_rounds=self._load,
            alert=lambda subject, text: self.alerts.append((subject, text)),
            suspect=lambda: self.suspect,
            is_trading_day=lambda _day: trading,
            login_page=lambda: PAGE,
            readiness_at=time(8, 45),
            remind_at=time(9, 0),
        )

    async def _load(self) -> dict[str, str]:
        await trio.lowlevel.checkpoint()
        return dict(self.rounds)

    # the sessions

    async def open(self, account_id: UUID) -> Any:
        await trio.lowlevel.checkpoint()
        if self.directory.accounts[account_id].access_token is None:
            raise BrokerAuthError("nobody has logged in", RefusalCode.NO_LOGIN)
        return self.brokers[account_id]

    def current(self, account_id: UUID) -> Any:
        return self.brokers[account_id]

    def lacks_prices(self, _account_id: UUID) -> bool:
        return False

    # the accounts

    def add(self, account_id: UUID = ACCOUNT, *, logged_in: bool = True, **changes: Any) -> Broker:
        account = Account(
            id=account_id,
            user_id=USER,
            label=f"a{account_id.int}",
            broker="kite",
            capital=Decimal(1),
            status=AccountStatus.ACTIVE if logged_in else AccountStatus.LOGIN_REQUIRED,
            api_key=f"key{account_id.int}",
            api_secret=Secret("s"),
            access_token=Secret("t") if logged_in else None,
            login=BrokerLogin(broker_user_id="AB0001", logged_in_at=self.clock.now()) if logged_in else None,
        )
        self.directory.put_account(msgspec.structs.replace(account, **changes))
        self.brokers[account_id] = Broker()
        return self.brokers[account_id]

    async def start(self, nursery: trio.Nursery) -> None:
        await nursery.start(self.ledger.run)
        await nursery.start(self.keeper.run)

    async def wait_until(self, instant: datetime) -> None:
        await trio.sleep((instant - self.clock.now()).total_seconds())

    @property
    def records(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for record in self.store.audit:
            found.setdefault(record.action, []).append(msgspec.json.decode(record.content))
        return found


async def test_sessions_are_looked_at_when_they_may_have_gone_and_the_dead_are_told(autojump_clock, nursery):
    morning = Morning(at("05:50"))
    alive, dead = morning.add(), morning.add(OTHER_ACCOUNT)
    await morning.start(nursery)
    await morning.wait_until(at("05:59:50"))
    assert (alive.profiles, dead.profiles) == (0, 0)
    dead.user = BrokerAuthError("403")
    await morning.wait_until(at("06:00:05"))
    assert (alive.profiles, dead.profiles) == (1, 1)
    assert morning.refused == [(OTHER_ACCOUNT, RefusalCode.TOKEN_DEAD)]
    await morning.wait_until(at("07:30:05"))
    assert alive.profiles == 2
    await morning.wait_until(at("08:44:50"))
    assert (alive.profiles, morning.alerts) == (2, [])


async def test_accounts_that_cannot_trade_are_named_once_and_reminded_of_once(autojump_clock, nursery):
    morning = Morning(at("08:40"))
    morning.add()
    morning.add(OTHER_ACCOUNT, logged_in=False)
    await morning.start(nursery)
    await morning.wait_until(at("08:45:05"))
    assert len(morning.alerts) == 1
    subject, text = morning.alerts[0]
    assert subject == f"account:{OTHER_ACCOUNT}"
    assert "NO_LOGIN" in text
    assert PAGE in text
    await morning.wait_until(at("08:59:55"))
    assert len(morning.alerts) == 1
    await morning.wait_until(at("15:00"))
    assert len(morning.alerts) == 2
    assert "still not logged in" in morning.alerts[1][1]
    results = {content["ready"] for content in morning.records["READINESS_CHECKED"]}
    assert results == {True, False}


async def test_who_logged_in_meanwhile_is_not_reminded(autojump_clock, nursery):
    morning = Morning(at("08:44"))
    morning.add(logged_in=False)
    await morning.start(nursery)
    await morning.wait_until(at("08:50"))
    assert len(morning.alerts) == 1
    morning.add()
    await morning.wait_until(at("09:10"))
    assert len(morning.alerts) == 1


@pytest.mark.parametrize("restart_at", ["08:46", "09:01"])
async def test_restart_repeats_nothing(autojump_clock, restart_at):
    morning = Morning(at("08:44"))
    async with trio.open_nursery() as life:
        morning.add(logged_in=False)
        await morning.start(life)
        await morning.wait_until(at(restart_at))
        life.cancel_scope.cancel()
    again = Morning(at(restart_at), store=morning.store)
    async with trio.open_nursery() as life:
        again.add(logged_in=False)
        await again.start(life)
        await again.wait_until(at("10:00"))
        life.cancel_scope.cancel()
    said = [text for _, text in [*morning.alerts, *again.alerts]]
    assert len(said) == 2
    assert [("not ready" in text, "still" in text) for text in said] == [(True, False), (False, True)]


async def test_next_day_is_a_new_morning(autojump_clock, nursery):
    morning = Morning(at("08:50"))
    morning.add(logged_in=False)
    await morning.start(nursery)
    await morning.wait_until(at("08:55"))
    autojump_clock.jump(timedelta(hours=23, minutes=50).total_seconds())
    await morning.wait_until(at("08:55", MONDAY + timedelta(days=1)))
    assert sum("not ready" in text for _, text in morning.alerts) == 2


async def test_holiday_calls_nobody(autojump_clock, nursery):
    morning = Morning(at("08:40"), trading=False)
    morning.add(logged_in=False)
    await morning.start(nursery)
    await morning.wait_until(at("10:00"))
    assert morning.alerts == []


async def test_clock_that_cannot_be_trusted_starts_no_round(autojump_clock, nursery):
    morning = Morning(at("08:40"))
    morning.suspect = "set by an hour"
    morning.add(logged_in=False)
    await morning.start(nursery)
    await morning.wait_until(at("08:50"))
    assert morning.alerts == []
    morning.suspect = None
    await morning.wait_until(at("08:51"))
    assert len(morning.alerts) == 1


async def test_session_of_somebody_else_is_dropped_at_once(autojump_clock, nursery):
    morning = Morning(at("08:40"))
    morning.add().user = "ZZ9999"
    await morning.start(nursery)
    await morning.wait_until(at("08:46"))
    account = morning.directory.accounts[ACCOUNT]
    assert (account.status, account.access_token) == (AccountStatus.LOGIN_REQUIRED, None)
    assert account.status_reason.startswith("AUTH_BLOCKED: WRONG_USER: ")
    assert (ACCOUNT, RefusalCode.WRONG_USER) in morning.refused
    assert account.login.broker_user_id == "AB0001"


async def test_whose_a_pasted_token_is_is_learned(autojump_clock, nursery):
    morning = Morning(at("07:29"))
    morning.add(login=BrokerLogin(logged_in_at=at("07:29")))
    await morning.start(nursery)
    await morning.wait_until(at("07:31"))
    login = morning.directory.accounts[ACCOUNT].login
    assert (login.broker_user_id, login.exchanges, login.logged_in_at) == ("AB0001", ("NSE",), at("07:29"))


async def test_everything_that_stands_against_trading_is_named(autojump_clock, nursery):
    morning = Morning(at("08:44"))
    broker = morning.add(status=AccountStatus.ORDERS_BLOCKED, status_reason="STATIC_IP: orders come from 203.0.113.9")
    broker.funds = BrokerUnavailable("502")
    morning.master.loaded_for = MONDAY - timedelta(days=1)
    await morning.start(nursery)
    await morning.wait_until(at("08:46"))
    text = morning.alerts[0][1]
    for part in ("funds: cannot be read: 502", "instruments: those of 2026-11-22", "orders: STATIC_IP: orders come"):
        assert part in text


async def test_broker_that_is_away_does_not_end_the_round(autojump_clock, nursery):
    morning = Morning(at("08:44"))
    morning.add().user = BrokerUnavailable("no answer")
    morning.add(OTHER_ACCOUNT)
    await morning.start(nursery)
    await morning.wait_until(at("08:46"))
    assert len(morning.records["READINESS_CHECKED"]) == 2
    assert morning.refused == []
