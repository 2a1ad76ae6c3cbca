"""What becomes of an intent: the orders it causes and the reasons against those it does not.

A pure function of the directory, the risk state, the prices and now; the risk actor acts on it.
"""

from collections.abc import Mapping
from datetime import datetime, tzinfo
from decimal import Decimal
from uuid import UUID

import msgspec

from engine.clock import IST
from engine.domain.attached import check_exits
from engine.domain.calendar import Calendar, is_open
from engine.domain.contracts import HINT, is_like_contract
from engine.domain.denial import Denial
from engine.domain.directory import Account, Directory, Strategy, Target
from engine.domain.enums import AccountStatus, OrderType, Variety
from engine.domain.instruments import SLICED, Instrument, InstrumentBook, check_order, iceberg_quantity, slices
from engine.domain.intent import Intent
from engine.domain.killswitch import KillSwitches
from engine.domain.limits import OrderRequest, RiskLimits
from engine.domain.order import Order
from engine.domain.risk import check, check_change, is_reducing
from engine.domain.risk_state import RiskState
from engine.domain.signal import Signal
from engine.domain.sizing import Sized, size

# What a clock may be set back before the age of a signal is not believed.
_AHEAD_S = 2.0


class Approved(msgspec.Struct, frozen=True, kw_only=True):
    """What every rule lets pass on one account; ``slices`` are the quantities of its orders, mostly one.

    ``iceberg_quantity`` is units of the first leg of an iceberg order, 0 for others.
    """

    account: Account
    request: OrderRequest
    slices: tuple[int, ...]
    iceberg_quantity: int = 0


class Denied(msgspec.Struct, frozen=True, kw_only=True):
    """Every reason against the order of one account."""

    account_id: UUID
    label: str
    denials: tuple[Denial, ...]


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on an intent; ``against`` speaks of the intent as a whole."""

    approved: tuple[Approved, ...] = ()
    denied: tuple[Denied, ...] = ()
    against: tuple[Denial, ...] = ()

    @property
    def reason(self) -> str | None:
        """Why nothing was approved: every distinct reason, ``CODE: text; CODE: text``."""
        if self.approved:
            return None
        reasons = [*self.against, *(denial for denied in self.denied for denial in denied.denials)]
        texts = list(dict.fromkeys(str(denial) for denial in reasons))
        return "; ".join(texts) or "NO_ACCOUNTS: the strategy trades no account; give it one"


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What stays the same from one decision to the next; ``aliases`` are other names of symbols."""

    enforce_hours: bool
    max_age_s: float
    timezone: tzinfo = IST
    calendar: Calendar = Calendar()
    aliases: Mapping[str, str] = {}


def limits_for(
    directory: Directory, defaults: RiskLimits, user_id: UUID, account_id: UUID
) -> tuple[RiskLimits, RiskLimits | None]:
    """Return the limits of the user (the defaults when never set) and those of the account, if any."""
    user = directory.limits.get((user_id, None))
    account = directory.limits.get((user_id, account_id))
    return (defaults if user is None else user.limits), (None if account is None else account.limits)


def decide(
    intent: Intent,
    *,
    directory: Directory,
    state: RiskState,
    instruments: InstrumentBook,
    kill: KillSwitches,
    defaults: RiskLimits,
    rules: Rules,
    now: datetime,
    suspect: str | None = None,
) -> Decision:
    """Decide about *intent* for every account of its strategy; reserves nothing.

    *suspect* is why the wall clock cannot be trusted: then only orders that reduce a position are approved.

    Each account is judged against the state as it stands: the caller reserves what is approved before
    it decides about anything else.
    """
    signal = intent.signal
    strategy = directory.strategies.get(intent.strategy_id)
    instrument = instruments.get(signal.exchange, signal.symbol)
    against = _against(intent, strategy, instrument, instruments, rules, now)
    if against or strategy is None or instrument is None:
        return Decision(against=tuple(against))
    targets = targets_of(strategy, signal, directory.accounts)
    if isinstance(targets, Denial):
        return Decision(against=(targets,))
    approved: list[Approved] = []
    denied: list[Denied] = []
    capital = sum((a.capital for a in directory.accounts_of(intent.user_id)), Decimal(0))
    for target, account in targets:
        verdict = _account(
            intent,
            target,
            account,
            instrument,
            state=state,
            kill=kill,
            limits=limits_for(directory, defaults, intent.user_id, account.id),
            user_capital=capital,
            rules=rules,
            now=now,
            suspect=suspect,
        )
        if isinstance(verdict, Approved):
            approved.append(verdict)
        else:
            denied.append(verdict)
    return Decision(approved=tuple(approved), denied=tuple(denied))


