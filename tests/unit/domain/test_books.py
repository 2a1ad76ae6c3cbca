"""The day's profit and loss against figures worked out by hand, charges of the rates of November 2026 included."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from engine.actors.book_desk import BookDesk
from engine.domain.books import HAND
from engine.domain.enums import Exchange, ProductType
from engine.domain.position import Position, apply_fill, average_price, roll_day, undo_fill, with_last_price
from engine.domain.risk_state import RiskState
from tests.support.trade import ACCOUNT, BUY, NOW, OTHER_ACCOUNT, SELL, STRATEGY, TODAY, a_fill, a_position


class Account:
    """One account: its net positions, its books, and the risk state that is told of them."""

    def __init__(self) -> None:
        self.state = RiskState(TODAY)
        self.net: dict[Any, Position] = {}
        self.owner_of: dict[UUID, UUID | None] = {}
        self.desk = BookDesk(owner_of=self.owner_of.__getitem__)
        self.desk.restore((), (), (), TODAY)
        self.count = 0

    def order(self, side, *trades, owner=STRATEGY, dropped=(), order=None, **fields):
        """Fill one order in *trades* (quantity, price), each told by itself; return its fills."""
        self.count += 1
        number = order or self.count
        self.owner_of[UUID(int=number)] = owner
        fills = []
        for index, (quantity, price) in enumerate(trades):
            fill = a_fill(
                side,
                quantity,
                price,
                order_id=UUID(int=number),
                broker_order_id=str(number),
                trade_id=f"{self.count}-{index}",
                filled_at=NOW + timedelta(seconds=self.count),
                **fields,
            )
            fills.append(fill)
            self.book([fill], dropped)
        return fills

    def book(self, fills, dropped=()) -> None:
        changed = {}
        for fill in (*dropped, *fills):
            key = (fill.account_id, fill.exchange, fill.symbol, fill.product_type)
            before = self.net.get(key) or Position(
                account_id=key[0], exchange=key[1], symbol=key[2], product_type=key[3]
            )
            after = undo_fill(before, fill) if fill in dropped else apply_fill(before, fill)
            self.net[key] = changed[key] = with_last_price(after, fill.price)
        booking = self.desk.work_out(fills, dropped, changed)
        self.desk.settle(booking)
        self.state.take_positions(changed.values(), booking.books, booking.trips)

    def adopt(self, theirs) -> None:
        books = self.desk.adopted(self.net.get(theirs.key), theirs)
        for book in books:
            self.desk.put(book)
        self.net[theirs.key] = theirs
        self.state.take_positions((theirs,), books)


def test_intraday_round_trip_costs_what_the_contract_note_says() -> None:
    account = Account()
    account.order(BUY, (100, "1500"))
    # 20 brokerage, 4.605 exchange, 0.15 SEBI, 5 stamp duty, 18 % GST on the first three: 4.4559
    assert account.state.figures().charges == Decimal("34.2109")
    assert account.state.day_pnl() == Decimal("-34.2109")
    account.order(SELL, (100, "1510"))
    figures = account.state.figures(STRATEGY)
    # and 20, 4.6357, 0.151, 37.75 STT, 4.461606
    assert figures.charges == Decimal("101.209206")
    assert (figures.realised, figures.unrealised, figures.net) == (1000, 0, Decimal("898.790794"))
    assert (figures.trades, figures.losing_streak, figures.peak) == (1, 0, Decimal("898.790794"))


def test_order_in_three_trades_costs_one_brokerage() -> None:
    account = Account()
    account.order(BUY, (40, "1500"), (40, "1500"), (20, "1500"))
    assert account.state.figures().charges == Decimal("34.2109")


def test_option_written_and_bought_back() -> None:
    account = Account()
    contract = {"exchange": Exchange.NFO, "symbol": "NIFTY26N2424000CE", "product_type": ProductType.NRML}
    account.order(SELL, (75, "120"), **contract)
    # 20, 3.1977, 0.009, 13.50 STT, 4.177206
    assert account.state.figures().charges == Decimal("40.883906")
    account.state.set_price(Exchange.NFO, contract["symbol"], Decimal(130))
    assert account.state.figures().unrealised == -750
    account.order(BUY, (75, "80"), **contract)
    # and 20, 2.1318, 0.006, no stamp duty below 50 paise, 3.984804
    assert account.state.figures().net == 3000 - Decimal("40.883906") - Decimal("26.122604")


def test_short_that_loses_only_by_its_charges_is_a_loss() -> None:
    account = Account()
    account.order(SELL, (100, "1500"))
    account.order(BUY, (100, "1499.90"))
    figures = account.state.figures()
    assert figures.realised == 10
    assert (figures.trades, figures.losing_streak) == (1, 1)
    assert figures.last_loss_at == NOW + timedelta(seconds=2)
    account.order(BUY, (100, "1500"))
    account.order(SELL, (100, "1510"))
    assert (account.state.figures().trades, account.state.figures().losing_streak) == (2, 0)


def test_what_was_carried_over_the_night_is_measured_from_the_close() -> None:
    account = Account()
    account.order(BUY, (10, "100"), product_type=ProductType.NRML)
    account.state.set_price(Exchange.NSE, "INFY", Decimal(110))
    account.desk.mark(next(iter(account.net)), Decimal(110))
    key, position = next(iter(account.net.items()))
    tomorrow = TODAY + timedelta(days=1)
    account.state.roll_day(tomorrow)
    rolled = account.desk.roll_day(tomorrow)
    account.net[key] = roll_day(with_last_price(position, Decimal(110)), Decimal(110))
    account.state.take_positions((account.net[key],), rolled)
    assert account.state.figures() == account.state.figures(STRATEGY)
    assert account.state.figures().net == 0
    account.state.set_price(Exchange.NSE, "INFY", Decimal(105))
    assert (account.state.figures().realised, account.state.figures().unrealised) == (0, -50)
    account.order(SELL, (10, "108"), product_type=ProductType.NRML)
    figures = account.state.figures()
    assert (figures.realised, figures.unrealised) == (-20, 0)
    assert (figures.trades, figures.losing_streak) == (1, 0), "the trip as a whole, from 100, has won"


def test_book_that_turns_over_has_ended_one_trip_and_begun_another() -> None:
    account = Account()
    account.order(BUY, (10, "100"))
    account.order(SELL, (15, "90"))
    figures = account.state.figures()
    assert (figures.trades, figures.losing_streak) == (1, 1)
    account.order(BUY, (5, "80"))
    assert (account.state.figures().trades, account.state.figures().losing_streak) == (2, 0)
    assert account.state.figures().realised == -50


def test_trades_in_place_of_what_stood_in_end_a_trip_once() -> None:
    account = Account()
    account.order(BUY, (10, "100"))
    (stood_in,) = account.order(SELL, (10, "104"), synthetic=True)
    assert account.state.figures().trades == 1
    trade = msgspec.structs.replace(stood_in, trade_id="real", price=Decimal(105), synthetic=False)
    account.book([trade], [stood_in])
    figures = account.state.figures()
    assert (figures.trades, figures.realised) == (1, 50)
    (book,) = account.desk.books.all()
    assert (book.position.quantity, book.trip_value, book.trip_charges) == (0, 0, 0)


def test_hand_trades_and_two_strategies_have_books_of_their_own() -> None:
    account, other = Account(), UUID(int=44)
    account.order(BUY, (10, "100"))
    account.order(SELL, (10, "102"), owner=other)
    account.order(BUY, (3, "101"), owner=None)
    state, key = account.state, a_position().key
    assert [state.book_quantity(owner, key) for owner in (STRATEGY, other, None)] == [10, -10, 3]
    assert [state.figures(scope).unrealised for scope in (STRATEGY, other, HAND)] == [10, 10, 0]
    # bought 13 for 1303, sold 10 for 1020, holds 3 at 101
    assert state.figures().realised + state.figures().unrealised == 20
    assert state.position(key).quantity == 3
    assert state.figures((ACCOUNT, other)) == state.figures(other)
    assert state.figures(OTHER_ACCOUNT).net == 0


def test_adopting_the_brokers_row_neither_earns_nor_forgets_a_loss() -> None:
    account = Account()
    account.order(BUY, (100, "100"))
    account.order(SELL, (60, "90"))
    before = account.state.figures()
    assert before.realised == -600
    # the row is gone at the broker, with what was lost by it
    account.adopt(a_position(last_price=Decimal(90)))
    after = account.state.figures()
    assert after.net == before.net
    assert (after.charges, after.trades, after.losing_streak) == (before.charges, 0, 0)
    assert account.state.book_quantity(STRATEGY, a_position().key) == 40
    assert account.state.book_quantity(None, a_position().key) == -40
    assert account.state.closable(STRATEGY, a_position().key) == 0


def test_what_the_broker_carried_over_the_night_makes_what_it_made_since_the_close() -> None:
    account = Account()
    account.adopt(
        a_position(
            quantity=-10,
            overnight_quantity=-10,
            sell_quantity=10,
            sell_value=Decimal(2000),
            close_price=Decimal(150),
            last_price=Decimal(155),
        )
    )
    figures = account.state.figures(HAND)
    assert (figures.realised, figures.unrealised, figures.trades) == (0, -50, 0)


def test_shares_that_came_without_a_price_are_worth_no_profit() -> None:
    account = Account()
    account.adopt(a_position(quantity=10, buy_quantity=10, buy_value=Decimal(0), last_price=Decimal(100)))
    assert account.state.figures().net == 0
    odd = a_position(quantity=10)
    assert average_price(odd) == 0


def test_what_the_broker_squared_off_is_nobodys_on_the_next_day() -> None:
    account, other = Account(), UUID(int=44)
    account.order(BUY, (10, "100"))
    account.order(SELL, (4, "100"), owner=other)
    account.order(SELL, (6, "101"), owner=None)
    key = a_position().key
    assert [account.state.closable(owner, key) for owner in (STRATEGY, other, None)] == [4, -4, 0]
    account.state.roll_day(TODAY + timedelta(days=1))
    rolled = account.desk.roll_day(TODAY + timedelta(days=1))
    assert [account.state.book_quantity(owner, key) for owner in (STRATEGY, other, None)] == [0, 0, 0]
    assert not any(book.position.quantity for book in rolled)


def test_what_a_person_closed_of_a_strategys_is_not_the_strategys_on_the_next_day() -> None:
    account, nrml = Account(), {"product_type": ProductType.NRML}
    account.order(BUY, (10, "100"), **nrml)
    account.order(SELL, (4, "110"), owner=None, **nrml)
    account.state.roll_day(TODAY + timedelta(days=1))
    key = a_position(**nrml).key
    assert [account.state.book_quantity(owner, key) for owner in (STRATEGY, None)] == [6, 0]
    account.state.set_price(Exchange.NSE, "INFY", Decimal(111))
    assert (account.state.figures(STRATEGY).net, account.state.figures(HAND).net) == (6, 0)


def test_shares_that_went_to_the_demat_account_leave_the_book_of_whoever_bought_them() -> None:
    account, cnc = Account(), {"product_type": ProductType.CNC}
    account.order(BUY, (10, "100"), **cnc)
    key = a_position(**cnc).key
    account.state.roll_day(TODAY + timedelta(days=1))
    account.state.take_positions((), account.desk.roll_day(TODAY + timedelta(days=1)))
    account.net[key] = roll_day(account.net[key], Decimal(100))
    account.state.set_price(Exchange.NSE, "INFY", Decimal(95))
    account.desk.mark(key, Decimal(95))
    books = account.desk.delivered(account.net[key], a_position(**cnc, last_price=Decimal(95)))
    account.state.take_positions((), books)
    assert [account.state.book_quantity(owner, key) for owner in (STRATEGY, None)] == [0, 0]
    assert account.state.figures(STRATEGY).net == -50, "what it lost since the close stays lost"


def test_peak_is_of_prices_that_stood_together() -> None:
    """Long in one strategy and short in another: a price that moves both makes no profit, not for a moment."""
    account, other = Account(), UUID(int=44)
    account.order(BUY, (10, "100"))
    account.order(SELL, (10, "100"), owner=other)
    account.state.set_price(Exchange.NSE, "INFY", Decimal(200))
    assert account.state.figures().peak == 0
    assert account.state.figures(STRATEGY).peak > 900
    account.state.set_price(Exchange.NSE, "INFY", Decimal(100))
    assert account.state.figures(STRATEGY).drawdown == 1000


def test_position_without_a_price_is_stale_in_every_scope_that_holds_it() -> None:
    account = Account()
    account.order(BUY, (10, "100"))
    account.order(BUY, (10, "100"), owner=None, symbol="SBIN")
    account.state.pnl.set_stale(Exchange.NSE, "INFY", NOW)
    stale = [account.state.figures(scope).stale_since for scope in (None, ACCOUNT, STRATEGY, HAND)]
    assert stale == [NOW, NOW, NOW, None]
    account.state.pnl.set_stale(Exchange.NSE, "INFY", None)
    assert account.state.figures().stale_since is None
