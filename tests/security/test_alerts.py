"""Alerts over the API, and the numbers of a running engine that dashboards and rules stand on."""

import json
import re
from pathlib import Path

import httpx
import pytest

from tests.support import forks
from tests.support.engine import EngineProcess
from tests.support.intruder import Person, assert_refused

OPS = Path(__file__).parents[2] / "engine" / "ops"
NAME = re.compile(r"\bengine_[a-z0-9_]+")


@pytest.fixture(scope="module")
def raised(engine: EngineProcess, alice: Person) -> dict[str, object]:
    """An alert of alice's: the kill switch of herself, put on and off."""
    answer = alice.request("POST", "/risk/killswitch/enable", json={"scope": f"user:{alice.id}", "reason": "trial"})
    assert answer.status_code == 200, answer.text

    def look() -> dict[str, object] | None:
        rows = alice.request("GET", "/alerts").json()["data"]
        return next((row for row in rows if row["code"] == "KILL_SWITCH_ON"), None)

    found: dict[str, object] = engine.wait_for("the alert", look)
    return found


def test_owner_sees_its_alert_and_nobody_else_but_an_admin_does(
    engine: EngineProcess, alice: Person, mallory: Person, viewer: Person, raised: dict[str, object]
) -> None:
    assert (raised["severity"], raised["status"], raised["userId"]) == ("critical", "OPEN", alice.id)
    assert raised["id"] in [row["id"] for row in engine.get("/alerts", severity="critical")]
    for other in (mallory, viewer):
        assert raised["id"] not in [row["id"] for row in other.request("GET", "/alerts").json()["data"]]
    assert_refused(mallory.request("POST", f"/alerts/{raised['id']}/ack"), 404)
    assert_refused(viewer.request("POST", f"/alerts/{raised['id']}/ack"), 403)


def test_acknowledgement_is_kept_in_the_list_and_in_the_audit_log(
    engine: EngineProcess, alice: Person, raised: dict[str, object]
) -> None:
    first = alice.request("POST", f"/alerts/{raised['id']}/ack").json()["data"]
    assert (first["status"], first["acknowledgedBy"]) == ("ACKNOWLEDGED", f"user:{alice.id}")
    again = engine.request("POST", f"/alerts/{raised['id']}/ack").json()["data"]
    assert again["acknowledgedBy"] == f"user:{alice.id}"
    rows = alice.request("GET", "/alerts", params={"status": "ACKNOWLEDGED"}).json()["data"]
    assert [row["id"] for row in rows] == [raised["id"]]
    actions = [row["action"] for row in engine.get("/audit", subject=f"alert:{raised['id']}")]
    assert actions.count("ALERT_ACKNOWLEDGED") == 1


def test_list_comes_in_pages(engine: EngineProcess, raised: dict[str, object]) -> None:
    seen, cursor = [], None
    while True:
        answer = engine.request("GET", "/alerts", params={"limit": 1} | ({"cursor": cursor} if cursor else {})).json()
        seen += [row["id"] for row in answer["data"]]
        cursor = answer["page"]["nextCursor"]
        if cursor is None or len(seen) > 50:
            break
    assert len(seen) == len(set(seen))
    assert raised["id"] in seen


def test_every_metric_of_dashboard_and_rules_is_told_by_a_running_engine(engine: EngineProcess, tmp_path: Path) -> None:
    text = httpx.get(f"{engine.base_url}/metrics", timeout=10).text
    told = set(re.findall(r"^(engine_[a-z0-9_]+)", text, re.MULTILINE))
    assert forks.command("ops", "export", str(tmp_path), cwd=tmp_path).returncode == 0
    files = sorted(path for folder in ("grafana", "prometheus") for path in (tmp_path / folder).rglob("*"))
    assert [path.name for path in files] == ["engine.json", "engine-alerts.yml"]
    dashboard = json.loads(files[0].read_text())
    asked = {target["expr"] for panel in dashboard["panels"] for target in panel["targets"]}
    rules = re.findall(r"^ +expr: (.+)$", files[1].read_text(), re.MULTILINE)
    assert len(rules) > 10
    named = {name for line in (*asked, *rules) for name in NAME.findall(line)}
    assert named - told == set()
    assert len(named) > 25


def test_metrics_are_well_formed_and_no_family_grows_with_accounts(engine: EngineProcess) -> None:
    text = httpx.get(f"{engine.base_url}/metrics", timeout=10).text
    sample = re.compile(r'[a-z_]+(\{[a-z]+="[^"\n]*"(,[a-z]+="[^"\n]*")*\})? -?[0-9.e+-]+(Inf|inf)?')
    families = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(families) == len(set(families))
    for line in text.splitlines():
        assert line.startswith("# TYPE") or sample.fullmatch(line), line
    buckets = re.findall(r'engine_ledger_commit_seconds_bucket\{le="([^"]+)"\} ([0-9]+)', text)
    assert [int(count) for _, count in buckets] == sorted(int(count) for _, count in buckets)
    assert buckets[-1][0] == "+Inf"
    assert int(buckets[-1][1]) > 0
