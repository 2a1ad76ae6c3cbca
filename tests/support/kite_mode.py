"""An engine in kite mode against a Kite-compatible server on loopback, set up over its own API."""

from typing import Any

from tests.support.engine import EngineProcess

OPEN_LIMITS = {
    "ENGINE__RISK__PRICE_BAND_PCT": "none",
    "ENGINE__RISK__MAX_ORDER_VALUE": "none",
    "ENGINE__RISK__MAX_ORDER_QUANTITY": "none",
    "ENGINE__RISK__MAX_POSITION_PCT": "none",
    "ENGINE__RISK__MAX_ORDERS_PER_MINUTE": "none",
    "ENGINE__RISK__MAX_ORDERS_PER_DAY": "none",
    "ENGINE__RISK__MAX_DAILY_LOSS_PCT": "none",
    "ENGINE__RISK__CIRCUIT_BREAKER_FAILURES": "none",
    "ENGINE__LIMITS__WEBHOOK_PER_MINUTE": "100000000",
    "ENGINE__MARKET__ENFORCE_HOURS": "false",
}


def kite_environment(root_url: str, *, orders_per_second: int = 100_000) -> dict[str, str]:
    """Return the overrides that point an engine at *root_url*."""
    return {
        "ENGINE__BROKER__MODE": "kite",
        "ENGINE__BROKER__KITE__ROOT_URL": root_url,
        "ENGINE__BROKER__KITE__WS_URL": root_url.replace("http", "ws"),
        "ENGINE__BROKER__KITE__ORDERS_PER_SECOND": str(orders_per_second),
        "ENGINE__BROKER__KITE__ORDERS_PER_MINUTE": str(orders_per_second * 60),
        "ENGINE__BROKER__KITE__ORDERS_PER_DAY": "100000000",
    }


def set_up(
    engine: EngineProcess,
    *,
    api_key: str = "benchkey",
    access_token: str = "benchtoken",
    api_secret: str = "benchsecret",
) -> tuple[str, str]:
    """Create an account, a strategy that trades it and a sheets source; return the source's key and secret.

    Signals that come before the instruments are known are rejected, so this waits until they are.
    """

    def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = engine.request("POST", path, json=body)
        assert answer.status_code in (200, 201), answer.text
        created: dict[str, Any] = answer.json()["data"]
        return created

    account = post(
        "/accounts",
        {
            "label": "kite",
            "broker": "kite",
            "apiKey": api_key,
            "apiSecret": api_secret,
            "accessToken": access_token,
            "capital": 100000000,
        },
    )
    strategy = post(
        "/strategies",
        {
            "name": "storm",
            "enabled": True,
            "approval": "auto",
            "defaults": {"exchange": "NSE", "productType": "MIS", "orderType": "LIMIT"},
            "accounts": [{"accountId": account["id"], "sizing": {"mode": "multiplier", "value": 1}}],
        },
    )
    source = post("/sources", {"type": "sheets", "strategyId": strategy["id"], "name": "storm"})
    engine.wait_for("the instruments", lambda: engine.get("/system/metrics")["instruments"]["count"])
    return source["apiKey"], source["secret"]
