"""What becomes of an intent: the orders it causes and the reasons against those it does not.

Made of the directory, the risk state, the prices and now; what is approved is reserved in the same step, so that the
next account is judged with it. The risk actor acts on it.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, time, tzinfo
from uuid import UUID

import msgspec

from engine.actors.exchange_terms import ORDER, Terms, reference_price
from engine.actors.limit_scopes import Capitals, Limited, limited
from engine.clock import IST
from engine.domain.approval import killed_since
from engine.domain.calendar import Calendar, is_open
from engine.domain.contracts import HINT, is_like_contract
from engine.domain.decided import Approved, Decision, Denied, hold, order_ids, refused, take_back, verdict_of
from engine.domain.denial import Denial
from engine.domain.directory import Account, Directory, Source, Strategy, Target
from engine.domain.entry_times import after_own_square_off, after_square_off, outside_window
from engine.domain.enums import AccountStatus, Exchange, Variety
from engine.domain.instruments import Instrument, InstrumentBook, iceberg_quantity
from engine.domain.intent import Intent
from engine.domain.killswitch import KillSwitches
from engine.domain.limits import OrderRequest, RiskLimits
from engine.domain.risk import is_reducing
from engine.domain.risk_inputs import RiskInputs, inputs_of
from engine.domain.risk_rules import RuleResult
from engine.domain.risk_state import AnyScope, RiskState
from engine.domain.signal import Signal
from engine.domain.source_caps import symbol_cap, value_cap
from engine.domain.strategy_book import book_of
from engine.domain.verdict import AccountVerdict, judge
from engine.domain.wanted import wanted_of

# What a clock may be set back before the age of a signal is not believed.
_AHEAD_S = 2.0

_KILL_SWITCH_OFF = RuleResult("KILL_SWITCH", ORDER, None, "off", ok=True)
_ACTIVE = RuleResult("LOGIN_REQUIRED", ORDER, None, AccountStatus.ACTIVE.value, ok=True)


Held = Callable[[UUID], str | None]
"""Says why nothing may be opened in an account, by the checks of the morning; None when it may."""


def _not_held(_account_id: UUID) -> None:
    return None


def not_ready(why: str) -> Denial:
    """Return the reason against an entry that the morning's checks hold back."""
    return Denial(code="NOT_READY", text=f"{why}; mend it, or an ADMIN overrides (POST /system/readiness/override)")


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What stays the same from one decision to the next; ``aliases`` are other names of symbols.

    ``price_stale_s`` is after how many seconds without a price an open position's figures are called stale.
    ``square_off_times`` (IST) are when intraday positions are squared off, empty when they are not.
    """

    enforce_hours: bool
    max_age_s: float
    timezone: tzinfo = IST
    calendar: Calendar = Calendar()
    aliases: Mapping[str, str] = {}
    price_stale_s: float = 15.0
    square_off_times: Mapping[Exchange, time] = {}


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
    only: frozenset[UUID] | None = None,
    reserve: bool = True,
    held: Held = _not_held,
) -> Decision:
    """Decide about *intent* for every account of its strategy, and reserve what is approved.

    *suspect* is why the wall clock cannot be trusted: then only orders that reduce a position are approved, as they are
    of an account of which *held* says that the morning's checks hold it back. *only* are the accounts that are asked
    about, where it is not all of them.

    Each account is judged with what the ones before it were approved for, so that they cannot together pass what
    only one may. Nothing stays reserved when it raises; *reserve* False leaves the state alone altogether.
    """
    signal = intent.signal
    strategy = directory.strategies.get(intent.strategy_id)
    instrument = instruments.get(signal.exchange, signal.symbol)
    targets = [] if strategy is None else targets_of(strategy, signal, directory.accounts)
    if reserve:
        # whatever becomes of it: refusals repeated without end are what a throttle is for
        accounts = () if isinstance(targets, Denial) else [account.id for _, account in targets]
        count_signal(state, intent.strategy_id, accounts, now)
    source = directory.sources.get(intent.source_id)
    against = _against(intent, strategy, source, instrument, instruments, rules, now)
    if against or strategy is None or instrument is None:
        return refused(intent, tuple(against), now)
    if isinstance(targets, Denial):
        return refused(intent, (targets,), now)
    judged: list[Approved | Denied] = []
    shared = Terms(signal, instrument, reference_price(signal, instrument, state), now.astimezone(rules.timezone))
    capitals = Capitals(directory, intent.user_id, intent.strategy_id)
    try:
        for target, account in targets:
            if only is not None and account.id not in only:
                continue
            verdict = _account(
                intent,
                strategy,
                target,
                account,
                instrument,
                shared=shared,
                source=source,
                state=state,
                kill=kill,
                limits=limited(directory, defaults, intent.user_id, account, intent.strategy_id, capitals),
                rules=rules,
                now=now,
                suspect=suspect,
                held=held,
            )
            judged.append(verdict)
            if reserve and isinstance(verdict, Approved):
                hold(state, verdict, order_ids(verdict))
    except BaseException:
        for done in judged:
            if isinstance(done, Approved):
                take_back(state, done)
        raise
    return Decision(
        approved=tuple(each for each in judged if isinstance(each, Approved)),
        denied=tuple(each for each in judged if isinstance(each, Denied)),
        verdict=verdict_of(intent, judged, now),
    )


def count_signal(state: RiskState, strategy_id: UUID, accounts: Iterable[UUID], at: datetime) -> None:
    """Count a signal that came *at* (UTC) for a strategy and *accounts*, in every scope that has a limit of its own."""
    state.count_message(_counted(strategy_id, accounts), at)


def leave_no_trace(
    decision: Decision, intent: Intent, *, directory: Directory, state: RiskState, now: datetime
) -> None:
    """Undo what `decide` counted and reserved *now* for an intent that it was asked about for a look alone."""
    for approved in decision.approved:
        take_back(state, approved)
    strategy = directory.strategies.get(intent.strategy_id)
    targets = [] if strategy is None else targets_of(strategy, intent.signal, directory.accounts)
    accounts = () if isinstance(targets, Denial) else [account.id for _, account in targets]
    state.forget_message(_counted(intent.strategy_id, accounts), now)


def _counted(strategy_id: UUID, accounts: Iterable[UUID]) -> list[AnyScope]:
    scopes: list[AnyScope] = [None, strategy_id]
    for account_id in accounts:
        scopes += (account_id, (account_id, strategy_id))
    return scopes


def too_old(intent: Intent, rules: Rules, now: datetime) -> Denial | None:
    """Return why an intent is too old at its turn, or None; a clock that was set back cannot tell its age."""
    age_s = (now - intent.received_at).total_seconds()
    if age_s > rules.max_age_s:
        return Denial(code="SIGNAL_TOO_OLD", text=f"{age_s:.1f} s old, the limit is {rules.max_age_s:g} s")
    if age_s < -_AHEAD_S:
        text = f"its age cannot be told, it came {-age_s:.1f} s ahead of the clock"
        return Denial(code="SIGNAL_TOO_OLD", text=text)
    return None


def _against(
    intent: Intent,
    strategy: Strategy | None,
    source: Source | None,
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
    capped = symbol_cap(source, intent)
    if capped is not None:
        found.append(capped)
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
    strategy: Strategy,
    target: Target,
    account: Account,
    instrument: Instrument,
    *,
    shared: Terms,
    source: Source | None,
    state: RiskState,
    kill: KillSwitches,
    limits: Limited,
    rules: Rules,
    now: datetime,
    suspect: str | None,
    held: Held,
) -> Approved | Denied:
    facts: list[RuleResult] = []

    def no(*denials: Denial) -> Denied:
        facts.extend(_against_it(denials))
        verdict = AccountVerdict(account_id=account.id, label=account.label, approved=False, facts=tuple(facts))
        return Denied(account_id=account.id, label=account.label, denials=denials, verdict=verdict)

    signal = intent.signal
    killed = killed_since(kill, intent, account.id)
    if killed is not None:
        return no(killed)
    facts.append(_KILL_SWITCH_OFF)
    if account.status is not AccountStatus.ACTIVE:
        text = f"account {account.label}: {account.status_reason or 'log in to the broker first'}"
        return no(Denial(code=account.status.value, text=text))
    facts.append(_ACTIVE)
    price = shared.price
    book = book_of(state, strategy.id, (account.id, signal.exchange, signal.symbol, signal.product_type))
    wanted = wanted_of(signal, target, instrument, capital=account.capital, price=price, book=book)
    if isinstance(wanted, Denial):
        return no(wanted)
    request = OrderRequest(
        intent_id=intent.id,
        account_id=account.id,
        strategy_id=intent.strategy_id,
        exchange=signal.exchange,
        symbol=signal.symbol,
        product_type=signal.product_type,
        transaction_type=wanted.side,
        quantity=wanted.quantity,
        reference_price=price,
        multiplier=instrument.multiplier,
        at=now,
    )
    # of a position to reach, what only reduces needs no protection
    attaches = not (wanted.closing and wanted.closing == wanted.quantity)
    said = shared.said(wanted.side, wanted.quantity, is_odd=wanted.is_odd, attaches=attaches)
    opens = not is_reducing(request, state)
    denials = [*said.denials, *_not_at_this_hour(strategy, request, state, signal, rules, now, opens=opens)]
    if opens and (over := value_cap(source, wanted.quantity, price, instrument.multiplier)) is not None:
        denials.append(over)
    if suspect is not None and opens:
        denials.append(Denial(code="CLOCK_SUSPECT", text=f"{suspect}; nothing that adds exposure is sent now"))
    if opens and (why := held(account.id)) is not None:
        denials.append(not_ready(why))
    facts.extend(_against_it(dict.fromkeys(denials)) if denials else said.facts)
    # of an order that the exchange would refuse nothing needs to be cut
    parts = (wanted.quantity,) if denials else shared.slices(wanted.quantity)
    inputs = inputs_for(request, state, limits, instrument, rules, orders=len(parts), at=shared.at)
    verdict = judge(
        AccountVerdict(account_id=account.id, label=account.label, approved=False, facts=tuple(facts)),
        inputs,
        limits.limits,
    )
    if not verdict.approved:
        return Denied(
            account_id=account.id,
            label=account.label,
            denials=verdict.denials,
            verdict=verdict,
            limits=limits.limits,
        )
    legs = signal.options.iceberg_legs
    leg = iceberg_quantity(wanted.quantity, legs, instrument) if signal.variety is Variety.ICEBERG else 0
    return Approved(
        account=account,
        request=request,
        slices=parts,
        iceberg_quantity=leg,
        note=wanted.note,
        attaches=attaches,
        verdict=verdict,
        limits=limits.limits,
    )


def _against_it(denials: Iterable[Denial]) -> list[RuleResult]:
    return [RuleResult(each.code, ORDER, None, None, ok=False, text=each.text) for each in denials]


def inputs_for(
    request: OrderRequest,
    state: RiskState,
    limits: Limited,
    instrument: Instrument,
    rules: Rules,
    *,
    orders: int = 1,
    increase: int | None = None,
    at: datetime | None = None,
) -> RiskInputs:
    """Return the numbers that the limits of an order are held against; *at* is its instant in the rules' time zone."""
    return inputs_of(
        request,
        state,
        limits.scopes,
        at=at or request.at.astimezone(rules.timezone),
        orders=orders,
        increase=increase,
        segment=instrument.segment or instrument.exchange.value,
    )


def _not_at_this_hour(
    strategy: Strategy,
    request: OrderRequest,
    state: RiskState,
    signal: Signal,
    rules: Rules,
    now: datetime,
    *,
    opens: bool,
) -> list[Denial]:
    found: list[Denial] = []
    # an after-market order is what waits for the next session
    if signal.variety is not Variety.AMO:
        found += after_own_square_off(strategy, request, state, now, rules.calendar)
    if not opens:
        return found
    if signal.variety is not Variety.AMO:
        found += after_square_off(signal.exchange, signal.product_type, now, rules.calendar, rules.square_off_times)
    return outside_window(strategy, now, rules.timezone) + found
