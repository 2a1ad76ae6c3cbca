"""Which limits hold for an order: the user's, and what narrows them for its account, its strategy, or both together."""

from decimal import Decimal
from uuid import UUID

import msgspec

from engine.domain.directory import Account, Directory
from engine.domain.limits import RiskLimits
from engine.domain.risk_inputs import ACCOUNT, BOTH, STRATEGY, USER, ScopeCapital

_ZERO = Decimal(0)


class Capitals:
    """The capital, in rupees, of a user and of a strategy: that of the accounts that are theirs."""

    def __init__(self, directory: Directory, user_id: UUID, strategy_id: UUID | None) -> None:
        self._directory = directory
        self._user_id = user_id
        self._strategy_id = strategy_id

    @property
    def user(self) -> Decimal:
        """Of all accounts of the user."""
        return self._directory.capital_of(self._user_id)

    @property
    def strategy(self) -> Decimal:
        """Of the accounts that the strategy trades."""
        return _ZERO if self._strategy_id is None else self._directory.capital_under(self._strategy_id)


class Limited(msgspec.Struct, frozen=True):
    """The limits that hold by scope, and what each of the scopes is in the state."""

    limits: dict[str, RiskLimits]
    scopes: tuple[ScopeCapital, ...]


def limits_for(
    directory: Directory,
    defaults: RiskLimits,
    user_id: UUID,
    account_id: UUID | None = None,
    strategy_id: UUID | None = None,
) -> dict[str, RiskLimits]:
    """Return the limits that hold by scope: the user's (the defaults when never set), and those that narrow them."""
    held = directory.limits
    user = held.get((user_id, None, None))
    found = {USER: defaults if user is None else user.limits}
    if account_id is not None and (account := held.get((user_id, account_id, None))) is not None:
        found[ACCOUNT] = account.limits
    if strategy_id is not None and (strategy := held.get((user_id, None, strategy_id))) is not None:
        found[STRATEGY] = strategy.limits
    if account_id is not None and strategy_id is not None:
        both = held.get((user_id, account_id, strategy_id))
        if both is not None:
            found[BOTH] = both.limits
    return found


def limited(
    directory: Directory,
    defaults: RiskLimits,
    user_id: UUID,
    account: Account | None,
    strategy_id: UUID | None,
    capitals: Capitals | None = None,
) -> Limited:
    """Return the limits for orders of a strategy on *account*, each with its scope and that one's capital."""
    account_id = None if account is None else account.id
    limits = limits_for(directory, defaults, user_id, account_id, strategy_id)
    capitals = capitals or Capitals(directory, user_id, strategy_id)
    scopes = [ScopeCapital(USER, None, capitals.user)]
    if account is not None and ACCOUNT in limits:
        scopes.append(ScopeCapital(ACCOUNT, account.id, account.capital))
    if STRATEGY in limits:
        scopes.append(ScopeCapital(STRATEGY, strategy_id, capitals.strategy))
    if account is not None and strategy_id is not None and BOTH in limits:
        scopes.append(ScopeCapital(BOTH, (account.id, strategy_id), account.capital))
    return Limited(limits, tuple(scopes))
