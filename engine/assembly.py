"""The trading side, built and wired: who is told what by whom, and with which settings."""

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog

from engine import __version__
from engine.actors.account_readiness import ReadinessCheck
from engine.actors.alert_desk import AlertDesk
from engine.actors.audit_writer import AuditWriter
from engine.actors.broker_logins import BrokerLogins
from engine.actors.capital_keeper import CapitalKeeper
from engine.actors.clock_watch import ClockKeeper
from engine.actors.creds_keeper import CredsKeeper
from engine.actors.crew import Crew
from engine.actors.dead_letters import DeadLetters
from engine.actors.decision import Rules
from engine.actors.drill_keeper import DrillKeeper
from engine.actors.drill_process import run_drill
from engine.actors.event_hub import EventHub
from engine.actors.executor import Executor, ExecutorContext
from engine.actors.feeds import Feeds
from engine.actors.flatten_file import FlattenFile
from engine.actors.freeze_keeper import FreezeKeeper
from engine.actors.ingest import EarlierDeliveries, Ingest
from engine.actors.instrument_master import InstrumentMaster
from engine.actors.intake import Passage
from engine.actors.kill_gate import KillFileLook
from engine.actors.kill_lanes import Write
from engine.actors.kill_sequence import KillSequence
from engine.actors.kill_triggers import TriggerKeeper
from engine.actors.killswitch_file import KillFile
from engine.actors.killswitch_guardian import KillSwitchGuardian
from engine.actors.lease_keeper import LeaseKeeper
from engine.actors.ledger_entry import LedgerEntry
from engine.actors.ledger_reader import LedgerReader
from engine.actors.live_figures import LiveFigures
from engine.actors.market_data import MarketData
from engine.actors.morning_report import MorningReport
from engine.actors.prices import Prices
from engine.actors.rearming import Rearming
from engine.actors.registrar import Registrar
from engine.actors.risk import RiskActor, RiskContext
from engine.actors.session_keeper import SessionKeeper
from engine.actors.sessions import Sessions
from engine.actors.source_watch import SourceWatch
from engine.actors.square_off_clock import SquareOffClock
from engine.actors.standing_watch import StandingWatch
from engine.actors.trace_exporter import TraceExporter
from engine.actors.warm_up import WarmUp
from engine.broker.base import Broker, BrokerAuthError
from engine.broker.standing import login_reason
from engine.clock import Clock, trading_day
from engine.config import Config
from engine.domain.audit import AuditDraft
from engine.domain.broker_session import may_vanish
from engine.domain.calendar import is_open, is_trading_day, opened_at
from engine.domain.directory import Account, Directory
from engine.domain.enums import AccountStatus, Exchange
from engine.domain.intent import Intent
from engine.domain.killswitch import KillSwitches
from engine.domain.order import Order
from engine.domain.signal import Signal
from engine.domain.spans import SpanMaker
from engine.domain.symbols import resolve
from engine.domain.tag import is_ours, make_tag
from engine.errors import BrokerUnavailable, MailboxFull
from engine.infrastructure import Infrastructure
from engine.journal.writer import JournalWriter
from engine.market_calendar import build_calendar
from engine.observability.logs import lines_lost
from engine.observability.measures import METRICS
from engine.observability.stages import StageClock
from engine.runtime.child import ChildSpec
from engine.security.creds_file import CredsFile
from engine.security.keys import Keys, derive
from engine.security.kill_seal import KillSeal
from engine.store.directory import Vault
from engine.store.ledger import LedgerRefused

_log = structlog.get_logger(__name__)

_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ONE = Decimal(1)
# asked for several times an order
_text_of = lru_cache(maxsize=16_384)(str)