def too_old(intent: Intent, rules: Rules, now: datetime) -> str | None:
    """Return why an intent is too old at its turn, or None; a clock that was set back cannot tell its age."""
    age_s = (now - intent.received_at).total_seconds()
    if age_s > rules.max_age_s:
        return f"SIGNAL_TOO_OLD: {age_s:.1f} s old, the limit is {rules.max_age_s:g} s"
    if age_s < -_AHEAD_S:
        return f"SIGNAL_TOO_OLD: its age cannot be told, it came {-age_s:.1f} s ahead of the clock"
    return None


def _against(
    intent: Intent,
    strategy: Strategy | None,
    instrument: Instrument | None,
    instruments: InstrumentBook,
    rules: Rules,
    now: datetime,
) -> list[Denial]:
    found: list[Denial] = []
    signal = intent.signal
    if strategy is None:
        found.append(Denial(code="STRATEGY_GONE", text="the strategy of this source was deleted"))
    elif not strategy.enabled:
        found.append(Denial(code="STRATEGY_DISABLED", text=f"the strategy {strategy.name} is switched off"))
    elif strategy.allowed_symbols is not None and strategy.allowed_symbols.isdisjoint(
        {signal.symbol, intent.written_symbol}
    ):
        found.append(
            Denial(code="ALLOWED_SYMBOLS", text=f"{signal.symbol} is not among the symbols of {strategy.name}")
        )
    if instrument is None:
        mend = HINT if is_like_contract(signal.symbol) else "check symbol and exchange"
        text = f"{signal.exchange}:{signal.symbol} is not in the instrument master; {mend}"
        if not len(instruments):
            text = "the instrument master has not been loaded yet; try again in a moment"
        found.append(Denial(code="UNKNOWN_SYMBOL" if len(instruments) else "INSTRUMENTS_NOT_LOADED", text=text))
    # an after-market order is what waits for the next session
    is_late = signal.variety is not Variety.AMO
    if rules.enforce_hours and is_late and not is_open(signal.exchange, now, rules.calendar):
        found.append(Denial(code="MARKET_CLOSED", text=f"{signal.exchange} takes no orders now"))
    return found


def targets_of(
    strategy: Strategy, signal: Signal, accounts: Mapping[UUID, Account]
) -> list[tuple[Target, Account]] | Denial:
    """Return the accounts that a signal of a strategy is for, with how it is sized for each."""
    # each account once: a second order of the same signal on it would be the same order
    once = {target.account_id: target for target in strategy.targets}
    found = [
        (target, account)
        for target in once.values()
        if (account := accounts.get(target.account_id)) is not None and account.user_id == strategy.user_id
    ]
    if signal.account is None:
        return found
    named = [pair for pair in found if pair[1].label.casefold() == signal.account.casefold()]
    if not named:
        return Denial(code="ACCOUNT_NOT_FOUND", text=f"the strategy {strategy.name} has no account {signal.account}")
    return named


def _account(
    intent: Intent,
    target: Target,
    account: Account,
    instrument: Instrument,
    *,
    state: RiskState,
    kill: KillSwitches,
    limits: tuple[RiskLimits, RiskLimits | None],
    user_capital: Decimal,
    rules: Rules,
    now: datetime,
    suspect: str | None,
) -> Approved | Denied:
    def no(*denials: Denial) -> Denied:
        return Denied(account_id=account.id, label=account.label, denials=denials)

    signal = intent.signal
    killed = kill.covering(
        user_id=intent.user_id,
        account_id=account.id,
        strategy_id=intent.strategy_id,
        source_id=intent.source_id,
    )
    if killed is not None:
        return no(Denial(code="KILL_SWITCH", text=f"{killed.scope} is blocked: {killed.reason}"))
    if account.status is not AccountStatus.ACTIVE:
        text = f"account {account.label}: {account.status_reason or 'log in to the broker first'}"
        return no(Denial(code=account.status.value, text=text))
    price = reference_price(signal, instrument, state)
    sized = size(
        mode=target.mode,
        value=target.value,
        signal_quantity=signal.quantity,
        lot_size=instrument.lot_size,
        capital=account.capital,
        price=price,
        multiplier=instrument.multiplier,
    )
    if not isinstance(sized, Sized):
        return no(sized)
    static = check_order(
        instrument,
        quantity=sized.quantity,
        price=signal.price,
        trigger_price=signal.trigger_price,
        order_type=signal.order_type,
        product_type=signal.product_type,
        variety=signal.variety,
        transaction_type=signal.transaction_type,
        may_slice=signal.variety in SLICED,
    )
    request = OrderRequest(
        intent_id=intent.id,
        account_id=account.id,
        strategy_id=intent.strategy_id,
        exchange=signal.exchange,
        symbol=signal.symbol,
        product_type=signal.product_type,
        transaction_type=signal.transaction_type,
        quantity=sized.quantity,
        reference_price=price,
        multiplier=instrument.multiplier,
        at=now,
    )
    user_limits, account_limits = limits
    exits = check_exits(
        instrument,
        signal.transaction_type,
        stop_loss=signal.stop_loss,
        target=signal.target,
        price=price,
    )
    denials = [*static, *exits, *_iceberg(signal, sized.quantity, instrument)]
    if suspect is not None and not is_reducing(request, state):
        denials.append(Denial(code="CLOCK_SUSPECT", text=f"{suspect}; nothing that adds exposure is sent now"))
    denials += [
        *check(
            request,
            state,
            user_limits,
            capital=user_capital,
            now=now,
            scope_account=None,
            timezone=rules.timezone,
        ),
    ]
    if account_limits is not None:
        denials += check(
            request,
            state,
            account_limits,
            capital=account.capital,
            now=now,
            scope_account=account.id,
            timezone=rules.timezone,
        )
    if denials:
        return no(*dict.fromkeys(denials))
    cut = slices(sized.quantity, instrument) if signal.variety in SLICED else (sized.quantity,)
    legs = signal.options.iceberg_legs
    leg = iceberg_quantity(sized.quantity, legs, instrument) if signal.variety is Variety.ICEBERG else 0
    return Approved(account=account, request=request, slices=cut, iceberg_quantity=leg)


