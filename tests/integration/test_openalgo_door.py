"""The door of OpenAlgo's endpoints on a real port: forms of errors, rates, and signals taken while stores fail."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import msgspec
import pytest

from engine.domain.directory import Strategy
from engine.domain.instruments import InstrumentBook
from engine.errors import UnavailableError
from engine.http.endpoint import ApiRequest, Registry
from engine.http.openalgo import orders
from engine.http.openalgo.bodies import BareKeyBody
from engine.http.openalgo.door import enter, openalgo
from engine.http.permissions import Permission
from engine.http.ratelimit import RateClass
from engine.ids import uuid7
from tests.support.api import RunningApi, running_api
from tests.support.openalgo_services import PER_MINUTE, TradingServices


@openalgo("/probe", needs=Permission.TRADE, summary="Probe", body=BareKeyBody, response=dict[str, str])
async def probe(request: ApiRequest) -> dict[str, str]:
    enter(request, Permission.TRADE)
    return {"status": "success", "raw": request.raw.decode()}


@openalgo("/way-out", needs=Permission.TRADE, summary="Way out", body=BareKeyBody, response=dict[str, str])
async def way_out(request: ApiRequest) -> dict[str, str]:
    enter(request, Permission.TRADE, rate=RateClass.KILL_SWITCH)
    return {"status": "success"}


@pytest.fixture
async def api() -> AsyncIterator[RunningApi]:
    registry = Registry([probe, way_out, orders.place_order, orders.basket_order])
    async with running_api(TradingServices(), registry) as running:
        yield running


async def post(api: RunningApi, name: str, body: dict[str, Any], **options: Any) -> Any:
    return await api.client.post(f"/api/v1/{name}", json=body, **options)


async def test_bytes_with_the_key_are_gone_when_a_handler_runs(api: RunningApi) -> None:
    answer = await post(api, "probe", {"apikey": api.services.key()})
    assert answer.json() == {"status": "success", "raw": ""}


async def test_each_key_has_a_rate_of_its_own_and_the_way_out_another(api: RunningApi) -> None:
    first, second = api.services.key(), api.services.key()
    answers = [await post(api, "probe", {"apikey": first}) for _ in range(PER_MINUTE + 1)]
    assert [answer.status_code for answer in answers] == [200] * PER_MINUTE + [429]
    assert answers[-1].json()["status"] == "error"
    assert int(answers[-1].headers["retry-after"]) > 0
    assert (await post(api, "way-out", {"apikey": first})).status_code == 200
    assert (await post(api, "probe", {"apikey": second})).status_code == 200


async def test_disabled_owner_and_expired_key_are_refused(api: RunningApi) -> None:
    key = api.services.key()
    api.services.users.put(msgspec.structs.replace(api.services.owner, disabled=True))
    assert (await post(api, "probe", {"apikey": key})).status_code == 403
    api.services.users.put(api.services.owner)
    api.services.clock.advance(2 * 86_400)
    assert (await post(api, "probe", {"apikey": key})).status_code == 403


async def test_errors_before_the_handler_have_openalgos_form_too(api: RunningApi) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 8192

    answer = await api.client.post("/api/v1/probe", content=endless())
    assert (answer.status_code, answer.json()["status"]) == (413, "error")
    assert answer.json()["message"] == answer.json()["error"]["message"]


async def test_standby_refuses_in_openalgos_form() -> None:
    async def gate(_item: Any, _request: Any) -> None:
        raise UnavailableError("this engine is on standby", retry_after_s=2)

    async with running_api(TradingServices(), Registry([probe]), gate=gate) as api:
        answer = await post(api, "probe", {"apikey": api.services.key()})
    assert (answer.status_code, answer.json()["status"]) == (503, "error")
    assert answer.json()["message"] == "this engine is on standby"


ORDER = {"symbol": "INFY", "exchange": "NSE", "action": "BUY", "quantity": "5"}


async def test_signal_that_was_taken_is_a_success_though_its_outcome_cannot_be_read(api: RunningApi) -> None:
    answer = await post(api, "placeorder", {"apikey": api.services.key(), **ORDER})
    assert answer.status_code == 200, answer.text
    (delivery,) = api.services.taken
    (intent,) = delivery.intents()
    assert (answer.json()["status"], UUID(answer.json()["orderid"])) == ("success", intent.id)
    assert (intent.strategy_id, intent.source_id) == (api.services.strategy.id, api.services.source.id)
    assert "apikey" not in msgspec.json.encode(delivery).decode()


async def test_signal_that_was_not_taken_is_an_error(api: RunningApi) -> None:
    api.services.refuses = UnavailableError("too many signals wait; try again", retry_after_s=2)
    answer = await post(api, "placeorder", {"apikey": api.services.key(), **ORDER})
    assert (answer.status_code, answer.json()["message"]) == (503, "too many signals wait; try again")
    assert answer.headers["retry-after"] == "2"


async def test_basket_is_one_delivery_of_its_good_orders(api: RunningApi) -> None:
    sell = ORDER | {"action": "SELL", "symbol": "SBIN"}
    body = {"apikey": api.services.key(), "orders": [sell, ORDER | {"quantity": "0"}, ORDER]}
    answer = (await post(api, "basketorder", body)).json()
    (delivery,) = api.services.taken
    assert [item.signal.symbol for item in delivery.items] == ["INFY", "SBIN"]
    assert [(row["symbol"], row["status"]) for row in answer["results"]] == [
        ("INFY", "error"),
        ("INFY", "success"),
        ("SBIN", "success"),
    ]
    api.services.taken.clear()
    nothing = (await post(api, "basketorder", body | {"orders": [ORDER | {"quantity": "0"}]})).json()
    assert (nothing["status"], api.services.taken) == ("error", [])


async def test_strategy_is_found_by_name_and_is_never_guessed(api: RunningApi) -> None:
    services = api.services
    named = Strategy(id=uuid7(), user_id=services.owner.id, name="mine")
    services.directory.put_strategy(named)
    services.directory.put_source(msgspec.structs.replace(services.source, id=uuid7(), strategy_id=named.id))
    for label, wanted in (("mine", named.id), ("Python", services.strategy.id)):
        services.taken.clear()
        answer = await post(api, "placeorder", {"apikey": services.key(), "strategy": label, **ORDER})
        assert answer.status_code == 200, answer.text
        assert services.taken[0].strategy_id == wanted
    services.directory.put_strategy(msgspec.structs.replace(named, id=uuid7()))
    twice = await post(api, "placeorder", {"apikey": services.key(), "strategy": "mine", **ORDER})
    assert (twice.status_code, twice.json()["error"]["code"]) == (409, "STRATEGY_AMBIGUOUS")


async def test_strategy_without_a_source_that_is_on_takes_no_orders(api: RunningApi) -> None:
    services = api.services
    services.directory.put_source(msgspec.structs.replace(services.source, enabled=False))
    answer = await post(api, "placeorder", {"apikey": services.key(), **ORDER})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "NO_SOURCE")


async def test_nothing_is_read_from_names_before_there_is_a_master(api: RunningApi) -> None:
    services = api.services
    services.master = SimpleNamespace(book=InstrumentBook(), loaded_at=None)
    answer = await post(api, "placeorder", {"apikey": services.key(), **ORDER})
    assert (answer.status_code, services.taken) == (503, [])
