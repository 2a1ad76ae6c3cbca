"""Orders under every report a broker can make: repeated, late, out of order, contradictory."""

from datetime import timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.domain.enums import OrderStatus as S
from engine.domain.fill import incremental_price
from engine.domain.order import Order, OrderEvent, OrderReport, can_move, fold, move
from tests.support.trade import NOW, a_report, an_order

QUANTITY = 10
PRICES = st.integers(1, 200_000).map(lambda paise: Decimal(paise) / 100)
INTERIM = (S.SUBMITTED, S.TRIGGER_PENDING, S.OPEN)
ENDS = (S.CANCELLED, S.REJECTED)


class Venue:
    """The broker's truth about one order, and every snapshot it ever showed."""

    def __init__(self) -> None:
        self.status = S.SUBMITTED
        self.filled = 0
        self.cash = Decimal(0)
        self.shown: list[OrderReport] = []

    def show(self) -> None:
        average = self.cash / self.filled if self.filled else Decimal(0)
        self.shown.append(
            OrderReport(broker_order_id="42", status=self.status, filled_quantity=self.filled, average_price=average)
        )

    def fill(self, quantity: int, price: Decimal) -> None:
        self.filled += quantity
        self.cash += quantity * price
        if self.filled == QUANTITY:
            self.status = S.COMPLETE
        elif self.status is not S.CANCELLED:
            self.status = S.OPEN


class OrderMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.venue: Venue | None = None
        self.order: Order = an_order(S.PENDING, quantity=QUANTITY)
        self.now = NOW

    def take(self, order: Order, event: OrderEvent | None) -> None:
        before = self.order
        assert order.filled_quantity >= before.filled_quantity
        if event is None:
            assert order == before
        else:
            assert (event.from_status, event.to_status) == (before.status, order.status)
            assert event.filled_quantity == order.filled_quantity
        if order.status is not before.status:
            assert can_move(before.status, order.status)
        if before.status.is_terminal:
            assert order.status in (before.status, S.COMPLETE)
            if order.filled_quantity > before.filled_quantity:
                assert event is not None
                assert event.anomaly
        self.order = order

    @rule()
    def tick(self) -> None:
        self.now += timedelta(seconds=1)

    # the engine

    @precondition(lambda self: self.order.status is S.PENDING)
    @rule(sent=st.booleans())
    def submit(self, sent: bool) -> None:
        self.take(*move(self.order, S.SUBMITTING, at=self.now))
        if sent:
            self.venue = Venue()
            self.venue.show()

    @precondition(lambda self: self.order.status is S.SUBMITTING)
    @rule(to=st.sampled_from([S.UNKNOWN, S.SUBMITTED, S.FAILED]))
    def answer(self, to: S) -> None:
        self.take(*move(self.order, to, at=self.now))

    @precondition(lambda self: self.order.status is S.UNKNOWN)
    @rule()
    def give_up(self) -> None:
        self.take(*move(self.order, S.EXPIRED, at=self.now, message="UNPLACED"))

    @precondition(lambda self: self.order.status.is_working)
    @rule()
    def request_cancel(self) -> None:
        self.take(*move(self.order, self.order.status, at=self.now, message="cancel requested"))

    # the broker

    @precondition(lambda self: self.venue is not None and self.venue.filled < QUANTITY)
    @rule(part=st.integers(1, QUANTITY), price=PRICES)
    def fill(self, part: int, price: Decimal) -> None:
        assert self.venue is not None
        self.venue.fill(min(part, QUANTITY - self.venue.filled), price)
        self.venue.show()

    @precondition(lambda self: self.venue is not None and not self.venue.status.is_terminal)
    @rule(to=st.sampled_from([S.TRIGGER_PENDING, S.OPEN, S.CANCELLED]))
    def change(self, to: S) -> None:
        assert self.venue is not None
        self.venue.status = to
        self.venue.show()

    # the witnesses: any snapshot, at any time, any number of times

    @precondition(lambda self: self.venue is not None)
    @rule(pick=st.integers(0, 1_000))
    def report(self, pick: int) -> None:
        assert self.venue is not None
        self.take(*fold(self.order, self.venue.shown[pick % len(self.venue.shown)], at=self.now))
        self.tick()

    @invariant()
    def quantities_add_up(self) -> None:
        assert 0 <= self.order.filled_quantity <= (self.venue.filled if self.venue else 0)
        rest = 0 if self.order.status.is_terminal else QUANTITY - self.order.filled_quantity
        assert self.order.remaining_quantity == rest
        if self.order.status is S.PARTIALLY_FILLED:
            assert 0 < self.order.filled_quantity < QUANTITY

    def teardown(self) -> None:
        if self.venue is None:
            return
        for report in self.venue.shown:
            self.take(*fold(self.order, report, at=self.now))
        assert self.order.filled_quantity == self.venue.filled
        if self.venue.filled:
            assert self.order.average_price == self.venue.cash / self.venue.filled
        if self.venue.status.is_terminal:
            assert self.order.status.is_terminal
        if self.venue.status is S.COMPLETE:
            assert self.order.status is S.COMPLETE
        for report in self.venue.shown:
            assert fold(self.order, report, at=self.now) == (self.order, None)


