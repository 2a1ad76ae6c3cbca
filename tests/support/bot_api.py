"""A Bot API on loopback: updates that are asked for or pushed, and everything that the engine says.

As Telegram does it: an update is given again until a later one is asked for; a webhook and polling exclude each other.
``faults`` holds answers to give instead, by method, each once; ``hang`` holds every answer back until it is cleared.
"""

import itertools
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

BOT_TOKEN = "8123456789:AAF_fakefakefakefakefakefakefakefake"
_LONGEST_POLL_S = 1.0


class FakeBotApi:
    """Use as a context manager; ``calls`` are method and content, in order, ``pending`` the updates not confirmed."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.pending: list[dict[str, Any]] = []
        self.webhook: dict[str, Any] = {}
        self.faults: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        self.hang = threading.Event()
        self.hang.set()
        self._numbers = itertools.count(1000)
        self._messages = itertools.count(1)
        self._lock = threading.Condition()
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
                _, _, rest = self.path.partition("/bot")
                token, _, method = rest.partition("/")
                status, answer = api.answer(token, method, content)
                body = json.dumps(answer).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    pass  # the engine was killed, or had waited long enough

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hang.set()
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()

    # as the engine sees it

    def answer(self, token: str, method: str, content: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self._lock:
            self.calls.append((method, content))
            fault = self.faults.get(method)
            if fault:
                status, extra = fault.pop(0)
                return status, {"ok": False, "error_code": status, "description": "fault"} | extra
        self.hang.wait(60)
        if token != BOT_TOKEN:
            return 401, {"ok": False, "error_code": 401, "description": "Unauthorized"}
        match method:
            case "getUpdates":
                return self._get_updates(content)
            case "setWebhook":
                self.webhook = content
            case "deleteWebhook":
                self.webhook = {}
            case "getWebhookInfo":
                return 200, {"ok": True, "result": {"url": self.webhook.get("url", ""), "pending_update_count": 0}}
            case "getMe":
                return 200, {"ok": True, "result": {"id": 8123456789, "is_bot": True, "username": "desk_bot"}}
        return 200, {"ok": True, "result": True}

    def _get_updates(self, content: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.webhook:
            told = "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook"
            return 409, {"ok": False, "error_code": 409, "description": told}
        until = time.monotonic() + min(content.get("timeout", 0), _LONGEST_POLL_S)
        with self._lock:
            self.pending = [u for u in self.pending if u["update_id"] >= content.get("offset", 0)]
            while not self.pending and (left := until - time.monotonic()) > 0:
                self._lock.wait(left)
            return 200, {"ok": True, "result": self.pending[: content.get("limit", 100)]}

    # as a person sees it

    def message(self, text: str, *, chat: int = 4711, sender: int | None = None, **changes: Any) -> dict[str, Any]:
        """Return a new update with a message, private when the chat is the sender's."""
        number = changes.pop("update_id", None) or next(self._numbers)
        sender = chat if sender is None else sender
        message = {
            "message_id": next(self._messages),
            "date": int(time.time()),
            "chat": {"id": chat, "type": "private" if chat == sender else "group"},
            "from": {"id": sender, "is_bot": False, "first_name": "P"},
            "text": text,
        }
        return {"update_id": number, "message": message | changes}

    def press(self, data: str, *, chat: int, sender: int) -> dict[str, Any]:
        """Return a new update with the press of a button."""
        return {
            "update_id": next(self._numbers),
            "callback_query": {
                "id": "55",
                "from": {"id": sender, "is_bot": False},
                "message": {"message_id": 3, "chat": {"id": chat, "type": "group"}},
                "data": data,
            },
        }

    def push(self, *updates: dict[str, Any]) -> None:
        """Let updates wait to be asked for."""
        with self._lock:
            self.pending += updates
            self._lock.notify_all()

    def said(self, chat: int | None = None) -> list[dict[str, Any]]:
        """Return the messages that the engine sent, to one chat or to all."""
        return [c for method, c in self.calls if method == "sendMessage" and chat in (None, c["chat_id"])]

    def texts(self, chat: int | None = None) -> str:
        """Return everything said, in one text."""
        return "\n".join(content["text"] for content in self.said(chat))

    def called(self, method: str) -> list[dict[str, Any]]:
        """Return the contents of the calls of *method*."""
        return [content for name, content in self.calls if name == method]
