"""Telegram as a control: what linked users look at and act on, in their own chat with the bot.

Every command is a call of the API in the name of the linked user: the same permissions, the same objects, the same
limits. What acts on everything is confirmed by a second message. Letting go of a kill switch is not to be had here.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import structlog

from engine.domain.enums import KillMode, Role
from engine.domain.killswitch import GLOBAL
from engine.errors import ApiError, EngineError, MailboxFull, StoreUnavailable
from engine.http import telegram_commands
from engine.http.inner_call import InnerCalls
from engine.http.origin import UpdateOrigin
from engine.http.second_factor import NoSecondFactor, SecondFactor
from engine.http.services import Services
from engine.http.telegram_confirm import WITHIN, confirmations
from engine.http.views import chat as words
from engine.security.sessions import UserRecord
from engine.signals.chat_command import ChatCommand
from engine.signals.chat_text import outside
from engine.signals.telegram import Update

_log = structlog.get_logger(__name__)

KILL = "kill"
_CONFIRM = "confirm"
_KILL_WITHIN = timedelta(minutes=2)
_FEW = "5"
_SOME = "10"
_MANY = "200"
_HELP = """/status how things stand
/accounts broker accounts
/positions what is held
/pnl profit and loss of today
/orders the newest orders
/intents the newest signals
/killstatus kill switches"""
_HELP_TRADER = """/login links to log accounts in
/cancelall [SYMBOL] cancel every open order
/squareoff [SYMBOL] close positions
/kill stop everything of yours"""
_HELP_ADMIN = "As an administrator /kill stops the whole engine. It is let go in the API only."


class Asker(msgspec.Struct, frozen=True, kw_only=True):
    """Who gives a command, and where."""

    origin: UpdateOrigin
    user: UserRecord
    update: Update

    @property
    def services(self) -> Services:
        """The engine."""
        services: Services = self.origin.services
        return services

    @property
    def name(self) -> str:
        """What stands for the caller's address in records."""
        return f"telegram:{self.update.sender_id}"

    async def call(
        self, method: str, path: str, *, query: dict[str, str] | None = None, body: dict[str, Any] | None = None
    ) -> Any:
        """Call the API in the name of the user."""
        calls: InnerCalls = self.services.extras["inner_calls"]
        return await calls(
            self.user, method, path, origin=self.name, request_id=self.origin.request_id, query=query, body=body
        )

    def key(self, command: str) -> tuple[int, int, str]:
        """What a confirmation is bound to."""
        return (self.update.chat_id, self.update.sender_id, command)


def is_known(command: ChatCommand) -> bool:
    """Whether *command* is one that a linked user may give, his role permitting."""
    return command.name in _COMMANDS


async def obey(origin: UpdateOrigin, user: UserRecord, update: Update, command: ChatCommand) -> str:
    """Do what *user* commands; return what he is told. Refusals of the API are told, never raised."""
    asker = Asker(origin=origin, user=user, update=update)
    try:
        return await _COMMANDS.get(command.name, _unknown)(asker, command.words)
    except ApiError as refusal:
        return f"Not done: {outside(refusal.message, 500)}"
    except EngineError as failure:
        _log.warning("telegram.command_failed", command=command.name, error=str(failure))
        return "Not done: the engine cannot say now; try again"


async def _help(asker: Asker, _words: tuple[str, ...]) -> str:
    parts = [_HELP]
    if asker.user.role is not Role.VIEWER:
        parts.append(_HELP_TRADER)
    if asker.user.role is Role.ADMIN:
        parts.append(_HELP_ADMIN)
    return "\n".join(parts)


async def _unknown(_asker: Asker, _words: tuple[str, ...]) -> str:
    return "There is no such command; /help lists them."


async def _status(asker: Asker, _words: tuple[str, ...]) -> str:
    accounts = await asker.call("GET", "/accounts", query={"limit": _MANY})
    kills = await asker.call("GET", "/risk/killswitch/status")
    waiting = await asker.call("GET", "/signals/intents", query={"limit": _MANY, "status": "PENDING_APPROVAL"})
    return words.status_text(accounts.items, kills, waiting.items, mode=asker.services.config.broker.mode)


async def _accounts(asker: Asker, _words: tuple[str, ...]) -> str:
    return words.accounts_text((await asker.call("GET", "/accounts", query={"limit": _MANY})).items)


async def _positions(asker: Asker, _words: tuple[str, ...]) -> str:
    page = await asker.call("GET", "/executions/positions", query={"limit": _MANY})
    return words.positions_text(page.items, _labels(asker))


async def _orders(asker: Asker, _words: tuple[str, ...]) -> str:
    page = await asker.call("GET", "/executions/orders", query={"limit": _SOME})
    return words.orders_text(page.items, _labels(asker))


async def _intents(asker: Asker, _words: tuple[str, ...]) -> str:
    return words.intents_text((await asker.call("GET", "/signals/intents", query={"limit": _FEW})).items)


async def _pnl(asker: Asker, _words: tuple[str, ...]) -> str:
    return words.pnl_text(await asker.call("GET", "/executions/pnl"), _labels(asker))


async def _killstatus(asker: Asker, _words: tuple[str, ...]) -> str:
    return words.kills_text(await asker.call("GET", "/risk/killswitch/status"))


