"""The webhook's keeper: tells Telegram where the engine is called, with the secret token, and sees that it stays so.

Owns one connection to the Bot API. Works in webhook mode with a public https address only. No mailbox. Restart:
permanent. The start of the engine waits for nothing here. Source: Telegram Bot API, setWebhook
(https://core.telegram.org/bots/api#setwebhook).
"""

import random
from collections.abc import Callable

import msgspec
import structlog
import trio

from engine.actors.bot_api import BotApi, BotRefused, BotUnavailable
from engine.actors.telegram_poller import ALLOWED_UPDATES
from engine.runtime.child import Backoff
from engine.secret import Secret

_log = structlog.get_logger(__name__)

_TIMEOUT_S = 10.0
_LOOK_AGAIN_S = 3600.0
_REFUSED_S = 300.0


class WebhookInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What Telegram says of the bot's webhook."""

    url: str = ""
    pending_update_count: int = 0
    last_error_message: str = ""
    allowed_updates: tuple[str, ...] = ()


class TelegramWebhook:
    """Sets *address* as the bot's webhook, and again when somebody changed it."""

    def __init__(
        self,
        api_url: str,
        token: Secret,
        secret_token: Secret,
        *,
        address: str,
        alert: Callable[[str, str], None],
        rng: random.Random | None = None,
    ) -> None:
        self._api_url = api_url
        self._token = token
        self._secret_token = secret_token
        self._address = address
        self._alert = alert
        self._rng = rng or random.Random()  # noqa: S311 -- spreads retries, guards nothing
        self._backoff = Backoff(initial=1.0, max=300.0)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the webhook until cancelled."""
        task_status.started()
        failures = 0
        is_set = False
        async with BotApi(self._api_url, self._token) as api:
            while True:
                try:
                    # the secret token cannot be read back: it is set once in every life
                    if not is_set or await read_webhook(api) != self._address:
                        await self._set(api)
                        is_set = True
                    failures, wait = 0, _LOOK_AGAIN_S
                except BotUnavailable as error:
                    failures += 1
                    _log.warning("telegram.webhook_not_set", error=str(error))
                    wait = self._backoff.delay_s(failures, self._rng)
                except BotRefused as refused:
                    self._alert("telegram", f"the webhook is not set: {refused}; nothing is heard from Telegram")
                    wait = _REFUSED_S
                await trio.sleep(wait)

    async def _set(self, api: BotApi) -> None:
        content = {
            "url": self._address,
            "secret_token": self._secret_token.reveal(),
            "allowed_updates": ALLOWED_UPDATES,
            "drop_pending_updates": False,
        }
        await api.call("setWebhook", content, timeout_s=_TIMEOUT_S)
        _log.info("telegram.webhook_set", address=self._address)


async def read_webhook(api: BotApi) -> str:
    """Return the address that Telegram calls; empty for none. Raises BotRefused, BotUnavailable."""
    return (await webhook_info(api)).url


async def webhook_info(api: BotApi) -> WebhookInfo:
    """Return what Telegram says of the webhook. Raises BotRefused, BotUnavailable."""
    answer = await api.call("getWebhookInfo", {}, timeout_s=_TIMEOUT_S)
    try:
        return msgspec.json.decode(answer, type=WebhookInfo)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BotUnavailable("Telegram: getWebhookInfo answered what cannot be read") from error
