"""What the broker does to an order (reliability.md F23 to F30, F35) on real processes; its record is the truth.

Rules are set for symbols, so that many faults are tried at once, each on several signals. The horizon
of rule R is seconds here; its real length is tested in virtual time.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.fault_engines import HORIZON_S, fault_rig
from tests.support.fault_rig import Fate, FaultRig
from tests.support.servers import TestServers

pytestmark = pytest.mark.crash

EACH = 3
UNPLACED = "UNPLACED"
AMBIGUOUS_ANSWERS = (
    *("none", "drop", "reset", "timed_out", "order_error", "server_error", "oms_down", "api_down"),
    *("bad_gateway_page", "gateway_timeout", "truncated", "wrong_type", "no_order_id", "not_json"),
)
DEFINITE_ANSWERS = {
    "bad_input": "Invalid",
    "no_funds": "FUNDS",
    "no_holdings": "HOLDINGS",
    "unauthorised_holdings": "HOLDINGS",
}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, servers: TestServers) -> Iterator[FaultRig]:
    redis_url = f"{servers.redis_url}?db=14"
    servers.flush(redis_url)
    with fault_rig(tmp_path_factory.mktemp("faults"), servers, "broker_faults", redis_url) as running:
        yield running


@pytest.fixture(autouse=True)
def no_fault_is_left(rig: FaultRig) -> Iterator[None]:
    rig.exchange.set_faults()
    yield
    rig.exchange.set_faults()


def try_each(rig: FaultRig, rules: dict[str, dict[str, Any]], each: int = EACH) -> dict[str, list[Fate]]:
    """Send *each* signals under every rule, a symbol for each; return the fates by the rule's name."""
    symbols = {name: rig.next_symbols(each) for name in rules}
    rig.exchange.set_faults(*(rules[name] | {"symbol": symbol} for name in rules for symbol in symbols[name]))
    return {name: [rig.send(symbol) for symbol in symbols[name]] for name in rules}


def every(fates: dict[str, list[Fate]]) -> list[Fate]:
    return [fate for some in fates.values() for fate in some]


def test_order_whose_answer_is_lost_or_odd_is_adopted_by_its_tag_and_never_sent_again(rig: FaultRig) -> None:
    rules = {answer: {"takes": "now", "answer": answer} for answer in AMBIGUOUS_ANSWERS}
    rules["cut"] = {"takes": "now", "answer": "cut", "after_bytes": 20}
    rules["late answer"] = {"takes": "now", "answer": "own", "delay_s": 2.0}
    fates = try_each(rig, rules)
    rig.settled(every(fates))
    rig.check()
    everything = every(fates)
    assert not [str(f) for f in everything if (f.status, f.orders, f.posts) != ("COMPLETE", 1, 1)]
    # a look at the order book on behalf of one order shows the others too, some before anybody doubts them
    assert sum(fate.was_unknown for fate in everything) > len(everything) / 3, "\n".join(map(str, everything))


def test_order_that_never_arrived_is_unknown_until_the_horizon_and_then_expired_unplaced(rig: FaultRig) -> None:
    fates = every(try_each(rig, {answer: {"takes": "never", "answer": answer} for answer in AMBIGUOUS_ANSWERS}))
    rig.settled(fates, within_s=HORIZON_S + 30)
    rig.check()
    wrong = [str(f) for f in fates if (f.status, f.orders, f.posts, f.was_unknown) != ("EXPIRED", 0, 1, True)]
    wrong += [str(f) for f in fates if UNPLACED not in f.row["status_message"]]
    assert not wrong, "\n".join(wrong)


