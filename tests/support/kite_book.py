"""The smallest order book that speaks Kite Connect v3: enough for the conformance suite."""

import json
from decimal import Decimal
from itertools import count
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

LAST = {"INFY": Decimal("1450.00"), "SBIN": Decimal("815.00")}
FUNDS = Decimal(1_000_000)
NOW = "2026-11-20 10:15:00"
CSV = (
    "instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,lot_size,"
    "instrument_type,segment,exchange\n"
    "408065,1594,INFY,INFOSYS,0.0,,0.0,0.05,1,EQ,NSE,NSE\n"
    "779521,3045,SBIN,STATE BANK OF INDIA,0.0,,0.0,0.05,1,EQ,NSE,NSE\n"
    "256265,1001,NIFTY 50,NIFTY 50,0.0,,0.0,0,0,EQ,INDICES,NSE\n"
)


def reply(status: int, body: bytes, content_type: str | None = "application/json", extra: str = "") -> bytes:
    """An HTTP/1.1 answer with a content length."""
    kind = f"Content-Type: {content_type}\r\n" if content_type else ""
    return f"HTTP/1.1 {status} X\r\n{kind}{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body


def success(payload: Any) -> bytes:
    return reply(200, json.dumps({"status": "success", "data": payload}).encode())


def error_body(message: str, error_type: str | None) -> bytes:
    return json.dumps({"status": "error", "message": message, "data": None, "error_type": error_type}).encode()


class Refusal(Exception):
    def __init__(self, status: int, error_type: str, message: str) -> None:
        self.raw = reply(status, error_body(message, error_type))


