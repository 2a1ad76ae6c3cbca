"""Conditions of a query: constant SQL with numbered parameters, values only ever as parameters."""

from collections.abc import Iterable
from typing import Any


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

    def parameter(self, value: Any) -> str:
        """Return the placeholder of one more argument."""
        self.args.append(value)
        return f"${len(self.args)}"

    def where(self) -> str:
        """Return the WHERE clause, empty without conditions."""
        return f" WHERE {' AND '.join(self._conditions)}" if self._conditions else ""
