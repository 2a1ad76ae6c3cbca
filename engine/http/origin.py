"""Where something came from, for the record: all that a record needs of a request, or of what is none."""

from typing import Any, Protocol

import msgspec


class Origin(Protocol):
    """What an `ApiRequest` and an `UpdateOrigin` have in common."""

    @property
    def services(self) -> Any:
        """The engine, as its HTTP face sees it."""

    @property
    def client_ip(self) -> str:
        """Who is at the other end."""

    @property
    def request_id(self) -> str:
        """What names it in the log and the audit."""


class UpdateOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """How an update of the bot came in: pushed to the webhook, or fetched; ``base`` is where the engine is reached.

    ``comes_again`` says that what cannot be taken in now is brought once more.
    """

    services: Any
    client_ip: str
    request_id: str
    base: str
    comes_again: bool = False
