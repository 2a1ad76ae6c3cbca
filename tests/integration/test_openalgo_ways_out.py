"""cancelallorder and closeposition when the broker does not do what is asked: no success is said of it."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from engine.actors.cancel_all import CancelledOrder, Ended
from engine.domain.enums import Exchange, OrderStatus, OrderType, ProductType, TransactionType
from engine.domain.flatten import NotFlat, Stage, Standing
from engine.domain.order import Order
from engine.http.endpoint import Registry
from engine.http.openalgo import books, ways_out, whose
from engine.http.routes import square_off
from engine.ids import uuid7
from engine.runtime.mailbox import Reply
from tests.support.api import RunningApi, running_api
from tests.support.openalgo_services import TradingServices

AT = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
PLACE = ("NSE", "INFY", "MIS")


class FakeExecutor:
    """An account whose broker does what the test says; the strategy holds *held* units of INFY in MIS there."""

    def __init__(self, services: TradingServices, *, held: int = 0) -> None:
        self.account_id = uuid7()
        self.is_ready = True
        self.has_business = True
        self.ended: list[CancelledOrder] | None = []
        self.stands: Standing | None = None
        self.held = held
        position = SimpleNamespace(
            exchange=Exchange.NSE,
            symbol="INFY",
            product_type=ProductType.MIS,
            quantity=held,
            account_id=self.account_id,
        )
        self.desk = SimpleNamespace(holdings=SimpleNamespace(positions={1: position}))
        self.square_off = self
        self.wanted: list[Any] = []
        account = SimpleNamespace(id=self.account_id, user_id=services.owner.id, label="one")
        services.directory.put_account(account)  # type: ignore[arg-type]

    def start_cancel_all(self, *, by: str, strategy_id: UUID) -> Reply[Ended]:
        reply: Reply[Ended] = Reply()
        if self.ended is not None:
            reply.answer(Ended(orders=self.ended, gtts=[]))
        return reply

    def want(self, demand: Any) -> None:
        self.wanted.append(demand)

    def standing(self, _demand: Any) -> Standing | None:
        return self.stands

    def share(self, _strategy_id: UUID, place: Any) -> int:
        return self.held if place == PLACE else 0


class World(TradingServices):
    """Services with one account."""

    def __init__(self) -> None:
        super().__init__()
        self.one = FakeExecutor(self, held=10)
        self.crew = SimpleNamespace(
            executors={self.one.account_id: self.one}, executor=lambda account_id: self.crew.executors[account_id]
        )


@pytest.fixture
async def api(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningApi]:
    monkeypatch.setattr(ways_out, "_CANCEL_ALL_S", 0.2)
    monkeypatch.setattr(square_off, "_WAIT_S", 0.2)
    monkeypatch.setattr(whose, "_READY_S", 0.1)
    registry = Registry([ways_out.cancel_all, ways_out.close_position, books.open_position])
    async with running_api(World(), registry) as running:
        yield running


def order(status: OrderStatus, broker: str) -> Order:
    return Order(
        id=uuid4(),
        account_id=uuid4(),
        user_id=uuid4(),
        exchange=Exchange.NSE,
        symbol="INFY",
        transaction_type=TransactionType.BUY,
        quantity=10,
        order_type=OrderType.LIMIT,
        product_type=ProductType.MIS,
        status=status,
        tag="T",
        attempt=1,
        epoch=1,
        trading_day=date(2026, 11, 23),
        deadline=AT,
        created_at=AT,
        updated_at=AT,
        broker_order_id=broker,
        price=Decimal(1),
    )


async def call(api: RunningApi, name: str, **fields: Any) -> Any:
    return await api.client.post(f"/api/v1/{name}", json={"apikey": api.services.key(), "strategy": "Python", **fields})


async def test_orders_that_are_cancelled_are_listed_and_so_are_those_that_are_not(api: RunningApi) -> None:
    api.services.one.ended = [
        CancelledOrder(order=order(OrderStatus.CANCELLED, "A")),
        CancelledOrder(order=order(OrderStatus.OPEN, "B"), problem="the broker refused"),
        CancelledOrder(order=order(OrderStatus.COMPLETE, "C")),
        CancelledOrder(order=order(OrderStatus.OPEN, "D")),
    ]
    answer = (await call(api, "cancelallorder")).json()
    assert (answer["status"], answer["canceled_orders"]) == ("success", ["A"])
    assert answer["failed_cancellations"] == [
        {"orderid": "B", "reason": "the broker refused"},
        {"orderid": "C", "reason": "the order is COMPLETE"},
        {"orderid": "D", "reason": "the order is OPEN"},
    ]
    assert answer["message"] == "Canceled 1 orders. Failed to cancel 3 orders."


async def test_no_order_cancelled_is_no_success(api: RunningApi) -> None:
    api.services.one.ended = [CancelledOrder(order=order(OrderStatus.OPEN, "B"), problem="the broker refused")]
    answer = await call(api, "cancelallorder")
    assert (answer.status_code, answer.json()["status"]) == (500, "error")
    assert "B: the broker refused" in answer.json()["message"]


async def test_account_that_does_not_answer_is_no_success(api: RunningApi) -> None:
    api.services.one.ended = None
    answer = await call(api, "cancelallorder")
    assert answer.json()["status"] == "error"
    assert "account one: no answer in time" in answer.json()["message"]


@pytest.mark.parametrize("name", ["cancelallorder", "closeposition", "openposition"])
async def test_account_whose_books_are_not_read_yet_is_neither_empty_nor_flat(api: RunningApi, name: str) -> None:
    api.services.one.is_ready = False
    place = {"symbol": "INFY", "exchange": "NSE", "product": "MIS"} if name == "openposition" else {}
    answer = await call(api, name, **place)
    assert (answer.status_code in (500, 503), answer.json()["status"]) == (True, "error")
    assert "the orders of one are being read" in answer.json()["message"]


async def test_ways_out_are_taken_on_the_accounts_that_are_known(api: RunningApi) -> None:
    services = api.services
    other = FakeExecutor(services, held=5)
    services.crew.executors[other.account_id] = other
    services.one.is_ready = False
    other.ended = [CancelledOrder(order=order(OrderStatus.CANCELLED, "A"))]
    cancelled = (await call(api, "cancelallorder")).json()
    assert (cancelled["status"], cancelled["error"]["details"]["canceled_orders"]) == ("error", ["A"])
    other.stands = Standing(name="x", version=1, stage=Stage.DONE)
    closed = (await call(api, "closeposition")).json()
    assert (closed["status"], len(other.wanted), services.one.wanted) == ("error", 1, [])


async def test_position_whose_exit_is_refused_is_no_success(api: RunningApi) -> None:
    left = NotFlat(place=PLACE, quantity=10, open_orders=0, why="the broker refused: margin is short")
    api.services.one.stands = Standing(name="x", version=1, stage=Stage.FLATTENING, failed=True, not_flat=(left,))
    answer = await call(api, "closeposition")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "POSITIONS_REMAIN")
    assert "one INFY MIS 10: the broker refused" in answer.json()["message"]


async def test_positions_that_nobody_could_look_at_are_no_success(api: RunningApi) -> None:
    api.services.one.stands = None
    answer = await call(api, "closeposition")
    assert answer.json()["status"] == "error"
    assert "it is being closed" in answer.json()["message"]


async def test_positions_proven_closed_are(api: RunningApi) -> None:
    api.services.one.stands = Standing(name="x", version=1, stage=Stage.DONE)
    answer = (await call(api, "closeposition")).json()
    assert (answer["status"], answer["message"], answer["closed"]) == ("success", "All Open Positions Squared Off", 1)
    (demand,) = api.services.one.wanted
    assert (demand.strategy_id, demand.delivery, demand.once) == (api.services.strategy.id, False, True)


async def test_call_that_names_a_symbol_closes_nothing(api: RunningApi) -> None:
    # it would be taken for that symbol alone, and everything would go
    answer = await call(api, "closeposition", symbol="INFY")
    assert (answer.status_code, api.services.one.wanted) == (400, [])
