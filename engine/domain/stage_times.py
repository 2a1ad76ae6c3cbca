"""The stages of a signal's way to the broker, and how they are written into an order's history.

All offsets count from the moment at which the engine had the head of the request, in microseconds. They stand in the
detail of the event by which an order became SUBMITTED, so that no write is made for them; `read` takes them out again.
"""

import re
from collections.abc import Mapping

STAGES = ("parsed", "decided", "accepted", "committed", "sent", "answered")
"""In the order of the way: read and authenticated; risk has decided; durable and promised to its sender; the ledger has
intent, verdict and order; the gate has let the first byte go; the broker has answered. `accepted` runs beside the
others: the journal may be quicker than the ledger, or slower."""

_WRITTEN = re.compile(r"after receipt, ms:((?: (?:" + "|".join(STAGES) + r") \d+\.\d{3})+)")


def written(offsets_us: Mapping[str, int]) -> str:
    """Return *offsets_us* by stage as text; those of no stage are left out, and an empty text stands for none."""
    parts = [f"{name} {offsets_us[name] / 1000:.3f}" for name in STAGES if name in offsets_us]
    return f"after receipt, ms: {' '.join(parts)}" if parts else ""


def read(detail: str) -> dict[str, int]:
    """Return the offsets (microseconds, by stage) that stand in *detail*; nothing where there are none."""
    found = _WRITTEN.search(detail)
    if found is None:
        return {}
    words = found[1].split()
    return {name: int(ms.replace(".", "")) for name, ms in zip(words[::2], words[1::2], strict=True)}
