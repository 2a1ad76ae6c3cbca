"""Risk under any interleaving: what is approved keeps every limit, and what is released is released once."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.domain.enums import Exchange, OrderStatus, ProductType, Segment, TransactionType
from engine.domain.limits import OrderRequest, RiskLimits, TradingWindow, narrow
from engine.domain.order import Order, move
from engine.domain.position import m2m
from engine.domain.risk import is_reducing
from engine.domain.risk_state import RiskState
from tests.support.risk_check import check
from tests.support.trade import ACCOUNT, BUY, NOW, OTHER_ACCOUNT, SELL, TODAY, a_fill, a_request, an_order

S = OrderStatus
CAPITAL = Decimal(10_000)
ACCOUNTS = (ACCOUNT, OTHER_ACCOUNT)
SYMBOLS = ("INFY", "SBIN", "TCS")
PRICES = {"INFY": Decimal(100), "SBIN": Decimal(50), "TCS": Decimal(10)}
LIMITS = RiskLimits(
    max_open_positions=3,
    max_order_value=Decimal(3_000),
    max_order_quantity=60,
    max_position_pct=Decimal(50),
    max_orders_per_minute=5,
    max_orders_per_day=12,
    max_daily_loss_amount=Decimal(500),
)


def key_of(order: Order) -> tuple[Any, ...]:
    return (order.account_id, order.exchange, order.symbol, order.product_type)


class RiskMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.state = RiskState(TODAY)
        self.orders: dict[UUID, Order] = {}
        self.approved_at: list[Any] = []
        self.now = NOW
        for symbol, price in PRICES.items():
            self.state.set_price(Exchange.NSE, symbol, price)

    # --- a model that counts everything from scratch

    def live(self) -> list[Order]:
        return [order for order in self.orders.values() if not order.status.is_terminal]

    def net(self) -> dict[tuple[Any, ...], int]:
        return {position.key: position.quantity for position in self.state.positions() if position.quantity}

    def worst(self, symbol: str) -> int:
        total = 0
        keys = {key for key in self.net() if key[2] == symbol} | {key_of(o) for o in self.live() if o.symbol == symbol}
        for key in keys:
            mine = [order for order in self.live() if key_of(order) == key]
            buys = sum(o.remaining_quantity for o in mine if o.transaction_type is BUY)
            sells = sum(o.remaining_quantity for o in mine if o.transaction_type is SELL)
            net = self.net().get(key, 0)
            total += max(abs(net + buys), abs(net - sells))
        return total

    def occupied(self) -> int:
        return len(set(self.net()) | {key_of(order) for order in self.live() if order.remaining_quantity})

    # --- rules

    @rule(
        account=st.sampled_from(ACCOUNTS),
        symbol=st.sampled_from(SYMBOLS),
        side=st.sampled_from(TransactionType),
        quantity=st.integers(1, 70),
    )
    def ask(self, account: UUID, symbol: str, side: TransactionType, quantity: int) -> None:
        request = a_request(side, quantity, str(PRICES[symbol]), account_id=account, symbol=symbol, at=self.now)
        reducing = is_reducing(request, self.state)
        loss = -self.state.day_pnl()
        verdict = check(request, self.state, LIMITS, capital=CAPITAL, now=self.now, scope_account=None)
        if verdict:
            assert all(denial.code.isupper() and denial.text for denial in verdict)
            return
        order_id = UUID(int=1000 + len(self.orders))
        self.state.reserve(request, order_id)
        self.orders[order_id] = an_order(
            id=order_id, account_id=account, symbol=symbol, transaction_type=side, quantity=quantity
        )
        self.approved_at.append(self.now)
        assert quantity <= 60
        assert quantity * PRICES[symbol] <= 3_000
        assert len(self.approved_at) <= 12
        assert sum(self.now - at < timedelta(seconds=60) for at in self.approved_at) <= 5
        if not reducing:
            assert loss < 500
            assert self.occupied() <= 3
            assert self.worst(symbol) * PRICES[symbol] <= CAPITAL / 2

    @precondition(lambda self: self.live())
    @rule(pick=st.integers(0, 100), to=st.sampled_from([S.SUBMITTING, S.UNKNOWN, S.OPEN]))
    def advance(self, pick: int, to: OrderStatus) -> None:
        order = self.live()[pick % len(self.live())]
        path = {S.PENDING: S.SUBMITTING, S.SUBMITTING: to if to is not S.SUBMITTING else S.UNKNOWN, S.UNKNOWN: S.OPEN}
        if order.status in path:
            self.put(move(order, path[order.status], at=self.now)[0])

    @precondition(lambda self: any(order.status in (S.OPEN, S.PARTIALLY_FILLED) for order in self.live()))
    @rule(pick=st.integers(0, 100), part=st.integers(1, 70), paise=st.integers(-300, 300))
    def fill(self, pick: int, part: int, paise: int) -> None:
        working = [order for order in self.live() if order.status in (S.OPEN, S.PARTIALLY_FILLED)]
        order = working[pick % len(working)]
        quantity = min(part, order.remaining_quantity)
        price = PRICES[order.symbol] + Decimal(paise) / 100
        self.state.apply_fill(
            a_fill(order.transaction_type, quantity, str(price), account_id=order.account_id, symbol=order.symbol)
        )
        filled = order.filled_quantity + quantity
        to = S.COMPLETE if filled == order.quantity else S.PARTIALLY_FILLED
        self.put(move(order, to, at=self.now, filled_quantity=filled)[0])

    @precondition(lambda self: self.live())
    @rule(pick=st.integers(0, 100), to=st.sampled_from([S.CANCELLED, S.REJECTED, S.EXPIRED]))
    def end(self, pick: int, to: OrderStatus) -> None:
        self.put(move(self.live()[pick % len(self.live())], to, at=self.now)[0])

    @precondition(lambda self: self.orders)
    @rule(pick=st.integers(0, 100))
    def track_again(self, pick: int) -> None:
        self.state.track(list(self.orders.values())[pick % len(self.orders)])

    @rule(seconds=st.integers(1, 90))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(symbol=st.sampled_from(SYMBOLS), percent=st.integers(80, 120))
    def tick(self, symbol: str, percent: int) -> None:
        self.state.set_price(Exchange.NSE, symbol, PRICES[symbol] * percent / 100)

    def put(self, order: Order) -> None:
        self.orders[order.id] = order
        self.state.track(order)

    # --- the state agrees with the count from scratch

    @invariant()
    def figures_are_right(self) -> None:
        live, net = self.live(), self.net()
        assert self.state.reserved_quantity() == sum(order.remaining_quantity for order in live)
        assert self.state.occupied_positions() == self.occupied()
        assert self.state.open_positions() == len(net)
        assert self.state.day_pnl() == sum(m2m(position) for position in self.state.positions())
        for account in ACCOUNTS:
            mine = [position for position in self.state.positions() if position.account_id == account]
            assert self.state.open_positions(account) == sum(1 for position in mine if position.quantity)
            assert self.state.day_pnl(account) == sum(m2m(position) for position in mine)
        for symbol in SYMBOLS:
            probe = a_request(quantity=0, symbol=symbol)
            assert self.state.exposure_after(probe) == self.worst(symbol)

    def teardown(self) -> None:
        for order in self.live():
            self.put(move(order, S.CANCELLED, at=self.now)[0])
        assert self.state.reserved_quantity() == 0
        assert self.state.occupied_positions() == self.state.open_positions()


TestRiskMachine = RiskMachine.TestCase
TestRiskMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


CLOCK = st.sampled_from(["09:15", "09:59", "10:00", "10:01", "15:20"])
ANY_LIMITS = st.builds(
    RiskLimits,
    max_daily_loss_pct=maybe(st.integers(0, 5).map(Decimal)),
    max_daily_loss_amount=maybe(st.integers(0, 500).map(Decimal)),
    max_position_pct=maybe(st.integers(0, 100).map(Decimal)),
    max_open_positions=maybe(st.integers(0, 3)),
    max_order_value=maybe(st.integers(0, 5000).map(Decimal)),
    max_order_quantity=maybe(st.integers(0, 50)),
    price_band_pct=maybe(st.integers(0, 10).map(Decimal)),
    max_orders_per_minute=maybe(st.integers(0, 4)),
    max_orders_per_day=maybe(st.integers(0, 4)),
    duplicate_window_s=maybe(st.integers(0, 120)),
    allowed_exchanges=maybe(st.lists(st.sampled_from(Exchange), unique=True).map(tuple)),
    allowed_products=maybe(st.lists(st.sampled_from(ProductType), unique=True).map(tuple)),
    trading_window=maybe(st.builds(TradingWindow, start=CLOCK, end=CLOCK)),
    allowed_segments=maybe(st.lists(st.sampled_from(Segment), unique=True).map(tuple)),
    profit_target_amount=maybe(st.integers(0, 50).map(Decimal)),
    max_drawdown_amount=maybe(st.integers(0, 500).map(Decimal)),
    max_drawdown_pct=maybe(st.integers(0, 5).map(Decimal)),
    max_trades_per_day=maybe(st.integers(0, 2)),
    max_messages_per_minute=maybe(st.integers(0, 2)),
    self_trade_guard=maybe(st.booleans()),
)
REQUESTS = st.builds(
    a_request,
    side=st.sampled_from(TransactionType),
    quantity=st.integers(1, 60),
    price=maybe(st.integers(90, 110).map(str)),
    symbol=st.sampled_from(SYMBOLS),
    account_id=st.sampled_from(ACCOUNTS),
    intent_id=st.integers(6, 8).map(lambda number: UUID(int=number)),
)


@st.composite
def states(draw: st.DrawFn) -> RiskState:
    state = RiskState(TODAY)
    state.set_price(Exchange.NSE, "INFY", Decimal(draw(st.integers(80, 120))))
    for _ in range(draw(st.integers(0, 2))):
        side = draw(st.sampled_from(TransactionType))
        state.apply_fill(a_fill(side, draw(st.integers(1, 30)), "100", symbol=draw(st.sampled_from(SYMBOLS))))
    for number in range(draw(st.integers(0, 3))):
        state.reserve(draw(REQUESTS), UUID(int=100 + number))
    return state


def approves(request: OrderRequest, state: RiskState, limits: RiskLimits, capital: Decimal | None) -> bool:
    return not check(request, state, limits, capital=capital, now=NOW, scope_account=None)


@given(request=REQUESTS, state=states(), a=ANY_LIMITS, b=ANY_LIMITS, capital=maybe(st.just(CAPITAL)))
@settings(max_examples=120, deadline=None)
def test_narrowed_limits_approve_only_what_each_approves(
    request: OrderRequest, state: RiskState, a: RiskLimits, b: RiskLimits, capital: Decimal | None
) -> None:
    both = narrow(a, b)
    tight = approves(request, state, both, capital)
    assert tight == (approves(request, state, a, capital) and approves(request, state, b, capital))


@given(a=ANY_LIMITS, b=ANY_LIMITS, c=ANY_LIMITS)
@settings(max_examples=60, deadline=None)
def test_narrow_grouping_and_repetition_do_not_matter(a: RiskLimits, b: RiskLimits, c: RiskLimits) -> None:
    assert narrow(narrow(a, b), c) == narrow(a, narrow(b, c)) == narrow(a, b, c)
    assert narrow(a, a) == a


@given(request=REQUESTS, state=states(), limits=ANY_LIMITS)
@settings(max_examples=60, deadline=None)
def test_check_changes_nothing(request: OrderRequest, state: RiskState, limits: RiskLimits) -> None:
    first = check(request, state, limits, capital=CAPITAL, now=NOW, scope_account=None)
    assert check(request, state, limits, capital=CAPITAL, now=NOW, scope_account=None) == first


@given(
    quantities=st.lists(st.integers(1, 20), min_size=2, max_size=30),
    limits=st.sampled_from(
        [
            RiskLimits(max_position_pct=Decimal(30)),
            RiskLimits(max_open_positions=1),
            RiskLimits(max_orders_per_minute=3),
            RiskLimits(max_orders_per_day=3),
        ]
    ),
)
@settings(max_examples=60, deadline=None)
def test_parallel_requests_together_pass_no_more_than_the_limit(quantities: list[int], limits: RiskLimits) -> None:
    state = RiskState()
    passed = []
    for number, quantity in enumerate(quantities):
        symbol = "INFY" if limits.max_position_pct else f"S{number}"
        request = a_request(quantity=quantity, symbol=symbol, intent_id=UUID(int=number))
        if approves(request, state, limits, CAPITAL):
            state.reserve(request, UUID(int=100 + number))
            passed.append(quantity)
    if limits.max_position_pct:
        assert sum(passed) <= 30
        assert sum(passed) + max(quantities) > 30 or len(passed) == len(quantities)
    elif limits.max_open_positions:
        assert len(passed) == 1
    else:
        assert len(passed) == min(3, len(quantities))


@given(request=REQUESTS, state=states())
@settings(max_examples=60, deadline=None)
def test_reducing_order_never_grows_exposure(request: OrderRequest, state: RiskState) -> None:
    if is_reducing(request, state):
        assert state.exposure_after(request) == state.exposure_after(msgspec.structs.replace(request, quantity=0))
