"""The HTTP server: a listening socket, connections that are counted, and a drain that always ends.

It is Hypercorn's protocol under an accept loop of our own: when there are too many connections, in all
or of one address, one that waits gives way, so that a crowd of them never locks anybody out, and at the
end of a drain every socket still open is closed by force, which wakes even a shielded write
(reliability 0.9, F41, SEC-093; traps T9).
"""

import errno
import logging
import signal
import socket
import threading
from collections.abc import Sequence
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app

from engine.clock import Clock, SystemClock
from engine.errors import EngineError, StartupError
from engine.http.client_ip import Network
from engine.http.connection import Connection
from engine.http.crowd import Crowd
from engine.http.limits import ServerLimits
from engine.http.phase import Phase
from engine.http.tls import TlsFiles

logger = logging.getLogger("engine.http.server")
_LOOK_AT_FILES_S = 10.0
_BUSY_ACCEPT_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class HttpServer:
    """Serves *app* on *host* and *port* (0 picks a free one) until `drain`."""

    def __init__(
        self,
        app: Any,
        *,
        host: str = "127.0.0.1",
        port: int = 8080,
        limits: ServerLimits | None = None,
        clock: Clock | None = None,
        listener: trio.socket.SocketType | None = None,
        tls: TlsFiles | None = None,
        uncounted: Sequence[Network] = (),
    ) -> None:
        """Serve on *listener*, a socket that listens already, the first time; it is closed at the end.

        With *tls* everything is encrypted. Connections from *uncounted* networks, and from this machine, are
        bounded in all, not by address: many clients stand behind each.
        """
        self._app = app
        self._host = host
        self._port = port if listener is None else listener.getsockname()[1]
        self._listener = listener
        self._limits = limits or ServerLimits()
        self._clock = clock or SystemClock()
        self._drain = trio.Event()
        self._tls = tls
        self._crowd = Crowd(self._limits, uncounted)
        self._one_closed = trio.Event()
        self.base_url = ""

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._crowd)

    def drain(self) -> None:
        """Accept nothing more, let requests at hand finish for ``drain_s`` seconds, then close; `run` returns."""
        self._drain.set()
        draining = getattr(self._app, "draining", None)
        if draining is not None:
            draining.set()

    async def run(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve; reports the base URL, for example ``http://127.0.0.1:8080``, once it listens.

        Returns after `drain` only. A cancel from above closes every socket at once. Raises StartupError
        when the address cannot be had.
        """
        listener, self._listener = self._listener, None
        if listener is None:
            listener = listen(self._host, self._port, backlog=self._limits.backlog)
        self.base_url = _base_url(listener, is_tls=self._tls is not None)
        config = self._config()
        context = WorkerContext(None)
        app = wrap_app(self._app, config.wsgi_max_body_size, "asgi")
        lifespan = Lifespan(app, config, {})
        with listener:
            async with trio.open_nursery() as lifespan_nursery:
                await lifespan_nursery.start(lifespan.handle_lifespan)
                await lifespan.wait_for_startup()
                await self._serve(app, config, context, listener, task_status)
                with trio.move_on_after(self._limits.drain_s):
                    await lifespan.wait_for_shutdown()
                lifespan_nursery.cancel_scope.cancel()

    async def _serve(
        self,
        app: Any,
        config: Config,
        context: WorkerContext,
        listener: trio.socket.SocketType,
        task_status: trio.TaskStatus[str],
    ) -> None:
        async with trio.open_nursery() as connections:
            turnstile = getattr(self._app, "turnstile", None)
            if turnstile is not None:
                connections.start_soon(turnstile.run)
            try:
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(self._accept, app, config, context, listener, connections)
                    if self._tls is not None:
                        accepting.start_soon(self._watch_files, self._tls)
                        accepting.start_soon(self._hear_reload, self._tls)
                    task_status.started(self.base_url)
                    await self._drain.wait()
                    accepting.cancel_scope.cancel()
                listener.close()
                await self._finish_requests(context)
            finally:
                # first the sockets, which wakes shielded writes, then the tasks
                self._crowd.abort(*Phase)
            connections.cancel_scope.cancel()

    async def _finish_requests(self, context: WorkerContext) -> None:
        await context.terminated.set()
        logger.info("draining %d connections", len(self._crowd))
        self._crowd.abort(Phase.IDLE, Phase.RECEIVING)
        with trio.move_on_after(self._limits.drain_s):
            while len(self._crowd):
                await self._one_closed.wait()

    async def _accept(
        self,
        app: Any,
        config: Config,
        context: WorkerContext,
        listener: trio.socket.SocketType,
        nursery: trio.Nursery,
    ) -> None:
        while True:
            try:
                accepted, address = await listener.accept()
            except OSError as exc:
                if exc.errno not in _BUSY_ACCEPT_ERRORS:
                    # the peer has already gone: nothing to serve (accept(2), ECONNABORTED and the like)
                    continue
                logger.warning("cannot accept a connection: %s", exc)
                self._crowd.make_room()
                await trio.sleep(0.1)
                continue
            peer = self._crowd.peer_of(address)
            if not self._crowd.has_room(peer):
                accepted.close()
                continue
            connection = Connection(
                app,
                config,
                context,
                {},
                trio.SocketStream(accepted),
                clock=self._clock,
                limits=self._limits,
                tls=None if self._tls is None else self._tls.context,
                peer=peer,
                fast_lane=getattr(self._app, "fast_lane", None),
            )
            self._crowd.add(connection)
            nursery.start_soon(self._run_connection, connection)

    async def _run_connection(self, connection: Connection) -> None:
        try:
            await connection.run()
        except BaseExceptionGroup as group:
            cancelled, rest = group.split(trio.Cancelled)
            if rest is not None:
                logger.error("a connection failed", exc_info=rest)
            if cancelled is not None:
                raise cancelled from None
        except Exception:
            # one connection's failure is its own: the server and all others go on
            logger.exception("a connection failed")
        finally:
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        self._crowd.remove(connection)
        connection.let_go()
        self._one_closed.set()
        self._one_closed = trio.Event()

    async def _watch_files(self, tls: TlsFiles) -> None:
        while True:
            await trio.sleep(_LOOK_AT_FILES_S)
            await trio.to_thread.run_sync(tls.reload)

    async def _hear_reload(self, tls: TlsFiles) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # signals are the main thread's, and this server is a part of something else
        with trio.open_signal_receiver(signal.SIGHUP) as received:
            async for _ in received:
                tls.reload(even_unchanged=True)

    def _config(self) -> Config:
        config = Config()
        config.include_server_header = False
        config.keep_alive_timeout = self._limits.keep_alive_s
        config.keep_alive_max_requests = self._limits.keep_alive_requests
        config.h11_max_incomplete_size = 16 * 1024
        config.accesslog = None
        config.errorlog = logging.getLogger("engine.http.hypercorn")
        config.startup_timeout = 10
        config.shutdown_timeout = 5
        return config


def listen(host: str, port: int, *, backlog: int) -> trio.socket.SocketType:
    """Return a listening socket. Raises StartupError that names the mend."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host or "0.0.0.0",  # noqa: S104 -- an empty host in the configuration means every interface
            port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )[0]
    except socket.gaierror:
        raise StartupError(f"[server] host = {host!r} is no address of this machine") from None
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError as exc:
        sock.close()
        raise _not_bound(host, port, exc) from None
    return trio.socket.from_stdlib_socket(sock)


def _not_bound(host: str, port: int, error: OSError) -> EngineError:
    if error.errno == errno.EADDRINUSE:
        return StartupError(f"port {port} is taken by another program; use --port N or [server] port")
    if error.errno == errno.EACCES:
        return StartupError(f"port {port} needs more rights; use --port N or [server] port with N over 1023")
    if error.errno == errno.EADDRNOTAVAIL:
        return StartupError(f"[server] host = {host!r} is no address of this machine")
    return StartupError(f"cannot listen on {host}:{port}: {error.strerror}")


def _base_url(listener: trio.socket.SocketType, *, is_tls: bool) -> str:
    name = listener.getsockname()
    shown = name[0]
    if shown in {"0.0.0.0", "::"}:  # noqa: S104 -- compared, not bound
        shown = "127.0.0.1" if listener.family == socket.AF_INET else "::1"
    host = f"[{shown}]" if ":" in shown else shown
    return f"{'https' if is_tls else 'http'}://{host}:{name[1]}"
