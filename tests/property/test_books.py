"""The books of a position add up to it, whatever comes in whatever order; and so does what they made."""

from collections import Counter
from datetime import date, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.actors.book_desk import BookDesk
from engine.domain.books import HAND, Book, Books, closable
from engine.domain.position import apply_fill, at_close, m2m, realised, roll_day, undo_fill, unrealised, with_last_price
from engine.domain.risk_state import RiskState
from engine.store.books import book_of, rows_of, scope_name, scope_of, write_books
from tests.support.trade import ACCOUNT, BUY, NOW, OTHER_ACCOUNT, SELL, TODAY, a_fill, a_position

ACCOUNTS = (ACCOUNT, OTHER_ACCOUNT)
OWNERS = (UUID(int=41), UUID(int=42), None)
prices = st.integers(1900, 2100).map(lambda paise: Decimal(paise) / 20)
sides = st.sampled_from([BUY, SELL])


class Accounts(RuleBasedStateMachine):
    """Two accounts at a broker, the desks that keep their books, and the risk state that is told of them."""

    def __init__(self) -> None:
        super().__init__()
        self.day: date = TODAY
        self.owner_of: dict[UUID, UUID | None] = {}
        self.net = {account: a_position(account_id=account) for account in ACCOUNTS}
        self.desks = {account: self.fresh() for account in ACCOUNTS}
        self.state = RiskState(TODAY)
        self.fills: list = []
        self.stand_ins: list = []
        self.trips: list = []

    def fresh(self) -> BookDesk:
        desk = BookDesk(owner_of=lambda order_id: self.owner_of[order_id])
        desk.restore((), (), (), self.day)
        return desk

    def book(self, account: UUID, fills, dropped=()) -> None:
        for fill in fills:
            self.net[account] = with_last_price(apply_fill(self.net[account], fill), fill.price)
        booking = self.desks[account].work_out(fills, dropped, {self.net[account].key: self.net[account]})
        self.desks[account].settle(booking)
        self.fills += fills
        self.trips += booking.trips
        self.state.take_positions((self.net[account],), booking.books, booking.trips)

    def fill(self, account, owner, side, quantity, price, **fields):
        number = len(self.owner_of) + 1
        order_id = UUID(int=1000 + number)
        self.owner_of[order_id] = owner
        at = NOW + timedelta(seconds=number)
        return a_fill(
            side,
            quantity,
            str(price),
            account_id=account,
            order_id=order_id,
            broker_order_id=str(number),
            filled_at=at,
            **fields,
        )

    @rule(
        account=st.sampled_from(ACCOUNTS),
        owner=st.sampled_from(OWNERS),
        side=sides,
        quantity=st.integers(1, 30),
        price=prices,
    )
    def trade(self, account, owner, side, quantity, price) -> None:
        self.book(account, [self.fill(account, owner, side, quantity, price)])

    @rule(
        account=st.sampled_from(ACCOUNTS),
        owner=st.sampled_from(OWNERS),
        side=sides,
        quantity=st.integers(1, 30),
        price=prices,
    )
    def stand_in(self, account, owner, side, quantity, price) -> None:
        fill = self.fill(account, owner, side, quantity, price, synthetic=True)
        self.book(account, [fill])
        self.stand_ins.append(fill)

    @precondition(lambda self: self.stand_ins)
    @rule(price=prices)
    def trade_shows(self, price) -> None:
        old = self.stand_ins.pop()
        new = msgspec.structs.replace(old, trade_id="2", price=price, synthetic=False)
        self.net[old.account_id] = undo_fill(self.net[old.account_id], old)
        self.book(old.account_id, [new], [old])

    @rule(
        account=st.sampled_from(ACCOUNTS), quantity=st.integers(-40, 40), overnight=st.integers(-20, 20), close=prices
    )
    def adopt(self, account, quantity, overnight, close) -> None:
        ours = self.net[account]
        theirs = a_position(
            account_id=account,
            quantity=quantity,
            overnight_quantity=overnight,
            buy_quantity=max(quantity, 0),
            buy_value=max(quantity, 0) * close,
            sell_quantity=max(-quantity, 0),
            sell_value=max(-quantity, 0) * close,
            close_price=close,
            last_price=ours.last_price,
        )
        before = self.state.figures()
        books = self.desks[account].adopted(ours if ours.last_price else None, theirs)
        for book in books:
            self.desks[account].put(book)
        self.net[account] = theirs
        self.state.take_positions((theirs,), books)
        after = self.state.figures()
        assert (after.charges, after.trades) == (before.charges, before.trades), "no trade of the day"
        if ours.last_price and ours.overnight_quantity == overnight:
            assert after.net == before.net, "taking over the broker's figure earns nothing"

    @rule(account=st.sampled_from(ACCOUNTS))
    def deliver(self, account) -> None:
        ours = self.net[account]
        held = sum(book.position.overnight_quantity for book in self.desks[account].books.of(ours.key).values())
        theirs = msgspec.structs.replace(ours, quantity=ours.quantity - held, overnight_quantity=0)
        before = self.state.figures()
        books = self.desks[account].delivered(ours, theirs)
        for book in books:
            self.desks[account].put(book)
        self.net[account] = theirs
        self.state.take_positions((theirs,), books)
        assert self.state.figures().net == before.net

    @rule(price=prices)
    def price(self, price) -> None:
        self.state.set_price(a_position().exchange, "INFY", price)
        for account in ACCOUNTS:
            self.net[account] = with_last_price(self.net[account], price)
            self.desks[account].mark(self.net[account].key, price)

    @rule()
    def turn_of_the_day(self) -> None:
        self.day += timedelta(days=1)
        self.stand_ins.clear()
        self.trips.clear()
        self.state.roll_day(self.day)
        for account, desk in self.desks.items():
            rolled = desk.roll_day(self.day)
            self.net[account] = roll_day(self.net[account], self.net[account].last_price)
            self.state.take_positions((self.net[account],), rolled)
            hand = self.state.book_quantity(None, self.net[account].key)
            against = [self.state.book_quantity(owner, self.net[account].key) * hand for owner in OWNERS]
            assert min(against) >= 0, "what the hand closed is closed"
        figures = self.state.figures()
        assert (figures.net, figures.charges, figures.peak, figures.trades) == (0, 0, 0, 0)

    @rule()
    def restart(self) -> None:
        before = self.state.pnl.all_figures()
        kept = []
        for account, desk in self.desks.items():
            mine = desk.books.all()
            rows = rows_of(write_books(mine, day=self.day, at=NOW)) if mine else []
            kept += [book_of(row) for row in rows]
            again = self.fresh()
            live = [fill for fill in self.fills if fill in self.stand_ins]
            mended = again.restore(
                [(b, self.day) for b in kept if b.key[0] == account],
                live,
                [self.net[account]] if mine else [],
                self.day,
            )
            assert not mended
            self.desks[account] = again
        self.state = RiskState(self.day)
        self.state.take_positions(self.net.values() if kept else (), kept, self.trips)
        for part, figures in before.items():
            self.state.pnl.set_peak(scope_of(scope_name(part)), figures.peak)
        assert self.state.pnl.all_figures() == before

    @invariant()
    def books_add_up_to_the_position(self) -> None:
        for account, desk in self.desks.items():
            key = self.net[account].key
            assert desk.books.quantity(key) == self.net[account].quantity
            assert {b.owner: b for b in desk.books.all()} == {
                b.owner: b for b in self.state.pnl.books.of(key).values() if b.owner in desk.books.of(key)
            }

    @invariant()
    def parts_add_up_to_the_whole(self) -> None:
        pnl = self.state.pnl
        owners = [owner or HAND for owner in OWNERS]
        for name in ("net", "charges", "realised", "unrealised", "trades"):
            whole = getattr(pnl.figures(), name)
            assert whole == sum(getattr(pnl.figures(account), name) for account in ACCOUNTS)
            assert whole == sum(getattr(pnl.figures(owner), name) for owner in owners)
            for account in ACCOUNTS:
                cells = [getattr(pnl.figures((account, owner)), name) for owner in owners]
                assert getattr(pnl.figures(account), name) == sum(cells)
        figures = pnl.figures()
        assert figures.peak >= max(figures.net, 0)
        assert figures.trades == len(self.trips)
        assert self.state.day_pnl() == figures.net

    @invariant()
    def exits_close_no_more_than_is_there(self) -> None:
        for account, desk in self.desks.items():
            key = self.net[account].key
            held = {owner: self.state.book_quantity(owner, key) for owner in OWNERS}
            may = {owner: closable(desk.books, owner, key) for owner in OWNERS}
            for owner in OWNERS:
                assert 0 <= may[owner] <= held[owner] or held[owner] <= may[owner] <= 0
            ours = {owner: may[owner] for owner in OWNERS if owner is not None}
            if all(quantity >= 0 for owner, quantity in held.items() if owner is not None):
                assert sum(ours.values()) <= max(self.net[account].quantity, 0) or held[None] > 0


