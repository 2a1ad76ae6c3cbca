"""Closing what filled of a group that tore: market orders of exactly the filled units, which can only reduce.

They are orders of an intent of their own, whose id follows from the one that they close, so that it is made once;
it comes into the ledger with the end of the other or not at all. What a kill switch covers is left to its flattening.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import structlog

from engine.actors.decision import inputs_for
from engine.actors.exchange_terms import reference_price
from engine.actors.ledger_entry import LedgerEntry
from engine.actors.limit_scopes import limited
from engine.actors.placing import Placer
from engine.actors.risk_messages import RiskContext
from engine.actors.risk_records import conclusion, created, order_drafts
from engine.domain.approval import killed_since
from engine.domain.audit import AuditDraft
from engine.domain.decided import Approved, verdict_of
from engine.domain.denial import Denial
from engine.domain.enums import AccountStatus, IntentStatus, OrderType, Validity, Variety
from engine.domain.group_policy import unwind_key
from engine.domain.instruments import Instrument
from engine.domain.intent import Intent, IntentEvent
from engine.domain.limits import OrderRequest
from engine.domain.options import NO_OPTIONS
from engine.domain.order import Order
from engine.domain.risk import is_reducing
from engine.domain.verdict import AccountVerdict, VerdictRow, judge, row_of
from engine.domain.wanted import cut
from engine.errors import MailboxFull
from engine.ids import unwind_id

_log = structlog.get_logger(__name__)


def killed(context: RiskContext, intent: Intent, account_id: UUID) -> Denial | None:
    """Return the kill switch that covers an account of *intent* and is on, or was since the intent began."""
    return killed_since(context.kill, intent, account_id)


def group_draft(action: str, intent: Intent, content: dict[str, object], now: datetime) -> AuditDraft:
    """Return the audit record of what a group policy did."""
    return AuditDraft(at=now, actor="system", action=action, subject=f"intent:{intent.id}", content=content)


class Unwinder:
    """Closes for one user."""

    def __init__(self, context: RiskContext, placer: Placer) -> None:
        self._context = context
        self._placer = placer

    def lacking(self, intent: Intent, wanted: Mapping[UUID, int]) -> bool:
        """Whether some position does not show yet the units that its order filled."""
        now = self._context.clock.now()
        instrument = self._context.instruments().get(intent.signal.exchange, intent.signal.symbol)
        if instrument is None:
            return True
        child = _closing(intent, max(wanted.values()), now, self._context.kill.turn)
        return any(
            killed(self._context, intent, account) is None
            and not is_reducing(self._request(child, account, units, instrument, now), self._placer.state)
            for account, units in wanted.items()
        )

    def conclude(
        self,
        ended: Intent,
        wanted: Mapping[UUID, int],
        entry: LedgerEntry,
        now: datetime,
        *,
        forget: Callable[[UUID], None],
    ) -> list[tuple[Intent, list[Order]]]:
        """Hand *entry*, the end of an intent, to the ledger with the intent that closes the *wanted* units by account.

        Returns that, to be followed; *forget* is told of it when it never comes into the ledger. Raises MailboxFull;
        then nothing was done.
        """
        child = _closing(ended, max(wanted.values()), now, self._context.kill.turn)
        approved: list[Approved] = []
        notes: list[tuple[str, str]] = []
        for account_id, units in wanted.items():
            found = self._close(child, ended, account_id, units, now)
            if isinstance(found, Approved):
                approved.append(found)
                notes.append(("UNWIND", f"{found.account.label}: closing {units}, by intent {child.id}"))
            else:
                notes.append(("UNWIND_LEFT_OUT", f"{self._label(account_id)}: {units} stay open: {found}"))
                if found.code != "KILL_SWITCH":
                    self._context.alert(f"intent:{ended.id}", f"NOT_UNWOUND: {notes[-1][1]}")
        orders = self._placer.place(child, approved, now) if approved else []
        try:
            verdict = row_of(verdict_of(child, approved, now))
            self._context.ledger.append(self._with_closing(entry, ended, child, orders, verdict, notes, now, forget))
        except MailboxFull:
            self._placer.take_back(orders)
            raise
        return [(child, orders)] if orders else []

    def _with_closing(
        self,
        entry: LedgerEntry,
        ended: Intent,
        child: Intent,
        orders: list[Order],
        verdict: VerdictRow,
        notes: Sequence[tuple[str, str]],
        now: datetime,
        forget: Callable[[UUID], None],
    ) -> LedgerEntry:
        def event(intent: Intent, name: str, detail: str = "") -> IntentEvent:
            return IntentEvent(intent_id=intent.id, at=now, event=name, detail=detail)

        def failed(error: Exception) -> None:
            self._placer.take_back(orders)
            forget(child.id)
            self._context.alert(f"intent:{ended.id}", f"NOT_UNWOUND: it could not be recorded: {error}")
            try:
                self._context.ledger.append(conclusion(ended, now))
            except MailboxFull as full:
                # the next start finds the intent as it was, and concludes it
                _log.error("group.not_concluded", intent=str(ended.id), error=str(full))

        made = (
            event(child, "RECEIVED", f"closes what intent {ended.id} filled"),
            event(child, "APPROVED", f"{len(orders)} order(s)"),
            event(child, child.status.value),
        )
        content = {"closes": ended.id, "orders": len(orders)}
        return LedgerEntry(
            intent_updates=entry.intent_updates,
            new_intents=(child,) if orders else (),
            intent_events=[
                *(event(ended, name, detail) for name, detail in notes),
                *entry.intent_events,
                *(made if orders else ()),
            ],
            new_orders=orders,
            verdicts=(verdict,) if orders else (),
            order_events=[created(order, now) for order in orders],
            audit=[*entry.audit, group_draft("GROUP_UNWIND", child, content, now), *order_drafts(orders, now)],
            on_commit=lambda: self._context.orders.committed(orders),
            on_fail=failed,
        )

    def _close(self, child: Intent, ended: Intent, account_id: UUID, units: int, now: datetime) -> Approved | Denial:
        """Return the order that closes *units* on an account, or what stands against it."""
        context, state, signal = self._context, self._placer.state, child.signal
        stopped = killed(context, ended, account_id)
        if stopped is not None:
            return stopped
        account = context.directory.accounts.get(account_id)
        instrument = context.instruments().get(signal.exchange, signal.symbol)
        if account is None or instrument is None:
            return Denial(code="ACCOUNT_NOT_FOUND", text="the account or its instrument is gone")
        if account.status is not AccountStatus.ACTIVE:
            return Denial(code=account.status.value, text=account.status_reason or "log in to the broker first")
        request = self._request(child, account_id, units, instrument, now)
        if not is_reducing(request, state):
            return Denial(code="NOT_HELD", text="the account does not hold them any more, or other orders close them")
        try:
            parts = cut(units, instrument)
        except ValueError as error:
            return Denial(code="FREEZE_QUANTITY", text=str(error))
        limits = limited(context.directory, context.defaults, ended.user_id, account, ended.strategy_id)
        inputs = inputs_for(request, state, limits, instrument, context.rules, orders=len(parts))
        verdict = judge(
            AccountVerdict(account_id=account_id, label=account.label, approved=False), inputs, limits.limits
        )
        if not verdict.approved:
            return verdict.denials[0]
        return Approved(account=account, request=request, slices=parts, verdict=verdict, limits=limits.limits)

    def _request(
        self, child: Intent, account_id: UUID, units: int, instrument: Instrument, now: datetime
    ) -> OrderRequest:
        signal = child.signal
        return OrderRequest(
            intent_id=child.id,
            account_id=account_id,
            strategy_id=child.strategy_id,
            exchange=signal.exchange,
            symbol=signal.symbol,
            product_type=signal.product_type,
            transaction_type=signal.transaction_type,
            quantity=units,
            reference_price=reference_price(signal, instrument, self._placer.state),
            multiplier=instrument.multiplier,
            at=now,
        )

    def _label(self, account_id: UUID) -> str:
        account = self._context.directory.accounts.get(account_id)
        return str(account_id) if account is None else str(account.label)


def _closing(ended: Intent, units: int, now: datetime, kill_turn: int) -> Intent:
    """Return the intent that closes, at the market, what *ended* filled."""
    signal = msgspec.structs.replace(
        ended.signal,
        transaction_type=ended.signal.transaction_type.opposite,
        quantity=units,
        order_type=OrderType.MARKET,
        price=None,
        trigger_price=None,
        stop_loss=None,
        target=None,
        validity=Validity.DAY,
        variety=Variety.REGULAR,
        options=NO_OPTIONS,
        position_size=None,
    )
    return Intent(
        id=unwind_id(ended.id),
        source_id=ended.source_id,
        strategy_id=ended.strategy_id,
        user_id=ended.user_id,
        signal=signal,
        status=IntentStatus.EXECUTING,
        received_at=now,
        updated_at=now,
        idempotency_key=unwind_key(ended.id),
        body_sha256=ended.body_sha256,
        request_id=ended.request_id,
        kill_turn=kill_turn,
    )
