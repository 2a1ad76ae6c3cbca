"""Checks of what a strategy may be told: ranges of sizing, caps, approval, group policy and hours."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from msgspec import UNSET

from engine.domain.calendar import parse_hhmm
from engine.domain.directory import Target
from engine.domain.enums import SizingMode
from engine.domain.limits import TradingWindow
from engine.domain.sizing import MAX_QUANTITY
from engine.http.json_body import invalid
from engine.http.views.numbers import amount_fault
from engine.http.views.resources import HoursBody, NewStrategy, StrategyChange, TargetBody

MAX_APPROVAL_TTL_S = 86_400
MAX_GROUP_DEADLINE_S = 600
_PERCENT_MODES = (SizingMode.CAPITAL_PCT, SizingMode.RISK_PCT)
_UNIT_MODES = (SizingMode.FIXED, SizingMode.LOTS)


def settings(body: NewStrategy | StrategyChange) -> dict[str, Any]:
    """Return the settings of a strategy that *body* sets, by field. Raises ValidationError that names the fields."""
    faults: dict[str, str] = {}
    found: dict[str, Any] = {}
    for name, field, most in (
        ("approval_ttl_s", "approvalTtlS", MAX_APPROVAL_TTL_S),
        ("group_deadline_s", "groupDeadlineS", MAX_GROUP_DEADLINE_S),
    ):
        value = getattr(body, name)
        if value is not UNSET:
            found[name] = value
            if not 1 <= value <= most:
                faults[field] = f"must be 1 to {most} seconds"
    if body.approval_price_move_pct is not UNSET:
        found["approval_price_move_pct"] = body.approval_price_move_pct
        fault = _percent_fault(body.approval_price_move_pct)
        if fault is not None:
            faults["approvalPriceMovePct"] = fault
    if body.group_policy is not UNSET:
        found["group_policy"] = body.group_policy
    if body.entry_window is not UNSET:
        found["entry_window"] = None if body.entry_window is None else _window(body.entry_window, faults)
    if body.square_off_at is not UNSET:
        found["square_off_at"] = body.square_off_at
        if body.square_off_at is not None and not _is_clock_time(body.square_off_at):
            faults["squareOffAt"] = "must be a time of day, HH:MM"
    if faults:
        raise invalid(faults)
    return found


def target_of(body: TargetBody, place: int, faults: dict[str, str]) -> Target:
    """Return one account of a strategy; what is wrong with it goes into *faults*, by the name of its field."""
    where = f"accounts[{place}]"
    mode, value = SizingMode.MULTIPLIER, Decimal(1)
    if body.sizing is not None:
        mode, value = body.sizing.mode, body.sizing.value
    fault = amount_fault(value, above=True)
    if fault is None and mode in _PERCENT_MODES:
        fault = _percent_fault(value)
    elif fault is None and mode in _UNIT_MODES and (value != int(value) or value > MAX_QUANTITY):
        fault = f"must be a whole number from 1 to {MAX_QUANTITY} for {mode}"
    if fault is not None:
        faults[f"{where}.sizing.value"] = fault
    if body.max_quantity is not None and not 1 <= body.max_quantity <= MAX_QUANTITY:
        faults[f"{where}.maxQuantity"] = f"must be 1 to {MAX_QUANTITY} units, or null for no cap"
    if body.max_value is not None and (fault := amount_fault(body.max_value, above=True)) is not None:
        faults[f"{where}.maxValue"] = fault
    return Target(
        account_id=body.account_id, mode=mode, value=value, max_quantity=body.max_quantity, max_value=body.max_value
    )


def named_twice(bodies: Sequence[TargetBody]) -> dict[str, str]:
    """Return what is wrong with accounts that a strategy names more than once."""
    seen: set[UUID] = set()
    faults: dict[str, str] = {}
    for place, body in enumerate(bodies):
        if body.account_id in seen:
            faults[f"accounts[{place}].accountId"] = "is named twice"
        seen.add(body.account_id)
    return faults


def _percent_fault(value: Decimal) -> str | None:
    fault = amount_fault(value, above=True)
    return "must be at most 100 percent" if fault is None and value > 100 else fault


def _window(body: HoursBody, faults: dict[str, str]) -> TradingWindow:
    if not (_is_clock_time(body.start) and _is_clock_time(body.end)):
        faults["entryWindow"] = "start and end must be times of day, HH:MM"
    elif body.start >= body.end:
        faults["entryWindow"] = "must start before it ends"
    return TradingWindow(start=body.start, end=body.end)


def _is_clock_time(text: str) -> bool:
    try:
        parse_hhmm(text)
    except ValueError:
        return False
    return True
