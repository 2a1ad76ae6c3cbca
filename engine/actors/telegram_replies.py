"""Answers to Telegram chats: one message for each signal text that came in, and questions with buttons.

Owns one HTTP client. Told by the webhook. Mailbox: bounded, drops the oldest: an outage of Telegram
never touches trading. Restart: permanent. Without a bot token it says nothing.
"""

from collections.abc import Sequence
from typing import Any

import httpx
import msgspec
import structlog
import trio

from engine.runtime.mailbox import Mailbox, Overflow
from engine.secret import Secret

_log = structlog.get_logger(__name__)

_CAPACITY = 256
_TIMEOUT_S = 5.0
_TEXT_CHARACTERS = 4096  # the Bot API's bounds
_PRESS_CHARACTERS = 200


Buttons = Sequence[tuple[str, str]]
"""What stands on each button of a row, and the data (at most 64 bytes) that a press brings back."""


class _Call(msgspec.Struct, frozen=True):
    method: str
    content: dict[str, Any]


class TelegramReplies:
    """Sends plain texts, with or without buttons, through the engine's bot."""

    def __init__(self, api_url: str, bot_token: Secret) -> None:
        self._api_url = api_url.rstrip("/")
        self._token = bot_token
        self.mailbox: Mailbox[_Call] = Mailbox("telegram-replies", capacity=_CAPACITY, overflow=Overflow.DROP_OLDEST)

    def tell(self, chat_id: int, text: str, buttons: Buttons = ()) -> None:
        """Queue *text* for a chat, with *buttons* under it; never waits."""
        content: dict[str, Any] = {"chat_id": chat_id, "text": text[:_TEXT_CHARACTERS]}
        if buttons:
            row = [{"text": label, "callback_data": data} for label, data in buttons]
            content["reply_markup"] = {"inline_keyboard": [row]}
        self._call("sendMessage", content)

    def answer_press(self, press_id: str, text: str) -> None:
        """Queue the answer to the press of a button, shown to whoever pressed it; never waits."""
        self._call("answerCallbackQuery", {"callback_query_id": press_id, "text": text[:_PRESS_CHARACTERS]})

    def _call(self, method: str, content: dict[str, Any]) -> None:
        if self._token:
            self.mailbox.tell_nowait(_Call(method, content))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send until cancelled."""
        task_status.started()
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
            async for message in self.mailbox:
                try:
                    answer = await client.post(
                        f"{self._api_url}/bot{self._token.reveal()}/{message.method}", json=message.content
                    )
                    if answer.status_code != 200:
                        _log.warning("telegram.refused", status=answer.status_code)
                except (httpx.HTTPError, httpx.InvalidURL) as error:
                    # the URL holds the token: only the kind of error is told
                    _log.warning("telegram.unreachable", error=type(error).__name__)
