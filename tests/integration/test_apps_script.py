"""The Apps Script that a sheets source offers, run against the engine: one signal for each row, whatever happens."""

from typing import Any
from uuid import uuid4

import pytest

from tests.support.apps_script import INTENT, LEDGER, MESSAGE, OWN, STATUS, TITLES, needs_node, row, run_script
from tests.support.engine import EngineProcess

pytestmark = needs_node
SEND = {"call": "engineSend"}
ASK = {"call": "engineReconcile"}


class Sheet:
    """A sheets source of its own and the script that the engine offers for it."""

    def __init__(self, engine: EngineProcess) -> None:
        self.engine = engine
        strategy = engine.get("/strategies")[0]["id"]
        body = {"type": "sheets", "strategyId": strategy, "name": f"sheet {uuid4()}"}
        self.source = engine.request("POST", "/sources", json=body).json()["data"]
        self.script = engine.get(f"/sources/{self.source['id']}/snippet", kind="sheets")["texts"][0]["content"]

    def run(self, rows: list[list[Any]], *steps: dict[str, Any], **job: Any) -> dict[str, Any]:
        keys = {"ENGINE_API_KEY": self.source["apiKey"], "ENGINE_SECRET": self.source["secret"]}
        values = [[*TITLES, *OWN], *rows]
        job = {"properties": keys, "values": values, "book": str(uuid4())} | job
        return run_script(self.script, list(steps), **job)

    def intents(self) -> list[dict[str, Any]]:
        listed = self.engine.get("/signals/intents", limit=200)
        return [intent for intent in listed if intent["sourceId"] == self.source["id"]]

    def shown(self) -> dict[str, Any]:
        found: dict[str, Any] = self.engine.get(f"/sources/{self.source['id']}")
        return found


@pytest.fixture
def sheet(source_engine: EngineProcess) -> Sheet:
    return Sheet(source_engine)


def statuses(rows: list[list[Any]]) -> list[str]:
    return [cells[STATUS] if cells else "" for cells in rows[1:]]


def test_script_holds_no_secret_and_names_the_engine(sheet: Sheet) -> None:
    assert sheet.engine.base_url in sheet.script
    assert sheet.source["secret"] not in sheet.script
    assert sheet.source["apiKey"] not in sheet.script


def test_connect_makes_the_sheet_and_sets_each_trigger_once(sheet: Sheet) -> None:
    answers = [sheet.source["apiKey"], sheet.source["secret"]] * 2
    connect = {"call": "engineConnect"}
    told = run_script(sheet.script, [connect, connect], answers=answers)
    assert {"Send", "Status", "symbol"} <= set(told["told"][0][0])
    handlers = [["engineEdited", "edit"], ["engineSend", "every 1"], ["engineReconcile", "every 5"]]
    assert told["triggers"] == handlers
    assert told["properties"]["ENGINE_SECRET"] == sheet.source["secret"]


def test_each_ticked_row_becomes_one_signal_however_often_the_script_runs(sheet: Sheet) -> None:
    rows = [
        row("SBIN"),
        row("INFY", 2),
        row("SBIN"),
        row("TCS", send=False),
        row("ITC", orderType="LIMIT", price=390.1),
    ]
    edited = {"call": "engineEdited"}
    told = sheet.run(rows, SEND, SEND, edited, {"call": "engineEdited", "edits": "Notes"}, ASK)
    for seen in told["told"]:
        assert statuses(seen) == ["SENT", "SENT", "SENT", "", "SENT"]
    written = [cells[INTENT] for cells in told["told"][-1][1:] if cells[INTENT]]
    assert sorted(written) == sorted(intent["id"] for intent in sheet.intents())
    assert len(written) == 4


def test_lost_answer_is_tried_again_under_the_same_key_and_makes_no_second_order(sheet: Sheet) -> None:
    told = sheet.run([row("SBIN")], {"faults": ["answer lost", 503, 429]}, SEND)
    posts = [fetch for fetch in told["fetches"] if fetch["path"] == "/signals/sheets/webhook"]
    assert len(posts) == 4
    assert len({post["key"] for post in posts}) == 1
    assert statuses(told["told"][-1]) == ["SENT"]
    assert len(sheet.intents()) == 1


