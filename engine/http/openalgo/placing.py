"""From an OpenAlgo call to a delivery: through the same door, risk and executor as every signal, once.

The answer waits, within bounds, for the broker's ids. Whatever goes wrong while it waits is no error to the sender:
the signal is taken by then, and one that is told otherwise sends it again.
"""

import hashlib
from collections.abc import Sequence
from uuid import UUID

import msgspec
import structlog
import trio
from msgspec import UNSET

from engine.domain.audit import AuditDraft
from engine.domain.delivery import Delivery
from engine.domain.directory import Source, Strategy
from engine.domain.signal import Refusal, Signal
from engine.errors import EngineError
from engine.http.endpoint import ApiRequest
from engine.http.once import key_of
from engine.http.openalgo.door import refused
from engine.http.openalgo.outcome import Fate, fate, is_settled
from engine.http.openalgo.whose import labels_of, source_of
from engine.http.services import Services
from engine.http.source_bounds import checked, pace, record_refused
from engine.http.views.verdicts import NOT_TAKEN, good_items
from engine.ids import order_id, uuid7
from engine.store.queries.placed import Placed, placed

_log = structlog.get_logger(__name__)

_WAIT_S = 3.0
_WAIT_PER_ORDER_S = 0.12
_WAIT_AT_MOST_S = 15.0
_GLANCE_S = 0.003
_LOOK_FIRST_S = 0.02
_LOOK_MOST_S = 0.1


async def send(request: ApiRequest, strategy: Strategy, signals: Sequence[Signal]) -> list[Fate]:
    """Have *signals* taken in as one delivery for *strategy*; return what became of each, in their order.

    Without an Idempotency-Key every call is a delivery of its own. Raises what `Ingest.accept` does: then nothing was
    taken in.
    """
    services: Services = request.services
    source = source_of(services, strategy)
    given = key_of(request)
    name = f"openalgo:{request.user.user_id}:{uuid7() if given is None else given}"
    body_sha256 = hashlib.sha256(msgspec.json.encode([strategy.id, *signals])).digest()
    # a caller's key names one call, and the source behind a strategy may be another by the time of its repeat
    others = () if given is None else _others(services, source)
    accepted = None if given is None else await services.ingest.earlier([source.id, *others], name, body_sha256)
    judged: Sequence[Signal | Refusal] = signals
    if accepted is None:
        judged = checked(services, source, tuple(signals))
        refusals = [item for item in judged if isinstance(item, Refusal)]
        if refusals:
            record_refused(request, source, refusals)
        items = good_items(judged)
        if not items:
            return [_refused(item) for item in refusals]
        pace(services, source, len(items))
        accepted = await services.ingest.accept(
            Delivery(
                source_id=source.id,
                strategy_id=strategy.id,
                user_id=strategy.user_id,
                idempotency_key=name,
                body_sha256=body_sha256,
                received_at=services.clock.now(),
                request_id=request.request_id,
                items=items,
            ),
            elsewhere=others,
        )
    receipts = {receipt.position: receipt for receipt in accepted.receipts}
    intents = [receipt.intent_id for receipt in receipts.values()]
    services.ledger.record(
        AuditDraft(
            at=services.clock.now(),
            actor=f"user:{request.user.user_id}",
            action="SIGNAL_BY_OPENALGO",
            subject=f"intent:{intents[0]}",
            content={
                "token": str(request.user.session_id),
                "path": request.endpoint.path,
                "requestId": request.request_id,
                "ip": request.client_ip,
                "count": len(receipts),
                "duplicate": accepted.duplicate,
            },
        )
    )
    found = await _wait(services, strategy, intents)
    labels = labels_of(services)
    fates = []
    for position, item in enumerate(judged):
        receipt = receipts.get(position)
        if receipt is None:
            fates.append(_refused(item if isinstance(item, Refusal) else NOT_TAKEN))
        else:
            intent = receipt.intent_id
            fates.append(fate(intent, found.get(intent), labels, duplicate=accepted.duplicate))
    return fates


def _refused(refusal: Refusal) -> Fate:
    return Fate(data=UNSET, error=refused(refusal))


def _others(services: Services, source: Source) -> frozenset[UUID]:
    """Return the other sources of the owner of *source*."""
    theirs = (each.id for each in services.directory.sources.values() if each.user_id == source.user_id)
    return frozenset(theirs) - {source.id}


async def _wait(services: Services, strategy: Strategy, intents: Sequence[UUID]) -> dict[UUID, Placed]:
    """Return what is known of the intents once nothing more is to be waited for, or time is up."""
    found: dict[UUID, Placed] = {}
    pause_s = _LOOK_FIRST_S
    with trio.move_on_after(min(_WAIT_S + _WAIT_PER_ORDER_S * (len(intents) - 1), _WAIT_AT_MOST_S)):
        try:
            while True:
                await services.read_your_writes()
                found = await services.database.run(lambda connection: placed(connection, intents))
                if all(is_settled(found.get(intent)) for intent in intents):
                    break
                await _pause(services, strategy, intents, pause_s)
                pause_s = min(pause_s * 1.5, _LOOK_MOST_S)
        except EngineError as error:
            _log.warning("openalgo.outcome_not_read", error=str(error), intents=len(intents))
    return found


async def _pause(services: Services, strategy: Strategy, intents: Sequence[UUID], pause_s: float) -> None:
    """Wait *pause_s*, or less when the books in memory show another answer of a broker: then the ledger soon has it."""
    known = _answers(services, strategy, intents)
    with trio.move_on_after(pause_s):
        while _answers(services, strategy, intents) == known:  # noqa: ASYNC110 -- bounded
            await trio.sleep(_GLANCE_S)


def _answers(services: Services, strategy: Strategy, intents: Sequence[UUID]) -> int:
    """Return how many orders of the intents have a broker's id or an end, as far as memory has them."""
    count = 0
    for target in strategy.targets:
        executor = services.crew.executors.get(target.account_id)
        if executor is not None:
            orders = executor.desk.orders
            found = (orders.get(order_id(intent, target.account_id)) for intent in intents)
            count += sum(o is not None and (o.broker_order_id is not None or o.status.is_terminal) for o in found)
    return count
