"""The group of an intent, read off its orders, the verdicts of risk and its timeline."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from engine.domain.directory import Directory, Strategy
from engine.domain.group import Member, group_of
from engine.domain.verdict import IntentVerdict
from engine.http.views.group_shapes import GroupView, MemberView
from engine.http.views.numbers import tidy_or_none
from engine.ids import unwind_id
from engine.store.queries.intents import IntentStory


def group_view(
    story: IntentStory, directory: Directory, now: datetime, verdicts: Sequence[IntentVerdict] = ()
) -> GroupView:
    """Return how an intent went on each of its accounts, as of *now*; *verdicts* are those stored, oldest first."""
    intent = story.intent
    labels = {account.id: account.label for account in directory.accounts_of(intent.user_id)}
    refused, waiting = _without_order(story, directory, labels, verdicts)
    found = group_of(
        [(each.order, each.events) for each in story.orders],
        refused,
        waiting=waiting,
        labels=labels,
        received_at=intent.received_at,
        now=now,
    )
    strategy = directory.strategies.get(intent.strategy_id)
    is_unwound = any(event.event == "UNWIND" for event in story.timeline)
    return GroupView(
        accounts=tuple(_member_view(member) for member in found.members),
        counts=found.counts,
        quantity=found.quantity,
        filled=found.filled,
        spread_ms=found.spread_ms,
        policy=None if strategy is None else strategy.group_policy.value,
        unwound_by=unwind_id(intent.id) if is_unwound else None,
    )


Refused = tuple[UUID | None, str, tuple[str, ...]]


def _without_order(
    story: IntentStory, directory: Directory, labels: dict[UUID, str], verdicts: Sequence[IntentVerdict]
) -> tuple[list[Refused], list[UUID]]:
    """Return the accounts that may have no order: refused with what stands against them, and those that wait."""
    intent = story.intent
    ordered = {each.order.account_id for each in story.orders}
    judged = {account.account_id: account for verdict in verdicts for account in verdict.accounts}
    names = {account.account_id: account.label for account in judged.values()} | labels
    # what was left out by name only: of before verdicts were stored, or by a kill switch at the approval
    told = dict(_left_out(event.detail, labels) for event in story.timeline if event.event == "ACCOUNT_LEFT_OUT")
    by_label = {label: account_id for account_id, label in names.items()}
    refused: list[Refused] = [(None, label, (why,)) for label, why in told.items() if label not in by_label]
    accounts = {*judged, *(by_label[label] for label in told if label in by_label)}
    if not accounts and not ordered:
        # refused as a whole, before any account was looked at
        strategy = directory.strategies.get(intent.strategy_id)
        accounts = set() if strategy is None else _targets(strategy, intent.signal.account, labels)
    against = verdicts[-1].against if verdicts else ()
    whole = tuple(map(str, against)) or ((intent.reason,) if intent.reason else ())
    waiting: list[UUID] = []
    for account_id in sorted(accounts - ordered):
        account = judged.get(account_id)
        name = names.get(account_id, str(account_id))
        reasons = () if account is None else tuple(map(str, account.denials))
        if not reasons and name in told:
            reasons = (told[name],)
        if reasons or intent.status.is_terminal:
            refused.append((account_id, name, reasons or whole))
        else:
            waiting.append(account_id)
    return refused, waiting


def _targets(strategy: Strategy, named: str | None, labels: dict[UUID, str]) -> set[UUID]:
    found = {target.account_id for target in strategy.targets if target.account_id in labels}
    if named is None:
        return found
    return {account_id for account_id in found if labels[account_id].casefold() == named.casefold()}


def _left_out(detail: str, labels: dict[UUID, str]) -> tuple[str, str]:
    # a label may hold a colon itself: the longest that is one of the owner's counts
    known = [label for label in labels.values() if detail.startswith(f"{label}: ")]
    label = max(known, key=len, default=detail.partition(": ")[0])
    return label, detail[len(label) + 2 :]


def _member_view(member: Member) -> MemberView:
    return MemberView(
        account_id=member.account_id,
        label=member.label,
        status=member.status,
        quantity=member.quantity,
        filled=member.filled,
        average_price=tidy_or_none(member.average_price),
        sent_ms=member.sent_ms,
        first_fill_ms=member.first_fill_ms,
        filled_ms=member.filled_ms,
        behind_ms=member.behind_ms,
        attempts=member.attempts,
        reasons=member.reasons,
    )
