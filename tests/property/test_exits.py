"""What counts as an exit, for any position and any orders on their way."""

from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from engine.domain.enums import OrderStatus as S
from engine.domain.risk import is_reducing, may_be_exit
from engine.domain.risk_rules import reduces
from engine.domain.risk_state import RiskState
from tests.support.trade import BUY, SELL, TODAY, a_fill, a_request, an_order

SIDES = st.sampled_from([BUY, SELL])
UNITS = st.integers(1, 50)


@given(st.integers(-50, 50), SIDES, UNITS, st.integers(0, 50))
def test_what_reduces_never_turns_nor_grows_a_position(held, side, quantity, claimed) -> None:
    if reduces(held, side, quantity, claimed=claimed):
        after = held + side.sign * quantity
        assert abs(after) < abs(held)
        assert after * held >= 0


@given(st.integers(-50, 50), SIDES, UNITS, st.integers(0, 50))
def test_larger_claims_never_make_an_exit(held, side, quantity, claimed) -> None:
    assert reduces(held, side, quantity) or not reduces(held, side, quantity, claimed=claimed)


class ExitMachine(RuleBasedStateMachine):
    """Orders are reserved, fill, end or stay in doubt; some fill at last that nobody knew of."""

    def __init__(self) -> None:
        super().__init__()
        self.state = RiskState(TODAY)
        self.held = 0
        self.orders = {}

    @rule(side=SIDES, quantity=UNITS)
    def send(self, side, quantity) -> None:
        order = an_order(S.UNKNOWN, id=UUID(int=1000 + len(self.orders)), quantity=quantity, transaction_type=side)
        self.orders[order.id] = order
        self.state.track(order)

    @rule(which=st.integers(0, 40), filled=st.booleans())
    def settle(self, which, filled) -> None:
        live = [o for o in self.orders.values() if not o.status.is_terminal]
        if not live:
            return
        order = live[which % len(live)]
        if filled:
            self.held += order.transaction_type.sign * order.quantity
            self.state.apply_fill(a_fill(order.transaction_type, order.quantity, "100", trade_id=str(order.id)))
        ended = an_order(
            S.COMPLETE if filled else S.EXPIRED,
            id=order.id,
            quantity=order.quantity,
            transaction_type=order.transaction_type,
            filled_quantity=order.quantity if filled else 0,
        )
        self.orders[order.id] = ended
        self.state.track(ended)

    @invariant()
    def every_order_that_only_reduces_may_be_an_exit(self) -> None:
        for side in (BUY, SELL):
            for quantity in (1, 5, 50):
                request = a_request(side, quantity)
                if is_reducing(request, self.state):
                    assert may_be_exit(self.state, request.key, side, quantity)
                    assert abs(self.held + side.sign * quantity) < abs(self.held)

    @invariant()
    def an_exit_of_what_doubt_may_have_bought_is_never_overlooked(self) -> None:
        live = [o for o in self.orders.values() if not o.status.is_terminal]
        bought = sum(o.quantity for o in live if o.transaction_type is BUY)
        possible = self.held + bought
        if possible > 0:
            assert may_be_exit(self.state, a_request(SELL, 1).key, SELL, possible)


TestExitMachine = ExitMachine.TestCase
TestExitMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
