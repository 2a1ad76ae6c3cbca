"""Conditions of a query: constant SQL with numbered parameters, values only ever as parameters."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

_MARGIN = timedelta(days=1)


def parts_since(began: Iterable[datetime]) -> datetime:
    """Return since when things that *began* then can have events: no earlier month of theirs has to be looked into.

    A day is allowed for clocks that were set in between.
    """
    return min(began) - _MARGIN


class Visible(msgspec.Struct, frozen=True):
    """What a caller may see: everything of *users*, and of others what is of *accounts*."""

    users: tuple[UUID, ...]
    accounts: tuple[UUID, ...] = ()


class Filters:
    """Collects conditions; one whose value is None is left out."""

    def __init__(self) -> None:
        self._conditions: list[str] = []
        self.args: list[Any] = []

    def add(self, condition: str, value: Any) -> "Filters":
        """Add *condition*, a constant of the caller with ``{}`` in the place of *value*."""
        if value is not None:
            self._conditions.append(condition.format(self.parameter(value)))
        return self

    def add_tuple(self, condition: str, values: Iterable[Any] | None) -> "Filters":
        """Add *condition* with one ``{}`` for each of *values*."""
        if values is not None:
            self._conditions.append(condition.format(*[self.parameter(value) for value in values]))
        return self

    def add_visible(self, visible: Visible | None, *, user: str, account: str | None = None) -> "Filters":
        """Leave only what *visible* shows, by the columns *user* and *account*; None shows everything."""
        if visible is None:
            return self
        condition = f"{user} = ANY({self.parameter(list(visible.users))}::uuid[])"
        if account is not None and visible.accounts:
            condition += f" OR {account} = ANY({self.parameter(list(visible.accounts))}::uuid[])"
        self._conditions.append(f"({condition})")
        return self

    def parameter(self, value: Any) -> str:
        """Return the placeholder of one more argument."""
        self.args.append(value)
        return f"${len(self.args)}"

    def where(self) -> str:
        """Return the WHERE clause, empty without conditions."""
        return f" WHERE {' AND '.join(self._conditions)}" if self._conditions else ""