async def _login(asker: Asker, _words: tuple[str, ...]) -> str:
    if asker.user.role is Role.VIEWER:
        return _NOT_YOURS
    return telegram_commands.answer(asker.services, asker.user.id, "/login", base=asker.origin.base)


async def _kill(asker: Asker, given: tuple[str, ...]) -> str:
    if asker.user.role is Role.VIEWER:
        return _NOT_YOURS
    asked, now = confirmations(asker.services.extras), asker.services.clock.now()
    scope = GLOBAL if asker.user.role is Role.ADMIN else f"user:{asker.user.id}"
    factor: SecondFactor = asker.services.extras.get("second_factor") or NoSecondFactor()
    with_code = factor.is_enrolled(asker.user.id)
    wish = "/kill confirm CODE, the CODE from your authenticator" if with_code else "/kill confirm"
    if not given or given[0].lower() != _CONFIRM:
        asked.ask(
            asker.key(KILL), (scope,), message_id=asker.update.message_id, now=now, within=_KILL_WITHIN, code=_CONFIRM
        )
        what = "all trading" if scope == GLOBAL else "everything of yours"
        return f"This blocks {what}, cancels every order and closes every position. Write: {wish}"
    held = asked.take(asker.key(KILL), _CONFIRM, message_id=asker.update.message_id, now=now)
    if held is None:
        return f"Write /kill first, then {wish}, within two minutes."
    reason = given[1:]
    if with_code:
        if not reason or not await _is_right(factor, asker.user.id, reason[0]):
            return "The code is not right. Write /kill again."
        reason = reason[1:]
    if held != (scope,):
        return "Your role has changed. Write /kill again."
    body = {
        "scope": scope,
        "reason": f"by Telegram: {' '.join(reason) or 'no reason given'}",
        "mode": KillMode.SQUARE_OFF,
    }
    await asker.call("POST", "/risk/killswitch/enable", body=body)
    return (
        f"{scope} is blocked; its orders are cancelled and its positions closed (/killstatus). It is let go in the API."
    )


async def _is_right(factor: SecondFactor, user_id: UUID, code: str) -> bool:
    try:
        return await factor.verify_otp(user_id, code)
    except StoreUnavailable:
        # the kill switch works without the store, and blocking is the safe direction: the typed word has to do
        return True


async def _cancel_all(asker: Asker, given: tuple[str, ...]) -> str:
    everybody = " of every user" if asker.user.role is Role.ADMIN else ""
    return await _confirmed(
        asker,
        "cancelall",
        given,
        what=f"This cancels every open order and trigger{everybody}",
        act=lambda body: asker.call("POST", "/executions/orders/cancel-all", body=body),
        told=lambda done: (
            f"Cancelled: {len(done.orders)} orders and {len(done.gtts)} triggers asked for, "
            f"{done.remaining} not at their end yet."
        ),
    )


async def _square_off(asker: Asker, given: tuple[str, ...]) -> str:
    return await _confirmed(
        asker,
        "squareoff",
        given,
        what="This cancels the orders and closes the positions of your own accounts at the market",
        act=lambda body: asker.call("POST", "/executions/positions/square-off", body=body),
        told=lambda done: (
            f"Squared off: {len(done.positions)} positions, {done.remaining} not closed yet (/positions)."
        ),
    )


async def _confirmed(
    asker: Asker,
    command: str,
    given: tuple[str, ...],
    *,
    what: str,
    act: Callable[[dict[str, Any]], Awaitable[Any]],
    told: Callable[[Any], str],
) -> str:
    """Ask for the confirmation of *command*, or take it and send the errand; its end is told when it is there."""
    if asker.user.role is Role.VIEWER:
        return _NOT_YOURS
    asked, now = confirmations(asker.services.extras), asker.services.clock.now()
    is_answer = len(given) == 1 and given[0].isascii() and given[0].isdigit()
    if not is_answer:
        if len(given) > 1:
            return f"Write /{command}, or /{command} SYMBOL."
        code = asked.ask(asker.key(command), given, message_id=asker.update.message_id, now=now, within=WITHIN)
        of = f" of {given[0].upper()}" if given else ""
        return f"{what}{of}. To do it write within a minute: /{command} {code}"
    wanted = asked.take(asker.key(command), given[0], message_id=asker.update.message_id, now=now)
    if wanted is None:
        return f"That is not the code, or it came too late. Write /{command} again."
    body = {"symbol": wanted[0].upper()} if wanted else {}
    services, chat_id = asker.services, asker.update.chat_id

    async def errand() -> None:
        try:
            text = told(await act(body))
        except ApiError as refusal:
            text = f"Not done: {outside(refusal.message, 500)}"
        services.reply_telegram(chat_id, text)

    try:
        services.extras["errands"].send(errand)
    except MailboxFull:
        return "Not done: too much is under way; try again."
    return "It is being done."


def _labels(asker: Asker) -> words.Labels:
    return {account.id: account.label for account in asker.services.directory.accounts.values()}


_NOT_YOURS = "Your role may look only."
_COMMANDS: dict[str, Callable[[Asker, tuple[str, ...]], Awaitable[str]]] = {
    "help": _help,
    "start": _help,
    "status": _status,
    "accounts": _accounts,
    "positions": _positions,
    "pnl": _pnl,
    "orders": _orders,
    "intents": _intents,
    "killstatus": _killstatus,
    "login": _login,
    KILL: _kill,
    "cancelall": _cancel_all,
    "squareoff": _square_off,
}
