"""Every error answer of kite.md appendix B, over a socket: to placing, modifying, cancelling and to each read."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from engine.broker.base import (
    Accepted,
    BrokerAuthError,
    BrokerLoginRefused,
    BrokerUnavailable,
    RefusalCode,
    Refused,
    always_open,
)
from engine.broker.kite.adapter import KiteBroker
from engine.broker.kite.origin import Origin
from engine.broker.kite.reads import KiteReads
from engine.broker.kite.session import exchange_token
from engine.clock import SystemClock
from engine.domain.enums import Variety
from engine.domain.freeze import freeze_from_refusal
from tests.support.broker_orders import committed_order
from tests.support.error_bodies import ANSWERS, BY_NAME, ErrorAnswer
from tests.support.gtts import a_gtt
from tests.support.kite_answers import SESSION, success
from tests.support.kite_book import reply
from tests.support.kite_stub import raw, running_stub

READS: list[Callable[[KiteBroker], Awaitable[Any]]] = [
    lambda broker: broker.orders(),
    lambda broker: broker.order_history("1914227164488687616"),
    lambda broker: broker.trades(),
    lambda broker: broker.order_trades("1914227164488687616"),
    lambda broker: broker.positions(),
    lambda broker: broker.holdings(),
    lambda broker: broker.margins(),
    lambda broker: broker.profile(),
    lambda broker: broker.last_prices(["NSE:INFY"]),
    lambda broker: broker.instruments(),
    lambda broker: broker.gtts(),
]
each = pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.name)


@pytest.fixture
async def stub():
    async with running_stub() as stub:
        yield stub


@pytest.fixture
async def broker(stub):
    broker = KiteBroker(stub.base_url, stub.api_key, stub.access_token, SystemClock())
    yield broker
    await broker.aclose()


@each
async def test_answer_to_a_placement_is_refused_or_unknown_and_never_sent_again(stub, broker, answer: ErrorAnswer):
    stub.next(raw(answer.raw))
    answer.check_write(await broker.place(committed_order(), always_open), change=False)
    assert len(stub.requests) == 1


@each
async def test_answer_to_a_modify_and_a_cancel_is_refused_or_unknown_and_never_sent_again(stub, broker, answer):
    stub.next(raw(answer.raw), raw(answer.raw))
    answer.check_write(await broker.replace("151220000000000", Variety.REGULAR, quantity=2), change=True)
    answer.check_write(await broker.cancel("151220000000000", Variety.REGULAR), change=True)
    assert [request.method for request in stub.requests] == ["PUT", "DELETE"]


@each
async def test_answer_to_a_trigger_is_refused_or_unknown_and_never_sent_again(stub, broker, answer: ErrorAnswer):
    stub.next(*[raw(answer.raw)] * 3)
    answer.check_write(await broker.place_gtt(a_gtt(), always_open), change=False)
    answer.check_write(await broker.replace_gtt("112127", a_gtt(), always_open), change=True)
    answer.check_write(await broker.cancel_gtt("112127"), change=True)
    assert [request.method for request in stub.requests] == ["POST", "PUT", "DELETE"]


@each
async def test_answer_to_a_read_is_one_typed_error_and_never_read_again(stub, broker, answer: ErrorAnswer):
    for number, read in enumerate(READS):
        stub.next(raw(answer.raw))
        with pytest.raises(BrokerUnavailable) as caught:
            await read(broker)
        assert type(caught.value) is answer.reading
        assert str(answer.status) in str(caught.value)
        assert len(stub.requests) == number + 1


@each
async def test_answer_to_a_login_is_one_typed_error(stub, answer: ErrorAnswer):
    reads = KiteReads(Origin.parse(stub.base_url))
    stub.next(raw(answer.raw))
    # a login that is refused for what it brought does not get better by waiting
    kind = BrokerLoginRefused if answer.status == 400 and answer.reading is BrokerUnavailable else answer.reading
    try:
        with pytest.raises(BrokerUnavailable) as caught:
            await exchange_token(reads, api_key="k", api_secret="secretword", request_token="once")
    finally:
        await reads.aclose()
    assert type(caught.value) is kind
    assert "secretword" not in str(caught.value)


async def test_connection_survives_every_refusal_that_was_whole(stub, broker):
    for answer in ANSWERS:
        stub.next(raw(answer.raw))
        await broker.place(committed_order(), always_open)
    assert isinstance(await broker.place(committed_order(), always_open), Accepted)
    assert stub.connections == 1


async def test_words_of_the_broker_are_kept_whole(stub, broker):
    stub.next(raw(BY_NAME["freeze quantity"].raw), raw(BY_NAME["funds"].raw))
    frozen = await broker.place(committed_order(), always_open)
    short = await broker.place(committed_order(), always_open)
    assert isinstance(frozen, Refused)
    assert isinstance(short, Refused)
    assert freeze_from_refusal(frozen.message) == 900
    assert short.message == (
        "Insufficient funds. Required margin is 95417.84 but available margin is 74251.80. "
        "Check the orderbook for open orders."
    )


async def test_dead_token_tells_its_code_to_reads_as_to_writes(stub, broker):
    stub.next(raw(BY_NAME["dead token"].raw))
    with pytest.raises(BrokerAuthError) as caught:
        await broker.profile()
    assert caught.value.code is RefusalCode.TOKEN_DEAD


@pytest.mark.parametrize(
    "odd", [{"access_token": token} for token in ("a b", "a:b", "a\r\nX: y", "a\x00", "ü", "x" * 600, "")]
    + [{"user_id": "AB\x000001"}]
)  # fmt: skip
async def test_session_that_cannot_be_used_or_kept_is_no_login(stub, odd):
    stub.next(raw(reply(200, success({**SESSION, **odd}))))
    reads = KiteReads(Origin.parse(stub.base_url))
    with pytest.raises(BrokerUnavailable, match="no session"):
        await exchange_token(reads, api_key="k", api_secret="s", request_token="once")
    await reads.aclose()
