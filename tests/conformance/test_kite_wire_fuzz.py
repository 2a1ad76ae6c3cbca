"""Anything at all as an answer, over a real socket: writes give one of four outcomes, reads one typed error.

The judge of what an answer proves is written apart from the engine's: the standard library parses the HTTP.
"""

import http.client
import io
import json
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from engine.broker.base import Accepted, NotSent, Refused, Unknown, WriteOutcome, always_open
from engine.broker.kite.adapter import KiteBroker
from engine.broker.kite.origin import Origin
from engine.broker.kite.reads import KiteReads
from engine.broker.kite.session import exchange_token
from engine.broker.kite.wire import OrderWire
from engine.clock import SystemClock
from engine.domain.enums import Variety
from engine.errors import BrokerUnavailable
from tests.support import kite_answers as answers
from tests.support.broker_orders import committed_order
from tests.support.gtts import a_gtt
from tests.support.kite_book import error_body, reply
from tests.support.kite_stub import in_pieces, running_stub, then_close
from tests.support.maimed import damaged, maimed_bytes

# telling what all failures have in common takes minutes here
PHASES = [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]
DOUBT = ("timed out", "timeout", "time out", "confirm", "check the order", "unknown")
MESSAGES = [
    "Order request timed out. Please check the order book and confirm before placing again.",
    "Order status unknown",
    "Too many requests",
    "Incorrect `api_key` or `access_token`.",
    "Order cannot be modified as it is being processed. Try later.",
    "Couldn't find that `order_id`.",
    "Invalid `quantity`.",
    "",
]
TYPES = [
    "InputException", "MarginException", "HoldingException", "OrderException", "TokenException", "PermissionException",
    "UserException", "TwoFAException", "NetworkException", "DataException", "GeneralException", None,
]  # fmt: skip
STATUSES = [
    100,
    101,
    199,
    200,
    201,
    204,
    206,
    301,
    304,
    307,
    400,
    401,
    403,
    404,
    405,
    408,
    410,
    428,
    429,
    500,
    502,
    503,
]
HEADERS = [
    "", "Connection: close\r\n", "Transfer-Encoding: chunked\r\n", "Content-Length: 3\r\n", "Content-Length: -1\r\n",
    "Content-Length: 99999999999999999999\r\n", "Content-Encoding: gzip\r\n", "Content-Encoding: br\r\n",
    "Location: http://[::bad/\r\n", "Location: //\r\n", "Location: \x00\r\n", "Set-Cookie: =;;Expires=x\r\n",
    "Date: yesterday\r\n", "Date: \xff\r\n", "X: " + "y" * 9000 + "\r\n", "No colon\r\n", ": empty\r\n", " folded\r\n",
]  # fmt: skip
FULL = st.builds(
    lambda status, body, kind, extra: reply(status, body, kind, extra),
    st.sampled_from(STATUSES),
    st.one_of(
        st.builds(error_body, st.sampled_from(MESSAGES), st.sampled_from(TYPES)),
        damaged(answers.TAKEN),
        damaged(answers.SLICED),
        damaged(answers.TRIGGERED),
        st.just(b"<html><h1>502 Bad Gateway</h1></html>"),
    ),
    st.sampled_from(["application/json", "text/html", "text/csv", None, "application/json; charset=utf-16"]),
    st.sampled_from(HEADERS),
)
# a whole error as Kite words it: what most likely passes for a refusal
PLAUSIBLE = st.builds(
    lambda status, message, kind: reply(status, error_body(message, kind)),
    st.sampled_from([400, 400, 403, 404, 428, 429, 500, 503]),
    st.sampled_from(MESSAGES),
    st.sampled_from([*TYPES[:6], "GeneralException"]),
)
ANSWERS = st.one_of(
    PLAUSIBLE,
    PLAUSIBLE,
    PLAUSIBLE.flatmap(maimed_bytes),
    FULL,
    FULL,
    FULL.flatmap(maimed_bytes),
    st.builds(lambda raw, cut: raw[:cut], FULL, st.integers(0, 120)),
    st.binary(max_size=60),
    st.binary(max_size=20).map(lambda line: b"HTTP/1.1 " + line + b"\r\n\r\n"),
)


def proves(raw: bytes) -> tuple[int, Any] | None:
    """Status and JSON of *raw*, None when it is no whole HTTP answer with JSON in it."""

    class Wire:
        def makefile(self, *_: Any) -> io.BytesIO:
            return io.BytesIO(raw)

    answer = http.client.HTTPResponse(Wire())  # type: ignore[arg-type]
    try:
        answer.begin()
        return answer.status, json.loads(answer.read())
    except (http.client.HTTPException, ValueError, RecursionError, OSError):
        return None


def judge(raw: bytes, outcome: WriteOutcome) -> None:
    """Whatever the answer: never "not sent", and neither a yes nor a no that the answer does not bear out."""
    assert not isinstance(outcome, NotSent), raw
    if isinstance(outcome, Unknown):
        return
    found = proves(raw)
    assert found is not None, (raw, outcome)
    status, tree = found
    if isinstance(outcome, Accepted):
        assert status == 200, raw
        assert tree["status"] == "success", raw
        assert outcome.broker_order_id in json.dumps(tree["data"]), raw
        return
    assert isinstance(outcome, Refused)
    assert (status, tree["status"]) == (outcome.status, "error"), raw
    assert status in (400, 403, 404, 428, 429, 500, 503), raw
    assert not any(words in str(tree.get("message")).lower() for words in DOUBT), raw


