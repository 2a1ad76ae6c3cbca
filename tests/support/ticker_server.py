"""A WebSocket server on loopback that does what a test tells it, in the place of Kite's ticker."""

import json
from collections.abc import Callable
from struct import pack
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

HEARTBEAT = b"\x00"


def frame(*packets: bytes) -> bytes:
    """Return a binary message of *packets*."""
    return pack(">H", len(packets)) + b"".join(pack(">H", len(packet)) + packet for packet in packets)


def ltp(token: int, price: int) -> bytes:
    """Return the packet of a last price, in the units of the wire."""
    return pack(">2I", token, price)


def order_text(order_id: str, status: str = "OPEN", filled: int = 0, **fields: Any) -> str:
    """Return an order update as Kite sends it."""
    data = {
        "account_id": "AB1234",
        "checksum": "",
        "order_id": order_id,
        "status": status,
        "filled_quantity": filled,
        "quantity": 10,
        "tradingsymbol": "INFY",
        "exchange": "NSE",
        "transaction_type": "BUY",
        "average_price": 1500.05,
        "exchange_update_timestamp": "2026-11-02 10:00:00",
        **fields,
    }
    return json.dumps({"type": "order", "id": "", "data": data})


class Client:
    """One connection as the server sees it."""

    def __init__(self, socket: WebSocketConnection, path: str, headers: dict[str, str]) -> None:
        self._socket = socket
        self.query = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
        self.headers = headers
        self.texts: list[dict[str, Any]] = []
        self.modes: dict[int, str] = {}
        self.gone = trio.Event()

    async def send(self, message: bytes | str) -> None:
        await self._socket.send_message(message)

    async def close(self) -> None:
        await self._socket.aclose()

    async def listen(self) -> None:
        """Take what the client asks for until it goes."""
        try:
            while True:
                asked = json.loads(await self._socket.get_message())
                self.texts.append(asked)
                match asked["a"]:
                    case "subscribe":
                        self.modes.update(dict.fromkeys(asked["v"], "quote"))
                    case "unsubscribe":
                        for token in asked["v"]:
                            self.modes.pop(token, None)
                    case "mode":
                        mode, tokens = asked["v"]
                        self.modes.update(dict.fromkeys(tokens, mode))
        except ConnectionClosed:
            self.gone.set()


class TickerServer:
    """Takes connections; with *status* set it answers the handshake with that instead."""

    def __init__(self) -> None:
        self.url = ""
        self.status: int | None = None
        self.refused = 0
        self.clients: list[Client] = []
        self.heartbeats = True

    async def run(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve_websocket, self._serve, "127.0.0.1", 0, None)
            self.url = f"ws://127.0.0.1:{server.port}"
            task_status.started(self.url)

    async def _serve(self, request: WebSocketRequest) -> None:
        if self.status is not None:
            self.refused += 1
            await request.reject(self.status, body=b'{"status":"error"}')
            return
        headers = {name.decode().lower(): value.decode() for name, value in request.headers}
        client = Client(await request.accept(), request.path, headers)
        self.clients.append(client)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._beat, client)
            await client.listen()
            nursery.cancel_scope.cancel()

    async def _beat(self, client: Client) -> None:
        while True:
            if self.heartbeats:
                try:
                    await client.send(HEARTBEAT)
                except ConnectionClosed:
                    return
            await trio.sleep(0.05)

    @property
    def client(self) -> Client:
        """The newest connection."""
        return self.clients[-1]


async def until(condition: Callable[[], bool], *, timeout_s: float = 10) -> None:
    """Wait until *condition* holds."""
    with trio.fail_after(timeout_s):
        while not condition():
            await trio.sleep(0.005)
