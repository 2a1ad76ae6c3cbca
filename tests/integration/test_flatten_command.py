"""``engine flatten`` with no engine and no store: only the sealed credentials and the broker."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from engine.actors.killswitch_file import KillFile
from engine.assembly import deployment_of
from engine.security.creds_file import Credentials, CredsFile
from engine.security.keys import load_or_create
from tests.support import forks
from tests.support.exchange_process import ExchangeProcess

ACCOUNT = UUID(int=7)
GONE = UUID(int=8)


class Stand:
    """An exchange with something open, and a data directory that a dead engine left."""

    def __init__(self, folder: Path, exchange: ExchangeProcess) -> None:
        self.exchange = exchange
        self.folder = folder
        self.data_dir = folder / "data"
        keys = load_or_create(master_key=None, jwt_secret=None, data_dir=self.data_dir)
        self.creds = CredsFile(self.data_dir / "state" / "creds.enc", keys.ring(), deployment=deployment_of(keys))
        self._head = {"Authorization": f"token {exchange.api_key}:{exchange.login()}", "X-Kite-Version": "3"}

    def credentials(self, account_id: UUID = ACCOUNT, **fields: Any) -> Credentials:
        defaults = {
            "user_id": UUID(int=3),
            "label": "A",
            "broker": "kite",
            "root_url": self.exchange.base_url,
            "api_key": self.exchange.api_key,
            "access_token": self._head["Authorization"].rpartition(":")[2],
        }
        return Credentials(account_id=account_id, **(defaults | fields))

    def call(self, method: str, path: str, **form: Any) -> Any:
        answer = httpx.request(
            method, f"{self.exchange.base_url}{path}", headers=self._head, data=form or None, timeout=10
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def order(self, symbol: str, side: str, quantity: int, **fields: Any) -> None:
        form = {"exchange": "NSE", "tradingsymbol": symbol, "transaction_type": side, "quantity": quantity}
        defaults = {"product": "MIS", "order_type": "MARKET", "market_protection": -1, "validity": "DAY"}
        self.call("POST", "/orders/regular", **(form | defaults | fields))

    def open(self) -> tuple[dict[str, int], int]:
        """Net units by symbol, and the number of orders that may fill."""
        net = {row["tradingsymbol"]: row["quantity"] for row in self.call("GET", "/portfolio/positions")["net"]}
        live = [row for row in self.call("GET", "/orders") if row["status"] in ("OPEN", "TRIGGER PENDING")]
        return net, len(live)

    def flatten(self, *words: str) -> "subprocess.CompletedProcess[str]":
        environment = os.environ | {"ENGINE__BROKER__MODE": "kite", "ENGINE__MARKET__ENFORCE_HOURS": "false"}
        return forks.command(
            "flatten",
            "--data-dir",
            str(self.data_dir),
            "--yes",
            "--json",
            *words,
            cwd=self.folder,
            env=environment,
            timeout=90,
        )


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with ExchangeProcess(tmp_path / "exchange") as exchange:
        yield Stand(tmp_path, exchange)


def test_account_is_flat_and_proven_so_and_one_that_cannot_be_reached_is_told(stand: Stand) -> None:
    stand.order("INFY", "BUY", 10)
    stand.order("SBIN", "SELL", 7)
    stand.order("RELIANCE", "BUY", 1, order_type="LIMIT", price=2210)
    assert stand.open()[1] == 1
    stand.creds.write([stand.credentials()])
    done = stand.flatten("--all", "--reason", "the box burns")
    (result,) = json.loads(done.stdout)
    assert (done.returncode, result["flat"], result["why"]) == (0, True, []), done.stderr
    net, live = stand.open()
    assert (set(net.values()), live) == ({0}, 0)
    # the next start is blocked, and looks for what was sent
    held = KillFile(stand.data_dir / "state" / "kill.wal").read()["global"]
    assert (held.enabled, held.square_off, held.reason) == (True, True, "the box burns")
    assert (stand.data_dir / "state" / "flatten.wal").stat().st_size > 0
    assert stand._head["Authorization"].rpartition(":")[2] not in done.stdout + done.stderr

    stand.creds.write([stand.credentials(), stand.credentials(GONE, label="B", root_url="http://127.0.0.1:1")])
    again = stand.flatten("--all", "--timeout", "8")
    good, gone = json.loads(again.stdout)
    assert (again.returncode, good["flat"], gone["flat"]) == (1, True, False)
    assert gone["why"]


def test_without_credentials_it_says_so_and_trading_is_blocked(tmp_path: Path) -> None:
    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        return forks.command(
            "flatten",
            "--data-dir",
            str(tmp_path / "data"),
            *words,
            cwd=tmp_path,
            timeout=60,
        )

    missing = run("--all", "--yes")
    assert (missing.returncode, "creds.enc" in missing.stderr, "Traceback" in missing.stderr) == (1, True, False)
    assert KillFile(tmp_path / "data" / "state" / "kill.wal").read()["global"].enabled
