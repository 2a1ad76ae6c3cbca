"""``engine flatten``: cancel and close everything, with an engine or, when it and its stores are dead, without."""

import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import msgspec
import structlog
import trio
import typer

from engine.actors.control import call
from engine.actors.flatten_file import FlattenFile
from engine.actors.killswitch_file import KillFile
from engine.actors.lone_broker import lone_broker
from engine.actors.lone_flatten import LoneFlatten, LoneHands, Result
from engine.assembly import deployment_of
from engine.cli.places import ConfigOption, DataDirOption, JsonOption, config_of, data_dir_of, load_keys, say, say_json
from engine.clock import SystemClock, trading_day
from engine.config import Config
from engine.data_dir import lock_data_dir
from engine.domain.calendar import is_open
from engine.domain.enums import Exchange, KillMode, KillState
from engine.domain.killswitch import GLOBAL, KillRecord, next_version
from engine.domain.tag import make_tag
from engine.errors import EngineError, StartupError
from engine.market_calendar import build_calendar
from engine.security.creds_file import Credentials, CredsFile
from engine.security.keys import Keys

_TIMEOUT_S = 120.0
_LOOK_S = 0.5
_FLAT = KillState.FLAT_VERIFIED

AccountOption = Annotated[list[UUID] | None, typer.Option("--account", help="An account's id; may be given again.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every account.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it stands in the audit log.")]
DeliveryOption = Annotated[bool, typer.Option("--delivery", help="Close what is held for delivery (CNC, MTF) too.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=5, max=3600, help="Seconds until it gives up.")]


def flatten(
    account: AccountOption = None,
    every: AllOption = False,
    yes: YesOption = False,
    reason: ReasonOption = "engine flatten",
    delivery: DeliveryOption = False,
    timeout: TimeoutOption = _TIMEOUT_S,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Block, cancel every order, close every position, and prove it; exits 0 only when all is flat.

    An engine that runs here does it. Without one, and without its stores, this command does it alone, with the
    sealed credentials that the engine left (state/creds.enc): run it where that engine ran. Trading stays blocked.
    """
    if every == bool(account):
        raise typer.BadParameter("give --all, or --account once or more", param_hint="--account")
    folder, settings = data_dir_of(data_dir), config_of(config)
    scopes = [GLOBAL] if every else [f"account:{number}" for number in account or ()]
    if not yes:
        typer.confirm(f"Cancel every order and close every position of {', '.join(scopes)}?", abort=True, err=True)
    # what is printed is the result alone
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    results = trio.run(_flatten, settings, folder, scopes, reason, delivery, timeout)
    if json:
        say_json(results)
    else:
        for result in results:
            _say(result)
    if not results or not all(result["flat"] for result in results):
        raise typer.Exit(1)


async def _flatten(
    config: Config, folder: Path, scopes: Sequence[str], reason: str, delivery: bool, timeout_s: float
) -> list[dict[str, Any]]:
    answered = await _ask_engine(folder, scopes, reason)
    if answered:
        return await _follow(folder, scopes, timeout_s)
    block(folder, scopes, reason)
    security = config.security
    keys = load_keys(security, folder)
    file = CredsFile(folder / "state" / "creds.enc", keys.ring(), deployment=deployment_of(keys))
    accounts = _chosen(file.read(), scopes)
    lock = _lock(folder)
    try:
        return await _alone(config, folder, keys, accounts, delivery or config.market.square_off_delivery, timeout_s)
    finally:
        if lock is not None:
            os.close(lock)


# with an engine


async def _ask_engine(folder: Path, scopes: Sequence[str], reason: str) -> bool:
    """Have the engine trip *scopes*; False when none answers."""
    for scope in scopes:
        request = {"command": "killswitch-on", "scope": scope, "reason": reason, "mode": KillMode.SQUARE_OFF.value}
        try:
            answer = await call(folder, request)
        except trio.TooSlowError:
            say("the engine here does not answer: it is blocked by its file, and this command goes on alone")
            return False
        if answer is None:
            return False
        if "error" in answer:
            raise EngineError(str(answer["error"]))
    return True


async def _follow(folder: Path, scopes: Sequence[str], timeout_s: float) -> list[dict[str, Any]]:
    """Watch the engine until every scope is flat, or for *timeout_s*."""
    found: dict[str, KillState] = {}
    began = trio.current_time()
    with trio.move_on_after(timeout_s):
        while not found or any(state is not _FLAT for state in found.values()):
            answer = await call(folder, {"command": "killswitch-status"})
            if answer is None:
                raise EngineError("the engine ended meanwhile: run this again")
            records = {r.scope: r for r in msgspec.convert(answer["records"], list[KillRecord])}
            found = {scope: records[scope].state if scope in records else KillState.ARMED for scope in scopes}
            await trio.sleep(_LOOK_S)
    took_s = round(trio.current_time() - began, 3)
    return [
        {"scope": scope, "by": "engine", "flat": state is _FLAT, "state": state.value, "tookS": took_s, "why": []}
        for scope, state in found.items()
    ]


# without one


def block(folder: Path, scopes: Sequence[str], reason: str) -> None:
    """Write to the kill switch's file that *scopes* are blocked: the engine starts that way. Raises OSError."""
    file, now = KillFile(folder / "state" / "kill.wal"), SystemClock().now()
    held = file.read_undamaged()
    for scope in scopes:
        before = held.get(scope)
        is_on = before is not None and before.enabled
        file.append(
            KillRecord(
                scope=scope,
                version=next_version(before, now),
                state=before.state if before is not None and is_on else KillState.BLOCKED,
                reason=reason,
                actor="cli",
                at=now,
                mode=KillMode.SQUARE_OFF,
                tripped_at=before.since if before is not None and is_on else now,
                day=before.day if before is not None and is_on else None,
            )
        )


def _chosen(accounts: Sequence[Credentials], scopes: Sequence[str]) -> list[Credentials]:
    if scopes == [GLOBAL]:
        return list(accounts)
    chosen = [account for account in accounts if f"account:{account.account_id}" in scopes]
    missing = set(scopes) - {f"account:{account.account_id}" for account in chosen}
    if missing:
        raise EngineError(f"state/creds.enc has no credentials of {', '.join(sorted(missing))}")
    return chosen


def _lock(folder: Path) -> int | None:
    """Keep an engine from starting meanwhile; one that hangs has the directory, and is stopped by the file."""
    try:
        return lock_data_dir(folder)
    except StartupError:
        return None


async def _alone(
    config: Config, folder: Path, keys: Keys, accounts: Sequence[Credentials], delivery: bool, timeout_s: float
) -> list[dict[str, Any]]:
    clock, file = SystemClock(), FlattenFile(folder / "state" / "flatten.wal")
    calendar = build_calendar(config.market, today=trading_day(clock.now()))
    earlier = file.read()
    results: list[Result] = []

    def is_exchange_open(exchange: Exchange, at: datetime) -> bool:
        return not config.enforce_hours or is_open(exchange, at, calendar)

    def tag(ticket_id: UUID) -> str:
        return make_tag(keys.tag, deployment=deployment_of(keys), epoch=0, order_id=ticket_id, attempt=1)

    async def one(account: Credentials) -> None:
        kite = config.broker.kite
        local = kite.leaves_by if account.broker != "paper" else None
        try:
            async with lone_broker(account, clock=clock, timeout_s=kite.timeout_s, local_address=local) as broker:
                hands = LoneHands(broker, account, file=file, clock=clock, earlier=earlier)
                work = LoneFlatten(
                    hands,
                    account,
                    clock=clock,
                    tag=tag,
                    is_open=is_exchange_open,
                    delivery=delivery,
                    timeout_s=timeout_s,
                )
                results.append(await work.run())
        except (EngineError, OSError) as error:
            # one account must not keep the others from being closed
            failed = Result(
                account_id=account.account_id, label=account.label, flat=False, took_s=0.0, why=(str(error),)
            )
            results.append(failed)

    async with trio.open_nursery() as nursery:
        for account in accounts:
            nursery.start_soon(one, account)
    return [_shown(result) for result in sorted(results, key=lambda result: result.label)]


def _shown(result: Result) -> dict[str, Any]:
    return {
        "accountId": result.account_id,
        "label": result.label,
        "by": "command",
        "flat": result.flat,
        "tookS": result.took_s,
        "why": list(result.why),
        "alarms": list(result.alarms),
    }


def _say(result: dict[str, Any]) -> None:
    name = result.get("scope") or f"account {result['label']} ({result['accountId']})"
    say(f"{name}: {'FLAT' if result['flat'] else 'NOT FLAT'} after {result['tookS']} s")
    for text in (*result["why"], *result.get("alarms", ())):
        say(f"  {text}")
