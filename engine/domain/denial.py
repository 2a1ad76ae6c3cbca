"""A reason against an order, as a value: being denied is an answer, not an error."""

import msgspec


class Denial(msgspec.Struct, frozen=True, kw_only=True):
    """One reason against an order; ``str()`` gives the contract's ``CODE: text``."""

    code: str
    text: str

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"
