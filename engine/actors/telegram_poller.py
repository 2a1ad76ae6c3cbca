"""Long polling: asks Telegram for the bot's updates, for an engine that nobody outside can call.

Owns one connection to the Bot API and how far it has come. Hands each update on, the same way as the webhook does.
An update is confirmed to Telegram (by asking for the ones after it) only once it was handled: a signal in it is
durable then. What a crash leaves unconfirmed comes again, and is answered like the first by its update_id. A lost
lease, a store that is away, an intake that is closed: nothing is confirmed, Telegram keeps it for a day.
Only a leader polls. No mailbox. Restart: permanent. Telegram's outages end here: nobody waits for this actor.

Source: Telegram Bot API, getUpdates (https://core.telegram.org/bots/api#getupdates).
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import structlog
import trio

from engine.actors.bot_api import BotApi, BotRefused, BotUnavailable
from engine.actors.ledger_entry import LedgerEntry
from engine.clock import Clock
from engine.errors import MailboxFull, StoreUnavailable, Unavailable
from engine.runtime.child import Backoff
from engine.secret import Secret
from engine.store.telegram import PollOffset, write_offset

_log = structlog.get_logger(__name__)

# pressed and typed by persons; an edit is asked for only to say that the first text stands
ALLOWED_UPDATES = ("message", "callback_query", "edited_message")
_HOLD_S = 25
_MARGIN_S = 10.0
_AT_ONCE = 100
_HANDLE_S = 20.0
_MOST_TRIES = 5
_NOT_LEADING_S = 1.0
_BAD_TOKEN_S = 300.0
_BAD_TOKEN = frozenset({401, 404})
_CONFLICT = 409
_TOO_MANY = 429
_LONGEST_WAIT_S = 3600
# "If there are no new updates for at least a week, then identifier of the next update will be chosen randomly"
_OFFSET_LIVES = timedelta(days=6)
_AWAY_AFTER = 5


class NotTaken(Unavailable):
    """An update could not be handled now; nothing was done with it, and it is to come again."""


class _Numbered(msgspec.Struct):
    update_id: int
    message: Any = None

    @property
    def is_urgent(self) -> bool:
        text = self.message.get("text") if isinstance(self.message, dict) else None
        return isinstance(text, str) and text.lstrip().lower().startswith("/kill")


Handle = Callable[[bytes], Awaitable[None]]


class TelegramPoller:
    """Fetches updates and hands them to *handle*, which raises NotTaken for one that is to come again.

    *leads* says whether this engine holds the lease and takes signals in; *load* reads how far an earlier life came,
    *keep* queues the row that says so.
    """

    def __init__(
        self,
        api_url: str,
        token: Secret,
        *,
        handle: Handle,
        leads: Callable[[], bool],
        load: Callable[[], Awaitable[PollOffset | None]],
        keep: Callable[[LedgerEntry], None],
        alert: Callable[[str, str], None],
        clock: Clock,
        rng: random.Random | None = None,
    ) -> None:
        self._api_url = api_url
        self._token = token
        self._handle = handle
        self._leads = leads
        self._load = load
        self._keep = keep
        self._alert = alert
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 -- spreads retries, guards nothing
        self._backoff = Backoff(initial=0.5, max=60.0)
        self._soon = Backoff(initial=0.2, max=5.0)
        self._failures = 0
        self._offset: int | None = None
        self._offset_at: datetime | None = None
        # handled, with one before it that is to come again
        self._ahead: set[int] = set()
        self._tries: dict[int, int] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Poll until cancelled."""
        task_status.started()
        await self._remember()
        async with BotApi(self._api_url, self._token) as api:
            while True:
                if not self._leads():
                    await trio.sleep(_NOT_LEADING_S)
                    continue
                await trio.sleep(await self._round(api))

    async def _remember(self) -> None:
        if self._offset is not None:
            return
        try:
            kept = await self._load()
        except StoreUnavailable as error:
            # without it Telegram begins with what was not confirmed: nothing is lost, and repeats are known
            _log.warning("telegram.offset_unknown", error=str(error))
            return
        if kept is not None:
            self._offset, self._offset_at = kept.next_update_id, kept.updated_at

    async def _round(self, api: BotApi) -> float:
        """Ask once and handle what comes; return how many seconds to wait before asking again."""
        try:
            updates = await self._fetch(api)
        except BotUnavailable as error:
            return self._failed(str(error))
        except BotRefused as refused:
            return await self._refused(api, refused)
        if not self._leads():
            return 0.0  # while the answer was under way another engine may have taken over: theirs
        self._failures = 0
        return await self._take(updates)

    async def _fetch(self, api: BotApi) -> Sequence[msgspec.Raw]:
        if self._offset_at is not None and self._clock.now() - self._offset_at > _OFFSET_LIVES:
            self._offset = self._offset_at = None
        content: dict[str, Any] = {"timeout": _HOLD_S, "limit": _AT_ONCE, "allowed_updates": ALLOWED_UPDATES}
        if self._offset is not None:
            content["offset"] = self._offset
        answer = await api.call("getUpdates", content, timeout_s=_HOLD_S + _MARGIN_S)
        try:
            return msgspec.json.decode(answer, type=list[msgspec.Raw])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BotUnavailable("Telegram: getUpdates answered no list") from error

    def _failed(self, why: str) -> float:
        self._failures += 1
        _log.warning("telegram.not_polled", error=why, failures=self._failures)
        if self._failures == _AWAY_AFTER:
            self._alert("telegram", "Telegram cannot be reached: signals and commands from chats wait there")
        return self._backoff.delay_s(self._failures, self._rng)

    async def _refused(self, api: BotApi, refused: BotRefused) -> float:
        if refused.status in _BAD_TOKEN:
            self._alert(
                "telegram", "Telegram does not know telegram.bot_token: take it from @BotFather; nothing is heard"
            )
            return _BAD_TOKEN_S
        if refused.status == _TOO_MANY:
            return float(min(refused.retry_after_s or 1, _LONGEST_WAIT_S))
        if refused.status == _CONFLICT and "webhook" in refused.description.lower():
            # the configuration says polling: the webhook is one from before
            _log.warning("telegram.webhook_removed", why="telegram.mode is polling and a webhook was set")
            try:
                await api.call("deleteWebhook", {"drop_pending_updates": False}, timeout_s=_MARGIN_S)
            except (BotRefused, BotUnavailable) as error:
                return self._failed(str(error))
            self._failures += 1
            return self._backoff.delay_s(self._failures, self._rng)
        if refused.status == _CONFLICT:
            self._alert("telegram", "another program polls the same bot: stop it, or give this engine a bot of its own")
        return self._failed(str(refused))

    async def _take(self, updates: Sequence[msgspec.Raw]) -> float:
        """Handle *updates*; return how many seconds to wait before what was not taken is asked for again."""
        found: dict[int, tuple[_Numbered, bytes]] = {}
        for raw in updates:
            try:
                numbered = msgspec.json.decode(raw, type=_Numbered)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                # without its number it cannot be confirmed either; a later one's confirmation covers it
                _log.error("telegram.update_unreadable", error=type(error).__name__)
                continue
            found[numbered.update_id] = (numbered, bytes(raw))
        if updates and not found:
            return self._failed("Telegram: no update of the answer has a number")
        waits = [number for number in sorted(found) if number not in self._ahead]
        failed: set[int] = set()
        # a kill switch does not stand in line behind signals
        for number in sorted(waits, key=lambda n: not found[n][0].is_urgent):
            if await self._handled(number, found[number][1]):
                self._ahead.add(number)
            else:
                failed.add(number)
                break
        self._advance(found)
        return self._soon.delay_s(max(self._tries.values(), default=1), self._rng) if failed else 0.0

    async def _handled(self, number: int, raw: bytes) -> bool:
        tries = self._tries[number] = self._tries.get(number, 0) + 1
        try:
            with trio.fail_after(_HANDLE_S):
                await self._handle(raw)
        except NotTaken as error:
            # its age bounds how long a signal may come again
            _log.warning("telegram.not_taken", update=number, error=str(error))
            return False
        except trio.TooSlowError:
            _log.error("telegram.too_slow", update=number, tries=tries)
            if tries < _MOST_TRIES:
                return False
            self._alert("telegram", f"update {number} was given up after {tries} tries: look whether it was a signal")
        except Exception:
            # one update that breaks the engine's code must not hold up all later ones
            _log.exception("telegram.update_fault", update=number)
            self._alert("telegram", f"update {number} could not be handled; it is passed over: look into the log")
        del self._tries[number]
        return True

    def _advance(self, found: dict[int, Any]) -> None:
        offset = self._offset
        for number in sorted(found):
            if number not in self._ahead:
                break
            self._ahead.discard(number)
            offset = number + 1
        if offset is None or offset == self._offset:
            return
        self._offset, self._offset_at = offset, self._clock.now()
        self._tries = {number: tries for number, tries in self._tries.items() if number >= offset}
        row = write_offset(bot_id(self._token), offset, at=self._offset_at)
        try:
            self._keep(LedgerEntry(writes=(row,)))
        except MailboxFull as error:
            # Telegram knows it with the next call; the row only spares repeats after a crash
            _log.warning("telegram.offset_not_kept", error=str(error))


def bot_id(token: Secret) -> str:
    """Return the number of the bot, which stands before the colon of its token and is no secret."""
    number, colon, _ = token.reveal().partition(":")
    return number if colon and number.isascii() and number.isdigit() else "unknown"
