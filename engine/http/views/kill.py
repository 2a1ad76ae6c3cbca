"""Kill switches as the API and the command line show them: state, and whether the scope is flat."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

import msgspec

from engine.domain.directory import Directory
from engine.domain.enums import Exchange, KillMode, KillState, ProductType
from engine.domain.gtt import Gtt
from engine.domain.kill_sequence import KillOutcome
from engine.domain.killswitch import GLOBAL, KillRecord, scopes_of
from engine.domain.order import Order
from engine.domain.position import Position
from engine.domain.rearming import strategy_accounts
from engine.http.endpoint import ApiStruct


class NotFlatView(ApiStruct, frozen=True, kw_only=True):
    """A position of the scope that is open, or where an order or trigger of the scope still lives; units are signed.

    ``restingGtts`` are exits that the broker keeps: they fire without the engine, and under a kill switch too.
    ``why`` is known while the scope is being flattened.
    """

    account_id: UUID
    exchange: Exchange
    symbol: str
    product_type: ProductType
    quantity: int
    open_orders: int
    resting_gtts: int
    why: str | None = None


class CertificateView(ApiStruct, frozen=True, kw_only=True):
    """What the flattening of a scope came to last; whole under ``/risk/killswitch/certificates``."""

    id: UUID
    outcome: KillOutcome
    created_at: datetime
    time_to_block_s: float | None
    time_to_flat_s: float | None


class KillScopeView(ApiStruct, frozen=True, kw_only=True):
    """One scope; ``mode`` and ``enabledAt`` are null while it is off."""

    scope: str
    enabled: bool
    state: KillState
    mode: KillMode | None
    reason: str
    actor: str
    enabled_at: datetime | None
    flat: bool
    not_flat: tuple[NotFlatView, ...]
    certificate: CertificateView | None = None


class KillStatusView(ApiStruct, frozen=True, kw_only=True):
    """Every scope that was ever switched; ``global`` is always there and first."""

    scopes: tuple[KillScopeView, ...]


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """The live orders, triggers and positions of one account."""

    account_id: UUID
    user_id: UUID
    orders: tuple[Order, ...] = ()
    positions: tuple[Position, ...] = ()
    gtts: tuple[Gtt, ...] = ()


def scope_view(
    scope: str, record: KillRecord | None, books: Iterable[Books], strategy_accounts: frozenset[UUID]
) -> KillScopeView:
    """Return one scope as it stands; *strategy_accounts* are those of the strategy that it names, if it does."""
    not_flat = tuple(view for held in books for view in _open_in(scope, held, strategy_accounts))
    enabled = record is not None and record.enabled
    return KillScopeView(
        scope=scope,
        enabled=enabled,
        state=KillState.ARMED if record is None else record.state,
        mode=record.mode if record is not None and enabled else None,
        reason="" if record is None else record.reason,
        actor="" if record is None else record.actor,
        enabled_at=record.since if record is not None and enabled else None,
        flat=not not_flat,
        not_flat=not_flat,
    )


def status_view(records: Mapping[str, KillRecord], books: Iterable[Books], directory: Directory) -> KillStatusView:
    """Return every scope of *records*, and the global one."""
    held = tuple(books)
    names = [GLOBAL, *sorted(scope for scope in records if scope != GLOBAL)]
    return KillStatusView(
        scopes=tuple(scope_view(name, records.get(name), held, strategy_accounts(name, directory)) for name in names)
    )


def covers(
    scope: str, *, user_id: UUID, account_id: UUID, strategy_id: UUID | None, source_id: UUID | None = None
) -> bool:
    """Tell whether *scope* covers an order of this account, strategy and source."""
    return scope in scopes_of(user_id, account_id, strategy_id, source_id)


def _open_in(scope: str, held: Books, strategy_accounts: frozenset[UUID]) -> list[NotFlatView]:
    resting: dict[tuple[Exchange, str, ProductType], int] = {}
    for gtt in held.gtts:
        if gtt.status.is_live and covers(
            scope, user_id=held.user_id, account_id=held.account_id, strategy_id=gtt.strategy_id
        ):
            place = (gtt.exchange, gtt.symbol, gtt.product_type)
            resting[place] = resting.get(place, 0) + 1
    alive: dict[tuple[Exchange, str, ProductType], int] = {}
    for order in held.orders:
        if not order.status.is_terminal and covers(
            scope,
            user_id=held.user_id,
            account_id=held.account_id,
            strategy_id=order.strategy_id,
            source_id=order.source_id,
        ):
            key = (order.exchange, order.symbol, order.product_type)
            alive[key] = alive.get(key, 0) + 1
    quantities: dict[tuple[Exchange, str, ProductType], int] = {}
    # a position belongs to no strategy at the broker: in doubt it counts against being flat
    if covers(scope, user_id=held.user_id, account_id=held.account_id, strategy_id=None) or (
        held.account_id in strategy_accounts
    ):
        quantities = {(p.exchange, p.symbol, p.product_type): p.quantity for p in held.positions if p.quantity}
    return [
        NotFlatView(
            account_id=held.account_id,
            exchange=exchange,
            symbol=symbol,
            product_type=product_type,
            quantity=quantities.get((exchange, symbol, product_type), 0),
            open_orders=alive.get((exchange, symbol, product_type), 0),
            resting_gtts=resting.get((exchange, symbol, product_type), 0),
        )
        for exchange, symbol, product_type in sorted({*alive, *quantities, *resting})
    ]
