"""Accounts and strategies in and out; keys and secrets only ever go in (contract section 8).

The checks of the addresses and chats of sources stand here too.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from engine.domain.directory import Account, BrokerLogin, Strategy
from engine.domain.enums import (
    AccountStatus,
    CapitalFrom,
    Exchange,
    GroupPolicy,
    OrderType,
    ProductType,
    SizingMode,
    SourceType,
)
from engine.errors import ConfigError
from engine.http.address_presets import with_presets
from engine.http.client_ip import parse_networks
from engine.http.endpoint import ApiBody, ApiStruct
from engine.http.json_body import invalid
from engine.http.views.numbers import amount_fault, tidy, tidy_or_none

MAX_MEMBERS = 200
_LABEL = re.compile(r"[!-~](?:[ -~]{0,62}[!-~])?", re.ASCII)
_SYMBOL = re.compile(r"[A-Z0-9&_\-. ]{1,40}", re.ASCII)
_CREDENTIAL = re.compile(r"[!-~]{1,200}", re.ASCII)

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Text = Annotated[str, msgspec.Meta(max_length=500)]
ChatId = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]
TelegramUserId = Annotated[int, msgspec.Meta(ge=1, le=2**62)]


class Deleted(ApiStruct, frozen=True, kw_only=True):
    """Says that it is gone; what it did stays on record."""

    deleted: bool = True


class AccountView(ApiStruct, frozen=True, kw_only=True):
    """A broker account; ``capital`` is rupees, ``statusReason`` says what stands against trading.

    ``marketProtection`` is percent of the last price that a MARKET or SL-M order may fill away from it, -1 for
    the broker's own table. ``brokerUserId``, ``exchanges`` and ``products`` are what the broker said at the last
    login. ``capitalFrom`` is STATED, or BROKER for an account whose capital is read off its margins, the last time at
    ``capitalReadAt``; a read that fails leaves it as it is.
    """

    id: UUID
    user_id: UUID
    label: str
    broker: str
    capital: Decimal
    status: AccountStatus
    status_reason: str | None
    market_protection: Decimal
    broker_user_id: str | None = None
    logged_in_at: datetime | None = None
    exchanges: tuple[str, ...] = ()
    products: tuple[str, ...] = ()
    capital_from: CapitalFrom = CapitalFrom.STATED
    capital_read_at: datetime | None = None


class NewAccount(ApiBody, frozen=True, kw_only=True):
    """A new account; keys are for kite only and are never read back.

    ``capital`` is rupees; null reads a kite account's off its margins, and gives a paper account 10,00,000.
    """

    label: Text
    broker: Literal["paper", "kite"] | UnsetType = UNSET
    api_key: Text | None = None
    api_secret: Text | None = None
    access_token: Text | None = None
    capital: Decimal | None = None
    market_protection: Decimal = Decimal(-1)


class AccountChange(ApiBody, frozen=True, kw_only=True):
    """What to change; a new ``accessToken`` makes the account ACTIVE, null logs it out.

    ``capital`` null has a kite account's capital read off its margins from then on.
    """

    label: Text | UnsetType = UNSET
    capital: Decimal | UnsetType | None = UNSET
    api_key: Text | UnsetType = UNSET
    api_secret: Text | UnsetType = UNSET
    access_token: Text | UnsetType | None = UNSET
    market_protection: Decimal | UnsetType = UNSET


class SizingBody(ApiBody, frozen=True, kw_only=True):
    """How the quantity follows from the signal's.

    ``multiplier``: times a number; ``fixed``: units; ``lots``: lots; ``capital_pct``: what percent of the capital buys;
    ``risk_pct``: what loses percent of the capital at the signal's stopLoss. Percent are at most 100.
    """

    mode: SizingMode
    value: Decimal


class TargetBody(ApiBody, frozen=True, kw_only=True):
    """One account of a strategy; ``maxQuantity`` (units) and ``maxValue`` (rupees) cap what adds exposure.

    Without ``sizing`` the account trades the signal's own quantity.
    """

    account_id: UUID
    sizing: SizingBody | None = None
    max_quantity: int | None = None
    max_value: Decimal | None = None


class HoursBody(ApiBody, frozen=True, kw_only=True):
    """Clock times in market.timezone, HH:MM; the end is outside."""

    start: str
    end: str


class DefaultsBody(ApiBody, frozen=True, kw_only=True, omit_defaults=True):
    """What a source that cannot say these uses."""

    exchange: Exchange | None = None
    product_type: ProductType | None = None
    order_type: OrderType | None = None


class NewStrategy(ApiBody, frozen=True, kw_only=True):
    """A new strategy; ``allowedSymbols`` null means every symbol.

    With ``approval`` manual every signal waits for a person, ``approvalTtlS`` seconds at most, and is rejected when the
    price has moved more than ``approvalPriceMovePct`` percent meanwhile. ``groupPolicy`` says what is done when a
    signal fills on some accounts and fails on others: leave, retry (those that failed), or unwind (those that filled),
    within ``groupDeadlineS`` seconds. Outside ``entryWindow`` only orders that reduce are sent.
    """

    name: Name
    enabled: bool = True
    approval: Literal["auto", "manual"] = "auto"
    allowed_symbols: list[Text] | None = None
    defaults: DefaultsBody = DefaultsBody()
    accounts: list[TargetBody] = []
    approval_ttl_s: int = 300
    approval_price_move_pct: Decimal = Decimal(1)
    group_policy: GroupPolicy = GroupPolicy.LEAVE
    group_deadline_s: int = 30
    entry_window: HoursBody | None = None
    square_off_at: Text | None = None


class StrategyChange(ApiBody, frozen=True, kw_only=True):
    """What to change; lists are replaced whole."""

    name: Name | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    approval: Literal["auto", "manual"] | UnsetType = UNSET
    allowed_symbols: list[Text] | UnsetType | None = UNSET
    defaults: DefaultsBody | UnsetType = UNSET
    accounts: list[TargetBody] | UnsetType = UNSET
    approval_ttl_s: int | UnsetType = UNSET
    approval_price_move_pct: Decimal | UnsetType = UNSET
    group_policy: GroupPolicy | UnsetType = UNSET
    group_deadline_s: int | UnsetType = UNSET
    entry_window: HoursBody | UnsetType | None = UNSET
    square_off_at: Text | UnsetType | None = UNSET


class StrategyView(ApiStruct, frozen=True, kw_only=True):
    """A strategy and the accounts that it trades."""

    id: UUID
    user_id: UUID
    name: str
    enabled: bool
    approval: str
    allowed_symbols: tuple[str, ...] | None
    defaults: dict[str, str]
    accounts: tuple[TargetBody, ...]
    approval_ttl_s: int
    approval_price_move_pct: Decimal
    group_policy: GroupPolicy
    group_deadline_s: int
    entry_window: HoursBody | None
    square_off_at: str | None


def account_view(account: Account) -> AccountView:
    """Return an account as the API shows it."""
    login = account.login or BrokerLogin()
    return AccountView(
        id=account.id,
        user_id=account.user_id,
        label=account.label,
        broker=account.broker,
        capital=tidy(account.capital),
        status=account.status,
        status_reason=account.status_reason,
        market_protection=tidy(account.market_protection),
        broker_user_id=login.broker_user_id,
        logged_in_at=login.logged_in_at,
        exchanges=login.exchanges,
        products=login.products,
        capital_from=account.capital_from,
        capital_read_at=account.capital_read_at,
    )


def strategy_view(strategy: Strategy) -> StrategyView:
    """Return a strategy as the API shows it."""
    symbols = strategy.allowed_symbols
    window = strategy.entry_window
    return StrategyView(
        id=strategy.id,
        user_id=strategy.user_id,
        name=strategy.name,
        enabled=strategy.enabled,
        approval=strategy.approval,
        allowed_symbols=None if symbols is None else tuple(sorted(symbols)),
        defaults={name: str(word) for name, word in strategy.defaults.items()},
        accounts=tuple(
            TargetBody(
                account_id=target.account_id,
                sizing=SizingBody(mode=target.mode, value=tidy(target.value)),
                max_quantity=target.max_quantity,
                max_value=tidy_or_none(target.max_value),
            )
            for target in strategy.targets
        ),
        approval_ttl_s=strategy.approval_ttl_s,
        approval_price_move_pct=tidy(strategy.approval_price_move_pct),
        group_policy=strategy.group_policy,
        group_deadline_s=strategy.group_deadline_s,
        entry_window=None if window is None else HoursBody(start=window.start, end=window.end),
        square_off_at=strategy.square_off_at,
    )


def label(text: str) -> str:
    """Check an account's label. Raises ValidationError."""
    if not _LABEL.fullmatch(text.strip()):
        raise invalid({"label": "must be 1 to 64 printable ASCII characters"})
    return text.strip()


