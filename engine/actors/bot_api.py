"""The Bot API of Telegram over HTTPS: one call, its answer, and what went wrong (https://core.telegram.org/bots/api).

The address of every call holds the bot's token: no error and no log line of this module names it.
"""

from types import TracebackType
from typing import Any, Self

import httpx
import msgspec

from engine import egress
from engine.errors import EngineError, Unavailable
from engine.secret import Secret

_MAX_ANSWER_BYTES = 16 << 20
_CONNECT_S = 5.0


class BotUnavailable(Unavailable):
    """Telegram cannot be reached, or did not answer in time or in its own form."""


class BotRefused(EngineError):
    """Telegram refused a call: ``status`` is its error code, ``retry_after_s`` the wait that a 429 asks for."""

    def __init__(self, status: int, description: str, retry_after_s: int | None) -> None:
        super().__init__(f"Telegram refused: {status} {description}")
        self.status = status
        self.description = description
        self.retry_after_s = retry_after_s


class _Parameters(msgspec.Struct):
    retry_after: int | None = None


class _Answer(msgspec.Struct):
    ok: bool
    result: msgspec.Raw = msgspec.Raw(b"null")
    error_code: int = 0
    description: str = ""
    parameters: _Parameters = msgspec.field(default_factory=_Parameters)


class BotApi:
    """A connection to the Bot API; use as an async context manager, by one task at a time."""

    def __init__(self, api_url: str, token: Secret) -> None:
        self._base = api_url.rstrip("/")
        self._token = token
        self._client = egress.client(api_url, timeout_s=_CONNECT_S)

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def call(self, method: str, content: dict[str, Any], *, timeout_s: float) -> msgspec.Raw:
        """Call *method* and return its result as it stands. Raises BotRefused, BotUnavailable."""
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_S))
        address = f"{self._base}/bot{self._token.reveal()}/{method}"
        body = bytearray()
        try:
            async with self._client.stream("POST", address, json=content, timeout=timeout) as answer:
                async for part in answer.aiter_bytes():
                    body += part
                    if len(body) > _MAX_ANSWER_BYTES:
                        raise BotUnavailable(f"Telegram: {method} answered more than {_MAX_ANSWER_BYTES} bytes")
                status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # the cause is left out: its text and its request name the address
            raise BotUnavailable(f"Telegram: {method}: {type(error).__name__}") from None
        return _result(method, status, bytes(body))


def _result(method: str, status: int, body: bytes) -> msgspec.Raw:
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BotUnavailable(f"Telegram: {method} answered {status} and nothing that can be read") from None
    if answer.ok and status == httpx.codes.OK:
        return answer.result
    code = answer.error_code or status
    if code >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise BotUnavailable(f"Telegram: {method} answered {code}")
    raise BotRefused(code, answer.description[:200], answer.parameters.retry_after)
