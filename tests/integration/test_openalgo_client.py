"""The public OpenAlgo client against the running engine on the paper exchange: every endpoint that it has."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openalgo
import pytest

from tests.support.engine import EngineProcess
from tests.support.openalgo import api_token, client_of
from tests.support.servers import TestServers
from tests.support.shared_engine import paper_engine

Answer = dict[str, Any]


@pytest.fixture(scope="module")
def engine(servers: TestServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    yield from paper_engine(servers, tmp_path_factory.mktemp("openalgo"), "openalgo_client")


@pytest.fixture(scope="module")
def token(engine: EngineProcess) -> str:
    return api_token(engine, "TRADE")


@pytest.fixture(scope="module")
def client(engine: EngineProcess, token: str) -> Any:
    return client_of(engine, token)


def good(answer: Answer) -> Answer:
    assert answer["status"] == "success", answer
    return answer


def resting(client: Any, symbol: str, price: float, **fields: Any) -> str:
    """Place a LIMIT order that does not fill; return its id."""
    wanted = {"action": "BUY", "exchange": "NSE", "price_type": "LIMIT", "product": "MIS", "quantity": 5} | fields
    orderid: str = good(client.placeorder(symbol=symbol, price=price, **wanted))["orderid"]
    return orderid


def status_of(client: Any, orderid: str) -> Answer:
    row: Answer = good(client.orderstatus(order_id=orderid))["data"]
    return row


def test_order_is_placed_and_shown_by_the_brokers_id_in_every_book(engine: EngineProcess, client: Any) -> None:
    placed = good(client.placeorder(symbol="INFY", action="BUY", exchange="NSE", quantity=10))
    orderid = placed["orderid"]
    ours = engine.get(f"/executions/orders/{placed['data']['orders'][0]['id']}")
    assert ours["brokerOrderId"] == orderid

    row = engine.wait_for("the fill", lambda: (r := status_of(client, orderid))["order_status"] == "complete" and r)
    assert (row["symbol"], row["exchange"], row["action"], row["quantity"]) == ("INFY", "NSE", "BUY", "10")
    assert (row["pricetype"], row["product"], row["price"]) == ("MARKET", "MIS", 0)
    assert row["average_price"] > 0

    book = good(client.orderbook())["data"]
    assert orderid in [each["orderid"] for each in book["orders"]]
    assert book["statistics"]["total_buy_orders"] >= 1
    assert book["statistics"]["total_completed_orders"] >= 1

    def trade() -> Any:
        return next((t for t in good(client.tradebook())["data"] if t["orderid"] == orderid), None)

    bought = engine.wait_for("the trade", trade)
    assert bought["quantity"] == 10
    assert bought["trade_value"] == pytest.approx(10 * bought["average_price"])

    def held() -> Any:
        rows = good(client.positionbook())["data"]
        return next((p for p in rows if (p["symbol"], p["product"], p["quantity"]) == ("INFY", "MIS", "10")), None)

    engine.wait_for("the position", held)
    assert good(client.openposition(symbol="INFY", exchange="NSE", product="MIS"))["quantity"] == "10"
    assert good(client.openposition(symbol="INFY", exchange="NSE", product="CNC"))["quantity"] == "0"


def test_resting_order_is_changed_and_cancelled_by_any_of_its_ids(engine: EngineProcess, client: Any) -> None:
    placed = good(
        client.placeorder(symbol="HDFCBANK", action="BUY", exchange="NSE", price_type="LIMIT", price=1500, quantity=5)
    )
    orderid, order, intent = placed["orderid"], placed["data"]["orders"][0]["id"], placed["data"]["intent_id"]
    engine.wait_for("the order open", lambda: status_of(client, orderid)["order_status"] == "open")
    terms = {"symbol": "HDFCBANK", "action": "BUY", "exchange": "NSE", "product": "MIS", "quantity": 5}
    for name, price in ((orderid, "1501.50"), (order, "1502"), (intent, "1503")):
        good(client.modifyorder(order_id=name, price=price, **terms))
        assert status_of(client, name)["price"] == float(price)
    good(client.modifyorder(order_id=orderid, price="1503", **(terms | {"quantity": 7})))
    assert engine.get(f"/executions/orders/{order}")["quantity"] == 7
    wrong = client.modifyorder(order_id=orderid, price="1503", **(terms | {"action": "SELL"}))
    assert wrong["status"] == "error"
    assert "action cannot be changed" in wrong["message"]

    good(client.cancelorder(order_id=orderid))
    assert status_of(client, orderid)["order_status"] == "cancelled"
    assert good(client.cancelorder(order_id=intent))["orders"][0]["status"] == "CANCELLED"
    assert client.modifyorder(order_id=orderid, price="1504", **terms)["status"] == "error"
    filled = good(client.placeorder(symbol="SBIN", action="BUY", exchange="NSE", quantity=1))["orderid"]
    engine.wait_for("the fill", lambda: status_of(client, filled)["order_status"] == "complete")
    refused = client.cancelorder(order_id=filled)
    assert (refused["status"], refused["code"]) == ("error", 409)


def test_stop_orders_keep_their_prices_exactly(engine: EngineProcess, client: Any) -> None:
    orderid = resting(client, "ICICIBANK", 1181.10, price_type="SL", trigger_price="1185.30", action="SELL")
    row = engine.wait_for(
        "the trigger", lambda: (r := status_of(client, orderid))["order_status"] == "trigger pending" and r
    )
    assert (row["price"], row["trigger_price"], row["pricetype"]) == (1181.1, 1185.3, "SL")
    good(client.cancelorder(order_id=orderid))


def test_smart_order_brings_the_position_to_a_size_once(engine: EngineProcess, client: Any) -> None:
    def reach(size: int, action: str = "BUY") -> Answer:
        return good(
            client.placesmartorder(
                symbol="TCS", action=action, exchange="NSE", quantity=100, position_size=size, product="MIS"
            )
        )

    def is_at(size: int) -> None:
        engine.wait_for(
            f"a position of {size}",
            lambda: client.openposition(symbol="TCS", exchange="NSE", product="MIS")["quantity"] == str(size),
        )

    reach(10)
    is_at(10)
    again = reach(10)
    assert again["message"] == "Positions Already Matched. No Action needed."
    assert "orderid" not in again
    reach(-5, "SELL")
    is_at(-5)
    assert reach(0)["data"]["orders"][0]["quantity"] == 5
    is_at(0)
    assert reach(0)["message"] == "Positions Already Matched. No Action needed."
    is_at(0)


def test_smart_orders_at_the_same_time_reach_the_position_once(engine: EngineProcess, client: Any) -> None:
    def reach(_: int) -> Answer:
        answer: Answer = client.placesmartorder(
            symbol="NTPC", action="BUY", exchange="NSE", quantity=7, position_size=7, product="MIS"
        )
        return answer

    with ThreadPoolExecutor(6) as pool:
        answers = [good(answer) for answer in pool.map(reach, range(6))]
    assert sum("orderid" in answer for answer in answers) == 1
    engine.wait_for(
        "the fill",
        lambda: client.openposition(symbol="NTPC", exchange="NSE", product="MIS")["quantity"] == "7",
    )
    assert len([o for o in good(client.orderbook())["data"]["orders"] if o["symbol"] == "NTPC"]) == 1


def test_basket_places_the_good_orders_and_names_what_is_wrong_with_the_others(client: Any) -> None:
    answer = good(
        client.basketorder(
            orders=[
                {"symbol": "WIPRO", "exchange": "NSE", "action": "SELL", "quantity": 2, "pricetype": "MARKET"},
                {"symbol": "NOSUCH", "exchange": "NSE", "action": "BUY", "quantity": 1},
                {"symbol": "ITC", "exchange": "NSE", "action": "BUY", "quantity": 3, "product": "MIS"},
            ]
        )
    )
    results = {row["symbol"]: row for row in answer["results"]}
    assert [row["symbol"] for row in answer["results"]] == ["NOSUCH", "ITC", "WIPRO"]
    assert status_of(client, results["ITC"]["orderid"])["quantity"] == "3"
    assert status_of(client, results["WIPRO"]["orderid"])["action"] == "SELL"
    assert "not in today's instrument master" in results["NOSUCH"]["message"]
    assert "orderid" not in results["NOSUCH"]


def test_split_order_places_every_part(client: Any) -> None:
    answer = good(
        client.splitorder(symbol="YESBANK", action="BUY", exchange="NSE", quantity=105, splitsize=20, product="MIS")
    )
    assert (answer["split_size"], answer["total_quantity"]) == (20, 105)
    assert [row["quantity"] for row in answer["results"]] == [20, 20, 20, 20, 20, 5]
    assert [row["order_num"] for row in answer["results"]] == [1, 2, 3, 4, 5, 6]
    ids = [row["orderid"] for row in answer["results"]]
    assert len(set(ids)) == 6
    assert [status_of(client, orderid)["quantity"] for orderid in ids] == ["20"] * 5 + ["5"]


def test_refusal_by_risk_is_an_error_that_says_why_and_places_nothing(client: Any) -> None:
    before = len(good(client.orderbook())["data"]["orders"])
    answer = client.placeorder(symbol="RELIANCE", action="BUY", exchange="NSE", quantity=900_000_000)
    assert (answer["status"], answer["code"]) == ("error", 403)
    said = json.loads(answer["message"].partition(": ")[2])
    assert said["status"] == "error"
    assert said["message"].startswith("MAX_ORDER_")
    assert said["error"]["details"]["intent_status"] == "REJECTED"
    assert len(good(client.orderbook())["data"]["orders"]) == before
    shown = status_of(client, said["error"]["details"]["intent_id"])
    assert (shown["order_status"], shown["symbol"]) == ("rejected", "RELIANCE")


def test_call_with_an_idempotency_key_is_taken_once(engine: EngineProcess, token: str) -> None:
    body = {"apikey": token, "strategy": "Python", "symbol": "ITC", "exchange": "NSE", "action": "BUY", "quantity": "4"}
    first, second = (post(engine, "placeorder", body, {"Idempotency-Key": "once-only"}) for _ in range(2))
    assert first.json()["orderid"] == second.json()["orderid"]
    assert (first.json()["data"]["duplicate"], second.json()["data"]["duplicate"]) == (False, True)
    other = post(engine, "placeorder", body | {"quantity": "5"}, {"Idempotency-Key": "once-only"})
    assert (other.status_code, other.json()["status"]) == (409, "error")
    without = [post(engine, "placeorder", body).json()["orderid"] for _ in range(2)]
    assert len(set(without)) == 2


def test_call_repeated_after_its_strategy_got_another_source_is_still_one(engine: EngineProcess, token: str) -> None:
    body = {"apikey": token, "symbol": "ITC", "exchange": "NSE", "action": "BUY", "quantity": "1"}
    body |= {"pricetype": "LIMIT", "price": "450", "product": "MIS"}
    key = {"Idempotency-Key": "moved-on"}
    strategy = engine.get("/strategies")[0]["id"]
    url = f"{engine.base_url}/api/v1/placeorder"
    first = httpx.post(url, json=body, headers=key, timeout=20).json()
    made = {"type": "webhook", "strategyId": strategy, "name": "later", "checks": {"maxOrderQuantity": 2}}
    source = engine.request("POST", "/sources", json=made).json()["data"]["id"]
    try:
        again = httpx.post(url, json=body, headers=key, timeout=20).json()
        assert again["data"]["intent_id"] == first["data"]["intent_id"]
        # and what the source may not ask for is refused by this way in as well, whichever part of a call it is
        many = httpx.post(url, json=body | {"quantity": "3"}, timeout=20)
        assert (many.status_code, many.json()["status"]) == (400, "error")
        assert "MAX_ORDER_QUANTITY" in many.text
        orders = [{n: v for n, v in body.items() if n != "apikey"} | {"quantity": units} for units in ("3", "1")]
        basket = httpx.post(
            f"{engine.base_url}/api/v1/basketorder", json={"apikey": token, "orders": orders}, timeout=20
        ).json()
        assert [each["status"] for each in basket["results"]] == ["error", "success"]
    finally:
        assert engine.request("DELETE", f"/sources/{source}").status_code in (200, 204)


@pytest.mark.parametrize("kind", ["text/plain; charset=utf-8", "application/x-www-form-urlencoded", None])
def test_json_is_read_whatever_the_content_type_says(engine: EngineProcess, token: str, kind: str | None) -> None:
    body = {"apikey": token, "symbol": "ITC", "exchange": "NSE", "action": "buy", "quantity": 1, "price": "0"}
    headers = {} if kind is None else {"Content-Type": kind}
    answer = httpx.post(url(engine, "placeorder"), content=json.dumps(body), headers=headers, timeout=15)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("by", ["orderid", "intent"])
def test_order_is_cancelled_at_once_after_it_was_placed(client: Any, by: str) -> None:
    placed = good(
        client.placeorder(symbol="KOTAKBANK", action="BUY", exchange="NSE", price_type="LIMIT", price=1700, quantity=1)
    )
    name = placed["orderid"] if by == "orderid" else placed["data"]["intent_id"]
    good(client.cancelorder(order_id=name))
    assert status_of(client, placed["orderid"])["order_status"] == "cancelled"


def test_cancel_all_takes_every_order_of_the_strategy(engine: EngineProcess, client: Any) -> None:
    ids = {resting(client, "AXISBANK", 1050), resting(client, "TITAN", 3000)}
    # the broker refuses to cancel what it is processing still
    engine.wait_for("both open", lambda: {status_of(client, each)["engine_status"] for each in ids} == {"OPEN"})
    answer = good(client.cancelallorder())
    assert ids <= set(answer["canceled_orders"])
    assert answer["failed_cancellations"] == []
    assert {status_of(client, orderid)["order_status"] for orderid in ids} == {"cancelled"}


def test_close_position_closes_all_but_shares_for_delivery(engine: EngineProcess, client: Any) -> None:
    good(client.placeorder(symbol="BPCL", action="BUY", exchange="NSE", quantity=3, product="CNC"))
    good(client.placeorder(symbol="ONGC", action="SELL", exchange="NSE", quantity=3, product="MIS"))
    engine.wait_for(
        "both positions",
        lambda: {"BPCL", "ONGC"} <= {p["symbol"] for p in client.positionbook()["data"] if p["quantity"] != "0"},
    )
    answer = good(client.closeposition())
    assert answer["message"].startswith("All Open Positions Squared Off")
    assert [(row["symbol"], row["quantity"]) for row in answer["kept"]] == [("BPCL", "3")]
    engine.wait_for(
        "all closed",
        lambda: {p["symbol"] for p in client.positionbook()["data"] if p["quantity"] != "0"} == {"BPCL"},
    )


def test_funds_and_holdings_are_the_brokers(engine: EngineProcess, client: Any) -> None:
    account = engine.get("/accounts")[0]
    margins = engine.get(f"/accounts/{account['id']}/margins")
    funds = good(client.funds())
    net = sum(margins[segment]["net"] + margins[segment]["used"] for segment in ("equity", "commodity"))
    assert float(funds["data"]["availablecash"]) == pytest.approx(net, abs=0.02)
    assert funds["data"]["collateral"] == "0.00"
    assert [row["account"] for row in funds["accounts"]] == [account["label"]]
    assert set(funds["data"]) == {"availablecash", "collateral", "m2mrealized", "m2munrealized", "utiliseddebits"}
    holdings = good(client.holdings())["data"]
    ours = engine.get(f"/accounts/{account['id']}/holdings")
    assert [row["symbol"] for row in holdings["holdings"]] == [row["symbol"] for row in ours]
    assert client.funds(account="nobody's")["status"] == "error"


def test_instruments_are_found_by_openalgos_names_and_can_be_traded(engine: EngineProcess, client: Any) -> None:
    share = good(client.symbol(symbol="RELIANCE", exchange="NSE"))["data"]
    assert (share["brsymbol"], share["lotsize"], share["instrumenttype"]) == ("RELIANCE", 1, "EQ")
    index = good(client.symbol(symbol="NIFTY", exchange="NSE_INDEX"))["data"]
    assert (index["brsymbol"], index["brexchange"]) == ("NIFTY 50", "NSE")
    days = good(client.expiry(symbol="NIFTY", exchange="NFO", instrumenttype="options"))["data"]
    day = days[0].replace("-", "")
    option = good(
        client.optionsymbol(underlying="NIFTY", exchange="NSE_INDEX", expiry_date=day, offset="OTM2", option_type="CE")
    )
    assert option["symbol"].startswith(f"NIFTY{day}")
    assert (option["exchange"], option["lotsize"]) == ("NFO", 65)
    assert option["underlying_ltp"] > 0
    found = good(client.search(query="RELIANCE FUT", exchange="NFO"))["data"]
    assert {row["exchange"] for row in found} == {"NFO"}
    assert all(row["symbol"].startswith("RELIANCE") and row["symbol"].endswith("FUT") for row in found)

    placed = good(client.placeorder(symbol=option["symbol"], action="BUY", exchange="NFO", quantity=65, product="NRML"))
    orderid = placed["orderid"]
    row = engine.wait_for("the fill", lambda: (r := status_of(client, orderid))["order_status"] == "complete" and r)
    assert (row["symbol"], row["exchange"], row["product"]) == (option["symbol"], "NFO", "NRML")
    good(
        client.placesmartorder(
            symbol=option["symbol"], action="SELL", exchange="NFO", quantity=0, position_size=0, product="NRML"
        )
    )
    refused = client.placeorder(symbol="NIFTY", action="BUY", exchange="NSE_INDEX", quantity=65)
    assert refused["status"] == "error"


def test_ping_names_the_broker(engine: EngineProcess, token: str) -> None:
    answer = post(engine, "ping", {"apikey": token})
    assert answer.json() == {"status": "success", "data": {"message": "pong", "broker": "paper"}}


def test_signal_on_two_accounts_goes_by_its_intents_id(engine: EngineProcess, client: Any) -> None:
    first = engine.get("/accounts")[0]["id"]
    second = engine.request("POST", "/accounts", json={"label": "second"}).json()["data"]["id"]
    make_strategy(engine, "pair", [first, second])
    placed = good(
        client.placeorder(
            strategy="pair", symbol="LT", action="BUY", exchange="NSE", price_type="LIMIT", price=3300, quantity=2
        )
    )
    orders = placed["data"]["orders"]
    assert {order["account"] for order in orders} == {"paper", "second"}
    assert placed["orderid"] == placed["data"]["intent_id"]
    terms = {"symbol": "LT", "action": "BUY", "exchange": "NSE", "product": "MIS", "strategy": "pair"}
    good(client.modifyorder(order_id=placed["orderid"], price=3301, quantity=2, **terms))

    def changed() -> bool:
        return [status_of(client, order["orderid"])["price"] for order in orders] == [3301, 3301]

    # the answer waits 2 s at most for what the broker's book shows
    engine.wait_for("both changes", changed)
    unclear = client.modifyorder(order_id=placed["orderid"], price=3301, quantity=3, **terms)
    assert "one at a time" in unclear["message"]
    good(client.cancelorder(order_id=orders[0]["orderid"], strategy="pair"))
    assert status_of(client, orders[1]["orderid"])["order_status"] == "open"
    good(client.cancelorder(order_id=placed["orderid"], strategy="pair"))
    assert status_of(client, orders[1]["orderid"])["order_status"] == "cancelled"
    sizes = good(client.openposition(strategy="pair", symbol="LT", exchange="NSE", product="MIS"))["accounts"]
    assert [row["account"] for row in sizes] == ["paper", "second"]


def test_order_that_waits_for_a_person_says_so(engine: EngineProcess, client: Any) -> None:
    make_strategy(engine, "asks first", [engine.get("/accounts")[0]["id"]], approval="manual")
    placed = good(client.placeorder(strategy="asks first", symbol="ITC", action="BUY", exchange="NSE", quantity=1))
    assert "waits for a person" in placed["message"]
    assert placed["orderid"] == placed["data"]["intent_id"]
    assert status_of(client, placed["orderid"])["order_status"] == "open"
    good(client.cancelorder(order_id=placed["orderid"]))
    assert status_of(client, placed["orderid"])["order_status"] == "cancelled"


def test_kill_switch_stops_orders_and_not_their_cancelling(engine: EngineProcess, client: Any) -> None:
    orderid = resting(client, "MARUTI", 10_500)
    engine.wait_for("the order open", lambda: status_of(client, orderid)["engine_status"] == "OPEN")
    strategy = next(s for s in engine.get("/strategies") if s["name"] == "default")["id"]
    scope = f"strategy:{strategy}"
    on = {"scope": scope, "reason": "a test", "squareOff": False}
    assert engine.request("POST", "/risk/killswitch/enable", json=on).status_code == 200
    try:
        refused = client.placeorder(symbol="ITC", action="BUY", exchange="NSE", quantity=1)
        assert (refused["status"], refused["code"]) == ("error", 503)
        good(client.cancelorder(order_id=orderid))
    finally:
        off = {"scope": scope, "reason": "the test is over", "force": True}
        assert engine.request("POST", "/risk/killswitch/disable", json=off).status_code == 200


def make_strategy(engine: EngineProcess, name: str, accounts: list[str], **fields: Any) -> None:
    """Make a strategy with a webhook source."""
    body = {
        "name": name,
        "approval": "auto",
        "accounts": [{"accountId": each, "sizing": {"mode": "multiplier", "value": 1}} for each in accounts],
    } | fields
    made = engine.request("POST", "/strategies", json=body)
    assert made.status_code == 201, made.text
    source = {"type": "webhook", "name": name, "strategyId": made.json()["data"]["id"]}
    assert engine.request("POST", "/sources", json=source).status_code == 201


def url(engine: EngineProcess, name: str) -> str:
    return f"{engine.base_url}/api/v1/{name}"


def post(engine: EngineProcess, name: str, body: Answer, headers: dict[str, str] | None = None) -> httpx.Response:
    """Call as a program without the client does."""
    return httpx.post(url(engine, name), json=body, headers=headers, timeout=15)


def test_client_is_the_public_one() -> None:
    assert openalgo.__version__.startswith("1.0.")