def capital(amount: Decimal) -> Decimal:
    """Check a capital in rupees. Raises ValidationError."""
    fault = amount_fault(amount)
    if fault is not None:
        raise invalid({"capital": fault})
    return amount


def protection(percent: Decimal) -> Decimal:
    """Check a market protection: percent above 0 up to 100, or -1 for the broker's table. Raises ValidationError."""
    if percent != -1 and not (percent.is_finite() and 0 < percent <= 100):
        raise invalid({"marketProtection": "must be -1 (the broker's own table), or above 0 and at most 100 percent"})
    if percent != round(percent, 4):
        raise invalid({"marketProtection": "has at most 4 decimals"})
    return percent


def credential(text: str, field: str) -> str:
    """Check a key or token of the broker. Raises ValidationError, which never quotes it."""
    if not _CREDENTIAL.fullmatch(text):
        raise invalid({field: "must be 1 to 200 visible ASCII characters"})
    return text


def order_value(amount: Decimal | None) -> Decimal | None:
    """Check the most rupees that one order of a source may be worth. Raises ValidationError."""
    fault = None if amount is None else amount_fault(amount)
    if fault is not None or amount == 0:
        raise invalid({"maxOrderValue": fault or "must be above 0, or null for no cap"})
    return amount


def symbols(given: Sequence[str] | None) -> frozenset[str] | None:
    """Read the symbols that a strategy may trade. Raises ValidationError."""
    if given is None:
        return None
    found = frozenset(symbol.strip().upper() for symbol in given)
    bad = [symbol for symbol in found if not _SYMBOL.fullmatch(symbol)]
    if bad or len(found) > 5000:
        raise invalid(
            {
                "allowedSymbols": "must be at most 5000 symbols of 1 to 40 letters, digits, blanks or & _ - ., "
                "such as INFY: without the exchange"
            }
        )
    return found


