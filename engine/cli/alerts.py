"""``engine alerts``: the list, acknowledging, and a trial of every channel."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
import trio
import typer

from engine.actors.bot_api import BotApi, BotRefused, BotUnavailable
from engine.actors.control import call
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
from engine.clock import IST, SystemClock
from engine.config import Config
from engine.domain.alert_book import AlertRecord
from engine.domain.alert_notice import Notice, compose
from engine.domain.alert_rules import Severity
from engine.domain.enums import Role
from engine.errors import EngineError
from engine.http.views.alerts import alert_view, status_of
from engine.ids import uuid7
from engine.notify.channel import Channel, ChannelFailed
from engine.notify.making import channels_of
from engine.store.alerts import find, newest, put
from engine.store.database import Database
from engine.store.migrate import migrate
from engine.store.telegram import links
from engine.store.users import list_users

app = typer.Typer(no_args_is_help=True, help="Alerts: look at them, acknowledge them, try the channels.")

_TELEGRAM_S = 5.0


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one message to one channel."""

    channel: str
    ok: bool
    answer: str


@app.command("list")
def show_all(
    limit: Annotated[int, typer.Option("--limit", min=1, max=2000, help="How many, newest first.")] = 50,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """List them, newest first, as the store has them."""
    found: list[AlertRecord] = _run(lambda connection: newest(connection, limit), config_of(config), data_dir)
    if json:
        say_json([alert_view(record) for record in found])
        return
    for record in found:
        at = record.first_at.astimezone(IST)
        often = f" x{record.count}" if record.count > 1 else ""
        what = f"{record.severity:<8} {status_of(record):<12} {record.subject}: {record.text}{often}"
        say(f"{record.id}  {at:%d %b %H:%M:%S} IST  {what}")


@app.command("ack")
def acknowledge(
    alert: Annotated[str, typer.Argument(metavar="ID", help="The alert, as `list` shows it.")],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Say that somebody has seen one: it is not told again while it goes on."""
    try:
        alert_id = UUID(alert)
    except ValueError:
        raise typer.BadParameter("an alert's id looks like 018f3c5e-…", param_hint="ID") from None
    folder = data_dir_of(data_dir)

    async def ask() -> dict[str, Any] | None:
        return await call(folder, {"command": "alert-ack", "id": str(alert_id)})

    answer = trio.run(ask)
    if answer is not None and "error" in answer:
        raise EngineError(f"{answer['error']}; `engine alerts list` shows those there are")
    if answer is None:
        now = SystemClock().now()
        _run(lambda connection: _acknowledge(connection, alert_id, now), config_of(config), data_dir)
    say(f"{alert_id}: acknowledged")


@app.command("test")
def try_channels(config: ConfigOption = None, data_dir: DataDirOption = None, json: JsonOption = False) -> None:
    """Send one message to every channel that is set up, at once and past all routes; say what each answered."""
    settings = config_of(config)
    tried = trio.run(_try_all, settings, _message_of_trial(), lambda: _chats(settings, data_dir))
    if json:
        say_json(tried)
    for each in () if json else tried:
        say(f"{each.channel:<10} {'ok' if each.ok else 'FAILED':<7} {each.answer}")
    if not tried:
        raise EngineError("no channel is set up: see [alerts] and [telegram] in engine.toml.example")
    if not all(each.ok for each in tried):
        raise EngineError("not every channel took the message; mend what is FAILED above")


def _message_of_trial() -> Notice:
    now = SystemClock().now()
    text = "TEST: this is a trial of the channel; nothing is the matter"
    return Notice(
        record=AlertRecord(
            id=uuid7(), code="TEST", subject="alerts", text=text, severity=Severity.INFO, first_at=now, last_at=now
        )
    )


async def _try_all(settings: Config, notice: Notice, chats: Any) -> list[Tried]:
    tried = [await _try(channel, notice) for channel in channels_of(settings.alerts, clock=SystemClock())]
    if settings.telegram.bot_token and settings.telegram.mode != "off":
        tried += await _try_telegram(settings, notice, await chats())
    return tried


async def _try(channel: Channel, notice: Notice) -> Tried:
    try:
        return Tried(channel=channel.name, ok=True, answer=await channel.send(compose([notice])))
    except ChannelFailed as failed:
        return Tried(channel=channel.name, ok=False, answer=str(failed))


async def _try_telegram(settings: Config, notice: Notice, chats: list[int]) -> list[Tried]:
    if not chats:
        why = "nobody to tell: link an ADMIN with POST /auth/telegram/link"
        return [Tried(channel="telegram", ok=False, answer=why)]
    tried: list[Tried] = []
    async with BotApi(settings.telegram.api_url, settings.telegram.bot_token) as api:
        for chat_id in chats:
            content = {"chat_id": chat_id, "text": compose([notice]).body}
            try:
                await api.call("sendMessage", content, timeout_s=_TELEGRAM_S)
            except (BotRefused, BotUnavailable) as error:
                tried.append(Tried(channel="telegram", ok=False, answer=f"chat {chat_id}: {error}"))
            else:
                tried.append(Tried(channel="telegram", ok=True, answer=f"chat {chat_id}: sent"))
    return tried


async def _chats(settings: Config, data_dir: Any) -> list[int]:
    """Return the chats of linked administrators, as the store has them."""

    async def unit(connection: Any) -> list[int]:
        admins = {user.id for user in await list_users(connection) if user.role is Role.ADMIN and not user.disabled}
        return [link.telegram_user_id for link in await links(connection) if link.user_id in admins]

    found: list[int] = await _in_store(unit, settings, data_dir)
    return found


async def _acknowledge(connection: Any, alert_id: UUID, now: datetime) -> None:
    held = await find(connection, alert_id)
    if held is None:
        raise EngineError("there is no such alert; `engine alerts list` shows those there are")
    if held.acked_at is None:
        await put(connection, [msgspec.structs.replace(held, acked_at=now, acked_by="cli")])


def _run(unit: Any, settings: Config, data_dir: Any) -> Any:
    return trio.run(_in_store, unit, settings, data_dir)


async def _in_store(unit: Any, settings: Config, data_dir: Any) -> Any:
    async with open_stores(settings, data_dir_of(data_dir)) as stores:
        await migrate(stores.database_url)
        database = Database(stores.database_url, max_connections=1)
        await database.open()
        try:
            return await database.run(unit, timeout_s=10, shield=True)
        finally:
            await database.close()
