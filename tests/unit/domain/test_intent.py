import pytest

from engine.domain.enums import IntentStatus as I
from engine.domain.enums import OrderStatus as S
from engine.domain.intent import outcome

DONE = (S.COMPLETE, 10, 10, None)
REFUSED = (S.REJECTED, 10, 0, "Insufficient funds.")
GONE = (S.EXPIRED, 10, 0, "UNPLACED: not in the order book")
STOPPED = (S.CANCELLED, 10, 0, "by user")
PART = (S.CANCELLED, 10, 4, "by user")


@pytest.mark.parametrize(
    ("orders", "expected"),
    [
        ([DONE], (I.EXECUTED, None)),
        ([DONE, DONE], (I.EXECUTED, None)),
        ([REFUSED], (I.FAILED, "Insufficient funds.")),
        ([GONE], (I.EXPIRED, "UNPLACED: not in the order book")),
        ([STOPPED, STOPPED], (I.CANCELLED, "by user")),
        ([(S.FAILED, 10, 0, "not sent")], (I.FAILED, "not sent")),
        ([PART], (I.PARTIAL, "by user")),
        ([DONE, REFUSED], (I.PARTIAL, "Insufficient funds.")),
        ([STOPPED, GONE], (I.FAILED, "by user")),
        ([(S.CANCELLED, 10, 10, None)], (I.EXECUTED, None)),
        ([(S.COMPLETE, 10, 6, None)], (I.PARTIAL, None)),
        ([], (I.FAILED, None)),
    ],
)
def test_outcome_of_ended_orders(orders: list[tuple[S, int, int, str | None]], expected: tuple[I, str | None]) -> None:
    assert outcome(orders) == expected


@pytest.mark.parametrize("status", [status for status in S if not status.is_terminal])
def test_outcome_while_one_order_lives_is_executing(status: S) -> None:
    assert outcome([DONE, REFUSED, (status, 10, 4, "note")]) == (I.EXECUTING, None)
