from datetime import timedelta
from decimal import Decimal

import pytest

from engine.domain.enums import OrderStatus as S
from engine.domain.order import TRANSITIONS, IllegalTransition, can_move, fold, move
from engine.errors import EngineError
from tests.support.trade import NOW, a_report, an_order

LATER = NOW + timedelta(seconds=1)
TERMINAL = [status for status in S if status.is_terminal]


def test_table_has_a_row_for_every_state() -> None:
    assert set(TRANSITIONS) == set(S)


@pytest.mark.parametrize("status", [status for status in S if status is not S.PENDING])
def test_table_nothing_sent_goes_back_to_be_sent(status: S) -> None:
    assert not can_move(status, S.PENDING)
    assert not can_move(status, S.SUBMITTING)


@pytest.mark.parametrize("status", TERMINAL)
def test_table_terminal_only_late_complete(status: S) -> None:
    assert TRANSITIONS[status] <= {S.COMPLETE}


@pytest.mark.parametrize("status", [status for status in S if status.is_working or status.is_unresolved])
def test_table_live_order_can_end_every_way_the_broker_ends_it(status: S) -> None:
    assert {S.COMPLETE, S.CANCELLED, S.REJECTED, S.EXPIRED} <= TRANSITIONS[status]


def test_table_partial_fill_cannot_become_unfilled() -> None:
    assert not can_move(S.PARTIALLY_FILLED, S.OPEN)


@pytest.mark.parametrize("status", [S.SUBMITTED, S.OPEN, S.TRIGGER_PENDING, S.PARTIALLY_FILLED])
def test_table_known_order_never_becomes_unknown(status: S) -> None:
    assert not can_move(status, S.UNKNOWN)


def test_move_legal_row_gives_order_and_event() -> None:
    order, event = move(an_order(), S.SUBMITTING, at=LATER, submitting_at=LATER)
    assert (order.status, order.submitting_at, order.updated_at) == (S.SUBMITTING, LATER, LATER)
    assert (event.from_status, event.to_status, event.at, event.anomaly) == (S.PENDING, S.SUBMITTING, LATER, False)


def test_move_message_is_status_and_detail() -> None:
    order, event = move(an_order(S.SUBMITTING), S.REJECTED, at=LATER, message="Insufficient funds.")
    assert order.status_message == event.detail == "Insufficient funds."


def test_move_without_row_refused_with_order_unchanged() -> None:
    order = an_order(S.SUBMITTING)
    with pytest.raises(IllegalTransition, match="from SUBMITTING to PENDING") as caught:
        move(order, S.PENDING, at=LATER)
    assert isinstance(caught.value, EngineError)
    assert order.status is S.SUBMITTING


def test_move_shrinking_fill_refused() -> None:
    with pytest.raises(IllegalTransition, match="cannot shrink"):
        move(an_order(S.PARTIALLY_FILLED, filled_quantity=5), S.CANCELLED, at=LATER, filled_quantity=4)


def test_move_cancel_request_is_noted_not_a_state() -> None:
    order, event = move(an_order(S.OPEN), S.OPEN, at=LATER, message="cancel requested")
    assert order.status is S.OPEN
    assert event.detail == "cancel requested"
    filled, _ = fold(order, a_report(S.COMPLETE, 10, "100"), at=LATER)
    assert filled.status is S.COMPLETE


def test_move_after_the_end_is_an_anomaly() -> None:
    _, event = move(an_order(S.CANCELLED), S.COMPLETE, at=LATER, filled_quantity=10)
    assert event.anomaly


def test_fold_first_report_adopts_broker_id() -> None:
    order, event = fold(an_order(S.UNKNOWN), a_report(S.OPEN), at=LATER)
    assert (order.status, order.broker_order_id) == (S.OPEN, "42")
    assert event is not None
    assert not event.anomaly


def test_fold_repeated_report_is_nothing_new() -> None:
    order, _ = fold(an_order(S.SUBMITTED), a_report(S.OPEN, 4, "99.5"), at=LATER)
    again, event = fold(order, a_report(S.OPEN, 4, "99.5"), at=LATER + timedelta(seconds=9))
    assert again is order
    assert event is None


def test_fold_open_with_part_filled_is_partially_filled() -> None:
    order, _ = fold(an_order(S.OPEN), a_report(S.OPEN, 4, "99.5"), at=LATER)
    assert (order.status, order.filled_quantity, order.average_price) == (S.PARTIALLY_FILLED, 4, Decimal("99.5"))
    assert order.remaining_quantity == 6


def test_fold_open_with_all_filled_is_complete() -> None:
    order, _ = fold(an_order(S.OPEN), a_report(S.OPEN, 10, "99.5"), at=LATER)
    assert order.status is S.COMPLETE


def test_fold_smaller_fill_changes_neither_quantity_nor_price() -> None:
    order, _ = fold(an_order(S.OPEN), a_report(S.OPEN, 6, "101"), at=LATER)
    stale, event = fold(order, a_report(S.OPEN, 4, "99"), at=LATER)
    assert (stale.filled_quantity, stale.average_price, event) == (6, Decimal(101), None)


def test_fold_price_that_comes_after_its_quantity_is_taken() -> None:
    order, _ = fold(an_order(S.OPEN), a_report(S.COMPLETE, 10), at=LATER)
    priced, event = fold(order, a_report(S.COMPLETE, 10, "100.5"), at=LATER)
    assert priced.average_price == Decimal("100.5")
    assert event is not None
    assert not event.anomaly


