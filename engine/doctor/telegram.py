"""The part of ``engine doctor`` that asks Telegram whether it knows the bot, and where it calls."""

import msgspec

from engine.actors.bot_api import BotApi, BotRefused, BotUnavailable
from engine.actors.telegram_webhook import webhook_info
from engine.config import Config, TelegramConfig
from engine.errors import EngineError
from engine.telegram_side import webhook_address

_TIMEOUT_S = 5.0


class _Me(msgspec.Struct):
    username: str = ""


async def telegram(settings: Config) -> str:
    """Say how the bot is reached. Raises EngineError with the mend when nothing can come in."""
    config = settings.telegram
    if config.mode == "off" or not config.bot_token:
        return "off: telegram.bot_token is empty" if config.mode != "off" else "off, as configured"
    async with BotApi(config.api_url, config.bot_token) as api:
        try:
            me = msgspec.json.decode(await api.call("getMe", {}, timeout_s=_TIMEOUT_S), type=_Me)
            info = await webhook_info(api)
        except BotRefused as refused:
            raise EngineError(f"{refused}; take telegram.bot_token from @BotFather") from refused
        except BotUnavailable as error:
            raise EngineError(f"{error}; trading goes on without it, chats are not heard") from error
        except msgspec.DecodeError as error:
            raise EngineError("getMe answered what cannot be read: telegram.api_url is no Bot API") from error
    bot = f"@{me.username}"
    if config.mode == "polling":
        still = f"; a webhook to {info.url} is set, the engine takes it away when it polls" if info.url else ""
        return f"{bot}, by polling{still}"
    return f"{bot}, {_webhook(config, settings.server.public_url, info.url, info.last_error_message)}"


def _webhook(config: TelegramConfig, public_url: str, at_telegram: str, last_error: str) -> str:
    wanted = webhook_address(public_url, config.secret_token)
    if wanted is None:
        lacks = "telegram.secret_token" if not config.secret_token else "server.public_url with https"
        if at_telegram:
            return f"by a webhook to {at_telegram} that somebody set by hand; {lacks} is not set"
        raise EngineError(
            f'no webhook is set: set {lacks}, or telegram.mode = "polling", which needs no public address'
        )
    if at_telegram != wanted:
        raise EngineError(
            f"Telegram calls {at_telegram or 'nobody'}, not {wanted}; a running engine sets it, its log says why not"
        )
    return f"by a webhook to {wanted}" + (f"; Telegram's last error there: {last_error}" if last_error else "")