def defaults(body: DefaultsBody) -> dict[str, Any]:
    """Return a strategy's defaults as they are kept: those that were given."""
    found: dict[str, Any] = msgspec.to_builtins(body)
    return found


def networks(given: Sequence[str] | None) -> tuple[str, ...]:
    """Check the addresses, networks and presets that a source may send from. Raises ValidationError."""
    entries = tuple(dict.fromkeys(entry.strip() for entry in given or ()))
    if len(entries) > MAX_MEMBERS:
        raise invalid({"ipAllowlist": f"may have at most {MAX_MEMBERS} entries"})
    try:
        parse_networks(with_presets(entries), key="ipAllowlist")
    except ConfigError as error:
        raise invalid({"ipAllowlist": str(error).removeprefix("ipAllowlist: ")}) from None
    return entries


def chats(given: Sequence[int] | None, kind: SourceType) -> frozenset[int]:
    """Check the chats of a source. Raises ValidationError."""
    found = frozenset(given or ())
    if found and kind is not SourceType.TELEGRAM:
        raise invalid({"telegramChatIds": "is for sources of type telegram only"})
    if len(found) > MAX_MEMBERS or 0 in found:
        raise invalid({"telegramChatIds": f"may have at most {MAX_MEMBERS} chats, none of them 0"})
    return found


def senders(given: Sequence[int] | None, kind: SourceType) -> frozenset[int]:
    """Check the people who may signal in the chats of a source. Raises ValidationError."""
    found = frozenset(given or ())
    if found and kind is not SourceType.TELEGRAM:
        raise invalid({"telegramUserIds": "is for sources of type telegram only"})
    if len(found) > MAX_MEMBERS:
        raise invalid({"telegramUserIds": f"may have at most {MAX_MEMBERS} people"})
    return found
