"""Whether an account could trade now: what was looked at, and what was found."""

from datetime import date, datetime, time, timedelta
from uuid import UUID

import msgspec

from engine.clock import IST

_DUMP_AT = time(8, 30)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One look; ``ok`` is None for what cannot be known beforehand. ``detail`` is what was seen, or the mend."""

    check: str
    ok: bool | None
    detail: str


class AccountReadiness(msgspec.Struct, frozen=True, kw_only=True):
    """All looks at one account at ``checked_at`` (aware UTC)."""

    account_id: UUID
    label: str
    checked_at: datetime
    findings: tuple[Finding, ...]

    @property
    def is_ready(self) -> bool:
        """Whether nothing was found that stands against trading."""
        return all(finding.ok is not False for finding in self.findings)

    @property
    def faults(self) -> str:
        """What stands against trading, in one line."""
        return "; ".join(f"{f.check}: {f.detail}" for f in self.findings if f.ok is False)


def dump_day(now: datetime) -> date:
    """Return the IST date of the newest instrument dump that there can be at *now*: Kite makes it about 08:30."""
    local = now.astimezone(IST)
    return local.date() if local.time() >= _DUMP_AT else local.date() - timedelta(days=1)
