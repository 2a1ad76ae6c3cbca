"""Exits that will not be sent: a person hears of every one, and may send those that came too late all the same.

An exit is a signal that only reduces what its account holds of the instrument and product. One that is
too old ends EXPIRED like any other signal, but its reason begins ``PARKED: `` and it becomes a dead
letter; one that ends unsent for another cause raises an alert. What a kill switch stops is neither: its
guardian flattens.
"""

from collections.abc import Iterable
from uuid import UUID

from engine.actors.decision import targets_of
from engine.actors.exchange_terms import reference_price
from engine.actors.risk_messages import Parked, RiskContext
from engine.domain.decided import Decision
from engine.domain.denial import Denial
from engine.domain.directory import Account, Directory
from engine.domain.enums import OrderStatus, TransactionType
from engine.domain.instruments import MAX_SLICES, InstrumentBook
from engine.domain.intent import Intent
from engine.domain.risk import may_be_exit
from engine.domain.risk_state import RiskState
from engine.domain.strategy_book import book_of
from engine.domain.wanted import wanted_of
from engine.ids import order_id
from engine.store.ledger import Write

PARKED = "PARKED"
"""How the reason of an intent begins that waits for a person to decide."""

# Somebody stopped it, or it is there already: nothing was dropped.
_TOLD_OTHERWISE = ("KILL_SWITCH", "DUPLICATE_WINDOW_S", "NOTHING_TO_DO")


class Exits:
    """Cares for one user's exits."""

    def __init__(self, user_id: UUID, context: RiskContext) -> None:
        self._user_id = user_id
        self._context = context

    def too_old(self, intent: Intent, reason: str, state: RiskState) -> tuple[str, str | None, list[Write]]:
        """Return the reason of an intent that is too old at its turn, and for an exit an alert and its dead letter."""
        accounts = self._accounts(intent, state)
        if not accounts:
            return reason, None, []
        parked = f"{PARKED}: {reason}"
        # sent again, it must not become an entry where it was none: there it stays too old
        letters = (
            self._park(intent, None, parked)
            if len(accounts) == self._targets(intent)
            else [write for account in accounts for write in self._park(intent, account, parked)]
        )
        return parked, _text(intent, accounts, parked), letters

    def not_approved(self, intent: Intent, decision: Decision, state: RiskState) -> str | None:
        """Return what a person must hear of a verdict that leaves out an exit, or None."""
        left_out = {denied.account_id for denied in decision.denied if not _is_told_otherwise(denied.denials)}
        if not left_out and not decision.against:
            return None
        exits = [a for a in self._accounts(intent, state) if decision.against or a.id in left_out]
        if not exits:
            return None
        reasons = [*decision.against, *(d for denied in decision.denied for d in denied.denials)]
        return _text(intent, exits, "; ".join(dict.fromkeys(map(str, reasons))))

    def ended(
        self,
        intent: Intent,
        order: UUID,
        status: OrderStatus,
        unfilled: int,
        message: str | None,
        state: RiskState,
        *,
        account_id: UUID | None = None,
    ) -> tuple[str | None, list[Write]]:
        """Take in the end of an order; return the reason of its intent if it is parked, and the dead letter.

        *account_id* is the account that it is on, where that is known.
        """
        if status in (OrderStatus.COMPLETE, OrderStatus.CANCELLED) or unfilled <= 0:
            return None, []
        account = self._account_of(intent, order, account_id)
        if account is None:
            return None, []
        signal = intent.signal
        key = (account.id, signal.exchange, signal.symbol, signal.product_type)
        side = signal.transaction_type
        if signal.position_size is not None:
            # its side was chosen by what was held: the one that reduces is asked about
            side = TransactionType.SELL if book_of(state, intent.strategy_id, key).held > 0 else TransactionType.BUY
        if not may_be_exit(state, key, side, unfilled):
            return None, []
        why = message or status.value
        self._context.alert(f"intent:{intent.id}", _text(intent, [account], why))
        if status is OrderStatus.EXPIRED and why.startswith("SIGNAL_TOO_OLD"):
            parked = f"{PARKED}: {why}"
            return parked, self._park(intent, account, parked)
        return None, []

    def accounts_of(self, intent: Intent, state: RiskState) -> tuple[Account, ...]:
        """Return the accounts on which *intent* would only reduce what is or may be held."""
        return self._accounts(intent, state)

    def _account_of(self, intent: Intent, order: UUID, account_id: UUID | None) -> Account | None:
        """Return the account that an order of an intent is on, its first slice most likely."""
        if account_id is not None:
            account: Account | None = self._context.directory.accounts.get(account_id)
            return account if account is not None and account.user_id == self._user_id else None
        accounts: list[Account] = list(self._context.directory.accounts_of(self._user_id))
        for leg in range(MAX_SLICES):
            found = next((a for a in accounts if order_id(intent.id, a.id, leg) == order), None)
            if found is not None:
                return found
        return None

    def _accounts(self, intent: Intent, state: RiskState) -> tuple[Account, ...]:
        return exit_accounts(
            intent, directory=self._context.directory, state=state, instruments=self._context.instruments()
        )

    def _targets(self, intent: Intent) -> int:
        """Return how many accounts the intent is for."""
        strategy = self._context.directory.strategies.get(intent.strategy_id)
        found = () if strategy is None else targets_of(strategy, intent.signal, self._context.directory.accounts)
        return 0 if isinstance(found, Denial) else len(found)

    def _park(self, intent: Intent, account: Account | None, reason: str) -> list[Write]:
        parked = Parked(
            intent=intent,
            account=None if account is None else account.label,
            reason=reason,
            at=self._context.clock.now(),
        )
        return list(self._context.park(parked))


def exit_accounts(
    intent: Intent, *, directory: Directory, state: RiskState, instruments: InstrumentBook
) -> tuple[Account, ...]:
    """Return the accounts of the intent's strategy on which it would only reduce what is or may be held."""
    signal = intent.signal
    strategy = directory.strategies.get(intent.strategy_id)
    instrument = instruments.get(signal.exchange, signal.symbol)
    targets = () if strategy is None else targets_of(strategy, signal, directory.accounts)
    if isinstance(targets, Denial):
        return ()
    found: list[Account] = []
    for target, account in targets:
        quantity, side = signal.quantity, signal.transaction_type
        key = (account.id, signal.exchange, signal.symbol, signal.product_type)
        if instrument is not None:
            wanted = wanted_of(
                signal,
                target,
                instrument,
                capital=account.capital,
                price=reference_price(signal, instrument, state),
                book=book_of(state, intent.strategy_id, key),
            )
            if isinstance(wanted, Denial):
                if signal.position_size is not None:
                    continue  # there is no order that could be missing
            else:
                quantity, side = wanted.quantity, wanted.side
        if may_be_exit(state, key, side, quantity):
            found.append(account)
    return tuple(found)


def _text(intent: Intent, accounts: Iterable[Account], why: str) -> str:
    signal = intent.signal
    where = ", ".join(account.label for account in accounts)
    what = f"{signal.transaction_type} {signal.quantity} {signal.exchange}:{signal.symbol} {signal.product_type}"
    return f"EXIT_NOT_DONE: {what} on {where}: {why}"


def _is_told_otherwise(denials: Iterable[object]) -> bool:
    return all(str(denial).startswith(_TOLD_OTHERWISE) for denial in denials)