async def fuzzed(raws: list[bytes], call: Callable[[KiteBroker, KiteReads, int], Awaitable[Any]]) -> list[Any]:
    """What *call* makes of each of *raws*, answered over a socket that is closed behind it."""
    found = []
    async with running_stub() as stub:
        origin = Origin.parse(stub.base_url)
        for number, raw in enumerate(raws):
            # each on connections of its own: one that is about to end must not carry the next request
            wire, reads = OrderWire(origin, timeout_s=5), KiteReads(origin, timeout_s=5, total_s=5)
            broker = KiteBroker(stub.base_url, stub.api_key, stub.access_token, SystemClock(), wire=wire, reads=reads)
            stub.next(then_close(raw))
            found.append(await call(broker, reads, number))
            assert len(stub.requests) == number + 1, "sent again, or not at all"
            await reads.aclose()
            await wire.aclose()
    return found


@settings(max_examples=25, phases=PHASES)
@given(raws=st.lists(ANSWERS, min_size=12, max_size=12))
def test_any_answer_to_a_placement_proves_no_more_than_it_says(raws):
    async def place(broker: KiteBroker, _: KiteReads, __: int) -> WriteOutcome:
        return await broker.place(committed_order(), always_open)

    for raw, outcome in zip(raws, trio.run(fuzzed, raws, place), strict=True):
        judge(raw, outcome)
        if isinstance(outcome, Refused):
            assert outcome.status in (400, 403, 428, 429)


@settings(max_examples=20, phases=PHASES)
@given(raws=st.lists(ANSWERS, min_size=12, max_size=12))
def test_any_answer_to_a_change_proves_no_more_than_it_says(raws):
    async def change(broker: KiteBroker, _: KiteReads, number: int) -> WriteOutcome:
        if number % 2:
            return await broker.cancel("1914227164488687616", Variety.REGULAR)
        return await broker.replace("1914227164488687616", Variety.REGULAR, quantity=2)

    for raw, outcome in zip(raws, trio.run(fuzzed, raws, change), strict=True):
        judge(raw, outcome)


@settings(max_examples=15, phases=PHASES)
@given(raws=st.lists(ANSWERS, min_size=12, max_size=12))
def test_any_answer_to_a_trigger_proves_no_more_than_it_says(raws):
    async def write(broker: KiteBroker, _: KiteReads, number: int) -> WriteOutcome:
        if number % 3 == 0:
            return await broker.place_gtt(a_gtt(), always_open)
        if number % 3 == 1:
            return await broker.replace_gtt("112127", a_gtt(), always_open)
        return await broker.cancel_gtt("112127")

    for raw, outcome in zip(raws, trio.run(fuzzed, raws, write), strict=True):
        judge(raw, outcome)


READS: list[tuple[Callable[[KiteBroker], Awaitable[Any]], bytes]] = [
    (lambda broker: broker.orders(), answers.ORDERS),
    (lambda broker: broker.order_history("1914227164488687616"), answers.ORDERS),
    (lambda broker: broker.trades(), answers.TRADES),
    (lambda broker: broker.order_trades("1914227164488687616"), answers.TRADES),
    (lambda broker: broker.positions(), answers.POSITIONS),
    (lambda broker: broker.holdings(), answers.HOLDINGS),
    (lambda broker: broker.margins(), answers.MARGINS),
    (lambda broker: broker.profile(), answers.success(answers.PROFILE)),
    (lambda broker: broker.last_prices(["NSE:INFY"]), answers.success(answers.LAST_PRICES)),
    (lambda broker: broker.instruments("NSE"), answers.INSTRUMENTS),
    (lambda broker: broker.gtts(), answers.GTTS),
]


def read_answer(body: bytes) -> st.SearchStrategy[bytes]:
    whole = st.builds(
        lambda status, kind, extra, content: reply(status, content, kind, extra),
        st.sampled_from([200, 200, 200, *STATUSES]),
        st.sampled_from(["application/json", "text/csv", None]),
        st.sampled_from(HEADERS),
        st.one_of(st.just(body), damaged(body, is_json=body.startswith(b"{"))),
    )
    return st.one_of(whole, whole, ANSWERS)


@settings(max_examples=20, phases=PHASES)
@given(raws=st.tuples(*(read_answer(body) for _, body in READS)))
def test_any_answer_to_a_read_is_values_or_a_typed_error(raws):
    async def read(broker: KiteBroker, _: KiteReads, number: int) -> None:
        said = ""
        try:
            await READS[number][0](broker)
        except BrokerUnavailable as error:
            said = str(error)
        assert "stubtoken" not in said

    trio.run(fuzzed, list(raws), read)


@settings(max_examples=20, phases=PHASES)
@given(raws=st.lists(read_answer(answers.success(answers.SESSION)), min_size=6, max_size=6))
def test_any_answer_to_a_login_is_a_session_or_a_typed_error_without_the_token(raws):
    async def login(broker: KiteBroker, reads: KiteReads, __: int) -> None:
        said = ""
        try:
            session = await exchange_token(reads, api_key="key", api_secret="secretword", request_token="once")
        except BrokerUnavailable as error:
            said = str(error)
        else:
            # what passes for a login can be used and kept
            broker.set_access_token(session.access_token)
            assert session.access_token
            assert session.user_id.isprintable()
        assert "secretword" not in said
        assert "sessiontoken" not in said

    trio.run(fuzzed, list(raws), login)


async def test_answer_in_pieces_of_any_size_is_read_as_in_one():
    raw = reply(200, answers.TAKEN)
    async with running_stub() as stub:
        broker = KiteBroker(stub.base_url, stub.api_key, stub.access_token, SystemClock())
        for size in (1, 2, 7, 50, len(raw)):
            stub.next(in_pieces(raw, size))
            assert await broker.place(committed_order(), always_open) == Accepted(broker_order_id="1914227164488687616")
        await broker.aclose()
