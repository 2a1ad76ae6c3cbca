"""/executions/positions/square-off: closing chosen positions without a kill switch."""

from collections.abc import Sequence
from uuid import UUID, uuid4

import trio

from engine.actors.executor import Executor
from engine.domain.audit import AuditDraft
from engine.domain.flatten import Demand, Place, Stage, Standing
from engine.domain.tickets import place_of
from engine.errors import NotFoundError, UnavailableError
from engine.http.endpoint import ApiBody, ApiRequest, ApiStruct, Once, Reply, endpoint
from engine.http.permissions import Permission
from engine.http.ratelimit import RateClass
from engine.http.routes.execution import Symbol, upper
from engine.http.services import Services
from engine.http.views.ownership import may_reach

_WAIT_S = 15.0
_LOOK_S = 0.05


class SquareOffBody(ApiBody, frozen=True, kw_only=True):
    """Which positions to close: all of the caller's own, or those of one account, symbol or strategy.

    An ADMIN closes another user's by naming the account or strategy.

    Of a strategy only what its own orders made is closed. Shares held for delivery (CNC, MTF) are closed only when
    their symbol is given.
    """

    account_id: UUID | None = None
    symbol: Symbol | None = None
    strategy_id: UUID | None = None


class SquaredOffView(ApiStruct, frozen=True, kw_only=True):
    """What became of one position: signed units when it was asked for and now, and why some are left, or null.

    ``quantity`` is null while the broker's answers do not agree about it.
    """

    account_id: UUID
    exchange: str
    symbol: str
    product_type: str
    quantity_before: int
    quantity: int | None
    problem: str | None


class SquareOffView(ApiStruct, frozen=True, kw_only=True):
    """Every position that was asked for; ``remaining`` counts those that are not closed by proof of two reads."""

    positions: tuple[SquaredOffView, ...]
    remaining: int


@endpoint(
    "POST",
    "/executions/positions/square-off",
    permission=Permission.TRADE,
    summary="Square positions off",
    once=Once.REPEATABLE,
    body=SquareOffBody,
    body_required=False,
    response=SquareOffView,
    errors=(NotFoundError, UnavailableError),
    rate=RateClass.CANCEL,
    tags=("executions",),
)
async def square_off(request: ApiRequest) -> SquareOffView | Reply:
    """Cancels the orders and triggers of the chosen positions, then closes them at the market, never more than is held.

    Answers 200 when all is closed, and within 15 s with 202 while the engine goes on with the rest, for two minutes.
    Meanwhile no other order of these positions is sent.
    """
    services: Services = request.services
    body: SquareOffBody = request.body or SquareOffBody()
    executors = _executors(services, request, body)
    now = services.clock.now()
    demand = Demand(
        name=f"request:{uuid4()}",
        version=int(now.timestamp() * 1000),
        since=now,
        by=f"user:{request.user.user_id}",
        once=True,
        strategy_id=body.strategy_id,
        symbol=upper(body.symbol),
        delivery=body.symbol is not None,
    )
    answer, is_done = await close(services, executors, demand, account_id=body.account_id)
    return answer if is_done else Reply(status=202, value=answer)


async def close(
    services: Services, executors: Sequence[Executor], demand: Demand, *, account_id: UUID | None = None
) -> tuple[SquareOffView, bool]:
    """Have *demand* done on the accounts of *executors*, within 15 s; return what became, and whether all is closed.

    *account_id* is the one account that was asked for, for the record.
    """
    before = {executor.account_id: held(executor, demand) for executor in executors}
    services.ledger.record(
        AuditDraft(
            at=demand.since,
            actor=demand.by,
            action="SQUARE_OFF_REQUESTED",
            subject=demand.name,
            content={"accountId": account_id, "symbol": demand.symbol, "strategyId": demand.strategy_id},
        )
    )
    for executor in executors:
        executor.square_off.want(demand)
    with trio.move_on_after(_WAIT_S):
        while not all(_is_over(executor, demand) for executor in executors):  # noqa: ASYNC110 -- bounded
            await trio.sleep(_LOOK_S)
    await services.read_your_writes()
    found = [view for executor in executors for view in _views(executor, demand, before[executor.account_id])]
    is_done = all(_standing_is_done(executor.square_off.standing(demand)) for executor in executors)
    return SquareOffView(positions=tuple(found), remaining=sum(view.problem is not None for view in found)), is_done


def _executors(services: Services, request: ApiRequest, body: SquareOffBody) -> list[Executor]:
    strategy = None if body.strategy_id is None else services.directory.strategies.get(body.strategy_id)
    if body.strategy_id is not None and (strategy is None or not may_reach(request.user, strategy.user_id)):
        raise NotFoundError("there is no such strategy")
    # an ADMIN reaches everybody's, and closes what is another's only by naming it
    is_named = body.account_id is not None or strategy is not None
    accounts = [
        account
        for account in services.directory.accounts.values()
        if (may_reach(request.user, account.user_id) if is_named else account.user_id == request.user.user_id)
        and body.account_id in (None, account.id)
        and (strategy is None or account.user_id == strategy.user_id)
    ]
    if body.account_id is not None and not accounts:
        raise NotFoundError("there is no such account")
    if body.account_id is not None:
        return [services.crew.executor(account.id) for account in accounts]
    # one that nobody has used so far holds nothing that the engine knows of
    return [found for account in accounts if (found := services.crew.executors.get(account.id)) is not None]


def held(executor: Executor, demand: Demand) -> dict[Place, int]:
    """Return the signed units that *demand* would close on an account, as the engine's books have it."""
    found: dict[Place, int] = {}
    for position in executor.desk.holdings.positions.values():
        place = place_of(position)
        units = position.quantity
        if demand.strategy_id is not None:
            units = executor.square_off.share(demand.strategy_id, place)
        if units and demand.covers_position(place):
            found[place] = units
    return found


def _is_over(executor: Executor, demand: Demand) -> bool:
    standing = executor.square_off.standing(demand)
    return standing is not None and (standing.stage is Stage.DONE or standing.failed)


def _standing_is_done(standing: Standing | None) -> bool:
    return standing is not None and standing.stage is Stage.DONE


def _views(executor: Executor, demand: Demand, before: dict[Place, int]) -> list[SquaredOffView]:
    standing = executor.square_off.standing(demand)
    left = {} if standing is None else {found.place: found for found in standing.not_flat}
    views = []
    for place in sorted({*before, *(place for place in left if place[1])}):
        found = left.get(place)
        problem = None if found is None else found.why
        quantity = 0 if found is None else found.quantity
        if standing is None or (found is None and standing.stage is not Stage.DONE):
            problem, quantity = "it is being closed", None
        views.append(
            SquaredOffView(
                account_id=executor.account_id,
                exchange=place[0],
                symbol=place[1],
                product_type=place[2],
                quantity_before=before.get(place, 0),
                quantity=quantity,
                problem=problem,
            )
        )
    return views