def test_order_taken_late_is_adopted_before_the_horizon_and_found_after_it(rig: FaultRig) -> None:
    fates = try_each(
        rig,
        {
            "timed out, then placed": {"takes": "late", "late_s": 1.5, "answer": "timed_out"},
            "dropped, then placed": {"takes": "late", "late_s": 1.0, "answer": "drop"},
            "page, then placed": {"takes": "late", "late_s": 0.5, "answer": "bad_gateway_page"},
            "after the horizon": {"takes": "late", "late_s": HORIZON_S + 6, "answer": "timed_out"},
        },
    )
    rig.settled(every(fates))
    late = fates["after the horizon"]
    given_up = [str(fate) for fate in late if fate.status == "EXPIRED" and fate.orders == 0]
    assert len(given_up) == EACH, "\n".join(map(str, late))

    def all_found() -> bool:
        rig.look()
        # found first, and filled once the trades of it are in the books
        return all(fate.orders == 1 and fate.status == "COMPLETE" for fate in late)

    rig.engine.wait_for("the late orders being found", all_found, within_s=60)
    rig.settled(every(fates))
    rig.check()
    wrong = [str(f) for f in every(fates) if (f.status, f.orders, f.posts, f.was_unknown) != ("COMPLETE", 1, 1, True)]
    assert not wrong, "\n".join(wrong)


