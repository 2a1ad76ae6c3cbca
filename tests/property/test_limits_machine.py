"""Signals to many accounts under limits of user, account and strategy: whatever happens in between, all limits hold.

A model counts orders and positions from scratch; the state must agree with it after every step, a restart included.
"""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.actors.decision import Rules, decide
from engine.domain.decided import Decision, take_back
from engine.domain.directory import Account, Directory, Limits, Strategy, Target
from engine.domain.enums import (
    AccountStatus,
    Exchange,
    IntentStatus,
    KillState,
    OrderStatus,
    SizingMode,
    TransactionType,
)
from engine.domain.intent import Intent
from engine.domain.killswitch import KillRecord, KillSwitches
from engine.domain.limits import RiskLimits, narrow
from engine.domain.order import Order, move
from engine.domain.replay import check
from engine.domain.risk_state import RiskState
from engine.domain.verdict import row_of
from engine.ids import order_id
from tests.support.desk import BOOK, a_signal
from tests.support.trade import BUY, NOW, SELL, TODAY, USER, a_fill, an_order

S = OrderStatus
ACCOUNTS = tuple(UUID(int=10 + number) for number in range(4))
STRATEGIES = (UUID(int=20), UUID(int=21))
SYMBOLS = ("INFY", "SBIN", "TCS")
PRICE = Decimal(100)
CAPITAL = Decimal(10_000)
USER_LIMITS = RiskLimits(
    max_open_positions=5, max_position_pct=Decimal(25), max_orders_per_minute=9, max_orders_per_day=25
)
ACCOUNT_LIMITS = RiskLimits(max_position_pct=Decimal(60), max_orders_per_minute=3)
STRATEGY_LIMITS = RiskLimits(max_orders_per_day=8, max_position_pct=Decimal(20))
TIGHTER = RiskLimits(max_open_positions=2, max_order_value=Decimal(700), max_orders_per_minute=4)


def people() -> Directory:
    found = Directory()
    for number, account in enumerate(ACCOUNTS):
        found.put_account(
            Account(
                id=account,
                user_id=USER,
                label=f"A{number}",
                broker="paper",
                capital=CAPITAL,
                status=AccountStatus.ACTIVE,
                api_key="k",
            )
        )
    targets = tuple(Target(account_id=each, mode=SizingMode.MULTIPLIER, value=Decimal(1)) for each in ACCOUNTS)
    for strategy in STRATEGIES:
        found.put_strategy(Strategy(id=strategy, user_id=USER, name=str(strategy), targets=targets))
    places = ((None, None, USER_LIMITS), (ACCOUNTS[0], None, ACCOUNT_LIMITS), (None, STRATEGIES[0], STRATEGY_LIMITS))
    for number, (account_id, strategy_id, limits) in enumerate(places):
        found.put_limits(
            Limits(
                id=UUID(int=90 + number), user_id=USER, account_id=account_id, strategy_id=strategy_id, limits=limits
            )
        )
    return found


def key_of(order: Order) -> tuple[Any, ...]:
    return (order.account_id, order.exchange, order.symbol, order.product_type)


class LimitsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = people()
        self.state = self.new_state()
        self.orders: dict[UUID, Order] = {}
        self.held: dict[tuple[Any, ...], int] = {}
        self.owned: dict[tuple[UUID, tuple[Any, ...]], int] = {}
        self.now = NOW
        self.sent = 0

    def new_state(self) -> RiskState:
        state = RiskState(TODAY)
        for symbol in SYMBOLS:
            state.set_price(Exchange.NSE, symbol, PRICE)
        return state

    # asking

    def intent(self, strategy: UUID, symbol: str, side: TransactionType, quantity: int) -> Intent:
        self.sent += 1
        return Intent(
            id=UUID(int=1000 + self.sent),
            source_id=UUID(int=2),
            strategy_id=strategy,
            user_id=USER,
            signal=a_signal(symbol, transaction_type=side, quantity=quantity),
            status=IntentStatus.RECEIVED,
            received_at=self.now,
            updated_at=self.now,
            idempotency_key="k",
            body_sha256=b"1" * 32,
        )

    def decide(
        self, intent: Intent, *, kill: KillSwitches | None = None, reserve: bool = True, directory: Any = None
    ) -> Decision:
        return decide(
            intent,
            directory=directory or self.directory,
            state=self.state,
            instruments=BOOK,
            kill=kill or KillSwitches(),
            defaults=RiskLimits(),
            rules=Rules(enforce_hours=False, max_age_s=60),
            now=self.now,
            reserve=reserve,
        )

    @rule(
        strategy=st.sampled_from(STRATEGIES),
        symbol=st.sampled_from(SYMBOLS),
        side=st.sampled_from(TransactionType),
        quantity=st.integers(1, 30),
        fate=st.sampled_from(["stands", "stands", "taken back"]),
    )
    def signal(self, strategy: UUID, symbol: str, side: TransactionType, quantity: int, fate: str) -> None:
        before = self.counts()
        decision = self.decide(self.intent(strategy, symbol, side, quantity))
        assert decision.verdict is not None
        assert check([row_of(decision.verdict)]) == []
        if fate == "taken back":
            for approved in decision.approved:
                take_back(self.state, approved)
            assert self.counts() == before
            return
        grew = False
        for approved in decision.approved:
            request = approved.request
            new_id = order_id(request.intent_id, request.account_id, 0)
            self.orders[new_id] = an_order(
                id=new_id,
                account_id=request.account_id,
                strategy_id=strategy,
                symbol=symbol,
                transaction_type=side,
                quantity=quantity,
                created_at=self.now,
            )
            inputs = approved.verdict.inputs
            assert inputs is not None
            grew = grew or not (inputs.held * side.sign < 0 and quantity <= abs(inputs.held) - inputs.claimed)
        if not decision.approved:
            return
        recent = [o for o in self.orders.values() if self.now - o.created_at < timedelta(seconds=60)]
        assert len(recent) <= 9
        assert sum(o.account_id == ACCOUNTS[0] for o in recent) <= 3
        assert len(self.orders) <= 25
        assert sum(o.strategy_id == STRATEGIES[0] for o in self.orders.values()) <= 8
        if grew:
            assert len(self.occupied()) <= 5
            assert self.worst(symbol) * PRICE <= CAPITAL * len(ACCOUNTS) / 4
            if strategy == STRATEGIES[0]:
                assert self.worst(symbol, strategy=strategy) * PRICE <= CAPITAL * len(ACCOUNTS) / 5

    @rule(strategy=st.sampled_from(STRATEGIES), symbol=st.sampled_from(SYMBOLS), side=st.sampled_from(TransactionType))
    def halted(self, strategy: UUID, symbol: str, side: TransactionType) -> None:
        record = KillRecord(scope="global", version=1, state=KillState.BLOCKED, reason="r", actor="a", at=self.now)
        assert not self.decide(self.intent(strategy, symbol, side, 1), kill=KillSwitches([record])).approved

    @rule(
        strategy=st.sampled_from(STRATEGIES),
        symbol=st.sampled_from(SYMBOLS),
        side=st.sampled_from(TransactionType),
        quantity=st.integers(1, 30),
    )
    def tightened(self, strategy: UUID, symbol: str, side: TransactionType, quantity: int) -> None:
        intent = self.intent(strategy, symbol, side, quantity)
        tight = people()
        tight.put_limits(Limits(id=UUID(int=90), user_id=USER, account_id=None, limits=narrow(USER_LIMITS, TIGHTER)))
        loose = {a.account.id for a in self.decide(intent, reserve=False).approved}
        assert {a.account.id for a in self.decide(intent, reserve=False, directory=tight).approved} <= loose

    # what becomes of orders

    def live(self) -> list[Order]:
        return [order for order in self.orders.values() if not order.status.is_terminal]

    def put(self, order: Order) -> None:
        self.orders[order.id] = order
        self.state.track(order)

    @precondition(lambda self: self.live())
    @rule(pick=st.integers(0, 100), unknown=st.booleans())
    def send(self, pick: int, unknown: bool) -> None:
        order = self.live()[pick % len(self.live())]
        if order.status is S.PENDING:
            order, _ = move(order, S.SUBMITTING, at=self.now)
        if order.status is S.SUBMITTING:
            order, _ = move(order, S.UNKNOWN if unknown else S.OPEN, at=self.now)
        self.put(order)

    @precondition(lambda self: any(o.status in (S.OPEN, S.PARTIALLY_FILLED, S.UNKNOWN) for o in self.live()))
    @rule(pick=st.integers(0, 100), part=st.integers(1, 30))
    def fill(self, pick: int, part: int) -> None:
        working = [o for o in self.live() if o.status in (S.OPEN, S.PARTIALLY_FILLED, S.UNKNOWN)]
        order = working[pick % len(working)]
        quantity = min(part, order.remaining_quantity)
        key = key_of(order)
        self.held[key] = self.held.get(key, 0) + quantity * order.transaction_type.sign
        mine = (order.strategy_id or USER, key)
        self.owned[mine] = self.owned.get(mine, 0) + quantity * order.transaction_type.sign
        fill = a_fill(order.transaction_type, quantity, "100", account_id=order.account_id, symbol=order.symbol)
        self.state.apply_fill(fill)
        self.state.set_strategy_quantity(mine[0], key, self.owned[mine])
        filled = order.filled_quantity + quantity
        to = S.COMPLETE if filled == order.quantity else S.PARTIALLY_FILLED
        self.put(move(order, to, at=self.now, filled_quantity=filled)[0])

    @precondition(lambda self: self.live())
    @rule(pick=st.integers(0, 100), to=st.sampled_from([S.CANCELLED, S.REJECTED, S.EXPIRED]))
    def end(self, pick: int, to: OrderStatus) -> None:
        self.put(move(self.live()[pick % len(self.live())], to, at=self.now)[0])

    @rule(seconds=st.integers(1, 70))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def restart(self) -> None:
        positions = self.state.positions()
        self.state = self.new_state()
        for position in positions:
            self.state.set_position(position)
        for order in sorted(self.orders.values(), key=lambda o: o.created_at):
            self.state.count_order(order.account_id, order.created_at, order.strategy_id)
        for order in self.live():
            self.state.track(order)
        for (strategy, key), quantity in self.owned.items():
            self.state.set_strategy_quantity(strategy, key, quantity)

    # the model

    def occupied(self, strategy: UUID | None = None) -> set[Any]:
        owned = self.held if strategy is None else {k: q for (s, k), q in self.owned.items() if s == strategy}
        live = [o for o in self.live() if strategy in (None, o.strategy_id)]
        return {key for key, quantity in owned.items() if quantity} | {key_of(o) for o in live if o.remaining_quantity}

    def worst(self, symbol: str, *, strategy: UUID | None = None) -> int:
        total = 0
        owned = self.held if strategy is None else {k: q for (s, k), q in self.owned.items() if s == strategy}
        for account in ACCOUNTS:
            mine = [
                o
                for o in self.live()
                if (o.account_id, o.symbol) == (account, symbol) and strategy in (None, o.strategy_id)
            ]
            net = sum(quantity for key, quantity in owned.items() if (key[0], key[2]) == (account, symbol))
            buys = sum(o.remaining_quantity for o in mine if o.transaction_type is BUY)
            sells = sum(o.remaining_quantity for o in mine if o.transaction_type is SELL)
            total += max(abs(net + buys), abs(net - sells))
        return total

    def counts(self) -> Any:
        scopes = (None, *ACCOUNTS, *STRATEGIES)
        return (
            self.state.reserved_quantity(),
            [self.state.orders_in_minute(self.now, scope) for scope in scopes],
            [self.state.orders_in_day(TODAY, scope) for scope in scopes],
            [self.state.occupied_positions(scope) for scope in scopes],
            [self.state.exposures(scope) for scope in scopes],
        )

    @invariant()
    def state_agrees_with_the_model(self) -> None:
        state = self.state
        assert state.reserved_quantity() == sum(order.remaining_quantity for order in self.live())
        assert state.orders_in_day(TODAY) == len(self.orders)
        for strategy in (None, *STRATEGIES):
            assert state.occupied_positions(strategy) == len(self.occupied(strategy))
            found = state.exposures(strategy)
            for symbol in SYMBOLS:
                assert found.get((Exchange.NSE, symbol), 0) == self.worst(symbol, strategy=strategy)

    def teardown(self) -> None:
        for order in self.live():
            self.put(move(order, S.CANCELLED, at=self.now)[0])
        assert self.state.reserved_quantity() == 0
        assert self.state.occupied_positions() == self.state.open_positions()
        for strategy in STRATEGIES:
            assert self.state.occupied_positions(strategy) == self.state.open_positions(strategy)


TestLimitsMachine = LimitsMachine.TestCase
TestLimitsMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
