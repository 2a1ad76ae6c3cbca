"""Sends orders to a Kite-like server over keep-alive connections, as fast as it answers: a program of its own.

``python order_load.py URL API_KEY ACCESS_TOKEN CONNECTIONS SECONDS`` prints one line of JSON. Plain sockets and
prepared requests, so that the driver costs little beside the server on a machine of two cores.
"""

import json
import selectors
import socket
import sys
import time
from itertools import cycle
from urllib.parse import urlencode, urlsplit

# half of them trade at once (there is no spread), half rest far from the price
_SHAPES = (
    ("INFY", "BUY", "1550"),
    ("SBIN", "BUY", "740"),
    ("INFY", "SELL", "1350"),
    ("TCS", "BUY", "3600"),
    ("SBIN", "BUY", "880"),
    ("INFY", "BUY", "1320"),
    ("SBIN", "SELL", "740"),
    ("TCS", "SELL", "4200"),
)


def requests_of(host: str, credentials: str) -> list[bytes]:
    """Return the requests that are sent in turn."""
    made = []
    for number, (symbol, side, price) in enumerate(_SHAPES):
        form = urlencode(
            {
                "exchange": "NSE",
                "tradingsymbol": symbol,
                "transaction_type": side,
                "quantity": "1",
                "product": "MIS",
                "order_type": "LIMIT",
                "price": price,
                "validity": "DAY",
                "tag": f"LOAD{number}",
            }
        ).encode()
        head = (
            f"POST /orders/regular HTTP/1.1\r\nHost: {host}\r\nX-Kite-Version: 3\r\n"
            f"Authorization: token {credentials}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(form)}\r\n\r\n"
        ).encode()
        made.append(head + form)
    return made


class _Line:
    """One connection with at most one request on its way."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_at = 0
        self._received = b""

    def send(self, request: bytes) -> None:
        self.sent_at = time.perf_counter_ns()
        self.socket.sendall(request)

    def take(self) -> int | None:
        """Return the status of the answer once it is whole."""
        chunk = self.socket.recv(65536)
        if not chunk:
            raise SystemExit("the server closed a connection")
        self._received += chunk
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return None
        at = head.lower().index(b"content-length:") + 15
        if len(body) < int(head[at : head.find(b"\r", at) if b"\r" in head[at:] else None]):
            return None
        self._received = b""
        return int(head[9:12])


def main() -> None:
    """Run the load and print what came of it."""
    url, api_key, token, connections, seconds = sys.argv[1:6]
    parts = urlsplit(url)
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    turns = cycle(requests_of(parts.netloc, f"{api_key}:{token}"))
    lines = [_Line(address) for _ in range(int(connections))]
    ready = selectors.DefaultSelector()
    for line in lines:
        ready.register(line.socket, selectors.EVENT_READ, line)
    latencies: list[int] = []
    statuses: dict[int, int] = {}
    began, cpu = time.perf_counter(), time.process_time()
    for line in lines:
        line.send(next(turns))
    underway, ends = len(lines), began + float(seconds)
    while underway:
        for key, _ in ready.select(30):
            line = key.data
            status = line.take()
            if status is None:
                continue
            now = time.perf_counter_ns()
            latencies.append(now - line.sent_at)
            statuses[status] = statuses.get(status, 0) + 1
            if now / 1e9 < ends:
                line.send(next(turns))
            else:
                underway -= 1
    took = time.perf_counter() - began
    latencies.sort()
    print(
        json.dumps(
            {
                "orders": len(latencies),
                "per_s": round(len(latencies) / took),
                "statuses": statuses,
                "p50_ms": round(latencies[len(latencies) // 2] / 1e6, 2),
                "p99_ms": round(latencies[len(latencies) * 99 // 100] / 1e6, 2),
                "driver_cpu_us": round((time.process_time() - cpu) / len(latencies) * 1e6),
            }
        )
    )


if __name__ == "__main__":
    main()
