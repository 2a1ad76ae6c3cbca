"""The morning report, and the gate that it may be: what could break the day is told before it begins.

On every day with a session, at ``[market] readiness_at``, all checks are made and one alert tells what they came to,
once, whatever restarts in between. With ``readiness_gate = "block"`` it owns the gate: nothing is opened before the
checks of the day have passed; while they have not they are made again and again. The state stands in the store. No
mailbox. Restart: permanent.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime, time
from typing import Any
from uuid import UUID

import msgspec
import structlog
import trio

from engine.actors.audit_writer import AuditWriter
from engine.actors.ledger_entry import LedgerEntry
from engine.clock import IST, Clock
from engine.domain import readiness_gate as rules
from engine.domain.audit import AuditDraft
from engine.domain.broker_session import DAY_ENDS
from engine.domain.calendar import Calendar, close_of
from engine.domain.day_checks import Check, State, worst
from engine.domain.enums import Exchange
from engine.domain.morning import report_at, told
from engine.domain.readiness_gate import Gate, GateMode, Override
from engine.errors import ConflictError, MailboxFull, StoreUnavailable
from engine.runtime.beat import beat
from engine.store.flags import write_gate

_log = structlog.get_logger(__name__)

_TICK_S = 1.0
_RETRY_S = 2.0
_AGAIN_S = 15.0
_SUBJECT = "readiness"


async def _nothing() -> Sequence[Check]:
    return ()


class MorningReport:
    """Tells how the day begins, and holds entries back when that is wanted; *usual* is when (IST).

    Without *always* only a day that begins with a failure is told: where no hours are kept, no day begins.
    """

    def __init__(
        self,
        *,
        mode: GateMode,
        usual: time,
        calendar: Calendar,
        ledger: AuditWriter,
        clock: Clock,
        load: Callable[[], Awaitable[Gate]],
        alert: Callable[[str, str], None],
        suspect: Callable[[], str | None],
        always: bool = True,
    ) -> None:
        self.mode = mode
        self._usual = usual
        self._calendar = calendar
        self._ledger = ledger
        self._clock = clock
        self._load = load
        self._alert = alert
        self._suspect = suspect
        self._always = always
        self._gate = Gate()
        self._looked_at = float("-inf")
        self.examine: Callable[[], Awaitable[Sequence[Check]]] = _nothing
        """Makes every check; known once the engine is built."""

    def held(self, account_id: UUID | None = None) -> str | None:
        """Return why an entry of an account (None: of any) is held back now, None when it is not. Never waits."""
        if self.mode != "block":
            return None
        return rules.holds(self._gate, self._period(self._clock.now()), account_id)

    @property
    def gate(self) -> Gate:
        """What the last checks said; of another period it says nothing any more."""
        return self._gate

    def _period(self, now: datetime) -> date:
        return rules.period_of(now, self._calendar, self._usual)

    async def override(self, *, by: str, reason: str, content: dict[str, Any]) -> None:
        """Let entries through in this period whatever the checks say. Raises ConflictError when nothing is held."""
        now = self._clock.now()
        against = [self.held(), *self._gate.against.values()]
        if self.mode != "block" or not any(against):
            text = "nothing is held back: there is nothing to override"
            raise ConflictError(text, code="NOTHING_HELD")
        period = self._period(now)
        gate = rules.overridden(self._gate, period, Override(by=by, at=now, reason=reason))
        draft = AuditDraft(
            at=now,
            actor=by,
            action="READINESS_OVERRIDDEN",
            subject=_SUBJECT,
            content={"reason": reason, "period": period.isoformat(), "against": gate.against, **content},
        )
        # on the record first: what lets orders through must be there to be found
        await self._ledger.write(LedgerEntry(writes=(write_gate(gate, at=now),), audit=(draft,)))
        self._gate = gate
        self._alert(_SUBJECT, f"READINESS_OVERRIDDEN: {by} lets entries through in spite of failed checks: {reason}")

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look at the clock every second until cancelled."""
        task_status.started()
        while True:
            try:
                self._gate = await self._load()
                break
            except StoreUnavailable as error:
                # without it a restart would repeat what was said already
                _log.warning("readiness.not_loaded", error=str(error))
                await trio.sleep(_RETRY_S)
        while True:
            await self.tick()
            await beat(_TICK_S)

    async def tick(self) -> None:
        """Make the report if it is due; make the checks again while they hold entries back."""
        if self._suspect() is not None:
            return
        now = self._clock.now()
        is_due = self._is_due(now)
        if not is_due and not self._looks_again(now):
            return
        self._looked_at = trio.current_time()
        checks = await self.examine()
        before, period = self._gate, self._period(now)
        gate = rules.judged(before, checks, period)
        audit: tuple[AuditDraft, ...] = ()
        if is_due:
            gate = msgspec.structs.replace(gate, told=now.astimezone(IST).date())
            text = told(checks, now, self._calendar) + self._says_held(gate, period)
            if self._always or worst(checks) is State.FAIL:
                self._alert(_SUBJECT, text)
                audit = (self._draft(checks, now),)
            else:
                _log.info("readiness.reported", text=text)
        elif self._opens(before, gate, period):
            self._alert(_SUBJECT, "READINESS_MENDED: what had failed is mended; entries are taken")
        if gate == before:
            return
        self._gate = gate
        try:
            self._ledger.append(LedgerEntry(writes=(write_gate(gate, at=now),), audit=audit))
        except MailboxFull as error:
            _log.error("readiness.not_recorded", error=str(error))

    def _is_due(self, now: datetime) -> bool:
        today = now.astimezone(IST).date()
        begins = report_at(today, self._calendar, self._usual)
        if begins is None or self._gate.told == today or now < begins:
            return False
        # an engine that starts when the day is over has nothing to say of it
        ends = close_of(Exchange.NSE, today, self._calendar) or DAY_ENDS
        return now.astimezone(IST).time() < ends

    def _looks_again(self, now: datetime) -> bool:
        if self.mode != "block" or trio.current_time() - self._looked_at < _AGAIN_S:
            return False
        period = self._period(now)
        return rules.holds(self._gate, period) is not None or (bool(self._gate.against) and self._gate.override is None)

    def _opens(self, before: Gate, gate: Gate, period: date) -> bool:
        was_held = before.period == period and bool(before.against)
        return self.mode == "block" and was_held and not gate.against

    def _says_held(self, gate: Gate, period: date) -> str:
        if self.mode != "block" or (not gate.against and rules.holds(gate, period) is None):
            return ""
        return "\nEntries are refused (NOT_READY) until it is mended or an ADMIN overrides"

    def _draft(self, checks: Sequence[Check], now: datetime) -> AuditDraft:
        bad = [each for each in checks if each.state is not State.OK]
        content = {"state": worst(checks).value, "checks": len(checks), "found": msgspec.to_builtins(bad)}
        return AuditDraft(at=now, actor="system", action="READINESS_REPORTED", subject=_SUBJECT, content=content)
