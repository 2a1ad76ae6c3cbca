"""What flattening is made of: reduce-only by construction, in slices, wider each time, at its hours."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.clock import IST
from engine.domain.calendar import REGULAR, Calendar, SpecialSession
from engine.domain.enums import Exchange, KillMode, KillState, TransactionType
from engine.domain.flatten import (
    BookRow,
    Held,
    NotFlat,
    Stage,
    Standing,
    closable,
    cut,
    may_flatten_now,
    protection_of,
    why_not_orderable,
)
from engine.domain.flatten_plan import Planner
from engine.domain.flatten_reads import Reads
from engine.domain.kill_sequence import AccountEnd, KillOutcome, certify, demand_of, state_of, verify
from engine.domain.killswitch import KillRecord
from engine.domain.square_off_times import dues
from tests.support.flatten_world import START, a_demand, surroundings

PLACE = ("NSE", "INFY", "MIS")
KEY = b"k" * 32


@given(st.integers(-10_000, 10_000), st.one_of(st.none(), st.integers(-10_000, 10_000)), st.integers(0, 10_000))
def test_what_may_be_closed_is_never_more_than_is_held(net: int, own: int | None, pending: int) -> None:
    units = closable(net, own, pending)
    assert 0 <= units <= max(abs(net) - pending, 0)
    if own is not None and own * net <= 0:
        assert units == 0


@given(st.integers(0, 100_000), st.one_of(st.none(), st.integers(1, 2000)), st.integers(1, 75))
def test_slices_are_ten_at_most_and_never_over_freeze_or_what_is_held(units: int, freeze: int | None, lot: int) -> None:
    sizes = cut(units, freeze, lot)
    assert len(sizes) <= 10
    assert sum(sizes) <= units
    assert all(0 < size <= (freeze or size) for size in sizes)
    if sum(sizes) < units:
        assert len(sizes) == 10


def test_protection_widens_and_keeps_the_policy_of_the_account() -> None:
    assert [protection_of(n, Decimal(-1)) for n in (1, 2, 3, 9)] == [-1, 5, 10, 10]
    assert [protection_of(n, Decimal(7)) for n in (1, 2, 3)] == [7, 7, 10]


def test_cover_orders_and_unknown_words_are_not_closed_by_an_order() -> None:
    assert why_not_orderable(("NSE", "INFY", "CO")) is not None
    assert why_not_orderable(("NSEIX", "GIFT", "NRML")) is not None
    assert why_not_orderable(PLACE) is None


@pytest.mark.parametrize(
    ("is_open", "was_open", "same_day", "at_open", "goes"),
    [
        (True, True, True, False, True),
        (False, True, True, True, False),
        (True, False, False, False, False),
        (True, False, False, True, True),
        (True, True, False, False, False),
    ],
)
def test_what_was_asked_for_outside_the_hours_waits_for_a_person_unless_the_policy_says_so(
    is_open: bool, was_open: bool, same_day: bool, at_open: bool, goes: bool
) -> None:
    why = may_flatten_now(START, is_open=is_open, was_open=was_open, same_day=same_day, at_open=at_open)
    assert (why is None) is goes


# reads and plans


class Table:
    """A planner, and a broker that shows what it is told."""

    def __init__(self, **carried: int) -> None:
        self.planner = Planner(surroundings(), Reads({("NSE", name, "MIS"): units for name, units in carried.items()}))
        self.now = 0.0

    def look(self, rows: list[BookRow], held: list[Held], *, later: list[BookRow] | None = None):
        self.now += 3
        at = START + timedelta(seconds=self.now)
        for shown in (rows, None, rows if later is None else later):
            if shown is None:
                self.planner.reads.take_positions(held, began_s=self.now, at=at)
            else:
                assert self.planner.reads.take_book(shown, began_s=self.now, at=at)
                self.planner.book_taken()
        return self.planner.step([a_demand()], self.now)

    def take(self, ticket, filled: int) -> BookRow:
        """The broker takes a ticket and fills it."""
        self.planner.begin_ticket(ticket, self.now)
        self.planner.ticket_accepted(ticket, ticket.tag, self.now)
        return row(ticket.tag, ticket.side, ticket.quantity, filled, tags=frozenset({ticket.tag}))


def row(order_id: str, side: str, quantity: int, filled: int, **fields: object) -> BookRow:
    defaults = {"place": PLACE, "is_open": filled < quantity}
    return BookRow(
        order_id=order_id, side=TransactionType(side), quantity=quantity, filled=filled, **(defaults | fields)
    )


def held(quantity: int, bought: int = 0, sold: int = 0) -> Held:
    return Held(place=PLACE, quantity=quantity, bought=bought, sold=sold)


def test_position_is_closed_once_two_books_around_it_agree() -> None:
    table = Table()
    bought = row("1", "BUY", 10, 10)
    (ticket,) = table.look([bought], [held(10, bought=10)]).tickets
    assert (ticket.side, ticket.quantity, ticket.protection) == ("SELL", 10, -1)
    sold = table.take(ticket, 10)
    # the positions lag: they still show what was held before
    assert not table.look([bought, sold], [held(10, bought=10)]).tickets
    step = table.look([bought, sold], [held(0, 10, 10)])
    assert not step.tickets
    assert table.look([bought, sold], [held(0, 10, 10)]).standings[0].stage is Stage.DONE


def test_empty_answer_is_never_flat() -> None:
    table = Table(INFY=10)
    for _ in range(60):
        step = table.look([], [])
        assert not step.tickets
        assert step.standings[0].stage is not Stage.DONE
    assert table.look([], [held(10)]).tickets


def test_working_order_is_cancelled_before_anything_is_closed() -> None:
    table = Table(INFY=-5)
    resting = row("7", "BUY", 3, 0)
    step = table.look([resting], [held(-5)])
    assert ([r.order_id for r in step.cancels], step.tickets) == (["7"], ())
    over = row("7", "BUY", 3, 0, is_open=False)
    assert not table.look([resting], [held(-5)], later=[over]).tickets
    (ticket,) = table.look([over], [held(-5)]).tickets
    assert (ticket.side, ticket.quantity) == ("BUY", 5)


def test_ticket_in_doubt_holds_its_place_for_twenty_seconds_and_flat_for_three_minutes() -> None:
    table = Table(INFY=10)
    (ticket,) = table.look([], [held(10)]).tickets
    table.planner.begin_ticket(ticket, table.now)
    table.planner.ticket_unknown(ticket, table.now)
    begun = table.now
    while not (step := table.look([], [held(10)])).tickets:
        pass
    assert 20 <= table.now - begun < 30
    assert step.tickets[0].id != ticket.id
    sold = table.take(step.tickets[0], 10)
    while table.look([sold], [held(0, sold=10)]).standings[0].stage is not Stage.DONE:
        assert table.now < 400
    assert table.now - begun >= 180


def test_only_what_went_to_the_broker_makes_the_next_try_wider() -> None:
    table = Table(INFY=10)
    for _ in range(3):
        # one that waits for cancels is made and never begun; one that comes too late is begun and never sent
        table.look([], [held(10)])
        (ticket,) = table.look([], [held(10)]).tickets
        assert ticket.protection == -1
        table.planner.begin_ticket(ticket, table.now)
        table.planner.ticket_unsent(ticket, "LATE", table.now, rest=False)
    (ticket,) = table.look([], [held(10)]).tickets
    table.planner.begin_ticket(ticket, table.now)
    table.planner.ticket_refused(ticket, "no", table.now)
    (again,) = table.look([], [held(10)]).tickets
    assert (again.protection, again.id != ticket.id) == (5, True)


def test_flip_stops_everything_there_until_a_person_has_looked() -> None:
    table = Table(INFY=10)
    (ticket,) = table.look([], [held(10)]).tickets
    table.planner.begin_ticket(ticket, table.now)
    table.planner.ticket_unknown(ticket, table.now)
    while not (step := table.look([], [held(10)])).tickets:
        pass
    sold = table.take(step.tickets[0], 10)
    late = row("99", "SELL", 10, 10, tags=frozenset({ticket.tag}))
    step = table.look([sold, late], [held(-10, sold=20)])
    assert "OVER_FLATTEN" in step.alarms[0]
    for _ in range(100):
        step = table.look([sold, late], [held(-10, sold=20)])
        assert (step.tickets, step.alarms) == ((), ())
    assert step.standings[0].failed
    assert "OVER_FLATTEN" in step.standings[0].not_flat[0].why


def test_order_that_comes_after_all_was_flat_is_ended_again() -> None:
    table = Table()
    assert table.look([], []).standings[0].stage is not Stage.DONE
    assert table.look([], []).standings[0].stage is Stage.DONE
    step = table.look([row("5", "BUY", 4, 0)], [])
    assert ([r.order_id for r in step.cancels], step.standings[0].stage) == (["5"], Stage.CANCELLING)


# the whole scope


def record(**fields: object) -> KillRecord:
    defaults = {
        "scope": "global",
        "version": 1,
        "state": KillState.FLATTENING,
        "reason": "r",
        "actor": "a",
        "at": START,
        "mode": KillMode.SQUARE_OFF,
    }
    return KillRecord(**(defaults | fields))


def end(stage: Stage | None, *, failed: bool = False, left: bool = False) -> AccountEnd:
    found = (NotFlat(place=PLACE, quantity=3, open_orders=0, why="refused"),) if left else ()
    standing = None if stage is None else Standing(name="global", version=1, stage=stage, failed=failed, not_flat=found)
    return AccountEnd(account_id=uuid4(), standing=standing)


def test_scope_is_flat_only_when_every_account_is() -> None:
    done, dead = end(Stage.DONE), end(Stage.CANCELLING, failed=True, left=True)
    assert state_of(record(), [done, done], overdue=False) is KillState.FLAT_VERIFIED
    assert state_of(record(), [done, end(Stage.FLATTENING)], overdue=False) is KillState.FLATTENING
    assert state_of(record(), [done, end(None)], overdue=False) is KillState.CANCELLING
    assert state_of(record(), [done, end(None)], overdue=True) is KillState.FLAT_FAILED
    assert state_of(record(), [done, dead], overdue=False) is KillState.FLAT_FAILED
    assert state_of(record(), [end(Stage.FLATTENING), dead], overdue=False) is not KillState.FLAT_FAILED
    assert state_of(record(mode=KillMode.CANCEL), [done], overdue=False) is KillState.BLOCKED


def test_certificate_that_was_changed_is_not_valid() -> None:
    ends = [end(Stage.DONE), end(Stage.FLATTENING, failed=True, left=True)]
    made = certify(KEY, record(), ends, KillOutcome.FLAT_FAILED, at=START, time_to_block_s=0.001)
    assert verify(KEY, made)
    assert not verify(b"x" * 32, made)
    assert not verify(KEY, msgspec.structs.replace(made, content=made.content.replace("refused", "closed.")))
    assert not verify(KEY, msgspec.structs.replace(made, outcome=KillOutcome.FLAT_VERIFIED))


def test_demand_keeps_its_version_while_the_state_moves_and_changes_it_with_the_mode() -> None:
    first = demand_of(record(tripped_at=START), delivery=False)
    moved = demand_of(record(tripped_at=START, version=9, at=START + timedelta(seconds=5)), delivery=False)
    wider = demand_of(record(tripped_at=START, mode=KillMode.CANCEL), delivery=False)
    assert first == moved
    assert wider is not None
    assert first is not None
    assert wider.version != first.version
    assert demand_of(record(mode=KillMode.BLOCK), delivery=False) is None
    assert demand_of(record(state=KillState.ARMED), delivery=False) is None


# by the clock


def at(day: date, hhmm: str) -> datetime:
    return datetime.combine(day, time.fromisoformat(hhmm), IST)


def test_exchanges_are_squared_off_at_their_times_on_days_that_they_trade() -> None:
    times = dict.fromkeys(Exchange, time(15, 20)) | {Exchange.MCX: time(23, 25)}
    monday, sunday = date(2026, 11, 23), date(2026, 11, 22)
    shares, commodities = [due for due in dues(monday, REGULAR, times) if due.exchanges & {"NSE", "MCX"}]
    assert (shares.at, shares.exchanges >= {"NSE", "BSE", "NFO"}) == (at(monday, "15:20"), True)
    assert (commodities.at, commodities.exchanges) == (at(monday, "23:25"), {"MCX"})
    assert dues(sunday, REGULAR, times) == []
    muhurat = Calendar(special=(SpecialSession(day=sunday, start=time(18), end=time(19)),))
    (evening,) = dues(sunday, muhurat, dict.fromkeys((Exchange.NSE,), time(15, 20)))
    assert (evening.at, evening.until) == (at(sunday, "18:50"), at(sunday, "19:00"))
    assert evening.name == dues(sunday, muhurat, dict.fromkeys((Exchange.NSE,), time(15, 20)))[0].name
    assert shares.at.astimezone(UTC).hour == 9
