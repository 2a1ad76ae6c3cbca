"""Which strategy, source and accounts an OpenAlgo call is for.

OpenAlgo knows one account and takes ``strategy`` for a label. Here it names a strategy of the caller's; a name that is
none of them means the caller's strategy ``default``, so that programs keep the label that they have.
"""

from uuid import UUID

from engine.actors.crew import accounts_of_strategy
from engine.actors.executor import Executor
from engine.domain.directory import Account, Source, Strategy
from engine.domain.enums import SourceType
from engine.domain.signal import Refusal
from engine.errors import ConflictError, NotFoundError
from engine.http.endpoint import ApiRequest
from engine.http.open_books import parted
from engine.http.openalgo.door import Fields, refused
from engine.http.services import Services
from engine.signals.openalgo import word

DEFAULT = "default"

_READY_S = 3.0
_LOOK_S = 0.02
_DOORS = (SourceType.WEBHOOK, SourceType.SHEETS, SourceType.TRADINGVIEW)


def strategy_of(request: ApiRequest, fields: Fields) -> Strategy:
    """Take ``strategy`` out of *fields* and return the caller's strategy that it stands for.

    Raises BadRequestError, ConflictError when the caller has neither that strategy nor one named default.
    """
    services: Services = request.services
    name = word(fields, "strategy", default=DEFAULT, most=200)
    fields.pop("strategy", None)
    if isinstance(name, Refusal):
        raise refused(name)
    mine = [s for s in services.directory.strategies.values() if s.user_id == request.user.user_id]
    for wanted in (name, DEFAULT):
        found = [strategy for strategy in mine if strategy.name == wanted]
        if len(found) > 1:
            raise ConflictError(f"more than one strategy is named {wanted}; rename one", code="STRATEGY_AMBIGUOUS")
        if found:
            return found[0]
    raise ConflictError(
        f"there is neither a strategy named {name} nor one named {DEFAULT}; make one (POST /strategies)",
        code="NO_STRATEGY",
    )


def source_of(services: Services, strategy: Strategy) -> Source:
    """Return the source through which signals for *strategy* are taken in. Raises ConflictError without one."""
    theirs = [
        source
        for source in services.directory.sources.values()
        if source.strategy_id == strategy.id and source.enabled and source.type in _DOORS
    ]
    if not theirs:
        raise ConflictError(
            f"the strategy {strategy.name} has no source that is switched on (webhook, sheets or tradingview);"
            " make one (POST /sources)",
            code="NO_SOURCE",
        )
    return min(theirs, key=lambda source: (_DOORS.index(source.type), source.id))


def accounts_of(request: ApiRequest, fields: Fields) -> list[Account]:
    """Take ``account`` (a label, ours) out of *fields*; return the caller's account of that name, or all of them.

    Raises NotFoundError when there is none, BadRequestError.
    """
    services: Services = request.services
    mine = sorted(services.directory.accounts_of(request.user.user_id), key=lambda account: account.id)
    if "account" in fields:
        label = word(fields, "account")
        fields.pop("account")
        if isinstance(label, Refusal):
            raise refused(label)
        mine = [account for account in mine if account.label.casefold() == label.casefold()]
        if not mine:
            raise NotFoundError(f"you have no account {label}")
    if not mine:
        raise NotFoundError("you have no broker account; add one (POST /accounts)")
    return mine


def labels_of(services: Services) -> dict[UUID, str]:
    """Return the label of every account."""
    return {account.id: account.label for account in services.directory.accounts.values()}


async def executors_of(services: Services, strategy: Strategy) -> tuple[list[Executor], str | None]:
    """Return the executors of every account where *strategy* may have orders or positions, those it names first.

    Those that know their orders, within three seconds; and what to say of the others, None when there are none. What
    such an account holds is not known: it is neither empty nor flat.
    """
    accounts = accounts_of_strategy(strategy.id, services.directory, services.crew)
    named = [target.account_id for target in strategy.targets]
    accounts.sort(key=lambda account: named.index(account) if account in named else len(named))
    ready, blind = await parted([services.crew.executor(account_id) for account_id in accounts], within_s=_READY_S)
    if not blind:
        return ready, None
    labels = labels_of(services)
    names = ", ".join(labels.get(executor.account_id, str(executor.account_id)) for executor in blind)
    return ready, f"the orders of {names} are being read; try again"
