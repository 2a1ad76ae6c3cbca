"""What a trader owns, of every kind, and every way that somebody else may try to reach it."""

from typing import Any

from tests.support.engine import EngineProcess, limit_order
from tests.support.intruder import Person


class Belongings:
    """What alice owns: an account, a strategy, a source, limits, an intent and an order that rests."""

    def __init__(self, engine: EngineProcess, alice: Person) -> None:
        self.owner = alice
        self.account = alice.make("/accounts", label="alice's", capital=500_000)
        target = {"accountId": self.account["id"], "sizing": {"mode": "multiplier", "value": 1}}
        self.strategy = alice.make("/strategies", name="alice's", accounts=[target])
        self.source = alice.make("/sources", type="webhook", strategyId=self.strategy["id"], name="alice's")
        self.limits = alice.make("/risk/limits", maxOrderValue=50_000)
        keys = (self.source["apiKey"], self.source["secret"])
        answer = engine.signal(limit_order("SBIN", price=800.0), source=keys)
        assert answer.status_code == 202, answer.text
        self.intent: str = answer.json()["data"]["intentId"]
        self.order: dict[str, Any] = engine.wait_for(
            "alice's order",
            lambda: [
                order
                for order in alice.request("GET", "/executions/orders").json()["data"]
                if order["status"] == "OPEN"
            ],
        )[0]

    def state(self) -> list[Any]:
        """Everything as its owner sees it: the same before and after an attack that came to nothing."""
        paths = (
            f"/accounts/{self.account['id']}",
            f"/strategies/{self.strategy['id']}",
            f"/sources/{self.source['id']}",
            "/risk/limits",
            f"/signals/intents/{self.intent}",
            f"/executions/orders/{self.order['id']}",
            "/risk/killswitch/status",
        )
        return [self.owner.request("GET", path).json()["data"] for path in paths]

    def attempts(self) -> list[tuple[str, str, str, Any]]:
        """Every operation that names an object: method, path, whose object, body."""
        account, strategy, source = self.account["id"], self.strategy["id"], self.source["id"]
        return [
            ("GET", "/accounts/{}", account, None),
            ("PATCH", "/accounts/{}", account, {"capital": 1}),
            ("DELETE", "/accounts/{}", account, None),
            ("POST", "/accounts/{}/session", account, {"requestToken": "x"}),
            ("GET", "/accounts/{}/login-url", account, None),
            ("GET", "/accounts/{}/readiness", account, None),
            ("POST", "/accounts/{}/unblock", account, {}),
            ("GET", "/accounts/{}/margins", account, None),
            ("GET", "/accounts/{}/holdings", account, None),
            ("GET", "/accounts/{}/positions", account, None),
            ("POST", "/accounts/{}/reconcile", account, None),
            ("GET", "/strategies/{}", strategy, None),
            ("PATCH", "/strategies/{}", strategy, {"enabled": False}),
            ("DELETE", "/strategies/{}", strategy, None),
            ("GET", "/sources/{}", source, None),
            ("PATCH", "/sources/{}", source, {"requireTimestamp": False}),
            ("POST", "/sources/{}/rotate", source, None),
            ("POST", "/sources/{}/revoke", source, None),
            ("GET", "/sources/{}/snippet", source, None),
            ("DELETE", "/sources/{}", source, None),
            ("PUT", "/risk/limits/{}", self.limits["id"], {"maxOrderValue": 1}),
            ("GET", "/signals/intents/{}", self.intent, None),
            ("POST", "/signals/intents/{}/approve", self.intent, None),
            ("POST", "/signals/intents/{}/reject", self.intent, {}),
            ("POST", "/signals/intents/{}/cancel", self.intent, None),
            ("GET", "/executions/orders/{}", self.order["id"], None),
            ("POST", "/executions/orders/{}/cancel", self.order["id"], {}),
            ("PATCH", "/executions/orders/{}", self.order["id"], {"quantity": 2}),
        ]
