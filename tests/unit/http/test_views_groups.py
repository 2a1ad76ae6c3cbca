"""The group of an intent: every account with its state and reasons, ordered on or not."""

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest

from engine.domain.denial import Denial
from engine.domain.directory import Account, Directory, Strategy, Target
from engine.domain.enums import AccountStatus, IntentStatus, OrderStatus, SizingMode
from engine.domain.intent import Intent, IntentEvent
from engine.domain.risk_rules import RuleResult
from engine.domain.verdict import AccountVerdict, IntentVerdict
from engine.http.views.groups import group_view
from engine.store.queries.intents import IntentStory
from engine.store.queries.orders import OrderStory
from tests.support.desk import a_signal
from tests.support.trade import NOW, STRATEGY, USER, an_order

MAIN, SECOND, DROPPED = (UUID(int=n) for n in (11, 12, 13))
INTENT = UUID(int=1)
TOO_MUCH = RuleResult("MAX_ORDER_VALUE", "order", None, None, ok=False, text="too much")
NO_LOGIN = RuleResult("LOGIN_REQUIRED", "order", None, None, ok=False, text="log in")
I = IntentStatus  # noqa: E741 -- short


def directory() -> Directory:
    found = Directory()
    for account_id, label in ((MAIN, "Main"), (SECOND, "Se: cond"), (DROPPED, "Dropped")):
        found.put_account(
            Account(
                id=account_id,
                user_id=USER,
                label=label,
                broker="paper",
                capital=Decimal(1),
                status=AccountStatus.ACTIVE,
                api_key="k",
            )
        )
    targets = tuple(Target(account_id=a, mode=SizingMode.MULTIPLIER, value=Decimal(1)) for a in (MAIN, SECOND))
    found.put_strategy(Strategy(id=STRATEGY, user_id=USER, name="gap", targets=targets))
    return found


def judged(*accounts: tuple[UUID, str, tuple[RuleResult, ...]], against: tuple[Denial, ...] = ()) -> IntentVerdict:
    return IntentVerdict(
        intent_id=INTENT,
        strategy_id=STRATEGY,
        at=NOW,
        against=against,
        accounts=tuple(
            AccountVerdict(account_id=account, label=label, approved=not facts, facts=facts)
            for account, label, facts in accounts
        ),
    )


def shown(
    status: IntentStatus,
    *verdicts: IntentVerdict,
    reason: str | None = None,
    ordered: tuple[UUID, ...] = (),
    left_out: tuple[str, ...] = (),
    account: str | None = None,
) -> list[tuple[str, str, tuple[str, ...]]]:
    intent = Intent(
        id=INTENT,
        source_id=UUID(int=2),
        strategy_id=STRATEGY,
        user_id=USER,
        signal=msgspec.structs.replace(a_signal(), account=account),
        status=status,
        reason=reason,
        received_at=NOW,
        updated_at=NOW,
        idempotency_key="k",
        body_sha256=b"1" * 32,
    )
    orders = [
        OrderStory(order=an_order(id=UUID(int=n), account_id=a, status=OrderStatus.OPEN), events=[], fills=[])
        for n, a in enumerate(ordered)
    ]
    timeline = [IntentEvent(intent_id=INTENT, at=NOW, event="ACCOUNT_LEFT_OUT", detail=text) for text in left_out]
    story = IntentStory(intent=intent, orders=orders, timeline=timeline)
    group = group_view(story, directory(), NOW + timedelta(seconds=1), verdicts)
    assert sum(group.counts.values()) == len(group.accounts)
    return [(member.label, member.status.value, member.reasons) for member in group.accounts]


def test_accounts_that_risk_refused_show_all_reasons_beside_those_with_orders() -> None:
    verdict = judged((MAIN, "Main", ()), (SECOND, "Se: cond", (TOO_MUCH, NO_LOGIN)))
    told = ("Se: cond: MAX_ORDER_VALUE: too much; LOGIN_REQUIRED: log in",)
    assert shown(I.EXECUTING, verdict, ordered=(MAIN,), left_out=told) == [
        ("Main", "pending", ()),
        ("Se: cond", "refused", ("MAX_ORDER_VALUE: too much", "LOGIN_REQUIRED: log in")),
    ]


def test_intent_that_every_account_refused_shows_them_all() -> None:
    verdict = judged((MAIN, "Main", (TOO_MUCH,)), (DROPPED, "Dropped", (NO_LOGIN,)))
    # one that is no longer among the strategy's is shown as it was judged
    assert shown(I.REJECTED, verdict, reason="MAX_ORDER_VALUE: too much") == [
        ("Dropped", "refused", ("LOGIN_REQUIRED: log in",)),
        ("Main", "refused", ("MAX_ORDER_VALUE: too much",)),
    ]


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "from before verdicts were stored"])
def test_intent_refused_as_a_whole_shows_every_account_that_it_was_for(stored: bool) -> None:
    late = Denial(code="SIGNAL_TOO_OLD", text="61.0 s old, the limit is 60 s")
    verdicts = (judged(against=(late,)),) if stored else ()
    found = shown(I.EXPIRED, *verdicts, reason=str(late))
    assert found == [("Main", "refused", (str(late),)), ("Se: cond", "refused", (str(late),))]
    assert shown(I.EXPIRED, *verdicts, reason=str(late), account="main") == [("Main", "refused", (str(late),))]


def test_accounts_wait_with_an_intent_that_waits_for_a_person() -> None:
    verdict = judged((MAIN, "Main", ()), (SECOND, "Se: cond", (TOO_MUCH,)))
    assert shown(I.PENDING_APPROVAL, verdict) == [
        ("Main", "pending", ()),
        ("Se: cond", "refused", ("MAX_ORDER_VALUE: too much",)),
    ]
    assert shown(I.REJECTED, verdict, reason="REJECTED_BY_HAND: no")[0] == (
        "Main",
        "refused",
        ("REJECTED_BY_HAND: no",),
    )


def test_approval_counts_before_the_first_look_and_a_kill_switch_is_told() -> None:
    first = judged((MAIN, "Main", (TOO_MUCH,)), (SECOND, "Se: cond", ()))
    again = judged((MAIN, "Main", ()))
    told = ("Se: cond: KILL_SWITCH: account is blocked", "Gone: OLD: reason")
    assert shown(I.EXECUTING, first, again, ordered=(MAIN,), left_out=told) == [
        ("Gone", "refused", ("OLD: reason",)),
        ("Main", "pending", ()),
        ("Se: cond", "refused", ("KILL_SWITCH: account is blocked",)),
    ]