def test_refusal_after_a_lost_answer_does_not_hide_that_the_row_arrived(sheet: Sheet) -> None:
    refusal = {"code": 401, "answer": {"error": {"code": "BAD_SIGNATURE", "message": "rotated"}}}
    told = sheet.run([row("SBIN")], {"faults": ["answer lost", refusal]}, SEND, ASK)
    assert statuses(told["told"][0]) == ["RETRY"]
    assert "BAD_SIGNATURE" in told["told"][0][1][MESSAGE]
    assert statuses(told["told"][1]) == ["SENT"]
    assert len(sheet.intents()) == 1


def test_two_rows_alike_in_one_second_are_two_signals_of_a_strict_source_too(sheet: Sheet) -> None:
    path = f"/sources/{sheet.source['id']}"
    assert sheet.engine.request("PATCH", path, json={"strictReplay": True}).status_code == 200
    told = sheet.run([row("SBIN"), row("SBIN")], SEND)
    assert statuses(told["told"][0]) == ["SENT", "SENT"]
    assert len(sheet.intents()) == 2


def test_run_that_dies_with_the_answer_on_its_way_is_taken_up_with_its_key(sheet: Sheet) -> None:
    told = sheet.run([row("SBIN"), row("INFY")], {"faults": ["dies after"]}, SEND, SEND)
    assert statuses(told["told"][0]) == ["SENDING", ""]
    assert statuses(told["told"][1]) == ["SENT", "SENT"]
    assert len(sheet.intents()) == 2


def test_changed_row_is_not_sent_again_until_its_status_is_cleared(sheet: Sheet) -> None:
    change = {"set": [1, TITLES.index("quantity"), 5]}
    told = sheet.run([row("SBIN")], SEND, change, SEND, {"set": [1, STATUS, ""]}, SEND)
    first, changed, cleared = told["told"]
    assert statuses(first) == statuses(changed) == ["SENT"]
    assert "clear Status" in changed[1][MESSAGE]
    assert statuses(cleared) == ["SENT"]
    assert sorted(intent["quantity"] for intent in sheet.intents()) == [1, 5]


def test_clearing_the_status_of_an_unchanged_row_makes_no_second_order(sheet: Sheet) -> None:
    told = sheet.run([row("SBIN")], SEND, {"set": [1, STATUS, ""]}, SEND)
    assert statuses(told["told"][-1]) == ["DUPLICATE"]
    assert len(sheet.intents()) == 1


def test_row_whose_note_was_deleted_too_is_the_same_signal(sheet: Sheet) -> None:
    gone = [{"set": [1, STATUS, ""]}, {"set": [1, LEDGER, ""]}]
    told = sheet.run([row("SBIN")], SEND, *gone, SEND)
    assert statuses(told["told"][-1]) == ["DUPLICATE"]
    assert len(sheet.intents()) == 1


@pytest.mark.parametrize("lockless", [False, True])
def test_two_runs_at_once_send_a_row_once(sheet: Sheet, lockless: bool) -> None:
    """With the lock the second run leaves the row alone; were there none, both would use the same key."""
    told = sheet.run([row("SBIN")], {"faults": ["second run"]}, SEND, lockless=lockless)
    posts = [fetch for fetch in told["fetches"] if fetch["path"] == "/signals/sheets/webhook"]
    assert len(posts) == (2 if lockless else 1)
    assert len({post["key"] for post in posts}) == 1
    assert len(sheet.intents()) == 1


def test_row_that_moves_while_it_is_sent_gets_its_own_answer(sheet: Sheet) -> None:
    told = sheet.run([row("SBIN"), row("INFY", 0)], {"faults": ["row inserted above"]}, SEND)
    seen = told["told"][-1]
    assert statuses(seen) == ["", "SENT", "REFUSED"]
    assert seen[2][INTENT] == sheet.intents()[0]["id"]


