"""``engine explain``, ``engine replay`` and ``engine codes``: why risk said what it said."""

import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import msgspec
import trio
import typer

from engine.cli.places import (
    ConfigOption,
    DataDirOption,
    JsonOption,
    config_of,
    data_dir_of,
    open_stores,
    say,
    say_json,
)
from engine.cli.terminal import Advance, progress
from engine.clock import IST, SystemClock, trading_day
from engine.config import Config, load
from engine.domain.denial_codes import CODES, document
from engine.domain.limits import RiskLimits
from engine.domain.replay import Difference, Refused, check, under
from engine.domain.verdict import AccountVerdict, IntentVerdict, VerdictRow, decode
from engine.errors import ConfigError, EngineError
from engine.http.views.risk_verdict import verdict_view
from engine.http.views.trading import intent_view
from engine.store.database import Database
from engine.store.migrate import migrate
from engine.store.queries.intents import IntentStory, find_intent
from engine.store.queries.verdicts import between, count_between, of_intent

_PAGE = 500


def codes(json: JsonOption = False) -> None:
    """Show every code of a verdict, what it means and how it is mended."""
    if json:
        say_json([entry._asdict() for entry in CODES])
        return
    for line in document().splitlines():
        say(line)


def explain(
    intent: Annotated[str, typer.Argument(metavar="INTENT", help="The intent's id.")],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Show what risk said of an intent: every rule with the numbers it saw, and what became of it."""
    story, rows = stored(intent, config, data_dir)
    verdicts = [decode(row.body) for row in rows]
    if json:
        say_json({"intent": intent_view(story), "verdicts": [verdict_view(each) for each in verdicts]})
        return
    for line in explained(story, verdicts):
        say(line)


def stored(intent: str, config: Path | None, data_dir: Path | None) -> tuple[IntentStory, list[VerdictRow]]:
    """Return what the ledger has of the intent *intent*, whether an engine runs or not. Raises EngineError."""
    try:
        intent_id = UUID(intent)
    except ValueError:
        raise typer.BadParameter("an intent's id looks like 018f3c5e-…", param_hint="INTENT") from None

    async def unit(connection: Any) -> tuple[IntentStory | None, list[VerdictRow]]:
        return await find_intent(connection, intent_id), await of_intent(connection, intent_id)

    async def work() -> tuple[IntentStory | None, list[VerdictRow]]:
        async with _opened(config_of(config), data_dir_of(data_dir)) as database:
            found: tuple[IntentStory | None, list[VerdictRow]] = await database.run(unit, timeout_s=10, shield=True)
            return found

    story, rows = trio.run(work)
    if story is None:
        raise EngineError(f"there is no intent {intent_id}; GET /signals/intents lists those there are")
    return story, rows


def explained(story: IntentStory, verdicts: list[IntentVerdict]) -> list[str]:
    """Return the lines that explain an intent."""
    held, signal = story.intent, story.intent.signal
    price = "" if signal.price is None else f" @ {signal.price}"
    what = f"{signal.transaction_type} {signal.quantity} {signal.exchange}:{signal.symbol}{price}"
    lines = [f"{held.id}  {what} {signal.order_type} {signal.product_type}  {held.status}"]
    if held.reason:
        lines.append(f"  {held.reason}")
    if not verdicts:
        lines.append("  no verdict is stored: risk has not decided about it")
    for verdict in verdicts:
        lines.append(f"{_at(verdict.at)}  risk: {'APPROVED' if verdict.approved else 'REJECTED'}")
        lines += [f"  {denial}" for denial in verdict.against]
        for account in verdict.accounts:
            lines += _account_lines(account)
    for order in story.orders:
        held_order = order.order
        lines.append(
            f"order {held_order.id}  {held_order.filled_quantity} of {held_order.quantity}  {held_order.status}"
            f"  {held_order.status_message or ''}".rstrip()
        )
    lines += [f"{_at(event.at)}  {event.event} {event.detail}".rstrip() for event in story.timeline]
    return lines


def _account_lines(account: AccountVerdict) -> list[str]:
    lines = [f"  account {account.label} ({account.account_id}): {'approved' if account.approved else 'denied'}"]
    for rule in (*account.facts, *account.rules):
        numbers = f"saw {rule.seen}" if rule.limit is None else f"saw {rule.seen}, limit {rule.limit}"
        lines.append(f"    {'ok' if rule.ok else 'NO'}  {rule.code:<26} {rule.scope:<20} {rule.text or numbers}")
    if account.inputs is not None:
        seen = msgspec.to_builtins(account.inputs)
        scopes = seen.pop("scopes")
        request = seen.pop("request")
        lines.append(f"    order: {_pairs(request)}")
        lines.append(f"    saw: {_pairs(seen)}")
        lines += [f"    saw of the {scope.pop('scope')}: {_pairs(scope)}" for scope in scopes]
    return lines


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)


def _at(instant: datetime) -> str:
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def replay(
    check_: Annotated[
        bool, typer.Option("--check", help="Prove that the rules give every stored verdict again, to the byte.")
    ] = False,
    limits: Annotated[
        Path | None,
        typer.Option(
            "--limits", help="TOML with a [risk] section: what would these limits have refused?", dir_okay=False
        ),
    ] = None,
    day: Annotated[str | None, typer.Option("--day", help="The IST day, YYYY-MM-DD; today unless told.")] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Put a day's verdicts through the rules again, with the numbers that they saw.

    With --limits each is judged alone, by what it saw then: that an earlier refusal would have changed what later
    ones saw is not played through. Limits of accounts and strategies stay.
    """
    if not check_ and limits is None:
        raise typer.BadParameter("say --check, or --limits FILE, or both")
    wanted = _day(day)
    change = None if limits is None else _changed_by(limits)
    with progress("judging") as advance:
        done = trio.run(_replayed, config_of(config), data_dir_of(data_dir), wanted, check_, change, advance)
    if json:
        say_json(
            {
                "day": wanted.isoformat(),
                "verdicts": done.verdicts,
                "different": done.different if check_ else None,
                "refused": done.refused if change is not None else None,
            }
        )
    else:
        for difference in done.different:
            say(f"{difference.intent_id}: DIFFERENT")
            say(f"  stored {difference.stored}")
            say(f"  again  {difference.again}")
        if check_:
            say(f"{wanted}: {done.verdicts} verdicts judged again, {len(done.different)} different")
        for refused in done.refused:
            say(f"{refused.intent_id}  {refused.label}: {'; '.join(refused.reasons)}")
        if change is not None:
            say(f"{wanted}: of {done.verdicts} verdicts, {len(done.refused)} approved orders would have been refused")
    if done.different:
        raise typer.Exit(1)


class Replayed(msgspec.Struct, kw_only=True):
    """What came of a day's replay."""

    verdicts: int = 0
    different: list[Difference] = []
    refused: list[Refused] = []


async def _replayed(
    settings: Config,
    folder: Path,
    day: date,
    is_check: bool,
    change: Callable[[RiskLimits], RiskLimits] | None,
    advance: Advance,
) -> Replayed:
    start = datetime.combine(day, time(), IST)
    end = start + timedelta(days=1)
    done, after = Replayed(), 0
    async with _opened(settings, folder) as database:
        total: int = await database.run(lambda c: count_between(c, start, end), timeout_s=30)
        while True:

            async def unit(connection: Any, after: int = after) -> Any:
                return await between(connection, start, end, after=after, limit=_PAGE)

            found = await database.run(unit, timeout_s=30, shield=True)
            if not found:
                return done
            after = found[-1].id
            rows = [each.row for each in found]
            done.verdicts += len(rows)
            advance(done.verdicts, max(total, done.verdicts))
            if is_check:
                done.different += check(rows)
            if change is not None:
                done.refused += under(rows, change)


def _day(text: str | None) -> date:
    if text is None:
        return trading_day(SystemClock().now())
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("a day looks like 2026-11-27", param_hint="--day") from None


def _changed_by(path: Path) -> Callable[[RiskLimits], RiskLimits]:
    """Return what sets the limits that a file names; the others stay. Raises ConfigError."""
    try:
        named = tomllib.loads(path.read_text(encoding="utf-8")).get("risk")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(named, dict) or not named:
        raise ConfigError(f"{path}: there is no [risk] section with limits; write one as in engine.toml")
    wanted = load(path, {}).risk.limits()
    values = {name: getattr(wanted, name) for name in named}
    return lambda limits: msgspec.structs.replace(limits, **values)


@asynccontextmanager
async def _opened(settings: Config, folder: Path) -> AsyncIterator[Database]:
    async with open_stores(settings, folder) as stores:
        await migrate(stores.database_url)
        database = Database(stores.database_url, max_connections=1)
        await database.open()
        try:
            yield database
        finally:
            await database.close()
