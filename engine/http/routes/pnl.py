"""/executions/pnl: what a day made, net of charges."""

from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec

from engine.clock import IST, trading_day
from engine.domain.books import HAND
from engine.domain.day_figures import DayFigures
from engine.domain.day_pnl import Part
from engine.domain.directory import Account
from engine.errors import NotFoundError
from engine.http.endpoint import ApiRequest, endpoint
from engine.http.json_body import invalid
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.http.stored_state import stored_state
from engine.http.views.numbers import tidy
from engine.http.views.ownership import may_reach, reachable
from engine.http.views.pnl import DayPnlView, DayPointsView, PnlPointView, PnlView, pnl_view
from engine.store import books, pnl_points

_NONE = DayFigures()


class PnlQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Whose: ``userId`` is for an ADMIN, without it the caller's own; of ``date`` (IST), without it of today.

    ``accountId`` and ``strategyId`` narrow it to an account, to a strategy, or to a strategy on an account.
    """

    user_id: UUID | None = None
    account_id: UUID | None = None
    strategy_id: UUID | None = None
    day: date | None = msgspec.field(name="date", default=None)


@endpoint(
    "GET",
    "/executions/pnl",
    permission=Permission.READ,
    summary="Show the profit and loss of a day",
    query=PnlQuery,
    response=DayPnlView,
    errors=(NotFoundError,),
    tags=("executions",),
)
async def show_pnl(request: ApiRequest) -> DayPnlView:
    """Realised and unrealised profit and loss net of charges, in all, by account and by strategy.

    A past day is shown as it was last kept: within a minute of its end, or of when the engine stopped.
    """
    services: Services = request.services
    query: PnlQuery = request.query
    user_id = _user_of(request, query)
    now = services.clock.now()
    today = trading_day(now)
    day = query.day or today
    if day > today:
        raise invalid({"date": f"is still to come; today is {today}"})
    accounts = {account.id: account for account in services.directory.accounts_of(user_id)}
    if day == today:
        figures, at, kept = await _today(services, user_id), now, None
    else:
        found = await services.database.run(lambda connection: books.results(connection, user_id, day))
        figures = {part: of for part, (of, _, _) in found.items()}
        at = max((kept_at for _, _, kept_at in found.values()), default=now)
        kept = {part: capital for part, (_, capital, _) in found.items()}
    return _day(_Narrowed(query, figures, accounts, kept), query, user_id, day, at)


class PointsQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Whose: ``userId`` is for an ADMIN, without it the caller's own; of ``date`` (IST), without it of today."""

    user_id: UUID | None = None
    day: date | None = msgspec.field(name="date", default=None)


@endpoint(
    "GET",
    "/executions/pnl/points",
    permission=Permission.READ,
    summary="Show the curve of a day",
    query=PointsQuery,
    response=DayPointsView,
    errors=(NotFoundError,),
    tags=("executions",),
)
async def show_points(request: ApiRequest) -> DayPointsView:
    """The profit and loss of a day, net of charges, minute by minute; kept for 400 days."""
    services: Services = request.services
    query: PointsQuery = request.query
    user_id = _user_of(request, PnlQuery(user_id=query.user_id))
    day = query.day or trading_day(services.clock.now())
    start = datetime.combine(day, time(), tzinfo=IST)
    end = start + timedelta(days=1)
    found = await services.database.run(lambda connection: pnl_points.points(connection, user_id, start, end))
    points = tuple(PnlPointView(at=at, pnl=tidy(pnl)) for at, pnl in found)
    return DayPointsView(user_id=user_id, day=day, points=points)


def live_pnl(
    services: Services, user_id: UUID, day: date, at: datetime, figures: Mapping[Part, DayFigures]
) -> DayPnlView:
    """Return the whole of what the *day* of now made for a user, by *figures* of the instant *at* (UTC)."""
    query = PnlQuery()
    accounts = {account.id: account for account in services.directory.accounts_of(user_id)}
    return _day(_Narrowed(query, figures, accounts, None), query, user_id, day, at)


def _day(narrowed: "_Narrowed", query: PnlQuery, user_id: UUID, day: date, at: datetime) -> DayPnlView:
    return DayPnlView(
        user_id=user_id,
        day=day,
        at=at,
        total=narrowed.view((query.account_id, query.strategy_id)),
        accounts=tuple(narrowed.view((account_id, query.strategy_id)) for account_id in narrowed.accounts()),
        strategies=tuple(narrowed.view((query.account_id, owner)) for owner in narrowed.owners()),
    )


class _Narrowed:
    """The figures of a day as far as a query wants them."""

    def __init__(
        self,
        query: PnlQuery,
        figures: Mapping[Part, DayFigures],
        accounts: Mapping[UUID, Account],
        kept: Mapping[Part, Decimal | None] | None,
    ) -> None:
        self._query = query
        self._figures = figures
        self._accounts = accounts
        self._kept = kept

    def accounts(self) -> Iterable[UUID]:
        if self._query.account_id is not None:
            return [self._query.account_id]
        traded = {account for account, owner in self._figures if account is not None and owner is None}
        return sorted(traded if self._kept is not None else traded | self._accounts.keys())

    def owners(self) -> Iterable[UUID]:
        if self._query.strategy_id is not None:
            return [self._query.strategy_id]
        return sorted({owner for account, owner in self._figures if account == self._query.account_id and owner})

    def view(self, part: Part) -> PnlView:
        account = None if part[0] is None else self._accounts.get(part[0])
        return pnl_view(
            part,
            self._figures.get(part, _NONE),
            capital=self._capital(part[0]),
            capital_read_at=None if account is None or self._kept is not None else account.capital_read_at,
        )

    def _capital(self, account_id: UUID | None) -> Decimal | None:
        if self._kept is not None:
            return self._kept.get((account_id, None))
        if account_id is not None:
            account = self._accounts.get(account_id)
            return None if account is None else account.capital
        return sum((account.capital for account in self._accounts.values()), Decimal(0))


async def _today(services: Services, user_id: UUID) -> Mapping[Part, DayFigures]:
    actor = services.crew.risk_actors.get(user_id)
    state = actor.state if actor is not None and actor.is_ready else await stored_state(services, user_id)
    return state.pnl.all_figures()


def _user_of(request: ApiRequest, query: PnlQuery) -> UUID:
    """Return whose figures are asked for. Raises NotFoundError for what the caller may not reach."""
    services: Services = request.services
    owners: list[UUID] = [] if query.user_id is None else [query.user_id]
    if query.account_id is not None:
        owners.append(reachable(request.user, services.directory.accounts.get(query.account_id), "account").user_id)
    if query.strategy_id is not None and query.strategy_id != HAND:
        found = services.directory.strategies.get(query.strategy_id)
        owners.append(reachable(request.user, found, "strategy").user_id)
    user_id = owners[0] if owners else request.user.user_id
    if not may_reach(request.user, user_id) or services.users.get(user_id) is None or set(owners) > {user_id}:
        raise NotFoundError("there is no such user")
    return user_id
