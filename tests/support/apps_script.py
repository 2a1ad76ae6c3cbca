"""The Apps Script of a source, run under Node with Google's services stubbed (apps_script.js)."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="the Apps Script is run under Node, and there is no node here")
_STAGE = Path(__file__).with_suffix(".js")

TITLES = ["symbol", "exchange", "transactionType", "quantity", "price", "orderType", "productType"]
OWN = ["Send", "Status", "Intent", "Message", "Ledger"]
STATUS, INTENT, MESSAGE, LEDGER = (len(TITLES) + OWN.index(name) for name in OWN[1:])


def row(symbol: str = "SBIN", quantity: Any = 1, *, send: Any = True, **changes: Any) -> list[Any]:
    """Return a row of a sheet that is ready to be sent."""
    cells = {
        "symbol": symbol,
        "exchange": "NSE",
        "transactionType": "BUY",
        "quantity": quantity,
        "price": "",
        "orderType": "MARKET",
        "productType": "MIS",
    } | changes
    return [cells[title] for title in TITLES] + [send, "", "", "", ""]


def run_script(script: str, steps: list[dict[str, Any]], **job: Any) -> dict[str, Any]:
    """Run *steps* of *script* and return what they came to: the sheet after each call, and what was fetched."""
    assert NODE is not None
    told = subprocess.run(
        [NODE, str(_STAGE)],
        input=json.dumps({"script": script, "steps": steps, **job}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    result: dict[str, Any] = json.loads(told.stdout)
    return result
