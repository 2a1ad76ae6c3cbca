"""What is imported and never used: kept out of the process where the package that wants it can do without.

A library looks for others that it could make use of, and what the tests or another program of this Python brought
along is found. Each costs every start its time and the engine its memory for as long as it runs.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def left_out(*packages: str) -> Iterator[None]:
    """Have the imports of the block find none of *packages*, as where they are not installed.

    Afterwards they can be imported as ever. One that is imported already is left as it is.
    """
    hidden = [name for name in packages if name not in sys.modules]
    # what Python itself takes for "there is no such module"
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


@contextmanager
def stood_in(name: str, stand_in: ModuleType) -> Iterator[bool]:
    """Have the imports of the block take *stand_in* for the module *name*; yields False where that is imported already.

    Afterwards the module itself can be imported as ever.
    """
    if name in sys.modules:
        yield False
        return
    sys.modules[name] = stand_in
    try:
        yield True
    finally:
        del sys.modules[name]