TestOrderMachine = OrderMachine.TestCase
TestOrderMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@st.composite
def histories(draw: st.DrawFn) -> list[OrderReport]:
    """One true life of an order, as snapshots in the order in which it was lived."""
    venue = Venue()
    venue.show()
    for _ in range(draw(st.integers(0, 3))):
        venue.status = max(venue.status, draw(st.sampled_from(INTERIM)), key=INTERIM.index)
        venue.show()
    while venue.filled < QUANTITY and draw(st.booleans()):
        venue.fill(draw(st.integers(1, QUANTITY - venue.filled)), draw(PRICES))
        venue.show()
    if venue.status is not S.COMPLETE and draw(st.booleans()):
        venue.status = S.CANCELLED if venue.filled else draw(st.sampled_from(ENDS))
        venue.show()
        if venue.status is S.CANCELLED and draw(st.booleans()):
            venue.fill(draw(st.integers(1, QUANTITY - venue.filled)), draw(PRICES))
            venue.show()
    return venue.shown


@given(
    history=histories(),
    start=st.sampled_from([S.SUBMITTING, S.UNKNOWN, S.SUBMITTED, S.EXPIRED]),
    chance=st.randoms(use_true_random=False),
)
@settings(max_examples=150, deadline=None)
def test_fold_same_history_in_any_order_same_end(history: list[OrderReport], start: S, chance: object) -> None:
    def end(reports: list[OrderReport]) -> tuple[S, int, Decimal, str | None]:
        order = an_order(start, quantity=QUANTITY)
        for report in reports:
            order, _ = fold(order, report, at=NOW)
        return order.status, order.filled_quantity, order.average_price, order.broker_order_id

    shuffled = history * 2
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert end(shuffled) == end(history)


@given(
    order=st.builds(
        lambda status, filled: an_order(status, quantity=QUANTITY, filled_quantity=filled, broker_order_id="42"),
        st.sampled_from(S),
        st.integers(0, QUANTITY),
    ),
    status=st.sampled_from(S),
    filled=st.integers(0, 2 * QUANTITY),
)
@settings(max_examples=300, deadline=None)
def test_fold_any_report_moves_along_the_table_and_settles(order: Order, status: S, filled: int) -> None:
    report = a_report(status, filled, "100")
    folded, _ = fold(order, report, at=NOW)
    assert folded.status is order.status or can_move(order.status, folded.status)
    assert folded.filled_quantity == max(order.filled_quantity, filled)
    assert fold(folded, report, at=NOW) == (folded, None)


@given(fills=st.lists(st.tuples(st.integers(1, 1000), PRICES), min_size=2, max_size=6))
@settings(max_examples=60, deadline=None)
def test_incremental_price_keeps_the_cash(fills: list[tuple[int, Decimal]]) -> None:
    filled, cash, avg, rebuilt = 0, Decimal(0), Decimal(0), Decimal(0)
    for quantity, price in fills:
        before, avg_before = filled, avg
        filled, cash = filled + quantity, cash + quantity * price
        avg = cash / filled
        rebuilt += quantity * incremental_price(before, avg_before, filled, avg)
    assert abs(rebuilt - cash) < Decimal("0.0001")
