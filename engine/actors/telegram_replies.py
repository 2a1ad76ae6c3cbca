"""Answers to Telegram chats: one message for each signal text that came in.

Owns one HTTP client. Told by the webhook. Mailbox: bounded, drops the oldest: an outage of Telegram
never touches trading. Restart: permanent. Without a bot token it says nothing.
"""

import httpx
import msgspec
import structlog
import trio

from engine.runtime.mailbox import Mailbox, Overflow
from engine.secret import Secret

_log = structlog.get_logger(__name__)

_CAPACITY = 256
_TIMEOUT_S = 5.0
_TEXT_CHARACTERS = 4096  # the Bot API's bound


class _Text(msgspec.Struct, frozen=True):
    chat_id: int
    text: str


class TelegramReplies:
    """Sends plain texts through the engine's bot."""

    def __init__(self, api_url: str, bot_token: Secret) -> None:
        self._api_url = api_url.rstrip("/")
        self._token = bot_token
        self.mailbox: Mailbox[_Text] = Mailbox("telegram-replies", capacity=_CAPACITY, overflow=Overflow.DROP_OLDEST)

    def tell(self, chat_id: int, text: str) -> None:
        """Queue *text* for a chat; never waits."""
        if self._token:
            self.mailbox.tell_nowait(_Text(chat_id, text[:_TEXT_CHARACTERS]))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send until cancelled."""
        task_status.started()
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
            async for message in self.mailbox:
                try:
                    answer = await client.post(
                        f"{self._api_url}/bot{self._token.reveal()}/sendMessage",
                        json={"chat_id": message.chat_id, "text": message.text},
                    )
                    if answer.status_code != 200:
                        _log.warning("telegram.refused", status=answer.status_code)
                except (httpx.HTTPError, httpx.InvalidURL) as error:
                    # the URL holds the token: only the kind of error is told
                    _log.warning("telegram.unreachable", error=type(error).__name__)
