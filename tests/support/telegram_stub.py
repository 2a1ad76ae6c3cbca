"""A Bot API on loopback that keeps what the engine says to chats."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.sinks import Sink

_ANSWERS: dict[str, Any] = {
    "getMe": {"id": 1, "is_bot": True, "first_name": "Desk", "username": "desk_bot"},
    "getWebhookInfo": {"url": "https://desk.example/set-by-hand"},
}


class TelegramStub(Sink):
    """Collects the texts of ``sendMessage``; knows its bot, and a webhook that somebody set."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                method = self.path.rpartition("/")[2]
                if method == "sendMessage":
                    stub.said.append(json.loads(body))
                answer = json.dumps({"ok": True, "result": _ANSWERS.get(method, True)}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"