class KiteBook:
    """Orders by id; LIMIT fills when it crosses the fixed last price, MARKET at once."""

    def __init__(self) -> None:
        self.orders: dict[str, dict[str, Any]] = {}
        self.trades: list[dict[str, Any]] = []
        self._ids = count(1914227164488687616, 4096)

    def answer(self, method: str, target: str, body: bytes) -> bytes:
        path = urlsplit(target).path.strip("/").split("/")
        form = dict(parse_qsl(body.decode(), keep_blank_values=True))
        query = parse_qs(urlsplit(target).query)
        try:
            match method, path:
                case "POST", ["orders", variety]:
                    return success({"order_id": self._place(variety, form)})
                case "PUT", ["orders", _, order_id]:
                    return success({"order_id": self._modify(order_id, form)})
                case "DELETE", ["orders", _, order_id]:
                    return success({"order_id": self._cancel(order_id)})
                case "GET", ["orders"]:
                    return success(list(self.orders.values()))
                case "GET", ["orders", order_id]:
                    return success([self._find(order_id)])
                case "GET", ["orders", order_id, "trades"]:
                    return success([t for t in self.trades if t["order_id"] == order_id])
                case "GET", ["trades"]:
                    return success(self.trades)
                case "GET", ["portfolio", "positions"]:
                    return success({"net": self._positions(), "day": self._positions()})
                case "GET", ["portfolio", "holdings"]:
                    return success([])
                case "GET", ["quote", "ltp"]:
                    known = {key: LAST[key[4:]] for key in query.get("i", []) if key[4:] in LAST}
                    return success({k: {"instrument_token": 1, "last_price": float(v)} for k, v in known.items()})
                case "GET", ["user", "margins"]:
                    part = {"enabled": True, "net": 1e6, "available": {"cash": 1e6}, "utilised": {"debits": 0}}
                    return success({"equity": part, "commodity": part})
                case "GET", ["user", "profile"]:
                    return success({"user_id": "AB0001", "user_name": "A B", "exchanges": ["NSE"], "products": ["MIS"]})
                case "GET", ["instruments", *_]:
                    return reply(200, CSV.encode(), "text/csv")
        except Refusal as refusal:
            return refusal.raw
        return reply(404, error_body("Route not found", "GeneralException"))

    def _place(self, variety: str, form: dict[str, str]) -> str:
        order_id = str(next(self._ids))
        kind = form["order_type"]
        row: dict[str, Any] = {
            "order_id": order_id,
            "exchange_order_id": None,
            "parent_order_id": None,
            "status": "OPEN",
            "status_message": None,
            "order_timestamp": NOW,
            "exchange_timestamp": NOW,
            "exchange_update_timestamp": NOW,
            "variety": variety,
            "exchange": form["exchange"],
            "tradingsymbol": form["tradingsymbol"],
            "instrument_token": 1,
            "order_type": kind,
            "transaction_type": form["transaction_type"],
            "validity": form.get("validity", "DAY"),
            "product": form["product"],
            "quantity": int(form["quantity"]),
            "price": float(form.get("price", "0")),
            "trigger_price": float(form.get("trigger_price", "0")),
            "average_price": 0,
            "filled_quantity": 0,
            "pending_quantity": int(form["quantity"]),
            "market_protection": 0,
            "meta": {},
            "tag": form.get("tag"),
        }
        if kind in ("MARKET", "SL-M") and Decimal(form.get("market_protection", "0")) == 0:
            raise Refusal(400, "InputException", "Market orders without market protection are not allowed via API. "
                          "Please set market protection or use a Limit order.")  # fmt: skip
        if Decimal(form.get("price", "0")) % Decimal("0.05"):
            raise Refusal(400, "InputException", "Tick size for this script is 0.05. Kindly enter price in the "
                          "multiple of tick size for this script")  # fmt: skip
        needed = int(form["quantity"]) * LAST[form["tradingsymbol"]]
        if needed > FUNDS:
            raise Refusal(400, "MarginException", f"Insufficient funds. Required margin is {needed} but available "
                          f"margin is {FUNDS}. Check the orderbook for open orders.")  # fmt: skip
        self.orders[order_id] = row
        if kind == "MARKET":
            row.update(order_type="LIMIT", price=float(LAST[row["tradingsymbol"]]), tag=None,
                       tags=[form["tag"], "mktp", "mktp:2.00"])  # fmt: skip
        if kind.startswith("SL"):
            row["status"] = "TRIGGER PENDING"
        else:
            self._match(row)
        return order_id

    def _match(self, row: dict[str, Any]) -> None:
        last, price = LAST[row["tradingsymbol"]], Decimal(str(row["price"]))
        if (last <= price) if row["transaction_type"] == "BUY" else (last >= price):
            row.update(
                status="COMPLETE", filled_quantity=row["quantity"], pending_quantity=0, average_price=float(last)
            )
            keys = ("order_id", "exchange", "tradingsymbol", "product", "transaction_type", "quantity", "average_price")
            self.trades.append(
                {key: row[key] for key in keys}
                | {"trade_id": str(len(self.trades) + 1), "fill_timestamp": NOW, "order_timestamp": NOW[11:]}
            )

    def _find(self, order_id: str) -> dict[str, Any]:
        if order_id not in self.orders:
            raise Refusal(500, "GeneralException", "Couldn't find that `order_id`.")
        return self.orders[order_id]

    def _live(self, order_id: str, verb: str) -> dict[str, Any]:
        row = self._find(order_id)
        if row["status"] not in ("OPEN", "TRIGGER PENDING"):
            text = f"Order cannot be {verb} as it is being processed. Try later."
            raise Refusal(400, "InputException", text)
        return row

    def _modify(self, order_id: str, form: dict[str, str]) -> str:
        row = self._live(order_id, "modified")
        for key in ("price", "trigger_price"):
            if key in form:
                row[key] = float(form[key])
        if "quantity" in form:
            row["quantity"] = int(form["quantity"])
        if row["status"] == "OPEN":
            self._match(row)
        return order_id

    def _cancel(self, order_id: str) -> str:
        self._live(order_id, "cancelled")["status"] = "CANCELLED"
        return order_id

    def _positions(self) -> list[dict[str, Any]]:
        found: dict[tuple[str, str, str], int] = {}
        for trade in self.trades:
            key = (trade["exchange"], trade["tradingsymbol"], trade["product"])
            sign = 1 if trade["transaction_type"] == "BUY" else -1
            found[key] = found.get(key, 0) + sign * trade["quantity"]
        return [
            {"exchange": e, "tradingsymbol": s, "product": p, "quantity": quantity, "multiplier": 1}
            for (e, s, p), quantity in found.items()
        ]
