"""What the bot says: answers to chats, questions with buttons, alerts.

Owns one connection to the Bot API and the queue of what waits (`engine.domain.chat_queue`). Told by whoever handles
an update and by the alerts. Mailbox: bounded, drops the oldest: an outage of Telegram never touches trading.
Restart: permanent; what waits outlives it. Without a bot token, or switched off, it says nothing.
"""

import random
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec
import structlog
import trio

from engine.actors.bot_api import BotApi, BotRefused, BotUnavailable
from engine.domain.chat_queue import ChatQueue, Note
from engine.runtime.child import Backoff
from engine.runtime.mailbox import Mailbox, Overflow
from engine.secret import Secret
from engine.signals.chat_text import MAX_UNITS, clean, units

_log = structlog.get_logger(__name__)

_CAPACITY = 256
_TIMEOUT_S = 5.0
_PRESS_UNITS = 200  # the Bot API's bound of what answerCallbackQuery shows
_MOST_ASIDES = 64
_LONGEST_HOLD_S = 3600
_BAD_TOKEN_S = 300.0
_BAD_TOKEN = frozenset({401, 404})
_TOO_MANY = 429


Buttons = Sequence[tuple[str, str]]
"""What stands on each button of a row, and the data (at most 64 bytes) that a press brings back."""


class _Aside(msgspec.Struct, frozen=True):
    """A call that is no message: tried once, before the messages, and not paced by chat."""

    method: str
    content: dict[str, Any]


class TelegramReplies:
    """Sends plain texts, with or without buttons, through the engine's bot."""

    def __init__(self, api_url: str, bot_token: Secret, *, rng: random.Random | None = None) -> None:
        self._api_url = api_url
        self._token = bot_token
        self._rng = rng or random.Random()  # noqa: S311 -- spreads retries, guards nothing
        self._queue = ChatQueue(lambda text: units(text) <= MAX_UNITS)
        self._asides: deque[_Aside] = deque(maxlen=_MOST_ASIDES)
        self._backoff = Backoff(initial=0.5, max=30.0)
        self._failures = 0
        self._not_before = 0.0
        self.mailbox: Mailbox[Note | _Aside] = Mailbox(
            "telegram-replies", capacity=_CAPACITY, overflow=Overflow.DROP_OLDEST
        )

    @property
    def lost(self) -> int:
        """Messages that too many others, or ten minutes without Telegram, have cost."""
        return self.mailbox.dropped + self._queue.dropped

    def tell(self, chat_id: int, text: str, buttons: Buttons = ()) -> None:
        """Queue *text* for a chat, with *buttons* under it; never waits. It is sent as text, whatever is in it."""
        shown = clean(text)
        if shown.strip():
            note = Note(chat_id=chat_id, text=shown, buttons=tuple(buttons), put_at=trio.current_time())
            self._tell(note)

    def answer_press(self, press_id: str, text: str) -> None:
        """Queue the answer to the press of a button, shown to whoever pressed it; never waits."""
        self._tell(_Aside("answerCallbackQuery", {"callback_query_id": press_id, "text": clean(text, _PRESS_UNITS)}))

    def take_buttons_off(self, chat_id: int, message_id: int) -> None:
        """Queue that a question which has been answered loses its buttons; never waits."""
        content = {"chat_id": chat_id, "message_id": message_id, "reply_markup": {"inline_keyboard": []}}
        self._tell(_Aside("editMessageReplyMarkup", content))

    def _tell(self, what: Note | _Aside) -> None:
        if self._token:
            self.mailbox.tell_nowait(what)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send until cancelled."""
        task_status.started()
        async with BotApi(self._api_url, self._token) as api:
            while True:
                self._take_in()
                wait = await self._send_next(api)
                if wait > 0:
                    await self._rest(wait)

    async def _rest(self, wait: float) -> None:
        with trio.move_on_after(wait):
            if trio.current_time() < self._not_before:
                # while Telegram is away what comes in is gathered, not tried
                await trio.sleep_forever()
            await self.mailbox.wait()

    def _take_in(self) -> None:
        for what in self.mailbox.take_all():
            if isinstance(what, Note):
                self._queue.put(what)
            else:
                self._asides.append(what)

    async def _send_next(self, api: BotApi) -> float:
        """Send one thing, if one may go now; return how many seconds there is nothing to do."""
        now = trio.current_time()
        if now < self._not_before:
            return self._not_before - now
        if self._asides:
            aside = self._asides.popleft()
            await self._call(api, aside.method, aside.content, None)
            return 0
        note, wait = self._queue.take(now)
        if note is not None:
            await self._call(api, "sendMessage", _message(note), note)
        return wait

    async def _call(self, api: BotApi, method: str, content: dict[str, Any], note: Note | None) -> None:
        try:
            await api.call(method, content, timeout_s=_TIMEOUT_S)
        except BotUnavailable as error:
            self._failures += 1
            self._not_before = trio.current_time() + self._backoff.delay_s(self._failures, self._rng)
            if note is not None:
                self._queue.put_back(note)
            _log.warning("telegram.unreachable", error=str(error), waiting=len(self._queue))
        except BotRefused as refused:
            self._failures = 0
            self._refused(refused, note)
        else:
            self._failures = 0

    def _refused(self, refused: BotRefused, note: Note | None) -> None:
        now = trio.current_time()
        if refused.status in _BAD_TOKEN:
            self._not_before = now + _BAD_TOKEN_S
        elif refused.status == _TOO_MANY and note is not None:
            self._queue.hold(note.chat_id, now + min(refused.retry_after_s or 1, _LONGEST_HOLD_S))
        else:
            note = None  # the bot was blocked, the chat is gone: said once more it would be refused once more
        if note is not None:
            self._queue.put_back(note)
        _log.warning("telegram.refused", status=refused.status, description=refused.description)


def _message(note: Note) -> dict[str, Any]:
    content: dict[str, Any] = {
        "chat_id": note.chat_id,
        "text": note.text,
        "link_preview_options": {"is_disabled": True},
    }
    if note.buttons:
        row = [{"text": label, "callback_data": data} for label, data in note.buttons]
        content["reply_markup"] = {"inline_keyboard": [row]}
    return content
