"""What every channel for alerts is: something that sends one message and says what was answered."""

from typing import Protocol

import httpx
import trio

from engine import egress
from engine.domain.alert_notice import Message
from engine.errors import EngineError

SEND_S = 10.0
_MOST_READ = 4096


class ChannelFailed(EngineError):
    """A channel did not take a message; ``is_final`` says that trying the same again is of no use."""

    def __init__(self, why: str, *, is_final: bool = False) -> None:
        super().__init__(why)
        self.is_final = is_final


class Channel(Protocol):
    """One way to tell somebody."""

    @property
    def name(self) -> str:
        """What routes call it."""

    async def send(self, message: Message) -> str:
        """Send *message* within `SEND_S`; return what was answered, in a few words. Raises ChannelFailed."""


async def call(
    url: str, method: str = "POST", *, content: bytes = b"", headers: dict[str, str], timeout_s: float = SEND_S
) -> str:
    """Call *url*, an address of the configuration and nothing else; return its answer, such as ``200 ok``.

    The address may hold a secret: no error and no log line of this module names it. Raises ChannelFailed for
    anything that is not 2xx.
    """
    body = bytearray()
    try:
        with trio.fail_after(timeout_s):
            async with (
                egress.client(url, timeout_s=timeout_s) as client,
                client.stream(method, url, content=content or None, headers=headers) as answer,
            ):
                async for part in answer.aiter_bytes():
                    body += part[: _MOST_READ - len(body)]
                    if len(body) >= _MOST_READ:
                        break
                status = answer.status_code
    except trio.TooSlowError:
        raise ChannelFailed(f"no answer within {timeout_s:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        # the cause is left out: its text and its request name the address
        raise ChannelFailed(f"cannot be reached: {type(error).__name__}") from None
    said = f"{status} {' '.join(bytes(body).decode(errors='replace').split())[:100]}".strip()
    if not 200 <= status < 300:
        raise ChannelFailed(f"answered {said}", is_final=400 <= status < 500 and status not in (408, 425, 429))
    return said
