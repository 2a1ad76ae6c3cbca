"""Servers on loopback that take what the engine sends outside: mail, and anything over HTTP."""

import socketserver
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class Sink:
    """A server with a thread of its own for the time of a block."""

    _server: socketserver.BaseServer

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()


class HttpSink(Sink):
    """Keeps (method, path, headers, body) of every call; answers with ``status`` and ``text``."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, dict[str, str], bytes]] = []
        self.status, self.text, self.headers = 200, "ok", {}
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def _take(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                sink.calls.append((self.command, self.path, headers, body))
                self.send_response(sink.status)
                for name, value in sink.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(sink.text)))
                self.end_headers()
                self.wfile.write(sink.text.encode())

            do_GET = do_POST = _take

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"


class MailSink(Sink):
    """A mail server with STARTTLS and AUTH PLAIN: keeps what comes over TLS; refuses what is in ``refuses``."""

    def __init__(self, certificate: str) -> None:
        self.mails: list[str] = []
        self.logins: list[str] = []
        self.refuses = ""
        sink = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(certificate)
                with self.request.makefile("rwb", buffering=0) as stream:
                    stream.write(b"220 sink\r\n")
                    if not sink._converse(stream, is_tls=False):
                        return
                try:
                    inner = context.wrap_socket(self.request.dup(), server_side=True)
                except ssl.SSLError:
                    return  # the other side does not believe this certificate
                with inner, inner.makefile("rwb", buffering=0) as stream:
                    sink._converse(stream, is_tls=True)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    def _converse(self, stream: Any, *, is_tls: bool) -> bool:
        """Speak SMTP until the end (False) or the beginning of TLS (True)."""
        while line := stream.readline().decode().strip():
            verb = line.upper()
            if self.refuses and verb.startswith(self.refuses):
                stream.write(b"550 no such mailbox\r\n")
            elif verb.startswith("EHLO"):
                stream.write(b"250-sink\r\n250 AUTH PLAIN\r\n" if is_tls else b"250-sink\r\n250 STARTTLS\r\n")
            elif verb == "STARTTLS":
                stream.write(b"220 go\r\n")
                return True
            elif verb.startswith("AUTH"):
                self.logins.append(line)
                stream.write(b"235 in\r\n")
            elif verb == "DATA":
                stream.write(b"354 go\r\n")
                rows = []
                while (row := stream.readline().decode().rstrip("\r\n")) != ".":
                    rows.append(row)
                self.mails.append("\n".join(rows) if is_tls else "IN PLAIN TEXT")
                stream.write(b"250 taken\r\n")
            elif verb == "QUIT":
                stream.write(b"221 bye\r\n")
                return False
            else:
                stream.write(b"250 ok\r\n")
        return False

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])