def _iceberg(signal: Signal, quantity: int, instrument: Instrument) -> list[Denial]:
    if signal.variety is not Variety.ICEBERG or not instrument.is_tradable:
        return []
    try:
        leg = iceberg_quantity(quantity, signal.options.iceberg_legs, instrument)
    except ValueError as error:
        return [Denial(code="ICEBERG_LEGS", text=f"{error}; use fewer legs")]
    freeze = instrument.freeze_quantity
    if freeze is not None and leg > freeze:
        return [Denial(code="FREEZE_QUANTITY", text=f"a leg of {leg} exceeds {freeze}; use more legs")]
    return []


def judge_change(
    order: Order,
    wanted: Order,
    *,
    directory: Directory,
    state: RiskState,
    instrument: Instrument | None,
    defaults: RiskLimits,
    rules: Rules,
    now: datetime,
) -> tuple[Denial, ...]:
    """Return every reason against changing *order*, which works at the broker, into *wanted*."""
    if instrument is None:
        return (Denial(code="UNKNOWN_SYMBOL", text=f"{order.symbol} is not in the instrument master"),)
    if wanted.quantity <= order.filled_quantity:
        text = f"{order.filled_quantity} have filled already; the new total must be more, or cancel the order"
        return (Denial(code="QUANTITY_REQUIRED", text=text),)
    if order.is_attached and wanted.quantity > order.quantity:
        # exits are reserved nowhere, for they only reduce: one that grew would be seen by no limit
        text = f"an attached exit covers the {order.quantity} that have filled; make it smaller, or send another order"
        return (Denial(code="EXIT_QUANTITY", text=text),)
    static = check_order(
        instrument,
        quantity=wanted.quantity,
        price=wanted.price,
        trigger_price=wanted.trigger_price,
        order_type=wanted.order_type,
        product_type=wanted.product_type,
        variety=wanted.variety,
        transaction_type=wanted.transaction_type,
    )
    last = state.last_price(order.exchange, order.symbol) or (instrument.last_price or None)
    own = wanted.trigger_price if wanted.order_type is OrderType.SL_M else wanted.price
    request = OrderRequest(
        intent_id=order.intent_id or order.id,
        account_id=order.account_id,
        strategy_id=order.strategy_id or order.id,
        exchange=order.exchange,
        symbol=order.symbol,
        product_type=order.product_type,
        transaction_type=order.transaction_type,
        quantity=wanted.quantity,
        reference_price=last if wanted.order_type is OrderType.MARKET else own,
        multiplier=instrument.multiplier,
        at=now,
    )
    account = directory.accounts.get(order.account_id)
    user_limits, account_limits = limits_for(directory, defaults, order.user_id, order.account_id)
    capital = sum((a.capital for a in directory.accounts_of(order.user_id)), Decimal(0))
    scopes: list[tuple[RiskLimits, Decimal, UUID | None]] = [(user_limits, capital, None)]
    if account_limits is not None and account is not None:
        scopes.append((account_limits, account.capital, account.id))
    denials = [*static]
    for limits, of, scope in scopes:
        denials += check_change(
            request,
            max(wanted.quantity - order.quantity, 0),
            state,
            limits,
            capital=of,
            now=now,
            scope_account=scope,
            timezone=rules.timezone,
        )
    return tuple(dict.fromkeys(denials))


def reference_price(signal: Signal, instrument: Instrument, state: RiskState) -> Decimal | None:
    """Return the price that an order is valued at: its own, its trigger, or the last one known."""
    if signal.order_type in (OrderType.LIMIT, OrderType.SL):
        return signal.price
    if signal.order_type is OrderType.SL_M:
        return signal.trigger_price
    return state.last_price(signal.exchange, signal.symbol) or (instrument.last_price or None)