class Trading:
    """Every actor between a signal and the broker."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock,
        keys: Keys,
        vault: Vault,
        directory: Directory,
        kill: KillSwitches,
        kill_file: KillFile,
        flatten_file: FlattenFile | None = None,
        ledger: AuditWriter,
        journal: JournalWriter,
        lease: LeaseKeeper,
        reader: LedgerReader,
        infrastructure: Infrastructure,
        kill_journal: Write | None = None,
        creds_path: Path | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._keys = keys
        self._directory = directory
        self._kill = kill
        self._flatten_file = flatten_file
        self._ledger = ledger
        self._journal = journal
        self._lease = lease
        self._reader = reader
        self._infrastructure = infrastructure
        self._deployment = deployment_of(keys)
        self.calendar = build_calendar(config.market, today=trading_day(clock.now()))
        # accounts whose orders the broker refused, and why, until a person or a login has seen to it
        self._blocked: dict[UUID, str | None] = {}
        self.stages = StageClock(clock.boottime_ns, METRICS)
        """When signals pass which stage; its registry holds the histograms."""
        self.hub = EventHub(lease.epoch, owner_of=self._owner_of, order_of=self._live_order)
        self.hub.know_kill(kill.records)
        ledger.on_committed = self._committed
        ledger.on_refused = self._refused
        # what they call is built below
        self.clock_watch = ClockKeeper(
            clock, alert=lambda subject, text: self.alert(subject, text), trusted=lambda: self.crew.wake()
        )
        self.sessions = Sessions(
            directory=directory,
            clock=clock,
            kite_url=config.broker.kite.root_url,
            timeout_s=config.broker.kite.timeout_s,
            paper_url=lambda: infrastructure.exchange_url,
            heard=self.clock_watch.heard,
            local_address=config.broker.kite.leaves_by,
            ws_url=config.broker.kite.ws_url,
        )
        self.registrar = Registrar(
            directory=directory, vault=vault, ledger=ledger, clock=clock, on_account=self._account_changed
        )
        self.master = InstrumentMaster(
            any_broker=self.sessions.any, clock=clock, alert=lambda subject, text: self.alert(subject, text)
        )
        self.freeze = FreezeKeeper(master=self.master, ledger=ledger, clock=clock)
        self.prices = Prices(
            any_broker=self.sessions.any,
            changed=lambda key, price: market.changed(key, price),
            refused=self._prices_denied,
            clock=clock,
            bounds_of=lambda broker, keys: broker.price_bounds(keys),
        )
        self.crew = Crew(make_risk=self._make_risk, make_executor=self._make_executor, trip=self._trip)
        market = MarketData(
            self.prices, book=lambda: self.master.book, listener=lambda user_id: self.crew.risk_actors.get(user_id)
        )
        self.feeds = Feeds(
            crew=self.crew,
            directory=directory,
            clock=clock,
            market=market,
            broker=config.broker.mode,
            ticket=self.sessions.ticket,
            alert=lambda subject, text: self.alert(subject, text),
            rng=random.Random(),  # noqa: S311 -- spreads reconnects, guards nothing
        )
        self.guardian = KillSwitchGuardian(
            switches=kill,
            file=kill_file,
            ledger=ledger,
            clock=clock,
            on_change=self._kill_changed,
            seal=KillSeal(keys.master),
            journal=kill_journal,
        )
        self.kill_look = KillFileLook(kill_file, self.guardian.adopt)
        self.kill_sequence = KillSequence(
            guardian=self.guardian,
            crew=self.crew,
            directory=directory,
            ledger=ledger,
            clock=clock,
            key=derive(keys.master, "kill certificate"),
            delivery=config.market.square_off_delivery,
            load=lambda: reader.newest_certificates(),
            alert=lambda subject, text: self.alert(subject, text),
        )
        self.ingest = Ingest(
            directory=directory,
            kill=kill,
            journal=journal,
            journal_key=keys.journal,
            clock=clock,
            dedup_window_s=config.signals.dedup_window_s,
            decide=self._decide,
            waiting_orders=lambda: self.crew.waiting_orders,
            earlier=EarlierDeliveries(),
            holds_lease=lease.confirm,
            suspect=self.clock_watch.suspect,
            stages=self.stages,
        )
        ledger.journal = self.ingest.progress
        journal.on_wiped = self._journal_wiped
        self.dead_letters = DeadLetters(
            ledger=ledger,
            clock=clock,
            journal_key=keys.journal,
            alert=self.alert,
            take_in=self.ingest.accept,
            find=reader.dead_letter,
        )
        self.alerts = AlertDesk(
            config.alerts.rules,
            clock=clock,
            describe=self.hub.describe,
            retention=timedelta(days=config.alerts.retention_days),
        )
        """The list of alerts, which tells people."""
        self.traces = self._for_traces()
        self.on_kill: Callable[[], None] = lambda: None
        """Told when a kill switch changed; must not wait and must not raise."""
        self.ask_person: Callable[[Intent], None] = lambda _intent: None
        """Asks a person about an intent that waits for approval; known once the edge is built."""
        self.login_page = ""
        """Where a person logs accounts in; known once the API listens."""
        self.logins = BrokerLogins(
            directory=directory,
            registrar=self.registrar,
            clock=clock,
            root_url=config.broker.kite.root_url,
            timeout_s=config.broker.kite.timeout_s,
        )
        self.rearming = Rearming(
            crew=self.crew,
            directory=directory,
            clock=clock,
            calendar=self.calendar,
            enforce_hours=config.enforce_hours,
            two_admins=config.security.two_admins,
            parked=reader.waiting_parked,
            stores_away=self._stores_away,
            suspect=self.clock_watch.suspect,
        )
        self.triggers = TriggerKeeper(
            config.killswitch.triggers(config.broker.mode),
            guardian=self.guardian,
            clock=clock,
            executors=lambda: list(self.crew.executors.values()),
            is_open=self._can_trade,
            suspect=self.clock_watch.suspect,
            leads=lease.holds,
            parked=reader.waiting_parked,
            audit_after=reader.audit_after,
            alert=lambda subject, text: self.alert(subject, text),
        )
        self.creds = None
        if creds_path is not None:
            self.creds = CredsKeeper(
                CredsFile(creds_path, keys.ring(), deployment=self._deployment),
                directory=directory,
                root_of=self._root_of,
                alert=lambda subject, text: self.alert(subject, text),
            )
        self.readiness = ReadinessCheck(
            directory=directory,
            sessions=self.sessions,
            registrar=self.registrar,
            master=self.master,
            clock=clock,
            suspect=self.clock_watch.suspect,
            session_refused=self.session_refused,
        )
        self.session_keeper = self._for_sessions()
        self.capital_keeper = CapitalKeeper(
            directory=directory,
            sessions=self.sessions,
            registrar=self.registrar,
            session_refused=self.session_refused,
        )
        self.square_off_clock = SquareOffClock(
            config.auto_square_off_times,
            delivery=config.market.square_off_delivery,
            crew=self.crew,
            directory=directory,
            calendar=self.calendar,
            ledger=ledger,
            clock=clock,
            load=lambda: reader.squared_off(),
            alert=lambda subject, text: self.alert(subject, text),
            suspect=self.clock_watch.suspect,
        )
        self.source_watch = SourceWatch(
            directory=directory,
            ledger=ledger,
            clock=clock,
            load=lambda: reader.heard(),
            opened_at=self._market_opened_at,
            end_old_keys=self.registrar.end_old_keys,
            alert=lambda subject, text: self.alert(subject, text),
            suspect=self.clock_watch.suspect,
        )
        self.rows_taken = reader.rows_taken
        """Which deliveries of a source the ledger holds."""
        self.drills = DrillKeeper(
            config.drill.times,
            rehearse=run_drill,
            ledger=ledger,
            clock=clock,
            calendar=self.calendar,
            load=lambda: reader.drills(),
            alert=lambda subject, text: self.alert(subject, text),
            suspect=self.clock_watch.suspect,
        )
        self.standing_watch = StandingWatch(
            stores_away=self._stores_away,
            lanes=lambda: self.guardian.lanes,
            executors=lambda: list(self.crew.executors.values()),
            alert=lambda subject, text: self.alert(subject, text),
            log_lines_lost=lines_lost,
        )
        self.live_figures = LiveFigures(
            self.hub,
            crew=self.crew,
            price=self.prices.get,
            owner_of_account=lambda account_id: self._owner_of("account", account_id),
            clock=clock,
        )
        self.morning = MorningReport(
            mode=config.market.readiness_gate,
            usual=config.market.readiness_time,
            calendar=self.calendar,
            ledger=ledger,
            clock=clock,
            load=lambda: reader.gate(),
            alert=lambda subject, text: self.alert(subject, text),
            suspect=self.clock_watch.suspect,
            always=config.enforce_hours,
        )
        self._risk_context = self._for_risk()
        self._executor_context = self._for_executors()
        for account in directory.accounts.values():
            infrastructure.open_paper_account(account)

    def _for_traces(self) -> TraceExporter | None:
        tracing = self._config.tracing
        if not tracing.otlp_url:
            return None
        from engine.notify.otlp import OtlpTraces  # an extra, which few have

        collector = OtlpTraces(tracing.otlp_url, tracing.authorization, version=__version__)
        return TraceExporter(collector, SpanMaker(tracing.sample_pct), clock=self._clock)

    def _for_sessions(self) -> SessionKeeper:
        kite = self._config.broker.kite
        return SessionKeeper(
            directory=self._directory,
            check=self.readiness,
            ledger=self._ledger,
            clock=self._clock,
            load_rounds=self._reader.rounds,
            alert=self.alert,
            suspect=self.clock_watch.suspect,
            is_trading_day=lambda day: is_trading_day(day, self.calendar),
            login_page=lambda: self.login_page,
            readiness_at=kite.readiness_time,
            remind_at=kite.reminder_time,
        )

    def _for_risk(self) -> RiskContext:
        config = self._config
        return RiskContext(
            clock=self._clock,
            ledger=self._ledger,
            directory=self._directory,
            instruments=lambda: self.master.book,
            kill=self._kill,
            defaults=config.risk.limits(),
            rules=Rules(
                enforce_hours=config.enforce_hours,
                max_age_s=float(config.signals.max_age_s),
                timezone=config.market.zone,
                calendar=self.calendar,
                aliases=config.signals.aliases,
                price_stale_s=float(config.risk.price_stale_s),
                square_off_times=config.auto_square_off_times,
            ),
            orders=self.crew,
            prices=self.prices,
            tag=self._tag,
            epoch=self._lease.epoch,
            load=self._reader.user,
            unrecorded=self.dead_letters.unrecorded,
            park=lambda parked: (self.dead_letters.park_write(parked.intent, parked.reason, account=parked.account),),
            alert=self.alert,
            clock_suspect=self.clock_watch.suspect,
            load_late=self._reader.ended_short,
            ask_person=lambda intent: self.ask_person(intent),
            trip=lambda scope, reason, mode, actor: self.guardian.block_nowait(
                scope, reason=reason, actor=actor, mode=mode
            ),
            rearm=self._rearm,
            bounds=self.prices.bounds,
            held=self.morning.held,
            stages=self.stages,
        )

    def _for_executors(self) -> ExecutorContext:
        kite = self._config.broker.kite
        return ExecutorContext(
            clock=self._clock,
            ledger=self._ledger,
            kill=self._kill,
            look_at_kill_file=self.kill_look.look,
            holds_lease=self._lease.holds,
            still_leads=self._lease.confirm,
            tag=self._tag,
            epoch=self._lease.epoch,
            open_broker=self.sessions.open,
            load=self._reader.account,
            tell_risk=self.crew.tell_risk,
            account_status=self._account_status,
            multiplier=self._multiplier,
            note_queued=self.crew.note_queued,
            orders_per_second=kite.orders_per_second,
            orders_per_minute=kite.orders_per_minute,
            orders_per_day=kite.orders_per_day,
            alert=self.alert,
            pass_on=self.alerts.take,
            forget_broker=self.sessions.forget,
            account_status_now=self._account_status_now,
            is_ours=lambda tag: is_ours(tag, self._deployment),
            live_executors=lambda: len(self.crew.executors),
            clock_suspect=self.clock_watch.suspect,
            max_age_s=float(self._config.signals.max_age_s),
            instrument=lambda exchange, symbol: self.master.book.get(exchange, symbol),
            last_price=lambda exchange, symbol: self.prices.get(f"{exchange}:{symbol}"),
            protection=self._protection,
            learn_freeze=self.master.learn_freeze,
            pacer_key=self._pacer_key,
            freeze_quantity=self._freeze_quantity,
            live_price=self.prices.live,
            session_window=self._session_window,
            is_open=self._is_open,
            flatten_at_open=self._config.market.flatten_at_open,
            flatten_file=self._flatten_file,
            stages=self.stages,
        )

    def _is_open(self, exchange: Exchange, instant: datetime) -> bool:
        return not self._config.enforce_hours or is_open(exchange, instant, self.calendar)

    def _market_opened_at(self, instant: datetime) -> datetime | None:
        if not self._config.enforce_hours:
            return datetime.min.replace(tzinfo=UTC)
        return opened_at(Exchange.NSE, instant, self.calendar)

    def _owner_of(self, kind: str, number: UUID) -> UUID | None:
        """Return the user whose an account, strategy or source is, None for nobody's."""
        held: Any = {
            "account": self._directory.accounts,
            "strategy": self._directory.strategies,
            "source": self._directory.sources,
        }.get(kind, {})
        found = held.get(number)
        return None if found is None else found.user_id

    def _live_order(self, order_id: UUID) -> Order | None:
        found = (executor.desk.orders.get(order_id) for executor in self.crew.executors.values())
        return next((order for order in found if order is not None), None)

    def _kill_changed(self) -> None:
        self.hub.kill_changed(self._kill.records)
        self.crew.wake()
        self.kill_sequence.wake()
        self.on_kill()

    def _protection(self, account_id: UUID) -> Decimal:
        account = self._directory.accounts.get(account_id)
        return Decimal(-1) if account is None else account.market_protection

    def _decide(self, passage: Passage) -> None:
        """Hand a delivery to its user's risk actor; while it waits there the prices it will need are asked for."""
        if self.crew.decide(passage):
            return
        for item in passage.delivery.items:
            try:
                self._watch_prices(item.signal)
            except Exception:
                # the risk actor asks again, and says what a missing price means; the delivery must not be lost
                _log.exception("prices.fault", key=passage.delivery.idempotency_key)

    def _watch_prices(self, signal: Signal) -> None:
        book, rules = self.master.book, self._risk_context.rules
        found = resolve(
            signal,
            book=book,
            aliases=rules.aliases,
            calendar=rules.calendar,
            now=self._clock.now(),
            price=self.prices.get,
        )
        if found.spot_key is not None:
            self.prices.watch(found.spot_key)
        instrument = book.get(found.signal.exchange, found.signal.symbol)
        # a symbol that does not exist must not crowd out one that does
        if instrument is not None:
            self.prices.watch(instrument.key)

    def _tag(self, order_id: UUID, attempt: int) -> str:
        return make_tag(
            self._keys.tag,
            deployment=self._deployment,
            epoch=self._lease.epoch,
            order_id=order_id,
            attempt=attempt,
        )

    def _make_risk(self, user_id: UUID) -> RiskActor:
        return RiskActor(user_id, self._risk_context)

    def _make_executor(self, account_id: UUID) -> Executor:
        account = self._directory.accounts.get(account_id)
        user_id = account.user_id if account is not None else UUID(int=0)
        return Executor(account_id, user_id, self._executor_context)

    def _multiplier(self, exchange: Exchange, symbol: str) -> Decimal:
        instrument = self.master.book.get(exchange, symbol)
        return _ONE if instrument is None else instrument.multiplier

    def _freeze_quantity(self, exchange: Exchange, symbol: str) -> int | None:
        instrument = self.master.book.get(exchange, symbol)
        return None if instrument is None else instrument.freeze_quantity

    def _pacer_key(self, account_id: UUID) -> str:
        """Name the broker's own account, once a login has told it; two accounts here may be one there."""
        account = self._directory.accounts.get(account_id)
        if account is None or account.login is None or not account.login.broker_user_id:
            return _text_of(account_id)
        return f"{account.broker}:{account.login.broker_user_id}"

    def _journal_wiped(self) -> None:
        """The journal's server was emptied under this engine: what only it held is still in memory."""
        again = self.ingest.journal_wiped()
        self.guardian.journal_wiped()
        self.triggers.journal_wiped()
        self._ledger.record(
            AuditDraft(
                at=self._clock.now(),
                actor="system",
                action="JOURNAL_WIPED",
                subject="journal",
                content={"appendedAgain": again},
            )
        )
        self.alert("journal", f"the journal was wiped while the engine ran; {again} deliveries were appended again")

    def alert(self, subject: str, text: str) -> None:
        """Tell a person what must be looked at: in the log, the audit log, on the event stream and by the channels.

        The one way for all of it.
        """
        _log.error("alert", subject=subject, text=text)
        now = self._clock.now()
        self.hub.alert(subject, text, now)
        self.alerts.take(subject, text)
        draft = AuditDraft(at=now, actor="system", action="ALERT", subject=subject, content={"text": text})
        try:
            self._ledger.record(draft)
        except MailboxFull as error:
            # whoever alerts is in the middle of something that must be brought to its end
            _log.error("alert.not_recorded", subject=subject, error=str(error))

    def _committed(self, entries: Sequence[LedgerEntry]) -> None:
        self.hub.committed(entries)
        if self.traces is not None:
            self.traces.committed(entries)
        for entry in entries:
            for event in entry.order_events:
                # what the real world should not report; who saw it told the rest of the engine
                if event.anomaly:
                    self.alert(f"order:{event.order_id}", f"ORDER_ANOMALY: {event.detail}")

    def _refused(self, entry: LedgerEntry, error: LedgerRefused) -> None:
        subjects = [f"order:{order.id}" for order in (*entry.new_orders, *entry.order_updates)]
        subjects = subjects or [f"intent:{intent.id}" for intent in (*entry.new_intents, *entry.intent_updates)]
        if not subjects and not entry.fills and not entry.positions:
            return  # whoever waits for the write is told
        what = f"{len(entry.fills)} fill(s), {len(entry.positions)} position(s)"
        subjects = subjects or [f"account:{fill.account_id}" for fill in entry.fills[:1]] or ["ledger"]
        self.alert(subjects[0], f"LEDGER_REFUSED: the store refuses {len(subjects)} row(s), {what}: {error}")

    def session_refused(self, account_id: UUID, broker: Broker | None, error: BrokerAuthError) -> None:
        """A read of somebody else than the account's executor found its session dead, or none to be had (None)."""
        if broker is not None and self.sessions.current(account_id) is not broker:
            return  # an older session's last word
        executor = self.crew.executors.get(account_id)
        if executor is not None:
            executor.session_refused(error)
            return
        self.sessions.forget(account_id)
        self._account_status(account_id, AccountStatus.LOGIN_REQUIRED, login_reason(error.code, str(error)))

    def _prices_denied(self, broker: Broker, error: BrokerUnavailable) -> None:
        account_id = self.sessions.account_of(broker)
        if account_id is not None and isinstance(error, BrokerAuthError):
            self.session_refused(account_id, broker, error)
        else:
            # orders are not touched by it: prices go missing, or come through another account's app
            self.sessions.no_prices(broker)

    def _session_window(self, account_id: UUID) -> str | None:
        account = self._directory.accounts.get(account_id)
        if account is None or account.broker != "kite" or not self._config.enforce_hours:
            return None
        if not may_vanish(self._clock.now()):
            return None
        return "from 05:00 to 07:30 IST the broker's session may vanish; only exits are sent"

    def _account_status_now(self, account_id: UUID) -> AccountStatus | None:
        account = self._directory.accounts.get(account_id)
        return None if account is None else account.status

    def _can_trade(self, executor: Executor) -> bool:
        """Whether something that the account holds could be traded now."""
        now = self._clock.now()
        return any(
            self._is_open(position.exchange, now)
            for position in executor.desk.holdings.positions.values()
            if position.quantity
        )

    def _root_of(self, account: Account) -> str:
        if account.broker != "paper":
            return self._config.broker.kite.root_url
        return self._infrastructure.exchange_url or ""

    def _stores_away(self) -> list[str]:
        held = {"ledger": self._ledger.available, "journal": self._journal.available}
        return [name for name, is_there in held.items() if not is_there]

    def unwell(self) -> str | None:
        """Return why trading is not healthy, None when it is: what an outside service is to hear nothing for."""
        if not self._lease.holds():
            return "the lease is not held"
        if not self.ingest.is_open:
            return "the intake is closed"
        away = self._stores_away()
        return f"away: {', '.join(away)}" if away else self.clock_watch.suspect()

    def _trip(self, scope: str, why: str) -> None:
        self.guardian.block_nowait(scope, reason=f"ACTOR_FAILED: {why}", actor="system")
        self.alert(scope, f"ACTOR_FAILED: {why}; its scope is blocked")

    async def _rearm(self, scope: str, version: int, reason: str, actor: str) -> bool:
        """Lift a block that is still the one of *version*; one that somebody changed since is theirs."""
        record = self._kill.records.get(scope)
        if record is None or not record.enabled or record.version != version:
            return False
        await self.guardian.release(scope, reason=reason, actor=actor)
        return True

    def _account_changed(self, account: Account) -> None:
        self._infrastructure.open_paper_account(account)
        self._blocked.pop(account.id, None)
        self.sessions.forget(account.id)
        self.master.try_now()
        self.capital_keeper.look_soon()
        executor = self.crew.executors.get(account.id)
        if executor is not None:
            executor.reset_session()

    def _account_status(self, account_id: UUID, status: AccountStatus, reason: str | None) -> None:
        account = self._directory.accounts.get(account_id)
        if account is not None and account.broker == "paper" and status is AccountStatus.LOGIN_REQUIRED:
            # the engine's own exchange: logging in again is no person's business
            self.crew.executor(account_id).reset_session()
            return
        if account is None or account.status is status:
            return
        if account.status is AccountStatus.ORDERS_BLOCKED:
            self._blocked[account_id] = account.status_reason
        if status is AccountStatus.ACTIVE and account_id in self._blocked:
            # the session lives again, but nobody has mended what stood against its orders
            status, reason = AccountStatus.ORDERS_BLOCKED, self._blocked[account_id]
        self.registrar.account_status_nowait(account_id, status, reason)
        if status is not AccountStatus.ACTIVE:
            where = f". Log in at {self.login_page}" if status is AccountStatus.LOGIN_REQUIRED else ""
            said = str(reason).rstrip(".") if where else reason
            self.alert(f"account:{account_id}", f"account {account.label} is {status}: {said}{where}")

    def specs(self) -> list[ChildSpec]:
        """Return the children of the supervisor ``trading``."""
        return [
            ChildSpec(name="square-off-clock", start=self.square_off_clock.run),
            self.crew.users.child_spec(),
            self.crew.accounts.child_spec(),
            self.feeds.supervisor.child_spec(),
            ChildSpec(name="crew", start=self.crew.run),
            ChildSpec(name="feed-keeper", start=self.feeds.run),
            ChildSpec(name="instruments", start=self.master.run),
            ChildSpec(name="prices", start=self.prices.run),
            ChildSpec(name="clock-watch", start=self.clock_watch.run),
            ChildSpec(name="broker-logins", start=self.logins.run),
            ChildSpec(name="session-keeper", start=self.session_keeper.run),
            ChildSpec(name="capital-keeper", start=self.capital_keeper.run),
            ChildSpec(name="warm-up", start=WarmUp(self._directory, self.crew).run),
            ChildSpec(name="drills", start=self.drills.run),
            ChildSpec(name="source-watch", start=self.source_watch.run),
            ChildSpec(name="live-figures", start=self.live_figures.run),
            ChildSpec(name="standing-watch", start=self.standing_watch.run),
            *([] if self.traces is None else [ChildSpec(name="traces", start=self.traces.run)]),
            *([] if self.creds is None else [ChildSpec(name="creds-keeper", start=self.creds.run)]),
        ]


def deployment_of(keys: Keys) -> str:
    """Return the two characters that tell this deployment's tags from another's on the same account."""
    number = int.from_bytes(keys.tag[:4], "big") % (len(_LETTERS) ** 2)
    return _LETTERS[number // len(_LETTERS)] + _LETTERS[number % len(_LETTERS)]
