"""The exchange alone, as a process of its own: one account or more, signals end it."""

import secrets
import signal
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import trio

from engine.clock import Clock, SystemClock
from engine.exchange.config import DEFAULT_REDIRECT, ExchangeConfig, ExchangeError
from engine.exchange.events import AccountOpened, Event
from engine.exchange.faults import FaultRule
from engine.exchange.paced_clock import PacedClock
from engine.exchange.push_faults import PushRule
from engine.exchange.record import read_record
from engine.exchange.replay import read_replay
from engine.exchange.server import ExchangeServer

USER_ID = "PAPER1"


async def serve_standalone(
    host: str,
    port: int,
    record_path: Path | None,
    seed: int,
    capital: Decimal,
    announce: Callable[[str], None],
    *,
    config: ExchangeConfig | None = None,
    faults: Sequence[FaultRule] = (),
    push_faults: Sequence[PushRule] = (),
    users: Mapping[str, Decimal] | None = None,
    redirect_url: str = DEFAULT_REDIRECT,
    replay_path: Path | None = None,
    speed: float = 1.0,
    start_at: datetime | None = None,
) -> None:
    """Serve one exchange until SIGTERM or SIGINT; *faults* and *push_faults* are rules by which it misbehaves.

    Announces the lines ``api_key K``, ``api_secret S`` (again for each of *users*, further accounts with their
    rupees), ``control ready http://127.0.0.1:PORT`` where the control routes have a port of their own, and, once it
    listens, ``exchange ready http://HOST:PORT``. The keys are kept in the record: a restart announces the same
    ones. *redirect_url* is where a login sends the browser. *config* gives the rest of the behaviour; its seed and
    record are replaced by *seed* and *record_path*.

    *replay_path* is a file of prices (`engine.exchange.replay`). Exchange time passes *speed* times as fast as the
    machine's, from *start_at* on, or else from the first row of the file; with neither, from now. A record
    that goes further than that is gone on with from its last instant: time never runs back.
    """
    behaviour = _with(config or ExchangeConfig(), seed, record_path)
    past = await trio.to_thread.run_sync(read_record, record_path) if record_path is not None else []
    replay = await trio.to_thread.run_sync(read_replay, replay_path) if replay_path is not None else None
    if start_at is None and replay is not None:
        start_at = replay.starts_at
    server = ExchangeServer(
        behaviour, _clock(speed, start_at, past), faults=faults, push_faults=push_faults, replay=replay
    )
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            for user_id, money in {USER_ID: capital, **(users or {})}.items():
                api_key, api_secret = _keys(past, user_id)
                server.add_account(api_key, api_secret, user_id, money, redirect_url)
                announce(f"api_key {api_key}")
                announce(f"api_secret {api_secret}")

            async def stop_on_signal() -> None:
                async for _ in signals:
                    server.stop()

            async def serve(task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
                await server.run(host=host, port=port, task_status=task_status)
                nursery.cancel_scope.cancel()

            nursery.start_soon(stop_on_signal)
            url = await nursery.start(serve)
            if server.control_url is not None:
                announce(f"control ready {server.control_url}")
            announce(f"exchange ready {url}")


def read_user(text: str) -> tuple[str, Decimal | None]:
    """Return the user id and the rupees of ``ID[:capital]``. Raises ExchangeError naming the mend."""
    user_id, colon, money = text.partition(":")
    if not user_id.isalnum() or (colon and not (money.isascii() and money.isdigit() and int(money))):
        raise ExchangeError(f"the user {text!r} is not ID[:capital]; write for example AB1234:500000")
    return user_id, Decimal(money) if money else None


def read_redirect(url: str) -> str:
    """Return *url*, an address that a login can be sent to. Raises ExchangeError naming the mend."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable() and " " not in url
    except ValueError:
        usable = False
    if not usable:
        raise ExchangeError(
            f"--redirect-url {url!r} is no web address; write for example "
            "http://127.0.0.1:8080/api/v1/accounts/callback"
        )
    return url


def _clock(speed: float, start_at: datetime | None, past: Sequence[Event]) -> Clock:
    clock = SystemClock()
    if start_at is None and speed == 1:
        return clock
    begin = start_at or clock.now()
    return PacedClock(clock, speed=speed, start_at=max(begin, past[-1].at) if past else begin)


def _with(config: ExchangeConfig, seed: int, record_path: Path | None) -> ExchangeConfig:
    fields = {name: getattr(config, name) for name in config.__struct_fields__}
    return ExchangeConfig(**{**fields, "seed": seed, "record_path": record_path})


def _keys(past: Sequence[Event], user_id: str) -> tuple[str, str]:
    for event in reversed(past):
        if isinstance(event, AccountOpened) and event.user_id == user_id:
            return event.api_key, event.api_secret
    return secrets.token_hex(8), secrets.token_hex(16)