def test_refused_row_says_why_and_is_not_tried_again(sheet: Sheet) -> None:
    told = sheet.run([row("SBIN", 1.5), row("=HYPERLINK(1)")], SEND, SEND)
    seen = told["told"][-1]
    assert statuses(seen) == ["REFUSED", "REFUSED"]
    assert "quantity" in seen[1][MESSAGE]
    assert told["formulas"] == []
    assert len(told["fetches"]) == 2


def test_noise_of_a_formula_in_a_price_is_taken_off(sheet: Sheet) -> None:
    told = sheet.run([row("SBIN", orderType="LIMIT", price=815.0 + 4.5e-13)], SEND)
    assert statuses(told["told"][0]) == ["SENT"], told["told"]
    assert sheet.intents()[0]["price"] == 815


def test_row_that_never_arrived_is_found_and_sent_while_it_is_young(sheet: Sheet) -> None:
    never = {"faults": ["never arrives"] * 4}
    told = sheet.run([row("SBIN")], never, SEND, ASK)
    assert statuses(told["told"][0]) == ["RETRY"]
    assert statuses(told["told"][1]) == ["SENT"]
    assert len(sheet.intents()) == 1


def test_row_that_never_arrived_and_is_old_is_missed_and_a_person_told(sheet: Sheet) -> None:
    never = {"faults": ["never arrives"] * 4}
    told = sheet.run([row("SBIN")], never, SEND, {"advance": 120}, SEND, ASK, {"set": [1, STATUS, ""]}, SEND)
    _, left_alone, asked, cleared = told["told"]
    assert statuses(left_alone) == ["RETRY"]
    assert statuses(asked) == ["MISSED"]
    assert statuses(cleared) == ["SENT"]
    assert len(sheet.intents()) == 1
    alerts = sheet.engine.get("/audit", action="ALERT", subject=f"source:{sheet.source['id']}")
    assert any("SHEET_ROWS_MISSING" in alert["data"]["text"] for alert in alerts)


def test_row_whose_answer_was_lost_for_good_is_found_to_have_arrived(sheet: Sheet) -> None:
    lost = {"faults": ["answer lost"] + ["never arrives"] * 3}
    told = sheet.run([row("SBIN")], lost, SEND, {"advance": 120}, ASK)
    assert statuses(told["told"][0]) == ["RETRY"]
    assert statuses(told["told"][1]) == ["SENT"]
    assert told["told"][1][1][INTENT] == sheet.intents()[0]["id"]


def test_kill_switch_blocks_the_row_and_it_is_not_sent_later_by_itself(sheet: Sheet) -> None:
    scope = f"source:{sheet.source['id']}"
    body = {"scope": scope, "reason": "test", "squareOff": False}
    assert sheet.engine.request("POST", "/risk/killswitch/enable", json=body).status_code == 200
    try:
        told = sheet.run([row("SBIN")], SEND)
    finally:
        off = {"scope": scope, "reason": "over", "force": True}
        assert sheet.engine.request("POST", "/risk/killswitch/disable", json=off).status_code == 200
    assert statuses(told["told"][0]) == ["BLOCKED"]
    again = sheet.run(told["told"][0][1:], SEND, ASK)
    assert statuses(again["told"][-1]) == ["BLOCKED"]
    assert sheet.intents() == []


def test_script_says_that_it_lives_and_what_it_sent_last(sheet: Sheet) -> None:
    sheet.run([row("SBIN"), row("INFY")], SEND, ASK)
    shown = sheet.shown()
    assert shown["lastSequence"] == 2
    assert shown["missing"] == []
    assert shown["lastHeardAt"] >= shown["lastSignalAt"]


def test_note_of_the_script_survives_a_cell_that_somebody_broke(sheet: Sheet) -> None:
    told = sheet.run([row("SBIN")], SEND, {"set": [1, LEDGER, "oops"]}, SEND, ASK)
    assert statuses(told["told"][-1]) == ["SENT"]
    assert len(sheet.intents()) == 1
