"""Dead letters on the real engine: looked at, taken in again once, or dropped; by API and by command."""

import base64
import json
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from tests.support.engine import EngineProcess
from tests.support.intruder import People, assert_refused
from tests.support.letters import Letters
from tests.support.servers import TestServers
from tests.support.shared_engine import paper_engine

NAME = "dead_letters"
PATH = "/system/dead-letters"


@pytest.fixture(scope="module")
def engine(servers: TestServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    environment = {"ENGINE__RISK__PRICE_BAND_PCT": "none", "ENGINE__RISK__DUPLICATE_WINDOW_S": "none"}
    yield from paper_engine(servers, tmp_path_factory.mktemp(NAME), NAME, **environment)


@pytest.fixture(scope="module")
def letters(engine: EngineProcess, servers: TestServers) -> Letters:
    return Letters(engine, servers, NAME)


@pytest.fixture(scope="module")
def people(engine: EngineProcess) -> Iterator[People]:
    signed_up = People(engine)
    yield signed_up
    signed_up.close()


def decide(engine: EngineProcess, letter: str, what: str) -> httpx.Response:
    return engine.request("POST", f"{PATH}/{letter}/{what}")


def test_letter_is_shown_with_its_bytes_and_what_they_say(engine: EngineProcess, letters: Letters) -> None:
    entry = letters.entry(letters.delivery("shown", quantity=7))
    letter = letters.bury(entry)
    found = engine.get(f"{PATH}/{letter}")
    assert base64.b64decode(found["payload"]) == entry
    assert (found["idempotencyKey"], found["sizeBytes"], found["canRequeue"]) == ("shown", len(entry), True)
    assert [(signal["symbol"], signal["quantity"]) for signal in found["signals"]] == [("SBIN", 7)]
    garbage = engine.get(f"{PATH}/{letters.bury(b'garbage', kind='DAMAGED')}")
    assert (garbage["signals"], garbage["receivedAt"], garbage["canRequeue"]) == ([], None, False)
    assert_refused(engine.request("GET", f"{PATH}/{uuid4()}"), 404)


def test_list_is_filtered_and_paged_newest_first(engine: EngineProcess, letters: Letters) -> None:
    made = [letters.bury(b"x", kind="DAMAGED", queue="audit") for _ in range(5)]
    discarded = engine.request("POST", f"{PATH}/{made[0]}/discard", json={"reason": "a duplicate"})
    assert discarded.status_code == 200
    (record, *_) = engine.get("/audit", subject=f"dead_letter:{made[0]}")
    assert record["data"]["reason"] == "a duplicate"
    seen: list[str] = []
    cursor = None
    while True:
        query = {"queue": "audit", "status": "WAITING", "limit": 2} | ({"cursor": cursor} if cursor else {})
        answer = engine.request("GET", PATH, params=query).json()
        seen += [row["id"] for row in answer["data"]]
        cursor = answer["page"]["nextCursor"]
        if cursor is None:
            break
    assert seen == made[:0:-1]
    assert [row["id"] for row in engine.get(PATH, queue="audit", status="DISCARDED")] == [made[0]]
    assert_refused(engine.request("GET", PATH, params={"status": "LOST"}), 422)
    queues = {row["name"]: row["dead"] for row in engine.get("/system/queues")}
    assert queues["audit"] == 4


def test_requeued_delivery_is_executed_once_under_its_own_key(engine: EngineProcess, letters: Letters) -> None:
    letter = letters.bury(letters.entry(letters.delivery("young", quantity=3)))
    answer = decide(engine, letter, "requeue")
    assert answer.status_code == 200, answer.text
    told = answer.json()["data"]
    assert (told["status"], told["decidedBy"]) == ("REQUEUED", f"user:{engine.get('/auth/me')['id']}")
    assert told["takenAt"] is not None
    intent = letters.ended("young")
    assert (intent["status"], [order["filledQuantity"] for order in intent["orders"]]) == ("EXECUTED", [3])
    again = assert_refused(decide(engine, letter, "requeue"), 409)
    assert "requeued already" in again["message"]
    assert_refused(decide(engine, letter, "discard"), 409)
    assert letters.ended("young") == intent
    record = engine.get("/audit", subject=f"dead_letter:{letter}")
    assert [row["action"] for row in record] == ["DEAD_LETTER_REQUEUED"]


def test_delivery_that_is_in_the_ledger_already_is_not_executed_again(engine: EngineProcess, letters: Letters) -> None:
    delivery = letters.entry(letters.delivery("twice"))
    for letter in (letters.bury(delivery), letters.bury(delivery)):
        assert decide(engine, letter, "requeue").status_code == 200
    assert len(letters.ended("twice")["orders"]) == 1


def test_delivery_that_was_too_old_stays_too_old(engine: EngineProcess, letters: Letters) -> None:
    letter = letters.bury(letters.entry(letters.delivery("stale", age_s=3600)))
    assert decide(engine, letter, "requeue").status_code == 200
    intent = letters.ended("stale")
    assert (intent["status"], intent["orders"]) == ("EXPIRED", [])


def test_parked_exit_goes_when_a_person_says_so_however_old_it_is(engine: EngineProcess, letters: Letters) -> None:
    parked = letters.delivery("dead-letter:parked", age_s=3600)
    letter = letters.bury(letters.entry(parked), kind="PARKED", queue="execution")
    assert decide(engine, letter, "requeue").status_code == 200
    assert letters.ended("dead-letter:parked")["status"] == "EXECUTED"
    assert_refused(decide(engine, letter, "requeue"), 409)


@pytest.mark.parametrize("payload", [b"garbage", b""])
def test_damaged_entry_is_refused_with_the_reason(engine: EngineProcess, letters: Letters, payload: bytes) -> None:
    letter = letters.bury(payload, kind="DAMAGED")
    error = assert_refused(decide(engine, letter, "requeue"), 409)
    assert "only discarded: because" in error["message"]
    assert decide(engine, letter, "discard").json()["data"]["status"] == "DISCARDED"


def test_letter_whose_seal_does_not_fit_is_refused_whatever_its_kind(engine: EngineProcess, letters: Letters) -> None:
    entry = letters.entry(letters.delivery("forged"))
    letter = letters.bury(entry[:-3] + bytes([entry[-3] ^ 1]) + entry[-2:])
    assert "MAC" in assert_refused(decide(engine, letter, "requeue"), 409)["message"]
    assert letters.intent_of("forged") is None


def test_requeue_under_a_kill_switch_is_refused_and_the_letter_waits_on(
    engine: EngineProcess, letters: Letters
) -> None:
    letter = letters.bury(letters.entry(letters.delivery("killed")))
    engine.request("POST", "/risk/killswitch/enable", json={"scope": "global", "reason": "t", "squareOff": False})
    try:
        assert_refused(decide(engine, letter, "requeue"), 503)
    finally:
        released = {"scope": "global", "reason": "t", "force": True}
        assert engine.request("POST", "/risk/killswitch/disable", json=released).status_code == 200
    assert engine.get(f"{PATH}/{letter}")["status"] == "WAITING"
    assert decide(engine, letter, "requeue").status_code == 200


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("GET", "/ID"), ("POST", "/ID/requeue"), ("POST", "/ID/discard")]
)
def test_only_administrators_reach_dead_letters(
    engine: EngineProcess, letters: Letters, people: People, method: str, path: str
) -> None:
    letter = letters.bury(letters.entry(letters.delivery("guarded")))
    path = PATH + path.replace("ID", letter)
    for role in ("TRADER", "VIEWER"):
        assert_refused(people(role.lower(), role).request(method, path), 403)
    assert_refused(httpx.request(method, f"{engine.base_url}/api/v1{path}", timeout=10), 401)
    assert engine.get(f"{PATH}/{letter}")["status"] == "WAITING"
    assert people("boss", "ADMIN").request(method, path).status_code == 200