@pytest.mark.parametrize(
    ("status", "report", "expected"),
    [
        (S.OPEN, S.TRIGGER_PENDING, S.OPEN),
        (S.OPEN, S.SUBMITTED, S.OPEN),
        (S.TRIGGER_PENDING, S.SUBMITTED, S.TRIGGER_PENDING),
        (S.SUBMITTED, S.TRIGGER_PENDING, S.TRIGGER_PENDING),
        (S.TRIGGER_PENDING, S.OPEN, S.OPEN),
        (S.UNKNOWN, S.SUBMITTED, S.SUBMITTED),
        (S.SUBMITTING, S.UNKNOWN, S.SUBMITTING),
        (S.OPEN, S.FAILED, S.OPEN),
        (S.SUBMITTING, S.REJECTED, S.REJECTED),
    ],
)
def test_fold_working_state_only_advances(status: S, report: S, expected: S) -> None:
    order, _ = fold(an_order(status, broker_order_id="42"), a_report(report), at=LATER)
    assert order.status is expected


def test_fold_cancelled_keeps_its_part_fill() -> None:
    order, event = fold(an_order(S.PARTIALLY_FILLED, filled_quantity=3), a_report(S.CANCELLED, 4, "99"), at=LATER)
    assert (order.status, order.filled_quantity, order.remaining_quantity) == (S.CANCELLED, 4, 0)
    assert event is not None
    assert not event.anomaly


@pytest.mark.parametrize("status", TERMINAL)
@pytest.mark.parametrize("report", [S.OPEN, S.CANCELLED, S.REJECTED, S.TRIGGER_PENDING])
def test_fold_terminal_absorbs(status: S, report: S) -> None:
    ended = an_order(status, broker_order_id="42", filled_quantity=10 if status is S.COMPLETE else 0)
    order, event = fold(ended, a_report(report), at=LATER)
    assert order is ended
    assert event is None


@pytest.mark.parametrize("status", [S.CANCELLED, S.REJECTED, S.EXPIRED, S.FAILED])
def test_fold_late_part_fill_is_taken_up_as_anomaly(status: S) -> None:
    order, event = fold(an_order(status), a_report(S.OPEN, 4, "99"), at=LATER)
    assert (order.status, order.filled_quantity, order.average_price) == (status, 4, Decimal(99))
    assert event is not None
    assert event.anomaly
    assert event.detail.startswith("LATE_FOUND: filled 4 of 10")


@pytest.mark.parametrize("status", [S.CANCELLED, S.REJECTED, S.EXPIRED, S.FAILED])
def test_fold_late_whole_fill_completes_as_anomaly(status: S) -> None:
    order, event = fold(an_order(status), a_report(S.COMPLETE, 10, "99"), at=LATER)
    assert order.status is S.COMPLETE
    assert event is not None
    assert event.anomaly


def test_fold_given_up_order_found_alive_is_reported_once() -> None:
    order, event = fold(an_order(S.EXPIRED), a_report(S.OPEN), at=LATER)
    assert (order.status, order.broker_order_id) == (S.EXPIRED, "42")
    assert event is not None
    assert event.anomaly
    assert event.detail == "LATE_FOUND: OPEN at the broker after EXPIRED."
    assert fold(order, a_report(S.OPEN), at=LATER)[1] is None


def test_fold_refused_order_found_refused_is_no_anomaly() -> None:
    order, event = fold(an_order(S.REJECTED), a_report(S.REJECTED, message="RMS:Margin"), at=LATER)
    assert order.status_message == "RMS:Margin"
    assert event is not None
    assert not event.anomaly


def test_fold_report_of_order_never_sent_is_anomaly() -> None:
    order, event = fold(an_order(S.PENDING), a_report(S.OPEN), at=LATER)
    assert order.status is S.OPEN
    assert event is not None
    assert event.anomaly


def test_fold_overfill_is_taken_up_as_anomaly() -> None:
    order, event = fold(an_order(S.OPEN), a_report(S.COMPLETE, 12, "99"), at=LATER)
    assert (order.status, order.filled_quantity, order.remaining_quantity) == (S.COMPLETE, 12, 0)
    assert event is not None
    assert event.anomaly


def test_fold_short_complete_is_anomaly() -> None:
    order, event = fold(an_order(S.OPEN), a_report(S.COMPLETE, 6, "99"), at=LATER)
    assert order.status is S.COMPLETE
    assert event is not None
    assert event.anomaly


def test_fold_report_of_another_order_refused() -> None:
    with pytest.raises(IllegalTransition, match="this report is of 42"):
        fold(an_order(S.OPEN, broker_order_id="41"), a_report(S.OPEN), at=LATER)


def test_fold_refused_change_keeps_state_and_takes_message() -> None:
    order, event = fold(an_order(S.OPEN, broker_order_id="42"), a_report(S.OPEN, message="16316 : tick"), at=LATER)
    assert (order.status, order.status_message) == (S.OPEN, "16316 : tick")
    assert event is not None


def test_fold_stale_message_does_not_replace_newer() -> None:
    order = an_order(S.CANCELLED, broker_order_id="42", status_message="by user")
    assert fold(order, a_report(S.OPEN, message="old"), at=LATER) == (order, None)
    working = an_order(S.OPEN, broker_order_id="42", status_message="new")
    assert fold(working, a_report(S.SUBMITTED, message="old"), at=LATER) == (working, None)
