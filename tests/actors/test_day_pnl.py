"""The day's profit and loss as the actors keep it: whose it is, what it cost, over restarts and without prices."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest
import trio

from engine.actors import day_keeper
from engine.actors.capital_keeper import CapitalKeeper
from engine.actors.intake import Passage
from engine.actors.prices import Prices
from engine.actors.registrar import Registrar
from engine.actors.risk_messages import PositionsChanged
from engine.broker.base import BrokerAuthError, BrokerMargins, RefusalCode
from engine.broker.values import MarginSegment
from engine.clock import trading_day
from engine.domain.books import HAND, RoundTrip
from engine.domain.enums import AccountStatus, CapitalFrom, Exchange, ProductType
from engine.errors import BrokerUnavailable
from engine.store.books import scope_name, scope_of
from tests.support.desk import World, a_delivery, crashed, running
from tests.support.trade import ACCOUNT, BUY, SELL, STRATEGY, USER, a_position

INFY = a_position().key


@pytest.fixture
async def world(autojump_clock):
    return World()


async def fill(world, side, quantity, price, *, symbol="INFY", **fields):
    """Send an order and have it filled."""
    before = world.held(symbol)
    order = world.order(symbol, quantity=quantity, transaction_type=side, **fields)
    world.submit(order)
    await world.until(lambda: bool(world.row(order).broker_order_id) if order.id in world.store.orders else False)
    world.broker.fill(world.row(order).broker_order_id, quantity, price)
    await world.until(lambda: world.held(symbol) == before + quantity * side.sign)
    return order


def state(world):
    return world.crew.risk(USER).state


async def test_fills_go_into_the_book_of_their_strategy_net_of_charges_and_a_restart_changes_nothing(
    world, autojump_clock
):
    async with running(world) as run:
        await fill(world, BUY, 10, "100")
        await fill(world, SELL, 4, "103", strategy_id=None)
        await trio.sleep(8)
        figures = state(world).pnl.all_figures()
        assert state(world).book_quantity(STRATEGY, INFY) == 10
        assert state(world).book_quantity(None, INFY) == -4
        assert figures[None, None].charges > 0
        assert figures[None, None].net == state(world).day_pnl() == state(world).day_pnl(ACCOUNT)
        assert figures[None, None].net == figures[None, STRATEGY].net + figures[None, HAND].net
        await run.restart_risk()
        await world.until(lambda: world.crew.risk(USER).is_ready)
        await trio.sleep(2)
        assert state(world).pnl.all_figures() == figures
        await run.restart_executor()
        await world.until(lambda: world.executor.is_ready)
        await trio.sleep(2)
        assert state(world).pnl.all_figures() == figures


async def test_day_goes_on_after_the_engine_died(world, autojump_clock):
    async with running(world):
        await fill(world, BUY, 10, "100")
        state(world).set_price(Exchange.NSE, "INFY", Decimal(150))
        state(world).set_price(Exchange.NSE, "INFY", Decimal(100))
        peak = state(world).figures().peak
        assert peak > 499
        await fill(world, SELL, 10, "98")
        await trio.sleep(8)
        figures = state(world).pnl.all_figures()
        assert (figures[None, STRATEGY].trades, figures[None, STRATEGY].losing_streak) == (1, 1)
    after = await crashed(world)
    async with running(after):
        await after.until(lambda: after.crew.risk(USER).is_ready)
        assert state(after).pnl.all_figures() == figures
        assert state(after).figures(STRATEGY).last_loss_at == figures[None, STRATEGY].last_loss_at


async def test_trade_by_hand_at_the_broker_is_the_hands(world, autojump_clock):
    async with running(world):
        await fill(world, BUY, 10, "100")
        before = state(world).figures().net
        world.broker.overnight[("INFY", "NRML")] = 30
        await world.until(lambda: state(world).book_quantity(None, (*INFY[:3], ProductType.NRML)) == 30)
        figures = state(world).figures(HAND)
        assert (figures.realised, figures.charges, figures.trades) == (0, 0, 0)
        assert state(world).figures().net == before
        assert state(world).book_quantity(STRATEGY, INFY) == 10


async def test_price_that_nobody_confirms_is_told_once_and_once_that_it_is_back(world, autojump_clock):
    async with running(world):
        await fill(world, BUY, 10, "100")
        await trio.sleep(60)
        told = [text for _, text in world.alerts if text.startswith("PRICE_")]
        assert not told, "an unchanged price is no old one"
        silent_since = world.clock.now()
        world.confirmed["NSE:INFY"] = world.clock.boottime_ns()
        await trio.sleep(14)
        assert state(world).figures().stale_since is None
        await trio.sleep(3)
        since = state(world).figures(STRATEGY).stale_since
        assert since is not None
        assert abs(since - silent_since) < timedelta(seconds=2)
        assert state(world).day_pnl() == state(world).figures().net, "the last price stands"
        await trio.sleep(60)
        del world.confirmed["NSE:INFY"]
        await trio.sleep(60)
        assert state(world).figures().stale_since is None
        told = [text.split(":")[0] for subject, text in world.alerts if text.startswith("PRICE_")]
        assert told == ["PRICE_STALE", "PRICE_FRESH"]
        assert any("NSE:INFY" in text for _, text in world.alerts)


async def test_price_is_missed_only_while_the_exchange_is_open(autojump_clock):
    world = World()
    world.clock._start = datetime(2026, 11, 18, 9, 59, 30, tzinfo=UTC)  # 15:29:30 IST
    rules = msgspec.structs.replace(world.risk_context.rules, enforce_hours=True)
    world.risk_context = msgspec.structs.replace(world.risk_context, rules=rules)
    async with running(world):
        await fill(world, BUY, 10, "100")
        world.confirmed["NSE:INFY"] = world.clock.boottime_ns()
        await trio.sleep(20)
        assert state(world).figures().stale_since is not None
        await trio.sleep(30)
        assert state(world).figures().stale_since is None


async def test_what_a_day_came_to_is_kept_when_it_ends(world, autojump_clock):
    world.clock._start = datetime(2026, 11, 18, 18, 29, tzinfo=UTC)  # 23:59 IST
    async with running(world):
        await fill(world, BUY, 10, "100")
        await fill(world, SELL, 10, "105")
        charges = state(world).figures().charges
        await trio.sleep(120)
        rows = {scope: row for (user, day, scope), row in world.store.results.items() if day.day == 18}
        assert {"user", f"account:{ACCOUNT}", f"strategy:{STRATEGY}"} <= rows.keys()
        row = rows["user"]
        assert (row["realised"], row["charges"], row["trades"], row["capital"]) == (50, charges, 1, 1_000_000)
        figures = state(world).figures()
        assert (figures.net, figures.charges, figures.peak, figures.trades) == (0, 0, 0, 0)


async def test_loss_limit_counts_charges(autojump_clock):
    world = World(limits={"max_daily_loss_amount": Decimal("0.30")})
    async with running(world):
        await fill(world, BUY, 10, "100")
        assert state(world).figures().realised + state(world).figures().unrealised == 0
        passage = Passage(a_delivery(world), world.kill.turn)
        world.crew.decide(passage)
        await passage.wait_settled()
        (intent,) = passage.intents.values()
        assert intent.reason.startswith("MAX_DAILY_LOSS_AMOUNT")


async def test_quiet_price_that_is_polled_stays_confirmed(autojump_clock):
    world = World()

    async def broker():
        return world.broker

    prices = Prices(any_broker=broker, clock=world.clock)
    world.broker.last_price = Decimal(100)
    prices.watch("NSE:INFY")
    async with trio.open_nursery() as nursery:
        await nursery.start(prices.run)
        for _ in range(30):
            await trio.sleep(2)
            age_ns = world.clock.boottime_ns() - (prices.confirmed_ns("NSE:INFY") or 0)
            assert age_ns < 8_000_000_000
        prices.tick("NSE:INFY", Decimal(101))
        await trio.sleep(100)
        assert prices.confirmed_ns("NSE:INFY") == world.clock.boottime_ns(), "a ticker tells what changes"
        prices.lost()
        world.broker.last_price = Decimal(0)
        await trio.sleep(30)
        assert world.clock.boottime_ns() - (prices.confirmed_ns("NSE:INFY") or 0) >= 29_000_000_000
        nursery.cancel_scope.cancel()


class Margins:
    """A broker that says what the margins are, or fails; its own sessions."""

    def __init__(self) -> None:
        self.answer: BrokerMargins | Exception = BrokerUnavailable("down")

    async def open(self, account_id: UUID) -> "Margins":
        return self

    async def margins(self) -> BrokerMargins:
        await trio.sleep(0.1)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def margins(equity, commodity=0, *, used=0):
    return BrokerMargins(
        equity=MarginSegment(available=Decimal(equity), used=Decimal(used), net=Decimal(equity - used)),
        commodity=MarginSegment(available=Decimal(commodity), enabled=commodity > 0),
    )


async def test_capital_is_read_off_the_margins_and_stays_when_they_cannot_be_read(world, autojump_clock):
    account = world.directory.accounts[ACCOUNT]
    asked = msgspec.structs.replace(account, capital=Decimal(0), capital_from=CapitalFrom.BROKER)
    world.directory.put_account(asked)
    stated = UUID(int=9)
    world.directory.put_account(msgspec.structs.replace(account, id=stated))
    broker, refused = Margins(), []
    registrar = Registrar(directory=world.directory, vault=None, ledger=world.ledger, clock=world.clock)
    keeper = CapitalKeeper(
        directory=world.directory,
        sessions=broker,
        registrar=registrar,
        session_refused=lambda account_id, _broker, error: refused.append((account_id, error.code)),
    )

    def held():
        return world.directory.accounts[ACCOUNT]

    async with running(world), trio.open_nursery() as nursery:
        await nursery.start(keeper.run)
        await trio.sleep(1)
        assert (held().capital, held().capital_read_at) == (0, None)
        broker.answer = margins(200_000, 50_000, used=120_000)
        keeper.look_soon()
        await trio.sleep(1)
        assert held().capital == 250_000, "what is used is capital still"
        read_at = held().capital_read_at
        for failure in (BrokerUnavailable("500"), margins(0)):
            broker.answer = failure
            await trio.sleep(400)
            assert (held().capital, held().capital_read_at) == (250_000, read_at)
        broker.answer = margins(300_000)
        await trio.sleep(200)
        assert held().capital == 300_000
        assert [w.args[:2] for w in world.store.writes if w.sql.startswith("UPDATE kite_accounts SET capital")] == [
            (ACCOUNT, 250_000),
            (ACCOUNT, 300_000),
        ]
        broker.answer = BrokerAuthError("gone", RefusalCode.TOKEN_DEAD)
        await trio.sleep(200)
        assert refused
        assert refused[0] == (ACCOUNT, RefusalCode.TOKEN_DEAD)
        world.directory.put_account(msgspec.structs.replace(held(), status=AccountStatus.LOGIN_REQUIRED))
        count = len(refused)
        await trio.sleep(400)
        assert len(refused) == count, "nobody is logged in: not asked"
        assert world.directory.accounts[stated].capital == 1_000_000
        nursery.cancel_scope.cancel()


async def test_trip_that_was_told_before_a_restart_counts_once(autojump_clock):
    world = World()
    trip = RoundTrip(
        account_id=ACCOUNT,
        strategy_id=STRATEGY,
        exchange=Exchange.NSE,
        symbol="INFY",
        product_type=ProductType.MIS,
        result=Decimal(-10),
        charges=Decimal(1),
        ended_at=world.clock.now(),
    )
    async with running(world) as run:
        actor = world.crew.risk(USER)
        await world.until(lambda: actor.is_ready)
        # on disk, and told while the life that hears of it is ending
        held = a_position(quantity=0)
        world.store.positions[held.key] = (held, world.clock.now().date())
        world.store.trips.append((trip, trading_day(world.clock.now())))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run.restart_risk)
            await trio.lowlevel.checkpoint()
            while actor.is_ready:
                await trio.lowlevel.checkpoint()
            actor.tell(PositionsChanged(positions=(), trips=(trip,)))
        await world.until(lambda: actor.is_ready)
        await trio.sleep(1)
        assert actor.state.figures(ACCOUNT).trades == 1


async def test_what_the_day_has_come_to_is_kept_whole_though_only_a_few_changed_rows_go_at_once(
    world, autojump_clock, monkeypatch
):
    monkeypatch.setattr(day_keeper, "_MOST_WIDE", 1)
    monkeypatch.setattr(day_keeper, "_MOST_NARROW", 1)
    async with running(world):
        await fill(world, BUY, 10, "100")
        await fill(world, BUY, 5, "100", symbol="SBIN", strategy_id=None)
        await trio.sleep(120)
        for price in (150, 90, 120):
            for symbol in ("INFY", "SBIN"):
                world.prices[f"NSE:{symbol}"] = Decimal(price)
                state(world).set_price(Exchange.NSE, symbol, Decimal(price))
            await trio.sleep(120)
        figures = state(world).pnl.all_figures()
        assert len(figures) > 4
        kept = {row["scope"]: row for row in world.store.results.values()}
        assert {scope_of(scope) for scope in kept} == set(figures)
        for part, of in figures.items():
            row = kept[scope_name(part)]
            assert (row["realised"], row["unrealised"], row["charges"]) == (of.realised, of.unrealised, of.charges)
            assert (row["peak"], row["trades"]) == (of.peak, of.trades)


async def test_row_of_the_day_that_did_not_change_is_not_written_again(world, autojump_clock):
    async with running(world):
        await fill(world, BUY, 10, "100")
        await fill(world, BUY, 5, "100", symbol="SBIN", strategy_id=None)
        await trio.sleep(130)
        at = {scope_of(row["scope"]): row["updated_at"] for row in world.store.results.values()}
        world.prices["NSE:INFY"] = Decimal(150)
        state(world).set_price(Exchange.NSE, "INFY", Decimal(150))
        await trio.sleep(130)
        now = {scope_of(row["scope"]): row["updated_at"] for row in world.store.results.values()}
        assert {part for part in at if now[part] != at[part]} == {
            *((None, None), (ACCOUNT, None), (None, STRATEGY), (ACCOUNT, STRATEGY)),
        }
