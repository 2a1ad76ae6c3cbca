"""A broker that costs little: Kite Connect's routes as far as an engine needs them to trade, in one thread.

It notes for every order when its bytes had been read (CLOCK_MONOTONIC), fills it at once, and answers. It keeps nothing
on a disk and checks no limits: what is measured against it is the engine. Any API key is an account of its own, any
token is right. ``/_control/orders`` tells what came, ``/_control/count`` how much, ``/_control/reset`` forgets
that, and of the books those that have grown large.
"""

import select
import socket
import time
from collections import defaultdict, deque
from collections.abc import Iterable
from urllib.parse import parse_qsl

import msgspec

from engine.bench.figures import Received
from engine.bench.signals import SYMBOLS, number_of
from engine.clock import IST, Clock

_HEAD_END = b"\r\n\r\n"
_PRICE = 1000
# no real account has more orders a day than 5,000; a book that grows with a long run would be measured instead
_WINDOW = 10_000
_LARGE = 500
_COLUMNS = (
    "instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,lot_size,"
    "instrument_type,segment,exchange"
)


class _Account:
    """The book of one account."""

    def __init__(self) -> None:
        self.orders: deque[bytes] = deque(maxlen=_WINDOW)
        self.trades: deque[bytes] = deque(maxlen=_WINDOW)
        # of each position: units bought and sold, and what they came to
        self.traded: dict[str, tuple[list[int], list[float]]] = defaultdict(lambda: ([0, 0], [0.0, 0.0]))
        # which books were asked for since the last order
        self.read: set[str] = set()

    def forget(self) -> None:
        """Make large books small again, once their end was read: an order that vanished would be looked for."""
        if len(self.orders) > _LARGE and {"/orders", "/trades"} <= self.read:
            self.orders.clear()
            self.trades.clear()


