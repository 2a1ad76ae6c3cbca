"""What one account's books tell its user's risk actor: singly, or all that one look shows together."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import structlog

from engine.actors.risk_messages import PositionsChanged
from engine.errors import MailboxFull

_log = structlog.get_logger(__name__)


class RiskTeller:
    """Hands messages of an account to *tell*, which raises MailboxFull when nobody listens any more."""

    def __init__(self, account_id: UUID, tell: Callable[[Any], None]) -> None:
        self._account_id = account_id
        self._tell_risk = tell
        # what is told at the end of `together`, None outside of it
        self._held_back: list[Any] | None = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Tell what changes within the block at its end, positions first and all at once.

        Of what one read shows risk must not judge a half: a hedge whose one leg is closed, and the
        other not yet, has a loss, or a peak, that never was.
        """
        if self._held_back is not None:
            yield
            return
        self._held_back = []
        try:
            yield
        finally:
            held, self._held_back = self._held_back, None
            moved = [message for message in held if isinstance(message, PositionsChanged)]
            if moved:
                self.tell(_merged(moved))
            for message in held:
                if not isinstance(message, PositionsChanged):
                    self.tell(message)

    def tell(self, message: Any) -> None:
        """Tell the risk actor, now or at the end of `together`."""
        if self._held_back is not None:
            self._held_back.append(message)
            return
        try:
            self._tell_risk(message)
        except MailboxFull as error:
            # the user is blocked when its risk actor is gone; orders must be followed to their end all the same
            _log.error("risk.does_not_listen", account=str(self._account_id), error=str(error))


def _merged(messages: Sequence[PositionsChanged]) -> PositionsChanged:
    """Return several changes as one, each position and book as it is in the last."""
    return PositionsChanged(
        positions=tuple({position.key: position for told in messages for position in told.positions}.values()),
        books=tuple({(book.key, book.owner): book for told in messages for book in told.books}.values()),
        trips=tuple(trip for told in messages for trip in told.trips),
    )
