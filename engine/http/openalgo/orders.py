"""placeorder, placesmartorder, basketorder, splitorder: OpenAlgo's ways to send orders."""

from functools import partial

import msgspec
from msgspec import UNSET

from engine.domain.openalgo_symbols import find
from engine.domain.signal import Refusal, Signal
from engine.http.endpoint import ApiRequest
from engine.http.openalgo.answers import BasketAnswer, BasketResult, PlacedAnswer, SplitAnswer, SplitResult
from engine.http.openalgo.bodies import BasketBody, PlaceBody, SmartBody, SplitBody
from engine.http.openalgo.door import check_loaded, enter, only, openalgo, refused
from engine.http.openalgo.outcome import Fate
from engine.http.openalgo.placing import send
from engine.http.openalgo.whose import strategy_of
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.signals import openalgo as parser


@openalgo(
    "/placeorder",
    needs=Permission.TRADE,
    summary="Place an order (OpenAlgo)",
    body=PlaceBody,
    response=PlacedAnswer,
)
async def place_order(request: ApiRequest) -> PlacedAnswer:
    """Sends a signal for the strategy and waits up to 3 s for the broker's id of its order.

    Each call is a signal of its own; one with an Idempotency-Key header is taken once, however often it comes.
    """
    fields = enter(request, Permission.TRADE)
    strategy = strategy_of(request, fields)
    signal = parser.order(fields, _find(request))
    if isinstance(signal, Refusal):
        raise refused(signal)
    return (await send(request, strategy, [signal]))[0].answer()


@openalgo(
    "/placesmartorder",
    needs=Permission.TRADE,
    summary="Bring a position to a size (OpenAlgo)",
    body=SmartBody,
    response=PlacedAnswer,
)
async def place_smart_order(request: ApiRequest) -> PlacedAnswer:
    """Sends what is missing between the strategy's position, with its orders under way, and ``position_size``.

    0 closes what the strategy holds, and never opens anything: unlike OpenAlgo, where a smart order of size 0 on a flat
    position is a plain order. A repeated call does nothing more.
    """
    fields = enter(request, Permission.TRADE)
    strategy = strategy_of(request, fields)
    signal = parser.smart_order(fields, _find(request))
    if isinstance(signal, Refusal):
        raise refused(signal)
    return (await send(request, strategy, [signal]))[0].answer()


@openalgo(
    "/basketorder",
    needs=Permission.TRADE,
    summary="Place several orders (OpenAlgo)",
    body=BasketBody,
    response=BasketAnswer,
)
async def basket_order(request: ApiRequest) -> BasketAnswer:
    """Sends a signal for each order, those that buy first; each is judged by itself, and the others go on."""
    fields = enter(request, Permission.TRADE)
    strategy = strategy_of(request, fields)
    only(fields, "orders")
    rows = parser.basket(fields.get("orders"))
    if isinstance(rows, Refusal):
        raise refused(rows)
    parsed = [parser.order(row, _find(request)) for row in rows]
    good = [item for item in parsed if isinstance(item, Signal)]
    fates = iter(await send(request, strategy, good) if good else ())
    results = tuple(
        _bad_row(row.get("symbol"), item)
        if isinstance(item, Refusal)
        else _basket_result(row.get("symbol"), next(fates))
        for row, item in zip(rows, parsed, strict=True)
    )
    return BasketAnswer(status=_status(results), results=results, message=_said(results))


@openalgo(
    "/splitorder",
    needs=Permission.TRADE,
    summary="Place an order in parts (OpenAlgo)",
    body=SplitBody,
    response=SplitAnswer,
)
async def split_order(request: ApiRequest) -> SplitAnswer:
    """Sends a signal for each part of at most ``splitsize`` units, at most 100 parts.

    What exceeds the exchange's freeze quantity is sliced without this. Under a ``duplicateWindowS`` limit parts of
    equal size are repetitions of the first.
    """
    fields = enter(request, Permission.TRADE)
    strategy = strategy_of(request, fields)
    split = parser.split(fields, _find(request))
    if isinstance(split, Refusal):
        raise refused(split)
    fates = await send(request, strategy, split.signals)
    results = tuple(
        _split_result(number, signal.quantity, found)
        for number, (signal, found) in enumerate(zip(split.signals, fates, strict=True), 1)
    )
    return SplitAnswer(
        status=_status(results),
        split_size=split.size,
        total_quantity=split.total,
        results=results,
        message=_said(results),
    )


def _find(request: ApiRequest) -> parser.Find:
    services: Services = request.services
    check_loaded(services)
    return partial(find, services.master.book)


def _bad_row(symbol: object, refusal: Refusal) -> BasketResult:
    return BasketResult(symbol=str(symbol)[:50], status="error", message=refusal.message)


def _basket_result(symbol: object, found: Fate) -> BasketResult:
    if found.error is not None:
        return BasketResult(symbol=str(symbol), status="error", message=found.error.message, data=found.data)
    orderid, message = found.orderid or UNSET, found.message or UNSET
    return BasketResult(symbol=str(symbol), status="success", orderid=orderid, message=message, data=found.data)


def _split_result(number: int, quantity: int, found: Fate) -> SplitResult:
    if found.error is not None:
        return SplitResult(
            order_num=number, quantity=quantity, status="error", message=found.error.message, data=found.data
        )
    orderid, message = found.orderid or UNSET, found.message or UNSET
    return SplitResult(
        order_num=number, quantity=quantity, status="success", orderid=orderid, message=message, data=found.data
    )


def _status(results: tuple[BasketResult, ...] | tuple[SplitResult, ...]) -> str:
    return "success" if any(result.status == "success" for result in results) else "error"


def _said(results: tuple[BasketResult, ...] | tuple[SplitResult, ...]) -> str | msgspec.UnsetType:
    if _status(results) == "success":
        return UNSET
    return "; ".join(dict.fromkeys(str(result.message) for result in results))[:1000]
