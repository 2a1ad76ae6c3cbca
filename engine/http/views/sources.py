"""Sources in and out; keys and secrets are shown once, when they are made (contract section 8)."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from engine.domain.directory import Source
from engine.domain.enums import SourceType
from engine.domain.source_checks import SourceChecks
from engine.domain.source_watch import Heard
from engine.http.endpoint import ApiBody, ApiStruct
from engine.http.json_body import invalid
from engine.http.views.numbers import tidy_or_none
from engine.http.views.resources import ChatId, Name, TelegramUserId, Text
from engine.security.standard_webhooks import secret_form

_MAX_COUNT = 1_000_000_000
Every = Annotated[int, msgspec.Meta(ge=1, le=86400)]
Grace = Annotated[int, msgspec.Meta(ge=0, le=604800)]
Count = Annotated[int, msgspec.Meta(ge=1, le=_MAX_COUNT)]


class ChecksBody(ApiBody, frozen=True, kw_only=True):
    """Bounds of the source's own, checked before a signal is taken in; null means none.

    ``maxOrderQuantity`` is units, ``priceBandPct`` percent of the last price.
    """

    max_order_quantity: Count | None = None
    price_band_pct: Decimal | None = None
    max_signals_per_minute: Count | None = None


class NewSource(ApiBody, frozen=True, kw_only=True):
    """A new source; ``ipAllowlist`` holds addresses, networks and ``tradingview``, empty or null means from anywhere.

    In the chats of ``telegramChatIds`` the people of ``telegramUserIds`` may signal; empty or null means everybody.

    With ``expectEveryS`` an alert tells when nothing came for so many seconds while the market was open. With
    ``strictReplay`` one signed message is taken once, whatever Idempotency-Key it comes under.

    ``allowedSymbols`` (null: those of the strategy) and ``maxOrderValue`` (rupees of each order, null: as risk allows)
    bind what it opens, whoever has its secret. What reduces a position is never capped.
    """

    type: SourceType
    strategy_id: UUID
    name: Name
    ip_allowlist: list[Text] | None = None
    telegram_chat_ids: list[ChatId] | None = None
    telegram_user_ids: list[TelegramUserId] | None = None
    require_timestamp: bool = True
    enabled: bool = True
    checks: ChecksBody = ChecksBody()
    expect_every_s: Every | None = None
    strict_replay: bool = False
    allowed_symbols: list[Text] | None = None
    max_order_value: Decimal | None = None


class SourceChange(ApiBody, frozen=True, kw_only=True):
    """What to change; without ``requireTimestamp`` only key or body hash stand against a replay.

    ``resetSequence`` has the numbers of its signals counted from the next one on, for a sender that began anew.
    """

    name: Name | UnsetType = UNSET
    strategy_id: UUID | UnsetType = UNSET
    ip_allowlist: list[Text] | UnsetType | None = UNSET
    telegram_chat_ids: list[ChatId] | UnsetType | None = UNSET
    telegram_user_ids: list[TelegramUserId] | UnsetType | None = UNSET
    require_timestamp: bool | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    checks: ChecksBody | UnsetType = UNSET
    expect_every_s: Every | UnsetType | None = UNSET
    strict_replay: bool | UnsetType = UNSET
    allowed_symbols: list[Text] | UnsetType | None = UNSET
    max_order_value: Decimal | UnsetType | None = UNSET
    reset_sequence: bool = False


class RotateBody(ApiBody, frozen=True, kw_only=True):
    """How long the keys that are replaced are believed beside the new ones: seconds, up to a week; 0 ends them now."""

    grace_s: Grace | None = None


class GapView(ApiStruct, frozen=True, kw_only=True, rename={"first": "from", "last": "to"}):
    """Numbers of signals that never came, both ends among them."""

    first: int
    last: int


class SourceView(ApiStruct, frozen=True, kw_only=True):
    """A source of signals, without its keys.

    ``lastHeardAt`` counts heartbeats too. ``missing`` are the numbers below ``lastSequence`` that never came,
    ``silentSince`` is set while it should be heard and is not, ``oldKeysUntil`` while the keys of before its last
    rotation are believed.
    """

    id: UUID
    user_id: UUID
    strategy_id: UUID
    type: SourceType
    name: str
    enabled: bool
    require_timestamp: bool
    ip_allowlist: tuple[str, ...]
    telegram_chat_ids: tuple[int, ...]
    telegram_user_ids: tuple[int, ...]
    allowed_symbols: tuple[str, ...] | None = None
    max_order_value: Decimal | None = None
    checks: ChecksBody = ChecksBody()
    expect_every_s: int | None = None
    strict_replay: bool = False
    old_keys_until: datetime | None = None
    last_heard_at: datetime | None = None
    last_signal_at: datetime | None = None
    last_sequence: int | None = None
    missing: tuple[GapView, ...] = ()
    silent_since: datetime | None = None


class SourceKeysView(SourceView, frozen=True, kw_only=True):
    """A source with its keys, which are shown this once; ``webhookUrl`` is where it sends to.

    ``standardSecret`` is the same secret as Standard Webhooks libraries take it.
    """

    api_key: str
    secret: str
    webhook_url: str
    standard_secret: str | UnsetType = UNSET


def _fields(source: Source, heard: Heard) -> dict[str, Any]:
    checks = source.checks
    return {
        "id": source.id,
        "user_id": source.user_id,
        "strategy_id": source.strategy_id,
        "type": source.type,
        "name": source.name,
        "enabled": source.enabled,
        "require_timestamp": source.require_timestamp,
        "ip_allowlist": source.ip_allowlist,
        "telegram_chat_ids": tuple(sorted(source.telegram_chat_ids)),
        "telegram_user_ids": tuple(sorted(source.telegram_user_ids)),
        "allowed_symbols": None if source.allowed_symbols is None else tuple(sorted(source.allowed_symbols)),
        "max_order_value": tidy_or_none(source.max_order_value),
        "checks": ChecksBody(
            max_order_quantity=checks.max_order_quantity,
            price_band_pct=tidy_or_none(checks.price_band_pct),
            max_signals_per_minute=checks.max_signals_per_minute,
        ),
        "expect_every_s": source.expect_every_s,
        "strict_replay": source.strict_replay,
        "old_keys_until": None if source.old is None else source.old.until,
        "last_heard_at": heard.heard_at,
        "last_signal_at": heard.last_signal_at,
        "last_sequence": heard.last_sequence,
        "missing": tuple(GapView(first=first, last=last) for first, last in heard.missing),
        "silent_since": heard.silent_since,
    }


def source_view(source: Source, heard: Heard = Heard()) -> SourceView:  # noqa: B008 -- immutable
    """Return a source as the API shows it, with what was heard of it."""
    return SourceView(**_fields(source, heard))


def source_keys_view(source: Source, *, api_key: str, secret: str, base_url: str) -> SourceKeysView:
    """Return a source with its fresh keys and where it sends to."""
    return SourceKeysView(
        **_fields(source, Heard()),
        api_key=api_key,
        secret=secret,
        webhook_url=base_url + webhook_path(source, secret),
        standard_secret=secret_form(secret) if source.type is SourceType.WEBHOOK else UNSET,
    )


def webhook_path(source: Source, secret: str) -> str:
    """Return where a source sends to; TradingView can set no header, so its address carries the secret."""
    match source.type:
        case SourceType.SHEETS:
            return "/api/v1/signals/sheets/webhook"
        case SourceType.TELEGRAM:
            return "/api/v1/signals/telegram/webhook"
        case SourceType.TRADINGVIEW:
            return f"/api/v1/signals/tradingview/{source.id}?secret={secret}"
        case _:
            return f"/api/v1/signals/webhook/{source.id}"


def checks_of(body: ChecksBody) -> SourceChecks:
    """Return the bounds that *body* sets. Raises ValidationError."""
    band = body.price_band_pct
    if band is not None and not (band.is_finite() and 0 < band <= 100 and band == round(band, 4)):
        raise invalid({"checks.priceBandPct": "must be above 0, at most 100, with at most 4 decimals"})
    return SourceChecks(
        max_order_quantity=body.max_order_quantity,
        price_band_pct=band,
        max_signals_per_minute=body.max_signals_per_minute,
    )
