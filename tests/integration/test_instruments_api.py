"""Instruments, sessions and contracts in words, as a user of the API meets them."""

import json
import subprocess
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from tests.support import forks
from tests.support.engine import EngineProcess, market_order
from tests.support.servers import TestServers
from tests.support.shared_engine import paper_engine


@pytest.fixture(scope="module")
def engine(servers: TestServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    aliases = json.dumps({"MYBANK": "SBIN"})
    yield from paper_engine(
        servers, tmp_path_factory.mktemp("instruments"), "instruments_api", ENGINE__SIGNALS__ALIASES=aliases
    )


def search(engine: EngineProcess, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = engine.get("/instruments", **params)
    return found


def ended(engine: EngineProcess, body: dict[str, Any]) -> dict[str, Any]:
    answer = engine.signal(body)
    assert answer.status_code == 202, answer.text
    intent = answer.json()["data"]["intentId"]

    def look() -> Any:
        found = engine.get(f"/signals/intents/{intent}")
        return found if found["status"] not in ("RECEIVED", "APPROVED", "EXECUTING") else None

    result: dict[str, Any] = engine.wait_for("the intent ending", look)
    return result


def test_search_finds_what_people_remember(engine: EngineProcess) -> None:
    assert search(engine, query="infy")[0]["symbol"] == "INFY"
    assert search(engine, query="state bank")[0]["symbol"] == "SBIN"
    calls = search(engine, query="NIFTY", exchange="NFO", type="CE", limit=5)
    assert len(calls) == 5
    assert all(row["type"] == "CE" and row["exchange"] == "NFO" for row in calls)
    assert search(engine, query="no such thing") == []


def test_search_pages_reach_every_row_once(engine: EngineProcess) -> None:
    seen, cursor = [], None
    while True:
        answer = engine.request(
            "GET", "/instruments", params={"query": "NIFTY", "limit": 40} | ({"cursor": cursor} if cursor else {})
        ).json()
        seen += [(row["exchange"], row["symbol"]) for row in answer["data"]]
        cursor = answer["page"]["nextCursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) > 80


@pytest.mark.parametrize(
    "params", [{"type": "BOND"}, {"exchange": "LSE"}, {"expiry": "soon"}, {"cursor": "!"}, {"from": "2026-01-01"}]
)
def test_search_by_what_is_not_there_is_refused(engine: EngineProcess, params: dict[str, str]) -> None:
    assert engine.request("GET", "/instruments", params=params).status_code == 422


def test_instrument_is_shown_with_everything_an_order_needs(engine: EngineProcess) -> None:
    share = engine.get("/instruments/NSE/infy")
    assert (share["symbol"], share["lotSize"], share["isTradable"], share["expiry"]) == ("INFY", 1, True, None)
    assert share["tickSize"] > 0
    assert share["lastPrice"] > 0
    assert engine.get("/instruments/NSE/M%26M")["name"] == "MAHINDRA & MAHINDRA"
    assert engine.get("/instruments/NSE/NIFTY%2050")["isTradable"] is False
    future = search(engine, query="CRUDEOIL", type="FUT")[0]
    assert (future["exchange"], future["lotSize"], future["multiplier"]) == ("MCX", 1, 100)
    option = search(engine, query="NIFTY", exchange="NFO", type="PE")[0]
    assert (option["lotSize"], option["freezeQuantity"]) == (65, 1800)
    for path in ("/instruments/NSE/NOSUCH", "/instruments/LSE/INFY"):
        assert engine.request("GET", path).status_code == 404


def test_sessions_tell_phases_and_the_next_opening(engine: EngineProcess) -> None:
    found = {row["exchange"]: row for row in engine.get("/market/sessions", date="2026-12-01")}
    assert set(found) == {"NSE", "BSE", "NFO", "BFO", "CDS", "BCD", "MCX"}
    pre_open, opened = found["NSE"]["phases"][:2]
    assert (pre_open["phase"], opened["phase"]) == ("PRE_OPEN", "OPEN")
    assert (opened["start"], opened["end"]) == ("2026-12-01T03:45:00Z", "2026-12-01T10:00:00Z")
    assert found["MCX"]["phases"][-1]["end"] == "2026-12-01T18:25:00Z"
    assert all(row["nextOpen"] for row in found.values())
    christmas = {row["exchange"]: row for row in engine.get("/market/sessions", date="2026-12-25")}
    assert christmas["NSE"]["holiday"] == "Christmas Day"
    assert christmas["NSE"]["phases"] == christmas["MCX"]["phases"] == []


def test_contract_in_words_is_traded_and_the_intent_says_how(engine: EngineProcess) -> None:
    intent = ended(engine, market_order("nifty  atm ce", 65, exchange="NFO", productType="NRML"))
    assert intent["status"] == "EXECUTED", intent
    (order,) = intent["orders"]
    assert intent["symbol"] == "NIFTY ATM CE"
    assert intent["resolvedSymbol"] == order["symbol"] != intent["symbol"]
    (resolved,) = [entry["detail"] for entry in intent["timeline"] if entry["event"] == "RESOLVED"]
    assert resolved.startswith(f"NIFTY ATM CE is NFO:{order['symbol']} at NSE:NIFTY 50 2")
    listed = engine.get(f"/instruments/NFO/{order['symbol']}")
    spot = engine.get("/instruments/NSE/NIFTY%2050")["lastPrice"]
    assert abs(listed["strike"] - spot) < 75
    assert date.fromisoformat(listed["expiry"])
    for symbol in ("NIFTY ATM CE", order["symbol"]):
        assert intent["id"] in {row["id"] for row in engine.get("/signals/intents", symbol=symbol)}


def test_alias_of_the_configuration_is_traded(engine: EngineProcess) -> None:
    intent = ended(engine, market_order("MYBANK"))
    assert [order["symbol"] for order in intent["orders"]] == ["SBIN"]
    assert (intent["symbol"], intent["resolvedSymbol"]) == ("MYBANK", "SBIN")


def test_what_cannot_be_chosen_is_rejected_with_what_there_is(engine: EngineProcess) -> None:
    intent = ended(engine, market_order("NIFTY 24525 CE", 65, exchange="NFO", productType="NRML"))
    assert intent["status"] == "REJECTED"
    assert intent["reason"].startswith("NO_SUCH_STRIKE: ")
    assert intent["symbol"] == intent["resolvedSymbol"] == "NIFTY 24525 CE"


def test_freeze_quantities_are_set_kept_and_on_the_record(engine: EngineProcess) -> None:
    rows = [{"exchange": "NFO", "underlying": "BANKNIFTY", "quantity": 900}, {**NSE_INFY}]
    answer = engine.request("PUT", "/instruments/freeze", json=rows)
    assert answer.status_code == 200, answer.text
    held = {(row["exchange"], row["symbol"]): row for row in answer.json()["data"]}
    assert (held["NFO", "BANKNIFTY"]["quantity"], held["NFO", "BANKNIFTY"]["origin"]) == (900, "user")
    assert held["NFO", "NIFTY"]["origin"] == "default"
    assert engine.get("/instruments/NSE/INFY")["freezeQuantity"] == 40000
    text = "exchange,symbol,quantity\nNFO,NIFTY,1300\n"
    answer = engine.request("PUT", "/instruments/freeze", content=text, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 200, answer.text
    assert engine.get("/instruments/NSE/INFY")["freezeQuantity"] is None, "the list before is gone"
    assert engine.get("/instruments/freeze") == answer.json()["data"]
    assert [row["action"] for row in engine.get("/audit", limit=200)].count("FREEZE_SET") == 2


NSE_INFY = {"exchange": "NSE", "symbol": "INFY", "quantity": 40000}


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        ("[", "application/json", 400),
        ("{}", "application/json", 422),
        ('[{"exchange":"NFO","quantity":5}]', "application/json", 422),
        ('[{"exchange":"NFO","symbol":"A","underlying":"A","quantity":5}]', "application/json", 422),
        ('[{"exchange":"NFO","symbol":"A","quantity":0}]', "application/json", 422),
        (json.dumps([NSE_INFY, NSE_INFY]), "application/json", 422),
        ("exchange,quantity\nNFO,5\n", "text/csv", 422),
        ("exchange,symbol,quantity\nNFO,NIFTY,18e2\n", "text/csv", 422),
        ("exchange,symbol,quantity\nNFO,NIFTY,1800\n", "text/plain", 415),
    ],
)
def test_freeze_list_that_is_not_whole_changes_nothing(
    engine: EngineProcess, content: str, kind: str, status: int
) -> None:
    before = engine.get("/instruments/freeze")
    answer = engine.request("PUT", "/instruments/freeze", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text
    assert engine.get("/instruments/freeze") == before


def test_only_an_admin_sets_freeze_quantities(engine: EngineProcess) -> None:
    person = {"email": "t@example.org", "password": "a long enough one 7", "name": "T", "role": "TRADER"}
    assert engine.request("POST", "/users", json=person).status_code == 201
    login = engine.request("POST", "/auth/login", json={"email": person["email"], "password": person["password"]})
    headers = {"Authorization": f"Bearer {login.json()['data']['accessToken']}"}
    assert engine.request("PUT", "/instruments/freeze", json=[NSE_INFY], headers=headers).status_code == 403
    assert engine.request("GET", "/instruments", params={"query": "INFY"}, headers=headers).status_code == 200


def command(engine: EngineProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return forks.command(
        "instruments",
        *arguments,
        cwd=engine.folder,
        env=engine._environment,
        timeout=60,
    )


def test_command_sets_freeze_quantities_with_the_engine_running_and_stopped(engine: EngineProcess) -> None:
    file = engine.folder / "freeze.csv"
    file.write_text("exchange,underlying,quantity\nNFO,NIFTY,1170\n")
    done = command(engine, "freeze", str(file))
    assert (done.returncode, done.stdout) == (0, "1 freeze quantities set\n"), done.stderr
    assert freeze_of(engine, "NIFTY") == 1170
    assert engine.stop() == 0
    file.write_text("exchange,underlying,quantity\nNFO,NIFTY,1235\nNFO,BANKNIFTY,630\n")
    done = command(engine, "freeze", str(file))
    assert done.returncode == 0, done.stderr
    listed = json.loads(command(engine, "freeze-list", "--json").stdout)
    assert {row["symbol"]: row["quantity"] for row in listed} == {"BANKNIFTY": 630, "NIFTY": 1235}
    file.write_text("exchange,underlying,quantity\nNFO,NIFTY,many\n")
    refused = command(engine, "freeze", str(file))
    assert refused.returncode == 1
    assert "line 2: quantity: write a whole number" in refused.stderr
    engine.start()
    assert freeze_of(engine, "NIFTY") == 1235
    assert engine.get("/audit/verify")["ok"]


def freeze_of(engine: EngineProcess, symbol: str) -> int:
    (found,) = [row["quantity"] for row in engine.get("/instruments/freeze") if row["symbol"] == symbol]
    return int(found)
