"""funds, holdings, ping: what the brokers of the caller's accounts say now.

When one account cannot be read the answer is an error that names it: a sum without it would be a wrong number.
``account`` in the body asks for one account alone.
"""

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import TypeVar

import trio

from engine.broker.base import Broker, BrokerAuthError
from engine.clock import trading_day
from engine.domain.directory import Account
from engine.domain.enums import AccountStatus
from engine.domain.position import realised, unrealised
from engine.errors import BrokerUnavailable, ConflictError, ForbiddenError, UnavailableError
from engine.http.endpoint import ApiRequest
from engine.http.openalgo.answers import (
    AccountFunds,
    FundsAnswer,
    FundsData,
    HoldingsAnswer,
    HoldingsData,
    PingAnswer,
    PongData,
)
from engine.http.openalgo.bodies import BareKeyBody, KeyBody
from engine.http.openalgo.door import enter, only, openalgo
from engine.http.openalgo.rows import holding_row, holding_statistics, money
from engine.http.openalgo.whose import accounts_of
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.store.queries.holdings import PositionFilter, list_positions

_BROKER_TIMEOUT_S = 10.0
_MOST_POSITIONS = 5000
_BROKERS = {"kite": "zerodha"}

ReadT = TypeVar("ReadT")


@openalgo("/funds", needs=Permission.READ, summary="Show funds (OpenAlgo)", body=KeyBody, response=FundsAnswer)
async def funds(request: ApiRequest) -> FundsAnswer:
    """Funds as the brokers state them now, equity and commodity together; the day's profit is of the engine's books.

    ``availablecash`` is net + used - collateral, as Kite defines net.
    """
    fields = enter(request, Permission.READ)
    services: Services = request.services
    accounts = accounts_of(request, fields)
    only(fields)
    found = await _of_each(request, accounts, lambda broker: broker.margins())
    wanted = PositionFilter(limit=_MOST_POSITIONS, day=trading_day(services.clock.now()), user_id=request.user.user_id)
    await services.read_your_writes()
    positions = await services.database.run(lambda connection: list_positions(connection, wanted))
    rows = []
    totals = [Decimal(0)] * 5
    for account, margins in zip(accounts, found, strict=True):
        segments = (margins.equity, margins.commodity)
        collateral = sum((segment.collateral for segment in segments), Decimal(0))
        used = sum((segment.used for segment in segments), Decimal(0))
        cash = sum((segment.net for segment in segments), Decimal(0)) + used - collateral
        held = [row.position for row in positions if row.position.account_id == account.id]
        prices = [services.prices.get(f"{each.exchange}:{each.symbol}") for each in held]
        made = sum((realised(each) for each in held), Decimal(0))
        open_ = sum(
            (unrealised(p, last or p.last_price or None) for p, last in zip(held, prices, strict=True)), Decimal(0)
        )
        figures = [cash, collateral, made, open_, used]
        totals = [total + figure for total, figure in zip(totals, figures, strict=True)]
        rows.append(AccountFunds(account=account.label, **_texts(figures)))
    return FundsAnswer(status="success", data=FundsData(**_texts(totals)), accounts=tuple(rows))


@openalgo(
    "/holdings",
    needs=Permission.READ,
    summary="List holdings (OpenAlgo)",
    body=KeyBody,
    response=HoldingsAnswer,
)
async def holdings(request: ApiRequest) -> HoldingsAnswer:
    """Shares in the demat accounts of the caller, as the brokers state them now, those not settled yet included."""
    fields = enter(request, Permission.READ)
    accounts = accounts_of(request, fields)
    only(fields)
    found = await _of_each(request, accounts, lambda broker: broker.holdings())
    rows = tuple(holding_row(row, account.label) for account, held in zip(accounts, found, strict=True) for row in held)
    statistics = holding_statistics(row for held in found for row in held)
    return HoldingsAnswer(status="success", data=HoldingsData(holdings=rows, statistics=statistics))


@openalgo("/ping", needs=Permission.READ, summary="Check the key (OpenAlgo)", body=BareKeyBody, response=PingAnswer)
async def ping(request: ApiRequest) -> PingAnswer:
    """Success when the key is good and an account of its owner is logged in at its broker."""
    fields = enter(request, Permission.READ)
    only(fields)
    able = [account for account in accounts_of(request, fields) if account.status is AccountStatus.ACTIVE]
    if not able:
        raise ForbiddenError("no account of yours can trade: log in at the broker", code="LOGIN_REQUIRED")
    broker = able[0].broker
    return PingAnswer(status="success", data=PongData(message="pong", broker=_BROKERS.get(broker, broker)))


def _texts(figures: Sequence[Decimal]) -> dict[str, str]:
    names = ("availablecash", "collateral", "m2mrealized", "m2munrealized", "utiliseddebits")
    return {name: money(figure) for name, figure in zip(names, figures, strict=True)}


async def _of_each(
    request: ApiRequest, accounts: Sequence[Account], read: Callable[[Broker], Awaitable[ReadT]]
) -> list[ReadT]:
    """Return what *read* gives for each account. Raises ConflictError, UnavailableError naming the account."""
    services: Services = request.services
    found: list[ReadT] = []
    with trio.move_on_after(_BROKER_TIMEOUT_S):
        for account in accounts:
            broker: Broker | None = None
            try:
                broker = await services.extras["sessions"].open(account.id)
                found.append(await read(broker))
            except BrokerAuthError as error:
                services.extras["session_refused"](account.id, broker, error)
                raise ConflictError(f"account {account.label}: {error}", code="LOGIN_REQUIRED") from None
            except BrokerUnavailable as error:
                text = f"account {account.label} cannot be read now: {error}; try again"
                raise UnavailableError(text, retry_after_s=2) from None
    if len(found) < len(accounts):
        label = accounts[len(found)].label
        raise UnavailableError(f"account {label}: the broker does not answer; try again", retry_after_s=5)
    return found
