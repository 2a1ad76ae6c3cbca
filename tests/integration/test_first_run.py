"""The new user's tour: an empty folder, one command, one pasted line, a filled order; stop and start again."""

import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyotp
import pytest

from tests.support import forks
from tests.support.engine import EngineProcess, market_order
from tests.support.service_manager import Manager


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """An engine on embedded servers, started in an empty folder with no configuration."""
    folder = tmp_path_factory.mktemp("tour")
    manager = Manager(folder / "notify")
    engine = EngineProcess(folder, NOTIFY_SOCKET=str(manager.path), WATCHDOG_USEC="1000000")
    engine.manager = manager  # type: ignore[attr-defined]
    with engine:
        yield engine
    manager.close()


def command(engine: EngineProcess, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run an ``engine`` command in the engine's folder."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ENGINE")}
    return forks.command(
        *words,
        cwd=engine.folder,
        env=environment | {"PYTHONWARNINGS": "ignore"},
        text=stdin,
        timeout=60,
    )


def curl_line(engine: EngineProcess) -> str:
    return next(line for line in engine.lines if line.startswith("curl "))


def test_first_start_prints_one_curl_line_and_the_ready_line_last(tour: EngineProcess) -> None:
    assert len([line for line in tour.lines if "curl " in line]) == 1
    assert tour.lines[-1] == f"engine ready {tour.base_url}"


def test_start_says_where_the_paper_exchange_shows_its_book(tour: EngineProcess) -> None:
    address = next(line for line in tour.lines if line.startswith("paper exchange")).split()[-1]
    assert "No order here reaches a market" in httpx.get(address, timeout=10).text


def test_first_start_given_a_password_does_not_print_it(tour: EngineProcess) -> None:
    assert not any("password" in line for line in tour.lines)


def test_service_manager_hears_that_it_is_ready_and_then_that_it_lives(tour: EngineProcess) -> None:
    def heard() -> list[str]:
        return tour.manager.heard()  # type: ignore[attr-defined, no-any-return]

    assert "READY=1" in heard()
    seen = heard().count("WATCHDOG=1")
    tour.wait_for("a ping", lambda: heard().count("WATCHDOG=1") > seen)
    assert not [line for line in heard() if "wedged" in line]


def test_keys_are_readable_by_the_owner_alone(tour: EngineProcess) -> None:
    keys = list((tour.data_dir / "keys").iterdir())
    assert {key.name for key in keys} == {"master.key", "jwt.key", "root.sealed"}
    assert all(stat.S_IMODE(key.stat().st_mode) == 0o600 for key in keys)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine")
def test_pasted_line_prints_only_the_answer_and_its_order_fills(tour: EngineProcess) -> None:
    pasted = subprocess.run(["sh", "-c", curl_line(tour)], capture_output=True, text=True, timeout=20)
    assert pasted.stderr == ""
    answer = json.loads(pasted.stdout)
    assert answer["success"] is True
    intent = answer["data"]["intentId"]

    def complete() -> list[dict[str, Any]]:
        orders = tour.get("/executions/orders", intentId=intent)
        return [order for order in orders if order["status"] == "COMPLETE"]

    order = tour.wait_for("the order filling", complete)[0]
    assert (order["symbol"], order["filledQuantity"]) == ("INFY", 10)
    assert order["averagePrice"] > 0
    positions = tour.wait_for("the position", lambda: tour.get("/executions/positions"))
    assert [(p["symbol"], p["quantity"]) for p in positions] == [("INFY", 10)]
    done = tour.wait_for(
        "the intent ending",
        lambda: (found := tour.get(f"/signals/intents/{intent}")) and found["status"] == "EXECUTED" and found,
    )
    assert done["timeline"][-1]["event"] == "EXECUTED"
    assert [entry["event"] for entry in done["timeline"]][:2] == ["RECEIVED", "APPROVED"]

    again = subprocess.run(["sh", "-c", curl_line(tour)], capture_output=True, text=True, timeout=20)
    repeat = json.loads(again.stdout)["data"]
    assert (repeat["intentId"], repeat["duplicate"]) == (intent, True)
    assert len(tour.get("/executions/orders", intentId=intent)) == 1


def test_audit_verify_says_ok_beside_the_running_engine(tour: EngineProcess) -> None:
    verified = command(tour, "audit", "verify", "--json")
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout)["ok"] is True
    assert tour.get("/audit/verify")["ok"] is True


