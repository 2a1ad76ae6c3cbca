"""What becomes of an order and its account when the broker answers one of its errors (kite.md appendix B)."""

import pytest
import trio

from engine.broker.base import PlaceOutcome
from engine.broker.kite.errors import classify
from engine.domain.enums import AccountStatus, OrderStatus
from tests.support.desk import World, answer, running
from tests.support.error_bodies import BY_NAME
from tests.support.trade import ACCOUNT

S = OrderStatus


@pytest.fixture
async def world(autojump_clock):
    return World()


def digest(name: str) -> PlaceOutcome:
    """What the adapter makes of the answer to a placement."""
    wire = BY_NAME[name]
    return classify(status=wire.status, content_type=wire.content_type or "", body=wire.body, bytes_written=300)


def standing(world: World) -> tuple[AccountStatus, str | None]:
    account = world.directory.accounts[ACCOUNT]
    return account.status, account.status_reason


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("funds", "FUNDS: Insufficient funds. Required margin is 95417.84"),
        ("market protection", "MARKET_PROTECTION: Market orders without market protection"),
        ("depository", "HOLDINGS: 10 quantity needs authorisation at depository."),
        ("in flight", "ORDER_BUSY: Order cannot be modified"),
    ],
)
async def test_refusal_of_one_order_ends_it_and_leaves_the_account_alone(world, name, message, autojump_clock):
    world.broker.answers = [answer(digest(name))]
    order, after = world.order(), world.order()
    async with running(world):
        world.submit(order)
        world.submit(after)
        await world.until_status(order, S.REJECTED)
        await world.until_status(after, S.OPEN)
        assert world.message(order).startswith(message)
        assert standing(world) == (AccountStatus.ACTIVE, None)
        assert [left.id for left in world.broker.left] == [order.id, after.id]


async def test_dead_token_ends_the_order_and_asks_for_a_login_before_any_other_goes(world, autojump_clock):
    world.broker.answers = [answer(digest("dead token"))]
    order, after = world.order(), world.order("SBIN")
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.REJECTED)
        status, reason = standing(world)
        assert status is AccountStatus.LOGIN_REQUIRED
        assert reason == (
            "AUTH_BLOCKED: TOKEN_DEAD: log in again. The broker said: Incorrect `api_key` or `access_token`."
        )
        world.submit(after)
        await world.until_status(after, S.FAILED)
        assert world.message(after).startswith("LOGIN_REQUIRED")
        assert [left.id for left in world.broker.left] == [order.id]


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("static IP", "STATIC_IP: orders come from 203.0.113.9, which this app does not allow: add it under"),
        ("permission", "PERMISSION: the app may not place orders: look at its plan and permissions"),
    ],
)  # fmt: skip
async def test_address_and_permission_block_orders_while_reads_go_on(world, name, start, autojump_clock):
    world.broker.answers = [answer(digest(name))]
    working, order, after = world.order("SBIN"), world.order(), world.order("TCS")
    async with running(world):
        world.submit(working)
        await world.until_status(working, S.OPEN)
        world.submit(order)
        await world.until_status(order, S.REJECTED)
        status, reason = standing(world)
        assert status is AccountStatus.ORDERS_BLOCKED
        assert reason is not None
        assert reason.startswith(start)
        world.submit(after)
        await world.until_status(after, S.FAILED)
        assert world.message(after).startswith("ORDERS_BLOCKED")
        # the session was not dropped: what works is followed on
        world.broker.fill(world.row(working).broker_order_id)
        await world.until_status(working, S.COMPLETE)
        assert len(world.opened) == 1
        assert len(world.broker.left) == 2


async def test_rate_keeps_the_order_for_a_later_call_and_the_account_active(world, autojump_clock):
    world.broker.answers = [answer(digest("rate"))]
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.OPEN)
        first, second = world.broker.times
        assert second - first >= 9.9
        assert (world.row(order).attempt, standing(world)) == (2, (AccountStatus.ACTIVE, None))


async def test_order_cap_ends_the_order_by_name_without_another_call_in_that_minute(world, autojump_clock):
    world.broker.answers = [answer(digest("order cap"))]
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until(lambda: order.id in world.store.orders and world.status(order).is_terminal)
        assert world.status(order) is S.EXPIRED
        assert "the broker had answered: Maximum allowed order requests exceeded." in world.message(order)
        assert any("ORDER_CAP: the broker takes no more order calls" in text for _, text in world.alerts)
        assert len(world.broker.left) == 1
        assert standing(world) == (AccountStatus.ACTIVE, None)


DOUBTFUL = ["timed out", "unknown order", "CDN page", "API down", "gateway timeout"]


@pytest.mark.parametrize("name", [*DOUBTFUL, "gateway timeout without a content type"])
async def test_answer_that_proves_nothing_leaves_the_order_to_the_book_which_has_it_late(world, name, autojump_clock):
    async def late(broker, order, gate) -> PlaceOutcome:
        assert broker.passes(order, gate) is None
        placed.append(order)
        return digest(name)

    placed: list = []
    world.broker.answers = [late]
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.UNKNOWN)
        await trio.sleep(8)
        # alive 8 s after the answer (kite.trade forum 35732)
        world.broker.put(placed[0])
        await world.until_status(order, S.OPEN)
        assert standing(world) == (AccountStatus.ACTIVE, None)
        assert [left.id for left in world.broker.left] == [order.id]


async def test_order_that_timed_out_and_never_comes_expires_unplaced_and_is_not_sent_again(world, autojump_clock):
    world.broker.answers = [answer(digest("timed out"))]
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.EXPIRED)
        assert world.message(order).startswith("UNPLACED")
        assert len(world.broker.left) == 1
