"""An account at a broker that misbehaves in every way that is known of one, for flattening by the seed.

Fills come late, cancels cross them, requests get no answer and are taken all the same, positions and order books
come old, empty, partial or not at all; somebody trades by hand and the broker squares off meanwhile. The truth is
kept beside it, and `findings` says what of the engine's doing was wrong.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

import msgspec
import structlog
import trio
import trio._core._run as trio_run
import trio.testing

from engine.actors.flattener import Flattener
from engine.broker.outcome import Accepted, NotSent, RefusalCode, Refused, Unknown
from engine.domain.enums import TransactionType
from engine.domain.flatten import BookRow, Demand, Held, Stage
from engine.domain.flatten_world import Surroundings
from engine.errors import BrokerUnavailable

ACCOUNT = UUID(int=9)
START = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)
SIDES = (TransactionType.BUY, TransactionType.SELL)


class Row(msgspec.Struct):
    """An order at the broker."""

    row: BookRow
    status: str = "OPEN"
    is_ours: bool = False
    looked_at: float = 0.0


class Account:
    """The truth, and what is shown of it."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.rows: dict[str, Row] = {}
        self.net: dict[Any, int] = {}
        self.days: dict[Any, list[int]] = {}
        self.foreign: list[tuple[float, Any]] = []
        self.over: list[str] = []
        self.raced = 0
        self.pending_late = 0
        self.ids = 100
        self.trouble = self.random.choice((0.0, 0.1, 0.3))
        self.stale_s = self.random.choice((0.0, 1.0, 3.0))
        self.late_s = self.random.choice((0.0, 5.0, 12.0))
        self.by_hand = self.random.choice((0.0, 0.0, 0.05, 0.2))
        self.rms_at = self.random.choice((None, None, self.random.uniform(0, 20)))
        self.quiet_at = self.random.choice((8.0, 8.0, 20.0, 60.0))
        self.history: list[tuple[float, tuple[BookRow, ...], tuple[Held, ...]]] = []
        self.carried: dict[Any, int] = {}
        for number in range(self.random.randint(1, 4)):
            place = ("NSE", f"S{number}", self.random.choice(("MIS", "NRML")))
            units = self.random.choice((-1, 1)) * self.random.randint(0, 300)
            if self.random.random() < 0.5:
                self.net[place] = self.carried[place] = units
            elif units:
                self._fill(self._add(place, SIDES[units < 0], abs(units)), abs(units))
            for _ in range(self.random.randint(0, 2)):
                self._add(place, self.random.choice(SIDES), self.random.randint(1, 200))
        self._keep()

    # the truth

    def _add(self, place: Any, side: TransactionType, quantity: int, **fields: Any) -> Row:
        self.ids += 1
        row = BookRow(order_id=str(self.ids), place=place, side=side, quantity=quantity, filled=0, is_open=True)
        made = Row(row=msgspec.structs.replace(row, tags=fields.pop("tags", frozenset())), **fields)
        self.rows[row.order_id] = made
        self.net.setdefault(place, 0)
        return made

    def _fill(self, order: Row, quantity: int) -> None:
        row = order.row
        quantity = min(quantity, row.quantity - row.filled)
        if quantity <= 0 or not row.is_open:
            return
        before = self.net.get(row.place, 0)
        after = self.net[row.place] = before + row.side.sign * quantity
        self.days.setdefault(row.place, [0, 0])[row.side is TransactionType.SELL] += quantity
        filled = row.filled + quantity
        order.row = msgspec.structs.replace(row, filled=filled, is_open=filled < row.quantity)
        if not order.row.is_open:
            order.status = "COMPLETE"
        if order.is_ours and (abs(after) > abs(before) or before * after < 0):
            crossed = any(at >= order.looked_at and place == row.place for at, place in self.foreign)
            self.raced += crossed
            if not crossed:
                self.over.append(f"{row.place}: {before} became {after} by {row.order_id}")
        elif not order.is_ours and self._running:
            self.foreign.append((trio.current_time(), row.place))
        self._keep()

    def _end(self, order: Row, status: str, said: str = "") -> None:
        order.status = status
        order.row = msgspec.structs.replace(order.row, is_open=False, said=said, is_refused=status == "REJECTED")
        self._keep()

    _running = False

    def _keep(self) -> None:
        if self._running:
            self.history.append((trio.current_time(), self.book(), self.held()))
            del self.history[:-200]

    def book(self) -> tuple[BookRow, ...]:
        return tuple(order.row for order in self.rows.values())

    def held(self) -> tuple[Held, ...]:
        return tuple(
            Held(
                place=place,
                quantity=units,
                bought=self.days.get(place, [0, 0])[0],
                sold=self.days.get(place, [0, 0])[1],
            )
            for place, units in self.net.items()
        )

    @property
    def is_quiet(self) -> bool:
        return trio.current_time() >= self.quiet_at

    # what happens by itself

    async def live(self) -> None:
        self._running = True
        self._keep()
        while True:
            await trio.sleep(5.0 if self.is_quiet and self.rms_at is None else self.random.uniform(0.05, 0.5))
            for order in list(self.rows.values()):
                if order.row.is_open and not order.is_ours and not self.is_quiet and self.random.random() < 0.05:
                    self._fill(order, self.random.randint(1, order.row.quantity))
            if not self.is_quiet and self.random.random() < self.by_hand:
                place = self.random.choice(list(self.net))
                units = self.net[place]
                side = SIDES[units > 0] if units and self.random.random() < 0.7 else self.random.choice(SIDES)
                hand = self._add(place, side, self.random.randint(1, 150))
                if self.random.random() < 0.7:
                    self._fill(hand, hand.row.quantity)
            if self.rms_at is not None and trio.current_time() >= self.rms_at:
                self.rms_at = None
                self._square_off()

    def _square_off(self) -> None:
        """The broker's own square-off of intraday positions: cancels, then market orders."""
        for order in list(self.rows.values()):
            if order.row.is_open and order.row.place[2] == "MIS":
                self._end(order, "CANCELLED")
        for place, units in list(self.net.items()):
            if place[2] == "MIS" and units:
                order = self._add(place, SIDES[units > 0], abs(units))
                self._fill(order, order.row.quantity)