class Broker:
    """Serves on a loopback socket, with *delay_ms* before the answer to an order."""

    def __init__(self, clock: Clock, *, delay_ms: float = 0.0) -> None:
        self._clock = clock
        self._delay_ns = round(delay_ms * 1e6)
        self._accounts: dict[str, _Account] = defaultdict(_Account)
        self._received: list[Received] = []
        self._numbers = 0
        self._late: list[tuple[int, socket.socket, bytes]] = []
        self._second = ("", 0)
        # no id may come twice on one day, in another life of this program neither
        self._first_id = time.time_ns() // 1_000_000

    def serve(self, listener: socket.socket) -> None:
        """Serve until the process ends."""
        poll = select.epoll()
        listener.setblocking(False)
        poll.register(listener.fileno(), select.EPOLLIN)
        open_: dict[int, socket.socket] = {}
        rest: dict[int, bytes] = {}
        while True:
            for number, _ in poll.poll(self._wait_s()):
                if number == listener.fileno():
                    connection, _ = listener.accept()
                    connection.settimeout(10)
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    open_[connection.fileno()] = connection
                    poll.register(connection.fileno(), select.EPOLLIN)
                    continue
                connection = open_[number]
                try:
                    data = connection.recv(1 << 18)
                    at_ns = time.monotonic_ns()
                    if data:
                        rest[number] = self._take(connection, rest.get(number, b"") + data, at_ns)
                        continue
                except OSError:
                    pass  # gone: as if it had ended
                poll.unregister(number)
                rest.pop(number, None)
                open_.pop(number).close()
            self._answer_late()

    def _wait_s(self) -> float:
        return 1.0 if not self._late else max(0.0, (self._late[0][0] - time.monotonic_ns()) / 1e9)

    def _answer_late(self) -> None:
        while self._late and self._late[0][0] <= time.monotonic_ns():
            _, connection, answer = self._late.pop(0)
            try:
                connection.sendall(answer)
            except OSError:
                pass  # whoever asked is gone

    def _take(self, connection: socket.socket, data: bytes, at_ns: int) -> bytes:
        """Answer every whole request of *data*; return what is left of it."""
        while (end := data.find(_HEAD_END)) >= 0:
            head = data[:end]
            lower = head.lower()
            at = lower.find(b"\r\ncontent-length:")
            size = int(lower[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            whole = end + 4 + size
            if len(data) < whole:
                break
            method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
            account = self._account_of(head, lower)
            body = data[end + 4 : whole]
            data = data[whole:]
            if method == "POST" and target.startswith("/orders/"):
                answer = self._place(account, target[8:], body, at_ns)
                if self._delay_ns:
                    self._late.append((at_ns + self._delay_ns, connection, answer))
                    continue
            else:
                answer = self._other(method, target, account)
            connection.sendall(answer)
        return data

    def _account_of(self, head: bytes, lower: bytes) -> str:
        at = lower.find(b"\r\nauthorization: token ")
        return "" if at < 0 else head[at + 23 :].split(b":", 1)[0].decode()

    def _place(self, account: str, variety: str, body: bytes, at_ns: int) -> bytes:
        form = dict(parse_qsl(body.decode()))
        self._numbers += 1
        order_id = str(self._first_id * 100_000 + self._numbers)
        price = form.get("price", "0")
        self._received.append(Received(at_ns=at_ns, account=account, number=number_of(price), tag=form.get("tag", "")))
        now, quantity = self._now(), int(form["quantity"])
        book = self._accounts[account]
        book.read.clear()
        book.orders.append(
            f'{{"order_id":"{order_id}","exchange_order_id":"{order_id}","parent_order_id":null,"status":"COMPLETE",'
            f'"status_message":null,"order_timestamp":"{now}","exchange_update_timestamp":"{now}",'
            f'"exchange_timestamp":"{now}","variety":"{variety}","exchange":"{form["exchange"]}",'
            f'"tradingsymbol":"{form["tradingsymbol"]}","order_type":"{form["order_type"]}",'
            f'"transaction_type":"{form["transaction_type"]}","validity":"DAY","product":"{form["product"]}",'
            f'"quantity":{quantity},"filled_quantity":{quantity},"pending_quantity":0,"cancelled_quantity":0,'
            f'"price":{price},"trigger_price":0,"average_price":{price},"tag":"{form.get("tag", "")}"}}'.encode()
        )
        book.trades.append(
            f'{{"trade_id":"{self._numbers}","order_id":"{order_id}","exchange_order_id":"{order_id}",'
            f'"exchange":"{form["exchange"]}","tradingsymbol":"{form["tradingsymbol"]}",'
            f'"product":"{form["product"]}","transaction_type":"{form["transaction_type"]}","quantity":{quantity},'
            f'"average_price":{price},"fill_timestamp":"{now}","exchange_timestamp":"{now}"}}'.encode()
        )
        units, values = book.traded[f"{form['exchange']}:{form['tradingsymbol']}:{form['product']}"]
        side = 0 if form["transaction_type"] == "BUY" else 1
        units[side] += quantity
        values[side] += quantity * float(price)
        return _answer(b'{"status":"success","data":{"order_id":"%b"}}' % order_id.encode())

    def _now(self) -> str:
        now = self._clock.now()
        if int(now.timestamp()) != self._second[1]:
            self._second = (now.astimezone(IST).strftime("%Y-%m-%d %H:%M:%S"), int(now.timestamp()))
        return self._second[0]

    def _other(self, method: str, target: str, account: str) -> bytes:
        path, _, query = target.partition("?")
        book = self._accounts[account] if account else _Account()
        book.read.add(path)
        match method, path:
            case "GET", "/orders":
                return _list(book.orders)
            case "GET", "/trades":
                return _list(book.trades)
            case "GET", "/portfolio/positions":
                rows = [_position(key, *traded) for key, traded in book.traded.items()]
                return _data({"net": rows, "day": rows})
            case "GET", "/portfolio/holdings" | "/gtt/triggers":
                return _data([])
            case "GET", "/user/profile":
                return _data(
                    {
                        "user_id": account[:20].upper(),
                        "user_name": "Bench",
                        "exchanges": ["NSE"],
                        "products": ["MIS", "CNC", "NRML"],
                        "order_types": ["MARKET", "LIMIT", "SL", "SL-M"],
                    }
                )
            case "GET", "/user/margins":
                segment = {"enabled": True, "net": 1e9, "available": {"cash": 1e9, "live_balance": 1e9}, "utilised": {}}
                return _data({"equity": segment, "commodity": segment | {"enabled": False}})
            case "GET", "/quote/ltp" | "/quote":
                keys = [value for name, value in parse_qsl(query) if name == "i" and value.startswith("NSE:")]
                return _data({key: {"instrument_token": 1, "last_price": _PRICE} for key in keys if key[4:] in SYMBOLS})
            case "GET", "/instruments" | "/instruments/NSE":
                rows_ = [
                    f"{256 * n},{n},{symbol},{symbol},{_PRICE},,0,0.05,1,EQ,NSE,NSE"
                    for n, symbol in enumerate(SYMBOLS, 1)
                ]
                return _answer("\n".join((_COLUMNS, *rows_, "")).encode(), media_type=b"text/csv")
            case "GET", "/_control/orders":
                return _answer(msgspec.json.encode(self._received))
            case "GET", "/_control/count":
                return _answer(b"%d" % len(self._received))
            case "POST", "/_control/reset":
                self._received.clear()
                for each in self._accounts.values():
                    each.forget()
                return _answer(b"{}")
        return _answer(
            b'{"status":"error","message":"Route not found","data":null,"error_type":"GeneralException"}', status=404
        )


def _position(key: str, units: list[int], values: list[float]) -> dict[str, object]:
    exchange, symbol, product = key.split(":")
    bought, sold = units
    buys, sells = values
    net = bought - sold
    average = 0.0 if not net else (buys / bought if net > 0 else sells / sold)
    return {
        "tradingsymbol": symbol,
        "exchange": exchange,
        "product": product,
        "quantity": net,
        "overnight_quantity": 0,
        "multiplier": 1,
        "average_price": round(average, 4),
        "close_price": 0,
        "last_price": _PRICE,
        "pnl": round(sells - buys + net * _PRICE, 2),
        "m2m": round(sells - buys + net * _PRICE, 2),
        "buy_quantity": bought,
        "buy_value": round(buys, 2),
        "sell_quantity": sold,
        "sell_value": round(sells, 2),
        "day_buy_quantity": bought,
        "day_buy_value": round(buys, 2),
        "day_sell_quantity": sold,
        "day_sell_value": round(sells, 2),
    }


def _list(rows: Iterable[bytes]) -> bytes:
    return _answer(b'{"status":"success","data":[' + b",".join(rows) + b"]}")


def _data(data: object) -> bytes:
    return _answer(msgspec.json.encode({"status": "success", "data": data}))


def _answer(body: bytes, *, status: int = 200, media_type: bytes = b"application/json") -> bytes:
    return b"HTTP/1.1 %d \r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (status, media_type, len(body), body)
