"""The paper exchange as an HTTP server: a task that a supervisor runs, or `engine.exchange.standalone`.

Owns the truth record and the exchange's core. A failed write of the record ends the server: nothing
may be answered that is not on the disk. No signal handling, no global state.
"""

import logging
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import hypercorn.trio
import trio
from hypercorn.config import Config

from engine.clock import Clock
from engine.exchange.config import DEFAULT_REDIRECT, ExchangeConfig, ExchangeError
from engine.exchange.control import add_control_routes, build_control_app
from engine.exchange.core import Exchange
from engine.exchange.fast_lane import FastLane
from engine.exchange.fault_gate import FaultGate
from engine.exchange.faults import FaultRule, Faults
from engine.exchange.listening import serve
from engine.exchange.postbacks import Postbacks
from engine.exchange.push_faults import PushFaults, PushRule
from engine.exchange.record import RecordWriter
from engine.exchange.replay import Replay
from engine.exchange.routes import MAX_BODY_BYTES, Gateway, build_app
from engine.exchange.ticker import Ticker
from engine.exchange.ticker_socket import TickerSocket
from engine.exchange.updates import Updates

# a client's idle connection must not be cut just as it sends an order on it
KEEP_ALIVE_S = 300
GRACEFUL_S = 0.5
# 3,000 subscribed tokens take 33 KB
MAX_MESSAGE_BYTES = 256 * 1024

_log = logging.getLogger("engine.exchange")


class ExchangeServer:
    """One exchange. `run` may be called again after it ended: a record brings the state back.

    *faults* and, of the ticker, *push_faults* are the rules by which it misbehaves from the start; more come over
    the control routes. *replay* gives the prices of the instruments it names. Raises ExchangeError for a
    configuration that cannot be.
    """

    def __init__(
        self,
        config: ExchangeConfig,
        clock: Clock,
        *,
        faults: Sequence[FaultRule] = (),
        push_faults: Sequence[PushRule] = (),
        replay: Replay | None = None,
    ) -> None:
        self._config = config
        self._push_faults = PushFaults(push_faults)
        self._replay = replay
        self._postbacks = Postbacks(config.postback_url) if config.postback_url is not None else None
        self.control_url: str | None = None
        self._faults = Faults(faults)
        self._clock = clock
        self._accounts: dict[str, tuple[str, str, Decimal, str]] = {}
        self._exchange: Exchange | None = None
        self._writer: RecordWriter | None = None
        self._stop = trio.Event()

    def add_account(
        self,
        api_key: str,
        api_secret: str,
        user_id: str,
        capital: Decimal,
        redirect_url: str = DEFAULT_REDIRECT,
    ) -> None:
        """Add an account (capital in rupees) before or during `run`; adding the same again changes nothing.

        Another secret, capital or redirect URL replaces the one before. Raises ExchangeError when the
        key or the user already belongs to another pair; before `run`, `run` raises it.
        """
        if self._exchange is not None and self._writer is not None:
            now = self._clock.now()
            self._exchange.add_account(api_key, api_secret, user_id, capital, redirect_url, now=now)
            self._writer.append(self._exchange.take_events())
        self._accounts[api_key] = (api_secret, user_id, capital, redirect_url)

    @property
    def exchange(self) -> Exchange:
        """The core of the running exchange. Raises ExchangeError before `run` has started it."""
        if self._exchange is None:
            raise ExchangeError("the exchange is not running yet; start `run` first")
        return self._exchange

    def stop(self) -> None:
        """Let `run` finish the requests at hand and return."""
        self._stop.set()

    async def run(
        self, *, host: str = "127.0.0.1", port: int = 0, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled or `stop`; reports the base URL once it listens (port 0: a free one).

        Raises ExchangeError when the record cannot be used; an exception group with an ExchangeError when the
        port cannot be had, with an OSError when the disk fails.
        """
        if self._config.record_path is not None or self._exchange is None:
            exchange = Exchange(self._config, replay=self._replay)
        else:
            exchange = self._exchange
        writer = RecordWriter(self._config.record_path)
        try:
            exchange.restore(await trio.to_thread.run_sync(writer.open))
            for api_key, (api_secret, user_id, capital, redirect_url) in self._accounts.items():
                exchange.add_account(api_key, api_secret, user_id, capital, redirect_url, now=self._clock.now())
            exchange.tick(self._clock.now())
            writer.append(exchange.take_events())
            self._warn_of_unlisted(exchange)
            self._exchange, self._writer = exchange, writer
            async with trio.open_nursery() as nursery:
                nursery.start_soon(writer.run)
                nursery.start_soon(self._tick, exchange, writer)
                gateway = Gateway(exchange, writer, self._clock)
                lane = FastLane(exchange, writer, self._clock, self._faults)
                binds = await nursery.start(self._serve, gateway, lane, host, port, nursery)
                task_status.started(binds[0])
        finally:
            self._writer = None
            self._stop = trio.Event()
            with trio.CancelScope(shield=True):
                # bounded by the disk: one write of what is queued
                await trio.to_thread.run_sync(writer.close)

    def _warn_of_unlisted(self, exchange: Exchange) -> None:
        listed = exchange.roll(self._clock.now()).by_key
        unlisted = sorted(key for key in (self._replay.keys if self._replay is not None else ()) if key not in listed)
        if unlisted:
            _log.warning("%d of the replayed instruments are not listed today, %s first", len(unlisted), unlisted[0])

    async def _serve(
        self,
        gateway: Gateway,
        lane: FastLane,
        host: str,
        port: int,
        nursery: trio.Nursery,
        task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        ticker = Ticker(gateway.exchange, self._clock, self._config, self._push_faults)
        receivers = [ticker.push]
        if self._postbacks is not None:
            receivers.append(self._postbacks.add)
            nursery.start_soon(self._postbacks.run)
        updates = Updates(gateway, *receivers)
        gateway.exchange.subscribe_orders(updates.note)
        nursery.start_soon(updates.run)
        nursery.start_soon(ticker.run)

        app = build_app(gateway)
        gate = FaultGate(app, gateway, self._faults, nursery)
        if self._config.control_routes:
            add_control_routes(app, gateway, gate, ticker)
        if self._config.control_port is not None:
            control = build_control_app(gateway, gate, ticker)
            [self.control_url] = await nursery.start(self._serve_control, control, self._config.control_port)
        front = TickerSocket(gate, ticker, gateway.exchange, self._clock, self._config, self._stop)
        try:
            await serve(
                front,
                _hypercorn_config(host, port),
                lane,
                most_body_bytes=MAX_BODY_BYTES,
                shutdown_trigger=self._stop.wait,
                task_status=task_status,
            )
        finally:
            # the same core may be served again
            gateway.exchange.state.order_listeners.remove(updates.note)
        nursery.cancel_scope.cancel()

    async def _serve_control(
        self, app: Any, port: int, *, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        await hypercorn.trio.serve(
            app,
            _hypercorn_config("127.0.0.1", port),
            shutdown_trigger=self._stop.wait,
            task_status=task_status,
            mode="asgi",
        )

    async def _tick(self, exchange: Exchange, writer: RecordWriter) -> None:
        while True:
            await trio.sleep(self._config.tick_interval_s)
            exchange.tick(self._clock.now())
            writer.append(exchange.take_events())


def _hypercorn_config(host: str, port: int) -> Config:
    config = Config()
    config.bind = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]
    config.accesslog = None
    config.errorlog = _log
    config.include_server_header = False
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.keep_alive_max_requests = 2**31
    config.graceful_timeout = GRACEFUL_S
    config.websocket_max_message_size = MAX_MESSAGE_BYTES
    return config
