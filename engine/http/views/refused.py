"""What the ledger refuses, as an answer: a name that is taken is a conflict of the caller's making."""

from collections.abc import Iterator
from contextlib import contextmanager

from engine.errors import ConflictError
from engine.store.ledger import LedgerRefused


@contextmanager
def taken(message: str) -> Iterator[None]:
    """Turn a unique key that the store holds already into a ConflictError that says *message*."""
    try:
        yield
    except LedgerRefused as refused:
        if not str(refused).startswith("UniqueViolationError"):
            raise
        raise ConflictError(message) from None
