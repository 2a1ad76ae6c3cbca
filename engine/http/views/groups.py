"""The group of an intent, read off its orders and its timeline."""

from datetime import datetime
from uuid import UUID

from engine.domain.directory import Directory
from engine.domain.group import Member, group_of
from engine.http.views.group_shapes import GroupView, MemberView
from engine.http.views.numbers import tidy_or_none
from engine.ids import unwind_id
from engine.store.queries.intents import IntentStory


def group_view(story: IntentStory, directory: Directory, now: datetime) -> GroupView:
    """Return how an intent went on each of its accounts, as of *now*."""
    intent = story.intent
    mine = {account.label: account.id for account in directory.accounts_of(intent.user_id)}
    found = group_of(
        [(each.order, each.events) for each in story.orders],
        [_refused(event.detail, mine) for event in story.timeline if event.event == "ACCOUNT_LEFT_OUT"],
        labels={account_id: label for label, account_id in mine.items()},
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


def _refused(detail: str, accounts: dict[str, UUID]) -> tuple[UUID | None, str, str]:
    # a label may hold a colon itself: the longest that is one of the owner's counts
    known = [label for label in accounts if detail.startswith(f"{label}: ")]
    label = max(known, key=len, default=detail.partition(": ")[0])
    return accounts.get(label), label, detail[len(label) + 2 :]


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