def test_doctor_finds_nothing_wrong(tour: EngineProcess) -> None:
    examined = command(tour, "doctor", "--json")
    findings = json.loads(examined.stdout)
    assert [finding for finding in findings if not finding["ok"]] == []
    codes = {finding["code"] for finding in findings}
    assert {"keys", "database", "migrations", "journal", "clock", "disk", "backup", "market", "holidays"} <= codes
    # what the engine alone knows, its accounts' and sources' among it
    assert {"instruments", "descriptors", "session", "signals"} <= codes


def test_the_same_is_told_over_http_with_the_gate(tour: EngineProcess) -> None:
    told = tour.get("/system/readiness")
    assert told["state"] in ("ok", "warn")
    assert told["gate"] == {"mode": "warn", "held": None, "accounts": {}, "override": None}
    (session,) = [check for check in told["checks"] if check["code"] == "session"]
    assert (session["scope"], session["state"], session["mend"]) == ("account", "ok", "")
    assert all(check["mend"] for check in told["checks"] if check["state"] != "ok")
    nothing = tour.request("POST", "/system/readiness/override", json={"reason": "nothing is held"})
    assert (nothing.status_code, nothing.json()["error"]["code"]) == (409, "NOTHING_HELD")


def test_metrics_show_what_is_left_of_the_order_calls(tour: EngineProcess) -> None:
    (budget,) = tour.get("/system/metrics")["orderBudgets"]
    assert budget["day"]["used"] >= 1
    assert budget["day"]["used"] + budget["day"]["remaining"] == 5000
    assert budget["second"]["remaining"] <= 10
    assert budget["neededToFlatten"] >= 1
    assert budget["waiting"] == {"exits": 0, "cancels": 0, "entries": 0}


def test_user_added_beside_the_running_engine_can_sign_in(tour: EngineProcess) -> None:
    words = ("user", "add", "--email", "t@example.com", "--role", "TRADER", "--password-stdin")
    added = command(tour, *words, stdin="plum tree river 9\n")
    assert added.returncode == 0, added.stderr
    answer = httpx.post(
        f"{tour.base_url}/api/v1/auth/login",
        json={"email": "t@example.com", "password": "plum tree river 9"},
        timeout=10,
    )
    assert answer.json()["data"]["user"]["role"] == "TRADER"
    listed = json.loads(command(tour, "user", "list", "--json").stdout)
    assert {"admin@localhost", "t@example.com"} == {user["email"] for user in listed}
    # the command appended to the chain that the engine goes on with
    assert tour.get("/audit/verify")["ok"] is True


def test_person_whose_phone_is_lost_gets_in_again(tour: EngineProcess) -> None:
    api = f"{tour.base_url}/api/v1/auth"
    person = {"email": "t@example.com", "password": "plum tree river 9"}
    signed = httpx.post(f"{api}/login", json=person, timeout=10).json()["data"]
    bearer = {"Authorization": f"Bearer {signed['accessToken']}"}
    seed = httpx.post(f"{api}/mfa/enroll", headers=bearer, timeout=10).json()["data"]["secret"]
    done = httpx.post(f"{api}/mfa/confirm", json={"otp": pyotp.TOTP(seed).now()}, headers=bearer, timeout=10)
    assert done.status_code == 200, done.text
    assert httpx.post(f"{api}/login", json=person, timeout=10).json()["error"]["code"] == "OTP_REQUIRED"
    reset = command(tour, "user", "mfa-reset", "--email", "t@example.com")
    assert reset.returncode == 0, reset.stderr
    assert httpx.get(f"{api}/me", headers=bearer, timeout=10).status_code == 401
    assert httpx.post(f"{api}/login", json=person, timeout=10).status_code == 200
    assert command(tour, "user", "unlock", "--email", "t@example.com").returncode == 0
    again = command(tour, "user", "mfa-reset", "--email", "t@example.com")
    assert again.returncode == 1
    assert again.stderr == "engine: t@example.com has no second factor\n"


