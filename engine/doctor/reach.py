"""Whether the engine is reached from outside, by the address that it is given out under."""

import httpx

from engine import egress
from engine.config import Config
from engine.domain import day_checks
from engine.domain.day_checks import Seen

_TIMEOUT_S = 5.0


async def public_url(settings: Config) -> Seen:
    """Ask [server] public_url for the engine's health, as a sender of webhooks would."""
    url = settings.server.public_url.rstrip("/")
    if not url:
        return day_checks.ok("none is set: webhooks come from this machine or network only")
    mend = "see the proxy, forwarded ports and the name (a router may also not let its own network back in)"
    try:
        async with egress.client(url, timeout_s=_TIMEOUT_S) as client:
            answer = await client.get(f"{url}/api/v1/system/health")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return day_checks.warn(f"{url} cannot be reached from here: {error or type(error).__name__}", mend)
    if answer.status_code != httpx.codes.OK or '"status"' not in answer.text:
        return day_checks.warn(f"{url} answers {answer.status_code}, and not as this engine", mend)
    return day_checks.ok(f"{url} answers")
