"""``engine killswitch``: works while the HTTP server is down, and while no engine runs at all."""

from typing import Annotated, Any

import msgspec
import trio
import typer

from engine.actors.control import call
from engine.actors.killswitch_file import KillFile, next_version
from engine.cli.places import DataDirOption, JsonOption, data_dir_of, say, say_json
from engine.clock import SystemClock
from engine.domain.enums import KillMode, KillState
from engine.domain.killswitch import GLOBAL, KillRecord, parse_scope
from engine.errors import EngineError

app = typer.Typer(no_args_is_help=True, help="Block trading at once, or let it go on.")

ScopeOption = Annotated[
    str, typer.Option("--scope", help="global, user:ID, account:ID or strategy:ID.", show_default=True)
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it stands in the audit log.")]


@app.command("on")
def on(scope: ScopeOption = GLOBAL, reason: ReasonOption = "by hand", data_dir: DataDirOption = None) -> None:
    """Block: from now on no order of the scope is sent."""
    _change("killswitch-on", KillState.BLOCKED, scope, reason, data_dir)


@app.command("off")
def off(scope: ScopeOption = GLOBAL, reason: ReasonOption = "by hand", data_dir: DataDirOption = None) -> None:
    """Let the scope trade again."""
    _change("killswitch-off", KillState.ARMED, scope, reason, data_dir)


@app.command("status")
def status(data_dir: DataDirOption = None, json: JsonOption = False) -> None:
    """Show every scope."""
    folder = data_dir_of(data_dir)
    answer = _ask(folder, {"command": "killswitch-status"})
    if answer is None:
        records = list(_file(folder).read().values())
    else:
        records = msgspec.convert(answer["records"], list[KillRecord])
    scopes = {record.scope: record for record in records}
    rows = [_row(scope, scopes.get(scope)) for scope in sorted({GLOBAL, *scopes}, key=lambda s: (s != GLOBAL, s))]
    if json:
        say_json(rows)
        return
    for row in rows:
        reason = f"  {row['reason']} ({row['actor']})" if row["enabled"] else ""
        say(f"{row['scope']:<50} {'ON ' if row['enabled'] else 'off'} {row['state']}{reason}")


def _row(scope: str, record: KillRecord | None) -> dict[str, Any]:
    enabled = record is not None and record.enabled
    return {
        "scope": scope,
        "enabled": enabled,
        "state": KillState.ARMED.value if record is None else record.state.value,
        "reason": record.reason if enabled and record else None,
        "actor": record.actor if enabled and record else None,
        "enabledAt": record.at if enabled and record else None,
        "flat": None,
        "notFlat": [],
    }


def _file(folder: Any) -> KillFile:
    return KillFile(folder / "state" / "kill.wal")


def _ask(folder: Any, request: dict[str, Any]) -> dict[str, Any] | None:
    async def work() -> dict[str, Any] | None:
        return await call(folder, request)

    answer: dict[str, Any] | None = trio.run(work)
    if answer is not None and "error" in answer:
        raise EngineError(str(answer["error"]))
    return answer


def _change(command: str, state: KillState, scope: str, reason: str, data_dir: Any) -> None:
    try:
        scope = parse_scope(scope)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--scope") from error
    folder = data_dir_of(data_dir)
    try:
        told = _ask(folder, {"command": command, "scope": scope, "reason": reason})
    except trio.TooSlowError:
        # an engine that hangs reads the file when it wakes, or at its next start
        told = None
    if told is not None:
        say(f"{scope}: {state.value}")
        return
    file, now = _file(folder), SystemClock().now()
    # blocking must not fail over a damaged line; letting go must
    held = (file.read_undamaged() if state is KillState.BLOCKED else file.read()).get(scope)
    record = KillRecord(
        scope=scope,
        version=next_version(held, now),
        state=state,
        reason=reason,
        actor="cli",
        at=now,
        mode=KillMode.SQUARE_OFF if state is KillState.BLOCKED else KillMode.BLOCK,
    )
    file.append(record)
    say(f"{scope}: {state.value} (no engine answers here; it holds from its next look or start on)")