# the command


def test_command_works_beside_the_running_engine(engine: EngineProcess, letters: Letters) -> None:
    entry = letters.entry(letters.delivery("by-hand"))
    letter, damaged = letters.bury(entry), letters.bury(b"garbage", kind="DAMAGED", queue="risk")
    listed = json.loads(letters.program("list", "--queue", "risk", "--json").stdout)
    assert [(row["id"], row["kind"], row["canRequeue"]) for row in listed] == [(damaged, "DAMAGED", False)]
    assert letter in letters.command("list", "--status", "WAITING")[1]
    assert base64.b64decode(json.loads(letters.command("show", letter)[1])["payload"]) == entry
    assert letters.command("requeue", letter) == (0, f"{letter}: REQUEUED\n")
    assert letters.ended("by-hand")["status"] == "EXECUTED"
    again = letters.program("requeue", letter)
    assert (again.returncode, again.stdout) == (1, "")
    assert "requeued already by cli" in again.stderr
    assert letters.command("discard", damaged) == (0, f"{damaged}: DISCARDED\n")
    assert letters.command("show", str(uuid4()))[0] == 1
    assert letters.command("discard", "no-id")[0] == 2


def test_requeue_while_the_engine_is_stopped_is_taken_in_at_its_next_start(
    engine: EngineProcess, letters: Letters, servers: TestServers
) -> None:
    stale, young = (letters.bury(letters.entry(letters.delivery(k, age_s=a))) for k, a in (("old", 3600), ("new", 0)))
    parked = letters.bury(
        letters.entry(letters.delivery("dead-letter:p", age_s=3600)), kind="PARKED", queue="execution"
    )
    dropped, damaged = letters.bury(letters.entry(letters.delivery("dropped"))), letters.bury(b"x", kind="DAMAGED")
    crashing = letters.bury(letters.entry(letters.delivery("crashing")))
    assert engine.stop() == 0
    for letter in (stale, young, parked, crashing):
        code, said = letters.command("requeue", letter)
        assert (code, "taken in at the next start" in said) == (0, True), said
    assert letters.command("requeue", young)[0] == 1
    assert "only discarded" in letters.command("requeue", damaged)[1]
    assert letters.command("discard", dropped)[0] == 0
    # an engine began to take this one in, and that was its end
    servers.sql(f"UPDATE dead_letters SET tried_at = now() WHERE id = '{crashing}'", NAME)
    for _ in range(2):
        engine.start()
        ends = {key: letters.ended(key) for key in ("old", "new", "dead-letter:p")}
        assert {key: end["status"] for key, end in ends.items()} == {
            "old": "EXPIRED",
            "new": "EXECUTED",
            "dead-letter:p": "EXECUTED",
        }
        assert letters.intent_of("dropped") is letters.intent_of("crashing") is None
        waits = engine.get(f"{PATH}/{crashing}")
        assert (waits["status"], "ended the engine again" in waits["error"]) == ("WAITING", True)
        assert engine.get(f"{PATH}/{young}")["takenAt"] is not None
        assert engine.get("/audit/verify")["ok"]
        engine.kill()