def test_killswitch_command_blocks_the_running_engine_at_once(tour: EngineProcess) -> None:
    on = command(tour, "killswitch", "on", "--reason", "drill")
    assert on.returncode == 0, on.stderr
    refused = tour.signal(market_order())
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "KILL_SWITCH"
    scopes = {scope["scope"]: scope for scope in json.loads(command(tour, "killswitch", "status", "--json").stdout)}
    assert (scopes["global"]["enabled"], scopes["global"]["reason"]) == (True, "drill")
    assert command(tour, "killswitch", "off", "--reason", "drill over").returncode == 0
    accepted = tour.signal(market_order())
    assert accepted.status_code == 202


def test_second_engine_in_the_same_folder_waits_and_touches_nothing(tour: EngineProcess) -> None:
    second = EngineProcess(tour.folder)
    try:
        second.start(wait=False)
        second.wait_standby()
        assert second.stop() == 0
    finally:
        second.kill()
    assert second.errors == []
    assert tour.get("/system/ready")["leader"]["isThisEngine"] is True


def test_busy_port_is_one_line_that_names_the_mend(tour: EngineProcess, tmp_path: Path) -> None:
    port = tour.base_url.rpartition(":")[2]
    other = EngineProcess(tmp_path)
    busy = command(other, "run", "--port", port)
    assert busy.returncode == 1
    assert re.search(rf"port {port} .*--port", busy.stderr)
    assert "Traceback" not in busy.stderr


def settled_orders(tour: EngineProcess) -> dict[str, str]:
    """Return the status of each order, once none is on its way any more."""

    def statuses() -> dict[str, str] | None:
        found = {order["id"]: order["status"] for order in tour.get("/executions/orders")}
        return None if {"PENDING", "SUBMITTING", "SUBMITTED"} & set(found.values()) else found

    return tour.wait_for("the orders", statuses)


def test_stop_and_start_again_keeps_everything(tour: EngineProcess) -> None:
    before = settled_orders(tour)
    positions = tour.get("/executions/positions")
    assert tour.stop() == 0
    assert "STOPPING=1" in tour.manager.heard()  # type: ignore[attr-defined]
    assert not [line for line in tour.errors if "Traceback" in line]
    left = subprocess.run(["pgrep", "-f", str(tour.data_dir)], capture_output=True, text=True)
    assert left.stdout == "", "a server outlived the engine"

    offline = command(tour, "audit", "verify")
    assert offline.returncode == 0, offline.stderr
    assert offline.stdout.startswith("ok:")

    tour.start()
    assert "password" not in " ".join(tour.lines[-1:])
    after = {order["id"]: order["status"] for order in tour.get("/executions/orders")}
    assert after == before
    key = ("symbol", "exchange", "productType", "quantity", "averagePrice")
    # the list is by last change, and a new last price is one
    assert sorted([p[k] for k in key] for p in tour.get("/executions/positions")) == sorted(
        [p[k] for k in key] for p in positions
    )
    assert tour.get("/audit/verify")["ok"] is True


def test_start_after_kill_nine_cleans_up_and_keeps_everything(tour: EngineProcess) -> None:
    before = settled_orders(tour)
    tour.kill()
    tour.start()
    assert {order["id"]: order["status"] for order in tour.get("/executions/orders")} == before
    assert tour.signal(market_order("ITC")).status_code == 202
    assert tour.get("/audit/verify")["ok"] is True
    assert tour.stop() == 0