class SimHands:
    """Hands on an `Account`; its wall clock is trio's."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.random = account.random
        self.heard: list[Any] = []
        self.alarms: list[str] = []
        self.false_flat: list[str] = []
        self.snapshot_at = 0.0
        self.shown: tuple[Held, ...] | None = None
        self.placed: set[UUID] = set()
        self.written: list[Any] = []

    def now(self) -> datetime:
        return START + timedelta(seconds=trio.current_time())

    async def _way(self) -> None:
        await trio.sleep(self.random.uniform(0.005, 0.2))

    async def _shown(self) -> tuple[float, tuple[BookRow, ...], tuple[Held, ...]]:
        account = self.account
        await self._way()
        old_s = self.random.uniform(0, account.stale_s) if not account.is_quiet and self.random.random() < 0.3 else 0.0
        at = trio.current_time() - old_s
        shown = next((kept for kept in reversed(account.history) if kept[0] <= at), account.history[0])
        # taken and on its way back
        await self._way()
        if not account.is_quiet and self.random.random() < account.trouble:
            raise BrokerUnavailable("scripted: 500")
        return max(at, shown[0]), shown[1], shown[2]

    async def orders(self) -> Sequence[BookRow]:
        at, rows, _ = await self._shown()
        if not self.account.is_quiet and self.random.random() < self.account.trouble / 3:
            return rows[: len(rows) // 2]
        self.snapshot_at = at
        return rows

    async def positions(self) -> Sequence[Held]:
        _, _, held = await self._shown()
        self.shown = held
        if not self.account.is_quiet and self.random.random() < self.account.trouble / 2:
            self.shown = None
            return self.random.choice(((), held[: len(held) // 2]))
        return held

    async def drain(self, timeout_s: float) -> tuple[int, int]:
        return (0, 0)

    def unresolved(self) -> Sequence[Any]:
        return self.written

    def used(self) -> frozenset[UUID]:
        return frozenset(self.placed)

    def carried(self) -> Any:
        return self.account.carried

    def end_resting(self, demands: Sequence[Demand]) -> None:
        return None

    async def cancel(self, row: BookRow) -> Any:
        await self._way()
        order = self.account.rows[row.order_id]
        if not order.row.is_open:
            return Refused(code=RefusalCode.OTHER, message="it is over")
        if not self.account.is_quiet and self.random.random() < self.account.trouble:
            return Unknown(reason="scripted: no answer")
        order.status = "CANCEL PENDING"
        if self.random.random() < 0.2:
            await trio.sleep(self.random.uniform(0, 2))
            self.account._fill(order, self.random.randint(1, order.row.quantity))
        if order.row.is_open:
            self.account._end(order, "CANCELLED")
        return Accepted(broker_order_id=row.order_id)

    async def place(self, ticket: Any, still_wanted: Any) -> Any:
        assert ticket.id not in self.placed, "a ticket was sent twice"
        account, looked_at = self.account, self.snapshot_at
        self.placed.add(ticket.id)
        await trio.sleep(self.random.uniform(0, 0.3))
        stop = still_wanted()
        if stop is not None:
            return NotSent(reason=stop, gated=True)
        await self._way()
        quiet, lot = account.is_quiet, self.random.random()
        if not quiet and lot < account.trouble / 2:
            if self.random.random() < 0.5:
                account.pending_late += 1
                self._nursery.start_soon(self._late, ticket, looked_at)
            await trio.sleep(self.random.uniform(0, 7))
            return Unknown(reason="scripted: no answer")
        if not quiet and lot < account.trouble:
            return Refused(code=RefusalCode.OTHER, message="scripted: refused")
        order = self._take(ticket, looked_at)
        await self._way()
        return Accepted(broker_order_id=order.row.order_id)

    _nursery: trio.Nursery

    async def _late(self, ticket: Any, looked_at: float) -> None:
        await trio.sleep(self.random.uniform(0, self.account.late_s))
        self.account.pending_late -= 1
        self._take(ticket, looked_at)

    def _take(self, ticket: Any, looked_at: float) -> Row:
        order = self.account._add(
            ticket.place, ticket.side, ticket.quantity, tags=frozenset({ticket.tag}), is_ours=True, looked_at=looked_at
        )
        self._nursery.start_soon(self._execute, order)
        self.account._keep()
        return order

    async def _execute(self, order: Row) -> None:
        await trio.sleep(self.random.choice((0.0, 0.0, 0.05, 1.0, 4.0)))
        chance = self.random.random()
        if not self.account.is_quiet and chance < 0.1:
            if order.row.is_open:
                self.account._end(order, "REJECTED", "scripted: price range")
            return
        if not self.account.is_quiet and chance < 0.3:
            self.account._fill(order, self.random.randint(1, order.row.quantity))
            return
        self.account._fill(order, order.row.quantity)

    def told(self, standings: Sequence[Any]) -> None:
        for standing in standings:
            if standing.stage is Stage.DONE and standing != (self.heard[-1] if self.heard else None):
                self._check_flat(standing)
            self.heard.append(standing)

    def _check_flat(self, standing: Any) -> None:
        if self.shown is None or any(row.quantity for row in self.shown):
            self.false_flat.append(f"flat was said of {self.shown}")
        if any(row.positions and any(held.quantity for held in row.positions) for row in standing.proofs):
            self.false_flat.append("the proof itself shows positions")
        if self.account.pending_late:
            self.false_flat.append("an order of ours was still on its way")

    def alarm(self, text: str) -> None:
        self.alarms.append(text)


def surroundings(**fields: Any) -> Surroundings:
    """The plain world of a planner: no freeze quantities, open markets, no strategies."""
    defaults: dict[str, Any] = {
        "account_id": ACCOUNT,
        "tag": lambda ticket_id: f"T{ticket_id.hex[:19].upper()}",
        "freeze": lambda _place: None,
        "lot": lambda _place: 1,
        "protection": lambda: Decimal(-1),
        "share": lambda _strategy, _place: 0,
        "shut": lambda _demand, _exchange: None,
        "doubts": lambda: (),
    }
    return Surroundings(**(defaults | fields))


def a_demand(**fields: Any) -> Demand:
    """The global kill switch, tripped at the start, squaring off."""
    defaults: dict[str, Any] = {"name": "global", "version": 1, "since": START, "by": "test", "stays": True}
    return Demand(**(defaults | fields))


class Outcome(msgspec.Struct):
    """What came of one seed."""

    seed: int
    findings: list[str]
    took_s: float | None
    raced: int
    sent: int


async def run_seed(seed: int) -> Outcome:
    """Flatten one account of a seed and look what came of it; needs trio's mock clock with autojump."""
    account = Account(seed)
    hands = SimHands(account)
    freeze = account.random.choice((None, 50))
    flattener = Flattener(hands, surroundings(freeze=lambda _place: freeze), now=hands.now)
    flattener.want(a_demand())
    findings: list[str] = []
    async with trio.open_nursery() as nursery:
        hands._nursery = nursery
        nursery.start_soon(account.live)
        await trio.lowlevel.checkpoint()
        if account.random.random() < 0.3:
            # another life begins in the middle: what was sent is looked for first
            with trio.move_on_after(account.random.uniform(0, 10)):
                await flattener.run()
            hands.written = _in_doubt(flattener)
            flattener = Flattener(hands, surroundings(freeze=lambda _place: freeze), now=hands.now)
            flattener.want(a_demand())
        nursery.start_soon(flattener.run)
        with trio.move_on_after(400):
            while trio.current_time() < account.quiet_at + 5 or not _is_done(flattener, hands):
                await trio.sleep(1)
        findings += account.over + hands.false_flat
        if not _is_done(flattener, hands):
            findings.append(f"not flat in the end: {flattener.standings.get('global')}")
        nursery.cancel_scope.cancel()
    took = next((s.took_s for s in hands.heard if s.stage is Stage.DONE), None)
    return Outcome(seed=seed, findings=findings, took_s=took, raced=account.raced, sent=len(hands.placed))


def _in_doubt(flattener: Flattener) -> list[Any]:
    planner = flattener._planner
    now = trio.current_time()
    sent = [] if planner is None else planner.sent.values()
    return [(each.ticket, now - each.at_s) for each in sent if each.state.is_doubtful]


def _is_done(flattener: Flattener, hands: SimHands) -> bool:
    standing = flattener.standings.get("global")
    # a flip that somebody else's trade made is for a person: the engine has stopped there, rightly
    return standing is not None and (standing.stage is Stage.DONE or any("OVER_FLATTEN" in a for a in hands.alarms))


def play(seed: int) -> Outcome:
    """Run one seed in virtual time; the same seed runs the same way."""
    # trio shuffles tasks that are ready together
    before, allowed = trio_run._r.getstate(), trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    logs = structlog.get_config()
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True
    trio_run._r.seed(seed)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50), cache_logger_on_first_use=False)
    try:
        return trio.run(run_seed, seed, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        trio_run._r.setstate(before)
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = allowed
        structlog.configure(**logs)
