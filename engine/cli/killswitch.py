"""``engine killswitch``: works while the HTTP server is down, and while no engine runs at all."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import trio
import typer

from engine.actors.control import call
from engine.actors.killswitch_file import KillFile
from engine.cli.places import ConfigOption, DataDirOption, JsonOption, config_of, data_dir_of, load_keys, say, say_json
from engine.cli.terminal import say_table
from engine.clock import SystemClock
from engine.domain.enums import KillMode, KillState
from engine.domain.killswitch import GLOBAL, KillRecord, next_version, parse_scope
from engine.errors import EngineError
from engine.security.kill_seal import KillSeal

# Blocking must not wait for an engine: after that it goes into the file, and what was asked for holds as well.
_BLOCK_WITHIN_S = 3.0
# Letting go waits for the engine: for a flattening to end, then for accounts to be compared with their brokers.
_OFF_S = 40.0

app = typer.Typer(no_args_is_help=True, help="Block trading at once, or let it go on.")

ScopeOption = Annotated[
    str, typer.Option("--scope", help="global, user:ID, account:ID, strategy:ID or source:ID.", show_default=True)
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it stands in the audit log.")]
ModeOption = Annotated[
    KillMode,
    typer.Option("--mode", case_sensitive=False, help="What is done beyond blocking: nothing, cancel, or square off."),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Let it go on although something stands against it; the audit log says so.")
]


@app.command("on")
def on(
    scope: ScopeOption = GLOBAL,
    reason: ReasonOption = "by hand",
    mode: ModeOption = KillMode.SQUARE_OFF,
    data_dir: DataDirOption = None,
) -> None:
    """Block: from now on no order of the scope is sent."""
    scope, folder = _scope(scope), data_dir_of(data_dir)
    request = {"command": "killswitch-on", "scope": scope, "reason": reason, "mode": mode.value}
    try:
        told = _ask(folder, request, timeout_s=_BLOCK_WITHIN_S)
    except trio.TooSlowError:
        # an engine that hangs, or is on its way up or down, reads the file when it wakes, or at its next start
        told = None
    if told is not None:
        say(f"{scope}: {told['record']['state']}")
        return
    file, now = _file(folder), SystemClock().now()
    # blocking must not fail over a damaged line
    held = file.read_undamaged().get(scope)
    if held is not None and held.enabled:
        mode = max(mode, held.mode, key=lambda each: each.rank)
    file.append(
        KillRecord(
            scope=scope,
            version=next_version(held, now),
            state=held.state if held is not None and held.enabled else KillState.BLOCKED,
            reason=reason,
            actor="cli",
            at=now,
            mode=mode,
            day=held.day if held is not None and held.enabled else None,
        )
    )
    say(f"{scope}: {KillState.BLOCKED} (no engine answers here; no order of the scope goes from now on)")


@app.command("off")
def off(
    scope: ScopeOption = GLOBAL,
    reason: ReasonOption = "by hand",
    force: ForceOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Let the scope trade again, unless something stands against it; a flattening under way is waited for."""
    scope, folder = _scope(scope), data_dir_of(data_dir)
    try:
        told = _ask(
            folder,
            {"command": "killswitch-off", "scope": scope, "reason": reason, "force": force},
            timeout_s=_OFF_S,
        )
    except trio.TooSlowError as slow:
        raise EngineError("the engine does not answer: the switch stays on; look into its log, or stop it") from slow
    if told is not None:
        say(f"{scope}: {told['record']['state']}")
        return
    security = config_of(config).security
    keys = load_keys(security, folder)
    seal = KillSeal(keys.master)
    file, now = _file(folder, seal), SystemClock().now()
    held = file.read().get(scope)
    record = KillRecord(
        scope=scope,
        version=next_version(held, now),
        state=KillState.ARMED,
        reason=reason,
        actor="cli",
        at=now,
        day=held.day if held is not None and held.enabled else None,
        # the stores are not up: this command is the whole of the decision
        alone=True,
    )
    file.append(seal.sign(record))
    say(f"{scope}: {KillState.ARMED} (no engine runs here; it holds from its start on)")


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
    say_table(
        ("Scope", "Switch", "State", "Mode", "Reason", "By"),
        [
            (
                row["scope"],
                "ON" if row["enabled"] else "off",
                row["state"],
                *((row["mode"], row["reason"], row["actor"]) if row["enabled"] else ("", "", "")),
            )
            for row in rows
        ],
        plain=[_line(row) for row in rows],
    )


def _line(row: dict[str, Any]) -> str:
    reason = f"  {row['mode']}  {row['reason']} ({row['actor']})" if row["enabled"] else ""
    return f"{row['scope']:<50} {'ON ' if row['enabled'] else 'off'} {row['state']}{reason}"


def _row(scope: str, record: KillRecord | None) -> dict[str, Any]:
    enabled = record is not None and record.enabled
    return {
        "scope": scope,
        "enabled": enabled,
        "state": KillState.ARMED.value if record is None else record.state.value,
        "mode": record.mode.value if enabled and record else None,
        "reason": record.reason if enabled and record else None,
        "actor": record.actor if enabled and record else None,
        "enabledAt": record.at if enabled and record else None,
        "flat": None,
        "notFlat": [],
    }


def _file(folder: Path, seal: KillSeal | None = None) -> KillFile:
    path = folder / "state" / "kill.wal"
    return KillFile(path) if seal is None else KillFile(path, believes=seal.believes)


def _scope(text: str) -> str:
    try:
        return parse_scope(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--scope") from error


def _ask(folder: Path, request: dict[str, Any], *, timeout_s: float = 20.0) -> dict[str, Any] | None:
    async def work() -> dict[str, Any] | None:
        return await call(folder, request, timeout_s=timeout_s)

    answer: dict[str, Any] | None = trio.run(work)
    if answer is not None and "error" in answer:
        raise EngineError(str(answer["error"]))
    return answer