Accounts.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestBooksOfAccounts = Accounts.TestCase


@given(
    overnight=st.integers(-20, 20),
    close=prices,
    last=prices,
    trades=st.lists(st.tuples(sides, st.integers(1, 20), prices), max_size=5),
)
def test_parts_of_the_day_add_up_to_the_brokers_mark(overnight, close, last, trades) -> None:
    position = roll_day(
        a_position(
            quantity=overnight, buy_quantity=20, buy_value=Decimal(2000), sell_quantity=20, sell_value=Decimal(2100)
        ),
        close,
    )
    for side, quantity, price in trades:
        position = apply_fill(position, a_fill(side, quantity, str(price)))
    position = with_last_price(position, last)
    of_today = at_close(position)
    assert abs(realised(of_today) + unrealised(of_today) - m2m(position)) < Decimal("1e-15")


def test_person_who_sells_a_strategys_shares_leaves_it_nothing_to_sell() -> None:
    one, two = OWNERS[0], OWNERS[1]
    books = Books()
    for owner, quantity in ((one, 10), (two, 5), (None, -12)):
        books.put(Book(position=a_position(quantity=quantity, strategy_id=owner)))
    key = a_position().key
    assert Counter({owner: closable(books, owner, key) for owner in OWNERS}) == Counter({one: 0, two: 3, None: 0})


def test_strategies_that_hold_against_each_other_close_their_own() -> None:
    books = Books()
    for owner, quantity in ((OWNERS[0], 10), (OWNERS[1], -10)):
        books.put(Book(position=a_position(quantity=quantity, strategy_id=owner)))
    key = a_position().key
    assert [closable(books, owner, key) for owner in OWNERS] == [10, -10, 0]