def test_definite_refusal_is_rejected_in_the_brokers_words_and_never_unknown(rig: FaultRig) -> None:
    fates = try_each(rig, {answer: {"takes": "never", "answer": answer} for answer in DEFINITE_ANSWERS})
    rig.settled(every(fates))
    rig.check()
    wrong = [
        str(fate)
        for answer, some in fates.items()
        for fate in some
        if (fate.status, fate.orders, fate.posts, fate.was_unknown) != ("REJECTED", 0, 1, False)
        or DEFINITE_ANSWERS[answer] not in fate.row["status_message"]
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("answer", ["server_error", "empty", "partial", "stale", "slow"])
def test_unreadable_order_book_is_never_taken_for_absence(rig: FaultRig, answer: str) -> None:
    book: dict[str, Any] = {"on": "orders", "answer": answer}
    if answer == "slow":
        book = {"on": "orders", "delay_s": 1.5}
    lost, swallowed, known = rig.next_symbols(EACH), rig.next_symbols(1), rig.next_symbols(1)
    rules = [{"takes": "now", "answer": "drop", "symbol": symbol} for symbol in lost]
    rules += [{"takes": "never", "answer": "drop", "symbol": symbol} for symbol in swallowed]
    rig.exchange.set_faults(*rules, book)
    # an order that the engine knows of and the bad book lacks: what tells a stale book from a whole one
    first = rig.send(known[0])
    rig.engine.wait_for("the known order", lambda: any(f is first and f.row.get("broker_order_id") for f in rig.look()))
    fates = [rig.send(symbol) for symbol in [*lost, *swallowed]]

    def past_the_horizon() -> bool:
        rig.look()
        ended = [fate for fate in fates if fate.status in ("EXPIRED", "FAILED", "REJECTED")]
        assert not ended, "\n".join(map(str, ended))
        return all("PARKED" in (fate.row.get("status_message") or "") or fate.status == "COMPLETE" for fate in fates)

    rig.engine.wait_for("doubt being parked", past_the_horizon, within_s=HORIZON_S + 30)
    rig.exchange.set_faults()
    rig.settled([first, *fates])
    rig.check()
    assert [f.status for f in fates] == ["COMPLETE"] * EACH + ["EXPIRED"], "\n".join(map(str, fates))
    assert all(fate.posts == 1 for fate in fates)


def test_exchange_that_is_away_proves_not_sent_and_the_order_goes_when_it_is_back(rig: FaultRig) -> None:
    rig.exchange.stop()
    try:
        fates = [rig.send(symbol) for symbol in rig.next_symbols(EACH)]
        rig.engine.wait_for(
            "a refused connection",
            lambda: all(
                "not sent" in " ".join(row["details"] or ()) for row in rig.rows() if row["intent"] in ids(fates)
            ),
        )
    finally:
        rig.exchange.start()
    rig.settled(fates)
    rig.check()
    wrong = [str(f) for f in fates if (f.status, f.orders, f.posts, f.was_unknown) != ("COMPLETE", 1, 1, False)]
    assert not wrong, "\n".join(wrong)


def ids(fates: list[Fate]) -> set[str]:
    return {fate.intent for fate in fates}


def test_flushed_session_stops_the_account_after_one_failing_order_and_a_login_resumes(rig: FaultRig) -> None:
    first, *others = rig.next_symbols(1 + EACH)
    rig.exchange.set_faults({"answer": "logout", "count": 1})
    lost = rig.send(first)
    rig.settled([lost])
    assert (lost.status, lost.orders) == ("REJECTED", 0), str(lost)
    assert "TOKEN_DEAD" in lost.row["status_message"]

    def status() -> str:
        return next(row["status"] for row in rig.engine.get("/accounts") if row["id"] == rig.account)

    rig.engine.wait_for("the account asking for a login", lambda: status() == "LOGIN_REQUIRED", within_s=5)
    refused = [rig.send(symbol) for symbol in others]
    rig.engine.wait_for(
        "refusals by name", lambda: all(f.row.get("intent_status") == "REJECTED" for f in rig.look() if f in refused)
    )
    assert all("LOGIN_REQUIRED" in fate.row["reason"] and fate.posts == 0 for fate in refused)
    answer = rig.engine.request(
        "POST", f"/accounts/{rig.account}/session", json={"requestToken": rig.exchange.request_token()}
    )
    assert answer.status_code == 200, answer.text
    after = rig.send(first)
    rig.settled([after])
    assert (after.status, after.orders) == ("COMPLETE", 1), str(after)
    rig.check()


@pytest.mark.parametrize(("answer", "code"), [("ip", "STATIC_IP"), ("permission", "PERMISSION")])
def test_account_that_may_not_order_is_refused_by_name_and_still_reads(rig: FaultRig, answer: str, code: str) -> None:
    symbol = rig.next_symbols(1)[0]
    rig.exchange.set_faults({"on": "write", "takes": "never", "answer": answer})
    refused = rig.send(symbol)
    rig.settled([refused])
    assert (refused.status, refused.orders, refused.was_unknown) == ("REJECTED", 0, False), str(refused)
    assert code in refused.row["status_message"]
    assert rig.engine.request("GET", f"/accounts/{rig.account}/margins").status_code == 200
    rig.exchange.set_faults()
    answered = rig.engine.request(
        "POST", f"/accounts/{rig.account}/session", json={"requestToken": rig.exchange.request_token()}
    )
    assert answered.status_code == 200, answered.text
    after = rig.send(symbol)
    rig.settled([after])
    assert after.status == "COMPLETE", str(after)
    rig.check()


def test_rate_limited_order_is_refused_by_name_or_sent_later_once(rig: FaultRig) -> None:
    rig.exchange.set_faults({"takes": "never", "answer": "rate", "count": 2})
    fates = [rig.send(symbol) for symbol in rig.next_symbols(4)]
    rig.settled(fates, within_s=40)
    rig.check()
    refused = [fate for fate in fates if fate.status == "REJECTED"]
    assert len(refused) <= 2
    assert all("RATE_LIMITED" in fate.row["status_message"] and fate.orders == 0 for fate in refused)
    assert all(fate.orders == 1 for fate in fates if fate.status == "COMPLETE")


def test_burst_over_the_limit_of_a_calendar_second_doubles_none_and_names_what_it_refuses(rig: FaultRig) -> None:
    rig.exchange.control("limits", {"penalty_s": 0.5, "reads_per_second": 1000, "quotes_per_second": 1000})
    try:
        fates = [rig.send(symbol) for symbol in rig.next_symbols(30)]
        rig.settled(fates, within_s=60)
    finally:
        rig.exchange.control("limits", {"enabled": False})
    rig.check()
    limited = [event for event in rig.exchange.places() if event.http_status == 429]
    assert limited, "the burst did not reach the limit"
    refused = [fate for fate in fates if fate.status != "COMPLETE"]
    # nothing is sent anew before an order book without it was read: where none can be, its absence is proved first
    assert all(
        fate.orders == 0 and any(why in fate.row["status_message"] for why in ("RATE_LIMITED", UNPLACED))
        for fate in refused
    ), refused
