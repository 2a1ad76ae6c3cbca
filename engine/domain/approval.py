"""Approval by hand: what stands against executing an intent that a person has approved.

Pure functions. That an approved intent is judged by every limit anew is for the caller.
"""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from engine.domain.denial import Denial
from engine.domain.intent import Intent
from engine.domain.killswitch import KillRecord, KillSwitches
from engine.domain.money import plain

AUTO = "auto"
"""The one word of a strategy's ``approval`` by which signals are executed without a person; any other holds them."""

# What a clock may be set back before the age of an intent is not believed.
_AHEAD_S = 2.0


def expired(intent: Intent, now: datetime) -> Denial | None:
    """Return why nobody may approve *intent* any more, or None; a clock that was set back cannot tell its age."""
    age_s = (now - intent.received_at).total_seconds()
    if intent.expires_at is None or now >= intent.expires_at:
        ttl_s = 0.0 if intent.expires_at is None else (intent.expires_at - intent.received_at).total_seconds()
        return Denial(code="APPROVAL_EXPIRED", text=f"nobody approved it within {ttl_s:g} s")
    if age_s < -_AHEAD_S:
        return Denial(
            code="APPROVAL_EXPIRED", text=f"its age cannot be told, it came {-age_s:.1f} s ahead of the clock"
        )
    return None


def price_moved(seen: Decimal | None, now: Decimal | None, percent: Decimal) -> Denial | None:
    """Return what stands against a price (rupees) that was *seen* at receipt and is *now* another, or None.

    Allowed is a move of *percent* of what was seen. A price that is not known cannot be compared: it stands against.
    """
    if not seen or not now:
        when = "now" if seen else "when the signal came"
        return Denial(code="PRICE_UNAVAILABLE", text=f"no price was known {when}, so that it cannot be compared")
    if abs(now - seen) * 100 > percent * seen:
        away = (abs(now - seen) * 100 / seen).quantize(Decimal("0.01"))
        text = f"{plain(now)} is {away}% from {plain(seen)} when the signal came, allowed {plain(percent)}%"
        return Denial(code="PRICE_MOVED", text=text)
    return None


def killed_since(kill: KillSwitches, intent: Intent, account_id: UUID) -> Denial | None:
    """Return the kill switch that covers *intent* on an account and is on, or has been since the intent began.

    A switch that was turned off meanwhile counts: what waited when it was on is not to be executed afterwards.
    """
    record = kill.barring(
        intent.kill_turn,
        intent.began_at,
        user_id=intent.user_id,
        account_id=account_id,
        strategy_id=intent.strategy_id,
        source_id=intent.source_id,
    )
    return None if record is None else killed_text(record)


def killed_text(record: KillRecord) -> Denial:
    """Return a kill record as what stands against an intent."""
    is_on = "is blocked" if record.enabled else "was blocked while it waited"
    return Denial(code="KILL_SWITCH", text=f"{record.scope} {is_on}: {record.reason}")
