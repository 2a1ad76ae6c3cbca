"""What /metrics is made of: counted when it is asked for, a few hundred accounts at a time.

The number of series does not grow with the accounts: beyond ``[metrics] accounts`` only sums and extremes are told.
"""

from collections.abc import Iterator
from math import inf, isfinite
from typing import Any

import trio

from engine import __version__
from engine.actors.call_budget import BudgetView
from engine.actors.executor import Executor
from engine.http.services import Services
from engine.observability.logs import current
from engine.observability.prometheus import Sample
from engine.runtime.child import ChildState, Status
from engine.runtime.mailbox import MailboxStats

_STRIDE = 200
_SPANS = ("second", "minute", "day")
_SCOPES = ("global", "user", "account", "strategy", "source")
_WITNESSES = ("push", "poll", "trades")


class _Box:
    """Mailboxes of one kind of actor, added up."""

    def __init__(self) -> None:
        self.depth = self.deepest = self.refused = self.dropped = 0
        self.oldest_s = 0.0

    def add(self, stats: MailboxStats) -> None:
        self.depth += stats.depth
        self.deepest = max(self.deepest, stats.depth)
        self.refused += stats.refused
        self.dropped += stats.dropped
        self.oldest_s = max(self.oldest_s, stats.oldest_age_s)


async def gather(services: Services) -> list[Sample]:
    """Return the numbers of actors, budgets, witnesses, kill switches, alerts and logs."""
    samples = [Sample(name="engine_info", value=1, labels={"version": __version__})]
    samples += await _actors(services)
    samples += await _accounts(services)
    samples += _kills(services)
    samples += _alerts(services)
    samples += _logs()
    return samples


async def _actors(services: Services) -> list[Sample]:
    boxes: dict[str, _Box] = {}
    restarts: dict[str, int] = {}
    down = 0
    for number, (kind, child) in enumerate(_kinds(services.tree()), start=1):
        restarts[kind] = restarts.get(kind, 0) + child.restarts
        down += child.state not in _FINE
        if child.mailbox is not None:
            boxes.setdefault(kind, _Box()).add(child.mailbox)
        if not number % _STRIDE:
            await trio.lowlevel.checkpoint()
    samples = [Sample(name="engine_actors_not_running", value=down)]
    for kind, box in boxes.items():
        labels = {"actor": kind}
        samples += [
            Sample(name="engine_mailbox_depth", value=box.depth, labels=labels),
            Sample(name="engine_mailbox_deepest", value=box.deepest, labels=labels),
            Sample(name="engine_mailbox_oldest_age_seconds", value=box.oldest_s, labels=labels),
            Sample(name="engine_mailbox_refused_total", value=box.refused, labels=labels, is_counter=True),
            Sample(name="engine_mailbox_dropped_total", value=box.dropped, labels=labels, is_counter=True),
        ]
    samples += [
        Sample(name="engine_actor_restarts_total", value=count, labels={"actor": kind}, is_counter=True)
        for kind, count in restarts.items()
    ]
    return samples


_FINE = frozenset({Status.RUNNING, Status.STOPPED})


def _kinds(child: ChildState) -> Iterator[tuple[str, ChildState]]:
    """Yield every actor with its kind: what there may be thousands of bears the name before its colon."""
    for member in child.children:
        if member.children:
            yield from _kinds(member)
        else:
            yield member.name.partition(":")[0], member


async def _accounts(services: Services) -> list[Sample]:
    now = trio.current_time()
    budgets: dict[tuple[Any, ...], BudgetView] = {}
    ages = dict.fromkeys(_WITNESSES, 0.0)
    feeds = services.extras["feeds"].feeds
    for number, executor in enumerate(list(services.crew.executors.values()), start=1):
        view = executor.budget()
        budgets.setdefault(view.accounts, view)
        if executor.desk.has_open_orders:
            for witness, at in zip(_WITNESSES, (_pushed(feeds, executor), *executor.witnesses_at), strict=True):
                ages[witness] = max(ages[witness], now - at if isfinite(at) else 0.0)
        if not number % _STRIDE:
            await trio.lowlevel.checkpoint()
    samples = [
        Sample(name="engine_witness_age_seconds", value=age, labels={"witness": witness})
        for witness, age in ages.items()
    ]
    return samples + list(_budgets(list(budgets.values()), services.config.metrics.accounts))


def _pushed(feeds: Any, executor: Executor) -> float:
    feed = feeds.get(executor.account_id)
    return -inf if feed is None else float(feed.heard_at)


def _budgets(views: list[BudgetView], most: int) -> Iterator[Sample]:
    yield Sample(name="engine_order_budgets", value=len(views))
    for span in _SPANS:
        left = [max(0, limit - used) for view in views for limit, used in [_span(view, span)]]
        used = [_span(view, span)[1] for view in views]
        yield Sample(name="engine_order_calls_remaining_min", value=min(left, default=0), labels={"span": span})
        yield Sample(name="engine_order_calls_used_sum", value=sum(used), labels={"span": span})
    held = sum(view.usage.held_s > 0 for view in views)
    yield Sample(name="engine_order_budgets_held", value=held)
    if len(views) > most:
        return
    for view in views:
        account = str(view.accounts[0]) if view.accounts else "none"
        for span in _SPANS:
            limit, used_now = _span(view, span)
            labels = {"account": account, "span": span}
            yield Sample(name="engine_order_calls_used", value=used_now, labels=labels)
            yield Sample(name="engine_order_calls_remaining", value=max(0, limit - used_now), labels=labels)


def _span(view: BudgetView, span: str) -> tuple[int, int]:
    usage = view.usage
    return {
        "second": (usage.per_second, usage.second),
        "minute": (usage.per_minute, usage.minute),
        "day": (usage.per_day, usage.day),
    }[span]


def _kills(services: Services) -> Iterator[Sample]:
    on = [record.scope.partition(":")[0] for record in services.guardian.switches.records.values() if record.enabled]
    for scope in _SCOPES:
        yield Sample(name="engine_kill_switches_on", value=on.count(scope), labels={"scope": scope})


def _alerts(services: Services) -> Iterator[Sample]:
    records = [record for record in services.extras["alerts"].book.newest_first() if record.is_open]
    for severity in ("info", "warning", "critical"):
        count = sum(record.severity == severity for record in records)
        yield Sample(name="engine_alerts_open", value=count, labels={"severity": severity})
    lost = {"telegram": services.extras["telegram_replies"].lost}
    lost |= {sender.name: sender.lost + sender.mailbox.dropped for sender in services.extras["alert_senders"]}
    for channel, count in lost.items():
        labels = {"channel": channel}
        yield Sample(name="engine_alerts_not_told_total", value=count, labels=labels, is_counter=True)


def _logs() -> Iterator[Sample]:
    logs = current()
    yield Sample(name="engine_log_lines_dropped_total", value=0 if logs is None else logs.dropped, is_counter=True)
    yield Sample(name="engine_log_lines_lost_total", value=0 if logs is None else logs.lost, is_counter=True)
