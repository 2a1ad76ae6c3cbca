"""What the headers of a request prove, asked only while there is a flood."""

from typing import Any

from engine.errors import UnauthorizedError
from engine.http.authentication import authenticate, bearer_token, fault_of_token, is_listed
from engine.http.ports import CoreServices
from engine.http.strangers import is_same
from engine.http.webhook_auth import is_from
from engine.security.api_tokens import PREFIX


class HeaderProofs:
    """Sessions, sources and the bot's secret, as *services* knows them."""

    def __init__(self, services: CoreServices) -> None:
        self._services = services

    def is_session(self, authorization: str, client: str) -> bool:
        """Whether *authorization* is that of a living session, or of a token that is good from *client*.

        Nothing is put on record and no use is counted: the request itself is still to be judged.
        """
        now = self._services.clock.now()
        try:
            token = bearer_token(authorization)
            if token.startswith(PREFIX):
                record = self._services.api_tokens.find(token)
                return record is not None and fault_of_token(self._services, record, now, client) is None
            authenticate(self._services, authorization, now)
        except UnauthorizedError:
            return False
        return True

    def is_source(self, key_hash: bytes) -> bool:
        """Whether an enabled source has the key whose SHA-256 is *key_hash*."""
        directory: Any = getattr(self._services, "directory", None)
        source = None if directory is None else directory.source_by_key_hash(key_hash)
        return source is not None and source.enabled

    def is_expected(self, client: str) -> bool:
        """Whether *client* is an address that an enabled source, or an API token, is listed for."""
        directory: Any = getattr(self._services, "directory", None)
        sources = () if directory is None else directory.sources.values()
        return any(
            source.enabled and source.ip_allowlist and is_from(client, source.ip_allowlist) for source in sources
        ) or any(token.ip_allowlist and is_listed(token, client) for token in self._services.api_tokens.all())

    def is_bot(self, secret: str) -> bool:
        """Whether *secret* is the one that Telegram sends with the bot's updates."""
        return is_same(secret, self._services.config.telegram.secret_token.reveal())
