"""Kill switches that prove flat, through the API of a real engine at a real exchange; killed on the way, it goes on.

Every point of the way, and what the exchange's record says of it: ``python -m tests.crash.flatten_deaths``.
"""

import json
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from tests.support.flatten_desk import Desk, flatten_desk
from tests.support.servers import TestServers

POINTS = ("K3.cancelled", "K4.placed")


@pytest.fixture(scope="module")
def desk(servers: TestServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with flatten_desk(tmp_path_factory.mktemp("flatten"), servers, point=POINTS[0]) as desk:
        yield desk


def test_kill_switch_ends_orders_and_positions_and_proves_it(desk: Desk) -> None:
    desk.hold("SBIN", 800, 4)
    desk.kill()
    scope = desk.flat()
    assert (scope["flat"], scope["notFlat"]) == (True, [])
    assert desk.at_broker() == ({}, 0)
    (closing,) = desk.closed("SBIN")
    assert (closing["transactionType"], closing["quantity"], closing["intentId"]) == ("SELL", 4, None)
    (certificate,) = desk.engine.get("/risk/killswitch/certificates")
    assert certificate["id"] == scope["certificate"]["id"]
    assert (certificate["outcome"], certificate["valid"]) == ("FLAT_VERIFIED", True)
    content = json.loads(certificate["content"])
    (account,) = [row for row in content["accounts"] if len(row["proofs"]) == 2 and row["proofs"][0]["orders"]]
    assert account["flat"]
    assert [row["quantity"] for row in account["proofs"][1]["positions"]] == [0]
    assert content["timeToFlatS"] > 2
    actions = {record["action"] for record in desk.engine.get("/audit", limit=100)}
    assert {"SQUARE_OFF_ORDER", "KILL_CERTIFICATE", "KILLSWITCH_ADVANCED"} <= actions
    desk.release()


def test_chosen_position_is_squared_off_without_a_kill_switch(desk: Desk) -> None:
    desk.hold("INFY", 1400, 3)
    desk.hold("SBIN", 800, 2)
    answer = desk.engine.request("POST", "/executions/positions/square-off", json={"symbol": "INFY"})
    assert answer.status_code == 200, answer.text
    (row,) = answer.json()["data"]["positions"]
    assert (row["symbol"], row["quantityBefore"], row["quantity"], row["problem"]) == ("INFY", 3, 0, None)
    held, open_orders = desk.at_broker()
    assert (held, open_orders) == ({"SBIN": 2}, 1)
    nobody = {"accountId": str(uuid4())}
    assert desk.engine.request("POST", "/executions/positions/square-off", json=nobody).status_code == 404
    answer = desk.engine.request("POST", "/executions/positions/square-off")
    assert (answer.status_code, answer.json()["data"]["remaining"]) == (200, 0)
    assert desk.at_broker() == ({}, 0)


def test_engine_killed_while_it_flattens_goes_on_at_the_next_start(desk: Desk) -> None:
    for number, point in enumerate(POINTS):
        desk.hold("INFY", 1400, 2 + number)
        before = len(desk.closed("INFY"))
        desk.engine.arm()
        was_answered = True
        try:
            desk.kill()
        except httpx.TransportError:
            was_answered = False
        desk.await_death(point)
        desk.engine.plan(POINTS[min(number + 1, len(POINTS) - 1)])
        desk.engine.start()
        if not was_answered and not desk.scope()["enabled"]:
            desk.kill()  # it had died before the block was on disk, and had promised nothing
        desk.flat()
        assert desk.at_broker() == ({}, 0)
        filled = [row["filledQuantity"] for row in desk.closed("INFY")[: len(desk.closed("INFY")) - before]]
        assert sum(filled) == 2 + number, f"{point}: {filled}"
        desk.release()
